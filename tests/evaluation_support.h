/* What the suites of evaluation share: logits of golden cases, and a rank's share of them. */
#ifndef PLUMB_TESTS_EVALUATION_SUPPORT_H
#define PLUMB_TESTS_EVALUATION_SUPPORT_H

#include "tests/golden.h"

#include "comm/comm.h"
#include "losses/calibration/logits.h"

#include <stdio.h>

typedef struct {
    Npy values, labels;
    Logits logits; /* this rank's rows */
} LogitSet;

/* The set's rows [first, first + count). */
static inline Logits rows_of(const LogitSet *set, int64_t first, int64_t count)
{
    Logits logits = set->logits;
    logits.values =
        (const uint8_t *)set->values.data + (size_t)(first * logits.classes) * dtype_size(set->values.type);
    if (set->labels.data != NULL)
        logits.labels = (const uint8_t *)set->labels.data + (size_t)first * dtype_size(set->labels.type);
    logits.first = first;
    logits.count = count;
    return logits;
}

/* The logits and labels of a golden case; labels: NULL for a set without. */
static inline LogitSet set_open(const World *world, const GoldenCase *golden, const char *values,
                                const char *labels)
{
    LogitSet set = {0};
    assert_ok(npy_open(golden_path(golden, values), &set.values));
    assert_int_equal(set.values.rank, 2);
    if (labels != NULL) {
        assert_ok(npy_open(golden_path(golden, labels), &set.labels));
        assert_int_equal(set.labels.extent[0], set.values.extent[0]);
    }
    set.logits = (Logits){.name = golden->id,
                          .type = set.values.type,
                          .label_type = set.labels.type,
                          .total = set.values.extent[0],
                          .classes = set.values.extent[1]};
    int64_t first, count;
    share_of_rank(set.logits.total, world->rank, world->size, &first, &count);
    set.logits = rows_of(&set, first, count);
    return set;
}

/* Logits that a test takes as an example: the case logits/NAME of tests/golden. */
static inline LogitSet set_example(const World *world, const char *name)
{
    char id[256];
    (void)snprintf(id, sizeof id, "logits/%s", name);
    return set_open(world, golden_example("", id), "inputs/logits", "inputs/labels");
}

static inline void set_close(LogitSet *set)
{
    npy_close(&set->values);
    if (set->labels.data != NULL) npy_close(&set->labels);
}

#endif
