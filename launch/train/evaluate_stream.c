#include "launch/train/evaluate_stream.h"

#include "engine/base/memory.h"
#include "losses/calibration/weighted_ece.h"

#include <stdlib.h>
#include <string.h>

/* What the rows of a split are given to. */
typedef struct {
    CalibrationPass *pass[EVALUATE_STAGES]; /* NULL: the stage is one of the others */
    TemperaturePass *curve;                 /* NULL: not wanted */
    WeightedEcePass *weighted;              /* at the temperatures of all stages, */
    int temperatures;                       /* so many */
    int32_t *cluster;                       /* of the rows that count, in the order in which they come */
    size_t clusters, capacity;
    const TaskData *data;
    Split split;
    int kinds;                        /* ways to part the rows */
    uint8_t *group[GROUP_KINDS_MOST]; /* of the same rows */
    size_t group_capacity[GROUP_KINDS_MOST];
    double *nll[EVALUATE_STAGES]; /* of the same rows */
    size_t nll_capacity[EVALUATE_STAGES];
    double *batch_nll; /* [EVALUATE_STAGES, rows of a batch] */
    size_t batch_capacity;
} Stages;

static Status make_room(Stages *stages, int64_t rows)
{
    const size_t needed = stages->clusters + (size_t)rows;
    for (int kind = 0; kind < stages->kinds; ++kind)
        TRY(memory_grow(&stages->group[kind], &stages->group_capacity[kind], needed, 1, "groups of tokens"));
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        TRY(memory_grow(&stages->nll[stage], &stages->nll_capacity[stage], needed, sizeof(double),
                        "losses of tokens"));
    return memory_grow(&stages->cluster, &stages->capacity, needed, sizeof *stages->cluster,
                       "sentences of tokens");
}

/* The sample that each row with a weight belongs to, its groups and its losses. Rows of a sample lie side by side. */
static Status note_rows(Stages *stages, const BatchPart *part, const BatchShape *shape)
{
    const int field = batch_shape_find(shape, "sample");
    const int64_t samples = shape_count(shape->field[field].shape), a_sample = shape->rows / samples;
    const int64_t *sample = part->field[field];
    const float *weight = part->field[batch_shape_find(shape, "weight")];
    TRY(make_room(stages, shape->rows));
    for (int64_t row = 0; row < shape->rows; ++row) {
        if (weight[row] == 0) continue;
        for (int kind = 0; kind < stages->kinds; ++kind)
            stages->group[kind][stages->clusters] =
                (uint8_t)stages->data->task->group(stages->data, stages->split, kind, shape, part, row);
        for (int stage = 0; stage < stages->temperatures; ++stage)
            stages->nll[stage][stages->clusters] = stages->batch_nll[stage * shape->rows + row];
        stages->cluster[stages->clusters++] = (int32_t)sample[row / a_sample];
    }
    return OK;
}

static Status take_stages(void *taker, const LogitRows *rows, const BatchPart *part, const BatchShape *shape)
{
    Stages *stages = taker;
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        if (stages->pass[stage] != NULL) TRY(calibration_pass_add(stages->pass[stage], rows));
    if (stages->curve != NULL) TRY(temperature_pass_add(stages->curve, rows));
    TRY(memory_grow(&stages->batch_nll, &stages->batch_capacity, (size_t)shape->rows,
                    EVALUATE_STAGES * sizeof(double), "losses of tokens"));
    TRY(weighted_ece_add(stages->weighted, rows, stages->batch_nll));
    return note_rows(stages, part, shape);
}

/* What the rows of the validation split are given to. */
typedef struct {
    TemperaturePass *search, *curve; /* curve: NULL, not wanted */
} Searches;

static Status take_searches(void *taker, const LogitRows *rows, const BatchPart *part,
                            const BatchShape *shape)
{
    const Searches *searches = taker;
    (void)part;
    (void)shape;
    if (searches->curve != NULL) TRY(temperature_pass_add(searches->curve, rows));
    return temperature_pass_add(searches->search, rows);
}

static Status open_temperatures(Session *session, Split split, const EvaluateOptions *options,
                                TemperatureGrid grid, TemperaturePass **pass)
{
    const TemperatureSetup setup = {.name = split_name(split),
                                    .classes = session->data->classes,
                                    .masked = session->data->masked,
                                    .grid = grid,
                                    .bins = options->bins,
                                    .most_rows = session_most_rows(session, split)};
    TRY(temperature_pass_open(session->device, &setup, pass));
    temperature_pass_begin(*pass);
    return OK;
}

static Status open_searches(Session *session, const EvaluateOptions *options, Searches *searches)
{
    TRY(open_temperatures(session, SPLIT_VALIDATION, options, options->grid, &searches->search));
    if (!options->wants_curve) return OK;
    return open_temperatures(session, SPLIT_VALIDATION, options, options->curve, &searches->curve);
}

static Status search(Session *session, const EvaluateOptions *options, EvaluationResult *result)
{
    Searches searches = {.search = NULL};
    Status status;
    TRY_ELSE(done, comm_agree(session->world, open_searches(session, options, &searches)));
    TRY_ELSE(done,
             comm_agree(session->world, session_stream(session, SPLIT_VALIDATION, take_searches, &searches)));
    TRY_ELSE(done, temperature_pass_search(searches.search, session->host_collective, &result->search));
    if (searches.curve != NULL)
        TRY_ELSE(done, temperature_pass_search(searches.curve, session->host_collective,
                                               &result->curve[EVALUATE_VALIDATION]));
done:
    temperature_pass_close(searches.search);
    temperature_pass_close(searches.curve);
    return status;
}

static Status open_stage(Session *session, Split split, const EvaluateOptions *options, double temperature,
                         CalibrationPass **pass)
{
    const CalibrationSetup setup = {.name = split_name(split),
                                    .classes = session->data->classes,
                                    .masked = session->data->masked,
                                    .temperature = temperature,
                                    .bins = options->bins,
                                    .most_rows = session_most_rows(session, split)};
    TRY(calibration_pass_open(session->device, &setup, pass));
    return calibration_pass_begin(*pass);
}

/* One pass for all of them: stages of the same temperature are measured twice. */
static Status open_weighted(Session *session, Split split, const EvaluateOptions *options,
                            const EvaluationResult *result, Stages *stages)
{
    WeightedEceSetup setup = {.name = split_name(split),
                              .classes = session->data->classes,
                              .masked = session->data->masked,
                              .temperatures = result->has_temperature ? EVALUATE_STAGES : 1,
                              .bins = options->bins,
                              .most_rows = session_most_rows(session, split)};
    for (int stage = 0; stage < setup.temperatures; ++stage)
        setup.temperature[stage] = evaluation_temperature(result, stage);
    stages->temperatures = setup.temperatures;
    return weighted_ece_open(session->device, &setup, &stages->weighted);
}

/* One pass a temperature. */
static Status open_stages(Session *session, Split split, const EvaluateOptions *options,
                          const EvaluationResult *result, Stages *stages)
{
    if (options->wants_curve) TRY(open_temperatures(session, split, options, options->curve, &stages->curve));
    TRY(open_weighted(session, split, options, result, stages));
    TRY(open_stage(session, split, options, 1, &stages->pass[EVALUATE_BEFORE]));
    if (!result->has_temperature) return OK;
    TRY(open_stage(session, split, options, evaluation_temperature(result, EVALUATE_AFTER_ECE),
                   &stages->pass[EVALUATE_AFTER_ECE]));
    if (result->search.best_ece == result->search.best_nll) return OK;
    return open_stage(session, split, options, evaluation_temperature(result, EVALUATE_AFTER_NLL),
                      &stages->pass[EVALUATE_AFTER_NLL]);
}

static Status run_stages(Session *session, Split split, Stages *stages)
{
    TRY(session_stream(session, split, take_stages, stages));
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        if (stages->pass[stage] != NULL) TRY(calibration_pass_collect(stages->pass[stage]));
    return OK;
}

static Status measure_stage(Session *session, const EvaluateOptions *options, const Stages *stages,
                            EvaluateProgress *progress, int stage, EvaluationResult *result)
{
    CalibrationPass *pass = stages->pass[stage];
    const CalibrationScores *scores = calibration_pass_scores(pass);
    TRY(calibration_pass_measure(pass, session->host_collective, &result->measured[stage]));
    for (int kind = 0; kind < stages->kinds; ++kind) {
        const GroupedSamples samples = {.count = scores->count,
                                        .signed_confidence = scores->signed_confidence,
                                        .nll = stages->nll[stage],
                                        .group = stages->group[kind]};
        TRY(groups_measure(session->world, session->host_collective, &samples,
                           result->group_kind[kind].groups, options->bins, result->group[kind][stage]));
    }
    if (options->replicates > 0) {
        const BootstrapOptions bootstrap = {.replicates = options->replicates,
                                            .seed = options->seed,
                                            .level = 0.9,
                                            .bins = options->bins,
                                            .cluster = stages->cluster,
                                            .clusters = result->clusters,
                                            .progress = evaluate_progress,
                                            .context = progress};
        TRY(bootstrap_intervals(session->host_collective, NULL, evaluation_temperature(result, stage),
                                &result->measured[stage], scores, &bootstrap, options->threads,
                                &result->interval[stage]));
    }
    progress->stage += 1;
    return OK;
}

static Status measure_stages(Session *session, const EvaluateOptions *options, const Stages *stages,
                             EvaluationResult *result)
{
    int wanted = 0;
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        wanted += stages->pass[stage] != NULL;
    EvaluateProgress progress;
    evaluate_progress_start(&progress, options->progress && session->world->rank == 0, wanted);
    Status status = OK;
    for (int stage = 0; stage < EVALUATE_STAGES && status == OK; ++stage)
        if (stages->pass[stage] != NULL)
            status = measure_stage(session, options, stages, &progress, stage, result);
    evaluate_progress_end(&progress);
    TRY(status);
    if (stages->curve != NULL) {
        result->has_curve = true;
        TRY(temperature_pass_search(stages->curve, session->host_collective, &result->curve[EVALUATE_TEST]));
    }
    TRY(weighted_ece_measure(stages->weighted, session->host_collective, result->weighted_ece));
    result->has_weighted = true;
    result->samples = result->measured[EVALUATE_BEFORE].samples;
    if (result->has_temperature && stages->pass[EVALUATE_AFTER_NLL] == NULL) {
        result->measured[EVALUATE_AFTER_NLL] = result->measured[EVALUATE_AFTER_ECE];
        result->interval[EVALUATE_AFTER_NLL] = result->interval[EVALUATE_AFTER_ECE];
        for (int kind = 0; kind < stages->kinds; ++kind)
            memcpy(result->group[kind][EVALUATE_AFTER_NLL], result->group[kind][EVALUATE_AFTER_ECE],
                   sizeof result->group[kind][EVALUATE_AFTER_NLL]);
    }
    return OK;
}

Status evaluate_stream_check(const Task *task, const EvaluateOptions *options)
{
    if (options->recalibrations == 0 && options->calibrator == NULL && options->more == NULL) return OK;
    return fail(STATUS_UNSUPPORTED,
                "other calibrators than a temperature, and --all-measures, need all logits at once; those "
                "of %s are measured as they come",
                task->unit);
}

Status evaluate_stream(Session *session, Split split, const EvaluateOptions *options,
                       EvaluationResult *result)
{
    const Task *task = session->data->task;
    const GroupKind *kinds = NULL;
    Stages stages = {.data = session->data, .split = split};
    Status status;
    if (session->evaluate[split].source == NULL)
        return fail(STATUS_INPUT, "the %s split of %s is empty", split_name(split), session->data->dataset);
    TRY(evaluate_stream_check(task, options));
    *result = (EvaluationResult){.classes = session->data->classes,
                                 .replicates = options->replicates,
                                 .has_temperature = split != SPLIT_VALIDATION &&
                                                    session->evaluate[SPLIT_VALIDATION].source != NULL,
                                 .has_intervals = options->replicates > 0,
                                 .streamed = true,
                                 .clusters = session->data->count[split]};
    if (task->group_kinds != NULL) stages.kinds = result->group_kinds = task->group_kinds(&kinds);
    for (int kind = 0; kind < stages.kinds; ++kind)
        result->group_kind[kind] = kinds[kind];
    if (result->has_temperature) TRY(search(session, options, result));
    TRY_ELSE(done, comm_agree(session->world, open_stages(session, split, options, result, &stages)));
    TRY_ELSE(done, comm_agree(session->world, run_stages(session, split, &stages)));
    TRY_ELSE(done, measure_stages(session, options, &stages, result));
done:
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        calibration_pass_close(stages.pass[stage]);
    temperature_pass_close(stages.curve);
    weighted_ece_close(stages.weighted);
    for (int kind = 0; kind < stages.kinds; ++kind)
        free(stages.group[kind]);
    for (int stage = 0; stage < EVALUATE_STAGES; ++stage)
        free(stages.nll[stage]);
    free(stages.batch_nll);
    free(stages.cluster);
    return status;
}
