/* A run as a predictor of classes: the network with a checkpoint's parameters, and what turns its logits into confidences. */
#ifndef PLUMB_LAUNCH_PREDICT_PREDICTOR_H
#define PLUMB_LAUNCH_PREDICT_PREDICTOR_H

#include "comm/comm.h"
#include "launch/tasks/task.h"
#include "launch/train/run_use.h"

typedef struct {
    const char *run;
    const char *checkpoint; /* KEPT_MODEL_NAMES (launch/runs/kept_models.h) */
    bool calibrated;        /* by the temperature that the run's evaluation chose */
    const char *calibrator; /* by a file of plumb evaluate --save-calibrator; NULL: there is none */
    RunUse use;
    InputOptions inputs;
} PredictorOptions;

typedef struct Predictor Predictor;
/* STATUS_INPUT for a folder that is no run, for a run that predicts no classes, and for a calibrator of another number of classes.
 * Collective. Release with predictor_close. */
CHECKED Status predictor_open(World *, const PredictorOptions *, Predictor **);
void predictor_close(Predictor *); /* NULL is allowed */

const TaskInputs *predictor_inputs(const Predictor *);
/* Of the classes that evaluation measures, in the order of the columns of the run's .npy files. */
int64_t predictor_classes(const Predictor *);
/* A class' name, or its number where it has none. */
enum { PREDICTOR_NUMBER = 24 };
const char *predictor_label(const Predictor *, int64_t class_index, char number[PREDICTOR_NUMBER]);
double predictor_timeout(const Predictor *); /* seconds after which ranks give each other up */

typedef struct {
    InputPlace place;
    const char *text; /* of a line, `size` bytes; NULL: the file is read */
    size_t size;
} PredictorInput;

/* Of `count` inputs; rows of those with a problem mean nothing. */
typedef struct {
    int64_t count, classes;
    Status *problem; /* [count] why there is no prediction, naming the input; owned */
    float *logits;   /* [count, classes] */
    double *trained; /* [count, classes] probabilities as the network was trained */
    double *
        calibrated; /* [count, classes] after the temperature or the calibrator; NULL: neither was wished for */
} Predictions;

/* An error is the machine's; what is wrong with an input is its problem. Not collective. Release with predictions_free, also after
 * an error. */
CHECKED Status predictor_run(Predictor *, const PredictorInput[], int64_t count, Predictions *);
void predictions_free(Predictions *);

#endif
