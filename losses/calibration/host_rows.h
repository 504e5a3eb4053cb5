/* Rows of a batch as passes that work on the host take them: checked, and in host memory. Internal to losses/. */
#ifndef PLUMB_LOSSES_CALIBRATION_HOST_ROWS_H
#define PLUMB_LOSSES_CALIBRATION_HOST_ROWS_H

#include "engine/device/device.h"
#include "losses/calibration/logits.h"

typedef struct {
    const char *name; /* of the set, for messages; outlives the rows */
    int64_t classes, most_rows;
    Device *device; /* NULL: batches are in host memory as they come */
    /* Copies of a batch from a GPU. */
    float *logits, *weights;
    int32_t *labels;
    int64_t *numbers;
} HostRows;
/* On an error the caller still closes. */
CHECKED Status host_rows_open(Device *, const char *name, int64_t classes, int64_t most_rows, HostRows *);
void host_rows_close(HostRows *);

/* Waits for the rows. What it gives is valid until the next batch: the rows without their weights, which are NULL where all are 1.
 * An error of a row is as logit_rows_check has it. threads: 0 means as OpenMP says. */
CHECKED Status host_rows_take(HostRows *, const LogitRows *, int threads, Logits *, const float **weights);

#endif
