/* The pass over the samples on a GPU. A group of threads takes a row, a whole warp where there are many classes. All sums
 * are sums of integers (softmax_row.h, exact_sum.h), so neither the group's size nor the order of atomic operations
 * matters: compiled without contraction, all has the CPU's bits. The exponentials are computed twice, for the row's sum
 * and for its probabilities: that is cheaper than to keep them. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "losses/calibration/calibration_pass.h"
}

#include <cfloat>
#include <cstdlib>

namespace
{

constexpr int THREADS = 128;
constexpr int FEW_LANES = 8, MANY_LANES = WARP, FEW_CLASSES = 256; /* threads a row, up to how many classes */
constexpr int64_t NONE = INT64_MAX;
constexpr unsigned int ALL = 0xffffffffu;
using Units = unsigned __int128;

struct Limbs {
    int64_t limb[EXACT_SUM_LIMBS];
};

struct Cells {
    Limbs sum[SUMS];
    LargeSum large;
    int64_t count[COUNTS];
    int64_t largest_label; /* + 1: 0 without any */
    int64_t large_row;     /* NONE */
    /* The first fault: (row * classes + column) * ROW_FAULTS + fault; NONE. */
    int64_t fault;
};

/* What the pointers point to is device memory. */
struct State {
    Cells *cells;
    int64_t *pending;  /* [bins, padded]: class sums, unit 2^-CLASS_SHIFT */
    Limbs *class_sum;  /* [bins, padded] */
    double *edge;      /* [bins + 1] */
    uint8_t *masked;   /* [classes]; NULL: none */
    double *score;     /* [most_rows] */
    int64_t unflushed; /* rows in pending */
};

__device__ void add_atomically(int64_t *cell, int64_t value)
{
    atomicAdd(reinterpret_cast<unsigned long long *>(cell), static_cast<unsigned long long>(value));
}

__device__ void add_limbs(Limbs *cell, __int128 units)
{
    for (int i = 0; i < EXACT_SUM_LIMBS; ++i) {
        const int64_t limb = exact_sum_limb(units, i);
        if (limb != 0) add_atomically(&cell->limb[i], limb);
    }
}

__device__ void least_atomically(int64_t *cell, int64_t value)
{
    atomicMin(reinterpret_cast<unsigned long long *>(cell), static_cast<unsigned long long>(value));
}

__device__ void add_large(LargeSum *large, double term)
{
    add_atomically(&large->terms, 1);
    if (!(term <= DBL_MAX)) {
        add_atomically(&large->infinite, 1);
        return;
    }
    int64_t part[LARGE_SUM_PARTS];
    const int first = large_sum_parts(term, part);
    for (int i = 0; i < LARGE_SUM_PARTS && first + i < LARGE_SUM_LIMBS; ++i)
        add_atomically(&large->limb[first + i], part[i]);
}

/* Over the threads of a row. All get it. */
template <int LANES_A_ROW> __device__ double lanes_value(Units units)
{
    for (int offset = LANES_A_ROW / 2; offset > 0; offset /= 2) {
        const auto low = static_cast<uint64_t>(units), high = static_cast<uint64_t>(units >> 64);
        const uint64_t other_low = __shfl_xor_sync(ALL, low, offset),
                       other_high = __shfl_xor_sync(ALL, high, offset);
        units += static_cast<Units>(other_high) << 64 | other_low;
    }
    return row_value(units);
}

template <int LANES_A_ROW> __device__ int64_t lanes_min(int64_t value)
{
    for (int offset = LANES_A_ROW / 2; offset > 0; offset /= 2) {
        const int64_t other = __shfl_xor_sync(ALL, value, offset);
        value = other < value ? other : value;
    }
    return value;
}

struct Part {
    LogitRows rows;
    const uint8_t *masked;
    int64_t classes, padded;
    double scale; /* 1 / temperature */
    int bins;
};

__device__ double infinity() { return __longlong_as_double(0x7ff0000000000000LL); }

/* A logit in double precision, -infinity if its class is masked. */
__device__ double logit(const Part &part, const float *logits, int64_t k)
{
    return part.masked != nullptr && part.masked[k] != 0 ? -infinity() : static_cast<double>(logits[k]);
}

template <int LANES_A_ROW>
__global__ void rows_kernel(Part part, const double *edge, Cells *cells, int64_t *pending, double *score)
{
    constexpr int ROWS = THREADS / LANES_A_ROW;
    const int lane = static_cast<int>(threadIdx.x) % LANES_A_ROW;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * ROWS, classes = part.classes;
    for (int64_t base = static_cast<int64_t>(blockIdx.x) * ROWS; base < part.rows.rows; base += stride) {
        /* Whole warps exchange: threads without a row go through the last one, and add nothing. */
        const int64_t mine = base + threadIdx.x / LANES_A_ROW, last = part.rows.rows - 1;
        const int64_t row = mine < last ? mine : last, number = logit_rows_number(&part.rows, row);
        const float weight = part.rows.weights != nullptr ? part.rows.weights[row] : 1.0F;
        bool adds = mine <= last && weight != 0;
        const float *logits = part.rows.logits + row * classes;
        int64_t label = part.rows.labels[row];

        double maximum = -infinity();
        int64_t first = NONE, fault = NONE;
        for (int64_t k = lane; k < classes; k += LANES_A_ROW) {
            const float bare = logits[k];
            if (!(bare <= FLT_MAX) && fault == NONE)
                fault = (number * classes + k) * ROW_FAULTS + (bare > 0 ? ROW_INFINITE : ROW_NAN);
            const double x = logit(part, logits, k);
            if (x > maximum) {
                maximum = x;
                first = k;
            }
        }
        for (int offset = LANES_A_ROW / 2; offset > 0; offset /= 2) {
            const double other = __shfl_xor_sync(ALL, maximum, offset);
            const int64_t at = __shfl_xor_sync(ALL, first, offset);
            if (other > maximum || (other == maximum && at < first)) {
                maximum = other;
                first = at;
            }
        }
        if (fault == NONE && first == NONE) fault = number * classes * ROW_FAULTS + ROW_NOT_FINITE;
        if (fault == NONE && (label < 0 || label >= classes))
            fault = number * classes * ROW_FAULTS + ROW_LABEL;
        if (fault == NONE && weight != 0 && weight != 1) fault = number * classes * ROW_FAULTS + ROW_WEIGHT;
        fault = lanes_min<LANES_A_ROW>(fault);
        if (fault != NONE) {
            if (lane == 0 && adds) least_atomically(&cells->fault, fault);
            adds = false;
            label = 0;
        }

        Units sum = 0, product = 0;
        for (int64_t k = lane; k < classes; k += LANES_A_ROW) {
            const double z = (logit(part, logits, k) - maximum) * part.scale, e = doubles_exp(z);
            sum += row_units(e);
            product += row_units(-(e * doubles_maximum(z, ROW_LOWEST)));
        }
        CalibrationRow of;
        of.sum = lanes_value<LANES_A_ROW>(sum);
        of.confidence = 1.0 / of.sum; /* the largest term of the sum is 1 */
        of.weighted = -lanes_value<LANES_A_ROW>(product);
        const double scale = 1.0 / of.sum, own = logit(part, logits, label);
        Units squares = 0;
        int64_t before = 0;
        for (int64_t k = lane; k < classes; k += LANES_A_ROW) {
            const double x = logit(part, logits, k), p = doubles_exp((x - maximum) * part.scale) * scale;
            squares += row_units(p * p);
            before += x > own || (x == own && k < label);
            const int64_t units = doubles_fixed(p, CLASS_UNIT);
            if (!adds || units == 0) continue;
            const int bin = p > edge[1] ? bins_find(edge, part.bins, p) : 0;
            add_atomically(&pending[bin * part.padded + k], units);
        }
        of.squares = lanes_value<LANES_A_ROW>(squares);
        for (int offset = LANES_A_ROW / 2; offset > 0; offset /= 2)
            before += __shfl_xor_sync(ALL, before, offset);
        if (lane != 0 || mine > last) continue;
        if (!adds) {
            score[row] = 0;
            continue;
        }

        of.before_label = before;
        of.correct = first == label;
        of.label_z = (own - maximum) * part.scale;
        of.label_probability = doubles_exp(of.label_z) * scale;
        const int bin = bins_find(edge, part.bins, of.label_probability);
        if (bin >= 0) add_atomically(&pending[bin * part.padded + label], -(INT64_C(1) << CLASS_SHIFT));
        const CalibrationSample sample = calibration_sample(&of, edge, part.bins);
        for (int i = 0; i < sample.sums; ++i)
            add_limbs(&cells->sum[sample.sum[i]], exact_sum_units(sample.term[i]));
        for (int i = 0; i < sample.counts; ++i)
            add_atomically(&cells->count[sample.count[i]], 1);
        if (large_sum_takes(sample.nll)) {
            add_large(&cells->large, sample.nll);
            least_atomically(&cells->large_row, number);
        }
        atomicMax(reinterpret_cast<unsigned long long *>(&cells->largest_label),
                  static_cast<unsigned long long>(label) + 1);
        score[row] = of.correct ? sample.confidence : -sample.confidence;
    }
}

__global__ void flush_kernel(int64_t *pending, Limbs *class_sum, int64_t cells)
{
    for (int64_t i = grid_thread(); i < cells; i += grid_threads()) {
        const __int128 units = static_cast<__int128>(pending[i]) * CLASS_FACTOR;
        for (int limb = 0; limb < EXACT_SUM_LIMBS; ++limb)
            class_sum[i].limb[limb] += exact_sum_limb(units, limb);
        pending[i] = 0;
    }
}

Status flush(const CalibrationPass *pass, State *state)
{
    const int64_t cells = pass->padded * pass->bins;
    if (state->unflushed == 0) return OK;
    state->unflushed = 0;
    return launch("the sums of calibration", flush_kernel, blocks_for(cells, THREADS), THREADS, 0,
                  device_stream(pass->device), state->pending, state->class_sum, cells);
}

template <typename T> Status allocate(Device *device, int64_t count, T **out)
{
    void *memory = nullptr;
    TRY(device_allocate(device, static_cast<size_t>(count) * sizeof(T), "sums of calibration", &memory));
    *out = static_cast<T *>(memory);
    return OK;
}

Status open_sums(CalibrationPass *pass)
{
    Device *device = pass->device;
    const int64_t cells = pass->padded * pass->bins;
    auto *state = static_cast<State *>(calloc(1, sizeof(State)));
    if (state == nullptr) return fail(STATUS_MEMORY, "no memory for the sums of calibration");
    pass->state = state;
    TRY(allocate(device, 1, &state->cells));
    TRY(allocate(device, cells, &state->pending));
    TRY(allocate(device, cells, &state->class_sum));
    TRY(allocate(device, pass->bins + 1, &state->edge));
    TRY(allocate(device, pass->most_rows + 1, &state->score));
    if (pass->masked != nullptr) {
        TRY(allocate(device, pass->classes, &state->masked));
        TRY(device_upload(device, state->masked, pass->masked, static_cast<size_t>(pass->classes)));
    }
    return device_upload(device, state->edge, pass->edge,
                         static_cast<size_t>(pass->bins + 1) * sizeof(double));
}

Status begin_sums(CalibrationPass *pass)
{
    auto *state = static_cast<State *>(pass->state);
    Device *device = pass->device;
    const size_t cells = static_cast<size_t>(pass->padded) * static_cast<size_t>(pass->bins);
    const int64_t none = NONE;
    state->unflushed = 0;
    TRY(device_clear(device, state->pending, cells * sizeof *state->pending));
    TRY(device_clear(device, state->class_sum, cells * sizeof *state->class_sum));
    TRY(device_clear(device, state->cells, sizeof *state->cells));
    TRY(device_upload(device, &state->cells->large_row, &none, sizeof none));
    return device_upload(device, &state->cells->fault, &none, sizeof none);
}

Status add_rows(CalibrationPass *pass, const LogitRows *rows, double *score)
{
    auto *state = static_cast<State *>(pass->state);
    const bool few = pass->classes <= FEW_CLASSES;
    for (int64_t done = 0; done < rows->rows;) {
        if (state->unflushed == CLASS_ROWS) TRY(flush(pass, state));
        const int64_t left = rows->rows - done, room = CLASS_ROWS - state->unflushed;
        const int64_t here = left < room ? left : room;
        Part part = {*rows, state->masked, pass->classes, pass->padded, 1.0 / pass->temperature, pass->bins};
        part.rows.logits += done * pass->classes;
        part.rows.labels += done;
        if (rows->weights != nullptr) part.rows.weights += done;
        part.rows.rows = here;
        part.rows.first += done;
        if (rows->number != nullptr) part.rows.number += done;
        TRY(launch("the sums of calibration", few ? rows_kernel<FEW_LANES> : rows_kernel<MANY_LANES>,
                   blocks_for(here, THREADS / (few ? FEW_LANES : MANY_LANES)), THREADS, 0,
                   device_stream(pass->device), part, state->edge, state->cells, state->pending,
                   state->score + done));
        state->unflushed += here;
        done += here;
    }
    return device_download(pass->device, score, state->score,
                           static_cast<size_t>(rows->rows) * sizeof *score);
}

Status row_fault(const CalibrationPass *pass, int64_t code)
{
    const int64_t index = code / ROW_FAULTS;
    return row_fail(pass->name, pass->classes, static_cast<RowFault>(code % ROW_FAULTS),
                    index / pass->classes, index % pass->classes, NAN);
}

Status collect_sums(CalibrationPass *pass)
{
    auto *state = static_cast<State *>(pass->state);
    Device *device = pass->device;
    const int64_t cells = pass->padded * pass->bins;
    TRY(flush(pass, state));
    auto *sums = static_cast<Cells *>(malloc(sizeof(Cells)));
    auto *classes = static_cast<Limbs *>(malloc(static_cast<size_t>(cells) * sizeof(Limbs)));
    Status status = OK;
    if (sums == nullptr || classes == nullptr)
        status = fail(STATUS_MEMORY, "no memory for the sums of calibration");
    if (status == OK) status = device_download(device, sums, state->cells, sizeof *sums);
    if (status == OK)
        status =
            device_download(device, classes, state->class_sum, static_cast<size_t>(cells) * sizeof(Limbs));
    if (status == OK) status = device_synchronize(device);
    if (status == OK && sums->fault != NONE) status = row_fault(pass, sums->fault);
    if (status == OK) {
        for (int i = 0; i < SUMS; ++i)
            pass->sum[i] = exact_sum_of_limbs(sums->sum[i].limb);
        for (int i = 0; i < COUNTS; ++i)
            pass->count[i] = sums->count[i];
        for (int64_t i = 0; i < cells; ++i)
            pass->class_sum[i] = exact_sum_of_limbs(classes[i].limb);
        pass->large = sums->large;
        pass->largest_label = sums->largest_label - 1;
        pass->large_row = sums->large_row;
    }
    free(sums);
    free(classes);
    return status;
}

void close_sums(CalibrationPass *pass)
{
    auto *state = static_cast<State *>(pass->state);
    if (state == nullptr) return;
    void *const memory[] = {state->cells, state->pending, state->class_sum,
                            state->edge,  state->masked,  state->score};
    for (void *block : memory)
        device_free(pass->device, block);
    free(state);
    pass->state = nullptr;
}

} // namespace

const CalibrationKernel calibration_cuda = {open_sums, begin_sums, add_rows, collect_sums, close_sums};
