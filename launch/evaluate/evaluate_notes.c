/* What a reader of an evaluation must know beside its numbers. */
#include "launch/evaluate/evaluate.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void add_note(EvaluationNotes *notes, const char *format, ...)
{
    if (notes->count == EVALUATION_MOST_NOTES) return;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(notes->text[notes->count++], sizeof notes->text[0], format, arguments);
    va_end(arguments);
}

double evaluation_temperature(const EvaluationResult *result, int stage)
{
    if (stage == EVALUATE_BEFORE) return 1;
    const TemperatureSearch *search = &result->search;
    return search->temperature[stage == EVALUATE_AFTER_ECE ? search->best_ece : search->best_nll];
}

bool evaluation_scaling_hurts(double before, double after, double temperature)
{
    char shown_before[32], shown_after[32];
    if (!(after > before) || fabs(temperature - 1) < 1e-6) return false;
    (void)snprintf(shown_before, sizeof shown_before, "%.2f", 100 * before);
    (void)snprintf(shown_after, sizeof shown_after, "%.2f", 100 * after);
    return strcmp(shown_before, shown_after) != 0;
}

static void note_worse(const EvaluationResult *result, EvaluationNotes *notes)
{
    const double before = result->measured[EVALUATE_BEFORE].ece;
    const double ece = result->measured[EVALUATE_AFTER_ECE].ece,
                 nll = result->measured[EVALUATE_AFTER_NLL].ece;
    const double temperature_ece = evaluation_temperature(result, EVALUATE_AFTER_ECE);
    const double temperature_nll = evaluation_temperature(result, EVALUATE_AFTER_NLL);
    const bool worse_ece = evaluation_scaling_hurts(before, ece, temperature_ece),
               worse_nll = evaluation_scaling_hurts(before, nll, temperature_nll);
    if (worse_ece && worse_nll && temperature_ece != temperature_nll)
        add_note(notes,
                 "temperature scaling made the test ECE worse: %.2f%% before, %.2f%% at T = %.4g (by ECE), "
                 "%.2f%% at T = %.4g (by NLL)",
                 100 * before, 100 * ece, temperature_ece, 100 * nll, temperature_nll);
    else if (worse_ece || worse_nll)
        add_note(
            notes,
            "temperature scaling by validation %s made the test ECE worse: %.2f%% before, %.2f%% at T = %.4g",
            worse_ece ? "ECE" : "NLL", 100 * before, 100 * (worse_ece ? ece : nll),
            worse_ece ? temperature_ece : temperature_nll);
}

static bool is_end(const TemperatureSearch *search, int index)
{
    return search->count > 1 && (index == 0 || index == search->count - 1);
}

static void note_ends(const EvaluationResult *result, EvaluationNotes *notes)
{
    static const char advice[] =
        "is the end of the grid of temperatures: the best one may lie beyond it (--temperature-grid)";
    const TemperatureSearch *search = &result->search;
    const bool ece = is_end(search, search->best_ece), nll = is_end(search, search->best_nll);
    const double temperature_ece = search->temperature[search->best_ece];
    const double temperature_nll = search->temperature[search->best_nll];
    if (ece && nll && search->best_ece == search->best_nll)
        add_note(notes, "T = %.4g %s", temperature_ece, advice);
    else {
        if (ece) add_note(notes, "T = %.4g by ECE %s", temperature_ece, advice);
        if (nll) add_note(notes, "T = %.4g by NLL %s", temperature_nll, advice);
    }
}

static void note_large(const EvaluationResult *result, EvaluationNotes *notes)
{
    const Calibration *measured = &result->measured[EVALUATE_BEFORE];
    if (measured->infinite_nll_count > 0)
        add_note(notes,
                 "the NLL is infinite: in %lld rows, row %lld first, the label's class is masked (its logit "
                 "is -infinity, or its probability 0)",
                 (long long)measured->infinite_nll_count, (long long)measured->large_nll_row);
    else if (measured->large_nll_count > 0)
        add_note(notes,
                 "the NLL of %lld rows, row %lld first, is above 10^12 and decides the mean: is the label's "
                 "class masked "
                 "by a large negative logit?",
                 (long long)measured->large_nll_count, (long long)measured->large_nll_row);
    else if (result->loss.large_count > 0)
        add_note(notes,
                 "losses of %lld rows, row %lld first, are above 10^12 or infinite: label smoothing wants a "
                 "probability of "
                 "classes that are masked",
                 (long long)result->loss.large_count, (long long)result->loss.large_row);
    if (result->has_temperature && result->search.infinite_nll_count > 0)
        add_note(notes,
                 "in %lld rows of the validation set the label's class is masked: the temperature by NLL is "
                 "that of the "
                 "other rows",
                 (long long)result->search.infinite_nll_count);
}

/* Measures whose definition leaves nothing to measure. */
static void note_meaningless(const EvaluationResult *result, EvaluationNotes *notes)
{
    static const char *const when[EVALUATE_STAGES] = {"", " after scaling by ECE", " after scaling by NLL"};
    for (int stage = 0; stage < (result->has_temperature ? EVALUATE_STAGES : 1); ++stage) {
        const Calibration *measured = &result->measured[stage];
        if (calibration_has_ada_ece(measured)) continue;
        add_note(notes,
                 "AdaECE%s says nothing: %.4g%% of the samples have the smallest confidence, %.4f, and its "
                 "published "
                 "definition leaves them out",
                 when[stage], 100 * (double)measured->ada_ece_left_out / (double)measured->samples,
                 measured->adaptive_bin[0].lower);
    }
    const Calibration *before = &result->measured[EVALUATE_BEFORE];
    if (result->classes > 0 && !result->streamed && before->label_classes < result->classes)
        add_note(
            notes,
            "no sample is of class %lld%s: the published Classwise-ECE is the mean over the classes below it "
            "(%lld of %lld)",
            (long long)before->label_classes,
            before->label_classes < result->classes - 1 ? " or a later one" : "",
            (long long)before->label_classes, (long long)result->classes);
    if (result->classes > 0 && !result->streamed && !evaluation_has_loss(result, EVALUATED_LOSSES - 1))
        add_note(notes,
                 "mmce_weighted says nothing: it compares right with wrong predictions, and all are %s",
                 before->error == 0 ? "right" : "wrong");
}

static void note_probabilities(const EvaluationResult *result, EvaluationNotes *notes)
{
    static const char *const sets[EVALUATE_SETS] = {"test", "validation", "out-of-distribution"};
    for (int set = 0; set < EVALUATE_SETS; ++set)
        if (result->probabilities[set])
            add_note(
                notes,
                "the rows of the %s logits look like probabilities; what is wanted is what softmax takes "
                "(probabilities are given as --probabilities)",
                sets[set]);
}

bool evaluation_has_loss(const EvaluationResult *result, int loss)
{
    const double error = result->measured[EVALUATE_BEFORE].error;
    if (result->classes == 0 || result->streamed) return false;
    return loss != EVALUATED_LOSSES - 1 || (error > 0 && error < 1);
}

void evaluation_recalibration_name(const Recalibration *recalibrated, char name[EVALUATION_NAME])
{
    const CalibratorSettings *settings = &recalibrated->settings;
    int used = snprintf(name, EVALUATION_NAME, "%s", calibrator_name(settings->method));
    const bool odir = settings->method == CALIBRATOR_MATRIX || settings->method == CALIBRATOR_DIRICHLET;
    if (odir && (settings->lambda > 0 || settings->mu > 0))
        used += snprintf(name + used, EVALUATION_NAME - (size_t)used, ", lambda %g, mu %g", settings->lambda,
                         settings->mu);
    if (settings->method == CALIBRATOR_HISTOGRAM)
        used += snprintf(name + used, EVALUATION_NAME - (size_t)used, ", %d bins of equal %s", settings->bins,
                         settings->equal_mass ? "mass" : "width");
    const bool of_logits = settings->method == CALIBRATOR_VECTOR || settings->method == CALIBRATOR_MATRIX;
    if (of_logits && settings->on_log_probabilities)
        used += snprintf(name + used, EVALUATION_NAME - (size_t)used, ", on ln p");
    if (recalibrated->is_given) (void)snprintf(name + used, EVALUATION_NAME - (size_t)used, " (given)");
}

/* The class' name where it has one. */
static const char *class_name(const EvaluationResult *result, int64_t k, char text[64])
{
    if (result->class_name != NULL) return result->class_name[k];
    (void)snprintf(text, 64, "%lld", (long long)k);
    return text;
}

static void note_recalibration(const EvaluationResult *result, const Recalibration *recalibrated,
                               EvaluationNotes *notes)
{
    char name[EVALUATION_NAME], number[64];
    const bool has_minimum = !isnan(recalibrated->objective);
    evaluation_recalibration_name(recalibrated, name);
    if (recalibrated->missing > 0)
        add_note(notes, "%s: class %s%s had no validation sample, and %s", name,
                 class_name(result, recalibrated->first_missing, number),
                 recalibrated->missing > 1 ? " and others" : "",
                 has_minimum ? "without one a fit may have no minimiser: it ends close to the infimum"
                             : "gets no probability");
    if (has_minimum && !recalibrated->finished)
        add_note(notes, "%s: the fit stopped before its end, about %.2g above the least objective", name,
                 recalibrated->gap);
    if (recalibrated->measured.infinite_nll_count > 0)
        add_note(
            notes,
            "%s: the NLL is infinite: in %lld row%s, row %lld first, the label's class has probability 0",
            name, (long long)recalibrated->measured.infinite_nll_count,
            recalibrated->measured.infinite_nll_count > 1 ? "s" : "",
            (long long)recalibrated->measured.large_nll_row);
    const double before = result->measured[EVALUATE_BEFORE].error;
    if (recalibrated->measured.error > before)
        add_note(notes, "%s costs accuracy: %.2f%% before, %.2f%% after", name, 100 * (1 - before),
                 100 * (1 - recalibrated->measured.error));
}

void evaluation_notes(const EvaluationResult *result, EvaluationNotes *notes)
{
    notes->count = 0;
    note_probabilities(result, notes);
    note_large(result, notes);
    note_meaningless(result, notes);
    for (int i = 0; i < result->recalibrations; ++i)
        note_recalibration(result, &result->recalibrated[i], notes);
    if (!result->has_temperature) return;
    note_worse(result, notes);
    note_ends(result, notes);
}
