/* What the suites of evaluation share: golden sets of logits, and a rank's share of them. */
#ifndef PLUMB_TESTS_EVALUATION_SUPPORT_H
#define PLUMB_TESTS_EVALUATION_SUPPORT_H

#include "tests/support.h"

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

/* labels: NULL for a set without. */
static inline LogitSet set_open(const World *world, const char *values, const char *labels)
{
    char path[4096];
    LogitSet set = {0};
    (void)snprintf(path, sizeof path, "%s/%s", golden_folder(), values);
    assert_ok(npy_open(path, &set.values));
    assert_int_equal(set.values.rank, 2);
    if (labels != NULL) {
        (void)snprintf(path, sizeof path, "%s/%s", golden_folder(), labels);
        assert_ok(npy_open(path, &set.labels));
        assert_int_equal(set.labels.extent[0], set.values.extent[0]);
    }
    set.logits = (Logits){.name = values,
                          .type = set.values.type,
                          .label_type = set.labels.type,
                          .total = set.values.extent[0],
                          .classes = set.values.extent[1]};
    int64_t first, count;
    logits_share(set.logits.total, world->rank, world->size, &first, &count);
    set.logits = rows_of(&set, first, count);
    return set;
}

static inline void set_close(LogitSet *set)
{
    npy_close(&set->values);
    if (set->labels.data != NULL) npy_close(&set->labels);
}

#endif
