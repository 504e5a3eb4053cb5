/* The .npy files that plumb evaluate takes from anywhere, as sets for evaluation. */
#ifndef PLUMB_LAUNCH_EVALUATE_EVALUATE_FILES_H
#define PLUMB_LAUNCH_EVALUATE_EVALUATE_FILES_H

#include "comm/comm.h"
#include "engine/base/npy.h"
#include "launch/tasks/class_names.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/logits.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *values;   /* logits or probabilities: float16, float32 or float64 [N,K] */
    const char *labels;   /* integers [N]; NULL for a set without */
    bool probabilities;   /* values are probabilities */
    int64_t ignore_label; /* rows with this label are left out */
} SetFiles;

/* Of logits or probabilities of one column, z or p, the set has two: [0, z] or [1 - p, p]. */
typedef struct {
    Logits set;      /* this rank's share of the rows that count */
    int64_t ignored; /* rows of the whole file that are left out */
    Npy values, labels;
    void *value_copy, *label_copy; /* what is not as it lies in the files; NULL: it is */
    int64_t *number;
} FileSet;

/* Not collective: the caller makes the ranks agree. Release with file_set_close, also after an error. */
CHECKED Status file_set_open(const World *, const SetFiles *, FileSet *);
void file_set_close(FileSet *);

/* Confidences, float16, float32 or float64 [N], and whether the prediction was right, 0 and 1 or bool [N]. */
typedef struct {
    ConfidenceSet set; /* this rank's share */
    int64_t total;
    double *confidence;
    uint8_t *correct;
} ConfidenceFiles;
CHECKED Status confidence_files_open(const World *, const char *confidence, const char *correct,
                                     ConfidenceFiles *);
void confidence_files_close(ConfidenceFiles *);

#endif
