/* What runs have recorded of their training beside the curves: reading it, and the report's sections. Folders are made up here. */
#include "tests/made_runs.h"
#include "tests/report_text.h"
#include "tests/support.h"

#include "launch/runs/run_dynamics.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two bins of gradients, four of the training split. */
#define GRADIENTS(lowest, upper)                                                                             \
    "\"gradient_norms\":{\"loss\":\"focal\",\"samples\":100,\"mean\":0.25,\"bins\":["                        \
    "{\"lower\":" lowest ",\"upper\":0.5,\"count\":30},{\"lower\":0.5,\"upper\":" upper ",\"count\":70}]}"
#define RELIABILITY                                                                                          \
    "\"train_reliability\":{\"samples\":40,\"error\":0.25,\"ece\":0.125,\"bins\":["                          \
    "{\"lower\":0,\"upper\":0.5,\"count\":10,\"share\":0.25,\"confidence\":0.4,\"accuracy\":0.5},"           \
    "{\"lower\":0.5,\"upper\":1,\"count\":30,\"share\":0.75,\"confidence\":0.8,\"accuracy\":0.9}]}"

static void put_dynamics(const char *folder)
{
    put_file(folder, "dynamics.jsonl",
             "{\"epoch\":1,\"step\":100," GRADIENTS("0", "0.6") "}\n"
                                                                "{\"epoch\":3,\"step\":300," GRADIENTS(
                                                                    "0.4", "null") "," RELIABILITY "}\n"
                                                                                   "{\"epoch\":4,\"ste");
}

static void put_best_models(const char *folder)
{
    char text[65536], *error = evaluation_text(0.105, 0.0611, 0.0311),
                      *ece = evaluation_text(0.155, 0.0211, -1);
    (void)snprintf(
        text, sizeof text,
        "{\"models\":[{\"measure\":\"error\",\"checkpoint\":\"best\",\"epoch\":3,\"step\":300,\"evaluation\":"
        "%s},"
        "{\"measure\":\"ece\",\"checkpoint\":\"best-ece\",\"epoch\":2,\"step\":200,\"evaluation\":%s}]}",
        error, ece);
    put_file(folder, "best_models.json", text);
    cJSON_free(error);
    cJSON_free(ece);
}

static void test_reading(void **state)
{
    (void)state;
    RunRecords records;
    const char *folder = new_run(scratch, "one", "focal");
    assert_ok(run_records_read(folder, &records));
    assert_true(records.dynamics_count == 0 && records.best_count == 0);
    run_records_free(&records);
    put_dynamics(folder);
    put_best_models(folder);
    assert_ok(run_records_read(folder, &records));
    assert_int_equal(records.dynamics_count, 2);
    const RunDynamics *first = &records.dynamics[0], *second = &records.dynamics[1];
    assert_true(first->epoch == 1 && first->gradient_samples == 100 && first->gradient_mean == 0.25);
    assert_int_equal(first->gradient_bins, 2);
    assert_true(first->gradient_bin[0].lower == 0 && first->gradient_bin[0].upper == 0.5);
    assert_true(first->gradient_bin[1].count == 70 && first->gradient_bin[1].upper == 0.6);
    assert_int_equal(first->reliability.bins, 0);
    assert_true(second->epoch == 3 && isinf(second->gradient_bin[1].upper));
    assert_int_equal(second->reliability.bins, 2);
    assert_true(second->reliability.ece == 0.125 && second->reliability.error == 0.25);
    assert_float_equal(second->reliability.mean_confidence, 0.7, 1e-12);
    assert_int_equal(records.best_count, 2);
    assert_string_equal(records.best[1].measure, "ece");
    assert_string_equal(records.best[1].checkpoint, "best-ece");
    assert_true(records.best[0].epoch == 3 &&
                records.best[0].evaluated.measure[EVALUATE_BEFORE].error == 0.105);
    assert_true(records.best[0].evaluated.has_temperature && !records.best[1].evaluated.has_temperature);
    run_records_free(&records);
}

static void test_norms_of_an_epoch(void **state)
{
    (void)state;
    const char *folder = new_run(scratch, "one", "focal");
    put_file(
        folder, "metrics.jsonl",
        "{\"epoch\":1,\"step\":5,\"norms\":{\"weights\":3.5,\"features\":2.5,\"logits\":null},\"train\":{"
        "\"loss\":1,\"error\":0}}\n"
        "{\"epoch\":2,\"step\":10,\"train\":{\"loss\":1,\"error\":0},\"test\":{\"mean_entropy\":0.75}}\n");
    RunSummary *runs = load_runs(scratch, 1);
    assert_int_equal(runs[0].epochs, 2);
    assert_true(runs[0].epoch[0].weight_norm == 3.5 && runs[0].epoch[0].feature_norm == 2.5 &&
                isnan(runs[0].epoch[0].logit_norm));
    assert_true(isnan(runs[0].epoch[1].weight_norm) && runs[0].epoch[1].split[SPLIT_TEST].entropy == 0.75);
    char *html = page_of(runs, 1, 0);
    assert_has(html, "Weight norm, last layer");
    assert_has(html, "Feature norm, last layer");
    assert_lacks(html, "Logit norm");
    free(html);
    run_summaries_free(runs, 1);
}

/* Of translation: evaluations in the course of epochs, BLEU at some of them. */
static void test_bleu_of_evaluations(void **state)
{
    (void)state;
    const char *folder = new_run(scratch, "one", "focal");
    put_file(folder, "metrics.jsonl",
             "{\"epoch\":0.25,\"step\":5,\"train\":{\"loss\":1},\"validation\":{\"nll\":3,\"bleu\":12.5}}\n"
             "{\"epoch\":0.5,\"step\":10,\"train\":{\"loss\":1},\"validation\":{\"nll\":2}}\n"
             "{\"epoch\":0.75,\"step\":15,\"train\":{\"loss\":1},\"validation\":{\"nll\":2,\"bleu\":25}}\n");
    RunSummary *runs = load_runs(scratch, 1);
    assert_int_equal(runs[0].epochs, 3);
    assert_true(runs[0].epoch[0].bleu == 12.5 && isnan(runs[0].epoch[1].bleu) && runs[0].epoch[2].bleu == 25);
    char *html = page_of(runs, 1, 0);
    assert_has(html, "Validation BLEU");
    /* Two points, at 0.25 and 0.75 of an epoch: the ends of the axis. */
    const char *figure = strstr(html, "aria-label=\"Validation BLEU\"");
    assert_non_null(figure);
    const char *end = strstr(figure, "</svg>");
    assert_non_null(end);
    int points = -1; /* the shape is defined once */
    for (const char *at = figure; (at = strstr(at, "gpPt6")) != NULL && at < end; ++at)
        ++points;
    assert_int_equal(points, 2);
    assert_has(figure, " 0.3<");
    free(html);
    run_summaries_free(runs, 1);
    put_metrics(folder, 2);
    runs = load_runs(scratch, 1);
    html = page_of(runs, 1, 0);
    assert_lacks(html, "Validation BLEU");
    free(html);
    run_summaries_free(runs, 1);
}

static void test_page(void **state)
{
    (void)state;
    complete_run(scratch, "one", "focal", 0.1, 0.0811, 0.0122);
    complete_run(scratch, "two", "brier", 0.1, 0.0711, 0.0122);
    RunSummary *runs = load_runs(scratch, 2);
    char *html = page_of(runs, 2, 0);
    assert_lacks(html, "Early stopping in hindsight");
    assert_lacks(html, "Gradients at the last layer");
    assert_lacks(html, "Reliability of the training samples");
    free(html);
    run_summaries_free(runs, 2);
    put_dynamics(path_in(scratch, "one"));
    put_file(path_in(scratch, "two"), "dynamics.jsonl",
             "{\"epoch\":3,\"step\":300," GRADIENTS("0.1", "0.6") "}\n");
    put_best_models(path_in(scratch, "one"));
    runs = load_runs(scratch, 2);
    html = page_of(runs, 2, 0);
    assert_int_equal(count_of(html, "aria-label=\"Histogram of gradient norms after epoch"), 2);
    assert_has(html, "<figcaption>After epoch 1</figcaption>");
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram of the training split"), 1);
    assert_has(html, "Epoch 3: <strong>ECE 12.50&nbsp;%</strong>, error 25.00&nbsp;%");
    assert_has(html, "Early stopping in hindsight");
    assert_has(html, "</th><td>ece</td><td class=\"number\">2</td><td class=\"number\">&ndash;</td><td "
                     "class=\"number\">15.50</td>");
    assert_has(html, "</th><td>error</td><td class=\"number\">3</td><td class=\"number\">1.7</td><td "
                     "class=\"number\">10.50</td>");
    assert_has(html, "</th><td>the last</td><td class=\"number\">4</td>");
    assert_int_equal(count_of(html, "<td>the last</td>"), 1); /* run two has kept no model */
    free(html);
    html = page_of(runs, 2, 1); /* run two is in no figure */
    assert_int_equal(count_of(html, "aria-label=\"Histogram of gradient norms after epoch"), 2);
    free(html);
    run_summaries_free(runs, 2);
}

/* A damaged file hides neither the others nor what stands before. */
static void test_damaged(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text, *said;
        int dynamics, best;
    } cases[] = {
        {"dynamics.jsonl", "{\"epoch\":1," RELIABILITY "}\nnothing\n",
         "dynamics.jsonl:2: not an object with an epoch", 2, 2},
        {"dynamics.jsonl", "{\"epoch\":1,\"gradient_norms\":{\"bins\":[]}}\n",
         "dynamics.jsonl:1: gradient_norms lacks", 1, 2},
        {"dynamics.jsonl", "{\"epoch\":1," GRADIENTS("0.7", "1") "}\n", "bin 0 of gradient_norms", 1, 2},
        {"dynamics.jsonl", "{\"epoch\":1," GRADIENTS("0.1", "0.4") "}\n", "bin 1 of gradient_norms", 1, 2},
        {"dynamics.jsonl", "{\"epoch\":1,\"gradient_norms\":{\"samples\":3,\"bins\":4}}\n",
         "not a list of bins", 1, 2},
        {"dynamics.jsonl", "{\"epoch\":1,\"train_reliability\":{\"bins\":[{\"lower\":2}]}}\n",
         "train_reliability", 1, 2},
        {"best_models.json", "[]", "best_models.json: not a list of models", 2, 0},
        {"best_models.json", "{\"models\":[{\"measure\":\"nll\"}]}", "without a usable \"checkpoint\"", 2, 1},
        {"best_models.json", "{\"models\":[{\"measure\":\"nll\",\"checkpoint\":\"best\"}]}",
         "best_models.json: has no \"before\"", 2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        complete_run(scratch, "one", "focal", 0.1, 0.0811, 0.0122);
        const char *folder = path_in(scratch, "one");
        put_dynamics(folder);
        put_best_models(folder);
        put_file(folder, cases[i].file, cases[i].text);
        RunRecords records;
        assert_fails(run_records_read(folder, &records), STATUS_INPUT, cases[i].said);
        assert_int_equal(records.dynamics_count, cases[i].dynamics);
        assert_int_equal(records.best_count, cases[i].best);
        run_records_free(&records);
        RunSummary *runs = load_runs(scratch, 1);
        char *html = page_of(runs, 1, 0);
        free(html);
        run_summaries_free(runs, 1);
    }
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_quiet_scratch, scratch_remove)
    const struct CMUnitTest tests[] = {TEST(test_reading), TEST(test_norms_of_an_epoch),
                                       TEST(test_bleu_of_evaluations), TEST(test_page), TEST(test_damaged)};
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
