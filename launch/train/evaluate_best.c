#include "launch/train/evaluate_best.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/plan/checkpoint.h"
#include "launch/runs/json_file.h"
#include "launch/train/evaluate_run.h"
#include "launch/train/saver.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A model of the list. */
typedef struct {
    const char *measure;
    char stem[64], path[PATH_MAX];
    int64_t step, epoch;
    char *json; /* its evaluation */
} BestOf;

typedef struct {
    BestOf model[MEASURES_MOST];
    int count;
} Models;

static int64_t number_of(const SafeFile *file, const char *key)
{
    const char *text = safetensors_metadata(file, key);
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

static Status find_model(const RunFolder *run, const Experiment *experiment, int index, Models *models)
{
    BestOf *model = &models->model[models->count];
    char name[80];
    SafeFile *file;
    *model = (BestOf){.measure = experiment->checkpoint.best[index]->name};
    saver_best_stem(experiment, index, model->stem);
    if (!checkpoint_exists(run->checkpoints, model->stem)) return OK;
    (void)snprintf(name, sizeof name, "%s.model.safetensors", model->stem);
    TRY(file_join(model->path, run->checkpoints, name));
    TRY(safetensors_open(model->path, &file));
    model->step = number_of(file, "step");
    model->epoch = number_of(file, "epoch");
    safetensors_close(file);
    ++models->count;
    return OK;
}

static Status find_models(const Session *session, const RunFolder *run, Models *models)
{
    const Experiment *experiment = &session->experiment;
    models->count = 0;
    for (int i = 0; i < experiment->checkpoint.best_count; ++i)
        TRY(find_model(run, experiment, i, models));
    return OK;
}

static void tell(const BestOf *model, const EvaluationResult *result)
{
    const Calibration *before = &result->measured[EVALUATE_BEFORE];
    char after[80] = "";
    if (result->has_temperature)
        (void)snprintf(after, sizeof after, ", %.2f %% at T = %.4g",
                       100 * result->measured[EVALUATE_AFTER_ECE].ece,
                       evaluation_temperature(result, EVALUATE_AFTER_ECE));
    log_info("%s, by the validation split's %s (epoch %" PRId64
             "): test error %.2f %% NLL %.4f ECE %.2f %%%s",
             model->stem, model->measure, model->epoch, 100 * before->error, before->nll, 100 * before->ece,
             after);
}

/* What evaluation.json would be of them: of all models of the list that are of this step. Rank 0. */
static Status keep_evaluation(Models *models, int64_t step, EvaluationResult *result)
{
    for (int i = 0; i < models->count; ++i) {
        BestOf *model = &models->model[i];
        if (model->step != step) continue;
        result->checkpoint = model->stem;
        result->step = step;
        tell(model, result);
        TRY(evaluation_json(result, &model->json));
    }
    return OK;
}

static Status load_and_measure(Session *session, const EvaluateOptions *options, const BestOf *model,
                               EvaluationResult *result)
{
    static const OodChoices none;
    OodResult ood = {.count = 0};
    const EvaluateOutside outside = {&none, true, &ood};
    Status status = checkpoint_load_weights(session->store, model->path, "", NULL);
    if (status != OK) status = status_context(status, "%s", model->path);
    TRY(comm_agree(session->world, status));
    return evaluate_network(session, SPLIT_TEST, options, &outside, NULL, result);
}

static bool is_done(const Models *models, int index)
{
    for (int i = 0; i < index; ++i)
        if (models->model[i].step == models->model[index].step) return true;
    return false;
}

static Status measure_models(Session *session, const EvaluateOptions *options, const EvaluationResult *last,
                             int64_t step, EvaluationResult *result, Models *models)
{
    for (int i = 0; i < models->count; ++i) {
        const BestOf *model = &models->model[i];
        Status status = OK;
        if (is_done(models, i)) continue;
        if (model->step == step)
            *result = *last;
        else
            TRY(load_and_measure(session, options, model, result));
        result->outside = NULL; /* sets from elsewhere are measured with the last model alone */
        if (session->world->rank == 0) status = keep_evaluation(models, model->step, result);
        if (model->step != step) free(result->unmasked);
        result->unmasked = NULL; /* of the last model it is not ours to release */
        TRY(comm_agree(session->world, status));
    }
    return OK;
}

static Status write_models(const RunFolder *run, const Models *models)
{
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "models");
    char *text;
    for (int i = 0; i < models->count; ++i) {
        const BestOf *model = &models->model[i];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddItemToArray(list, object);
        cJSON_AddStringToObject(object, "measure", model->measure);
        cJSON_AddStringToObject(object, "checkpoint", model->stem);
        json_add_number(object, "epoch", (double)model->epoch);
        json_add_number(object, "step", (double)model->step);
        cJSON_AddRawToObject(object, "evaluation", model->json);
    }
    TRY(json_line(root, RUN_BEST_MODELS, &text));
    Status status = run_folder_write_best_models(run, text);
    free(text);
    return status;
}

/* Ranks on other hosts may see other files. */
static Status check_same(const Session *session, const Models *models)
{
    int64_t steps[MEASURES_MOST] = {0};
    for (int i = 0; i < models->count; ++i)
        steps[i] = models->model[i].step;
    return comm_check_equal(session->world, steps, sizeof steps, "the best models");
}

Status evaluate_best_models(Session *session, const RunFolder *run, const EvaluateOptions *options,
                            const EvaluationResult *last, int64_t step)
{
    Models *models = NULL;
    EvaluationResult *result = NULL;
    Status status = memory_new(&models, 1, sizeof *models, "best models");
    if (status == OK) status = memory_new(&result, 1, sizeof *result, "evaluation");
    if (status == OK) status = find_models(session, run, models);
    TRY_ELSE(done, comm_agree(session->world, status));
    TRY_ELSE(done, check_same(session, models));
    TRY_ELSE(done, measure_models(session, options, last, step, result, models));
    if (session->world->rank == 0 && models->count > 0) status = write_models(run, models);
    status = comm_agree(session->world, status);
done:
    for (int i = 0; models != NULL && i < models->count; ++i)
        free(models->model[i].json);
    free(models);
    evaluation_free(result);
    return status;
}
