#include "launch/evaluate/evaluate.h"

#include "engine/base/memory.h"

#include <string.h>

EvaluateOptions evaluate_defaults(void)
{
    return (EvaluateOptions){.bins = 15, .replicates = 1000, .seed = 1, .grid = temperature_published};
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
            status = fail(STATUS_INPUT, "%s: logits of %lld classes, but %s has %lld", sets[i]->name,
                          (long long)sets[i]->classes, test->name, (long long)test->classes);
    }
    return comm_agree(world, status);
}

/* The metrics of the test set at one temperature, with their intervals. */
static Status evaluate_stage(Collective *collective, const EvaluateOptions *options, const Logits *test,
                             double temperature, Calibration *measured, BootstrapIntervals *interval)
{
    CalibrationScores scores = {0};
    TRY(calibration_measure(collective, test, temperature, options->bins, options->threads, measured,
                            &scores));
    Status status = OK;
    if (options->replicates > 0) {
        const BootstrapOptions bootstrap = {
            .replicates = options->replicates, .seed = options->seed, .level = 0.9, .bins = options->bins};
        status = bootstrap_intervals(collective, test, temperature, measured, &scores, &bootstrap,
                                     options->threads, interval);
    }
    calibration_scores_free(&scores);
    return status;
}

Status evaluate_logits(World *world, Collective *collective, const EvaluateOptions *options,
                       const Logits *test, const Logits *validation, const Logits *ood,
                       EvaluationResult *result)
{
    const int threads = options->threads;
    *result = (EvaluationResult){.samples = test->total,
                                 .classes = test->classes,
                                 .has_temperature = validation != NULL,
                                 .has_intervals = options->replicates > 0,
                                 .has_ood = ood != NULL};
    TRY(check_sets(world, threads, test, validation, ood));
    TRY(evaluate_stage(collective, options, test, 1, &result->measured[EVALUATE_BEFORE],
                       &result->interval[EVALUATE_BEFORE]));
    if (validation != NULL) {
        const TemperatureSearch *search = &result->search;
        TRY(temperature_search(collective, validation, options->grid, options->bins, threads,
                               &result->search));
        TRY(evaluate_stage(collective, options, test, search->temperature[search->best_ece],
                           &result->measured[EVALUATE_AFTER_ECE], &result->interval[EVALUATE_AFTER_ECE]));
        if (search->best_ece == search->best_nll) {
            result->measured[EVALUATE_AFTER_NLL] = result->measured[EVALUATE_AFTER_ECE];
            result->interval[EVALUATE_AFTER_NLL] = result->interval[EVALUATE_AFTER_ECE];
        } else {
            TRY(evaluate_stage(collective, options, test, search->temperature[search->best_nll],
                               &result->measured[EVALUATE_AFTER_NLL], &result->interval[EVALUATE_AFTER_NLL]));
        }
    }
    TRY(losses_evaluate(collective, test, threads, &result->loss));
    if (ood != NULL) TRY(ood_auroc(collective, test, ood, 1, threads, &result->ood));
    return OK;
}
