/* What an evaluation found, as JSON. */
#include "launch/evaluate/evaluate.h"
#include "launch/evaluate/ood_sets.h"
#include "tests/support.h"

#include <cJSON.h>
#include <stdlib.h>
#include <string.h>

static int64_t left; /* allocations of cJSON before the one that fails */
static void *allocate(size_t size) { return left-- == 0 ? NULL : malloc(size); }

/* Something of all that there can be. */
static void fill(EvaluationResult *result)
{
    static const char *const names[] = {"ant", "bee"};
    static OodSet set = {.name = "svhn", .what = "images", .samples = 3};
    static const OodResult outside = {
        .has_temperature = true, .temperature = {1, 1.5, 2}, .samples = 10, .count = 1, .set = &set};
    *result = (EvaluationResult){.samples = 10,
                                 .classes = 2,
                                 .replicates = 5,
                                 .ignored = {3, 1},
                                 .class_name = names,
                                 .has_temperature = true,
                                 .has_intervals = true,
                                 .has_ood = true,
                                 .has_more = true,
                                 .clusters = 4,
                                 .has_curve = true,
                                 .has_weighted = true,
                                 .has_inference = true,
                                 .has_bleu = true,
                                 .bleu_search = "beam 4",
                                 .bleu_signature = "nrefs:1",
                                 .group_kinds = 1,
                                 .group_kind = {{.name = "place", .groups = 2, .group = {"1", "2"}}},
                                 .checkpoint = "last",
                                 .outside = &outside,
                                 .recalibrations = 1};
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage) {
        result->measured[stage].bins = 2;
        result->measured[stage].samples = 10;
        result->more[stage].worst_count = 1;
        result->more[stage].has_classes = true;
        result->more[stage].replicates = 5;
    }
    result->recalibrated[0].measured.bins = 2;
    result->curve[EVALUATE_TEST].count = result->curve[EVALUATE_VALIDATION].count = 2;
    result->search.count = 2;
}

/* Whatever part of the JSON there is no memory for, there is an error and no text without that part. */
static void check(Status (*write)(const EvaluationResult *, char **text), const EvaluationResult *result,
                  int parts)
{
    char *whole, *text;
    assert_ok(write(result, &whole));
    cJSON *root = cJSON_Parse(whole);
    assert_non_null(root);
    cJSON_Delete(root);
    cJSON_Hooks failing = {.malloc_fn = allocate, .free_fn = free};
    cJSON_InitHooks(&failing);
    int allocations = 0;
    for (bool failed = true; failed; ++allocations) {
        left = allocations;
        Status status = write(result, &text);
        failed = status != OK;
        if (failed)
            assert_fails(status, STATUS_MEMORY, "as JSON");
        else
            assert_string_equal(text, whole);
        free(text);
    }
    cJSON_InitHooks(NULL);
    assert_true(allocations > parts);
    free(whole);
}

static void test_json_is_whole_or_an_error(void **state)
{
    (void)state;
    EvaluationResult *result = calloc(1, sizeof *result);
    assert_non_null(result);
    fill(result);
    check(evaluation_json, result, 1000);
    check(evaluation_curves_json, result, 30);
    result->has_temperature = result->has_intervals = false;
    check(evaluation_json, result, 300);
    free(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_is_whole_or_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
