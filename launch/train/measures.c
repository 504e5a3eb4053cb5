#include "launch/train/measures.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const Measure measures[] = {
    {"error", offsetof(Calibration, error), false, false},
    {"nll", offsetof(Calibration, nll), false, false},
    {"brier", offsetof(Calibration, brier), false, false},
    {"ece", offsetof(Calibration, ece), false, false},
    {"ada_ece", offsetof(Calibration, ada_ece), false, false},
    {"classwise_ece", offsetof(Calibration, classwise_ece), false, false},
    {"mce", offsetof(Calibration, mce), false, false},
    {"bleu", 0, true, true},
};

static_assert(sizeof measures / sizeof measures[0] <= MEASURES_MOST, "room for all of them");

const Measure *measure_find(const char *name)
{
    for (size_t i = 0; i < sizeof measures / sizeof measures[0]; ++i)
        if (strcmp(measures[i].name, name) == 0) return &measures[i];
    return NULL;
}

double measure_value(const Measure *measure, const Calibration *calibration, double bleu)
{
    double value;
    if (measure->of_translations) return bleu;
    memcpy(&value, (const char *)calibration + measure->offset, sizeof value);
    return value;
}

double measure_worst(const Measure *measure) { return measure->higher_is_better ? -INFINITY : INFINITY; }

bool measure_is_better(const Measure *measure, double value, double than)
{
    return measure->higher_is_better ? value > than : value < than;
}
