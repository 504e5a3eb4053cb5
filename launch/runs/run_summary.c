#include "launch/runs/run_summary.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/yaml.h"
#include "launch/runs/json_file.h"
#include "launch/runs/run_search.h"
#include "launch/runs/text_index.h"

#include <cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { METRICS_LIMIT = 1 << 30, CONFIG_LIMIT = 16 << 20, FAILURE_LIMIT = 1 << 20 };

/* ---- facts: names and values as text ---- */

static Status add_fact(RunFacts *facts, size_t *capacity, const char *prefix, const char *name,
                       const char *value)
{
    TRY(memory_grow(&facts->fact, capacity, (size_t)facts->count + 1, sizeof *facts->fact, "facts of a run"));
    RunFact *fact = &facts->fact[facts->count++];
    TRY(text_format(&fact->name, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name));
    return text_copy(value, &fact->value);
}

const char *run_facts_find(const RunFacts *facts, const char *name)
{
    for (int i = 0; i < facts->count; ++i)
        if (strcmp(facts->fact[i].name, name) == 0) return facts->fact[i].value;
    return NULL;
}

static void free_facts(RunFacts *facts)
{
    for (int i = 0; i < facts->count; ++i) {
        free(facts->fact[i].name);
        free(facts->fact[i].value);
    }
    free(facts->fact);
}

/* ---- problems ---- */

/* A damaged file must not hide what the others say: its message is kept, and reading goes on. Only a lack of
 * memory stops it. */
static Status note_problem(RunSummary *run, Status problem)
{
    if (problem == OK || status_code(problem) == STATUS_MEMORY) return problem;
    char *joined;
    Status status = text_format(&joined, "%s%s%s", run->problem != NULL ? run->problem : "",
                                run->problem != NULL ? "\n" : "", status_message(problem));
    status_free(problem);
    TRY(status);
    free(run->problem);
    run->problem = joined;
    return OK;
}

/* ---- JSON ---- */

static double number_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : NAN;
}

/* ---- evaluation.json ---- */

static Interval read_interval(const cJSON *intervals, const char *name, bool *all)
{
    const cJSON *pair = cJSON_GetObjectItemCaseSensitive(intervals, name);
    if (cJSON_IsNull(pair)) return (Interval){NAN, NAN}; /* this one was not made */
    const cJSON *lower = cJSON_GetArrayItem(pair, 0), *upper = cJSON_GetArrayItem(pair, 1);
    if (cJSON_IsNumber(lower) && cJSON_IsNumber(upper) && isfinite(lower->valuedouble) &&
        isfinite(upper->valuedouble))
        return (Interval){lower->valuedouble, upper->valuedouble};
    *all = false;
    return (Interval){NAN, NAN};
}

static bool is_fraction(double value) { return value >= 0 && value <= 1; }

Status run_measure_read_bins(const char *path, const char *stage, const cJSON *bins, RunMeasure *measure)
{
    const int count = cJSON_GetArraySize(bins);
    if (!cJSON_IsArray(bins) || count < 1)
        return fail(STATUS_INPUT, "%s: %s.bins is not a list of bins", path, stage);
    TRY(memory_new(&measure->bin, (size_t)count, sizeof *measure->bin, "bins"));
    measure->bins = count;
    int i = 0;
    for (const cJSON *item = bins->child; item != NULL; item = item->next, ++i) {
        const double samples = number_of(item, "count");
        CalibrationBin *bin = &measure->bin[i];
        bin->lower = number_of(item, "lower");
        bin->upper = number_of(item, "upper");
        bin->confidence = number_of(item, "confidence");
        bin->accuracy = number_of(item, "accuracy");
        if (samples == 0) bin->confidence = bin->accuracy = 0;
        if (!is_fraction(bin->lower) || !is_fraction(bin->upper) || !(bin->lower < bin->upper) ||
            !is_fraction(bin->confidence) || !is_fraction(bin->accuracy) ||
            !(samples >= 0 && samples < 0x1p53))
            return fail(STATUS_INPUT, "%s: bin %d of %s is not a bin of fractions", path, i, stage);
        bin->count = (int64_t)samples;
    }
    return OK;
}

static Status read_measure(const char *path, const char *stage, const cJSON *object, RunMeasure *measure)
{
    const cJSON *s99 = cJSON_GetObjectItemCaseSensitive(object, "s99");
    const cJSON *intervals = cJSON_GetObjectItemCaseSensitive(object, "interval");
    measure->error = number_of(object, "error");
    measure->top5_error = number_of(object, "top5_error");
    measure->nll = number_of(object, "nll");
    measure->brier = number_of(object, "brier");
    measure->ece = number_of(object, "ece");
    measure->mce = number_of(object, "mce");
    measure->ada_ece = number_of(object, "ada_ece");
    measure->classwise_ece = number_of(object, "classwise_ece");
    measure->mean_confidence = number_of(object, "mean_confidence");
    measure->mean_entropy = number_of(object, "mean_entropy");
    measure->s99_fraction = number_of(s99, "fraction");
    measure->s99_accuracy = number_of(s99, "accuracy");
    if (isnan(measure->error) || isnan(measure->ece))
        return fail(STATUS_INPUT, "%s: %s lacks error or ece; not an evaluation, or damaged", path, stage);
    if (cJSON_IsObject(intervals)) {
        measure->has_intervals = true;
        measure->interval.ece = read_interval(intervals, "ece", &measure->has_intervals);
        measure->interval.ada_ece = read_interval(intervals, "ada_ece", &measure->has_intervals);
        measure->interval.classwise_ece = read_interval(intervals, "classwise_ece", &measure->has_intervals);
        if (!measure->has_intervals)
            return fail(STATUS_INPUT, "%s: %s.interval is not three pairs of numbers", path, stage);
    }
    return run_measure_read_bins(path, stage, cJSON_GetObjectItemCaseSensitive(object, "bins"), measure);
}

Status run_summary_read_evaluation(RunSummary *run, const char *path, const cJSON *object)
{
    static const char *const stage[EVALUATE_STAGES] = {
        [EVALUATE_BEFORE] = "before", [EVALUATE_AFTER_ECE] = "after_ece", [EVALUATE_AFTER_NLL] = "after_nll"};
    const cJSON *temperature = cJSON_GetObjectItemCaseSensitive(object, "temperature");
    run->samples = number_of(object, "samples");
    run->classes = number_of(object, "classes");
    run->temperature_ece = number_of(temperature, "ece");
    run->temperature_nll = number_of(temperature, "nll");
    run->has_temperature = !isnan(run->temperature_ece);
    for (int i = 0; i < EVALUATE_STAGES; ++i) {
        const cJSON *part = cJSON_GetObjectItemCaseSensitive(object, stage[i]);
        if (!cJSON_IsObject(part)) {
            if (i == EVALUATE_BEFORE)
                return fail(STATUS_INPUT, "%s: has no \"before\"; not an evaluation", path);
            continue;
        }
        TRY(read_measure(path, stage[i], part, &run->measure[i]));
        run->has_measure[i] = i == EVALUATE_BEFORE || run->has_temperature;
    }
    return OK;
}

static Status read_evaluation(RunSummary *run, const char *path)
{
    cJSON *object = NULL;
    Status status = json_file_read(path, &object);
    if (status == OK) status = run_summary_read_evaluation(run, path, object);
    cJSON_Delete(object);
    run->state = status == OK ? RUN_COMPLETE : RUN_DAMAGED;
    if (status != OK)
        for (int i = 0; i < EVALUATE_STAGES; ++i)
            run->has_measure[i] = false;
    return status;
}

/* ---- metrics.jsonl ---- */

static bool read_epoch(const char *line, size_t length, RunEpoch *epoch)
{
    cJSON *object = cJSON_ParseWithLength(line, length);
    const cJSON *train = cJSON_GetObjectItemCaseSensitive(object, "train");
    const cJSON *norms = cJSON_GetObjectItemCaseSensitive(object, "norms");
    epoch->epoch = number_of(object, "epoch");
    epoch->step = number_of(object, "step");
    epoch->learning_rate = number_of(object, "learning_rate");
    epoch->train_loss = number_of(train, "loss");
    epoch->train_error = number_of(train, "error");
    epoch->weight_norm = number_of(norms, "weights");
    epoch->feature_norm = number_of(norms, "features");
    epoch->logit_norm = number_of(norms, "logits");
    epoch->bleu = number_of(cJSON_GetObjectItemCaseSensitive(object, split_name(SPLIT_VALIDATION)), "bleu");
    epoch->seconds = number_of(object, "seconds");
    epoch->samples_per_second = number_of(object, "samples_per_second");
    if (isnan(epoch->samples_per_second)) /* of version 0.1 */
        epoch->samples_per_second = number_of(object, "images_per_second");
    epoch->tokens = cJSON_HasObjectItem(object, "tokens_per_second");
    if (epoch->tokens) epoch->samples_per_second = number_of(object, "tokens_per_second");
    for (int i = 0; i < SPLIT_COUNT; ++i) {
        const char *name = i == SPLIT_TRAIN ? EPOCH_TRAIN_SPLIT : split_name((Split)i);
        const cJSON *part = cJSON_GetObjectItemCaseSensitive(object, name);
        RunEpochSplit *split = &epoch->split[i];
        split->measured = cJSON_IsObject(part);
        split->error = number_of(part, "error");
        split->nll = number_of(part, "nll");
        split->nll_correct = number_of(part, "nll_correct");
        split->nll_misclassified = number_of(part, "nll_misclassified");
        split->entropy = number_of(part, "mean_entropy");
        split->entropy_correct = number_of(part, "entropy_correct");
        split->entropy_misclassified = number_of(part, "entropy_misclassified");
        split->ece = number_of(part, "ece");
        split->ada_ece = number_of(part, "ada_ece");
        split->classwise_ece = number_of(part, "classwise_ece");
    }
    cJSON_Delete(object);
    return epoch->epoch >= 0 && epoch->epoch < 0x1p53;
}

static Status read_metrics(RunSummary *run, const char *path)
{
    char *text;
    size_t size, capacity = 0;
    int64_t line = 0, damaged = 0, first_damaged = 0;
    Status status = OK;
    TRY(file_read(path, METRICS_LIMIT, &text, &size));
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        if (end == NULL) break; /* half a line: the run is writing it, or died while it did */
        const size_t length = (size_t)(end - (text + at));
        RunEpoch epoch;
        ++line;
        if (read_epoch(text + at, length, &epoch)) {
            /* A run that was resumed from an older checkpoint comes to an epoch again. */
            while (run->epochs > 0 && run->epoch[run->epochs - 1].epoch >= epoch.epoch)
                --run->epochs;
            TRY_ELSE(done,
                     memory_grow(&run->epoch, &capacity, (size_t)run->epochs + 1, sizeof epoch, "epochs"));
            run->epoch[run->epochs++] = epoch;
        } else if (length > 0 && damaged++ == 0) {
            first_damaged = line;
        }
        at += length + 1;
    }
    if (damaged > 0)
        status =
            fail(STATUS_INPUT, "%s:%" PRId64 ": not an epoch's metrics; %" PRId64 " such line%s left out",
                 path, first_damaged, damaged, damaged == 1 ? "" : "s");
done:
    free(text);
    return status;
}

/* ---- config.yaml ---- */

static void print_node(FILE *stream, const YamlNode *node)
{
    if (node->kind == YAML_SCALAR) {
        (void)fputs(node->text, stream);
        return;
    }
    const bool is_map = node->kind == YAML_MAP;
    (void)fputc(is_map ? '{' : '[', stream);
    for (int i = 0; i < node->count; ++i) {
        (void)fprintf(stream, "%s%s%s", i > 0 ? ", " : "", is_map ? node->key[i] : "", is_map ? ": " : "");
        print_node(stream, node->item[i]);
    }
    (void)fputc(is_map ? '}' : ']', stream);
}

static Status list_text(const YamlNode *list, char **text)
{
    FILE *stream;
    size_t size;
    stream = open_memstream(text, &size);
    if (stream == NULL) return fail(STATUS_MEMORY, "no memory for a list");
    print_node(stream, list);
    if (fclose(stream) == 0) return OK;
    free(*text);
    return fail(STATUS_MEMORY, "no memory for a list");
}

static Status add_settings(RunFacts *settings, size_t *capacity, const char *prefix, const YamlNode *map)
{
    for (int i = 0; i < map->count; ++i) {
        const YamlNode *value = map->item[i];
        char *text;
        if (value->kind == YAML_SCALAR) {
            if (prefix[0] == '\0' && strcmp(map->key[i], "resolved") == 0)
                continue; /* says how to read the file */
            TRY(add_fact(settings, capacity, prefix, map->key[i], value->text));
        } else if (value->kind == YAML_LIST) {
            TRY(list_text(value, &text));
            Status status = add_fact(settings, capacity, prefix, map->key[i], text);
            free(text);
            TRY(status);
        } else {
            TRY(text_format(&text, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", map->key[i]));
            Status status = add_settings(settings, capacity, text, value);
            free(text);
            TRY(status);
        }
    }
    return OK;
}

static Status read_config(RunSummary *run, const char *path)
{
    YamlNode *root = NULL;
    size_t size, capacity = 0;
    Status status;
    TRY(file_read(path, CONFIG_LIMIT, &run->config, &size));
    TRY_ELSE(done, yaml_parse(path, run->config, size, &root));
    if (root->kind != YAML_MAP) TRY_ELSE(done, fail(STATUS_INPUT, "%s: not a map of settings", path));
    TRY_ELSE(done, add_settings(&run->setting, &capacity, "", root));
    const char *epochs = run_facts_find(&run->setting, "epochs");
    const char *steps = run_facts_find(&run->setting, "steps");
    const bool by_steps = steps != NULL && strtoll(steps, NULL, 10) > 0;
    if (epochs != NULL && !by_steps) run->epochs_planned = strtoll(epochs, NULL, 10);
    if (run->epochs_planned < 0) run->epochs_planned = 0;
done:
    yaml_release(root);
    return status;
}

/* ---- environment.json ---- */

static Status read_environment(RunSummary *run, const char *path)
{
    cJSON *object;
    size_t capacity = 0;
    Status status = OK;
    TRY(json_file_read(path, &object));
    for (const cJSON *item = object->child; item != NULL && status == OK; item = item->next) {
        char number[40];
        (void)snprintf(number, sizeof number, "%.15g", item->valuedouble);
        if (cJSON_IsString(item))
            status = add_fact(&run->environment, &capacity, "", item->string, item->valuestring);
        else if (cJSON_IsNumber(item))
            status = add_fact(&run->environment, &capacity, "", item->string, number);
        else if (cJSON_IsBool(item))
            status =
                add_fact(&run->environment, &capacity, "", item->string, cJSON_IsTrue(item) ? "yes" : "no");
    }
    cJSON_Delete(object);
    return status;
}

/* ---- failure.txt ---- */

static Status read_failure(RunSummary *run, const char *path)
{
    size_t size;
    run->state = RUN_FAILED;
    TRY(file_read(path, FAILURE_LIMIT, &run->failure, &size));
    run->failure[strcspn(run->failure, "\r\n")] = '\0';
    return OK;
}

/* ---- one run ---- */

typedef struct {
    const char *file;
    Status (*read)(RunSummary *, const char *path);
    bool every_run_has_it; /* from its beginning on */
} RunFile;

/* failure.txt first: an evaluation says that the run is complete all the same. */
static const RunFile run_files[] = {{"failure.txt", read_failure, false},
                                    {"config.yaml", read_config, true},
                                    {"environment.json", read_environment, true},
                                    {"metrics.jsonl", read_metrics, false},
                                    {"evaluation.json", read_evaluation, false}};
enum { RUN_FILES = sizeof run_files / sizeof run_files[0] };

static Status load_run(RunSummary *run)
{
    bool begun;
    TRY(run_search_begun(run->path, &begun));
    run->state = begun ? RUN_UNFINISHED : RUN_MISSING;
    if (!begun && access(run->path, X_OK) != 0 && errno == EACCES)
        return note_problem(run, fail(STATUS_IO, "%s cannot be read: %s", run->path, strerror(errno)));
    if (!begun) return OK;
    for (int i = 0; i < RUN_FILES; ++i) {
        char path[PATH_MAX];
        TRY(file_join(path, run->path, run_files[i].file));
        Status problem = OK;
        if (file_exists(path))
            problem = run_files[i].read(run, path);
        else if (run_files[i].every_run_has_it && run->state != RUN_FAILED) /* perhaps as it began */
            problem = fail(STATUS_INPUT, "%s is missing", path);
        TRY(note_problem(run, problem));
    }
    return OK;
}

void run_summary_free_evaluation(RunSummary *run)
{
    for (int i = 0; i < EVALUATE_STAGES; ++i)
        free(run->measure[i].bin);
}

static void free_run(RunSummary *run)
{
    run_summary_free_evaluation(run);
    free_facts(&run->setting);
    free_facts(&run->environment);
    free(run->epoch);
    free(run->config);
    free(run->failure);
    free(run->problem);
    free(run->name);
    free(run->path);
}

void run_summaries_free(RunSummary *runs, int count)
{
    if (runs == NULL) return;
    for (int i = 0; i < count; ++i)
        free_run(&runs[i]);
    free(runs);
}

const RunMeasure *run_summary_before(const RunSummary *run)
{
    return run->has_measure[EVALUATE_BEFORE] ? &run->measure[EVALUATE_BEFORE] : NULL;
}

const RunMeasure *run_summary_after(const RunSummary *run)
{
    return run->has_measure[EVALUATE_AFTER_ECE] ? &run->measure[EVALUATE_AFTER_ECE] : NULL;
}

/* ---- names ---- */

/* The last `parts` components of a path. */
static const char *path_end(const char *path, int parts)
{
    const char *at = path + strlen(path);
    while (at > path && (at[-1] != '/' || --parts > 0))
        --at;
    return at;
}

typedef struct {
    char *real; /* the whole path, without links and dots: what "." is called */
    int parts;
} Naming;

/* Of the runs whose names have so many parts, those that share them with another run get one part more. *parts: the
 * number of parts then, 0 if no run is left with it. */
static Status lengthen_shared(Naming naming[], int count, int *parts)
{
    TextIndex index = {.entry = NULL};
    int *first = NULL, *sharers = NULL;
    bool again = false;
    Status status;
    TRY_ELSE(done, memory_new(&first, (size_t)count, sizeof *first, "names of runs"));
    TRY_ELSE(done, memory_new(&sharers, (size_t)count, sizeof *sharers, "names of runs"));
    for (int i = 0; i < count; ++i) {
        first[i] = i;
        TRY_ELSE(done, text_index_add(&index, path_end(naming[i].real, *parts), &first[i]));
        ++sharers[first[i]];
    }
    for (int i = 0; i < count; ++i) {
        if (naming[i].parts != *parts || sharers[first[i]] == 1) continue;
        if (path_end(naming[i].real, *parts) == naming[i].real) continue;
        ++naming[i].parts;
        again = true;
    }
    *parts = again ? *parts + 1 : 0;
done:
    text_index_free(&index);
    free(sharers);
    free(first);
    return status;
}

static Status name_runs(RunSummary *runs, int count)
{
    Naming *naming;
    Status status = OK;
    TRY(memory_new(&naming, (size_t)count, sizeof *naming, "names of runs"));
    for (int i = 0; i < count; ++i) {
        naming[i].parts = 1;
        naming[i].real = realpath(runs[i].path, NULL);
        if (naming[i].real == NULL) TRY_ELSE(done, text_copy(runs[i].path, &naming[i].real));
    }
    for (int parts = 1; parts > 0;)
        TRY_ELSE(done, lengthen_shared(naming, count, &parts));
    for (int i = 0; i < count; ++i)
        TRY_ELSE(done, text_copy(path_end(naming[i].real, naming[i].parts), &runs[i].name));
done:
    for (int i = 0; i < count; ++i)
        free(naming[i].real);
    free(naming);
    return status;
}

Status run_summaries_load(const char *const paths[], int count, RunSummary **summaries, int *summary_count)
{
    char **folder = NULL;
    RunSummary *run = NULL;
    int runs = 0;
    Status status;
    *summaries = NULL;
    *summary_count = 0;
    TRY_ELSE(done, run_search(paths, count, &folder, &runs));
    TRY_ELSE(done, memory_new(&run, (size_t)runs, sizeof *run, "runs"));
    for (int i = 0; i < runs; ++i) {
        TRY_ELSE(done, text_copy(folder[i], &run[i].path));
        TRY_ELSE(done, load_run(&run[i]));
    }
    TRY_ELSE(done, name_runs(run, runs));
    *summaries = run;
    *summary_count = runs;
    run = NULL;
done:
    run_summaries_free(run, runs);
    run_search_free(folder, runs);
    return status;
}
