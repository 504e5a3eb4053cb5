/* plumb predict: a run's labels and confidences for what a user has, on one rank or several. */
#ifndef PLUMB_LAUNCH_PREDICT_PREDICT_H
#define PLUMB_LAUNCH_PREDICT_PREDICT_H

#include "comm/comm.h"
#include "launch/predict/prediction_line.h"

typedef struct {
    PredictorOptions predictor;
    PredictionForm form;
    const char *const *word; /* what is to be predicted (input_list.h) */
    int words;
    bool lines;        /* each line of a file is an input */
    int input, output; /* descriptors */
} PredictOptions;

/* Writes a line for each input, in order, as soon as all before it are done; memory does not grow with their number. Inputs that fail
 * are told of and do not stop the others; in the end they are one STATUS_INPUT that says how many. Collective. */
CHECKED Status predict(World *, const PredictOptions *);

#endif
