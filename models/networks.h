/* The build functions that models/models.c lists. Each is a Model's `build` (models/model.h). */
#ifndef PLUMB_MODELS_NETWORKS_H
#define PLUMB_MODELS_NETWORKS_H

#include "engine/base/config.h"
#include "engine/graph/graph.h"

#include <stdint.h>

/* linear.c */
Value linear_build(Graph *, const Config *, Value images, int64_t classes);

/* resnet.c: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in the form for small
 * images: 3x3 stride-1 stem, no max pool. */
Value resnet8_build(Graph *, const Config *, Value images, int64_t classes);
Value resnet18_build(Graph *, const Config *, Value images, int64_t classes);
Value resnet34_build(Graph *, const Config *, Value images, int64_t classes);
Value resnet50_build(Graph *, const Config *, Value images, int64_t classes);
Value resnet101_build(Graph *, const Config *, Value images, int64_t classes);
Value resnet110_build(Graph *, const Config *, Value images, int64_t classes);
Value resnet152_build(Graph *, const Config *, Value images, int64_t classes);

/* tiny_imagenet_resnet.c */
Value tiny_imagenet_resnet50_build(Graph *, const Config *, Value images, int64_t classes);

/* wide_resnet.c: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, in the published code's form:
 * normalisation and ReLU after each convolution, stem of 16 channels. */
Value wide_resnet_build(Graph *, const Config *, Value images, int64_t classes);

/* densenet.c: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017. */
Value densenet121_build(Graph *, const Config *, Value images, int64_t classes);
Value densenet169_build(Graph *, const Config *, Value images, int64_t classes);

#endif
