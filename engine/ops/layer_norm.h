/* What the files of layer_norm share. */
#ifndef PLUMB_ENGINE_OPS_LAYER_NORM_H
#define PLUMB_ENGINE_OPS_LAYER_NORM_H

#include "engine/graph/op.h"
#include "engine/ops/dropout.h"

/* Per row of C columns, with its mean m and biased variance v:
 *     y = (x - m) / sqrt(v + epsilon) * weight + bias
 * Ba, Kiros and Hinton, "Layer Normalization", 2016. */
typedef struct {
    double epsilon;
} LayerNormAttributes;

enum { LAYER_NORM_X, LAYER_NORM_WEIGHT, LAYER_NORM_BIAS, LAYER_NORM_INPUTS };
enum {
    LAYER_NORM_Y,
    LAYER_NORM_MEAN,              /* FLOAT32 [rows] */
    LAYER_NORM_INVERSE_DEVIATION, /* FLOAT32 [rows] */
    LAYER_NORM_OUTPUTS
};

/* With n = (x - m) i, i the inverse deviation, h = dy weight and means over the row:
 *     dx = i (h - mean(h) - n mean(h n));  dweight = sum dy n;  dbias = sum dy */
enum {
    LAYER_NORM_BACKWARD_DY,
    LAYER_NORM_BACKWARD_X,
    LAYER_NORM_BACKWARD_WEIGHT,
    LAYER_NORM_BACKWARD_MEAN,
    LAYER_NORM_BACKWARD_INVERSE_DEVIATION,
    LAYER_NORM_BACKWARD_INPUTS
};
enum {
    LAYER_NORM_BACKWARD_DX,
    LAYER_NORM_BACKWARD_DWEIGHT,
    LAYER_NORM_BACKWARD_DBIAS,
    LAYER_NORM_BACKWARD_OUTPUTS
};

/* Fused from dropout, add and layer_norm, or add and layer_norm:  s = x + made m, y = layer_norm(s), m the mask of dropout (1
 * without). */
typedef struct {
    double epsilon;
    DropoutAttributes dropout; /* probability 0: none */
} ResidualNormAttributes;
enum {
    RESIDUAL_NORM_X,
    RESIDUAL_NORM_MADE,
    RESIDUAL_NORM_WEIGHT,
    RESIDUAL_NORM_BIAS,
    RESIDUAL_NORM_CLOCK, /* only with dropout */
    RESIDUAL_NORM_INPUTS
};
enum {
    RESIDUAL_NORM_Y,
    RESIDUAL_NORM_SUM,               /* s */
    RESIDUAL_NORM_MEAN,              /* of s; FLOAT32 [rows] */
    RESIDUAL_NORM_INVERSE_DEVIATION, /* FLOAT32 [rows] */
    RESIDUAL_NORM_OUTPUTS
};

/* dx is layer_norm's gradient of s, plus the gradient that s has from elsewhere; dmade = dx m. */
enum {
    RESIDUAL_NORM_BACKWARD_DY,
    RESIDUAL_NORM_BACKWARD_DSUM, /* may be absent */
    RESIDUAL_NORM_BACKWARD_SUM,
    RESIDUAL_NORM_BACKWARD_WEIGHT,
    RESIDUAL_NORM_BACKWARD_MEAN,
    RESIDUAL_NORM_BACKWARD_INVERSE_DEVIATION,
    RESIDUAL_NORM_BACKWARD_CLOCK,
    RESIDUAL_NORM_BACKWARD_INPUTS
};
enum {
    RESIDUAL_NORM_BACKWARD_DX,
    RESIDUAL_NORM_BACKWARD_DMADE, /* FLOAT32 [] and not written without dropout */
    RESIDUAL_NORM_BACKWARD_DWEIGHT,
    RESIDUAL_NORM_BACKWARD_DBIAS,
    RESIDUAL_NORM_BACKWARD_OUTPUTS
};

extern const Kernel residual_norm_cpu;
extern const Kernel residual_norm_cuda OPTIONAL_KERNEL;
extern const Kernel residual_norm_backward_cpu;
extern const Kernel residual_norm_backward_cuda OPTIONAL_KERNEL;
extern const Kernel layer_norm_backward_cpu;
extern const Kernel layer_norm_backward_cuda OPTIONAL_KERNEL;
extern const Kernel layer_norm_cpu;
extern const Kernel layer_norm_cuda OPTIONAL_KERNEL;

#endif
