/* plumb translate: a run as a translator of lines, on one rank or several. */
#ifndef PLUMB_LAUNCH_TRANSLATE_TRANSLATE_H
#define PLUMB_LAUNCH_TRANSLATE_TRANSLATE_H

#include "comm/comm.h"
#include "launch/search/translator.h"
#include "launch/train/run_use.h"

typedef struct {
    const char *run, *checkpoint;
    RunUse use;
    const char *prefix; /* a file with a beginning for each line; NULL: none */
    TranslatorOptions lines;
    bool calibrated;    /* the temperature is the run's */
    int64_t sentences;  /* at a time on each rank; 0: as fits the device */
    int64_t longest;    /* tokens of a source, its end token among them; 0: those of training */
    bool deterministic; /* the same bits whatever is translated together */
    int64_t progress; /* seconds between two lines of progress where standard error is no terminal; 0: none */
    bool stream;      /* several ranks wait for no further line: what is there is shared out */
    int input, output; /* descriptors */
} TranslateOptions;

/* Reads lines from the input (of rank 0) and writes one for each, in order. Collective. */
CHECKED Status translate(World *, const TranslateOptions *);

#endif
