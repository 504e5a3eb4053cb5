/* Reports: what is read of runs' folders, the table on the terminal, the page. Folders are made up here. */
#include "tests/support.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "launch/html.h"
#include "launch/report.h"
#include "launch/run_folder.h"
#include "launch/run_table.h"

#include <cJSON.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, BINS = 15, EPOCHS = 4 };

/* ---- folders of runs ---- */

static char scratch[PATH_SIZE];

static int make_scratch(void **state)
{
    (void)state;
    test_scratch_make(scratch);
    log_set_quiet(true);
    return 0;
}

static int remove_scratch(void **state)
{
    (void)state;
    test_scratch_remove(scratch);
    return 0;
}

/* folder/name; good until some more were made. */
static const char *in(const char *folder, const char *name)
{
    enum { BUFFERS = 8 };
    static char path[BUFFERS][PATH_SIZE];
    static int next;
    char *buffer = path[next++ % BUFFERS];
    assert_ok(file_join(buffer, folder, name));
    return buffer;
}

static void put(const char *folder, const char *name, const char *text)
{
    /* Not file_write, which waits for the disk. */
    FILE *file = fopen(in(folder, name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static char *print_and_delete(cJSON *object)
{
    char *text = cJSON_PrintUnformatted(object);
    assert_non_null(text);
    cJSON_Delete(object);
    return text;
}

/* One stage of evaluation.json. All bins hold samples, half a fraction apart from their accuracy by `gap`. */
static cJSON *stage(double error, double ece, double gap)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "error", error);
    cJSON_AddNumberToObject(object, "top5_error", error / 10);
    cJSON_AddNumberToObject(object, "nll", 10 * ece);
    cJSON_AddNumberToObject(object, "brier", 2 * error);
    cJSON_AddNumberToObject(object, "ece", ece);
    cJSON_AddNumberToObject(object, "mce", 3 * ece);
    cJSON_AddNumberToObject(object, "ada_ece", ece + 0.001);
    cJSON_AddNumberToObject(object, "classwise_ece", ece / 4);
    cJSON_AddNumberToObject(object, "mean_confidence", 1 - error + gap);
    cJSON_AddNumberToObject(object, "mean_entropy", 0.321);
    cJSON *s99 = cJSON_AddObjectToObject(object, "s99");
    cJSON_AddNumberToObject(s99, "fraction", 0.4);
    cJSON_AddNullToObject(s99, "accuracy");
    cJSON *bins = cJSON_AddArrayToObject(object, "bins");
    for (int i = 0; i < BINS; ++i) {
        cJSON *bin = cJSON_CreateObject();
        const double middle = (i + 0.5) / BINS;
        cJSON_AddNumberToObject(bin, "lower", (double)i / BINS);
        cJSON_AddNumberToObject(bin, "upper", (double)(i + 1) / BINS);
        cJSON_AddNumberToObject(bin, "count", i == 0 ? 0 : i == 1 ? 3 : 10 * i);
        cJSON_AddNumberToObject(bin, "confidence", i == 0 ? 0 : middle);
        cJSON_AddNumberToObject(bin, "accuracy", i == 0 ? 0 : fmin(1, fmax(0, middle - gap)));
        cJSON_AddItemToArray(bins, bin);
    }
    cJSON *intervals = cJSON_AddObjectToObject(object, "interval");
    const double pair[2] = {0.9 * ece, 1.1 * ece};
    cJSON_AddItemToObject(intervals, "ece", cJSON_CreateDoubleArray(pair, 2));
    cJSON_AddItemToObject(intervals, "ada_ece", cJSON_CreateDoubleArray(pair, 2));
    cJSON_AddItemToObject(intervals, "classwise_ece", cJSON_CreateDoubleArray(pair, 2));
    return object;
}

/* evaluation.json; release with cJSON_free. after < 0: no validation split. */
static char *evaluation_text(double error, double before, double after)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "samples", 10000);
    cJSON_AddNumberToObject(object, "classes", 10);
    if (after < 0) {
        cJSON_AddNullToObject(object, "temperature");
    } else {
        cJSON *temperature = cJSON_AddObjectToObject(object, "temperature");
        cJSON_AddNumberToObject(temperature, "ece", 1.7);
        cJSON_AddNumberToObject(temperature, "nll", 1.9);
    }
    cJSON_AddItemToObject(object, "before", stage(error, before, 0.05));
    if (after >= 0) {
        cJSON_AddItemToObject(object, "after_ece", stage(error, after, -0.01));
        cJSON_AddItemToObject(object, "after_nll", stage(error, after, 0.01));
    }
    return print_and_delete(object);
}

static void put_evaluation(const char *folder, double error, double before, double after)
{
    char *text = evaluation_text(error, before, after);
    put(folder, "evaluation.json", text);
    cJSON_free(text);
}

static void put_metrics(const char *folder, int epochs)
{
    char text[8192] = "";
    size_t used = 0;
    for (int e = 1; e <= epochs; ++e)
        used +=
            (size_t)snprintf(text + used, sizeof text - used,
                             "{\"epoch\":%d,\"step\":%d,\"learning_rate\":0.1,\"gradient_norm\":1.5,"
                             "\"train\":{\"loss\":%.3f,\"error\":0.2},\"test\":{\"error\":%.3f,\"nll\":0.5,"
                             "\"nll_correct\":0.1,\"nll_misclassified\":2.5,\"ece\":0.04,\"ada_ece\":0.04,"
                             "\"classwise_ece\":0.01},\"seconds\":30,\"images_per_second\":2000}\n",
                             e, 100 * e, 2.0 / e, 0.3 / e);
    put(folder, "metrics.jsonl", text);
}

static const char *new_run(const char *parent, const char *name, const char *loss)
{
    char config[400];
    const char *folder = in(parent, name);
    assert_ok(file_make_folder(folder));
    (void)snprintf(config, sizeof config,
                   "resolved: true\nepochs: %d\ndataset.name: fashion_mnist\nmodel.name: resnet8\n"
                   "schedule.epochs: [150, 250]\nloss.name: %s\nevaluate.bins: 15\n",
                   EPOCHS, loss);
    put(folder, "config.yaml", config);
    put(folder, "environment.json",
        "{\"plumb\":\"0.1.0\",\"started\":\"2025-01-02T03:04:05Z\",\"host\":\"node-seven\",\"ranks\":2,"
        "\"threads_a_rank\":1,\"compiler\":\"gcc <12>\"}");
    return folder;
}

static void complete_run(const char *parent, const char *name, const char *loss, double error, double before,
                         double after)
{
    const char *folder = new_run(parent, name, loss);
    put_metrics(folder, EPOCHS);
    put_evaluation(folder, error, before, after);
}

static RunSummary *load(const char *path, int expected)
{
    RunSummary *runs;
    int count;
    assert_ok(run_summaries_load(&path, 1, &runs, &count));
    assert_int_equal(count, expected);
    return runs;
}

/* ---- reading ---- */

static void test_reads_a_run(void **state)
{
    (void)state;
    complete_run(scratch, "brier", "brier", 0.125, 0.0625, 0.03125);
    RunSummary *runs = load(in(scratch, "brier/"), 1);
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
    assert_int_equal(before->bins, BINS);
    assert_int_equal(before->bin[14].count, 140);
    assert_true(before->bin[14].upper == 1);
    assert_int_equal(run->epochs, EPOCHS);
    assert_int_equal(run->epochs_planned, EPOCHS);
    assert_true(run->epoch[1].epoch == 2 && run->epoch[1].train_loss == 1);
    assert_true(run->epoch[1].split[SPLIT_TEST].measured && !run->epoch[1].split[SPLIT_VALIDATION].measured);
    assert_true(run->epoch[1].split[SPLIT_TEST].nll_misclassified == 2.5);
    assert_string_equal(run_facts_find(&run->setting, "schedule.epochs"), "[150, 250]");
    assert_string_equal(run_facts_find(&run->setting, "loss.name"), "brier");
    assert_null(run_facts_find(&run->setting, "resolved"));
    assert_string_equal(run_facts_find(&run->environment, "ranks"), "2");
    run_summaries_free(runs, 1);
}

static void test_without_validation(void **state)
{
    (void)state;
    complete_run(scratch, "one", "brier", 0.1, 0.02, -1);
    RunSummary *runs = load(scratch, 1);
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
    RunSummary *runs = load(scratch, 2);
    assert_string_equal(runs[0].name, "run2"); /* 2 before 10 */
    assert_string_equal(runs[1].name, "run10");
    run_summaries_free(runs, 2);
    put(scratch, "sweep.json", "{\"sweep\":\"s\",\"runs\":[\"run10\",\"never\",\"run2\"]}");
    runs = load(scratch, 3);
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
    char folders[3][PATH_SIZE];
    RunSummary *runs;
    int count;
    static const char *const sweep[] = {"a/first", "b/first", "b"};
    for (int i = 0; i < 3; ++i) {
        assert_ok(file_join(folders[i], scratch, sweep[i]));
        complete_run(folders[i], i < 2 ? "brier" : "mmce", "brier", 0.1, 0.02, 0.01);
    }
    const char *const paths[] = {folders[0], folders[1], in(folders[2], "mmce")};
    assert_ok(run_summaries_load(paths, 3, &runs, &count));
    assert_int_equal(count, 3);
    assert_string_equal(runs[0].name, "a/first/brier");
    assert_string_equal(runs[1].name, "b/first/brier");
    assert_string_equal(runs[2].name, "mmce");
    run_summaries_free(runs, count);
    runs = load(scratch, 3); /* folders of folders */
    run_summaries_free(runs, 3);
}

static void test_nothing_to_read(void **state)
{
    (void)state;
    RunSummary *runs;
    int count;
    const char *path = in(scratch, "absent");
    assert_fails(run_summaries_load(&path, 1, &runs, &count), STATUS_IO, "absent");
    assert_null(runs);
    path = scratch;
    assert_fails(run_summaries_load(&path, 1, &runs, &count), STATUS_INPUT, "holds no run");
    put(scratch, "file", "text");
    path = in(scratch, "file");
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
        put(scratch, "sweep/sweep.json", lists[i]);
        RunSummary *runs = load(in(scratch, "sweep"), 1);
        assert_string_equal(runs[0].name, "inside");
        run_summaries_free(runs, 1);
    }
}

/* What is written to standard error from here to heard(). */
static int standard_error;

static void listen(void)
{
    FILE *file = fopen(in(scratch, "stderr"), "w");
    assert_non_null(file);
    standard_error = dup(STDERR_FILENO);
    assert_true(standard_error >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Released with free(). */
static char *heard(void)
{
    char *text;
    size_t size;
    assert_true(dup2(standard_error, STDERR_FILENO) >= 0);
    assert_int_equal(close(standard_error), 0);
    assert_ok(file_read(in(scratch, "stderr"), 1 << 20, &text, &size));
    assert_int_equal(unlink(in(scratch, "stderr")), 0);
    return text;
}

static int lines_of(const char *text)
{
    int lines = 0;
    for (; *text != '\0'; ++text)
        lines += *text == '\n';
    return lines;
}

/* Both paths lead to runs a/one and a/never alone; `said`: in the one warning. */
static void expect_once(const char *first, const char *second, const char *said)
{
    const char *const paths[] = {first, second};
    RunSummary *runs;
    int count;
    listen();
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
    char folder[PATH_SIZE], link[PATH_SIZE];
    assert_ok(file_join(folder, scratch, "a"));
    assert_ok(file_join(link, scratch, "link"));
    complete_run(folder, "one", "brier", 0.1, 0.02, 0.01);
    put(folder, "sweep.json", "{\"runs\":[\"one\",\"never\"]}");
    assert_int_equal(symlink(folder, link), 0);
    expect_once(folder, folder, "/a: 2 runs were found before and count once\n");
    expect_once(folder, in(scratch, "a/"), "/a/: 2 runs were found before");
    expect_once(folder, in(scratch, "a/../a"), "/a/../a/one is ");
    expect_once(folder, link, "/link/one is ");
    expect_once(folder, in(link, "one"), "/link/one: 1 run was found before and counts once: ");
    /* A link beside the run that it leads to. */
    assert_int_equal(unlink(in(folder, "sweep.json")), 0);
    assert_int_equal(symlink("one", in(folder, "latest")), 0);
    listen();
    RunSummary *runs = load(folder, 1);
    char *text = heard();
    assert_string_equal(runs[0].name, "one");
    assert_int_equal(lines_of(text), 1);
    free(text);
    run_summaries_free(runs, 1);
    /* The list of a sweep that is read in vain leaves no run behind, and none counted twice. */
    put(folder, "sweep.json", "{\"runs\":[\"one\",\"one\",3]}");
    assert_int_equal(unlink(in(folder, "latest")), 0);
    listen();
    runs = load(folder, 1);
    text = heard();
    assert_non_null(strstr(text, "taken by name"));
    assert_int_equal(lines_of(text), 1);
    free(text);
    run_summaries_free(runs, 1);
}

/* ---- damage ---- */

static void expect_damage(const char *file, const char *text, RunState state, const char *problem)
{
    put(in(scratch, "run"), file, text);
    RunSummary *runs = load(scratch, 1);
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
    put(in(scratch, "run"), "metrics.jsonl",
        "{\"epoch\":1}\n{\"epoch\":2,\"train\":{\"loss\":9}}\n{\"epoch\":3}\n{\"epoch\":2,\"train\":{"
        "\"loss\":8}}\n");
    RunSummary *runs = load(scratch, 1);
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
    put(in(scratch, "run"), "environment.json", "{\"nested\":{\"a\":1},\"list\":[1],\"flag\":true}");
    expect_damage("config.yaml", "a: [1, 2", RUN_COMPLETE, "config.yaml:");
    expect_damage("config.yaml", "a: 1\na: 2\n", RUN_COMPLETE, "config.yaml:");
    expect_damage("config.yaml", "a: {b: {c: 3}, d: []}\nepochs: -4\n", RUN_COMPLETE, NULL);
    RunSummary *runs = load(scratch, 1);
    assert_string_equal(run_facts_find(&runs[0].setting, "a.b.c"), "3");
    assert_string_equal(run_facts_find(&runs[0].setting, "a.d"), "[]");
    assert_int_equal(runs[0].epochs_planned, 0);
    assert_string_equal(run_facts_find(&runs[0].environment, "flag"), "yes");
    run_summaries_free(runs, 1);
    assert_int_equal(unlink(in(in(scratch, "run"), "config.yaml")), 0);
    runs = load(scratch, 1);
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
    put(folder, "failure.txt", "step 7: the loss is NaN\nsecond line");
    put(new_run(scratch, "2", "focal"), "failure.txt", "");
    assert_ok(file_make_folder(in(scratch, "3"))); /* died before it wrote a config */
    put(in(scratch, "3"), "failure.txt", "killed by signal 9\r\n");
    complete_run(scratch, "4", "focal", 0.1, 0.02, 0.01); /* complete, but its end was not without trouble */
    put(in(scratch, "4"), "failure.txt", "the profile could not be printed");
    put(new_run(scratch, "5", "focal"), "failure.txt", "no folder \x1b[2J here");
    put(scratch, "sweep.json", "{\"runs\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}");
    for (int listed = 0; listed < 2; ++listed) {
        RunSummary *runs = load(scratch, 5);
        expect_state(&runs[0], RUN_FAILED, "failed after 2 of 4 epochs: step 7: the loss is NaN");
        expect_state(&runs[1], RUN_FAILED, "failed");
        expect_state(&runs[2], RUN_FAILED, "failed: killed by signal 9");
        expect_state(&runs[3], RUN_COMPLETE, "complete");
        assert_null(runs[2].problem); /* that it has no config is part of its failure */
        run_summaries_free(runs, 5);
        if (listed == 0) assert_int_equal(unlink(in(scratch, "sweep.json")), 0);
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
    RunSummary *runs = load(scratch, 1);
    expect_state(&runs[0], RUN_FAILED, "failed: first");
    run_summaries_free(runs, 1);
    run_folder_forget_failure(&run);
    run_folder_forget_failure(&run);
    /* Another job works on it already. */
    assert_ok(file_lock(in(folder, "lock"), &lock));
    run_folder_note_failure(&run, "late");
    file_unlock(lock);
    runs = load(scratch, 1);
    assert_int_equal(runs[0].state, RUN_UNFINISHED);
    run_summaries_free(runs, 1);
}

/* ---- the table ---- */

static char *table_of(const RunSummary runs[], int count)
{
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    assert_ok(run_table_print(runs, count, stream));
    assert_int_equal(fclose(stream), 0);
    return text;
}

/* The line of a text that begins with `name`, runs of spaces made one; *length: as it stands. */
static const char *line_of(const char *text, const char *name, size_t *length)
{
    static char line[1000];
    const size_t name_length = strlen(name);
    for (const char *at = text; *at != '\0'; at += strcspn(at, "\n"), at += *at == '\n') {
        if (strncmp(at, name, name_length) != 0) continue;
        size_t used = 0;
        *length = strcspn(at, "\n");
        for (size_t i = 0; i < *length && used + 1 < sizeof line; ++i)
            if (at[i] != ' ' || at[i + 1] != ' ') line[used++] = at[i];
        line[used] = '\0';
        return line;
    }
    print_error("no line of %s in\n%s", name, text);
    assert_true(false);
    return NULL;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) print_error("\"%s\" is not in\n%.3000s\n", part, text);
    assert_non_null(strstr(text, part));
}

static void assert_lacks(const char *text, const char *part)
{
    const bool lacks = strstr(text, part) == NULL;
    if (!lacks) print_error("\"%s\" is in\n%.3000s\n", part, text);
    assert_true(lacks);
}

static void test_table(void **state)
{
    (void)state;
    complete_run(scratch, "ce", "cross_entropy", 0.1234, 0.0811, 0.0122);
    complete_run(scratch, "focal", "focal", 0.1111, 0.0222, 0.0133);
    put_metrics(new_run(scratch, "half", "focal"), 2);
    complete_run(scratch, "r\x1b[2J\xc2\x9b\xc3\xa9", "brier", 0.2, 0.3, 0.25);
    RunSummary *runs = load(scratch, 4);
    char *text = table_of(runs, 4);
    size_t length, first_length;
    const char *line = line_of(text, "ce ", &first_length);
    assert_string_equal(line,
                        "ce 12.34 1.7 0.811 -> 0.122* 8.11 [7.30, 8.92] -> 1.22* [1.10, 1.34] 8.21 -> 1.32* "
                        "2.03 -> 0.30* 24.33 -> 3.66*");
    line = line_of(text, "focal ", &length);
    assert_string_equal(line,
                        "focal 11.11* 1.7 0.222* -> 0.133 2.22* [2.00, 2.44] -> 1.33 [1.20, 1.46] 2.32* -> "
                        "1.43 0.56* -> 0.33 6.66* -> 3.99 ");
    assert_int_equal(length, first_length); /* aligned */
    assert_has(line_of(text, "half ", &length), "unfinished: 2 of 4 epochs done");
    assert_has(line_of(text, "r?", &length), "r?[2J?\xc3\xa9 20.00 ");
    assert_int_equal(length, first_length + 1); /* two bytes, one place */
    for (const char *at = text; *at != '\0'; ++at)
        assert_true(*at == '\n' || (unsigned char)*at >= 0x20);
    free(text);
    /* One alone is not the best of anything. */
    text = table_of(runs, 1);
    assert_lacks(text, "*");
    free(text);
    run_summaries_free(runs, 4);
}

static void test_table_of_nothing_measured(void **state)
{
    (void)state;
    put_metrics(new_run(scratch, "half", "focal"), 0);
    put(new_run(scratch, "over", "focal"), "failure.txt", "a\x1b[2Jname");
    put(scratch, "sweep.json", "{\"runs\":[\"half\",\"none\",\"over\"]}");
    RunSummary *runs = load(scratch, 3);
    size_t length;
    char *text = table_of(runs, 3);
    assert_has(line_of(text, "over", &length), "failed: a?[2Jname");
    assert_has(line_of(text, "half", &length), "unfinished: 0 of 4");
    assert_has(line_of(text, "none", &length), "not begun");
    free(text);
    run_summaries_free(runs, 3);
}

static void test_table_into_a_full_disk(void **state)
{
    (void)state;
    complete_run(scratch, "ce", "cross_entropy", 0.1234, 0.0811, 0.0122);
    RunSummary *runs = load(scratch, 1);
    FILE *full = fopen("/dev/full", "w");
    if (full != NULL) {
        assert_fails(run_table_print(runs, 1, full), STATUS_IO, "table");
        (void)fclose(full);
    }
    run_summaries_free(runs, 1);
}

/* ---- the page ---- */

static int count_of(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        ++count;
    return count;
}

static bool is_void(const char *name)
{
    return strcmp(name, "meta") == 0 || strcmp(name, "br") == 0 || strcmp(name, "link") == 0;
}

/* Every element is closed by its own end tag, every & begins a reference, every attribute is quoted, no <
 * stands in text. Enough for what a report may get wrong; CSS is skipped. */
static void assert_well_formed(const char *html)
{
    enum { DEPTH = 100, NAME = 32 };
    char stack[DEPTH][NAME];
    int depth = 0;
    assert_int_equal(strncmp(html, "<!DOCTYPE html>\n", 16), 0);
    for (const char *at = html + 16; *at != '\0'; ++at) {
        if (*at == '&') {
            const size_t length = strspn(at + 1, "#abcdefghijklmnopqrstuvwxyz0123456789");
            if (length == 0 || at[1 + length] != ';') print_error("bare &: %.60s\n", at);
            assert_true(length > 0 && at[1 + length] == ';');
        }
        if (*at != '<') continue;
        const bool closes = at[1] == '/';
        const char *name_at = at + 1 + closes;
        char name[NAME] = "";
        size_t length = 0;
        while (isalnum((unsigned char)name_at[length]) && length + 1 < NAME)
            ++length;
        memcpy(name, name_at, length);
        if (length == 0) print_error("bare <: %.60s\n", at);
        assert_true(length > 0);
        const char *end = name_at + length;
        char quote = '\0';
        for (; *end != '\0' && (quote != '\0' || *end != '>'); ++end) {
            assert_true(quote != '\0' || *end != '<');
            if (quote == '\0' && (*end == '"' || *end == '\'')) {
                assert_true(end[-1] == '=' || end[-1] == ' ');
                quote = *end;
            } else if (*end == quote) {
                quote = '\0';
            }
        }
        assert_true(*end == '>');
        if (closes) {
            assert_true(depth > 0);
            if (strcmp(stack[depth - 1], name) != 0)
                print_error("<%s> closed by </%s>: %.80s\n", stack[depth - 1], name, at);
            assert_string_equal(stack[depth - 1], name);
            --depth;
        } else if (end[-1] != '/' && !is_void(name)) {
            assert_true(depth < DEPTH);
            memcpy(stack[depth++], name, NAME);
        }
        at = end;
        if (!closes && strcmp(name, "style") == 0) { at = strstr(at, "</style>") - 1; }
    }
    assert_int_equal(depth, 0);
}

/* No id twice; every reference inside the page leads somewhere. */
static void assert_ids(const char *html)
{
    static const char *const references[] = {"href='#", "href=\"#", "url(#"};
    char attribute[200];
    for (const char *at = strstr(html, " id="); at != NULL; at = strstr(at + 1, " id=")) {
        const int length = (int)strcspn(at + 5, "'\"");
        (void)snprintf(attribute, sizeof attribute, "%.*s", length + 6, at);
        if (count_of(html, attribute) != 1) print_error("twice:%s\n", attribute);
        assert_int_equal(count_of(html, attribute), 1);
    }
    for (size_t i = 0; i < sizeof references / sizeof references[0]; ++i) {
        for (const char *at = strstr(html, references[i]); at != NULL; at = strstr(at + 1, references[i])) {
            const char *name = at + strlen(references[i]);
            const int length = (int)strcspn(name, "'\")");
            char with_single[200], with_double[200];
            (void)snprintf(with_single, sizeof with_single, " id='%.*s'", length, name);
            (void)snprintf(with_double, sizeof with_double, " id=\"%.*s\"", length, name);
            assert_true(strstr(html, with_single) != NULL || strstr(html, with_double) != NULL);
        }
    }
}

static void assert_stands_alone(const char *html)
{
    static const char *const outside[] = {"http:",   "https:", "src=\"",  "src='", "<img",
                                          "<script", "<link",  "@import", "file:", "xlink:href='h"};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; ++i)
        assert_lacks(html, outside[i]);
}

static char *page_of(const RunSummary runs[], int count, int figures)
{
    char *html;
    ReportOptions options = report_defaults();
    if (figures > 0) options.figure_runs = figures;
    assert_ok(report_html(runs, count, &options, &html));
    assert_well_formed(html);
    assert_ids(html);
    assert_stands_alone(html);
    return html;
}

static void test_page(void **state)
{
    (void)state;
    complete_run(scratch, "cross_entropy", "cross_entropy", 0.1234, 0.0811, 0.0122);
    complete_run(scratch, "flsd_53", "focal", 0.1111, 0.0222, 0.0333);
    RunSummary *runs = load(scratch, 2);
    char *html = page_of(runs, 2, 0);
    assert_has(html, "<strong>2.22</strong><small>2.00&ndash;2.44</small>"); /* best before */
    assert_has(html, "<strong>1.22</strong><small>1.10&ndash;1.34</small>"); /* best after */
    assert_has(html, ">3.33<sup>&dagger;</sup>");                            /* scaling made it worse */
    assert_has(html, "Temperature scaling made the test ECE worse");
    assert_has(html, "from 2.22&nbsp;% (flsd_53) to 8.11&nbsp;% (cross_entropy)");
    assert_has(html, "10,000 test samples of 10 classes");
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram before"), 2);
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram after"), 2);
    assert_int_equal(count_of(html, "<svg"), 4 + 6 + 1);
    assert_int_equal(count_of(html, "fill-opacity = '0.250000'"),
                     4); /* the bin of three samples, in each diagram */
    assert_has(html, "NLL, misclassified samples");
    assert_has(html, "var(--run-0)");
    assert_has(html, "var(--run-1)");
    assert_lacks(html, "var(--run-2)'");
    assert_lacks(html, "rgb(");
    assert_has(html, "The runs differ in 1 setting;");
    assert_has(html, "<code>loss.name</code>");
    assert_has(html, "<td><code>focal</code></td>");
    assert_has(html, "schedule.epochs: [150, 250]"); /* the whole config */
    assert_has(html, "node-seven");
    assert_has(html, "gcc &lt;12&gt;");
    assert_int_equal(count_of(html, "node-seven"), 1); /* one machine, one column */
    assert_has(html, "2.0&nbsp;min");
    free(html);
    run_summaries_free(runs, 2);
}

static void test_page_of_one_run(void **state)
{
    (void)state;
    complete_run(scratch, "alone", "brier", 0.1, 0.02, -1);
    RunSummary *runs = load(scratch, 1);
    char *html = page_of(runs, 1, 0);
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram"), 1);
    assert_lacks(html, "<strong>2.00</strong>"); /* no best of one */
    assert_lacks(html, "differ in");
    free(html);
    run_summaries_free(runs, 1);
}

static void test_page_of_unfinished_runs(void **state)
{
    (void)state;
    put_metrics(new_run(scratch, "half", "focal"), 1);
    put(new_run(scratch, "damaged", "focal"), "evaluation.json", "{");
    put(new_run(scratch, "broken", "focal"), "failure.txt", "no <data> in 'x'\nmore");
    put(scratch, "sweep.json", "{\"runs\":[\"half\",\"damaged\",\"never\",\"broken\"]}");
    RunSummary *runs = load(scratch, 4);
    char *html = page_of(runs, 4, 0);
    assert_has(html, "failed: no &lt;data&gt; in &#39;x&#39;</td>");
    assert_has(html, "<td>failed</td>");
    assert_has(html, "unfinished: 1 of 4 epochs done; so far: test error 30.00 %, ECE 4.00 %");
    assert_has(html, "not begun");
    assert_has(html, "evaluation damaged");
    assert_has(html, "Files that could not be read");
    assert_has(html, "4 runs, 0 complete, 1 unfinished, 1 failed, 1 damaged, 1 not begun");
    assert_int_equal(count_of(html, "<svg"), 6); /* one epoch is a curve too */
    free(html);
    run_summaries_free(runs, 4);
}

static void test_hostile_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "<script>alert(1)<b>", "a&b\"c'd",     "'; system \"touch pwned\" #", "`touch pwned`",
        "@@x\\n{/:Bold y}_%d", "\xff\xfe\x01", "\xc3\xa9t\xc3\xa9\x1b[31m",   "-->]]>"};
    enum { NAMES = sizeof names / sizeof names[0] };
    char here[PATH_SIZE];
    assert_non_null(getcwd(here, sizeof here));
    for (int i = 0; i < NAMES; ++i) {
        complete_run(scratch, names[i], "'<i>&x'", 0.1 + 0.01 * i, 0.02, 0.01);
        put(in(scratch, names[i]), "environment.json", "{\"host\":\"<img src=x>\",\"a<b\":\"\\u0007\"}");
    }
    RunSummary *runs = load(scratch, NAMES);
    assert_int_equal(chdir(scratch), 0);
    char *html = page_of(runs, NAMES, 0);
    assert_int_equal(access("pwned", F_OK), -1);
    assert_int_equal(chdir(here), 0);
    assert_has(html, "&lt;script&gt;alert(1)&lt;b&gt;");
    assert_has(html, "a&amp;b&quot;c&#39;d");
    assert_lacks(html, "<img");
    assert_lacks(html, "<i>");
    for (const char *at = html; *at != '\0'; ++at)
        assert_true(*at == '\n' || *at == '\t' || (unsigned char)*at >= 0x20);
    assert_lacks(html, "\xff");
    free(html);
    run_summaries_free(runs, NAMES);
}

static void test_many_runs(void **state)
{
    (void)state;
    enum { RUNS = 60 };
    char name[32];
    for (int i = 0; i < RUNS; ++i) {
        (void)snprintf(name, sizeof name, "run-%02d", i);
        complete_run(scratch, name, "brier", 0.1 + 0.001 * i, 0.02 + 0.001 * i, 0.01);
    }
    RunSummary *runs = load(scratch, RUNS);
    char *html = page_of(runs, RUNS, 3);
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram"), 6);
    assert_has(html, "The figures show the first 3 of 60 runs");
    assert_has(html, "The first 40 of 60 runs.");
    assert_has(html, ">run-59<");
    free(html);
    html = page_of(runs, 10, 10); /* more than there are colours */
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram"), 20);
    free(html);
    run_summaries_free(runs, RUNS);
}

static void test_without_gnuplot(void **state)
{
    (void)state;
    complete_run(scratch, "alone", "brier", 0.1, 0.02, 0.01);
    RunSummary *runs = load(scratch, 1);
    const ReportOptions options = report_defaults();
    char *path = strdup(getenv("PATH")), *html;
    assert_non_null(path);
    assert_int_equal(setenv("PATH", scratch, 1), 0);
    assert_fails(report_html(runs, 1, &options, &html), STATUS_UNSUPPORTED, "gnuplot-nox");
    assert_null(html);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
    run_summaries_free(runs, 1);
}

static void test_text_of_html(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"<&>\"'", "&lt;&amp;&gt;&quot;&#39;"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* cut short */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xef\xbf\xbf", "\xef\xbf\xbd"},                         /* a noncharacter */
        {"a\x01\nb\x7f", "a\xef\xbf\xbd\nb\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        char *text;
        size_t size;
        FILE *stream = open_memstream(&text, &size);
        html_text(stream, cases[i][0]);
        assert_int_equal(fclose(stream), 0);
        assert_string_equal(text, cases[i][1]);
        free(text);
    }
}

/* ---- the command ---- */

static Status run_command(int argc, const char *const words[])
{
    World *world;
    char *argv[8];
    int none = 0;
    char **nothing = NULL;
    assert_ok(comm_start(&none, &nothing, &world));
    for (int i = 0; i < argc; ++i)
        argv[i] = (char *)(uintptr_t)words[i];
    log_set_quiet(true);
    Status status = command_report(world, argc, argv);
    comm_stop(world);
    return status;
}

static void test_command(void **state)
{
    (void)state;
    char output[PATH_SIZE], *text;
    size_t size;
    complete_run(scratch, "sweep/alone", "brier", 0.1, 0.02, 0.01);
    char folder[PATH_SIZE];
    assert_ok(file_join(output, scratch, "page.html"));
    assert_ok(file_join(folder, scratch, "sweep"));
    assert_ok(run_command(2, (const char *[]){"report", folder}));
    assert_ok(file_read(in(folder, "report.html"), 1 << 24, &text, &size));
    assert_has(text, "<title>Calibration of sweep</title>");
    free(text);
    assert_ok(run_command(6, (const char *[]){"report", "--title", "A <title>", folder, "--output", output}));
    assert_ok(file_read(output, 1 << 24, &text, &size));
    assert_has(text, "<title>A &lt;title&gt;</title>");
    assert_well_formed(text);
    free(text);
    /* A folder that is given twice is one folder: of its own title, and the page in it. */
    assert_int_equal(unlink(in(folder, "report.html")), 0);
    char again[PATH_SIZE], link[PATH_SIZE];
    assert_ok(file_join(again, folder, "../sweep/"));
    assert_ok(file_join(link, scratch, "link"));
    assert_int_equal(symlink("sweep", link), 0);
    listen();
    Status status = run_command(5, (const char *[]){"report", folder, again, folder, link});
    char *said = heard();
    assert_ok(status);
    assert_ok(file_read(in(folder, "report.html"), 1 << 24, &text, &size));
    assert_has(text, "<title>Calibration of sweep</title>");
    assert_has(text, "<p class=\"facts\">1 run ");
    free(text);
    assert_has(said, "warning: ");
    assert_has(said, "/../sweep/ is the same folder as ");
    assert_has(said, "/sweep was given twice and counts once");
    assert_has(said, "/link is the same folder as ");
    assert_int_equal(lines_of(said), 3);
    free(said);
    assert_fails(run_command(1, (const char *[]){"report"}), STATUS_USAGE, "needs the folder");
    assert_fails(run_command(3, (const char *[]){"report", folder, "--outptu"}), STATUS_USAGE, "--outptu");
    assert_fails(run_command(3, (const char *[]){"report", folder, "--output"}), STATUS_USAGE,
                 "--output needs");
    assert_fails(run_command(4, (const char *[]){"report", folder, "--figures", "3x"}), STATUS_USAGE, "3x");
    assert_fails(run_command(2, (const char *[]){"report", output}), STATUS_INPUT, "page.html");
    assert_fails(run_command(4, (const char *[]){"report", folder, "--output", "/proc/none/x.html"}),
                 STATUS_IO, "/proc/none");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_scratch, remove_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_reads_a_run),
        TEST(test_without_validation),
        TEST(test_order_and_states),
        TEST(test_names_tell_runs_apart),
        TEST(test_nothing_to_read),
        TEST(test_hostile_sweep_list),
        TEST(test_a_run_counts_once),
        TEST(test_damaged_evaluations),
        TEST(test_damaged_metrics),
        TEST(test_damaged_config_and_environment),
        TEST(test_failed_runs),
        TEST(test_notes_of_failures),
        TEST(test_table),
        TEST(test_table_of_nothing_measured),
        TEST(test_table_into_a_full_disk),
        TEST(test_page),
        TEST(test_page_of_one_run),
        TEST(test_page_of_unfinished_runs),
        TEST(test_hostile_names),
        TEST(test_many_runs),
        TEST(test_without_gnuplot),
        TEST(test_text_of_html),
        TEST(test_command),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
