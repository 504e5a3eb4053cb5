/* Kernels whose state is one operation of oneDNN: what they have in common. */
#ifndef PLUMB_ENGINE_OPS_ONEDNN_ONEDNN_KERNEL_H
#define PLUMB_ENGINE_OPS_ONEDNN_ONEDNN_KERNEL_H

#include "engine/graph/op.h"
#include "engine/ops/onednn/onednn.h"

/* The tensors are all inputs, then output 0. */
static inline Status onednn_kernel_run(const Call *call)
{
    void *tensors[4];
    const int inputs = call->node->input_count;
    for (int i = 0; i < inputs; ++i)
        tensors[i] = call->in[i].data;
    tensors[inputs] = call->out[0].data;
    return onednn_run(call->state, tensors, call->scratch);
}

static inline void onednn_kernel_release(Call *call)
{
    onednn_free(call->state);
    call->state = NULL;
}

#endif
