/* Sources of batches: which samples a step takes, in which order, and what the program is given of them.
 *
 * A source serves one split. Its order is a function of (seed, epoch), what it makes of a sample a function of (seed,
 * epoch, sample): no result depends on how many ranks or threads there are. A Loader (loader.h) has batches filled
 * ahead by threads; what a batch holds is the source's concern alone.
 *
 * A step takes one Batch. A batch has one or more parts (gradient accumulation): a part is what one run of a program
 * takes. A part has one of the few shapes that the source names before the first step, and *fields*: host arrays, each
 * under the name of the program's input that it fills ("index", "tokens", "target", "weight"). A field that no input
 * takes stays on the host. */
#ifndef PLUMB_ENGINE_DATA_SOURCE_H
#define PLUMB_ENGINE_DATA_SOURCE_H

#include "engine/base/status.h"
#include "engine/graph/graph.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { SPLIT_TRAIN, SPLIT_VALIDATION, SPLIT_TEST, SPLIT_COUNT } Split;
const char *split_name(Split);

enum { BATCH_MAX_FIELDS = 12, BATCH_MAX_SHAPES = 128 };

/* A field of a part: the name of the input, and its shape there. */
typedef struct {
    const char *name;
    Shape shape;
} Field;

/* One shape that parts may have. All shapes of a source have the same fields, of the same types, in the same order. */
typedef struct {
    int64_t rows; /* of the logits that the program makes of it: samples, or nodes, or tokens of this rank */
    int field_count;
    Field field[BATCH_MAX_FIELDS];
} BatchShape;

/* What one run of a program takes. */
typedef struct {
    int shape; /* which of the source's */
    int64_t
        first; /* index of its first sample in the global batch's order, for the clock (CLOCK_FIRST_SAMPLE) */
    int64_t padding;               /* samples at its end that have weight 0, for the clock (CLOCK_PADDING) */
    void *field[BATCH_MAX_FIELDS]; /* dense; in the order of the shape's fields; owned by the loader */
} BatchPart;

typedef struct {
    int64_t number; /* in the epoch, from 0 */
    int64_t
        samples; /* without padding, of the global batch (in evaluation of this rank): what throughput counts */
    double total;    /* what a mean divides by: the weight of all ranks' rows (of trees: their number) */
    int parts;       /* at most the source's */
    BatchPart *part; /* [parts] */
} Batch;

/* The interface that a source implements. */
typedef struct Source Source;
struct Source {
    int shape_count;
    const BatchShape *shape; /* [shape_count], owned by the source */
    int parts;               /* the most that a batch has */
    int workers; /* threads that filling is worth: 1, or more where it decodes or waits for a disk */
    /* Batches of the epoch for this rank. In training the same on all ranks. */
    int64_t (*batches)(const Source *, int64_t epoch);
    /* Makes the epoch's order. No fill is under way meanwhile. */
    Status (*start)(Source *, int64_t epoch);
    /* Fills batch `number` of the epoch that was started: everything but its part[].field pointers, which are memory
     * for the largest shape. Any thread; several at once for different numbers. An error names the sample. */
    Status (*fill)(Source *, int64_t number, Batch *);
    void (*free)(Source *);
};

void source_free(Source *); /* NULL is allowed */

/* Place of the field in the shape; -1: none of that name. */
int batch_shape_find(const BatchShape *, const char *name);
/* The largest number of bytes that the field takes in any shape. */
size_t source_field_bytes(const Source *, int field);

/* ---- batches of samples ---- */

/* How sources whose steps take a fixed number of samples share a split.
 *
 * Training: batch b holds places b*B .. b*B+B-1 of the epoch's order; rank r of R takes the r-th of R equal contiguous
 * shares of it, a part the p-th of P equal pieces of that. A ragged last batch is padded at weight 0: with place 0, or
 * with what the source takes instead (documents: the batch's first; trees: nothing).
 * Evaluation: a rank takes its contiguous share of the split (in the split's order), batch by batch; a ragged last
 * batch repeats the first sample of that batch. */
typedef struct {
    int64_t batch; /* samples of a step over all ranks; a multiple of ranks * parts */
    int parts;
    int rank, ranks;
    uint64_t seed;
    bool training;
} SampleBatches;

/* STATUS_INPUT for a batch that ranks and parts cannot share equally, and for a split without samples. Warns of a batch of
 * training that is larger than the split. */
CHECKED Status sample_batches_check(const SampleBatches *, int64_t samples, const char *dataset, Split);
int64_t sample_batches_count(const SampleBatches *, int64_t samples);
/* Samples of a part: B / (R * P). */
int64_t sample_batches_rows(const SampleBatches *);
/* Sets number, samples, total and parts of the batch, first and padding of its parts; shapes are 0. */
void sample_batches_begin(const SampleBatches *, int64_t samples, int64_t number, Batch *);
/* The place in the epoch's order of row `row` of part `part`; *padding: of weight 0. */
int64_t sample_batches_place(const SampleBatches *, int64_t samples, int64_t number, int part, int64_t row,
                             bool *padding);
/* Rows first .. first + count - 1 of `total` belong to `rank` of `size`: contiguous, in the order of ranks. */
void share_of_rank(int64_t total, int rank, int size, int64_t *first, int64_t *count);

#endif
