/* Sums over rows, a pair a column, for CUDA kernels: biases' gradients, batch norm, layer norm.
 *
 * A thread takes eight neighbouring columns (16 bytes of bfloat16) of some rows, a block 64 columns or fewer
 * of a run of rows. A block's sums are float32 over few rows each and go to memory; the block that finishes
 * last for its columns adds them in double, in the order of the blocks, and hands the totals on: one launch,
 * the same bits every time. Bound by memory: every element is read once. */
#ifndef PLUMB_ENGINE_OPS_COLUMNS_CUDA_CUH
#define PLUMB_ENGINE_OPS_COLUMNS_CUDA_CUH

#include "engine/ops/op_cuda.cuh"

constexpr int COLUMNS_A_THREAD = 8, COLUMN_THREADS = 512, COLUMN_TILE = 64 /* columns a block, at most */;

/* How rows and columns are shared among threads and blocks. */
struct ColumnGrid {
    int64_t rows, rows_a_block;
    int columns, groups /* of columns, a block: 1, 2, 4 or 8 */, tiles, row_blocks;

    __device__ int lane() const { return static_cast<int>(threadIdx.x) & (groups - 1); }
    __device__ int line() const { return static_cast<int>(threadIdx.x) / groups; }
    __device__ int lines() const { return static_cast<int>(blockDim.x) / groups; }
    __device__ int column() const
    {
        return (static_cast<int>(blockIdx.y) * groups + lane()) * COLUMNS_A_THREAD;
    }
    /* Columns of this thread that exist: 0 to 8. */
    __device__ int present() const
    {
        const int left = columns - column();
        return left < 0 ? 0 : left < COLUMNS_A_THREAD ? left : COLUMNS_A_THREAD;
    }
    __device__ int64_t first_row() const { return blockIdx.x * rows_a_block; }
    __device__ int64_t end_row() const
    {
        const int64_t end = first_row() + rows_a_block;
        return end < rows ? end : rows;
    }
    dim3 blocks() const
    {
        return dim3(static_cast<unsigned int>(row_blocks), static_cast<unsigned int>(tiles));
    }
};

/* waves: blocks of `threads` for each of about 132 multiprocessors. */
static inline ColumnGrid column_grid(const Shape &shape, int threads, int waves)
{
    ColumnGrid grid = {};
    grid.rows = shape_rows(shape);
    grid.columns = static_cast<int>(shape_columns(shape));
    const int all_groups = (grid.columns + COLUMNS_A_THREAD - 1) / COLUMNS_A_THREAD;
    grid.groups = 1;
    while (grid.groups < all_groups && grid.groups < COLUMN_TILE / COLUMNS_A_THREAD)
        grid.groups *= 2;
    grid.tiles = (all_groups + grid.groups - 1) / grid.groups;
    constexpr int MULTIPROCESSORS = 132, ROWS_A_THREAD = 4;
    /* Rounded down: a few blocks more than fit would run alone, after all others. */
    const int64_t lines = threads / grid.groups, most = MULTIPROCESSORS * waves / grid.tiles;
    int64_t blocks = (grid.rows + lines * ROWS_A_THREAD - 1) / (lines * ROWS_A_THREAD);
    blocks = blocks < most ? blocks : most;
    blocks = blocks < 1 ? 1 : blocks;
    grid.rows_a_block = (grid.rows + blocks - 1) / blocks;
    if (grid.rows_a_block < 1) grid.rows_a_block = 1;
    grid.row_blocks = static_cast<int>((grid.rows + grid.rows_a_block - 1) / grid.rows_a_block);
    if (grid.row_blocks < 1) grid.row_blocks = 1;
    return grid;
}

static inline ColumnGrid sum_grid(const Shape &shape) { return column_grid(shape, COLUMN_THREADS, 2); }

/* Eight neighbouring columns as they lie in memory. Of bfloat16 in words: a register has one or two, and
 * compilers would put single ones into one each. */
template <typename T> struct Eight;
template <> struct alignas(32) Eight<float> {
    float all[COLUMNS_A_THREAD];
    __device__ float element(int k) const { return all[k]; }
    __device__ void set(int k, float value) { all[k] = value; }
};
template <> struct alignas(16) Eight<Bfloat16> {
    uint32_t pair[COLUMNS_A_THREAD / 2];
    __device__ Bfloat16 element(int k) const
    {
        return Bfloat16{static_cast<uint16_t>(pair[k / 2] >> (k % 2 * 16))};
    }
    __device__ void set(int k, Bfloat16 value) /* once, of what was 0 */
    {
        pair[k / 2] |= static_cast<uint32_t>(value.bits) << (k % 2 * 16);
    }
};

/* From memory, absent ones 0, and back. PACKED: all are there, and aligned. */
template <bool PACKED, typename T> __device__ inline Eight<T> read_columns(const T *from, int present)
{
    if constexpr (PACKED) {
        return *reinterpret_cast<const Eight<T> *>(from);
    } else {
        Eight<T> eight = {};
        for (int k = 0; k < COLUMNS_A_THREAD; ++k)
            if (k < present) eight.set(k, from[k]);
        return eight;
    }
}

template <bool PACKED, typename T>
__device__ inline void write_columns(T *to, const Eight<T> &eight, int present)
{
    if constexpr (PACKED) {
        *reinterpret_cast<Eight<T> *>(to) = eight;
    } else {
        for (int k = 0; k < COLUMNS_A_THREAD; ++k)
            if (k < present) to[k] = eight.element(k);
    }
}

/* each(row, what read(row) gave, is it there?, lane) for this thread's rows from `first` up to `end`, in
 * order. N rows of all tensors, as they lie in memory, are asked for before the first is used: compilers move
 * no load up past the test for a loop's end or past a store. What is not there is the first row once more: a
 * sum adds 0 for it, since behind a branch its load would come late, too. meanwhile(): all threads call it
 * once, while the first rows are on their way. lane: grid.lane(), for ColumnConstants::get. */
template <int N, typename Read, typename Meanwhile, typename Each>
__device__ inline void each_row(const ColumnGrid &grid, int64_t first, int64_t end, const Read &read,
                                const Meanwhile &meanwhile, const Each &each)
{
    const unsigned int lines = static_cast<unsigned int>(grid.lines());
    decltype(read(first)) ahead[N] = {};
    const auto ask = [&] {
        for (unsigned int i = 0; i < N; ++i) {
            const int64_t row = first + i * lines;
            ahead[i] = read(row < end ? row : first);
        }
    };
    if (first < end) ask();
    meanwhile();
    while (first < end) {
        for (unsigned int i = 0; i < N; ++i) {
            const int64_t row = first + i * lines;
            /* No row is below 0, but compilers do not know: else they would read constants before the loop,
             * or once for all rows, and keep them, and registers would not suffice for the rows. */
            const int lane = grid.lane() + (row < 0 ? 1 : 0);
            each(row, ahead[i], i == 0 || row < end, lane);
        }
        first += N * lines;
        if (first < end) ask();
    }
}

/* N floats for each of the block's columns, in shared memory: worked out once a block, and in registers they
 * would take the place of rows in flight. */
template <int N> struct ColumnConstants {
    /* Four columns are read at once; eight threads with neighbouring columns read neighbouring places. */
    float4 value[N][2][COLUMN_TILE / COLUMNS_A_THREAD];

    /* at: which of the block's columns. */
    __device__ float &one(int n, int at)
    {
        return reinterpret_cast<float *>(&value[n][at / 4 % 2][at / COLUMNS_A_THREAD])[at % 4];
    }
    /* of(column, float[N]) gives them. All threads of the block must call it. */
    template <typename Of> __device__ void fill(const ColumnGrid &grid, const Of &of)
    {
        const int width = grid.groups * COLUMNS_A_THREAD, at = static_cast<int>(threadIdx.x);
        const int column = static_cast<int>(blockIdx.y) * width + at;
        if (at < width) {
            float own[N] = {};
            if (column < grid.columns) of(column, own);
            for (int n = 0; n < N; ++n)
                one(n, at) = own[n];
        }
        __syncthreads();
    }
    /* The n-th constants of this thread's columns 4 * half and the three after it. */
    __device__ void get(int n, int half, int lane, float constant[4]) const
    {
        const float4 four = value[n][half][lane];
        constant[0] = four.x;
        constant[1] = four.y;
        constant[2] = four.z;
        constant[3] = four.w;
    }
};

/* The last block's work: finish(column, sum over the blocks of what `read(block, column)` gives: two
 * doubles). */
template <typename Read, typename Finish>
__device__ void combine_blocks(const ColumnGrid &grid, const Read &read, const Finish &finish)
{
    __shared__ double shared[2][COLUMN_THREADS];
    const int width = grid.groups * COLUMNS_A_THREAD, slices = COLUMN_THREADS / width;
    const int at = static_cast<int>(threadIdx.x) % width, slice = static_cast<int>(threadIdx.x) / width;
    const int column = static_cast<int>(blockIdx.y) * width + at;
    double sum[2] = {0, 0};
    if (column < grid.columns)
        for (int b = slice; b < grid.row_blocks; b += slices) {
            double more[2];
            read(b, column, more);
            sum[0] += more[0];
            sum[1] += more[1];
        }
    shared[0][threadIdx.x] = sum[0];
    shared[1][threadIdx.x] = sum[1];
    __syncthreads();
    if (slice != 0 || column >= grid.columns) return;
    for (int other = 1; other < slices; ++other) {
        sum[0] += shared[0][other * width + at];
        sum[1] += shared[1][other * width + at];
    }
    finish(column, sum[0], sum[1]);
}

/* Sums of pairs. Source: trivially copyable, with
 *     enum { AT_ONCE };                                       rows that a thread asks for at once
 *     struct Columns {
 *         Columns(const Source &, const ColumnGrid &);
 *         int64_t end(int64_t row);                           `row`, or where its rows end before
 *         Row read(int64_t row);                              as it lies in memory
 *         void prepare(const ColumnGrid &);                   called once, by all threads
 *         void add(const Row &, bool there, int lane, float a[8], float b[8]);     adds a row's pairs
 *     };
 * as each_row has it. Finish: finish(column, double a, double b), for each column once. partial: scratch,
 * column_sums_bytes; done: grid.tiles zeroed counters that no other launch uses at the same time. */
template <typename Source, typename Finish>
__global__ void __launch_bounds__(COLUMN_THREADS, 2)
    column_sums_kernel(Source source, Finish finish, ColumnGrid grid, float *partial, unsigned int *done)
{
    __shared__ float shared[2][COLUMN_THREADS / WARP][COLUMN_TILE];
    const typename Source::Columns columns(source, grid);
    float a[COLUMNS_A_THREAD] = {}, b[COLUMNS_A_THREAD] = {};
    each_row<Source::AT_ONCE>(
        grid, grid.first_row() + grid.line(), grid.present() > 0 ? columns.end(grid.end_row()) : 0,
        [&](int64_t row) { return columns.read(row); }, [&] { columns.prepare(grid); },
        [&](int64_t, const auto &row, bool there, int lane) { columns.add(row, there, lane, a, b); });
    for (int offset = grid.groups; offset < WARP; offset *= 2)
        for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
            a[k] += __shfl_xor_sync(0xffffffffu, a[k], offset);
            b[k] += __shfl_xor_sync(0xffffffffu, b[k], offset);
        }
    const int thread = static_cast<int>(threadIdx.x);
    if (thread % WARP < grid.groups)
        for (int k = 0; k < COLUMNS_A_THREAD; ++k) {
            shared[0][thread / WARP][grid.lane() * COLUMNS_A_THREAD + k] = a[k];
            shared[1][thread / WARP][grid.lane() * COLUMNS_A_THREAD + k] = b[k];
        }
    __syncthreads();
    const int width = grid.groups * COLUMNS_A_THREAD, column = static_cast<int>(blockIdx.y) * width + thread;
    const int64_t all = static_cast<int64_t>(grid.row_blocks) * grid.columns;
    if (thread < width && column < grid.columns) {
        float sum = 0, other = 0;
        for (int warp = 0; warp < COLUMN_THREADS / WARP; ++warp) {
            sum += shared[0][warp][thread];
            other += shared[1][warp][thread];
        }
        float *place = partial + static_cast<int64_t>(blockIdx.x) * grid.columns + column;
        place[0] = sum;
        place[all] = other;
    }
    if (!is_last_block(done)) return;
    combine_blocks(
        grid,
        [=](int block, int at, double pair[2]) {
            const float *place = partial + static_cast<int64_t>(block) * grid.columns + at;
            pair[0] = static_cast<double>(place[0]);
            pair[1] = static_cast<double>(place[all]);
        },
        finish);
}

static inline size_t column_sums_bytes(const ColumnGrid &grid)
{
    return 2 * static_cast<size_t>(grid.row_blocks) * static_cast<size_t>(grid.columns) * sizeof(float);
}

/* ---- the counters, as a kernel's state ---- */

static inline Status column_counters(Call *call, const ColumnGrid &grid)
{
    return device_allocate(call->device, static_cast<size_t>(grid.tiles) * sizeof(unsigned int),
                           call->node->op->name, &call->state);
}

static inline void release_column_counters(Call *call)
{
    device_free(call->device, call->state);
    call->state = nullptr;
}

#endif
