#include "launch/report/theory.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/options.h"
#include "losses/gamma.h"
#include "losses/theory.h"

#include <cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char theory_help[] = "usage: plumb theory [--output FILE.html] [--json FILE]\n"
                           "\n"
                           "The theory of \"Calibrating Deep Neural Networks using Focal Loss\" as numbers, "
                           "in seconds on a CPU: Proposition 1 on the last\n"
                           "layer of a network, the factor g(p, gamma) (Figure 3a), the probability that "
                           "minimises the expected loss (Figure B.1),\n"
                           "Proposition 2 by Lambert's W and by search, and a linear classifier trained by "
                           "cross-entropy and by focal loss (appendix C).\n"
                           "\n"
                           "  --output FILE  a page with the figures\n"
                           "  --json FILE    all numbers, those of the figures too; - for the standard "
                           "output, and then the table goes to the standard "
                           "error\n";

/* ---- the numbers ---- */

static void make_curves(Theory *theory)
{
    for (int i = 0; i < THEORY_POINTS; ++i) {
        const double place = (double)i / (THEORY_POINTS - 1);
        theory->place[i] = place;
        for (int c = 0; c < THEORY_CURVES; ++c) {
            theory->factor[c][i] = theory_factor(place, theory->gamma[c]);
            theory->minimiser[c][i] = theory_minimiser(place, theory->gamma[c]);
        }
    }
}

static void make_thresholds(Theory *theory)
{
    for (int i = 0; i < THEORY_THRESHOLDS; ++i) {
        const double p0 = 0.05 * (i + 1);
        theory->threshold[i].p0 = p0;
        theory->threshold[i].lambert = gamma_from_threshold(p0);
        theory->threshold[i].search = theory_gamma_by_search(p0);
    }
}

static void make_linear(Theory *theory)
{
    linear_data(&theory->data);
    for (int i = 0; i < THEORY_LINEAR; ++i) {
        const LossHead head = {.form = SAMPLE_FOCAL, .gamma = {.gamma = {theory->linear_gamma[i]}}};
        linear_train(&theory->data, &head, &theory->linear[i]);
    }
}

void theory_figures(Theory *theory)
{
    *theory = (Theory){.gamma = {0, 1, 2, 3, 5}, .linear_gamma = {0, 1, 3}};
    make_curves(theory);
    make_linear(theory);
}

Status theory_make(Theory *theory)
{
    theory_figures(theory);
    make_thresholds(theory);
    return theory_network(&theory->network);
}

/* ---- the table ---- */

static void print_network(const TheoryNetwork *network, FILE *file)
{
    double lowest = 1, highest = 0;
    for (int i = 0; i < THEORY_SAMPLES; ++i) {
        lowest = fmin(lowest, network->probability[i]);
        highest = fmax(highest, network->probability[i]);
    }
    (void)fprintf(
        file,
        "Proposition 1: dL/dW of focal loss is g(p, gamma) times that of cross-entropy, at %s of %s\n"
        "after %d steps; %d samples with p from %.3f to %.3f\n"
        "  gamma  smaller norm than cross-entropy  largest |focal - g plain| / |plain|\n",
        network->layer, network->network, THEORY_STEPS, THEORY_SAMPLES, lowest, highest);
    for (int g = 0; g < THEORY_GAMMAS; ++g) {
        int smaller = 0;
        for (int i = 0; i < THEORY_SAMPLES; ++i)
            smaller += network->focal_norm[g][i] < network->plain_norm[i];
        (void)fprintf(file, "  %5g  %14d of %-14d  %.1e\n", network->gamma[g], smaller, THEORY_SAMPLES,
                      network->deviation[g]);
    }
}

static void print_thresholds(const Theory *theory, FILE *file)
{
    (void)fprintf(
        file, "\nProposition 2: the gamma from which on focal loss's gradient is the smaller one above p0\n"
              "     p0  by Lambert's W       by search  difference\n");
    for (int i = 0; i < THEORY_THRESHOLDS; ++i)
        (void)fprintf(file, "  %5.2f  %14.10f  %14.10f  %.1e\n", theory->threshold[i].p0,
                      theory->threshold[i].lambert, theory->threshold[i].search,
                      fabs(theory->threshold[i].lambert - theory->threshold[i].search));
}

static void print_rows(const Theory *theory, const char *title, const char *name,
                       const double curve[][THEORY_POINTS], FILE *file)
{
    enum { STEP = (THEORY_POINTS - 1) / 10 };
    (void)fprintf(file, "\n%s\n  gamma", title);
    for (int i = STEP; i < THEORY_POINTS - 1; i += 2 * STEP)
        (void)fprintf(file, "  %s = %.1f", name, theory->place[i]);
    (void)fputc('\n', file);
    for (int c = 0; c < THEORY_CURVES; ++c) {
        (void)fprintf(file, "  %5g", theory->gamma[c]);
        for (int i = STEP; i < THEORY_POINTS - 1; i += 2 * STEP)
            (void)fprintf(file, "  %7.4f", curve[c][i]);
        (void)fputc('\n', file);
    }
}

static void print_linear(const Theory *theory, FILE *file)
{
    (void)fprintf(
        file,
        "\nAppendix C: a linear classifier of %d separable points, gradient descent, %d steps (recipe of "
        "this program: see\n"
        "losses/linear_experiment.h)\n"
        "  gamma   |W|  mean |logits|  test error %%  confidence of misclassified test points  test NLL\n",
        LINEAR_TRAIN, LINEAR_STEPS);
    for (int i = 0; i < THEORY_LINEAR; ++i) {
        const LinearResult *result = &theory->linear[i];
        const LinearRecord *last = &result->record[result->records - 1];
        (void)fprintf(file, "  %5g  %4.1f  %13.1f  %12.1f  %39.3f  %8.3f\n", theory->linear_gamma[i],
                      last->weight_norm, last->logit_norm, 100 * last->test_error, last->wrong_confidence,
                      last->test_nll);
    }
}

void theory_print(const Theory *theory, FILE *file)
{
    print_network(&theory->network, file);
    print_thresholds(theory, file);
    print_rows(theory, "Figure 3a: g(p, gamma)", "p", theory->factor, file);
    print_rows(theory, "Figure B.1: the p that minimises the expected focal loss", "q", theory->minimiser,
               file);
    print_linear(theory, file);
}

/* ---- JSON ---- */

static void add(cJSON *object, const char *key, cJSON *item, bool *ok)
{
    if (cJSON_AddItemToObject(object, key, item)) return;
    cJSON_Delete(item);
    *ok = false;
}

static void add_numbers(cJSON *object, const char *key, const double numbers[], int count, bool *ok)
{
    add(object, key, cJSON_CreateDoubleArray(numbers, count), ok);
}

static void append(cJSON *list, cJSON *item, bool *ok)
{
    if (cJSON_AddItemToArray(list, item)) return;
    cJSON_Delete(item);
    *ok = false;
}

static cJSON *curves_object(const Theory *theory, const char *place, const double curve[][THEORY_POINTS],
                            bool *ok)
{
    cJSON *object = cJSON_CreateObject(), *list = cJSON_CreateArray();
    add_numbers(object, place, theory->place, THEORY_POINTS, ok);
    add_numbers(object, "gamma", theory->gamma, THEORY_CURVES, ok);
    for (int c = 0; c < THEORY_CURVES; ++c)
        append(list, cJSON_CreateDoubleArray(curve[c], THEORY_POINTS), ok);
    add(object, "curves", list, ok);
    return object;
}

static cJSON *network_object(const TheoryNetwork *network, bool *ok)
{
    cJSON *object = cJSON_CreateObject();
    add(object, "network", cJSON_CreateString(network->network), ok);
    add(object, "layer", cJSON_CreateString(network->layer), ok);
    add_numbers(object, "probability", network->probability, THEORY_SAMPLES, ok);
    add_numbers(object, "norm_cross_entropy", network->plain_norm, THEORY_SAMPLES, ok);
    add_numbers(object, "gamma", network->gamma, THEORY_GAMMAS, ok);
    add_numbers(object, "largest_relative_deviation", network->deviation, THEORY_GAMMAS, ok);
    cJSON *norms = cJSON_AddArrayToObject(object, "norm_focal"),
          *factors = cJSON_AddArrayToObject(object, "g");
    for (int g = 0; g < THEORY_GAMMAS; ++g) {
        append(norms, cJSON_CreateDoubleArray(network->focal_norm[g], THEORY_SAMPLES), ok);
        append(factors, cJSON_CreateDoubleArray(network->factor[g], THEORY_SAMPLES), ok);
    }
    return object;
}

static cJSON *thresholds_list(const Theory *theory, bool *ok)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < THEORY_THRESHOLDS; ++i) {
        cJSON *object = cJSON_CreateObject();
        add(object, "p0", cJSON_CreateNumber(theory->threshold[i].p0), ok);
        add(object, "gamma_lambert", cJSON_CreateNumber(theory->threshold[i].lambert), ok);
        add(object, "gamma_search", cJSON_CreateNumber(theory->threshold[i].search), ok);
        append(list, object, ok);
    }
    return list;
}

static cJSON *record_object(const LinearRecord *record, bool *ok)
{
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"step", record->step},
                   {"weight_norm", record->weight_norm},
                   {"logit_norm", record->logit_norm},
                   {"train_error", record->train_error},
                   {"test_error", record->test_error},
                   {"wrong_confidence", record->wrong_confidence},
                   {"test_nll", record->test_nll}};
    cJSON *object = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; ++i)
        add(object, numbers[i].key,
            isfinite(numbers[i].value) ? cJSON_CreateNumber(numbers[i].value) : cJSON_CreateNull(), ok);
    return object;
}

static cJSON *points_list(const LinearPoint points[], int count, bool *ok)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < count; ++i) {
        const double numbers[] = {points[i].x[0], points[i].x[1], points[i].label};
        append(list, cJSON_CreateDoubleArray(numbers, 3), ok);
    }
    return list;
}

static cJSON *linear_object(const Theory *theory, bool *ok)
{
    cJSON *object = cJSON_CreateObject(), *runs = cJSON_CreateArray();
    add(object, "train_points", points_list(theory->data.train, LINEAR_TRAIN, ok), ok);
    add(object, "test_points", points_list(theory->data.test, LINEAR_TEST, ok), ok);
    for (int i = 0; i < THEORY_LINEAR; ++i) {
        const LinearResult *result = &theory->linear[i];
        cJSON *run = cJSON_CreateObject(), *records = cJSON_CreateArray();
        add(run, "gamma", cJSON_CreateNumber(theory->linear_gamma[i]), ok);
        add_numbers(run, "weight", &result->weight[0][0], 4, ok);
        add_numbers(run, "bias", result->bias, 2, ok);
        for (int k = 0; k < result->records; ++k)
            append(records, record_object(&result->record[k], ok), ok);
        add(run, "records", records, ok);
        append(runs, run, ok);
    }
    add(object, "runs", runs, ok);
    return object;
}

Status theory_json(const Theory *theory, char **text)
{
    bool ok = true;
    *text = NULL;
    cJSON *root = cJSON_CreateObject();
    add(root, "proposition_1", network_object(&theory->network, &ok), &ok);
    add(root, "proposition_2", thresholds_list(theory, &ok), &ok);
    add(root, "figure_3a", curves_object(theory, "p", theory->factor, &ok), &ok);
    add(root, "figure_b1", curves_object(theory, "q", theory->minimiser, &ok), &ok);
    add(root, "appendix_c", linear_object(theory, &ok), &ok);
    char *printed = ok ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (printed == NULL) return fail(STATUS_MEMORY, "no memory for the theory as JSON");
    const Status status = text_format(text, "%s\n", printed);
    cJSON_free(printed);
    return status;
}

/* ---- the command ---- */

typedef struct {
    const char *output, *json;
} Arguments;

static bool is_standard_output(const char *path) { return path != NULL && strcmp(path, "-") == 0; }

static Status write_text(const char *path, const char *text)
{
    if (!is_standard_output(path)) return file_write(path, text, strlen(text));
    if (fputs(text, stdout) >= 0 && fflush(stdout) == 0) return OK;
    return fail(STATUS_IO, "the standard output: %s", strerror(errno));
}

static Status write_made(const Theory *theory, const char *path, Status (*make)(const Theory *, char **))
{
    char *text;
    if (path == NULL) return OK;
    TRY(make(theory, &text));
    Status status = write_text(path, text);
    free(text);
    return status;
}

/* Can they be written? Better known before the work. */
static Status check_outputs(const Arguments *arguments)
{
    if (arguments->output != NULL && !is_standard_output(arguments->output))
        TRY(file_check_writable(arguments->output));
    if (arguments->json != NULL && !is_standard_output(arguments->json))
        TRY(file_check_writable(arguments->json));
    return OK;
}

static Status make_and_tell(const Arguments *arguments)
{
    Theory *theory;
    TRY(check_outputs(arguments));
    TRY(memory_new(&theory, 1, sizeof *theory, "the theory"));
    Status status = theory_make(theory);
    if (status == OK)
        theory_print(theory, is_standard_output(arguments->json) || is_standard_output(arguments->output)
                                 ? stderr
                                 : stdout);
    if (status == OK) status = write_made(theory, arguments->json, theory_json);
    if (status == OK) status = write_made(theory, arguments->output, theory_html);
    free(theory);
    return status;
}

Status command_theory(World *world, int argc, char **argv)
{
    Arguments arguments = {.output = NULL};
    const Option options[] = {{"output", "a file", .text = &arguments.output},
                              {"json", "a file", .text = &arguments.json}};
    const char **words;
    int count;
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "arguments"));
    Status status = options_parse(options, sizeof options / sizeof *options, argc, argv, words, &count);
    if (status == OK && count > 0)
        status = fail(STATUS_USAGE, "plumb theory takes no %s (see plumb theory --help)", words[0]);
    free(words);
    TRY(status);
    return comm_agree(world, world->rank == 0 ? make_and_tell(&arguments) : OK);
}
