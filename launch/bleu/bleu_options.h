/* The words after `plumb bleu`: sacreBLEU's options by sacreBLEU's names, read as Python's argparse reads them, so that its command
 * lines do here what they do there. */
#ifndef PLUMB_LAUNCH_BLEU_BLEU_OPTIONS_H
#define PLUMB_LAUNCH_BLEU_BLEU_OPTIONS_H

#include "nlp/bleu/metric.h"
#include "nlp/bleu/numpy_random.h"

typedef enum { BLEU_JSON, BLEU_TEXT, BLEU_LATEX } BleuFormat;

typedef struct {
    /* Files */
    const char **reference, **input; /* point into argv */
    int references, inputs;
    bool has_input;       /* --input, be it without a file */
    int reference_fields; /* --num-refs; 0: `var` */
    /* Metrics: in the order of the command line, none twice */
    Metric metric[METRIC_KINDS];
    int metrics, metrics_named;
    BleuPieces *pieces; /* of the tokeniser spm, or NULL */
    bool force;         /* do not look for tokenised text */
    /* Modes */
    bool sentences, confidence, paired_randomisation, paired_bootstrap, detail;
    int64_t confidence_samples, randomisation_trials, bootstrap_samples, jobs;
    /* Reports */
    BleuFormat format;
    int64_t width;
    bool quiet, brief, score_only, colours, version;
} BleuArguments;

/* argv[0] is the command's name. STATUS_USAGE names the option; STATUS_UNSUPPORTED one that is sacreBLEU's alone. */
CHECKED Status bleu_arguments_read(int argc, char **argv, BleuArguments *);
void bleu_arguments_free(BleuArguments *);

#endif
