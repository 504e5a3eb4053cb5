/* BLEU, chrF and TER behind one interface, so that tables, intervals and tests of significance know none of them. */
#ifndef PLUMB_NLP_BLEU_METRIC_H
#define PLUMB_NLP_BLEU_METRIC_H

#include "nlp/bleu/bleu.h"
#include "nlp/bleu/chrf.h"
#include "nlp/bleu/ter.h"

/* The sacreBLEU whose numbers these are, for signatures. */
#define SACREBLEU_VERSION "2.6.0"

typedef enum {
    METRIC_BLEU,
    METRIC_CHRF,
    METRIC_TER,
    METRIC_KINDS
} MetricKind; /* in the order of their names */

typedef struct {
    MetricKind kind;
    BleuTokenization tokenization; /* of METRIC_BLEU, as `bleu` */
    BleuOptions bleu;
    ChrfOptions chrf; /* of METRIC_CHRF */
    TerOptions ter;   /* of METRIC_TER */
} Metric;

enum { METRIC_WIDEST = 3 * CHRF_MOST_ORDERS }; /* no row of statistics is longer */
int metric_width(const Metric *);

/* "BLEU", "chrF2++", "TER"; release with free(). */
CHECKED Status metric_name(const Metric *, char **name);

/* What a signature says beside the metric's settings. */
typedef struct {
    int references;            /* -1: not the same for all segments */
    int64_t resamples, trials; /* of the bootstrap, of approximate randomisation; 0: none */
    const char *seed;          /* NULL: none */
    const char *version;
} SignatureFacts;
/* "nrefs:1|case:mixed|...", brief: "#:1|c:mixed|..."; release with free(). */
CHECKED Status metric_signature(const Metric *, const SignatureFacts *, bool brief, char **signature);

/* Counts segments: the references of one first, then any number of hypotheses of it. */
typedef struct MetricCounter MetricCounter;
CHECKED Status metric_counter_new(const Metric *, MetricCounter **);
void metric_counter_free(MetricCounter *); /* NULL is allowed */
CHECKED Status metric_counter_references(MetricCounter *, const TextSpan reference[], int references);
CHECKED Status metric_counter_count(MetricCounter *, TextSpan hypothesis, double row[]);

/* Of a segment's row, or of the sum of rows. */
Number metric_score(const Metric *, const double row[], Arithmetic);

/* What a report says behind the score, or NULL; release with free(). */
CHECKED Status metric_details(const Metric *, const double row[], char **text);

/* Segments: references[i] of them for segment i, those of one after those of another in `reference`; a hypothesis each of every
 * system. */
typedef struct {
    int64_t count;
    int systems;
    const TextSpan *const *hypothesis; /* [systems][count] */
    const TextSpan *reference;
    const int *references; /* [count] */
} Segments;
/* rows[count][systems][width], to be released with free(). */
CHECKED Status metric_rows(const Metric *, const Segments *, int threads, double **rows);

#endif
