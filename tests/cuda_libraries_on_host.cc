/* Where the headers of cuDNN and cuBLASLt are not at hand: what these libraries do on a GPU is done by the
 * CPU's kernels, so that whole networks still run on the other CUDA kernels. */
#include "tests/cuda_on_host.h"

extern "C" {
#include "engine/graph/op.h"
#include "engine/ops/conv.h"
#include "engine/ops/linear.h"
#include "engine/ops/onednn/onednn.h"
}

#include <cstdlib>

namespace
{

template <const Kernel *CPU> Status prepare_cpu(Call *call, size_t *scratch_bytes)
{
    return CPU->prepare(call, scratch_bytes);
}

template <const Kernel *CPU> Status run_cpu(const Call *call)
{
    const Call copy = *call;
    enqueue_on_host([copy] {
        if (CPU->run(&copy) != OK) std::abort();
    });
    return OK;
}

template <const Kernel *CPU> void release_cpu(Call *call) { CPU->release(call); }

template <const Kernel *CPU> constexpr Kernel as_cpu()
{
    return {prepare_cpu<CPU>, run_cpu<CPU>, release_cpu<CPU>, 0, 0, 0};
}

} // namespace

/* A product of cuBLASLt is one of oneDNN, with scratch memory of its own. Linear layers do not come here: no bias. */
struct CudaProduct {
    OneDnn *one;
    void *scratch;
};

extern "C" {
Status cuda_product_create(Device *, MatrixProduct wanted, CudaProduct **out, size_t *workspace)
{
    size_t bytes;
    auto *product = new CudaProduct{};
    const Status status = onednn_product(wanted, &product->one, &bytes);
    *workspace = 0;
    if (status != OK) {
        delete product;
        return status;
    }
    product->scratch = std::aligned_alloc(64, (bytes + 64) / 64 * 64);
    *out = product;
    return OK;
}

void cuda_product_free(CudaProduct *product)
{
    if (product == nullptr) return;
    onednn_free(product->one);
    std::free(product->scratch);
    delete product;
}

Status cuda_product_run(const CudaProduct *product, Device *, const void *a, const void *b, const float *,
                        void *out, void *)
{
    enqueue_on_host([=] {
        void *const tensors[] = {const_cast<void *>(a), const_cast<void *>(b), out};
        if (onednn_run(product->one, tensors, product->scratch) != OK) std::abort();
    });
    return OK;
}

const Kernel conv2d_cuda = as_cpu<&conv2d_cpu>();
const Kernel conv2d_backward_data_cuda = as_cpu<&conv2d_backward_data_cpu>();
const Kernel conv2d_backward_weights_cuda = as_cpu<&conv2d_backward_weights_cpu>();
const Kernel linear_cuda = as_cpu<&linear_cpu>();
const Kernel linear_backward_data_cuda = as_cpu<&linear_backward_data_cpu>();
const Kernel linear_backward_weights_cuda = as_cpu<&linear_backward_weights_cpu>();
}
