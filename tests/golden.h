/* Golden values: inputs and what is expected of them, in sets made elsewhere, which tests read as they are.
 *
 * A set is a folder with manifest.json, which lists cases. A case has an id, a kind, `params`, `inputs` and `expected_files`
 * (role -> path in the set, or a table of roles), `expected` (numbers) and `tolerance`. The README beside a set defines its
 * kinds. Tests iterate over the cases of a kind and know no file name, so a new set needs no new test:
 *
 *     for (const GoldenCase *golden = NULL; (golden = golden_next("layer", "params/kernel", golden)) != NULL;) {
 *         GoldenArray x = golden_array(golden, "inputs/x"), weight = golden_array(golden, "inputs/param_weight");
 *         ... x.extent, x.values (doubles, in the file's order), golden_number(golden, "params/kernel") ...
 *         golden_check(golden, "expected_files/y", got, count_of_got, "f32");
 *         golden_array_free(&x);
 *         golden_array_free(&weight);
 *     }
 *
 * Everything in a case is named by a path of keys from the case's root: "params/kernel", "expected/T=1/official_f32/ece15",
 * "expected_files/T=1/bins15". (For keys that hold a slash, use case->json.)
 *
 * Where sets are: with PLUMB_TEST_GOLDEN=FOLDER in the environment, FOLDER and each folder in it that has a manifest.json.
 * Without it, tests/golden of the source in the same way (a part of the sets, in their layout: see tests/golden_part.py), and
 * then ../shared/golden beside the source, if it is there, for the cases that tests/golden lacks.
 *
 * Each kind of case must stand in the table of golden_kinds.c: with the suite that reads it, or why none does yet. The suite
 * test_golden compares that table with the sets. */
#ifndef PLUMB_TESTS_GOLDEN_H
#define PLUMB_TESTS_GOLDEN_H

#include "tests/support.h"

#include <cjson/cJSON.h>

/* A case; it lives as long as the program does. */
typedef struct GoldenCase {
    const char *id, *kind;
    const char *set;    /* the folder's name below PLUMB_TEST_GOLDEN: "" or "text", "study" */
    const char *folder; /* to which the paths in the case are relative */
    const cJSON *json;  /* the case itself */
} GoldenCase;

/* The first case of `kind` (after: NULL) or the one after `after`, set after set in the order of their manifests; NULL: there is
 * no further one. mark: only cases that have this path, NULL for all. A kind that the table of golden_kinds.c says no suite
 * reads fails the test. */
const GoldenCase *golden_next(const char *kind, const char *mark, const GoldenCase *after);
/* The case `id` (a path such as "logits/k10_n64") of `set`, or NULL. */
const GoldenCase *golden_find(const char *set, const char *id);
/* The same for a case that must be there; skips the test, and says so, where PLUMB_TEST_GOLDEN names sets without it. */
const GoldenCase *golden_need(const char *set, const char *id);
/* A case that stands in tests/golden, as an example for a test of something else: from there, whatever PLUMB_TEST_GOLDEN says
 * (unless the suite runs away from its source). */
const GoldenCase *golden_example(const char *set, const char *id);

/* ---- what a case holds; a path that is absent fails the test, but for golden_has and the ..._or ---- */

bool golden_has(const GoldenCase *, const char *path);
const cJSON *golden_item(const GoldenCase *, const char *path);
/* Numbers; also true and false, and the texts "nan", "inf" and "-inf". */
double golden_number(const GoldenCase *, const char *path);
double golden_number_or(const GoldenCase *, const char *path, double otherwise);
double golden_number_at(const GoldenCase *, const char *path, int index); /* of a list */
const char *golden_text(const GoldenCase *, const char *path);
int golden_length(const GoldenCase *, const char *path); /* of a list or a table */
double golden_json_number(const cJSON *);

/* ---- files ---- */

/* An .npy file of any type. */
typedef struct {
    DType type; /* of the file */
    int rank;
    int64_t extent[NPY_MAX_RANK], count;
    double *values;
} GoldenArray;
GoldenArray golden_array(const GoldenCase *, const char *path);
void golden_array_free(GoldenArray *);
/* Where the file is; valid until 15 more paths were asked for. */
const char *golden_path(const GoldenCase *, const char *path);
/* A file of the set that another file names, by its path in the set. */
const char *golden_path_in(const GoldenCase *, const char *name);
/* A JSON file, to be released with cJSON_Delete; a text file, to be released with free(). */
cJSON *golden_document(const GoldenCase *, const char *path);
char *golden_read_text(const char *path);

/* ---- comparison ---- */

typedef struct {
    double relative, absolute; /* |got - want| <= absolute + relative * |want| */
} GoldenTolerance;
bool golden_is_close(double got, double want, GoldenTolerance); /* NaN equals NaN */
/* tolerance/PRECISION ("f32", "f64"), or tolerance/PRECISION/ROLE where the manifest gives one for each role. */
GoldenTolerance golden_tolerance(const GoldenCase *, const char *precision, const char *role);

/* `got` against the file at `path`, whose last key is the role of golden_tolerance. The message of a failure
 * names the case, the role and the element. Returns how many elements were compared. */
int64_t golden_check(const GoldenCase *, const char *path, const double *got, int64_t count,
                     const char *precision);
int64_t golden_check_float(const GoldenCase *, const char *path, const float *got, int64_t count,
                           const char *precision);
/* The same for one number at `path`. */
void golden_check_number(const GoldenCase *, const char *path, double got, GoldenTolerance);
/* Values compared by these functions so far, and by other means: golden_count adds them. */
int64_t golden_checked(void);
void golden_count(int64_t count);

#endif
