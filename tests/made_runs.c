#include "tests/made_runs.h"

#include "engine/base/file.h"
#include "engine/base/log.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

int make_quiet_scratch(void **state)
{
    log_set_quiet(true);
    return scratch_make(state);
}

void put_file(const char *folder, const char *name, const char *text)
{
    /* Not file_write, which waits for the disk. */
    FILE *file = fopen(path_in(folder, name), "w");
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
    for (int i = 0; i < MADE_BINS; ++i) {
        cJSON *bin = cJSON_CreateObject();
        const double middle = (i + 0.5) / MADE_BINS;
        cJSON_AddNumberToObject(bin, "lower", (double)i / MADE_BINS);
        cJSON_AddNumberToObject(bin, "upper", (double)(i + 1) / MADE_BINS);
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

char *evaluation_text(double error, double before, double after)
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

void put_evaluation(const char *folder, double error, double before, double after)
{
    char *text = evaluation_text(error, before, after);
    put_file(folder, "evaluation.json", text);
    cJSON_free(text);
}

void put_metrics(const char *folder, int epochs)
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
    put_file(folder, "metrics.jsonl", text);
}

const char *new_run(const char *parent, const char *name, const char *loss)
{
    char config[400];
    const char *folder = path_in(parent, name);
    assert_ok(file_make_folder(folder));
    (void)snprintf(config, sizeof config,
                   "resolved: true\nepochs: %d\ndataset.name: fashion_mnist\nmodel.name: resnet8\n"
                   "schedule.epochs: [150, 250]\nloss.name: %s\nevaluate.bins: 15\n"
                   "optimizer.groups: [{parameters: \"*.bias\", frozen: true}, {}]\n",
                   MADE_EPOCHS, loss);
    put_file(folder, "config.yaml", config);
    put_file(folder, "environment.json",
             "{\"plumb\":\"0.1.0\",\"started\":\"2025-01-02T03:04:05Z\",\"host\":\"node-seven\",\"ranks\":2,"
             "\"threads_a_rank\":1,\"compiler\":\"gcc <12>\"}");
    return folder;
}

void complete_run(const char *parent, const char *name, const char *loss, double error, double before,
                  double after)
{
    const char *folder = new_run(parent, name, loss);
    put_metrics(folder, MADE_EPOCHS);
    put_evaluation(folder, error, before, after);
}

RunSummary *load_runs(const char *path, int expected)
{
    RunSummary *runs;
    int count;
    assert_ok(run_summaries_load(&path, 1, &runs, &count));
    assert_int_equal(count, expected);
    return runs;
}
