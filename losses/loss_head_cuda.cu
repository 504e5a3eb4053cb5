/* The loss head on CUDA. The block that finishes last adds the samples' losses. */
#include "losses/loss_rows_cuda.cuh"

namespace
{

Layout layout_of(const Call *call)
{
    return Layout(call, static_cast<const LossHead *>(call->attributes),
                  call->in[HEAD_LOGITS].shape.extent[0]);
}

Status prepare(Call *call, size_t *scratch_bytes)
{
    *scratch_bytes = layout_of(call).bytes;
    return device_allocate(call->device, sizeof(unsigned int), "the loss", &call->state);
}

void release(Call *call)
{
    device_free(call->device, call->state);
    call->state = nullptr;
}

Status run(const Call *call)
{
    const auto &head = *static_cast<const LossHead *>(call->attributes);
    const Layout layout = layout_of(call);
    const Stream stream = device_stream(call->device);
    Arguments<float> a = {};
    a.logits = static_cast<const float *>(call->in[HEAD_LOGITS].data);
    a.weight = static_cast<const float *>(call->in[HEAD_WEIGHT].data);
    a.target = static_cast<const int32_t *>(call->in[HEAD_TARGET].data);
    a.clock = head.gamma.by_epoch ? static_cast<const int64_t *>(call->in[HEAD_CLOCK].data) : nullptr;
    a.samples = call->in[HEAD_LOGITS].shape.extent[0];
    a.classes = call->in[HEAD_LOGITS].shape.extent[1];
    a.confidence = static_cast<float *>(call->out[HEAD_CONFIDENCE].data);
    a.correct = static_cast<float *>(call->out[HEAD_CORRECT].data);
    a.sums = static_cast<double *>(call->out[HEAD_SUMS].data);
    a.losses = layout.losses;
    a.done = static_cast<unsigned int *>(call->state);
    float *gradient =
        call->wanted[HEAD_GRADIENT] ? static_cast<float *>(call->out[HEAD_GRADIENT].data) : nullptr;
    const bool penalty = head.penalty != PENALTY_NONE;
    if (penalty)
        a.judged = layout.mine;
    else
        a.gradient = gradient;
    const unsigned int blocks = blocks_for(a.samples, 1), threads = row_threads(a.classes);
    TRY(launch("loss_head", rows_kernel<float>, blocks, threads, 0, stream, a, head));
    if (!penalty) return OK;
    TRY(add_penalty(call, head, layout, a.samples, a.sums));
    if (gradient == nullptr) return OK;
    a.gradient = gradient;
    with_penalty(&a, call, layout, a.samples);
    return launch("loss_head", rows_kernel<float>, blocks, threads, 0, stream, a, head);
}

} // namespace

/* prepare, run, release, in_place, strided_in, strided_out, pack: as on the CPU. */
const Kernel loss_head_cuda = {prepare, run, release, 0, 0, 0, nullptr};
