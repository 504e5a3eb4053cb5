/* plumb score: how probable a run finds given translations. */
#ifndef PLUMB_LAUNCH_TRANSLATE_SCORE_H
#define PLUMB_LAUNCH_TRANSLATE_SCORE_H

#include "comm/comm.h"
#include "launch/train/run_use.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *run, *checkpoint;
    RunUse use;
    const char *source, *target; /* files, a sentence a line */
    double temperature;
    bool calibrated; /* the temperature is the run's */
    bool tokens;     /* of each token, the end token included, not of the line */
    int64_t
        longest; /* tokens of a side, its end token among them: longer lines are an error; 0: those of training */
    int output; /* descriptor */
} ScoreOptions;

/* Writes for each pair of lines the natural logarithm of the probability of the target, its end token included, given the
 * source; or those of its tokens, parted by spaces. A target without anything is the end token alone; an empty source is
 * one of an end token. Collective. */
CHECKED Status score(World *, const ScoreOptions *);

#endif
