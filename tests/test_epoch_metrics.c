/* A line of metrics.jsonl. */
#include "tests/support.h"

#include "launch/train/epoch_metrics.h"

#include <cJSON.h>
#include <math.h>
#include <stdlib.h>

/* A network that diverged to equal logits: its AdaECE leaves out every sample, and 0 would look like the best. */
static void test_meaningless(void **state)
{
    (void)state;
    enum { ROWS = 20, CLASSES = 4 };
    static const float values[ROWS][CLASSES];
    static const uint8_t labels[ROWS] = {3, 1, 2};
    static EpochMetrics metrics = {.epoch = 1, .has = {[SPLIT_TEST] = true}, .bleu = NAN};
    const Logits logits = {.name = "test",
                           .type = FLOAT32,
                           .values = values,
                           .label_type = UINT8,
                           .labels = labels,
                           .count = ROWS,
                           .total = ROWS,
                           .classes = CLASSES};
    Collective *alone;
    char *line;
    assert_ok(collective_self(&alone));
    assert_ok(calibration_measure(alone, &logits, 1, 15, 1, &metrics.split[SPLIT_TEST], NULL));
    assert_true(metrics.split[SPLIT_TEST].ada_ece == 0);
    assert_ok(epoch_metrics_json(&metrics, &line));
    cJSON *root = cJSON_Parse(line);
    const cJSON *test = cJSON_GetObjectItemCaseSensitive(root, "test");
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(test, "ada_ece")));
    assert_true(cJSON_GetObjectItemCaseSensitive(test, "ada_ece_left_out")->valuedouble == 1);
    assert_true(cJSON_GetObjectItemCaseSensitive(test, "ece")->valuedouble > 0.5);
    cJSON_Delete(root);
    free(line);
    collective_free(alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_meaningless)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
