/* What the residual networks share: stem, stages of blocks, and the checks on images that all networks make.
 */
#ifndef PLUMB_MODELS_RESIDUAL_H
#define PLUMB_MODELS_RESIDUAL_H

#include "engine/base/config.h"
#include "engine/graph/graph.h"
#include "engine/ops/ops.h"
#include "models/model.h"

#include <stdbool.h>
#include <stdint.h>

/* Images must be [N,H,W,C] with at least `smallest` rows and columns; else the graph fails with a message
 * that says so, and false is returned. */
bool model_check_images(Graph *, Value images, int64_t smallest);

/* model.width, or `published` where it is 0. */
int64_t model_read_width(const Config *, int64_t published);

/* model.blocks, or the published numbers where it is empty. STATUS_INPUT unless it gives a number for each stage. */
CHECKED Status model_read_blocks(const Config *, const int64_t published[], int stages,
                                 int64_t blocks[MODEL_MAX_STAGES]);

/* Averages the last map to one row and column. The published code takes one `window` x `window` average,
 * which is the whole map for images of 32 x 32. So do we wherever exactly one window fits, leftover
 * rows and columns being ignored as there; maps of other sizes, on which the published code stops, are
 * averaged whole. window 0: always the whole map. */
Value model_average_map(Graph *, Value x, int64_t window);

/* conv1, bn1, relu, layer1, layer2, ...: names and order of the published code. Every stage but the first
 * halves the map and doubles the channels. */
typedef struct {
    int64_t stem;     /* channels of the first convolution, 3x3 stride 1 */
    int64_t channels; /* inner channels of the first stage's blocks */
    bool bottleneck;  /* 1x1, 3x3, 1x1 with 4 times the channels out; else two 3x3 */
    int stages;
    const int64_t *blocks;  /* [stages] */
    const char *projection; /* name of the shortcut's 1x1 convolution and norm: "shortcut", "downsample" */
    WeightInit init;        /* of convolutions */
    double dropout;         /* before the last convolution of a block */
    bool synchronize;       /* batch norm over all ranks */
} Residual;
Value residual_stages(Graph *, Value images, const Residual *);

#endif
