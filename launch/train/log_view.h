/* Where the time of a training run went: `plumb train --log-view`. */
#ifndef PLUMB_LAUNCH_TRAIN_LOG_VIEW_H
#define PLUMB_LAUNCH_TRAIN_LOG_VIEW_H

#include "launch/train/session.h"

/* What the loop itself measures; the ops' times are the plan's. */
typedef struct {
    double data_seconds; /* waiting for batches */
    double optimizer_seconds;
} LogView;

/* A table of time, flop/s, bytes/s and the share of the machine's peak (measured here: matrix product, memory
 * copy) for each op and phase, with the maximum over ranks and the ratio of maximum to minimum; and what the
 * plan decided. Collective; rank 0 prints. */
CHECKED Status log_view_print(const LogView *, Session *);

#endif
