/* Vectors are sorted by row, stably, by counting sort of digits: blocks count the digits of their share, one block
 * finds where each share's begin, blocks move them. Then a block takes a row. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/row_sums.h"
}

namespace
{

constexpr int DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, SHARE = 1024, SCAN_THREADS = 1024, LANES = 8;

/* What the kernels know of a RowSums; keys are rows, or `rows` for what is nobody's, which sorts behind. */
struct Sorted {
    int32_t *key, *vector;
};

__global__ void keys_kernel(RowSums sums, Sorted to)
{
    for (int64_t v = grid_thread(); v < sums.count; v += grid_threads()) {
        int32_t row = -1;
        if (sums.list_rows > 0) {
            const int32_t *list = sums.index + v / sums.list_rows * (ROW_LIST_HEAD + sums.list_rows);
            const int64_t at = v % sums.list_rows;
            if (at < list[0]) row = list[ROW_LIST_HEAD + at];
        } else {
            row = sums.index[v];
        }
        const bool counts = row >= 0 && row < sums.rows && row != sums.skipped_row;
        to.key[v] = counts ? row : static_cast<int32_t>(sums.rows);
        to.vector[v] = static_cast<int32_t>(v);
    }
}

/* The digits of this block's share, in shared memory. */
__device__ int load_digits(const int32_t *key, int64_t count, int shift, int *digit)
{
    const int64_t first = static_cast<int64_t>(blockIdx.x) * SHARE;
    const int here = static_cast<int>(count - first < SHARE ? count - first : SHARE);
    for (int i = static_cast<int>(threadIdx.x); i < here; i += DIGITS)
        digit[i] = key[first + i] >> shift & (DIGITS - 1);
    __syncthreads();
    return here;
}

/* Thread d counts digit d. */
__global__ void count_kernel(const int32_t *key, int64_t count, int shift, int32_t *counts)
{
    __shared__ int digit[SHARE];
    const int here = load_digits(key, count, shift, digit), mine = static_cast<int>(threadIdx.x);
    int32_t found = 0;
    for (int i = 0; i < here; ++i)
        found += digit[i] == mine ? 1 : 0;
    counts[static_cast<int64_t>(mine) * gridDim.x + blockIdx.x] = found;
}

/* Sums of all before, over the threads of the one block; *total of all. */
__device__ int32_t exclusive_scan(int32_t value, int32_t *shared, int32_t *total)
{
    const int me = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    shared[me] = value;
    __syncthreads();
    for (int offset = 1; offset < threads; offset *= 2) {
        const int32_t more = me >= offset ? shared[me - offset] : 0;
        __syncthreads();
        shared[me] += more;
        __syncthreads();
    }
    *total = shared[threads - 1];
    const int32_t before = shared[me] - value;
    __syncthreads();
    return before;
}

__global__ void scan_kernel(int32_t *counts, int64_t length)
{
    __shared__ int32_t shared[SCAN_THREADS];
    int32_t before = 0;
    for (int64_t first = 0; first < length; first += SCAN_THREADS) {
        const int64_t at = first + threadIdx.x;
        int32_t total;
        const int32_t value = at < length ? counts[at] : 0, sum = exclusive_scan(value, shared, &total);
        if (at < length) counts[at] = before + sum;
        before += total;
    }
}

/* Thread d moves what has digit d, in order. */
__global__ void move_kernel(Sorted from, Sorted to, int64_t count, int shift, const int32_t *starts)
{
    __shared__ int digit[SHARE];
    const int here = load_digits(from.key, count, shift, digit), mine = static_cast<int>(threadIdx.x);
    const int64_t first = static_cast<int64_t>(blockIdx.x) * SHARE;
    int32_t at = starts[static_cast<int64_t>(mine) * gridDim.x + blockIdx.x];
    for (int i = 0; i < here; ++i)
        if (digit[i] == mine) {
            to.key[at] = from.key[first + i];
            to.vector[at++] = from.vector[first + i];
        }
}

/* Where each row begins; start[found] is the end of the last. One block. */
__global__ void starts_kernel(RowSums sums, const int32_t *key, int32_t *start, int32_t *found)
{
    __shared__ int32_t shared[SCAN_THREADS];
    int32_t before = 0;
    for (int64_t first = 0; first < sums.count; first += SCAN_THREADS) {
        const int64_t at = first + threadIdx.x;
        const int32_t row = at < sums.count ? key[at] : static_cast<int32_t>(sums.rows);
        const bool is_row = row < sums.rows, head = is_row && (at == 0 || key[at - 1] != row);
        int32_t total;
        const int32_t index = before + exclusive_scan(head ? 1 : 0, shared, &total);
        if (head) {
            start[index] = static_cast<int32_t>(at);
            if (!sums.whole) sums.row[index] = row;
        }
        before += total;
        /* Exactly one thread sees the end of what has rows. */
        if (at < sums.count && is_row && (at + 1 == sums.count || key[at + 1] >= sums.rows))
            start[index + (head ? 1 : 0)] = static_cast<int32_t>(at + 1);
    }
    if (threadIdx.x == 0) {
        *found = before;
        if (!sums.whole) *sums.found = before;
    }
}

/* The table without any vector. */
__global__ void start_kernel(float *sum, const float *start, int64_t count)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads())
        sum[i] = start != nullptr ? start[i] : 0;
}

/* A block a row: WARP columns at a time, LANES of vectors side by side, which are added in order. */
template <typename T>
__global__ void sum_kernel(RowSums sums, const int32_t *key, const int32_t *vector, const int32_t *start,
                           const int32_t *found)
{
    __shared__ double part[LANES * WARP];
    const int column = static_cast<int>(threadIdx.x) % WARP, lane = static_cast<int>(threadIdx.x) / WARP;
    for (int64_t i = blockIdx.x; i < *found; i += gridDim.x) {
        const int32_t first = start[i], end = start[i + 1];
        float *to = sums.sum + (sums.whole ? key[first] : i) * sums.columns;
        for (int64_t strip = 0; strip < sums.columns; strip += WARP) {
            const int64_t c = strip + column;
            double sum = 0;
            if (c < sums.columns)
                for (int32_t k = first + lane; k < end; k += LANES)
                    sum += static_cast<double>(
                        to_float(static_cast<const T *>(sums.vector)[vector[k] * sums.columns + c]));
            part[lane * WARP + column] = sum;
            __syncthreads();
            if (lane == 0 && c < sums.columns) {
                for (int l = 1; l < LANES; ++l)
                    sum += part[l * WARP + column];
                const double before = sums.whole && sums.start != nullptr ? static_cast<double>(to[c]) : 0;
                to[c] = static_cast<float>(before + sum * sums.scale);
            }
            __syncthreads();
        }
    }
}

} // namespace

Status row_sums_cuda(Device *device, const RowSums *sums)
{
    const Stream stream = device_stream(device);
    const int64_t count = sums->count, shares = (count + SHARE - 1) / SHARE;
    auto *scratch = static_cast<int32_t *>(sums->scratch);
    Sorted now = {scratch, scratch + count}, next = {scratch + 2 * count, scratch + 3 * count};
    int32_t *start = scratch + 4 * count, *found = start + count + 1, *counts = found + 1;
    static const char what[] = "sums of rows";
    TRY(launch(what, keys_kernel, blocks_for(count, DIGITS), DIGITS, 0, stream, *sums, now));
    for (int shift = 0; shift < 31 && (sums->rows >> shift) > 0; shift += DIGIT_BITS) {
        TRY(launch(what, count_kernel, static_cast<unsigned int>(shares), DIGITS, 0, stream, now.key, count,
                   shift, counts));
        TRY(launch(what, scan_kernel, 1, SCAN_THREADS, 0, stream, counts, shares * DIGITS));
        TRY(launch(what, move_kernel, static_cast<unsigned int>(shares), DIGITS, 0, stream, now, next, count,
                   shift, counts));
        const Sorted before = now;
        now = next;
        next = before;
    }
    TRY(launch(what, starts_kernel, 1, SCAN_THREADS, 0, stream, *sums, now.key, start, found));
    if (sums->whole && sums->start != sums->sum)
        TRY(launch(what, start_kernel, blocks_for(sums->rows * sums->columns, SCAN_THREADS), SCAN_THREADS, 0,
                   stream, sums->sum, sums->start, sums->rows * sums->columns));
    const int64_t most = count < sums->rows ? count : sums->rows;
    auto *const kernel = sums->type == BFLOAT16 ? sum_kernel<Bfloat16> : sum_kernel<float>;
    return launch(what, kernel, blocks_for(most, 1), LANES * WARP, 0, stream, *sums, now.key, now.vector,
                  start, found);
}
