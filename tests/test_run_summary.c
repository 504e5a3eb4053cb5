/* What is read of runs' folders, whole, damaged and failed. Folders are made up here. */
#include "tests/listening.h"
#include "tests/made_runs.h"
#include "tests/support.h"

#include "engine/base/file.h"
#include "launch/runs/run_folder.h"
#include "launch/runs/run_table.h"

#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reading ---- */

static void test_reads_a_run(void **state)
{
    (void)state;
    complete_run(scratch, "brier", "brier", 0.125, 0.0625, 0.03125);
    RunSummary *runs = load_runs(path_in(scratch, "brier/"), 1);
    const RunSummary *run = &runs[0];
    assert_string_equal(run->name, "brier");
    assert_int_equal(run->state, RUN_COMPLETE);
    assert_null(run->problem);
    assert_true(run->has_temperature && run->temperature_ece == 1.7 && run->temperature_nll == 1.9);
    assert_true(run->samples == 10000 && run->classes == 10);
    const RunMeasure *before = run_summary_before(run), *after = run_summary_after(run);
    assert_true(before->error == 0.125 && before->ece == 0.0625 && before->nll == 0.625);
    assert_true(before->mce == 0.1875 && before->classwise_ece == 0.0625 / 4 && before->ada_ece == 0.0635);
    assert_true(after->ece == 0.03125);
    assert_true(isnan(before->s99_accuracy) && before->s99_fraction == 0.4);
    assert_true(before->has_intervals && before->interval.ece.lower == 0.9 * 0.0625);
    assert_int_equal(before->bins, MADE_BINS);
    assert_int_equal(before->bin[14].count, 140);
    assert_true(before->bin[14].upper == 1);
    assert_int_equal(run->epochs, MADE_EPOCHS);
    assert_int_equal(run->epochs_planned, MADE_EPOCHS);
    assert_true(run->epoch[1].epoch == 2 && run->epoch[1].train_loss == 1);
    assert_true(run->epoch[1].split[SPLIT_TEST].measured && !run->epoch[1].split[SPLIT_VALIDATION].measured);
    assert_true(run->epoch[1].split[SPLIT_TEST].nll_misclassified == 2.5);
    assert_string_equal(run_facts_find(&run->setting, "schedule.epochs"), "[150, 250]");
    assert_string_equal(run_facts_find(&run->setting, "optimizer.groups"),
                        "[{parameters: *.bias, frozen: true}, {}]");
    assert_string_equal(run_facts_find(&run->setting, "loss.name"), "brier");
    assert_null(run_facts_find(&run->setting, "resolved"));
    assert_string_equal(run_facts_find(&run->environment, "ranks"), "2");
    run_summaries_free(runs, 1);
}

static void test_without_validation(void **state)
{
    (void)state;
    complete_run(scratch, "one", "brier", 0.1, 0.02, -1);
    RunSummary *runs = load_runs(scratch, 1);
    assert_int_equal(runs[0].state, RUN_COMPLETE);
    assert_non_null(run_summary_before(&runs[0]));
    assert_null(run_summary_after(&runs[0]));
    assert_false(runs[0].has_temperature);
    run_summaries_free(runs, 1);
}

static void test_order_and_states(void **state)
{
    (void)state;
    complete_run(scratch, "run10", "brier", 0.1, 0.02, 0.01);
    put_metrics(new_run(scratch, "run2", "focal"), 3);
    RunSummary *runs = load_runs(scratch, 2);
    assert_string_equal(runs[0].name, "run2"); /* 2 before 10 */
    assert_string_equal(runs[1].name, "run10");
    run_summaries_free(runs, 2);
    put_file(scratch, "sweep.json", "{\"sweep\":\"s\",\"runs\":[\"run10\",\"never\",\"run2\"]}");
    runs = load_runs(scratch, 3);
    assert_string_equal(runs[0].name, "run10");
    assert_string_equal(runs[1].name, "never");
    assert_string_equal(runs[2].name, "run2");
    assert_int_equal(runs[0].state, RUN_COMPLETE);
    assert_int_equal(runs[1].state, RUN_MISSING);
    assert_int_equal(runs[2].state, RUN_UNFINISHED);
    assert_int_equal(runs[2].epochs, 3);
    char text[200];
    run_state_text(&runs[2], text, sizeof text);
    assert_string_equal(text, "unfinished: 3 of 4 epochs done; so far: test error 10.00 %, ECE 4.00 %");
    run_summaries_free(runs, 3);
}

static void test_names_tell_runs_apart(void **state)
{
    (void)state;
    char folders[3][SCRATCH_SIZE];
    RunSummary *runs;
    int count;
    static const char *const sweep[] = {"a/first", "b/first", "b"};
    for (int i = 0; i < 3; ++i) {
        assert_ok(file_join(folders[i], scratch, sweep[i]));
        complete_run(folders[i], i < 2 ? "brier" : "mmce", "brier", 0.1, 0.02, 0.01);
    }
    const char *const paths[] = {folders[0], folders[1], path_in(folders[2], "mmce")};
    assert_ok(run_summaries_load(paths, 3, &runs, &count));
    assert_int_equal(count, 3);
    assert_string_equal(runs[0].name, "a/first/brier");
    assert_string_equal(runs[1].name, "b/first/brier");
    assert_string_equal(runs[2].name, "mmce");
    run_summaries_free(runs, count);
    runs = load_runs(scratch, 3); /* folders of folders */
    run_summaries_free(runs, 3);
}

static void test_nothing_to_read(void **state)
{
    (void)state;
    RunSummary *runs;
    int count;
    const char *path = path_in(scratch, "absent");
    assert_fails(run_summaries_load(&path, 1, &runs, &count), STATUS_IO, "absent");
    assert_null(runs);
    path = scratch;
    assert_fails(run_summaries_load(&path, 1, &runs, &count), STATUS_INPUT, "holds no run");
    put_file(scratch, "file", "text");
    path = path_in(scratch, "file");
    assert_fails(run_summaries_load(&path, 1, &runs, &count), STATUS_INPUT, "not a folder");
    assert_fails(run_summaries_load(NULL, 0, &runs, &count), STATUS_USAGE, "no folder");
}

/* A sweep.json cannot lead out of its folder, and a damaged one does not hide the runs. */
static void test_hostile_sweep_list(void **state)
{
    (void)state;
    static const char *const lists[] = {"{\"runs\":[\"inside\",\"../outside\"]}",
                                        "{\"runs\":[\"/etc\"]}",
                                        "{\"runs\":[\"..\"]}",
                                        "{\"runs\":[3]}",
                                        "{\"runs\":4}",
                                        "{\"runs\":[",
                                        ""};
    complete_run(scratch, "outside", "brier", 0.1, 0.02, 0.01);
    complete_run(scratch, "sweep/inside", "brier", 0.1, 0.02, 0.01);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; ++i) {
        put_file(scratch, "sweep/sweep.json", lists[i]);
        RunSummary *runs = load_runs(path_in(scratch, "sweep"), 1);
        assert_string_equal(runs[0].name, "inside");
        run_summaries_free(runs, 1);
    }
}

/* Both paths lead to runs a/one and a/never alone; `said`: in the one warning. */
static void expect_once(const char *first, const char *second, const char *said)
{
    const char *const paths[] = {first, second};
    RunSummary *runs;
    int count;
    start_listening();
    Status status = run_summaries_load(paths, 2, &runs, &count);
    char *text = heard();
    assert_ok(status);
    assert_int_equal(count, 2);
    assert_string_equal(runs[0].name, "one");
    assert_string_equal(runs[1].name, "never");
    assert_int_equal(strncmp(text, "warning: ", 9), 0);
    assert_int_equal(lines_of(text), 1);
    if (strstr(text, said) == NULL) print_error("%s\n", text);
    assert_non_null(strstr(text, said));
    free(text);
    run_summaries_free(runs, count);
}

static void test_a_run_counts_once(void **state)
{
    (void)state;
    char folder[SCRATCH_SIZE], link[SCRATCH_SIZE];
    assert_ok(file_join(folder, scratch, "a"));
    assert_ok(file_join(link, scratch, "link"));
    complete_run(folder, "one", "brier", 0.1, 0.02, 0.01);
    put_file(folder, "sweep.json", "{\"runs\":[\"one\",\"never\"]}");
    assert_int_equal(symlink(folder, link), 0);
    expect_once(folder, folder, "/a: 2 runs were found before and count once\n");
    expect_once(folder, path_in(scratch, "a/"), "/a/: 2 runs were found before");
    expect_once(folder, path_in(scratch, "a/../a"), "/a/../a/one is ");
    expect_once(folder, link, "/link/one is ");
    expect_once(folder, path_in(link, "one"), "/link/one: 1 run was found before and counts once: ");
    /* A link beside the run that it leads to. */
    assert_int_equal(unlink(path_in(folder, "sweep.json")), 0);
    assert_int_equal(symlink("one", path_in(folder, "latest")), 0);
    start_listening();
    RunSummary *runs = load_runs(folder, 1);
    char *text = heard();
    assert_string_equal(runs[0].name, "one");
    assert_int_equal(lines_of(text), 1);
    free(text);
    run_summaries_free(runs, 1);
    /* The list of a sweep that is read in vain leaves no run behind, and none counted twice. */
    put_file(folder, "sweep.json", "{\"runs\":[\"one\",\"one\",3]}");
    assert_int_equal(unlink(path_in(folder, "latest")), 0);
    start_listening();
    runs = load_runs(folder, 1);
    text = heard();
    assert_non_null(strstr(text, "taken by name"));
    assert_int_equal(lines_of(text), 1);
    free(text);
    run_summaries_free(runs, 1);
}

/* ---- damage ---- */

static void expect_damage(const char *file, const char *text, RunState state, const char *problem)
{
    put_file(path_in(scratch, "run"), file, text);
    RunSummary *runs = load_runs(scratch, 1);
    assert_int_equal(runs[0].state, state);
    if (problem == NULL) {
        assert_null(runs[0].problem);
    } else {
        assert_non_null(runs[0].problem);
        assert_non_null(strstr(runs[0].problem, file)); /* names the file */
        if (strstr(runs[0].problem, problem) == NULL) print_error("%s\n", runs[0].problem);
        assert_non_null(strstr(runs[0].problem, problem));
    }
    run_summaries_free(runs, 1);
}

static void test_damaged_evaluations(void **state)
{
    (void)state;
    complete_run(scratch, "run", "brier", 0.1, 0.02, 0.01);
    char *whole = evaluation_text(0.1, 0.02, 0.01);
    const size_t length = strlen(whole);
    /* Cut short anywhere. */
    for (size_t cut = 0; cut < length; cut += cut < 300 ? 1 : 37) {
        const char kept = whole[cut];
        whole[cut] = '\0';
        expect_damage("evaluation.json", whole, RUN_DAMAGED, cut == 0 ? "empty" : "cut short");
        whole[cut] = kept;
    }
    expect_damage("evaluation.json", whole, RUN_COMPLETE, NULL);
    cJSON_free(whole);
    expect_damage("evaluation.json", "{}", RUN_DAMAGED, "before");
    expect_damage("evaluation.json", "[1]", RUN_DAMAGED, "JSON object");
    expect_damage("evaluation.json", "\x01\xff garbage", RUN_DAMAGED, "JSON object");
    expect_damage("evaluation.json", "{\"before\":{}}", RUN_DAMAGED, "error or ece");
    expect_damage("evaluation.json", "{\"before\":{\"error\":0.1,\"ece\":1e999,\"bins\":[]}}", RUN_DAMAGED,
                  "error or ece");
    expect_damage("evaluation.json", "{\"before\":{\"error\":0.1,\"ece\":0.1,\"bins\":{}}}", RUN_DAMAGED,
                  "before.bins");
    expect_damage("evaluation.json", "{\"before\":{\"error\":0.1,\"ece\":0.1,\"bins\":[]}}", RUN_DAMAGED,
                  "before.bins");
    expect_damage("evaluation.json", "{\"before\":{\"error\":0.1,\"ece\":0.1,\"bins\":[{\"lower\":0}]}}",
                  RUN_DAMAGED, "bin 0");
    expect_damage("evaluation.json",
                  "{\"before\":{\"error\":0.1,\"ece\":0.1,\"interval\":{\"ece\":[1]},\"bins\":[]}}",
                  RUN_DAMAGED, "before.interval");
    expect_damage("evaluation.json",
                  "{\"before\":{\"error\":0.1,\"ece\":0.1,\"bins\":[{\"lower\":0,\"upper\":1,\"count\":-1,"
                  "\"confidence\":0.5,\"accuracy\":0.5}]}}",
                  RUN_DAMAGED, "bin 0");
}

static void test_damaged_metrics(void **state)
{
    (void)state;
    complete_run(scratch, "run", "brier", 0.1, 0.02, 0.01);
    expect_damage("metrics.jsonl", "{\"epoch\":1}\n{\"epoch\":2}\n{\"epo", RUN_COMPLETE,
                  NULL); /* being written */
    expect_damage("metrics.jsonl", "", RUN_COMPLETE, NULL);
    expect_damage("metrics.jsonl", "{\"epoch\":1}\n{\"epo\n{\"epoch\":2}\n[]\n", RUN_COMPLETE,
                  "metrics.jsonl:2");
    expect_damage("metrics.jsonl", "{\"epoch\":\"one\"}\n", RUN_COMPLETE, "metrics.jsonl:1");
    expect_damage("metrics.jsonl", "{\"epoch\":-1e300}\n", RUN_COMPLETE, "metrics.jsonl:1");
    /* Gone back to an older checkpoint: what comes later counts. */
    put_file(path_in(scratch, "run"), "metrics.jsonl",
             "{\"epoch\":1}\n{\"epoch\":2,\"train\":{\"loss\":9}}\n{\"epoch\":3}\n{\"epoch\":2,\"train\":{"
             "\"loss\":8}}\n");
    RunSummary *runs = load_runs(scratch, 1);
    assert_int_equal(runs[0].epochs, 2);
    assert_true(runs[0].epoch[1].train_loss == 8);
    assert_true(isnan(runs[0].epoch[0].train_loss));
    run_summaries_free(runs, 1);
}

static void test_damaged_config_and_environment(void **state)
{
    (void)state;
    complete_run(scratch, "run", "brier", 0.1, 0.02, 0.01);
    expect_damage("environment.json", "{\"plumb\":", RUN_COMPLETE, "cut short");
    put_file(path_in(scratch, "run"), "environment.json",
             "{\"nested\":{\"a\":1},\"list\":[1],\"flag\":true}");
    expect_damage("config.yaml", "a: [1, 2", RUN_COMPLETE, "config.yaml:");
    expect_damage("config.yaml", "a: 1\na: 2\n", RUN_COMPLETE, "config.yaml:");
    expect_damage("config.yaml", "a: {b: {c: 3}, d: []}\nepochs: -4\n", RUN_COMPLETE, NULL);
    RunSummary *runs = load_runs(scratch, 1);
    assert_string_equal(run_facts_find(&runs[0].setting, "a.b.c"), "3");
    assert_string_equal(run_facts_find(&runs[0].setting, "a.d"), "[]");
    assert_int_equal(runs[0].epochs_planned, 0);
    assert_string_equal(run_facts_find(&runs[0].environment, "flag"), "yes");
    run_summaries_free(runs, 1);
    assert_int_equal(unlink(path_in(path_in(scratch, "run"), "config.yaml")), 0);
    runs = load_runs(scratch, 1);
    assert_non_null(strstr(runs[0].problem, "config.yaml is missing"));
    assert_int_equal(runs[0].state, RUN_COMPLETE);
    run_summaries_free(runs, 1);
}

/* ---- failures ---- */

static void expect_state(const RunSummary *run, RunState state, const char *text)
{
    char said[RUN_STATE_TEXT];
    run_state_text(run, said, sizeof said);
    assert_int_equal(run->state, state);
    assert_string_equal(said, text);
}

static void test_failed_runs(void **state)
{
    (void)state;
    const char *folder = new_run(scratch, "1", "focal");
    put_metrics(folder, 2);
    put_file(folder, "failure.txt", "step 7: the loss is NaN\nsecond line");
    put_file(new_run(scratch, "2", "focal"), "failure.txt", "");
    assert_ok(file_make_folder(path_in(scratch, "3"))); /* died before it wrote a config */
    put_file(path_in(scratch, "3"), "failure.txt", "killed by signal 9\r\n");
    complete_run(scratch, "4", "focal", 0.1, 0.02, 0.01); /* complete, but its end was not without trouble */
    put_file(path_in(scratch, "4"), "failure.txt", "the profile could not be printed");
    put_file(new_run(scratch, "5", "focal"), "failure.txt", "no folder \x1b[2J here");
    put_file(scratch, "sweep.json", "{\"runs\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}");
    for (int listed = 0; listed < 2; ++listed) {
        RunSummary *runs = load_runs(scratch, 5);
        expect_state(&runs[0], RUN_FAILED, "failed after 2 of 4 epochs: step 7: the loss is NaN");
        expect_state(&runs[1], RUN_FAILED, "failed");
        expect_state(&runs[2], RUN_FAILED, "failed: killed by signal 9");
        expect_state(&runs[3], RUN_COMPLETE, "complete");
        assert_null(runs[2].problem); /* that it has no config is part of its failure */
        run_summaries_free(runs, 5);
        if (listed == 0) assert_int_equal(unlink(path_in(scratch, "sweep.json")), 0);
    }
}

static void test_notes_of_failures(void **state)
{
    (void)state;
    RunFolder run;
    FileLock *lock;
    const char *folder = new_run(scratch, "run", "focal");
    assert_ok(run_folder_attach(folder, &run));
    run_folder_note_failure(&run, "first");
    run_folder_note_failure(&run, "second"); /* what the job itself said counts */
    RunSummary *runs = load_runs(scratch, 1);
    expect_state(&runs[0], RUN_FAILED, "failed: first");
    run_summaries_free(runs, 1);
    run_folder_forget_failure(&run);
    run_folder_forget_failure(&run);
    /* Another job works on it already. */
    assert_ok(file_lock(path_in(folder, "lock"), &lock));
    run_folder_note_failure(&run, "late");
    file_unlock(lock);
    runs = load_runs(scratch, 1);
    assert_int_equal(runs[0].state, RUN_UNFINISHED);
    run_summaries_free(runs, 1);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_quiet_scratch, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_reads_a_run),       TEST(test_without_validation),
        TEST(test_order_and_states),  TEST(test_names_tell_runs_apart),
        TEST(test_nothing_to_read),   TEST(test_hostile_sweep_list),
        TEST(test_a_run_counts_once), TEST(test_damaged_evaluations),
        TEST(test_damaged_metrics),   TEST(test_damaged_config_and_environment),
        TEST(test_failed_runs),       TEST(test_notes_of_failures),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
