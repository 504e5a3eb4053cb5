/* Runs that differ in nothing but their seed: which they are, and their means and deviations. */
#include "tests/made_runs.h"
#include "tests/report_text.h"
#include "tests/support.h"

#include "launch/runs/seed_groups.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_config(const char *name, const char *text)
{
    put_file(path_in(scratch, name), "config.yaml", text);
}

/* temperature: "1.7" or "null". */
static void seed_run(const char *name, const char *loss, int seed, double error, double ece,
                     const char *temperature)
{
    char config[300], *place;
    complete_run(scratch, name, loss, error, ece, ece / 2);
    (void)snprintf(config, sizeof config,
                   "resolved: true\nseed: %d\ndataset.folder: /data/%d\nloss.name: %s\nevaluate.bins: 15\n",
                   seed, seed, loss);
    put_config(name, config);
    char *text = evaluation_text(error, ece, ece / 2);
    assert_int_equal(strlen(temperature), 3);
    assert_non_null(place = strstr(text, "{\"ece\":1.7"));
    memcpy(place + strlen("{\"ece\":"), temperature, 3);
    put_file(path_in(scratch, name), "evaluation.json", text);
    cJSON_free(text);
}

static SeedGroup *find(const RunSummary runs[], int count, int expected)
{
    SeedGroup *groups;
    int found;
    assert_ok(seed_groups_find(runs, count, &groups, &found));
    assert_int_equal(found, expected);
    return groups;
}

static void expect(SeedStatistic got, int count, double mean, double deviation)
{
    assert_int_equal(got.count, count);
    assert_close(&got.mean, &mean, 1, 1e-15, 0, "mean");
    assert_close(&got.deviation, &deviation, 1, 1e-15, 0, "deviation");
}

static void test_statistic(void **state)
{
    (void)state;
    /* 2, 4, 4, 4, 5, 5, 7, 9: mean 5, squares of the differences 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32, over 7. */
    const double values[] = {2, 4, 4, 4, 5, 5, 7, 9};
    expect(seed_statistic(values, 8), 8, 5, 2.1380899352993950774764);
    /* Differences of 1 beside 2^50: sums of squares would keep nothing of them. */
    const double large[] = {0x1p50 + 1, 0x1p50 + 2, 0x1p50 + 3};
    expect(seed_statistic(large, 3), 3, 0x1p50 + 2, 1);
    const double holes[] = {NAN, 1, NAN, 2};
    expect(seed_statistic(holes, 4), 2, 1.5, 0.70710678118654752440084);
    expect(seed_statistic(holes, 2), 1, 1, NAN); /* one has no deviation, not that of 0 */
    expect(seed_statistic(holes, 1), 0, NAN, NAN);
    expect(seed_statistic(NULL, 0), 0, NAN, NAN);
}

static void test_means_over_seeds(void **state)
{
    (void)state;
    seed_run("focal-seed1", "focal", 1, 0.10, 0.02, "1.0");
    seed_run("focal-seed2", "focal", 2, 0.12, 0.04, "1.2");
    seed_run("focal-seed10", "focal", 10, 0.17, 0.03, "1.7");
    seed_run("brier", "brier", 1, 0.5, 0.25, "1.5");
    RunSummary *runs = load_runs(scratch, 4); /* brier, then focal of 1, 2, 10 */
    SeedGroup *group = find(runs, 4, 1);
    assert_string_equal(group->name, "focal-seed*");
    assert_int_equal(group->count, 3);
    assert_true(group->member[0] == 1 && group->member[1] == 2 && group->member[2] == 3);
    assert_true(group->incomplete == 0 && group->repeated == 0);
    /* Errors 10, 12, 17: mean 13, squares 9 + 1 + 16 = 26, over 2. */
    expect(group->before[0], 3, 0.13, 0.01 * sqrt(13));
    expect(group->temperature, 3, 1.3, 0.1 * sqrt(13)); /* 1.0, 1.2, 1.7 */
    /* ECE 2, 3, 4: deviation 1. The others are made of it and of the error. */
    static const struct {
        const char *key;
        double mean, deviation;
    } column[] = {{"error", 0.13, 0.036055512754639893},
                  {"nll", 0.3, 0.1},
                  {"ece", 0.03, 0.01},
                  {"ada_ece", 0.031, 0.01},
                  {"classwise_ece", 0.0075, 0.0025},
                  {"mce", 0.09, 0.03},
                  {"brier", 0.26, 0.0721110255092797857}};
    for (int i = 0; i < RUN_PUBLISHED_COLUMNS; ++i) {
        const SeedStatistic *before = &group->before[i], *after = &group->after[i];
        assert_string_equal(run_published_columns()[i].key, column[i].key);
        assert_int_equal(before->count, 3);
        assert_close(&before->mean, &column[i].mean, 1, 1e-14, 0, column[i].key);
        assert_close(&before->deviation, &column[i].deviation, 1, 1e-14, 0, column[i].key);
        assert_int_equal(after->count, 3);
    }
    expect(group->after[1], 3, 0.15, 0.05);

    char *text = table_of(runs, 4);
    size_t length;
    assert_string_equal(
        line_of(text, "focal-seed* ", &length),
        "focal-seed* 3 13.00 +- 3.61 1.30 +- 0.36 0.300 +- 0.100 -> 0.150 +- 0.050 3.00 +- 1.00 -> "
        "1.50 +- 0.50 3.10 +- 1.00 -> 1.60 +- 0.50");
    assert_has(text, "0.2600 +- 0.0721 -> 0.2600 +- 0.0721\n");
    assert_has(text, "mean +- sample standard deviation");
    assert_has(line_of(text, "focal-seed2", &length),
               "focal-seed2 12.00 1.2 0.400 -> "); /* its own row too */
    free(text);
    char *html = page_of(runs, 4, 0);
    assert_has(html, "<th scope=\"row\">focal-seed*</th><td class=\"number group\">3</td>"
                     "<td class=\"number group\">13.00<small>&plusmn;&nbsp;3.61</small></td>"
                     "<td class=\"number group\">1.30<small>&plusmn;&nbsp;0.36</small></td>"
                     "<td class=\"number group\">0.300<small>&plusmn;&nbsp;0.100</small></td>"
                     "<td class=\"number\">0.150<small>&plusmn;&nbsp;0.050</small></td>"
                     "<td class=\"number group\">3.00<small>&plusmn;&nbsp;1.00</small></td>"
                     "<td class=\"number\">1.50<small>&plusmn;&nbsp;0.50</small></td>");
    assert_has(html, "<td class=\"number group\">0.2600<small>&plusmn;&nbsp;0.0721</small></td>");
    assert_has(html, ">focal-seed10</th>");
    free(html);
    seed_groups_free(group, 1);
    run_summaries_free(runs, 4);
}

static void expect_no_group(int count)
{
    RunSummary *runs = load_runs(scratch, count);
    seed_groups_free(find(runs, count, 0), 0);
    char *text = table_of(runs, count), *html = page_of(runs, count, 1);
    assert_lacks(text, "+-");
    assert_lacks(html, "&plusmn;");
    assert_lacks(html, "Over seeds");
    free(text);
    free(html);
    run_summaries_free(runs, count);
}

static void test_one_seed_changes_nothing(void **state)
{
    (void)state;
    seed_run("one", "focal", 1, 0.10, 0.02, "1.0");
    expect_no_group(1);
    seed_run("two", "focal", 1, 0.12, 0.04, "1.2"); /* the same seed again is no other sample */
    seed_run("other", "brier", 2, 0.12, 0.04, "1.2");
    expect_no_group(3);
    put_metrics(new_run(scratch, "half", "focal"), 2);
    put_config("half", "resolved: true\nseed: 7\nloss.name: focal\nevaluate.bins: 15\n");
    expect_no_group(4);
}

static void test_what_makes_runs_differ(void **state)
{
    (void)state;
    static const char first[] = "resolved: true\nseed: 1\nmodel.sync_batch_norm: false\nloss.name: focal\n"
                                "loss.gammas: [5, 3]\nevaluate.bins: 15\nthreads: 0\ndevice: auto\n"
                                "dataset.folder: data\nevaluate.every: 1\ncheckpoint.minutes: 10\n";
    static const struct {
        const char *from, *to;
        bool alike;
    } change[] = {{"threads: 0", "threads: 3", true},
                  {"device: auto", "device: cuda", true},
                  {"dataset.folder: data", "dataset.folder: /else", true},
                  {"evaluate.every: 1", "evaluate.every: 0", true},
                  {"checkpoint.minutes: 10", "checkpoint.minutes: 1", true},
                  {"evaluate.bins: 15", "evaluate.bins: 30", false},
                  {"loss.name: focal", "loss.name: brier", false},
                  {"[5, 3]", "[5, 2]", false},
                  {"loss.name: focal\n", "", false},
                  {"loss.name: focal", "loss.name: focal\nlr: 1", false},
                  {"seed: 2\n", "", false}};
    seed_run("a", "focal", 1, 0.10, 0.02, "1.0");
    seed_run("b", "focal", 2, 0.12, 0.04, "1.2");
    put_config("a", first);
    for (size_t i = 0; i < sizeof change / sizeof change[0]; ++i) {
        char second[400], config[400];
        (void)snprintf(second, sizeof second, "%s", first);
        *strchr(second, '1') = '2'; /* the seed */
        const char *at = strstr(second, change[i].from);
        assert_non_null(at);
        (void)snprintf(config, sizeof config, "%.*s%s%s", (int)(at - second), second, change[i].to,
                       at + strlen(change[i].from));
        put_config("b", config);
        RunSummary *runs = load_runs(scratch, 2);
        SeedGroup *groups;
        int found;
        assert_ok(seed_groups_find(runs, 2, &groups, &found));
        if (found != change[i].alike) print_error("%s\n", change[i].to);
        assert_int_equal(found, change[i].alike);
        seed_groups_free(groups, found);
        run_summaries_free(runs, 2);
    }
}

/* Batch norm's statistics are of a rank's share of the batch, unless all ranks share them. */
static void test_number_of_ranks(void **state)
{
    (void)state;
    static const char *const config[][2] = {
        {"seed: 1\nmodel.sync_batch_norm: false\n", "seed: 2\nmodel.sync_batch_norm: false\n"},
        {"seed: 1\nmodel.sync_batch_norm: true\n", "seed: 2\nmodel.sync_batch_norm: true\n"}};
    seed_run("a", "focal", 1, 0.10, 0.02, "1.0");
    seed_run("b", "focal", 2, 0.12, 0.04, "1.2");
    for (int shared = 0; shared < 2; ++shared) {
        put_config("a", config[shared][0]);
        put_config("b", config[shared][1]);
        put_file(path_in(scratch, "a"), "environment.json", "{\"host\":\"x\",\"ranks\":2}");
        put_file(path_in(scratch, "b"), "environment.json", "{\"host\":\"y\",\"ranks\":2}");
        RunSummary *runs = load_runs(scratch, 2);
        seed_groups_free(find(runs, 2, 1), 1);
        run_summaries_free(runs, 2);
        put_file(path_in(scratch, "b"), "environment.json", "{\"host\":\"y\",\"ranks\":4}");
        runs = load_runs(scratch, 2);
        seed_groups_free(find(runs, 2, shared), shared);
        run_summaries_free(runs, 2);
    }
}

/* What is not there for every seed says of how many it is. */
static void test_incomplete_groups(void **state)
{
    (void)state;
    seed_run("s1", "focal", 1, 0.10, 0.02, "1.0");
    seed_run("s2", "focal", 2, 0.12, 0.04, "1.2");
    seed_run("s3", "focal", 3, 0.17, 0.03, "1.7");
    seed_run("s4", "focal", 3, 0.17, 0.03, "1.7");
    put_metrics(new_run(scratch, "s5", "focal"), 2);
    put_config("s5", "resolved: true\nseed: 5\nloss.name: focal\nevaluate.bins: 15\n");
    put_file(path_in(scratch, "s5"), "failure.txt", "the loss is NaN");
    char *alone = evaluation_text(0.12, 0.04, -1); /* one without validation */
    put_file(path_in(scratch, "s2"), "evaluation.json", alone);
    cJSON_free(alone);
    char *bad = evaluation_text(0.17, 0.03, 0.015), *nll = strstr(bad, "\"nll\":0.3,"); /* one infinite */
    assert_non_null(nll);
    memcpy(nll, "\"nl_\":0.3,", 10);
    put_file(path_in(scratch, "s3"), "evaluation.json", bad);
    cJSON_free(bad);
    RunSummary *runs = load_runs(scratch, 5);
    SeedGroup *group = find(runs, 5, 1);
    assert_string_equal(group->name, "s*");
    assert_true(group->count == 3 && group->incomplete == 1 && group->repeated == 1);
    expect(group->before[1], 2, 0.3, 0.2 / sqrt(2));
    expect(group->temperature, 2, 1.35, 0.35 * sqrt(2));
    seed_groups_free(group, 1);
    char *text = table_of(runs, 5), *html = page_of(runs, 5, 1);
    assert_has(text, "s* is without 1 run that is not complete and 1 of a seed that it has already.");
    assert_has(text, "0.300 +- 0.141 (n=2)");
    assert_has(html, "0.300<small>&plusmn;&nbsp;0.141</small><small>n = 2</small>");
    assert_has(html,
               "s*<small>1 run not complete</small><small>1 run of a seed that is there already</small>");
    free(text);
    free(html);
    run_summaries_free(runs, 5);
    /* Of two seeds one has a temperature. */
    put_file(path_in(scratch, "s3"), "config.yaml", "seed: 9\n");
    put_file(path_in(scratch, "s4"), "config.yaml", "seed: 9\nloss.name: mmce\n");
    runs = load_runs(scratch, 5);
    text = table_of(runs, 5), html = page_of(runs, 5, 1);
    assert_has(text, "1.00 (n=1) ");
    assert_lacks(text, "+- 0.00 (n=1)");
    assert_has(html, "<td class=\"number group\">1.00<small>n = 1</small></td>");
    free(text);
    free(html);
    run_summaries_free(runs, 5);
}

static void expect_names(int count, const char *const names[], int groups, const char *const wanted[])
{
    RunSummary run[8] = {{.path = NULL}};
    static RunFact loss[2][2] = {{{"seed", NULL}, {"loss", "a"}}, {{"seed", NULL}, {"loss", "b"}}};
    RunFact facts[8][2];
    static char seeds[8][2] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    for (int i = 0; i < count; ++i) {
        memcpy(facts[i], loss[groups == 1 ? 0 : i % 2], sizeof facts[i]);
        facts[i][0].value = seeds[i];
        run[i].name = (char *)(uintptr_t)names[i];
        run[i].setting = (RunFacts){facts[i], 2};
        run[i].has_measure[EVALUATE_BEFORE] = true;
    }
    SeedGroup *group = find(run, count, groups);
    for (int i = 0; i < groups; ++i)
        assert_string_equal(group[i].name, wanted[i]);
    seed_groups_free(group, groups);
}

static void test_names_of_groups(void **state)
{
    (void)state;
#define NAMES(...) (const char *const[]){__VA_ARGS__}
    expect_names(2, NAMES("focal-seed1", "focal-seed2"), 1, NAMES("focal-seed*"));
    expect_names(3, NAMES("focal-seed10", "focal-seed11", "focal-seed12"), 1, NAMES("focal-seed*"));
    expect_names(2, NAMES("1-cifar10", "2-cifar10"), 1, NAMES("*-cifar10"));
    expect_names(2, NAMES("1-resnet50", "21-resnet50"), 1, NAMES("*-resnet50"));
    expect_names(2, NAMES("a/s1/focal", "a/s2/focal"), 1, NAMES("a/s*/focal"));
    expect_names(2, NAMES("run", "run-again"), 1, NAMES("run*"));
    expect_names(2, NAMES("aa", "aaa"), 1, NAMES("aa*")); /* start and end do not share a letter */
    expect_names(2, NAMES("one", "two"), 1, NAMES("one, two"));
    expect_names(2, NAMES("\xc3\xa9", "\xc3\xa8"), 1,
                 NAMES("\xc3\xa9, \xc3\xa8")); /* half a letter is none */
    expect_names(4, NAMES("x1", "y1", "x2", "y2"), 2, NAMES("x*", "y*"));
    expect_names(4, NAMES("x1", "x2", "x3", "x4"), 2, NAMES("x1, x3", "x2, x4"));
#undef NAMES
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_quiet_scratch, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_statistic),
        TEST(test_means_over_seeds),
        TEST(test_one_seed_changes_nothing),
        TEST(test_what_makes_runs_differ),
        TEST(test_number_of_ranks),
        TEST(test_incomplete_groups),
        TEST(test_names_of_groups),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
