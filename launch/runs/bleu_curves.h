/* temperatures.json of a run's folder: BLEU, calibration error and NLL against temperature, as `plumb evaluate RUN --temperatures
 * F:L:S --bleu` has measured them last. Reports draw Appendix K's Figure K.1 of it.
 *
 *     {"checkpoint": "last", "step": 100000, "sentences": 3003, "bins": 15, "chosen": {"ece": 1.2, "nll": 1.1},
 *      "temperature": [0.5, ...], "test": {"ece": [...], "nll": [...], "accuracy": 0.6, "bleu": [...]},
 *      "validation": {"ece": [...], "nll": [...], "accuracy": 0.6}, "search": "beam 4, alpha 0.6", "bleu_signature": "..."}
 *
 * chosen and validation are absent of a run without a validation split; an infinite NLL is null. */
#ifndef PLUMB_LAUNCH_RUNS_BLEU_CURVES_H
#define PLUMB_LAUNCH_RUNS_BLEU_CURVES_H

#include "launch/evaluate/evaluate.h"

/* ECE and accuracy are fractions, BLEU is 0 to 100; NaN where the file has nothing. */
typedef struct {
    int count;
    double temperature[TEMPERATURE_MOST], bleu[TEMPERATURE_MOST]; /* [count], temperatures rising */
    double test_ece[TEMPERATURE_MOST], test_nll[TEMPERATURE_MOST];
    double validation_ece[TEMPERATURE_MOST], validation_nll[TEMPERATURE_MOST];
    double test_accuracy, validation_accuracy;
    bool has_validation;
    double chosen_ece, chosen_nll; /* temperatures that the validation split chose */
    int64_t step, sentences;
} BleuCurves;

/* Of a result with curves, with or without BLEU. */
void bleu_curves_of(const EvaluationResult *, BleuCurves *);
/* Writes the file: of a result with BLEU. */
CHECKED Status bleu_curves_write(const EvaluationResult *, const char *folder);
/* Of the text of such a file, size bytes; released with free(). STATUS_INPUT for anything else. */
CHECKED Status bleu_curves_parse(const char *text, size_t size, BleuCurves **out);
/* *out is NULL if the folder has no such file, else released with free(). STATUS_INPUT for a damaged one. */
CHECKED Status bleu_curves_read(const char *folder, BleuCurves **out);
/* The place of the best BLEU, the first of equal ones. */
int bleu_curves_best(const BleuCurves *);
/* The place of the temperature next to this one. */
int bleu_curves_near(const BleuCurves *, double temperature);

#endif
