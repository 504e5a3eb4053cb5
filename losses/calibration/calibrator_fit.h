/* How the calibrators of calibrator.h are fitted and applied. Internal to losses/. */
#ifndef PLUMB_LOSSES_CALIBRATION_CALIBRATOR_FIT_H
#define PLUMB_LOSSES_CALIBRATION_CALIBRATOR_FIT_H

#include "losses/calibration/calibrator.h"

/* What the rows are to a calibrator. */
typedef enum { ROWS_OF_LOGITS, ROWS_OF_LOG_PROBABILITIES, ROWS_OF_PROBABILITIES } RowKind;

/* A set in double precision. */
typedef struct {
    const double *x; /* [count, classes] */
    const Logits *set;
    int64_t count, classes;
    int threads;
} FitRows;

/* One row of the table of methods. */
typedef struct {
    const char *name, *other_name;
    const char *keys[3]; /* of "KEY=VALUE" that it takes */
    CalibratorSettings defaults;
    RowKind rows;
    bool of_two; /* only of two classes */
    int64_t (*weights)(int64_t classes), (*biases)(int64_t classes);
    bool has_maps;
    Status (*fit)(const FitRows *, Calibrator *); /* weight, bias and map are there, and 0 */
    /* p [classes], not yet divided by its sum, of a row x; may be the same memory */
    void (*apply)(const Calibrator *, const double *x, double *p);
} CalibratorKind;
const CalibratorKind *calibrator_kind(CalibratorMethod);

/* Memory for weights, biases and maps; maps are empty. */
CHECKED Status calibrator_new(const CalibratorSettings *, int64_t classes, Calibrator *);

CHECKED Status calibrator_fit_temperature(const FitRows *, Calibrator *);
CHECKED Status calibrator_fit_vector(const FitRows *, Calibrator *);
CHECKED Status calibrator_fit_matrix(const FitRows *, Calibrator *);
CHECKED Status calibrator_fit_beta(const FitRows *, Calibrator *);
CHECKED Status calibrator_fit_isotonic(const FitRows *, Calibrator *);
CHECKED Status calibrator_fit_histogram(const FitRows *, Calibrator *);
void calibrator_apply_temperature(const Calibrator *, const double *x, double *p);
void calibrator_apply_vector(const Calibrator *, const double *x, double *p);
void calibrator_apply_matrix(const Calibrator *, const double *x, double *p);
void calibrator_apply_beta(const Calibrator *, const double *x, double *p);
void calibrator_apply_isotonic(const Calibrator *, const double *x, double *p);
void calibrator_apply_histogram(const Calibrator *, const double *x, double *p);

#endif
