/* The rows that count are gathered a chunk at a time; oneDNN multiplies, threads take rows of logits as in the loss head. The
 * last chunk is seldom full: products of a quarter, a half and three quarters of a chunk are ready for it. */
#include "engine/base/memory.h"
#include "engine/ops/onednn/onednn.h"
#include "losses/loss_output.h"
#include "losses/loss_rows.h"

#include <stdlib.h>
#include <string.h>

enum { SIZES = 4 };
/* Of logits of a chunk. A larger one needs more memory; the gradient of the matrix is gone through once a chunk. */
enum { CHUNK_BYTES = 64 << 20, LEAST_ROWS = 64, MOST_ROWS = 512 };

typedef struct {
    OneDnn *logits[SIZES], *d_hidden[SIZES],
        *d_matrix[SIZES]; /* of (size + 1) quarters; d_matrix accumulates */
    OneDnn *first;        /* d_matrix of a whole chunk, which overwrites */
    int64_t quarter;
    size_t scratch_bytes; /* of any of them */
} State;

/* Parts of the scratch memory. */
typedef struct {
    LossScratch loss;
    int32_t *row;       /* [N]: rows that count */
    char *hidden;       /* [chunk, C], of hidden's type */
    float *logits;      /* [chunk, K] */
    void *d_logits;     /* [chunk, K], of hidden's type: the logits' memory, or its own */
    char *d_hidden;     /* [chunk, C] */
    const void *matrix; /* [K, C], of hidden's type */
    void *onednn;
} Layout;

static Layout lay_out(const Call *call, const State *state)
{
    const LossOutput *output = call->attributes;
    const Shape hidden = call->in[OUTPUT_HIDDEN].shape, matrix = call->in[OUTPUT_MATRIX].shape;
    const size_t size = dtype_size(hidden.type), chunk = SIZES * (size_t)state->quarter;
    const size_t samples = (size_t)hidden.extent[0], width = (size_t)hidden.extent[1];
    const size_t classes = (size_t)matrix.extent[0];
    const bool narrow = hidden.type != FLOAT32;
    Layout layout = {.loss = loss_scratch(call, &output->head, hidden.extent[0], matrix.extent[0])};
    LossScratch *loss = &layout.loss;
    layout.row = loss_scratch_take(loss, call->scratch, samples * sizeof *layout.row);
    layout.hidden = loss_scratch_take(loss, call->scratch, chunk * width * size);
    layout.d_hidden = loss_scratch_take(loss, call->scratch, chunk * width * size);
    layout.logits = loss_scratch_take(loss, call->scratch, chunk * classes * sizeof(float));
    layout.d_logits = narrow ? loss_scratch_take(loss, call->scratch, chunk * classes * size) : layout.logits;
    layout.matrix = narrow ? loss_scratch_take(loss, call->scratch, classes * width * size)
                           : call->in[OUTPUT_MATRIX].data;
    layout.onednn = loss_scratch_take(loss, call->scratch, state->scratch_bytes);
    return layout;
}

/* ---- preparing ---- */

static void release(Call *call)
{
    State *state = call->state;
    if (state == NULL) return;
    for (int i = 0; i < SIZES; ++i) {
        onednn_free(state->logits[i]);
        onednn_free(state->d_hidden[i]);
        onednn_free(state->d_matrix[i]);
    }
    onednn_free(state->first);
    free(state);
    call->state = NULL;
}

static Status make_product(State *state, MatrixProduct product, OneDnn **out)
{
    size_t bytes;
    TRY(onednn_product(product, out, &bytes));
    if (bytes > state->scratch_bytes) state->scratch_bytes = bytes;
    return OK;
}

static Status make_products(const Call *call, State *state)
{
    const Shape hidden = call->in[OUTPUT_HIDDEN].shape, matrix = call->in[OUTPUT_MATRIX].shape;
    const int64_t width = hidden.extent[1], classes = matrix.extent[0];
    for (int i = 0; i < SIZES; ++i) {
        const int64_t rows = (i + 1) * state->quarter;
        const MatrixProduct logits = {.rows = rows,
                                      .inner = width,
                                      .columns = classes,
                                      .b_turned = true,
                                      .type = hidden.type,
                                      .out_type = FLOAT32};
        const MatrixProduct d_hidden = {
            .rows = rows, .inner = classes, .columns = width, .type = hidden.type, .out_type = hidden.type};
        MatrixProduct d_matrix = {.rows = classes,
                                  .inner = rows,
                                  .columns = width,
                                  .a_turned = true,
                                  .type = hidden.type,
                                  .out_type = FLOAT32,
                                  .accumulate = true};
        TRY(make_product(state, logits, &state->logits[i]));
        if (call->wanted[OUTPUT_D_HIDDEN]) TRY(make_product(state, d_hidden, &state->d_hidden[i]));
        if (!call->wanted[OUTPUT_D_MATRIX]) continue;
        TRY(make_product(state, d_matrix, &state->d_matrix[i]));
        d_matrix.accumulate = false;
        if (i == SIZES - 1) TRY(make_product(state, d_matrix, &state->first));
    }
    return OK;
}

static Status prepare(Call *call, size_t *scratch_bytes)
{
    const Shape hidden = call->in[OUTPUT_HIDDEN].shape, matrix = call->in[OUTPUT_MATRIX].shape;
    State *state;
    TRY(memory_new(&state, 1, sizeof *state, "an output layer"));
    call->state = state;
    const int64_t chunk = loss_output_chunk(call->attributes, hidden.extent[0], matrix.extent[0], CHUNK_BYTES,
                                            LEAST_ROWS, MOST_ROWS);
    state->quarter = (chunk + SIZES - 1) / SIZES;
    const Status status = make_products(call, state);
    if (status != OK) {
        release(call);
        return status;
    }
    *scratch_bytes = lay_out(call, state).loss.bytes;
    return OK;
}

/* ---- running ---- */

/* Some of the rows that count: the listed ones from `first` on. */
typedef struct {
    int64_t first, count;
    int size; /* of the products: room for (size + 1) quarters */
} Chunk;

static int64_t room(const State *state, Chunk chunk) { return (chunk.size + 1) * state->quarter; }

static Chunk chunk_at(const State *state, int64_t first, int64_t rows)
{
    const int64_t left = rows - first, whole = SIZES * state->quarter;
    Chunk chunk = {.first = first, .count = left < whole ? left : whole, .size = 0};
    while (room(state, chunk) < chunk.count)
        ++chunk.size;
    return chunk;
}

static Status make_logits(const Call *call, const Layout *layout, Chunk chunk)
{
    const State *state = call->state;
    const Shape hidden = call->in[OUTPUT_HIDDEN].shape;
    const size_t bytes = (size_t)hidden.extent[1] * dtype_size(hidden.type);
    const char *from = call->in[OUTPUT_HIDDEN].data;
    for (int64_t i = 0; i < chunk.count; ++i)
        memcpy(layout->hidden + (size_t)i * bytes, from + (size_t)layout->row[chunk.first + i] * bytes,
               bytes);
    memset(layout->hidden + (size_t)chunk.count * bytes, 0,
           (size_t)(room(state, chunk) - chunk.count) * bytes);
    return onednn_run(state->logits[chunk.size],
                      (void *[]){layout->hidden, (void *)(uintptr_t)layout->matrix, layout->logits},
                      layout->onednn);
}

static void store_row(const Layout *layout, DType type, int64_t at, const double row[], int64_t classes)
{
    if (type == FLOAT32) {
        float *to = (float *)layout->d_logits + at * classes;
        for (int64_t k = 0; k < classes; ++k)
            to[k] = (float)row[k];
    } else {
        bfloat16 *to = (bfloat16 *)layout->d_logits + at * classes;
        for (int64_t k = 0; k < classes; ++k)
            to[k] = bfloat16_from_float((float)row[k]);
    }
}

/* The rows of a chunk; slope as in the loss head. */
static void take_rows(const Call *call, const Layout *layout, Chunk chunk, const double slope[], double scale,
                      bool with_gradient)
{
    const LossOutput *output = call->attributes;
    const LossRows rows = {.head = &output->head,
                           .classes = call->in[OUTPUT_MATRIX].shape.extent[0],
                           .epoch = output->head.gamma.by_epoch
                                        ? ((const int64_t *)call->in[OUTPUT_CLOCK].data)[CLOCK_EPOCH]
                                        : 0};
    const DType type = call->in[OUTPUT_HIDDEN].shape.type;
    const float *weight = call->in[OUTPUT_WEIGHT].data;
    const int32_t *target = call->in[OUTPUT_TARGET].data;
    float *confidence = call->out[OUTPUT_CONFIDENCE].data, *correct = call->out[OUTPUT_CORRECT].data;
#pragma omp parallel for schedule(static) num_threads(layout->loss.threads)
    for (int64_t i = 0; i < chunk.count; ++i) {
        const int32_t n = layout->row[chunk.first + i];
        const float *logits = layout->logits + i * rows.classes;
        double *row = loss_scratch_row(&layout->loss);
        for (int64_t k = 0; k < rows.classes; ++k)
            row[k] = (double)logits[k];
        const double added = slope != NULL ? slope[n] * scale / (double)weight[n] : 0;
        const RowLoss loss = loss_row(&rows, target[n], (double)weight[n], added, with_gradient, row);
        layout->loss.losses[n] = loss.loss;
        confidence[n] = loss.confidence;
        correct[n] = loss.correct;
        if (layout->loss.mine != NULL) layout->loss.mine[n] = loss.judged;
        if (with_gradient) store_row(layout, type, i, row, rows.classes);
    }
}

/* d_hidden of the chunk's rows, and what they add to d_matrix. */
static Status multiply_on(const Call *call, const Layout *layout, Chunk chunk)
{
    const State *state = call->state;
    const Shape hidden = call->in[OUTPUT_HIDDEN].shape;
    const size_t size = dtype_size(hidden.type), bytes = (size_t)hidden.extent[1] * size;
    const size_t logits = (size_t)call->in[OUTPUT_MATRIX].shape.extent[0] * size;
    memset((char *)layout->d_logits + (size_t)chunk.count * logits, 0,
           (size_t)(room(state, chunk) - chunk.count) * logits);
    if (call->wanted[OUTPUT_D_MATRIX]) {
        void *d_matrix = call->out[OUTPUT_D_MATRIX].data;
        const bool overwrite = chunk.first == 0 && chunk.size == SIZES - 1;
        if (chunk.first == 0 && !overwrite)
            memset(d_matrix, 0, shape_bytes(call->out[OUTPUT_D_MATRIX].shape));
        TRY(onednn_run(overwrite ? state->first : state->d_matrix[chunk.size],
                       (void *[]){layout->d_logits, layout->hidden, d_matrix}, layout->onednn));
    }
    if (!call->wanted[OUTPUT_D_HIDDEN]) return OK;
    TRY(onednn_run(state->d_hidden[chunk.size],
                   (void *[]){layout->d_logits, (void *)(uintptr_t)layout->matrix, layout->d_hidden},
                   layout->onednn));
    char *to = call->out[OUTPUT_D_HIDDEN].data;
    for (int64_t i = 0; i < chunk.count; ++i)
        memcpy(to + (size_t)layout->row[chunk.first + i] * bytes, layout->d_hidden + (size_t)i * bytes,
               bytes);
    return OK;
}

static Status sweep(const Call *call, const Layout *layout, int64_t rows, const double slope[], double scale,
                    bool with_gradient)
{
    Chunk chunk;
    for (int64_t first = 0; first < rows; first += chunk.count) {
        chunk = chunk_at(call->state, first, rows);
        TRY(make_logits(call, layout, chunk));
        take_rows(call, layout, chunk, slope, scale, with_gradient);
        if (with_gradient) TRY(multiply_on(call, layout, chunk));
    }
    return OK;
}

/* Lists the rows that count, and clears all that is of the others. */
static int64_t list_rows(const Call *call, const Layout *layout)
{
    const Shape hidden = call->in[OUTPUT_HIDDEN].shape;
    const size_t bytes = (size_t)hidden.extent[1] * dtype_size(hidden.type);
    const float *weight = call->in[OUTPUT_WEIGHT].data;
    int64_t rows = 0;
    for (int64_t n = 0; n < hidden.extent[0]; ++n) {
        if (weight[n] != 0) {
            layout->row[rows++] = (int32_t)n;
            continue;
        }
        ((float *)call->out[OUTPUT_CONFIDENCE].data)[n] = ((float *)call->out[OUTPUT_CORRECT].data)[n] = 0;
        layout->loss.losses[n] = 0;
        if (layout->loss.mine != NULL) layout->loss.mine[n] = (Judged){0, 0, 0};
        if (call->wanted[OUTPUT_D_HIDDEN])
            memset((char *)call->out[OUTPUT_D_HIDDEN].data + (size_t)n * bytes, 0, bytes);
    }
    if (rows == 0 && call->wanted[OUTPUT_D_MATRIX])
        memset(call->out[OUTPUT_D_MATRIX].data, 0, shape_bytes(call->out[OUTPUT_D_MATRIX].shape));
    return rows;
}

/* Once a run, for all chunks. */
static void round_matrix(const Call *call, const Layout *layout)
{
    if (call->in[OUTPUT_HIDDEN].shape.type == FLOAT32) return;
    const float *from = call->in[OUTPUT_MATRIX].data;
    bfloat16 *to = (bfloat16 *)(uintptr_t)layout->matrix;
    const int64_t count = shape_count(call->in[OUTPUT_MATRIX].shape);
#pragma omp parallel for simd schedule(static) num_threads(layout->loss.threads)
    for (int64_t i = 0; i < count; ++i)
        to[i] = bfloat16_from_float(from[i]);
}

static Status run(const Call *call)
{
    const LossOutput *output = call->attributes;
    const Layout layout = lay_out(call, call->state);
    const int64_t samples = call->in[OUTPUT_HIDDEN].shape.extent[0];
    const bool with_gradient = call->wanted[OUTPUT_D_HIDDEN] || call->wanted[OUTPUT_D_MATRIX];
    const bool penalty = output->head.penalty != PENALTY_NONE;
    double *sums = call->out[OUTPUT_SUMS].data, scale;
    const double *slope;
    round_matrix(call, &layout);
    const int64_t rows = list_rows(call, &layout);
    TRY(sweep(call, &layout, rows, NULL, 0, with_gradient && !penalty));
    loss_add_up(&layout.loss, call->in[OUTPUT_WEIGHT].data, call->out[OUTPUT_CORRECT].data, samples, sums);
    if (!penalty) return OK;
    TRY(loss_penalty(call, &output->head, &layout.loss, samples, sums, &slope, &scale));
    return with_gradient ? sweep(call, &layout, rows, slope, scale, true) : OK;
}

const Kernel loss_output_cpu = {.prepare = prepare, .run = run, .release = release};
