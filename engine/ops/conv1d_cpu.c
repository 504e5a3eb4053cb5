/* Convolution over sequences on the CPU: products of windows (window_product_cpu.h), or oneDNN's convolution of images
 * of one row where those cannot have the type or the shape.
 *
 * Gradients that come through a maximum over time are zero but for a few elements, and those that come through a
 * maximum over a window are zero in many rows, and in most elements of the others. So both backward kernels look first:
 * a sample with few elements costs only their products, rows of zeros cost nothing, and rows that are mostly zero cost
 * what their other elements do. Nothing is lost: a product with zero adds zero. */
#include "engine/ops/conv.h"

#include "engine/base/memory.h"
#include "engine/ops/onednn/onednn.h"
#include "engine/ops/window_number_cpu.h"
#include "engine/ops/window_product_cpu.h"

#include <omp.h>
#include <stdlib.h>

/* Output rows that a thread takes at a time: many tiles of the products, and their windows stay in its cache. */
enum { SEGMENT = 448 };

/* The gradient of weights is summed in so many pieces, whatever the threads are, which are then added in order. */
enum { PIECES = 16, BLOCK = 256 };

/* A sample's gradient has few elements if they are at most this often the channels. */
enum { FEW = 8 };

typedef struct {
    int32_t position, channel;
    float value;
} Entry;

typedef struct {
    OneDnn *library; /* NULL: our own products */
    size_t library_at, matrix_at, edges_at, flags_at, counts_at, entries_at, pieces_at, outer_at, lists_at;
} State;

typedef enum { FORWARD, DATA, WEIGHTS } Direction;

/* ---- preparation ---- */

static size_t part(size_t *bytes, size_t size)
{
    enum { ALIGNMENT = 64 };
    const size_t at = *bytes;
    *bytes += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

static Status open_library(const ConvAttributes *a, DType type, Direction direction, bool bias, State *state,
                           size_t *bytes)
{
    const OneDnnConvolution convolution = {
        .samples = a->samples,
        .height = 1,
        .width = a->width,
        .channels = a->channels,
        .out_height = 1,
        .out_width = a->out_width,
        .out_channels = a->out_channels,
        .kernel_height = 1,
        .kernel_width = a->kernel_width,
        .stride = 1,
        .type = type,
        .bias = bias,
    };
    static Status (*const create[])(OneDnnConvolution, OneDnn **,
                                    size_t *) = {[FORWARD] = onednn_convolution,
                                                 [DATA] = onednn_convolution_backward_data,
                                                 [WEIGHTS] = onednn_convolution_backward_weights};
    size_t scratch;
    TRY(create[direction](convolution, &state->library, &scratch));
    state->library_at = part(bytes, scratch);
    return OK;
}

static void release(Call *call)
{
    State *state = call->state;
    if (state == NULL) return;
    onednn_free(state->library);
    free(state);
    call->state = NULL;
}

static int64_t pieces_of(const ConvAttributes *a) { return a->samples < PIECES ? a->samples : PIECES; }

/* A sample's first or last windows, which reach over its ends: twice kernel - 1 rows. */
static int64_t edge_elements(const ConvAttributes *a) { return 2 * (a->kernel_width - 1) * a->out_channels; }

/* Places of the numbers that are not zero, of a segment's windows. */
static size_t list_bytes(const ConvAttributes *a)
{
    return (size_t)((SEGMENT + a->kernel_width - 1) * a->out_channels + WINDOW_LIST_ROOM) * sizeof(int32_t);
}

static Status prepare(Call *call, Direction direction, size_t *scratch_bytes)
{
    const ConvAttributes *a = call->attributes;
    const DType type = call->in[0].shape.type;
    State *state;
    TRY(memory_new(&state, 1, sizeof *state, "a convolution"));
    call->state = state;
    const size_t samples = (size_t)a->samples;
    const int64_t inner = direction == DATA ? a->out_channels : a->channels;
    const int64_t depth = a->kernel_width * inner, outer = direction == DATA ? a->channels : a->out_channels;
    size_t bytes = 0;
    if (direction != FORWARD) {
        state->flags_at = part(&bytes, samples * (size_t)a->out_width);
        state->counts_at = part(&bytes, samples * sizeof(int64_t));
        state->entries_at = part(&bytes, samples * (size_t)(FEW * a->out_channels) * sizeof(Entry));
    }
    if (direction == WEIGHTS) {
        const size_t pieces = (size_t)pieces_of(a);
        state->pieces_at = part(&bytes, pieces * (size_t)(outer * depth) * sizeof(float));
        state->outer_at = part(&bytes, pieces * window_outer_bytes(type, outer, depth, a->channels));
    }
    /* Pairs of BFLOAT16 may not reach from one row into the next. */
    if (type == FLOAT32 || (window_has_bfloat16() && (depth % 2 == 0 || direction == WEIGHTS))) {
        if (direction != WEIGHTS) state->matrix_at = part(&bytes, window_matrix_bytes(type, depth, outer));
        if (direction == DATA) {
            state->edges_at = part(&bytes, samples * 2 * (size_t)edge_elements(a) * dtype_size(type));
            state->lists_at = part(&bytes, (size_t)device_threads(call->device) * list_bytes(a));
        }
    } else {
        const Status status = open_library(
            a, type, direction, direction == FORWARD && call->node->input_count > 2, state, &bytes);
        if (status != OK) {
            release(call);
            return status;
        }
    }
    *scratch_bytes = bytes;
    return OK;
}

static Status forward_prepare(Call *call, size_t *bytes) { return prepare(call, FORWARD, bytes); }
static Status data_prepare(Call *call, size_t *bytes) { return prepare(call, DATA, bytes); }
static Status weights_prepare(Call *call, size_t *bytes) { return prepare(call, WEIGHTS, bytes); }

static void *at(const Call *call, size_t offset) { return (char *)call->scratch + offset; }

static const void *row_of(const Tensor *tensor, int64_t row)
{
    return (const char *)tensor->data + (size_t)(row * tensor->stride) * dtype_size(tensor->shape.type);
}

/* ---- forward ---- */

static Status forward_run(const Call *call)
{
    const ConvAttributes *a = call->attributes;
    const State *state = call->state;
    const Tensor *x = &call->in[0], *y = &call->out[0];
    const bool biased = call->node->input_count > 2;
    if (state->library != NULL) {
        void *const tensors[4] = {x->data, call->in[1].data, biased ? call->in[2].data : y->data, y->data};
        return onednn_run(state->library, tensors, at(call, state->library_at));
    }
    const int64_t depth = a->kernel_width * a->channels;
    const WindowMatrix matrix = {x->shape.type, depth, a->out_channels, at(call, state->matrix_at)};
    window_matrix_pack(&matrix, call->in[1].data, 1, depth);
    const float *bias = biased ? call->in[2].data : NULL;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t n = 0; n < a->samples; ++n) {
        for (int64_t first = 0; first < a->out_width; first += SEGMENT) {
            const void *window[SEGMENT];
            void *to[SEGMENT];
            const int64_t left = a->out_width - first, count = left < SEGMENT ? left : SEGMENT;
            for (int64_t i = 0; i < count; ++i) {
                window[i] = row_of(x, n * a->width + first + i);
                to[i] = (void *)(uintptr_t)row_of(y, n * a->out_width + first + i);
            }
            window_rows(&matrix, &(WindowRows){window, to, count, bias, matrix.type});
        }
    }
    return OK;
}

/* ---- what is zero in the gradient of the output ---- */

static bool any_element(const void *row, int64_t channels, bool bf16)
{
    if (bf16) {
        const bfloat16 *element = row;
        uint16_t any = 0;
        for (int64_t c = 0; c < channels; ++c)
            any |= (uint16_t)(element[c] << 1);
        return any != 0;
    }
    const float *element = row;
    int32_t any = 0;
    for (int64_t c = 0; c < channels; ++c)
        any |= element[c] != 0;
    return any != 0;
}

/* Notes the elements that are not zero while there is room; returns how many there are, noted or not. */
VECTOR_INLINE int64_t note_elements(const void *row, int64_t channels, bool bf16, int64_t position,
                                    Entry entries[], int64_t room)
{
    int64_t count = 0;
    for (int64_t c = 0; c < channels; c += LANES) {
        const int lanes = channels - c < LANES ? (int)(channels - c) : LANES;
        const Vector values = vector_load(row, c, lanes, bf16);
        for (unsigned set = mask_bits(numbers_not_zero(values, false)); set != 0; set &= set - 1) {
            const int lane = __builtin_ctz(set);
            if (count < room) entries[count] = (Entry){(int32_t)position, (int32_t)c + lane, values[lane]};
            ++count;
        }
    }
    return count;
}

/* What is not zero: in a flag for each row, and where a sample has few elements, these; their number, else -1. */
typedef struct {
    uint8_t *flags;  /* [samples, out_width] */
    int64_t *counts; /* [samples] */
    Entry *entries;  /* [samples, FEW * out_channels], in the order of positions */
    bool few;        /* in all samples */
} Survey;

static Survey survey(const Call *call, const Tensor *d_y)
{
    const ConvAttributes *a = call->attributes;
    const State *state = call->state;
    const Survey survey = {at(call, state->flags_at), at(call, state->counts_at), at(call, state->entries_at),
                           false};
    const int64_t most = FEW * a->out_channels;
    const bool bf16 = d_y->shape.type == BFLOAT16;
    int64_t many = 0;
#pragma omp parallel for schedule(dynamic) reduction(+ : many)
    for (int64_t n = 0; n < a->samples; ++n) {
        uint8_t *flags = survey.flags + n * a->out_width;
        Entry *entries = survey.entries + n * most;
        int64_t count = 0, rows = 0;
        for (int64_t t = 0; t < a->out_width; ++t) {
            const int64_t row = n * a->out_width + t;
            const void *elements = row_of(d_y, row);
            flags[t] = any_element(elements, a->out_channels, bf16);
            rows += flags[t];
            /* Once there are more than a few, how many more does not matter. */
            if (!flags[t] || count > most) continue;
            if (bf16)
                count += note_elements(elements, a->out_channels, true, t, entries + count, most - count);
            else
                count += note_elements(elements, a->out_channels, false, t, entries + count, most - count);
        }
        /* Single products cost some four times what they cost in a matrix. */
        const bool few = count <= most && 4 * count <= rows * a->out_channels;
        survey.counts[n] = few ? count : -1;
        many += !few;
    }
    Survey result = survey;
    result.few = many == 0;
    return result;
}

/* ---- gradient of the input ---- */

/* d_x[n, t] is the sum over taps of d_y[n, t - tap] times weight[:, tap]: a window of d_y that ends at t, in which taps
 * come backwards. Windows that reach over an end of the sample lie in copies with zeros there. */
static void copy_edges(const Call *call, const Tensor *d_y, int64_t n)
{
    const ConvAttributes *a = call->attributes;
    const State *state = call->state;
    const size_t size = dtype_size(d_y->shape.type), row_bytes = (size_t)a->out_channels * size;
    const int64_t over = a->kernel_width - 1;
    char *edges = (char *)at(call, state->edges_at) + (size_t)(n * 2 * edge_elements(a)) * size;
    for (int64_t i = 0; i < 4 * over; ++i) {
        const int64_t t = i < 2 * over ? i - over : a->out_width - over + (i - 2 * over);
        if (t >= 0 && t < a->out_width)
            memcpy(edges + (size_t)i * row_bytes, row_of(d_y, n * a->out_width + t), row_bytes);
        else
            memset(edges + (size_t)i * row_bytes, 0, row_bytes);
    }
}

static const void *data_window(const Call *call, const Tensor *d_y, int64_t n, int64_t t)
{
    const ConvAttributes *a = call->attributes;
    const State *state = call->state;
    const size_t size = dtype_size(d_y->shape.type), row_bytes = (size_t)a->out_channels * size;
    const int64_t over = a->kernel_width - 1;
    const char *edges = (const char *)at(call, state->edges_at) + (size_t)(n * 2 * edge_elements(a)) * size;
    if (t < over) return edges + (size_t)t * row_bytes;
    if (t >= a->out_width) return edges + (size_t)(2 * over + t - a->out_width) * row_bytes;
    return row_of(d_y, n * a->out_width + t - over);
}

/* Positions first .. last - 1, where rows that are not zero are so in few elements: lists these elements, and multiplies
 * each window's part of the list. false, and nothing is done: the elements are too many. */
static bool data_of_listed(const Call *call, const WindowMatrix *matrix, const uint8_t *flags, int64_t n,
                           int64_t first, int64_t last)
{
    const ConvAttributes *a = call->attributes;
    const State *state = call->state;
    const Tensor *d_x = &call->out[0];
    const bool bf16 = matrix->type == BFLOAT16;
    if (bf16 && a->out_channels % 2 != 0) return false; /* pairs reach from one row into the next */
    const int64_t over = a->kernel_width - 1, numbers = bf16 ? a->out_channels / 2 : a->out_channels;
    const int64_t begin = first < over ? 0 : first - over;
    int32_t *list =
        (int32_t *)(void *)((char *)at(call, state->lists_at) + (size_t)omp_get_thread_num() * list_bytes(a));
    int64_t count = 0, rows = 0;
    for (int64_t t = begin; t < last && t < a->out_width; ++t) {
        if (!flags[t]) continue;
        count += window_list_numbers(matrix->type, row_of(&call->in[0], n * a->out_width + t),
                                     a->out_channels, (t - begin) * numbers, list + count);
        ++rows;
    }
    /* A single product costs twice what it costs in a matrix. */
    if (5 * count > 2 * rows * numbers) return false;
    WindowList part = {.rows = row_of(&call->in[0], n * a->out_width + begin), .number = list};
    const int32_t *const all = list + count;
    const int32_t *end = list;
    for (int64_t t = first; t < last; ++t) {
        void *row = (void *)(uintptr_t)row_of(d_x, n * a->width + t);
        part.begin = (t - over - begin) * numbers;
        while (part.number < all && *part.number < part.begin)
            ++part.number;
        while (end < all && *end < (t + 1 - begin) * numbers)
            ++end;
        part.count = end - part.number;
        window_sparse_row(matrix, &part, row);
    }
    return true;
}

static void data_products(const Call *call, const WindowMatrix *matrix, const Survey *found, int64_t n,
                          int64_t first)
{
    const ConvAttributes *a = call->attributes;
    const Tensor *d_y = &call->in[0], *d_x = &call->out[0];
    const uint8_t *flags = found->flags + n * a->out_width;
    const size_t row_bytes = (size_t)a->channels * dtype_size(d_x->shape.type);
    const int64_t last = first + SEGMENT < a->width ? first + SEGMENT : a->width;
    if (data_of_listed(call, matrix, flags, n, first, last)) return;
    const void *window[SEGMENT];
    void *to[SEGMENT];
    int64_t count = 0, used = -1; /* the last position up to t whose gradient is not zero */
    for (int64_t t = first - a->kernel_width + 1; t < first; ++t)
        if (t >= 0 && t < a->out_width && flags[t]) used = t;
    for (int64_t t = first; t < last; ++t) {
        void *row = (void *)(uintptr_t)row_of(d_x, n * a->width + t);
        if (t < a->out_width && flags[t]) used = t;
        if (used >= 0 && used > t - a->kernel_width) {
            window[count] = data_window(call, d_y, n, t);
            to[count++] = row;
        } else {
            memset(row, 0, row_bytes);
        }
    }
    window_rows(matrix, &(WindowRows){window, to, count, NULL, matrix->type});
}

VECTOR_INLINE void add_entries(const Call *call, const Entry *from, const Entry *end, int64_t n, int64_t t,
                               bool bf16)
{
    const ConvAttributes *a = call->attributes;
    const float *weight = call->in[1].data;
    void *row = (void *)(uintptr_t)row_of(&call->out[0], n * a->width + t);
    for (int64_t c = 0; c < a->channels; c += LANES) {
        const int lanes = a->channels - c < LANES ? (int)(a->channels - c) : LANES;
        Vector sum = vector_all(0);
        for (const Entry *entry = from; entry < end; ++entry) {
            const int64_t at_weight =
                (entry->channel * a->kernel_width + t - entry->position) * a->channels + c;
            sum += vector_all(entry->value) * vector_load(weight, at_weight, lanes, false);
        }
        vector_store(row, c, lanes, bf16, sum);
    }
}

static void data_of_few(const Call *call, const Survey *found, int64_t n, int64_t first)
{
    const ConvAttributes *a = call->attributes;
    const Tensor *d_x = &call->out[0];
    const Entry *from = found->entries + n * FEW * a->out_channels, *all = from + found->counts[n],
                *end = from;
    const int64_t last = first + SEGMENT < a->width ? first + SEGMENT : a->width;
    const bool bf16 = d_x->shape.type == BFLOAT16;
    for (int64_t t = first; t < last; ++t) {
        while (from < all && from->position <= t - a->kernel_width)
            ++from;
        while (end < all && end->position <= t)
            ++end;
        if (bf16)
            add_entries(call, from, end, n, t, true);
        else
            add_entries(call, from, end, n, t, false);
    }
}

static Status data_run(const Call *call)
{
    const ConvAttributes *a = call->attributes;
    const State *state = call->state;
    const Tensor *d_y = &call->in[0];
    const float *weight = call->in[1].data;
    const Survey found = survey(call, d_y);
    if (state->library != NULL && !found.few) {
        void *const tensors[3] = {d_y->data, call->in[1].data, call->out[0].data};
        return onednn_run(state->library, tensors, at(call, state->library_at));
    }
    const int64_t tap = a->channels, depth = a->kernel_width * a->out_channels;
    const WindowMatrix matrix = {d_y->shape.type, depth, a->channels, at(call, state->matrix_at)};
    if (!found.few)
        window_matrix_pack_taps(&matrix, weight + (a->kernel_width - 1) * tap, a->out_channels, -tap,
                                a->kernel_width * tap);
#pragma omp parallel num_threads(device_threads(call->device))
    {
        if (!found.few) {
#pragma omp for schedule(static)
            for (int64_t n = 0; n < a->samples; ++n)
                copy_edges(call, d_y, n);
        }
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t n = 0; n < a->samples; ++n) {
            for (int64_t first = 0; first < a->width; first += SEGMENT) {
                if (found.counts[n] >= 0)
                    data_of_few(call, &found, n, first);
                else
                    data_products(call, &matrix, &found, n, first);
            }
        }
    }
    return OK;
}

/* ---- gradient of the weights ---- */

/* sum[o, :] += the gradient's element times its window, for each of few elements. */
VECTOR_INLINE void weights_of_few_typed(const Call *call, const Entry *entry, const Entry *end, int64_t n,
                                        float *sum, bool bf16)
{
    const ConvAttributes *a = call->attributes;
    const int64_t depth = a->kernel_width * a->channels;
    for (; entry < end; ++entry) {
        const void *window = row_of(&call->in[0], n * a->width + entry->position);
        float *to = sum + entry->channel * depth;
        for (int64_t d = 0; d < depth; d += LANES) {
            const int lanes = depth - d < LANES ? (int)(depth - d) : LANES;
            const Vector product = vector_all(entry->value) * vector_load(window, d, lanes, bf16);
            vector_store(to, d, lanes, false, vector_load(to, d, lanes, false) + product);
        }
    }
}

static void weights_of_few(const Call *call, const Entry *entry, const Entry *end, int64_t n, float *sum)
{
    if (call->in[0].shape.type == BFLOAT16)
        weights_of_few_typed(call, entry, end, n, sum, true);
    else
        weights_of_few_typed(call, entry, end, n, sum, false);
}

static void weights_products(const Call *call, const Survey *found, int64_t n, float *sum, void *scratch)
{
    const ConvAttributes *a = call->attributes;
    const Tensor *x = &call->in[0], *d_y = &call->in[1];
    const int64_t depth = a->kernel_width * a->channels;
    if (x->shape.type == BFLOAT16) {
        for (int64_t t = 0; t < a->out_width; t += WINDOW_OUTER_ROWS) {
            const int64_t left = a->out_width - t, rows = left < WINDOW_OUTER_ROWS ? left : WINDOW_OUTER_ROWS;
            window_outer_pairs(sum, a->out_channels, depth, row_of(d_y, n * a->out_width + t),
                               row_of(x, n * a->width + t), a->channels, (a->width - t) * a->channels, rows,
                               scratch);
        }
        return;
    }
    const float *left[WINDOW_OUTER_ROWS], *window[WINDOW_OUTER_ROWS];
    int64_t count = 0;
    for (int64_t t = 0; t < a->out_width; ++t) {
        if (!found->flags[n * a->out_width + t]) continue;
        left[count] = row_of(d_y, n * a->out_width + t);
        window[count++] = row_of(x, n * a->width + t);
        if (count < WINDOW_OUTER_ROWS) continue;
        window_outer(sum, a->out_channels, depth, a->channels, left, window, count, scratch);
        count = 0;
    }
    if (count > 0) window_outer(sum, a->out_channels, depth, a->channels, left, window, count, scratch);
}

/* The sum of all pieces, in their order, in elements first .. first + BLOCK - 1. */
static void add_pieces(float *to, const float *sums, int64_t weights, int64_t pieces, int64_t first)
{
    const int64_t count = weights - first < BLOCK ? weights - first : BLOCK;
    float total[BLOCK] = {0};
    for (int64_t piece = 0; piece < pieces; ++piece)
        for (int64_t i = 0; i < count; ++i)
            total[i] += sums[piece * weights + first + i];
    memcpy(to + first, total, (size_t)count * sizeof *to);
}

static Status weights_run(const Call *call)
{
    const ConvAttributes *a = call->attributes;
    const State *state = call->state;
    const Tensor *x = &call->in[0], *d_y = &call->in[1];
    const Survey found = survey(call, d_y);
    if (state->library != NULL && !found.few) {
        void *const tensors[3] = {x->data, d_y->data, call->out[0].data};
        return onednn_run(state->library, tensors, at(call, state->library_at));
    }
    const int64_t depth = a->kernel_width * a->channels, weights = a->out_channels * depth;
    const int64_t pieces = pieces_of(a), most = FEW * a->out_channels;
    const size_t outer_bytes = window_outer_bytes(x->shape.type, a->out_channels, depth, a->channels);
    float *sums = at(call, state->pieces_at), *d_weight = call->out[0].data;
#pragma omp parallel
    {
#pragma omp for schedule(dynamic)
        for (int64_t piece = 0; piece < pieces; ++piece) {
            float *sum = sums + piece * weights;
            memset(sum, 0, (size_t)weights * sizeof *sum);
            for (int64_t n = a->samples * piece / pieces; n < a->samples * (piece + 1) / pieces; ++n) {
                const Entry *entries = found.entries + n * most;
                if (found.counts[n] >= 0)
                    weights_of_few(call, entries, entries + found.counts[n], n, sum);
                else
                    weights_products(call, &found, n, sum,
                                     (char *)at(call, state->outer_at) + (size_t)piece * outer_bytes);
            }
        }
#pragma omp for schedule(static)
        for (int64_t first = 0; first < weights; first += BLOCK)
            add_pieces(d_weight, sums, weights, pieces, first);
    }
    return OK;
}

const Kernel conv1d_cpu = {.prepare = forward_prepare, .run = forward_run, .release = release};
const Kernel conv1d_backward_data_cpu = {.prepare = data_prepare, .run = data_run, .release = release};
const Kernel conv1d_backward_weights_cpu = {
    .prepare = weights_prepare, .run = weights_run, .release = release};
