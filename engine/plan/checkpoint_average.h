/* The mean of several models of one network, as Vaswani et al. (2017) take it of their last checkpoints. */
#ifndef PLUMB_ENGINE_PLAN_CHECKPOINT_AVERAGE_H
#define PLUMB_ENGINE_PLAN_CHECKPOINT_AVERAGE_H

#include "engine/base/status.h"

/* Reads model files, the newest last, which must hold the same tensors and be of the same vocabulary, and writes `output`, a
 * model file of the same layout. FLOAT32 tensors, which are parameters and statistics, are averaged, in float64; whole
 * numbers (counters) are the newest file's. Its metadata are the newest's step, epoch and vocabulary, and "averaged",
 * the steps of all. STATUS_INPUT names the file and tensor that does not fit or is not finite. */
CHECKED Status checkpoint_average(const char *const paths[], int count, const char *output);

#endif
