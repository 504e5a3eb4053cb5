/* The pass over the samples on a GPU. ROW_LANES threads take a row, as the lanes of the CPU's vectors do, so
 * that every number comes from the same operations in the same order; compiled without contraction, it has the
 * same bits. What is added is integers, by atomic operations: their order does not matter. The exponentials are
 * computed twice, for the row's sum and for its probabilities: that is cheaper than to keep them. */
#include "engine/device/cuda_kernel.cuh"

extern "C" {
#include "losses/calibration/calibration_pass.h"
}

#include <cfloat>
#include <cstdlib>

namespace
{

constexpr int THREADS = 128, ROWS = THREADS / ROW_LANES;
constexpr int64_t NONE = INT64_MAX;
constexpr unsigned int ALL = 0xffffffffu;

struct Limbs {
    int64_t limb[EXACT_SUM_LIMBS];
};

struct Cells {
    Limbs sum[SUMS];
    int64_t count[COUNTS];
    int64_t
        bad; /* the first logit that is no number: its index * 4 + 0 for NaN, 1 for infinity, 2 for -infinity;
                    NONE */
};

/* All but `part` is device memory. */
struct State {
    Cells *cells;
    int64_t *pending;   /* [bins, padded]: class sums, unit 2^-CLASS_SHIFT */
    Limbs *class_sum;   /* [bins, padded] */
    double *edge;       /* [bins + 1] */
    int32_t *label;     /* [count] */
    double *confidence; /* [count] */
    uint8_t *correct;   /* [count] */
    int64_t unflushed;  /* rows in pending */
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

/* Over the threads of a row, in the order of the CPU's row_sum. All get it. */
__device__ double lanes_sum(double value)
{
    double sum = __shfl_sync(ALL, value, 0, ROW_LANES);
    for (int lane = 1; lane < ROW_LANES; ++lane)
        sum += __shfl_sync(ALL, value, lane, ROW_LANES);
    return sum;
}

__device__ int64_t lanes_min(int64_t value)
{
    for (int offset = ROW_LANES / 2; offset > 0; offset /= 2) {
        const int64_t other = __shfl_xor_sync(ALL, value, offset);
        value = other < value ? other : value;
    }
    return value;
}

struct Part {
    const float *logits;  /* [rows, classes] */
    const int32_t *label; /* [rows] */
    int64_t rows, first, classes, padded;
    int bins;
};

__global__ void rows_kernel(Part part, const double *edge, Cells *cells, int64_t *pending, double *confidence,
                            uint8_t *correct)
{
    const int lane = static_cast<int>(threadIdx.x) % ROW_LANES;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * ROWS;
    for (int64_t base = static_cast<int64_t>(blockIdx.x) * ROWS; base < part.rows; base += stride) {
        /* Whole warps exchange: threads without a row go through the last one, and add nothing. */
        const int64_t mine = base + threadIdx.x / ROW_LANES, row = mine < part.rows ? mine : part.rows - 1;
        bool adds = mine < part.rows;
        const float *logits = part.logits + row * part.classes;
        const int64_t label = part.label[row];

        double maximum = -DBL_MAX;
        int64_t first = NONE, bad = NONE;
        for (int64_t k = lane; k < part.classes; k += ROW_LANES) {
            const auto x = static_cast<double>(logits[k]);
            if (!(fabs(x) <= DBL_MAX) && bad == NONE)
                bad = ((part.first + row) * part.classes + k) * 4 + (x > 0 ? 1 : x < 0 ? 2 : 0);
            if (x > maximum) {
                maximum = x;
                first = k;
            }
        }
        for (int offset = ROW_LANES / 2; offset > 0; offset /= 2) {
            const double other = __shfl_xor_sync(ALL, maximum, offset);
            const int64_t at = __shfl_xor_sync(ALL, first, offset);
            if (other > maximum || (other == maximum && at < first)) {
                maximum = other;
                first = at;
            }
        }
        bad = lanes_min(bad);
        if (bad != NONE && adds) {
            if (lane == 0)
                atomicMin(reinterpret_cast<unsigned long long *>(&cells->bad),
                          static_cast<unsigned long long>(bad));
            adds = false;
        }

        double sum = 0, weighted = 0, squares = 0;
        for (int64_t k = lane; k < part.classes; k += ROW_LANES) {
            const double z = static_cast<double>(logits[k]) - maximum, e = vector_exp(z);
            sum += e;
            weighted += e * vector_maximum(z, ROW_LOWEST);
        }
        CalibrationRow of;
        of.sum = lanes_sum(sum);
        of.weighted = lanes_sum(weighted);
        const double scale = 1.0 / of.sum, own = static_cast<double>(logits[label]);
        int64_t before = 0;
        for (int64_t k = lane; k < part.classes; k += ROW_LANES) {
            const auto x = static_cast<double>(logits[k]);
            const double p = vector_exp(x - maximum) * scale;
            squares += p * p;
            before += x > own || (x == own && k < label);
            const int64_t units = vector_fixed(p, CLASS_UNIT);
            if (!adds || units == 0) continue;
            const int bin = p > edge[1] ? bins_find(edge, part.bins, p) : 0;
            add_atomically(&pending[bin * part.padded + k], units);
        }
        of.squares = lanes_sum(squares);
        for (int offset = ROW_LANES / 2; offset > 0; offset /= 2)
            before += __shfl_xor_sync(ALL, before, offset);
        if (lane != 0 || !adds) continue;

        of.before_label = before;
        of.correct = first == label;
        of.label_z = own - maximum;
        of.label_probability = vector_exp(of.label_z) * scale;
        const int bin = bins_find(edge, part.bins, of.label_probability);
        if (bin >= 0) add_atomically(&pending[bin * part.padded + label], -(INT64_C(1) << CLASS_SHIFT));
        const CalibrationSample sample = calibration_sample(&of, edge, part.bins);
        for (int i = 0; i < sample.sums; ++i)
            add_limbs(&cells->sum[sample.sum[i]], exact_sum_units(sample.term[i]));
        for (int i = 0; i < sample.counts; ++i)
            add_atomically(&cells->count[sample.count[i]], 1);
        confidence[part.first + row] = sample.confidence;
        correct[part.first + row] = of.correct;
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
    const int64_t cells = pass->padded * pass->bins, count = pass->set.count;
    if (pass->set.label_type != INT32)
        return fail(STATUS_INTERNAL, "%s: labels are %s; a GPU takes int32", pass->set.name,
                    dtype_name(pass->set.label_type));
    auto *state = static_cast<State *>(calloc(1, sizeof(State)));
    if (state == nullptr) return fail(STATUS_MEMORY, "no memory for the sums of calibration");
    pass->state = state;
    TRY(allocate(device, 1, &state->cells));
    TRY(allocate(device, cells, &state->pending));
    TRY(allocate(device, cells, &state->class_sum));
    TRY(allocate(device, pass->bins + 1, &state->edge));
    TRY(allocate(device, count + 1, &state->label));
    TRY(allocate(device, count + 1, &state->confidence));
    TRY(allocate(device, count + 1, &state->correct));
    TRY(device_upload(device, state->edge, pass->edge, static_cast<size_t>(pass->bins + 1) * sizeof(double)));
    return device_upload(device, state->label, pass->set.labels,
                         static_cast<size_t>(count) * sizeof(int32_t));
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
    return device_upload(device, &state->cells->bad, &none, sizeof none);
}

Status add_rows(CalibrationPass *pass, const Logits *rows)
{
    auto *state = static_cast<State *>(pass->state);
    const auto *logits = static_cast<const float *>(rows->values);
    for (int64_t done = 0; done < rows->count;) {
        if (state->unflushed == CLASS_ROWS) TRY(flush(pass, state));
        const int64_t left = rows->count - done, room = CLASS_ROWS - state->unflushed;
        const int64_t here = left < room ? left : room, first = pass->done + done;
        const Part part = {logits + done * rows->classes,
                           state->label + first,
                           here,
                           first,
                           rows->classes,
                           pass->padded,
                           pass->bins};
        TRY(launch("the sums of calibration", rows_kernel, blocks_for(here, ROWS), THREADS, 0,
                   device_stream(pass->device), part, state->edge, state->cells, state->pending,
                   state->confidence, state->correct));
        state->unflushed += here;
        done += here;
    }
    return OK;
}

Status bad_logit(const CalibrationPass *pass, int64_t bad)
{
    const double value[] = {NAN, INFINITY, -INFINITY};
    const int64_t index = bad / 4;
    return logits_fail(&pass->set, index / pass->set.classes, index % pass->set.classes, value[bad % 4]);
}

Status collect_sums(CalibrationPass *pass)
{
    auto *state = static_cast<State *>(pass->state);
    Device *device = pass->device;
    const int64_t cells = pass->padded * pass->bins, count = pass->set.count;
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
    if (status == OK)
        status = device_download(device, pass->scores.confidence, state->confidence,
                                 static_cast<size_t>(count) * sizeof(double));
    if (status == OK)
        status = device_download(device, pass->scores.correct, state->correct, static_cast<size_t>(count));
    if (status == OK) status = device_synchronize(device);
    if (status == OK && sums->bad != NONE) status = bad_logit(pass, sums->bad);
    if (status == OK) {
        for (int i = 0; i < SUMS; ++i)
            pass->sum[i] = exact_sum_of_limbs(sums->sum[i].limb);
        for (int i = 0; i < COUNTS; ++i)
            pass->count[i] = sums->count[i];
        for (int64_t i = 0; i < cells; ++i)
            pass->class_sum[i] = exact_sum_of_limbs(classes[i].limb);
    }
    free(sums);
    free(classes);
    return status;
}

void close_sums(CalibrationPass *pass)
{
    auto *state = static_cast<State *>(pass->state);
    if (state == nullptr) return;
    void *const memory[] = {state->cells, state->pending,    state->class_sum, state->edge,
                            state->label, state->confidence, state->correct};
    for (void *block : memory)
        device_free(pass->device, block);
    free(state);
    pass->state = nullptr;
}

} // namespace

const CalibrationKernel calibration_cuda = {open_sums, begin_sums, add_rows, collect_sums, close_sums};
