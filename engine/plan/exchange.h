/* Gradients on their way through the other ranks and back. Private to engine/plan/. */
#ifndef PLUMB_ENGINE_PLAN_EXCHANGE_H
#define PLUMB_ENGINE_PLAN_EXCHANGE_H

#include "engine/device/collective.h"

typedef struct Exchange Exchange;

/* Of the flat gradient: `count` float32 on the device. They travel as `type`: FLOAT32, or BFLOAT16 for half
 * the traffic. What is passed must outlive it. */
CHECKED Status exchange_create(Device *, Collective *, float *gradients, int64_t count, DType type,
                               Exchange **);
void exchange_free(Exchange *); /* NULL is allowed */

/* Starts the sum over ranks of a slice that is complete on the device's stream. Collective. */
CHECKED Status exchange_start(Exchange *, int64_t first, int64_t count);
/* After the collective was joined: all that was started is in place, as float32. */
CHECKED Status exchange_finish(Exchange *);

#endif
