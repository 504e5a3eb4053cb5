/* Gradients on their way through the other ranks and back. Private to engine/plan/. */
#ifndef PLUMB_ENGINE_PLAN_EXCHANGE_H
#define PLUMB_ENGINE_PLAN_EXCHANGE_H

#include "engine/device/collective.h"
#include "engine/plan/narrow_gradients.h"
#include "engine/plan/store.h"

typedef struct Exchange Exchange;

/* Of the store's flat gradient. It travels as `type`: FLOAT32, or BFLOAT16 for half the traffic. narrow: which
 * gradients kernels leave as BFLOAT16; NULL: none. What is passed must outlive it. */
CHECKED Status exchange_create(Store *, Collective *, const NarrowGradients *narrow, DType type, Exchange **);
void exchange_free(Exchange *); /* NULL is allowed */

/* Starts the sum over ranks of a slice that is complete on the device's stream. gathered: what earlier micro-steps left
 * to be added to it; NULL: nothing. Collective. */
CHECKED Status exchange_start(Exchange *, int64_t first, int64_t count, const float *gathered);
/* After the collective was joined: all that was started is in place, as float32. */
CHECKED Status exchange_finish(Exchange *);

#endif
