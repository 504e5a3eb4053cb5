/* Telling a run's own test samples from samples of elsewhere: which sets were asked for, and what came of them. */
#ifndef PLUMB_LAUNCH_EVALUATE_OOD_SETS_H
#define PLUMB_LAUNCH_EVALUATE_OOD_SETS_H

#include "launch/evaluate/evaluate.h"

#include <cJSON.h>

/* What --ood and evaluate.ood ask for: engine/data/images/outside.h says what a name may be. */
typedef struct {
    const char *name, *from; /* from: "" where nothing was said */
} OodChoice;

enum { OOD_MOST_SETS = 32 };
typedef struct {
    int count;
    OodChoice choice[OOD_MOST_SETS];
    char *text; /* where the names of a command line are; owned */
} OodChoices;

/* That choice `index` has a name, and one that no choice before it has. */
CHECKED Status ood_choice_check(const OodChoices *, int index);
/* From the words of --ood, "NAME" or "NAME=FROM". Release with ood_choices_free. */
CHECKED Status ood_choices_parse(const char *const words[], int count, OodChoices *);
void ood_choices_free(OodChoices *);

typedef struct {
    char name[64], what[256]; /* what: the images, in words */
    bool made;                /* by us, not read */
    int64_t samples;
    OodMeasure measure[EVALUATE_STAGES]; /* those after scaling only if there is a temperature */
} OodSet;

typedef struct OodResult {
    bool has_temperature;
    double temperature[EVALUATE_STAGES];
    int64_t samples; /* in distribution */
    int count;
    OodSet *set; /* [count], owned */
} OodResult;
void ood_result_free(OodResult *);

/* Measures one more set. test: this rank's logits in distribution; the temperatures are set. Collective. */
CHECKED Status ood_result_add(World *, Collective *, int threads, const Logits *test, const Logits *out,
                              const char *what, bool made, OodResult *);

/* A list with an object for each set. */
CHECKED Status ood_result_list(const OodResult *, cJSON **list);
void ood_result_print(const OodResult *, FILE *);

/* Puts the sets into the file ood.json of the run's folder, in place of earlier ones of the same names. checkpoint: which model
 * was measured. */
CHECKED Status ood_result_write(const OodResult *, const char *folder, const char *checkpoint);

#endif
