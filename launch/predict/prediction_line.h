/* A prediction as a line of text or JSON. */
#ifndef PLUMB_LAUNCH_PREDICT_PREDICTION_LINE_H
#define PLUMB_LAUNCH_PREDICT_PREDICTION_LINE_H

#include "launch/predict/predictor.h"

/* Text:  INPUT TAB LABEL TAB CONFIDENCE [TAB CALIBRATED], and behind that, for each further class of `top`, its label and confidences.
 *        Of an input that failed INPUT TAB TAB [TAB].
 * JSON:  {"input", "class", "label", "confidence", "calibrated", "top": [{"class", "label", "confidence", "calibrated"}], "logits"},
 *        of an input that failed {"input", "error"}.
 *
 * Confidences are probabilities: as trained, and calibrated where that is wished for. The label is the most probable class, after
 * calibration where there is one; among equals the first. Classes are numbered from 0 as in the run's .npy files. */
typedef struct {
    bool json;
    int64_t top; /* classes; 0: the first alone, and in JSON no list */
    bool logits; /* in JSON */
} PredictionForm;

/* Of row `row`, which has no problem. Release with free(). */
CHECKED Status prediction_line(const PredictionForm *, const Predictor *, InputPlace, const Predictions *,
                               int64_t row, char **text, size_t *size);
/* calibrated: do the others have such confidences? */
CHECKED Status prediction_failed_line(const PredictionForm *, InputPlace, bool calibrated,
                                      const char *message, char **text, size_t *size);

#endif
