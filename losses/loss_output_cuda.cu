/* The output layer with its loss on CUDA: cuBLASLt multiplies, a block takes a row of logits as in the loss head. Which rows count
 * is known to the device alone, and a step is recorded: so all chunks are made, and rows of padding have gradients of 0. */
#include "losses/loss_rows_cuda.cuh"

extern "C" {
#include "engine/ops/elementwise.h"
#include "engine/ops/product.h"
#include "losses/loss_output.h"
}

#include <cstdlib>

namespace
{

/* Of logits of a chunk; products of fewer rows than LEAST_ROWS leave much of a GPU idle. */
constexpr int64_t CHUNK_BYTES = 256 << 20, LEAST_ROWS = 1024, MOST_ROWS = 8192;
constexpr int64_t WHOLE = 8; /* chunks are multiples of so many rows: each begins at a multiple of 16 bytes */
constexpr size_t LINE = 256;

struct Products {
    CudaProduct *logits, *d_hidden, *d_matrix;
};

struct State {
    int64_t chunk, tail; /* rows; tail: of the last chunk, where that is another number */
    Products whole, last;
    CudaProduct *first; /* d_matrix of the first chunk, which overwrites */
    size_t workspace;   /* of any of them */
};

/* Parts of the scratch memory. */
struct Parts {
    float *logits;  /* [chunk, K] */
    void *d_logits; /* [chunk, K], of hidden's type: the logits' memory, or its own */
    void *matrix;   /* [K, C] in BFLOAT16, if the plan does not give it rounded */
    void *workspace;
    size_t bytes;

    Parts(const Call *call, const State *state, const Layout &layout) : bytes(layout.bytes)
    {
        const int64_t width = call->in[OUTPUT_HIDDEN].shape.extent[1];
        const int64_t classes = call->in[OUTPUT_MATRIX].shape.extent[0];
        const bool narrow = call->in[OUTPUT_HIDDEN].shape.type == BFLOAT16;
        const auto take = [&](int64_t count, size_t size) {
            bytes = (bytes + LINE - 1) / LINE * LINE;
            void *at = static_cast<char *>(call->scratch) + bytes;
            bytes += static_cast<size_t>(count) * size;
            return at;
        };
        logits = static_cast<float *>(take(state->chunk * classes, sizeof(float)));
        d_logits = narrow ? take(state->chunk * classes, sizeof(Bfloat16)) : logits;
        matrix = narrow ? take(classes * width, sizeof(Bfloat16)) : nullptr;
        workspace = take(static_cast<int64_t>(state->workspace), 1);
    }
};

const LossOutput &output_of(const Call *call) { return *static_cast<const LossOutput *>(call->attributes); }

Layout layout_of(const Call *call)
{
    return Layout(call, &output_of(call).head, call->in[OUTPUT_HIDDEN].shape.extent[0]);
}

/* ---- preparing ---- */

void free_products(const Products &products)
{
    cuda_product_free(products.logits);
    cuda_product_free(products.d_hidden);
    cuda_product_free(products.d_matrix);
}

void release(Call *call)
{
    auto *state = static_cast<State *>(call->state);
    if (state == nullptr) return;
    free_products(state->whole);
    free_products(state->last);
    cuda_product_free(state->first);
    std::free(state);
    call->state = nullptr;
}

Status make_product(const Call *call, State *state, const MatrixProduct &product, CudaProduct **out)
{
    size_t bytes;
    TRY(cuda_product_create(call->device, product, out, &bytes));
    if (bytes > state->workspace) state->workspace = bytes;
    return OK;
}

/* The gradient of the matrix by so many rows. */
MatrixProduct matrix_product(const Call *call, int64_t rows, bool accumulate)
{
    MatrixProduct product = {};
    product.rows = call->in[OUTPUT_MATRIX].shape.extent[0];
    product.inner = rows;
    product.columns = call->in[OUTPUT_HIDDEN].shape.extent[1];
    product.a_turned = true;
    product.type = call->in[OUTPUT_HIDDEN].shape.type;
    product.out_type = FLOAT32;
    product.accumulate = accumulate;
    return product;
}

Status make_products(const Call *call, State *state, int64_t rows, bool accumulate, Products *products)
{
    const Shape hidden = call->in[OUTPUT_HIDDEN].shape, matrix = call->in[OUTPUT_MATRIX].shape;
    MatrixProduct logits = {}, d_hidden = {};
    logits.rows = d_hidden.rows = rows;
    logits.inner = d_hidden.columns = hidden.extent[1];
    logits.columns = d_hidden.inner = matrix.extent[0];
    logits.b_turned = true;
    logits.type = d_hidden.type = d_hidden.out_type = hidden.type;
    logits.out_type = FLOAT32;
    TRY(make_product(call, state, logits, &products->logits));
    if (call->wanted[OUTPUT_D_HIDDEN]) TRY(make_product(call, state, d_hidden, &products->d_hidden));
    if (!call->wanted[OUTPUT_D_MATRIX] || !accumulate) return OK;
    return make_product(call, state, matrix_product(call, rows, true), &products->d_matrix);
}

Status make_all(const Call *call, State *state)
{
    const int64_t samples = call->in[OUTPUT_HIDDEN].shape.extent[0];
    const bool several = samples > state->chunk;
    TRY(make_products(call, state, state->chunk, several, &state->whole));
    if (state->tail > 0) TRY(make_products(call, state, state->tail, true, &state->last));
    if (!call->wanted[OUTPUT_D_MATRIX]) return OK;
    return make_product(call, state, matrix_product(call, state->chunk, false), &state->first);
}

Status prepare(Call *call, size_t *scratch_bytes)
{
    const int64_t samples = call->in[OUTPUT_HIDDEN].shape.extent[0];
    const int64_t classes = call->in[OUTPUT_MATRIX].shape.extent[0];
    auto *state = static_cast<State *>(std::calloc(1, sizeof(State)));
    if (state == nullptr) return fail(STATUS_MEMORY, "no memory for an output layer");
    call->state = state;
    const int64_t rows =
        loss_output_chunk(&output_of(call), samples, classes, CHUNK_BYTES, LEAST_ROWS, MOST_ROWS);
    const int64_t rounded = (rows + WHOLE - 1) / WHOLE * WHOLE;
    state->chunk = rounded < samples ? rounded : samples;
    state->tail = samples % state->chunk;
    const Status status = make_all(call, state);
    if (status != OK) {
        release(call);
        return status;
    }
    *scratch_bytes = Parts(call, state, layout_of(call)).bytes;
    return OK;
}

/* ---- running ---- */

__global__ void sums_kernel(const double *losses, const float *weight, const float *correct, int64_t samples,
                            double *sums)
{
    add_up(losses, weight, correct, samples, sums);
}

/* The matrix in hidden's type. */
Status type_matrix(const Call *call, const Parts &parts, const void **matrix)
{
    const Tensor &given = call->in[OUTPUT_MATRIX];
    *matrix = given.data;
    if (parts.matrix == nullptr) return OK;
    *matrix = given.rounded != nullptr ? given.rounded : parts.matrix;
    if (given.rounded != nullptr) return OK;
    return to_bfloat16_cuda(call->device, static_cast<const float *>(given.data), parts.matrix,
                            shape_count(given.shape));
}

/* Row `first` of a tensor. */
void *row_of(const Tensor &tensor, int64_t first)
{
    const int64_t at = first * shape_columns(tensor.shape);
    return static_cast<char *>(tensor.data) + static_cast<size_t>(at) * dtype_size(tensor.shape.type);
}

/* One chunk of all that `a` says. */
template <typename T>
Status take_chunk(const Call *call, const Parts &parts, const void *matrix, Arguments<T> a, int64_t first,
                  int64_t rows, bool with_gradient)
{
    const auto *state = static_cast<const State *>(call->state);
    const Products &products = rows == state->chunk ? state->whole : state->last;
    const Stream stream = device_stream(call->device);
    Device *device = call->device;
    const void *hidden = row_of(call->in[OUTPUT_HIDDEN], first);
    TRY(cuda_product_run(products.logits, device, hidden, matrix, nullptr, parts.logits, parts.workspace));
    a.samples = rows;
    a.weight += first;
    a.target += first;
    a.confidence += first;
    a.correct += first;
    a.losses += first;
    if (a.judged != nullptr) a.judged += first;
    if (a.own != nullptr) a.own += first;
    if (a.pairs != nullptr) a.pairs += first;
    a.gradient = with_gradient ? static_cast<T *>(parts.d_logits) : nullptr;
    TRY(launch("loss_output", rows_kernel<T>, blocks_for(rows, 1), row_threads(a.classes), 0, stream, a,
               output_of(call).head));
    if (!with_gradient) return OK;
    if (call->wanted[OUTPUT_D_MATRIX])
        TRY(cuda_product_run(first == 0 ? state->first : products.d_matrix, device, parts.d_logits, hidden,
                             nullptr, call->out[OUTPUT_D_MATRIX].data, parts.workspace));
    if (!call->wanted[OUTPUT_D_HIDDEN]) return OK;
    return cuda_product_run(products.d_hidden, device, parts.d_logits, matrix, nullptr,
                            row_of(call->out[OUTPUT_D_HIDDEN], first), parts.workspace);
}

template <typename T>
Status sweep(const Call *call, const Parts &parts, const void *matrix, const Arguments<T> &a,
             bool with_gradient)
{
    const int64_t chunk = static_cast<const State *>(call->state)->chunk;
    for (int64_t first = 0; first < a.samples; first += chunk) {
        const int64_t left = a.samples - first;
        TRY(take_chunk(call, parts, matrix, a, first, left < chunk ? left : chunk, with_gradient));
    }
    return OK;
}

template <typename T> Status run_typed(const Call *call)
{
    const LossHead &head = output_of(call).head;
    const Layout layout = layout_of(call);
    const Parts parts(call, static_cast<const State *>(call->state), layout);
    const bool with_gradient = call->wanted[OUTPUT_D_HIDDEN] || call->wanted[OUTPUT_D_MATRIX];
    const bool penalty = head.penalty != PENALTY_NONE;
    auto *sums = static_cast<double *>(call->out[OUTPUT_SUMS].data);
    const void *matrix;
    TRY(type_matrix(call, parts, &matrix));
    Arguments<T> a = {};
    a.logits = parts.logits;
    a.weight = static_cast<const float *>(call->in[OUTPUT_WEIGHT].data);
    a.target = static_cast<const int32_t *>(call->in[OUTPUT_TARGET].data);
    a.clock = head.gamma.by_epoch ? static_cast<const int64_t *>(call->in[OUTPUT_CLOCK].data) : nullptr;
    a.samples = call->in[OUTPUT_HIDDEN].shape.extent[0];
    a.classes = call->in[OUTPUT_MATRIX].shape.extent[0];
    a.confidence = static_cast<float *>(call->out[OUTPUT_CONFIDENCE].data);
    a.correct = static_cast<float *>(call->out[OUTPUT_CORRECT].data);
    a.losses = layout.losses;
    a.judged = penalty ? layout.mine : nullptr;
    TRY(sweep(call, parts, matrix, a, with_gradient && !penalty));
    TRY(launch("loss_output", sums_kernel, 1, MANY_THREADS, 0, device_stream(call->device), a.losses,
               a.weight, a.correct, a.samples, sums));
    if (!penalty) return OK;
    TRY(add_penalty(call, head, layout, a.samples, sums));
    if (!with_gradient) return OK;
    with_penalty(&a, call, layout, a.samples);
    return sweep(call, parts, matrix, a, true);
}

Status run(const Call *call)
{
    return call->in[OUTPUT_HIDDEN].shape.type == BFLOAT16 ? run_typed<Bfloat16>(call)
                                                          : run_typed<float>(call);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel loss_output_cuda = {prepare, run, release, 0, 0, 0, nullptr};
