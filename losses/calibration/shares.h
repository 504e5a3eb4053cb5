/* How ranks share samples. */
#ifndef PLUMB_LOSSES_CALIBRATION_SHARES_H
#define PLUMB_LOSSES_CALIBRATION_SHARES_H

#include "engine/base/status.h"
#include "engine/device/collective.h"

#include <stdint.h>

typedef struct {
    int64_t first;   /* where this rank's samples begin, in the order of the ranks */
    int64_t total;   /* of all ranks */
    int64_t largest; /* the most that a rank has */
} Shares;
/* count: of this rank. Collective. */
CHECKED Status shares_find(Collective *, int64_t count, Shares *);

#endif
