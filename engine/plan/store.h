/* The store: what outlives a run. Named parameters and states, one flat gradient, optimizer state.
 *
 * Parameters and their gradients lie in two flat float32 arrays with the same layout, in the order in which
 * backward finishes the gradients, so that a bucket of gradients is a slice and the optimizer is one kernel.
 * Each tensor starts at a multiple of 16 elements; the gaps are zero and stay zero. */
#ifndef PLUMB_ENGINE_PLAN_STORE_H
#define PLUMB_ENGINE_PLAN_STORE_H

#include "engine/base/status.h"
#include "engine/device/device.h"
#include "engine/graph/graph.h"

#include <stdint.h>

typedef struct Store Store;

/* Lays out and initialises (from `seed`) all parameters and states of `graph`; with gradients if the graph
 * was differentiated. Graphs planned later must find all their parameters and states here with equal shapes.
 */
CHECKED Status store_create(Device *, const Graph *, uint64_t seed, Store **);
void store_free(Store *); /* NULL is allowed */
Device *store_device(const Store *);

typedef struct {
    const char *name; /* owned by the store */
    Role role;        /* ROLE_PARAMETER or ROLE_STATE */
    Shape shape;
    void *data;             /* device memory */
    float *gradient;        /* parameters of a trained graph; else NULL. Device memory */
    int64_t offset;         /* parameters: element offset in the flat arrays; else -1 */
    FileLayout file_layout; /* how checkpoints order it, and the optimizer's state for it */
} StoreEntry;

int store_count(const Store *);
const StoreEntry *store_at(const Store *, int index);          /* parameters in flat order, then states */
const StoreEntry *store_find(const Store *, const char *name); /* NULL if absent */

/* The flat arrays (device memory); count includes the gaps. gradients is NULL without training. */
int64_t store_parameter_count(const Store *); /* true number of parameters, without gaps */
int64_t store_flat_count(const Store *);
float *store_parameters(const Store *);
float *store_gradients(const Store *);

/* All states, one after the other (device memory); NULL and 0 without any. */
void *store_states(const Store *);
size_t store_state_bytes(const Store *);

/* A flat array in which micro-steps gather their gradients; made on first use, not part of checkpoints. */
CHECKED Status store_accumulator(Store *, float **data);

/* A flat BFLOAT16 array like the parameters, for plans that keep their parameters rounded; made on first use,
 * not part of checkpoints. */
CHECKED Status store_rounded(Store *, void **data);

/* A flat BFLOAT16 array like the gradients, for kernels that leave theirs so; zeroed, made on first use. */
CHECKED Status store_narrow_gradients(Store *, void **data);

/* A further flat float32 array like the parameters, zeroed, named in checkpoints ("momentum"): optimizer
 * state. The same memory when asked again. */
CHECKED Status store_flat(Store *, const char *name, float **data);
int store_flat_arrays(const Store *);
const char *store_flat_name(const Store *, int index);
float *store_flat_data(const Store *, int index);

#endif
