/* The prediction of one row of logits. */
#ifndef PLUMB_LOSSES_CALIBRATION_TOP_LABEL_H
#define PLUMB_LOSSES_CALIBRATION_TOP_LABEL_H

#include <stdint.h>

/* The class of the largest logit, the first of several. *confidence: its probability, of logits divided by the temperature. */
int64_t top_label(const float row[], int64_t classes, double temperature, double *confidence);

#endif
