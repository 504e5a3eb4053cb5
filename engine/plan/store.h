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
#include "engine/ops/row_sums.h"

#include <stdint.h>

typedef struct Store Store;

/* Lays out and initialises (from `seed`) all parameters and states of the graphs that will be planned with it, be
 * they in all of them or in one; with gradients for those parameters that a differentiated graph trains. Equal names
 * must have equal shapes; STATUS_INPUT names both. Every rank passes graphs of the same networks in the same order.
 *
 * Order of the flat arrays: first the parameters with a dense gradient, in the order in which backward of the first
 * differentiated graph finishes them, then those of further graphs; then the tables that are TRAINED_BY_ROWS; then what
 * no graph trains. */
CHECKED Status store_create(Device *, const Graph *const graphs[], int count, uint64_t seed, Store **);
void store_free(Store *); /* NULL is allowed */
Device *store_device(const Store *);

/* The gradient of a table that is TRAINED_BY_ROWS. */
typedef struct {
    int64_t most; /* there is room for so many rows */
    int32_t
        *list; /* [ROW_LIST_HEAD + most]: element 0 says how many rows, those from ROW_LIST_HEAD on which */
    float *gradient; /* [most, columns] */
} RowGradient;

typedef struct {
    const char *name; /* owned by the store */
    Role role;        /* ROLE_PARAMETER or ROLE_STATE */
    Shape shape;
    void *data;             /* device memory */
    float *gradient;        /* parameters with a dense gradient; else NULL. Device memory */
    int64_t offset;         /* parameters: element offset in the flat arrays; else -1 */
    FileLayout file_layout; /* how checkpoints order it, and the optimizer's state for it */
    FileNames file_names;   /* owned by the store */
    bool transient;         /* a state that is neither saved nor shared */
    bool by_rows;           /* a table that is TRAINED_BY_ROWS: */
    RowGradient rows;       /* its gradient on this rank; and over all ranks, which may be the same memory: */
    RowGradient all_rows;
} StoreEntry;

int store_count(const Store *);
const StoreEntry *store_at(const Store *, int index);          /* parameters in flat order, then states */
const StoreEntry *store_find(const Store *, const char *name); /* NULL if absent */

/* The flat arrays (device memory); counts include the gaps. Of the flat_count elements of the parameters the first
 * trained_count have dense gradients, and those up to trained_count + table_count are tables trained by rows. gradients
 * is NULL without training. */
int64_t store_parameter_count(const Store *); /* true number of parameters, without gaps */
int64_t store_flat_count(const Store *);
int64_t store_trained_count(const Store *);
int64_t store_table_count(const Store *);
float *store_parameters(const Store *);
float *store_gradients(const Store *);

/* Do all differentiated graphs finish their gradients after the same nodes? If not, plans must not reduce gradients
 * before the end of backward: ranks that run different ones would come to other reductions in another order. */
bool store_has_one_order(const Store *);

/* All states but transient ones, one after the other (device memory); NULL and 0 without any. */
void *store_states(const Store *);
size_t store_state_bytes(const Store *);

/* Another value for the parameter or state of that name, dense and in memory's layout, of `count` elements: the way
 * in which a task hands over word vectors before training. Waits. STATUS_INPUT if there is none, or not so large. */
CHECKED Status store_fill(Store *, const char *name, const float *values, int64_t count);

/* A form of a parameter that an op's kernels keep for themselves, for all plans of the store: engine/graph/op.h, Tensor. */
typedef struct {
    const StoreEntry *entry;
    const void *op;
    size_t bytes;
    uint64_t form;
    void *memory;    /* device memory */
    int64_t version; /* of the parameters that it was made of; -1: none */
} PackedParameter;
/* Makes room on first use. Owned by the store. */
CHECKED Status store_packed(Store *, const StoreEntry *, const void *op, size_t bytes, uint64_t form,
                            PackedParameter **);
size_t store_packed_bytes(const Store *); /* of all */
/* Whoever writes into parameters says so where plans may keep them packed; store_fill and checkpoints do it themselves. */
void store_changed(Store *);
int64_t store_version(const Store *); /* how often it was said */

/* A flat array of the gradients' size in which micro-steps gather them; made on first use, not part of checkpoints. */
CHECKED Status store_accumulator(Store *, float **data);

/* A flat BFLOAT16 array like the parameters, for plans that keep their parameters rounded; made on first use,
 * not part of checkpoints. */
CHECKED Status store_rounded(Store *, void **data);

/* A flat BFLOAT16 array like the gradients, for kernels that leave theirs so and for gradients that travel so;
 * zeroed, made on first use. */
CHECKED Status store_narrow_gradients(Store *, void **data);

/* Room for the row gradients of so many ranks: makes all_rows, and into *gathered, one for each table in the store's
 * order, what they are made of: every rank's list and gradient one after the other; *scratch is for row_sums of each.
 * For one rank all_rows is rows, and both are NULL. Plans of one store must agree on the number. Owned by the store. */
CHECKED Status store_share_rows(Store *, int ranks, const RowGradient **gathered, void **scratch);

/* A further flat float32 array like the gradients, zeroed, named in checkpoints ("momentum"): optimizer state. The same
 * memory when asked again. tables: with room for the tables that are trained by rows, as in the parameters. */
CHECKED Status store_flat(Store *, const char *name, bool tables, float **data);
int store_flat_arrays(const Store *);
const char *store_flat_name(const Store *, int index);
float *store_flat_data(const Store *, int index);
/* Where that array has its elements for a parameter; NULL if it has none. */
float *store_flat_of(const Store *, int index, const StoreEntry *);

#endif
