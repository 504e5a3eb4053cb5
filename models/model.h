/* Networks: each a function that builds a graph, under the parameter names of the published code. */
#ifndef PLUMB_MODELS_MODEL_H
#define PLUMB_MODELS_MODEL_H

#include "engine/base/config.h"
#include "engine/graph/graph.h"

typedef struct {
    const char *name; /* "resnet50" */
    const char *help;
    /* images [N,H,W,C] of the compute type -> logits FLOAT32 [N,classes]. An input size that the network
     * cannot take is an error that says which it can. */
    Value (*build)(Graph *, const Config *, Value images, int64_t classes);
} Model;

const Model *models_table(int *count);
/* STATUS_INPUT names file and line of model.name and the nearest known name. */
CHECKED Status model_find(const Config *, const Model **);

#endif
