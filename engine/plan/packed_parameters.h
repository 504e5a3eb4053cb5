/* What the kernels of one plan keep of parameters in forms of their own (engine/graph/op.h, Tensor.packed). The memory is the
 * store's and shared by its plans; whichever plan runs first after a change makes it anew. */
#ifndef PLUMB_ENGINE_PLAN_PACKED_PARAMETERS_H
#define PLUMB_ENGINE_PLAN_PACKED_PARAMETERS_H

#include "engine/graph/op.h"
#include "engine/plan/store.h"

typedef struct {
    struct PackedUse *use; /* [count] */
    size_t count, capacity;
    int64_t version; /* of the parameters, for which all are made */
} PackedParameters;

/* Gives a call that was prepared the memory that its kernel asks for; the call must outlive the list. */
CHECKED Status packed_parameters_add(PackedParameters *, Store *, const Graph *, Call *);
/* Makes what is not of the present parameters. Pointers of all calls are set. */
CHECKED Status packed_parameters_make(PackedParameters *, Store *);
void packed_parameters_free(PackedParameters *);

#endif
