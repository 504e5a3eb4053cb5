/* Gradients that kernels leave as BFLOAT16, and their widening into the store's flat float32 gradient: one
 * launch for many, where one a layer would cost a launch each. Private to engine/plan/. */
#ifndef PLUMB_ENGINE_PLAN_NARROW_GRADIENTS_H
#define PLUMB_ENGINE_PLAN_NARROW_GRADIENTS_H

#include "engine/plan/store.h"

typedef struct NarrowGradients NarrowGradients;

/* For at most so many of the store's gradients; the store must outlive it. */
CHECKED Status narrow_gradients_create(Store *, int most, NarrowGradients **);
void narrow_gradients_free(NarrowGradients *); /* NULL is allowed */

/* Where the BFLOAT16 twin of a place in the store's gradients is. */
void *narrow_gradients_place(const NarrowGradients *, const float *gradient);
/* Says that a parameter's whole gradient will stand there. */
void narrow_gradients_add(NarrowGradients *, const float *gradient, int64_t count);
/* Enqueues the widening of all that were added within these elements of the flat gradient. */
CHECKED Status narrow_gradients_widen(const NarrowGradients *, int64_t first, int64_t count);

/* Enqueues the narrowing of all others there: those elements are then complete as BFLOAT16. */
CHECKED Status narrow_gradients_complete(const NarrowGradients *, int64_t first, int64_t count);

#endif
