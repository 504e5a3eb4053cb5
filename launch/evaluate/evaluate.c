#include "launch/evaluate/evaluate.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "losses/calibration/exact_sum.h"

#include <stdlib.h>
#include <string.h>

EvaluateOptions evaluate_defaults(void)
{
    return (EvaluateOptions){.bins = 15, .replicates = 1000, .seed = 1, .grid = temperature_published};
}

void evaluation_free(EvaluationResult *result)
{
    if (result == NULL) return;
    free(result->unmasked);
    free(result);
}

static Status check_sets(World *world, int threads, const Logits *test, const Logits *validation,
                         const Logits *ood)
{
    const Logits *const sets[] = {test, validation, ood};
    Status status = OK;
    for (int i = 0; i < 3 && status == OK; ++i) {
        if (sets[i] == NULL) continue;
        status = logits_check(sets[i], threads);
        if (status == OK && sets[i]->classes != test->classes)
            status = fail(STATUS_INPUT, "%s: %s of %lld classes, but %s has %lld", sets[i]->name,
                          sets[i]->probabilities ? "probabilities" : "logits", (long long)sets[i]->classes,
                          test->name, (long long)test->classes);
    }
    return comm_agree(world, status);
}

/* Do the first rows hold what softmax gives? Their ECE would be that of another network. */
static bool are_probabilities(const Logits *set)
{
    enum { LOOKED_AT = 100 };
    if (set == NULL || set->probabilities) return false;
    for (int64_t row = 0; row < set->count && row < LOOKED_AT; ++row) {
        double sum = 0;
        for (int64_t k = 0; k < set->classes; ++k) {
            const int64_t at = row * set->classes + k;
            const double value = set->type == FLOAT32 ? (double)((const float *)set->values)[at]
                                                      : ((const double *)set->values)[at];
            if (!(value >= 0)) return false;
            sum += value;
        }
        if (!(sum > 0.999 && sum < 1.001)) return false;
    }
    return set->count > 0;
}

/* Rank 0 has the first rows. */
static Status look_for_probabilities(Collective *collective, const Logits *const sets[EVALUATE_SETS],
                                     EvaluationResult *result)
{
    int64_t found[EVALUATE_SETS] = {0};
    for (int set = 0; set < EVALUATE_SETS && collective->rank == 0; ++set)
        found[set] = are_probabilities(sets[set]);
    TRY(counts_reduce(collective, found, EVALUATE_SETS));
    for (int set = 0; set < EVALUATE_SETS; ++set) {
        result->probabilities[set] = found[set] > 0;
        if (found[set] > 0)
            log_warning("%s: its rows look like probabilities; what is wanted is what softmax takes "
                        "(probabilities are given "
                        "as --probabilities)",
                        sets[set]->name);
    }
    return OK;
}

static BootstrapOptions bootstrap_options(const EvaluateOptions *options, EvaluateProgress *progress)
{
    return (BootstrapOptions){.replicates = options->replicates,
                              .seed = options->seed,
                              .level = 0.9,
                              .bins = options->bins,
                              .classwise = options->classwise,
                              .progress = evaluate_progress,
                              .context = progress};
}

/* Where the measures at one temperature go. */
typedef struct {
    Calibration *measured;
    BootstrapIntervals *interval;
    MoreMeasures *more;
} Stage;

static Stage stage_of(EvaluationResult *result, int stage)
{
    return (Stage){&result->measured[stage], &result->interval[stage], &result->more[stage]};
}

/* Intervals, and all measures if they are wanted. set: NULL of confidences. */
static Status evaluate_scores(World *world, Collective *collective, const EvaluateOptions *options,
                              const Logits *set, double temperature, const CalibrationScores *scores,
                              EvaluateProgress *progress, const Stage *stage)
{
    if (options->replicates > 0) {
        const BootstrapOptions bootstrap = bootstrap_options(options, progress);
        TRY(bootstrap_intervals(collective, set, temperature, stage->measured, scores, &bootstrap,
                                options->threads, stage->interval));
    }
    if (options->more == NULL) return OK;
    MoreOptions more = *options->more;
    more.bins = options->bins;
    more.seed = options->seed;
    more.threads = options->threads;
    more.replicates = options->replicates;
    return evaluate_more(world, collective, &more, set, temperature, stage->measured, scores, stage->more);
}

/* The metrics of the test set at one temperature, with their intervals. */
static Status evaluate_stage(World *world, Collective *collective, const EvaluateOptions *options,
                             const Logits *test, double temperature, EvaluateProgress *progress,
                             const Stage *stage)
{
    CalibrationScores scores = {0};
    TRY(calibration_measure(collective, test, temperature, options->bins, options->threads, stage->measured,
                            &scores));
    const Status status =
        evaluate_scores(world, collective, options, test, temperature, &scores, progress, stage);
    calibration_scores_free(&scores);
    progress->stage += 1;
    return status;
}

Status evaluate_confidences(World *world, Collective *collective, const EvaluateOptions *options,
                            const ConfidenceSet *set, int64_t total, EvaluationResult *result)
{
    CalibrationScores scores = {0};
    *result = (EvaluationResult){.samples = total,
                                 .replicates = options->replicates,
                                 .has_intervals = options->replicates > 0,
                                 .has_more = options->more != NULL};
    const Stage stage = stage_of(result, EVALUATE_BEFORE);
    TRY(calibration_measure_confidences(collective, set, options->bins, options->threads, stage.measured,
                                        &scores));
    EvaluateProgress progress;
    evaluate_progress_start(&progress, options->progress && world->rank == 0, 1);
    const Status status = evaluate_scores(world, collective, options, NULL, 1, &scores, &progress, &stage);
    evaluate_progress_end(&progress);
    calibration_scores_free(&scores);
    return status;
}

static Status evaluate_curves(Collective *collective, const EvaluateOptions *options, const Logits *test,
                              const Logits *validation, EvaluationResult *result)
{
    result->has_curve = true;
    TRY(temperature_curves(collective, test, options->curve, options->bins, options->threads, FLOAT64,
                           &result->curve[EVALUATE_TEST]));
    if (validation == NULL) return OK;
    return temperature_curves(collective, validation, options->curve, options->bins, options->threads,
                              FLOAT64, &result->curve[EVALUATE_VALIDATION]);
}

/* What scaling by the validation set does to the test set. */
static Status evaluate_scaled(World *world, Collective *collective, const EvaluateOptions *options,
                              const Logits *test, EvaluateProgress *progress, EvaluationResult *result)
{
    const TemperatureSearch *search = &result->search;
    const Stage by_ece = stage_of(result, EVALUATE_AFTER_ECE), by_nll = stage_of(result, EVALUATE_AFTER_NLL);
    progress->stages -= search->best_ece == search->best_nll;
    TRY(evaluate_stage(world, collective, options, test, search->temperature[search->best_ece], progress,
                       &by_ece));
    *by_nll.measured = *by_ece.measured;
    *by_nll.interval = *by_ece.interval;
    *by_nll.more = *by_ece.more;
    if (search->best_ece == search->best_nll) return OK;
    return evaluate_stage(world, collective, options, test, search->temperature[search->best_nll], progress,
                          &by_nll);
}

/* ---- calibrators ---- */

/* What the test set becomes, measured. */
static Status evaluate_calibrated(World *world, Collective *collective, const EvaluateOptions *options,
                                  const Calibrator *calibrator, const Logits *test,
                                  EvaluateProgress *progress, Recalibration *recalibrated)
{
    double *probability = NULL;
    *recalibrated = (Recalibration){.settings = calibrator->settings,
                                    .is_given = calibrator == options->calibrator,
                                    .samples = calibrator->samples,
                                    .missing = calibrator->missing,
                                    .first_missing = calibrator->first_missing,
                                    .objective = calibrator->objective,
                                    .gap = calibrator->gap,
                                    .finished = calibrator->finished};
    Status status = memory_new(&probability, (size_t)test->count, (size_t)test->classes * sizeof *probability,
                               "calibrated probabilities");
    if (status == OK) status = calibrator_apply(calibrator, test, options->threads, probability);
    status = comm_agree(world, status);
    if (status == OK) {
        Logits after = *test;
        after.type = FLOAT64;
        after.values = probability;
        after.probabilities = true;
        const Stage stage = {&recalibrated->measured, &recalibrated->interval, &recalibrated->more};
        status = evaluate_stage(world, collective, options, &after, 1, progress, &stage);
    }
    free(probability);
    return status;
}

static Status evaluate_fitted(World *world, Collective *collective, const EvaluateOptions *options,
                              const CalibratorSettings *settings, const Logits *test,
                              const Logits *validation, EvaluateProgress *progress, EvaluationResult *result)
{
    Calibrator calibrator;
    Status status;
    TRY_ELSE(done, comm_agree(world, calibrator_fit_shared(collective, settings, validation, options->threads,
                                                           &calibrator)));
    TRY_ELSE(done, evaluate_calibrated(world, collective, options, &calibrator, test, progress,
                                       &result->recalibrated[result->recalibrations++]));
    if (options->save != NULL && *options->save == NULL)
        TRY_ELSE(done, comm_agree(world, calibrator_write(&calibrator, options->save)));
done:
    calibrator_free(&calibrator);
    return status;
}

static Status evaluate_recalibrations(World *world, Collective *collective, const EvaluateOptions *options,
                                      const Logits *test, const Logits *validation,
                                      EvaluateProgress *progress, EvaluationResult *result)
{
    if (options->recalibrations > 0 && validation == NULL)
        return fail(STATUS_USAGE, "recalibration is fitted to a validation set, and there is none");
    if (options->calibrator != NULL)
        TRY(evaluate_calibrated(world, collective, options, options->calibrator, test, progress,
                                &result->recalibrated[result->recalibrations++]));
    for (int i = 0; i < options->recalibrations; ++i)
        TRY(evaluate_fitted(world, collective, options, &options->recalibrate[i], test, validation, progress,
                            result));
    return OK;
}

Status evaluate_logits(World *world, Collective *collective, const EvaluateOptions *options,
                       const Logits *test, const Logits *validation, const Logits *ood,
                       EvaluationResult *result)
{
    const int threads = options->threads;
    const Logits *const sets[EVALUATE_SETS] = {test, validation, ood};
    *result = (EvaluationResult){.samples = test->total,
                                 .classes = test->classes,
                                 .replicates = options->replicates,
                                 .has_temperature = validation != NULL,
                                 .has_intervals = options->replicates > 0,
                                 .has_ood = ood != NULL,
                                 .has_more = options->more != NULL};
    TRY(check_sets(world, threads, test, validation, ood));
    TRY(look_for_probabilities(collective, sets, result));
    EvaluateProgress progress;
    const int calibrators = options->recalibrations + (options->calibrator != NULL);
    evaluate_progress_start(&progress, options->progress && world->rank == 0,
                            (validation != NULL ? 3 : 1) + calibrators);
    const Stage before = stage_of(result, EVALUATE_BEFORE);
    Status status = evaluate_stage(world, collective, options, test, 1, &progress, &before);
    if (status == OK && validation != NULL)
        status = temperature_search(collective, validation, options->grid, options->bins, threads,
                                    &result->search);
    if (status == OK && validation != NULL)
        status = evaluate_scaled(world, collective, options, test, &progress, result);
    if (status == OK)
        status = evaluate_recalibrations(world, collective, options, test, validation, &progress, result);
    evaluate_progress_end(&progress);
    TRY(status);
    if (options->wants_curve) TRY(evaluate_curves(collective, options, test, validation, result));
    TRY(losses_evaluate(collective, test, threads, &result->loss));
    if (ood != NULL) TRY(ood_auroc(collective, test, ood, 1, threads, &result->ood));
    return OK;
}
