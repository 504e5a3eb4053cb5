/* The sets of outputs that cases of the study take, as their inputs name them: logits or probabilities of validation and test,
 * or probabilities of which the case data/NAME says which rows are which. */
#ifndef PLUMB_TESTS_STUDY_SETS_H
#define PLUMB_TESTS_STUDY_SETS_H

#include "tests/golden.h"

#include "losses/calibration/logits.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    Npy values, labels;
    Logits logits; /* all rows, in one rank */
} StudySet;

static inline void study_close(StudySet *set)
{
    npy_close(&set->values);
    npy_close(&set->labels);
}

/* [first, end) of the rows in the file. */
static inline void study_rows(const GoldenCase *golden, const char *part, int64_t *first, int64_t *end)
{
    char id[256], path[64];
    const char *name = strchr(golden->id, '/') + 1, *stop = strchr(name, '/');
    (void)snprintf(id, sizeof id, "data/%.*s", stop != NULL ? (int)(stop - name) : (int)strlen(name), name);
    const GoldenCase *data = golden_need(golden->set, id);
    (void)snprintf(path, sizeof path, "params/rows/%s", part);
    *first = (int64_t)golden_number_at(data, path, 0);
    *end = (int64_t)golden_number_at(data, path, 1);
}

/* part: "validation" or "test". False, and a message, if the case's files are not here. */
static inline bool study_open(const GoldenCase *golden, const char *part, StudySet *set)
{
    const char *prefix = strcmp(part, "test") == 0 ? "test" : "val";
    char values[64], labels[64];
    *set = (StudySet){.logits = {.name = golden->id}};
    (void)snprintf(values, sizeof values, "inputs/%s_logits", prefix);
    (void)snprintf(labels, sizeof labels, "inputs/%s_labels", prefix);
    if (!golden_has(golden, values)) (void)snprintf(values, sizeof values, "inputs/%s_probabilities", prefix);
    const bool whole = !golden_has(golden, values);
    if (whole) {
        (void)snprintf(values, sizeof values, "inputs/probabilities");
        (void)snprintf(labels, sizeof labels, "inputs/labels");
    }
    if (access(golden_path(golden, values), R_OK) != 0) {
        print_message("left out: %s, as %s is absent\n", golden->id, golden_path(golden, values));
        return false;
    }
    assert_ok(npy_open(golden_path(golden, values), &set->values));
    assert_ok(npy_open(golden_path(golden, labels), &set->labels));
    assert_int_equal(set->values.rank, 2);
    int64_t first = 0, end = set->values.extent[0];
    if (whole) study_rows(golden, part, &first, &end);
    const int64_t classes = set->values.extent[1];
    set->logits = (Logits){
        .name = golden->id,
        .type = set->values.type,
        .values = (const char *)set->values.data + (size_t)(first * classes) * dtype_size(set->values.type),
        .probabilities = strstr(values, "probabilities") != NULL,
        .label_type = set->labels.type,
        .labels = (const char *)set->labels.data + (size_t)first * dtype_size(set->labels.type),
        .count = end - first,
        .total = end - first,
        .classes = classes};
    return true;
}

#endif
