/* Calibration of a network's own translations: see InferenceCalibration in launch/evaluate/evaluate.h. */
#ifndef PLUMB_LAUNCH_TRAIN_INFERENCE_CALIBRATION_H
#define PLUMB_LAUNCH_TRAIN_INFERENCE_CALIBRATION_H

#include "launch/evaluate/evaluate.h"
#include "launch/train/split_translation.h"

/* Of the whole split, translated at each of the temperatures: result[count]. Words of TER are the tokens, without end tokens; both
 * sides as the network has them. The same at any number of ranks if the translations are. Collective. */
CHECKED Status inference_calibration(SplitTranslation *, const double temperature[], int count,
                                     InferenceCalibration result[]);

#endif
