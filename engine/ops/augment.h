/* What the files of augment share. */
#ifndef PLUMB_ENGINE_OPS_AUGMENT_H
#define PLUMB_ENGINE_OPS_AUGMENT_H

#include "engine/graph/op.h"

typedef struct {
    int64_t padding;
    double mean[4], deviation[4]; /* per channel, of pixel / 255 */
    DType type;                   /* of the output */
    bool flip;
} AugmentAttributes;

enum { AUGMENT_TABLE, AUGMENT_INDEX, AUGMENT_CROP, AUGMENT_INPUTS };
enum { CROP_TOP, CROP_LEFT, CROP_FLIP, CROP_COLUMNS };

extern const Kernel augment_cpu;
extern const Kernel augment_cuda OPTIONAL_KERNEL;

#endif
