/* tree_lstm on CUDA: a launch a level, two in backward (tree_lstm.h says why). Blocks read from device memory where their level
 * begins and ends, and those that find nothing to do end. Cells, gates and their gradients are dense: [node][unit] and
 * [node][gate][unit]. */
#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/ops/tree_lstm.h"
}

namespace
{

/* A block makes a tile: NODES rows by WIDE columns (a column a lane); a thread has some of the rows. CHUNK: of the sum. */
constexpr int WIDE = 32, CHUNK = 32, ROWS_A_THREAD = 4, NODES = 16, THREADS = WIDE * NODES / ROWS_A_THREAD;
constexpr int MOST_TILES = 256; /* of a launch; blocks loop */

struct Batch {
    const int32_t *children, *levels;
    int64_t leaf_capacity, rows, width, memory;
    int last_level, parts, gates, part[TREE_LEAF_PARTS];
    bool leaf_output, leaf_input, output;

    __device__ int64_t leaves() const { return levels[0]; }
    __device__ int64_t nodes() const { return levels[last_level]; }
    __device__ int64_t first(int level) const { return level == 0 ? 0 : levels[level - 1]; }
    __device__ int64_t end(int level) const { return levels[level]; }
    __device__ int64_t child(int64_t node, int side) const { return children[2 * (node - leaves()) + side]; }
};

/* Of leaf parts or gates: what belongs to the left child (a leaf: to its vector), and to the right one. */
struct Parameters {
    const float *weight[2][TREE_GATES], *bias[2][TREE_GATES];
};

Batch batch_of(const Call *call, const Tensor in[])
{
    const auto *a = static_cast<const TreeLstmAttributes *>(call->attributes);
    Batch b = {};
    b.children = static_cast<const int32_t *>(in[TREE_LSTM_CHILDREN].data);
    b.levels = static_cast<const int32_t *>(in[TREE_LSTM_LEVELS].data);
    b.leaf_capacity = in[TREE_LSTM_X].shape.extent[0];
    b.rows = b.leaf_capacity + in[TREE_LSTM_CHILDREN].shape.extent[0];
    b.width = in[TREE_LSTM_X].shape.extent[1];
    b.memory = in[TREE_LSTM_LEAF_WEIGHT].shape.extent[0];
    b.last_level = static_cast<int>(in[TREE_LSTM_LEVELS].shape.extent[0]) - 1;
    b.gates = tree_lstm_gates(a);
    for (int i = 0; i < TREE_LEAF_PARTS; ++i)
        if (a->leaf_part[i]) b.part[b.parts++] = i;
    b.leaf_output = a->leaf_part[TREE_LEAF_OUTPUT];
    b.leaf_input = a->leaf_part[TREE_LEAF_INPUT];
    b.output = a->output_gate;
    return b;
}

const float *floats(const Tensor &tensor) { return static_cast<const float *>(tensor.data); }

Parameters leaf_parameters(const Batch &b, const Tensor in[], bool biases)
{
    Parameters p = {};
    for (int i = 0; i < b.parts; ++i) {
        p.weight[0][i] = floats(in[TREE_LSTM_LEAF_WEIGHT + b.part[i]]);
        if (biases) p.bias[0][i] = floats(in[TREE_LSTM_LEAF_BIAS + b.part[i]]);
    }
    return p;
}

Parameters gate_parameters(const Batch &b, const Tensor in[], bool biases)
{
    Parameters p = {};
    for (int g = 0; g < b.gates; ++g) {
        p.weight[0][g] = floats(in[TREE_LSTM_LEFT_WEIGHT + g]);
        p.weight[1][g] = floats(in[TREE_LSTM_RIGHT_WEIGHT + g]);
        if (!biases) continue;
        p.bias[0][g] = floats(in[TREE_LSTM_LEFT_BIAS + g]);
        p.bias[1][g] = floats(in[TREE_LSTM_RIGHT_BIAS + g]);
    }
    return p;
}

unsigned int tiles_of(int64_t count, int64_t tile)
{
    const int64_t tiles = (count + tile - 1) / tile;
    return static_cast<unsigned int>(tiles < 1 ? 1 : tiles < MOST_TILES ? tiles : MOST_TILES);
}

__device__ float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

/* What the compute type holds of a weight. */
template <typename T> __device__ float rounded(float weight) { return to_float(from_float<T>(weight)); }

/* ---- forward ---- */

/* sum[i][slot] += row(node) . weight[slot][unit], for the nodes and the unit of this thread. row(n): where row n of the tile
 * lies, or NULL. All threads of the block call it. */
template <typename T, typename Row>
__device__ void add_products(float sum[ROWS_A_THREAD][TREE_GATES], const Row &row,
                             const float *const weight[], int slots, int64_t columns, int64_t first_unit,
                             int64_t memory)
{
    __shared__ float rows[NODES][CHUNK], weights[TREE_GATES][WIDE][CHUNK + 1];
    const int thread = static_cast<int>(threadIdx.x), lane = thread % WIDE, line = thread / WIDE;
    for (int64_t k = 0; k < columns; k += CHUNK) {
        __syncthreads();
        for (int i = thread; i < NODES * CHUNK; i += THREADS) {
            const T *from = row(i / CHUNK);
            const int64_t column = k + i % CHUNK;
            rows[i / CHUNK][i % CHUNK] = from != nullptr && column < columns ? to_float(from[column]) : 0;
        }
        for (int slot = 0; slot < slots; ++slot)
            for (int i = thread; i < WIDE * CHUNK; i += THREADS) {
                const int64_t unit = first_unit + i / CHUNK, column = k + i % CHUNK;
                const bool there = unit < memory && column < columns;
                weights[slot][i / CHUNK][i % CHUNK] =
                    there ? rounded<T>(weight[slot][unit * columns + column]) : 0;
            }
        __syncthreads();
        for (int c = 0; c < CHUNK; ++c)
            for (int slot = 0; slot < TREE_GATES; ++slot) {
                if (slot >= slots) continue;
                const float w = weights[slot][lane][c];
                for (int i = 0; i < ROWS_A_THREAD; ++i)
                    sum[i][slot] += rows[line * ROWS_A_THREAD + i][c] * w;
            }
    }
}

struct Saved {
    float *cells, *gates;
};

/* From sums to c and h: of a leaf. */
__device__ float finish_leaf(const Batch &b, const float sum[], float gate[], float *cell)
{
    float part[TREE_LEAF_PARTS] = {};
    for (int i = 0; i < TREE_LEAF_PARTS; ++i)
        if (i < b.parts) part[b.part[i]] = sum[i];
    if (b.leaf_input) {
        part[TREE_LEAF_CELL] = tanhf(part[TREE_LEAF_CELL]);
        part[TREE_LEAF_INPUT] = logistic(part[TREE_LEAF_INPUT]);
    }
    if (b.leaf_output) part[TREE_LEAF_OUTPUT] = logistic(part[TREE_LEAF_OUTPUT]);
    for (int i = 0; i < TREE_LEAF_PARTS; ++i)
        if (i < b.parts) gate[i] = part[b.part[i]];
    *cell = b.leaf_input ? part[TREE_LEAF_CELL] * part[TREE_LEAF_INPUT] : part[TREE_LEAF_CELL];
    return b.leaf_output ? part[TREE_LEAF_OUTPUT] * tanhf(*cell) : tanhf(*cell);
}

/* The same of an inner node. */
__device__ float finish_inner(const Batch &b, const float sum[], float left, float right, float gate[],
                              float *cell)
{
    for (int g = 0; g < TREE_GATES; ++g)
        if (g < b.gates) gate[g] = g == TREE_GATE_UPDATE ? tanhf(sum[g]) : logistic(sum[g]);
    *cell = gate[TREE_GATE_INPUT] * gate[TREE_GATE_UPDATE] + gate[TREE_GATE_LEFT_FORGET] * left +
            gate[TREE_GATE_RIGHT_FORGET] * right;
    return b.output ? gate[TREE_GATE_OUTPUT] * tanhf(*cell) : tanhf(*cell);
}

/* One level; 0: the leaves. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(Batch b, Parameters p, int level, const T *x, T *h, Saved saved)
{
    const int line = static_cast<int>(threadIdx.x) / WIDE;
    const int64_t first_unit = static_cast<int64_t>(blockIdx.x) * WIDE,
                  unit = first_unit + threadIdx.x % WIDE;
    const int slots = level == 0 ? b.parts : b.gates;
    const int64_t end = b.end(level);
    for (int64_t tile = b.first(level) + static_cast<int64_t>(blockIdx.y) * NODES; tile < end;
         tile += static_cast<int64_t>(gridDim.y) * NODES) {
        float sum[ROWS_A_THREAD][TREE_GATES] = {};
        if (level == 0) {
            add_products<T>(
                sum, [&](int n) { return tile + n < end ? x + (tile + n) * b.width : nullptr; }, p.weight[0],
                slots, b.width, first_unit, b.memory);
        } else {
            for (int side = 0; side < 2; ++side)
                add_products<T>(
                    sum,
                    [&](int n) { return tile + n < end ? h + b.child(tile + n, side) * b.memory : nullptr; },
                    p.weight[side], slots, b.memory, first_unit, b.memory);
        }
        for (int i = 0; i < ROWS_A_THREAD; ++i) {
            const int64_t node = tile + line * ROWS_A_THREAD + i;
            if (node >= end || unit >= b.memory) continue;
            float cell, gate[TREE_GATES] = {};
            for (int slot = 0; slot < TREE_GATES; ++slot)
                for (int side = 0; side < 2 && slot < slots; ++side)
                    if (p.bias[side][slot] != nullptr) sum[i][slot] += p.bias[side][slot][unit];
            const float result =
                level == 0 ? finish_leaf(b, sum[i], gate, &cell)
                           : finish_inner(b, sum[i], saved.cells[b.child(node, 0) * b.memory + unit],
                                          saved.cells[b.child(node, 1) * b.memory + unit], gate, &cell);
            h[node * b.memory + unit] = from_float<T>(result);
            saved.cells[node * b.memory + unit] = cell;
            for (int slot = 0; slot < TREE_GATES && saved.gates != nullptr; ++slot)
                if (slot < slots) saved.gates[(node * b.gates + slot) * b.memory + unit] = gate[slot];
        }
    }
}

template <typename T> __global__ void clear_kernel(Batch b, T *h)
{
    const int64_t end = b.rows * b.memory;
    for (int64_t i = b.nodes() * b.memory + grid_thread(); i < end; i += grid_threads())
        h[i] = from_float<T>(0);
}

constexpr int PLAIN_THREADS = 256;

template <typename T> Status forward_typed(const Call *call)
{
    const Stream stream = device_stream(call->device);
    const Batch b = batch_of(call, call->in);
    T *h = static_cast<T *>(call->out[TREE_LSTM_H].data);
    const auto *x = static_cast<const T *>(call->in[TREE_LSTM_X].data);
    const Saved saved = {static_cast<float *>(call->out[TREE_LSTM_CELLS].data),
                         call->wanted[TREE_LSTM_GATES] ? static_cast<float *>(call->out[TREE_LSTM_GATES].data)
                                                       : nullptr};
    TRY(launch("tree_lstm", clear_kernel<T>, blocks_for(b.rows * b.memory, PLAIN_THREADS), PLAIN_THREADS, 0,
               stream, b, h));
    for (int level = 0; level <= b.last_level; ++level) {
        const int64_t most = level == 0 ? b.leaf_capacity : b.rows - b.leaf_capacity;
        const dim3 blocks(static_cast<unsigned int>((b.memory + WIDE - 1) / WIDE), tiles_of(most, NODES));
        const Parameters p =
            level == 0 ? leaf_parameters(b, call->in, true) : gate_parameters(b, call->in, true);
        TRY(launch("tree_lstm", forward_kernel<T>, blocks, THREADS, 0, stream, b, p, level, x, h, saved));
    }
    return OK;
}

Status forward_run(const Call *call)
{
    return call->in[TREE_LSTM_X].shape.type == BFLOAT16 ? forward_typed<Bfloat16>(call)
                                                        : forward_typed<float>(call);
}

/* ---- backward ---- */

/* Gradients: of h, of c, of what s and tanh were given. */
struct Gradients {
    float *h, *c, *gates;
};

template <typename T> __global__ void begin_kernel(Batch b, const T *dh, Gradients d)
{
    const int64_t end = b.nodes() * b.memory;
    for (int64_t i = grid_thread(); i < end; i += grid_threads()) {
        d.h[i] = to_float(dh[i]);
        d.c[i] = 0;
    }
}

/* One level's gates, and its children's cells. */
__global__ void gates_kernel(Batch b, int level, Saved saved, Gradients d)
{
    const int64_t first = b.first(level), count = (b.end(level) - first) * b.memory;
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const int64_t node = first + i / b.memory, unit = i % b.memory, at = node * b.memory + unit;
        const float *gate = saved.gates + node * b.gates * b.memory + unit;
        float *to = d.gates + node * b.gates * b.memory + unit;
        const float t = tanhf(saved.cells[at]), dh = d.h[at];
        if (level == 0) {
            float part[TREE_LEAF_PARTS] = {}, gradient[TREE_LEAF_PARTS] = {};
            for (int slot = 0; slot < TREE_LEAF_PARTS; ++slot)
                if (slot < b.parts) part[b.part[slot]] = gate[slot * b.memory];
            const float o = b.leaf_output ? part[TREE_LEAF_OUTPUT] : 1, dc = d.c[at] + dh * o * (1 - t * t);
            const float input = part[TREE_LEAF_INPUT], update = part[TREE_LEAF_CELL];
            gradient[TREE_LEAF_CELL] = b.leaf_input ? dc * input * (1 - update * update) : dc;
            gradient[TREE_LEAF_INPUT] = dc * update * input * (1 - input);
            gradient[TREE_LEAF_OUTPUT] = dh * t * o * (1 - o);
            for (int slot = 0; slot < TREE_LEAF_PARTS; ++slot)
                if (slot < b.parts) to[slot * b.memory] = gradient[b.part[slot]];
            continue;
        }
        const int64_t left = b.child(node, 0) * b.memory + unit, right = b.child(node, 1) * b.memory + unit;
        const float input = gate[TREE_GATE_INPUT * b.memory], update = gate[TREE_GATE_UPDATE * b.memory];
        const float keep_left = gate[TREE_GATE_LEFT_FORGET * b.memory],
                    keep_right = gate[TREE_GATE_RIGHT_FORGET * b.memory];
        const float o = b.output ? gate[TREE_GATE_OUTPUT * b.memory] : 1, dc = d.c[at] + dh * o * (1 - t * t);
        to[TREE_GATE_INPUT * b.memory] = dc * update * input * (1 - input);
        to[TREE_GATE_LEFT_FORGET * b.memory] = dc * saved.cells[left] * keep_left * (1 - keep_left);
        to[TREE_GATE_RIGHT_FORGET * b.memory] = dc * saved.cells[right] * keep_right * (1 - keep_right);
        to[TREE_GATE_UPDATE * b.memory] = dc * input * (1 - update * update);
        if (b.output) to[TREE_GATE_OUTPUT * b.memory] = dh * t * o * (1 - o);
        d.c[left] = dc * keep_left;
        d.c[right] = dc * keep_right;
    }
}

/* sum over slots and units of gradient[node][slot][unit] * weight[slot][unit][column], for the nodes and the column of this
 * thread: the gradient of what the level's products read. All threads of the block call it. */
template <typename T>
__device__ void data_tile(const Batch &b, const float *gates, const float *const weight[], int slots,
                          int64_t tile, int64_t end, int64_t columns, int64_t column,
                          float sum[ROWS_A_THREAD])
{
    __shared__ float rows[NODES][CHUNK], weights[CHUNK][WIDE];
    const int thread = static_cast<int>(threadIdx.x), lane = thread % WIDE, line = thread / WIDE;
    for (int slot = 0; slot < slots; ++slot)
        for (int64_t first = 0; first < b.memory; first += CHUNK) {
            __syncthreads();
            for (int i = thread; i < NODES * CHUNK; i += THREADS) {
                const int64_t node = tile + i / CHUNK, unit = first + i % CHUNK;
                rows[i / CHUNK][i % CHUNK] =
                    node < end && unit < b.memory ? gates[(node * b.gates + slot) * b.memory + unit] : 0;
            }
            for (int i = line; i < CHUNK; i += THREADS / WIDE) {
                const int64_t unit = first + i;
                weights[i][lane] = unit < b.memory && column < columns
                                       ? rounded<T>(weight[slot][unit * columns + column])
                                       : 0;
            }
            __syncthreads();
            for (int c = 0; c < CHUNK; ++c) {
                const float w = weights[c][lane];
                for (int i = 0; i < ROWS_A_THREAD; ++i)
                    sum[i] += rows[line * ROWS_A_THREAD + i][c] * w;
            }
        }
}

/* The children's h of a level; blockIdx.z: which child. A node has one parent, so nobody else adds to it. */
template <typename T>
__global__ void __launch_bounds__(THREADS) children_kernel(Batch b, Parameters p, int level, Gradients d)
{
    const int line = static_cast<int>(threadIdx.x) / WIDE, side = static_cast<int>(blockIdx.z);
    const int64_t column = static_cast<int64_t>(blockIdx.x) * WIDE + threadIdx.x % WIDE, end = b.end(level);
    for (int64_t tile = b.first(level) + static_cast<int64_t>(blockIdx.y) * NODES; tile < end;
         tile += static_cast<int64_t>(gridDim.y) * NODES) {
        float sum[ROWS_A_THREAD] = {};
        data_tile<T>(b, d.gates, p.weight[side], b.gates, tile, end, b.memory, column, sum);
        for (int i = 0; i < ROWS_A_THREAD; ++i) {
            const int64_t node = tile + line * ROWS_A_THREAD + i;
            if (node < end && column < b.memory) d.h[b.child(node, side) * b.memory + column] += sum[i];
        }
    }
}

/* The leaves' vectors; 0 in rows of no leaf. */
template <typename T>
__global__ void __launch_bounds__(THREADS) x_kernel(Batch b, Parameters p, Gradients d, T *dx)
{
    const int line = static_cast<int>(threadIdx.x) / WIDE;
    const int64_t column = static_cast<int64_t>(blockIdx.x) * WIDE + threadIdx.x % WIDE, end = b.leaves();
    for (int64_t tile = static_cast<int64_t>(blockIdx.y) * NODES; tile < b.leaf_capacity;
         tile += static_cast<int64_t>(gridDim.y) * NODES) {
        float sum[ROWS_A_THREAD] = {};
        if (tile < end) data_tile<T>(b, d.gates, p.weight[0], b.parts, tile, end, b.width, column, sum);
        for (int i = 0; i < ROWS_A_THREAD; ++i) {
            const int64_t node = tile + line * ROWS_A_THREAD + i;
            if (node < b.leaf_capacity && column < b.width)
                dx[node * b.width + column] = from_float<T>(sum[i]);
        }
    }
}

/* Gradients of all parameters, NULL where not wanted: of leaf parts, of the left and of the right weights. */
struct ParameterGradients {
    float *weight[3][TREE_GATES], *bias[3][TREE_GATES];
};

/* d_weight[unit][column] = sum over nodes of gradient[node][unit] * source[node][column], a tile of UNITS x WIDE a block;
 * blockIdx.z: which matrix. The blocks of the first columns sum the bias, too. */
constexpr int UNITS = 32, UNITS_A_THREAD = 4, WEIGHT_THREADS = UNITS / UNITS_A_THREAD * WIDE;

template <typename T>
__global__ void __launch_bounds__(WEIGHT_THREADS)
    weights_kernel(Batch b, const T *x, const T *h, Gradients d, ParameterGradients to)
{
    __shared__ float gradients[CHUNK][UNITS], sources[CHUNK][WIDE];
    const int matrix = static_cast<int>(blockIdx.z), thread = static_cast<int>(threadIdx.x);
    const int lane = thread % WIDE, line = thread / WIDE;
    const int which = matrix < b.parts ? 0 : 1 + (matrix - b.parts) / b.gates;
    const int slot = matrix < b.parts ? matrix : (matrix - b.parts) % b.gates;
    const int64_t columns = which == 0 ? b.width : b.memory,
                  column = static_cast<int64_t>(blockIdx.x) * WIDE + lane;
    const int64_t first_unit = static_cast<int64_t>(blockIdx.y) * UNITS;
    if (static_cast<int64_t>(blockIdx.x) * WIDE >= columns) return;
    const int64_t first = which == 0 ? 0 : b.leaves(), end = which == 0 ? b.leaves() : b.nodes();
    float sum[UNITS_A_THREAD] = {}, bias = 0;
    for (int64_t node = first; node < end; node += CHUNK) {
        __syncthreads();
        for (int i = line; i < CHUNK; i += WEIGHT_THREADS / WIDE) {
            const bool there = node + i < end;
            const int64_t unit = first_unit + lane;
            gradients[i][lane] =
                there && unit < b.memory ? d.gates[((node + i) * b.gates + slot) * b.memory + unit] : 0;
            const T *from = !there       ? nullptr
                            : which == 0 ? x + (node + i) * b.width
                                         : h + b.child(node + i, which - 1) * b.memory;
            sources[i][lane] = there && column < columns ? to_float(from[column]) : 0;
        }
        __syncthreads();
        for (int i = 0; i < CHUNK; ++i) {
            for (int u = 0; u < UNITS_A_THREAD; ++u)
                sum[u] += gradients[i][line * UNITS_A_THREAD + u] * sources[i][lane];
            if (line == 0) bias += gradients[i][lane];
        }
    }
    for (int u = 0; u < UNITS_A_THREAD; ++u) {
        const int64_t unit = first_unit + line * UNITS_A_THREAD + u;
        if (to.weight[which][slot] != nullptr && unit < b.memory && column < columns)
            to.weight[which][slot][unit * columns + column] = sum[u];
    }
    if (line == 0 && blockIdx.x == 0 && to.bias[which][slot] != nullptr && first_unit + lane < b.memory)
        to.bias[which][slot][first_unit + lane] = bias;
}

size_t floats_aligned(int64_t count) { return (static_cast<size_t>(count) + 63) / 64 * 64; }

Gradients gradients_of(const Batch &b, void *scratch, size_t *bytes)
{
    const size_t states = floats_aligned(b.rows * b.memory),
                 gates = floats_aligned(b.rows * b.memory * b.gates);
    *bytes = (2 * states + gates) * sizeof(float);
    auto *at = static_cast<float *>(scratch);
    return scratch == nullptr ? Gradients{} : Gradients{at, at + states, at + 2 * states};
}

Status backward_prepare(Call *call, size_t *scratch_bytes)
{
    (void)gradients_of(batch_of(call, call->in + TREE_LSTM_BACKWARD_FORWARD), nullptr, scratch_bytes);
    return OK;
}

float *parameter_gradient(const Call *call, int input)
{
    const int output = TREE_LSTM_BACKWARD_PARAMETERS + input - TREE_LSTM_FIRST_PARAMETER;
    const bool there = call->wanted[output] && call->out[output].shape.rank > 0;
    return there ? static_cast<float *>(call->out[output].data) : nullptr;
}

ParameterGradients parameter_gradients(const Call *call, const Batch &b)
{
    ParameterGradients to = {};
    for (int i = 0; i < b.parts; ++i) {
        to.weight[0][i] = parameter_gradient(call, TREE_LSTM_LEAF_WEIGHT + b.part[i]);
        to.bias[0][i] = parameter_gradient(call, TREE_LSTM_LEAF_BIAS + b.part[i]);
    }
    for (int g = 0; g < b.gates; ++g) {
        to.weight[1][g] = parameter_gradient(call, TREE_LSTM_LEFT_WEIGHT + g);
        to.weight[2][g] = parameter_gradient(call, TREE_LSTM_RIGHT_WEIGHT + g);
        to.bias[1][g] = parameter_gradient(call, TREE_LSTM_LEFT_BIAS + g);
        to.bias[2][g] = parameter_gradient(call, TREE_LSTM_RIGHT_BIAS + g);
    }
    return to;
}

template <typename T> Status backward_typed(const Call *call)
{
    const char *const name = "tree_lstm_backward";
    const Stream stream = device_stream(call->device);
    const Tensor *in = call->in + TREE_LSTM_BACKWARD_FORWARD;
    const Batch b = batch_of(call, in);
    size_t bytes;
    const Gradients d = gradients_of(b, call->scratch, &bytes);
    const auto *x = static_cast<const T *>(in[TREE_LSTM_X].data);
    const auto *h = static_cast<const T *>(call->in[TREE_LSTM_BACKWARD_H].data);
    const auto *dh = static_cast<const T *>(call->in[TREE_LSTM_BACKWARD_DH].data);
    const Saved saved = {static_cast<float *>(call->in[TREE_LSTM_BACKWARD_CELLS].data),
                         static_cast<float *>(call->in[TREE_LSTM_BACKWARD_GATES].data)};
    const int64_t inner = b.rows - b.leaf_capacity;
    const auto unit_tiles = static_cast<unsigned int>((b.memory + WIDE - 1) / WIDE);
    TRY(launch(name, begin_kernel<T>, blocks_for(b.rows * b.memory, PLAIN_THREADS), PLAIN_THREADS, 0, stream,
               b, dh, d));
    for (int level = b.last_level; level > 0; --level) {
        TRY(launch(name, gates_kernel, blocks_for(inner * b.memory, PLAIN_THREADS), PLAIN_THREADS, 0, stream,
                   b, level, saved, d));
        TRY(launch(name, children_kernel<T>, dim3(unit_tiles, tiles_of(inner, NODES), 2), THREADS, 0, stream,
                   b, gate_parameters(b, in, false), level, d));
    }
    TRY(launch(name, gates_kernel, blocks_for(b.leaf_capacity * b.memory, PLAIN_THREADS), PLAIN_THREADS, 0,
               stream, b, 0, saved, d));
    const auto x_tiles = static_cast<unsigned int>((b.width + WIDE - 1) / WIDE);
    if (call->wanted[TREE_LSTM_BACKWARD_DX])
        TRY(launch(name, x_kernel<T>, dim3(x_tiles, tiles_of(b.leaf_capacity, NODES)), THREADS, 0, stream, b,
                   leaf_parameters(b, in, false), d,
                   static_cast<T *>(call->out[TREE_LSTM_BACKWARD_DX].data)));
    const dim3 blocks(x_tiles > unit_tiles ? x_tiles : unit_tiles, unit_tiles,
                      static_cast<unsigned int>(b.parts + 2 * b.gates));
    return launch(name, weights_kernel<T>, blocks, WEIGHT_THREADS, 0, stream, b, x, h, d,
                  parameter_gradients(call, b));
}

Status backward_run(const Call *call)
{
    return call->in[TREE_LSTM_BACKWARD_DH].shape.type == BFLOAT16 ? backward_typed<Bfloat16>(call)
                                                                  : backward_typed<float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel tree_lstm_cuda = {nullptr, forward_run, nullptr, 0, 0, 0, nullptr};
const Kernel tree_lstm_backward_cuda = {backward_prepare, backward_run, nullptr, 0, 0, 0, nullptr};
