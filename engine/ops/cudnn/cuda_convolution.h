/* Convolutions of cuDNN's graph API (its backend functions), made once for equal problems. Needs cuDNN's
 * headers; part of a build with CUDA alone.
 *
 * An engine is chosen among those that cuDNN's heuristics name, by timing on this GPU; the choice is kept in
 * convolutions.txt in PLUMB_CACHE (or $XDG_CACHE_HOME/plumb, ~/.cache/plumb), a line a problem, GPU and
 * version, so that the next run starts at once and uses the same engine, and so do all ranks of the host.
 * With DeviceNumerics.deterministic nothing is timed: the first engine is taken whose result is the same in
 * every run. */
#ifndef PLUMB_ENGINE_OPS_CUDNN_CUDA_CONVOLUTION_H
#define PLUMB_ENGINE_OPS_CUDNN_CUDA_CONVOLUTION_H

#include "engine/device/device.h"
#include "engine/ops/conv.h"

typedef enum { CONVOLUTION_FORWARD, CONVOLUTION_DATA, CONVOLUTION_WEIGHTS } ConvolutionKind;

typedef struct {
    ConvolutionKind kind;
    ConvAttributes shape;
    DType type;                       /* of x, y and the weights, gradients too */
    int64_t x_stride, y_stride;       /* elements from pixel to pixel: at least the channels */
    int64_t x_alignment, y_alignment; /* bytes of which their addresses will be multiples: 16, or an element's
                                       */
} ConvolutionProblem;

typedef struct CudaConvolution CudaConvolution;
/* STATUS_UNSUPPORTED: cuDNN has no engine for it. Times engines, so it waits and takes memory meanwhile. */
CHECKED Status cuda_convolution(Device *, const ConvolutionProblem *, CudaConvolution **);
void cuda_convolution_free(Device *, CudaConvolution *);    /* NULL is allowed */
size_t cuda_convolution_workspace(const CudaConvolution *); /* bytes; aligned to 256 */
/* Enqueues it: reads two of x, weights [out, height, width, in] and y (or its gradient), writes the third. */
CHECKED Status cuda_convolution_run(CudaConvolution *, Device *, void *x, void *weights, void *y,
                                    void *workspace);

#endif
