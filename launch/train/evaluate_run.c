#include "launch/train/evaluate_run.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/npy.h"
#include "launch/runs/bleu_curves.h"
#include "launch/train/evaluate_best.h"
#include "launch/train/evaluate_stream.h"
#include "launch/train/inference_calibration.h"
#include "launch/train/run_session.h"
#include "launch/train/split_translation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Logits set;
    float *logits;
    int32_t *labels;
} Predictions;

static void free_predictions(Predictions *predictions)
{
    free(predictions->logits);
    free(predictions->labels);
}

/* ---- predictions as files ---- */

/* Rows of all ranks, in order, on every rank: parts of one size are gathered, and their padding dropped. */
static Status gather_rows(Session *session, const void *mine, int64_t count, int64_t total, int64_t width,
                          DType type, void **all)
{
    const size_t row = (size_t)width * dtype_size(type);
    const int size = session->world->size;
    int64_t largest = 0;
    for (int rank = 0; rank < size; ++rank) {
        int64_t first, share;
        share_of_rank(total, rank, size, &first, &share);
        if (share > largest) largest = share;
    }
    void *part = NULL;
    char *parts = NULL;
    Status status;
    *all = NULL;
    status = memory_new(&part, (size_t)largest + 1, row, "predictions");
    if (status == OK) status = memory_new(&parts, (size_t)largest * (size_t)size + 1, row, "predictions");
    TRY_ELSE(done, comm_agree(session->world, status));
    memcpy(part, mine, (size_t)count * row);
    TRY_ELSE(done, collective_gather(session->host_collective, (Span){part, largest * width, type},
                                     (Span){parts, largest * width * size, type}, NULL));
    TRY_ELSE(done, collective_join(session->host_collective, NULL));
    for (int rank = 0; rank < size; ++rank) {
        int64_t first, share;
        share_of_rank(total, rank, size, &first, &share);
        memmove(parts + (size_t)first * row, parts + (size_t)largest * (size_t)rank * row,
                (size_t)share * row);
    }
    *all = parts;
    parts = NULL;
done:
    free(part);
    free(parts);
    return status;
}

static Status write_rows(Session *session, const char *folder, const char *name, const void *mine,
                         const Logits *set, int64_t width, DType type)
{
    char file[128], path[PATH_MAX];
    void *all;
    TRY(gather_rows(session, mine, set->count, set->total, width, type, &all));
    Status status = OK;
    if (session->world->rank == 0) {
        (void)snprintf(file, sizeof file, "%s.%s.npy", set->name, name);
        const int64_t extent[] = {set->total, width};
        status = file_join(path, folder, file);
        if (status == OK) status = npy_write(path, type, type == FLOAT32 ? 2 : 1, extent, all);
    }
    free(all);
    return comm_agree(session->world, status);
}

/* ---- evaluation ---- */

static Status predict(Session *session, Split split, bool masked, const char *folder,
                      Predictions *predictions)
{
    Status status =
        session_logits(session, split, masked, &predictions->set, &predictions->logits, &predictions->labels);
    TRY(comm_agree(session->world, status));
    if (folder == NULL) return OK;
    TRY(write_rows(session, folder, "logits", predictions->logits, &predictions->set,
                   predictions->set.classes, FLOAT32));
    return write_rows(session, folder, "labels", predictions->labels, &predictions->set, 1, INT32);
}

static Status check_outside(const Task *task)
{
    if (task->outside != NULL) return OK;
    return fail(STATUS_UNSUPPORTED, "samples from elsewhere are measured for images only, not for %s",
                task->unit);
}

/* One set from outside. */
static Status measure_outside(Session *session, const OodChoice *choice, bool forgiving, const Logits *test,
                              OodResult *result)
{
    const Task *task = session->data->task;
    TaskData *outside = NULL;
    TaskNote note = {.made = false};
    Logits set;
    float *logits = NULL;
    Status status = comm_agree(session->world, task->outside(session->data, session->device, choice->name,
                                                             choice->from, &note, &outside));
    if (status != OK && forgiving) { /* on all ranks, also where this one has opened it */
        if (session->world->rank == 0)
            log_warning("%s; plumb evaluate RUN --ood measures it later", status_message(status));
        status_free(status);
        task_data_free(outside);
        return OK;
    }
    TRY_ELSE(done, status);
    TRY_ELSE(done, session_outside_logits(session, outside, &set, &logits));
    TRY_ELSE(done, ood_result_add(session->world, session->host_collective, device_threads(session->device),
                                  test, &set, note.text, note.made, result));
done:
    free(logits);
    task_data_free(outside);
    return status;
}

static Status measure_all_outside(Session *session, const EvaluateOutside *outside, const Logits *test,
                                  EvaluationResult *result)
{
    OodResult *ood = outside->result;
    const OodChoices *choices = outside->choices;
    if (choices->count == 0) return OK;
    TRY(check_outside(session->data->task));
    ood->has_temperature = result->has_temperature;
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        ood->temperature[stage] =
            stage == EVALUATE_BEFORE || !result->has_temperature ? 1 : evaluation_temperature(result, stage);
    for (int i = 0; i < choices->count; ++i)
        TRY(measure_outside(session, &choices->choice[i], outside->forgiving, test, ood));
    result->outside = ood;
    return OK;
}

/* The same samples with all classes of the network: no renormalisation hides what it gives to the others. */
static Status evaluate_unmasked(Session *session, Split split, bool has_validation,
                                const EvaluateOptions *options, EvaluationResult *result)
{
    Predictions test = {.logits = NULL}, validation = {.logits = NULL};
    if (session->data->masked == NULL) return OK;
    const EvaluateOptions measures = {.bins = options->bins,
                                      .replicates = options->replicates,
                                      .seed = options->seed,
                                      .grid = options->grid,
                                      .classwise = options->classwise,
                                      .threads = options->threads};
    Status status = memory_new(&result->unmasked, 1, sizeof *result->unmasked, "evaluation");
    TRY_ELSE(done, comm_agree(session->world, status));
    TRY_ELSE(done, predict(session, split, false, NULL, &test));
    if (has_validation) TRY_ELSE(done, predict(session, SPLIT_VALIDATION, false, NULL, &validation));
    status = evaluate_logits(session->world, session->host_collective, &measures, &test.set,
                             has_validation ? &validation.set : NULL, NULL, result->unmasked);
done:
    free_predictions(&test);
    free_predictions(&validation);
    return status;
}

Status evaluate_network(Session *session, Split split, const EvaluateOptions *options,
                        const EvaluateOutside *outside, const char *folder, EvaluationResult *result)
{
    Predictions test = {.logits = NULL}, validation = {.logits = NULL};
    const bool has_validation = split != SPLIT_VALIDATION && session->data->count[SPLIT_VALIDATION] > 0;
    Status status;
    if (session->data->label[split] == NULL) {
        if (outside != NULL && outside->choices->count > 0) TRY(check_outside(session->data->task));
        return evaluate_stream(session, split, options, result);
    }
    TRY_ELSE(done, predict(session, split, true, folder, &test));
    if (has_validation) TRY_ELSE(done, predict(session, SPLIT_VALIDATION, true, folder, &validation));
    TRY_ELSE(done, evaluate_logits(session->world, session->host_collective, options, &test.set,
                                   has_validation ? &validation.set : NULL, NULL, result));
    TRY_ELSE(done, measure_all_outside(session, outside, &test.set, result));
    TRY_ELSE(done, evaluate_unmasked(session, split, has_validation, options, result));
done:
    free_predictions(&test);
    free_predictions(&validation);
    return status;
}

static EvaluateOptions options_of(const Session *session)
{
    EvaluateOptions options = evaluate_defaults();
    options.bins = session->experiment.evaluate.bins;
    options.replicates = session->experiment.evaluate.bootstrap;
    options.threads = device_threads(session->device);
    return options;
}

/* But for evaluation.json, by whose presence the run is complete. Rank 0. */
static Status keep_evaluation(const RunFolder *run, int64_t step, bool quiet, const OodResult *ood,
                              EvaluationResult *result, char **json)
{
    result->checkpoint = "last";
    result->step = step;
    TRY(evaluation_json(result, json));
    if (ood->count > 0) TRY(ood_result_write(ood, run->path, "last"));
    if (!quiet) evaluation_print(result, stdout);
    return OK;
}

Status evaluate_trained(Session *session, const RunFolder *run, int64_t step, bool quiet)
{
    EvaluationResult *result;
    char *json = NULL;
    const EvaluateOptions options = options_of(session);
    const bool is_first = session->world->rank == 0;
    Status status = memory_new(&result, 1, sizeof *result, "evaluation");
    OodResult ood = {.count = 0};
    const EvaluateOutside outside = {&session->experiment.evaluate.ood, true, &ood};
    TRY_ELSE(done, comm_agree(session->world, status));
    status = evaluate_network(session, SPLIT_TEST, &options, &outside, run->path, result);
    if (status == OK && is_first) status = keep_evaluation(run, step, quiet, &ood, result, &json);
    TRY_ELSE(done, comm_agree(session->world, status));
    if (session->experiment.evaluate.best_models)
        TRY_ELSE(done, evaluate_best_models(session, run, &options, result, step));
    if (is_first) status = run_folder_write_evaluation(run, json);
    status = comm_agree(session->world, status);
done:
    free(json);
    ood_result_free(&ood);
    evaluation_free(result);
    return status;
}

/* Beside the run, for reports. A folder that others own may be read only: the result is told all the same. */
static void keep_outside(const OodResult *ood, const EvaluateRunOptions *options, const RunFolder *run)
{
    if (ood->count == 0 || options->split != SPLIT_TEST) return;
    Status status = ood_result_write(ood, run->path, options->checkpoint);
    if (status != OK) log_warning("reports will not know of it: %s", status_message(status));
    status_free(status);
}

static void keep_curves(const EvaluationResult *result, const EvaluateRunOptions *options,
                        const RunFolder *run)
{
    if (!result->has_bleu || options->split != SPLIT_TEST) return;
    Status status = bleu_curves_write(result, run->path);
    if (status != OK) log_warning("reports will not know of it: %s", status_message(status));
    status_free(status);
}

/* Collective. */
static Status measure_bleu(Session *session, Split split, EvaluationResult *result)
{
    const TemperatureSearch *curve = &result->curve[EVALUATE_TEST];
    SplitTranslationOptions options = split_translation_defaults();
    SplitTranslation *translation;
    char *signature;
    double temperature[TEMPERATURE_MOST];
    options.progress = true;
    options.keeps = true;
    for (int i = 0; i < curve->count; ++i)
        temperature[i] = evaluation_curve_temperature(result, i);
    TRY(split_translation_open(session, split, &options, &translation));
    Status status = split_translation_bleu(translation, temperature, curve->count, result->bleu);
    split_translation_close(translation);
    TRY(status);
    TRY(comm_agree(session->world, split_translation_signature(&signature)));
    (void)snprintf(result->bleu_signature, sizeof result->bleu_signature, "%s", signature);
    free(signature);
    split_translation_search_text(&options, result->bleu_search);
    result->has_bleu = true;
    return OK;
}

/* At the temperatures of all stages. Collective. */
static Status measure_inference(Session *session, Split split, EvaluationResult *result)
{
    SplitTranslationOptions options = split_translation_defaults();
    SplitTranslation *translation;
    const int stages = result->has_temperature ? EVALUATE_STAGES : 1;
    double temperature[EVALUATE_STAGES];
    for (int stage = 0; stage < stages; ++stage)
        temperature[stage] = evaluation_temperature(result, stage);
    options.progress = true;
    options.keeps = stages > 1;
    TRY(split_translation_open(session, split, &options, &translation));
    const Status status = inference_calibration(translation, temperature, stages, result->inference);
    split_translation_close(translation);
    result->has_inference = status == OK;
    return status;
}

/* Searches have narrower temperatures than grids may have. */
static Status check_search(const char *option, TemperatureGrid grid)
{
    SearchOptions search = split_translation_defaults().lines.search;
    const double ends[] = {grid.first, grid.last};
    for (int i = 0; i < 2; ++i) {
        search.temperature = ends[i];
        Status status = search_check(&search);
        if (status != OK) return status_context(status, "--%s", option);
    }
    return OK;
}

/* What the task cannot be asked for, before its data are loaded. */
static Status check_wishes(const Config *config, const EvaluateRunOptions *options)
{
    const Task *task;
    TRY(task_find(config, &task));
    if ((options->bleu || options->inference) && !task->translates)
        return fail(STATUS_UNSUPPORTED, "--%s is of translations: %s is a run on %s",
                    options->bleu ? "bleu" : "inference", options->run, task->name);
    if (options->bleu) TRY(check_search("bleu", options->options.curve));
    if (options->inference) TRY(check_search("inference", options->options.grid));
    if (task->streams) TRY(evaluate_stream_check(task, &options->options));
    return options->ood.count > 0 ? check_outside(task) : OK;
}

/* Before anything is measured. */
static Status check_calibrator(const Session *session, const EvaluateRunOptions *options)
{
    const TaskData *data = session->data;
    if (options->options.calibrator == NULL) return OK;
    return calibrator_check_classes(options->options.calibrator, options->options.calibrator_file,
                                    task_measured_class(data->masked, data->classes), options->run);
}

Status evaluate_run(World *world, const EvaluateRunOptions *options, OodResult *ood, EvaluationResult *result)
{
    const EvaluateOutside outside = {&options->ood, false, ood};
    RunFolder run;
    Config *config = NULL;
    Session session = {.world = NULL};
    int64_t step = 0;
    Status status;
    TRY(run_folder_attach(options->run, &run));
    TRY_ELSE(done, comm_agree(world, run_config_load(world, &run, &options->use, options->data,
                                                     options->cache, &config)));
    TRY_ELSE(done, comm_agree(world, check_wishes(config, options)));
    TRY_ELSE(done, session_open(world, config, SESSION_EVALUATES, false, &session));
    TRY_ELSE(done, comm_agree(world, check_calibrator(&session, options)));
    if (session.data->task->check_files != NULL)
        TRY_ELSE(done, comm_agree(world, session.data->task->check_files(session.data, run.path)));
    TRY_ELSE(done, run_checkpoint_load(&session, &run, options->checkpoint, &step));
    TRY_ELSE(done, evaluate_network(&session, options->split, &options->options, &outside, NULL, result));
    result->checkpoint = options->checkpoint;
    result->step = step;
    if (options->inference) TRY_ELSE(done, measure_inference(&session, options->split, result));
    if (options->bleu) TRY_ELSE(done, measure_bleu(&session, options->split, result));
    if (world->rank == 0) keep_outside(ood, options, &run);
    if (world->rank == 0) keep_curves(result, options, &run);
done:
    if (session.world != NULL) session_close(&session);
    config_free(config);
    return status;
}
