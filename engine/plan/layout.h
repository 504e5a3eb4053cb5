/* Where each value of a graph lives: which buffer, at which column, with which stride; and where each buffer
 * lies in the arena. Pure bookkeeping: no device, no pointers. Used by plan.c. */
#ifndef PLUMB_ENGINE_PLAN_LAYOUT_H
#define PLUMB_ENGINE_PLAN_LAYOUT_H

#include "engine/base/status.h"
#include "engine/graph/graph.h"
#include "engine/graph/op.h"

/* A value's place. buffer -1: not in the arena (store, bound by the caller, or nobody's any more). */
typedef struct {
    int buffer;
    int64_t column;  /* first column inside the buffer's rows */
    int64_t stride;  /* elements from row to row */
    int first, last; /* nodes at which it is made and last read; -1: before the first */
} Place;

/* A piece of memory and the nodes during which it is in use. */
typedef struct {
    size_t bytes, offset;
    int first, last;
    bool fixed; /* lies elsewhere (the store's gradients): takes no room in the arena */
} Buffer;

typedef struct {
    Place *place;   /* one a value */
    Buffer *buffer; /* the last node_count ones are the nodes' scratch */
    int buffer_count;
    int scratch; /* index of the first scratch buffer */
    size_t arena_bytes, tensor_bytes;
    int in_place, views;
} Layout;

/* Assigns buffers and strides. is_gradient[v]: value v is to be written into the store (its buffer is fixed).
 * share: false gives every value memory of its own, dense, for the whole run. */
CHECKED Status layout_create(const Graph *, DeviceKind, const bool is_gradient[], bool share, Layout *);
/* Assigns offsets, once the scratch buffers have their sizes. */
CHECKED Status layout_assign_offsets(Layout *);
void layout_free(Layout *);

#endif
