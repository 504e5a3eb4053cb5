#include "losses/calibration/calibrator_fit.h"

#include "engine/base/memory.h"
#include "losses/calibration/exact_sum.h"
#include "losses/calibration/softmax_row.h"
#include "losses/calibration/threads.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

/* ---- the methods ---- */

static int64_t none(int64_t classes)
{
    (void)classes;
    return 0;
}
static int64_t single(int64_t classes)
{
    (void)classes;
    return 1;
}
static int64_t two(int64_t classes)
{
    (void)classes;
    return 2;
}
static int64_t each(int64_t classes) { return classes; }
static int64_t square(int64_t classes) { return classes * classes; }

static const CalibratorKind kinds[CALIBRATOR_METHODS] = {
    [CALIBRATOR_TEMPERATURE] =
        {.name = "temperature_scaling",
         .other_name = "temperature",
         .rows = ROWS_OF_LOG_PROBABILITIES, /* the same as of logits, which differ by a term */
         .weights = single,
         .biases = none,
         .fit = calibrator_fit_temperature,
         .apply = calibrator_apply_temperature},
    [CALIBRATOR_VECTOR] = {.name = "vector_scaling",
                           .other_name = "vector",
                           .keys = {"on"},
                           .rows = ROWS_OF_LOGITS,
                           .weights = each,
                           .biases = each,
                           .fit = calibrator_fit_vector,
                           .apply = calibrator_apply_vector},
    [CALIBRATOR_MATRIX] = {.name = "matrix_scaling",
                           .other_name = "matrix",
                           .keys = {"lambda", "mu", "on"},
                           .defaults = {.lambda = 1, .mu = 1},
                           .rows = ROWS_OF_LOGITS,
                           .weights = square,
                           .biases = each,
                           .fit = calibrator_fit_matrix,
                           .apply = calibrator_apply_matrix},
    [CALIBRATOR_DIRICHLET] = {.name = "dirichlet",
                              .other_name = "dirichlet",
                              .keys = {"lambda", "mu"},
                              .rows = ROWS_OF_LOG_PROBABILITIES,
                              .weights = square,
                              .biases = each,
                              .fit = calibrator_fit_matrix,
                              .apply = calibrator_apply_matrix},
    [CALIBRATOR_BETA] = {.name = "beta",
                         .other_name = "beta",
                         .rows = ROWS_OF_LOG_PROBABILITIES,
                         .of_two = true,
                         .weights = two,
                         .biases = single,
                         .fit = calibrator_fit_beta,
                         .apply = calibrator_apply_beta},
    [CALIBRATOR_ISOTONIC] = {.name = "isotonic",
                             .other_name = "isotonic",
                             .rows = ROWS_OF_PROBABILITIES,
                             .weights = none,
                             .biases = none,
                             .has_maps = true,
                             .fit = calibrator_fit_isotonic,
                             .apply = calibrator_apply_isotonic},
    [CALIBRATOR_HISTOGRAM] = {.name = "histogram_binning",
                              .other_name = "histogram",
                              .keys = {"bins", "scheme"},
                              .defaults = {.bins = 15},
                              .rows = ROWS_OF_PROBABILITIES,
                              .weights = none,
                              .biases = none,
                              .has_maps = true,
                              .fit = calibrator_fit_histogram,
                              .apply = calibrator_apply_histogram},
};

const CalibratorKind *calibrator_kind(CalibratorMethod method) { return &kinds[method]; }
const char *calibrator_name(CalibratorMethod method) { return kinds[method].name; }

/* ---- settings ---- */

static Status read_positive(const char *text, const char *key, const char *value, double *number)
{
    char *end;
    *number = strtod(value, &end);
    if (end == value || *end != '\0' || !(*number >= 0) || !isfinite(*number))
        return fail(STATUS_USAGE, "%s: %s is a number that is not negative, not '%s'", text, key, value);
    return OK;
}

static Status read_word(const char *text, const char *key, const char *value, const char *const words[2],
                        bool *second)
{
    for (int i = 0; i < 2; ++i) {
        if (strcmp(value, words[i]) != 0) continue;
        *second = i == 1;
        return OK;
    }
    return fail(STATUS_USAGE, "%s: %s is %s or %s, not '%s'", text, key, words[0], words[1], value);
}

static Status read_setting(const char *text, const char *key, const char *value, CalibratorSettings *settings)
{
    static const char *const on[] = {"logits", "log_probabilities"}, *const schemes[] = {"equal_width",
                                                                                         "equal_mass"};
    enum { MOST_BINS = 10000 };
    if (strcmp(key, "lambda") == 0) return read_positive(text, key, value, &settings->lambda);
    if (strcmp(key, "mu") == 0) return read_positive(text, key, value, &settings->mu);
    if (strcmp(key, "on") == 0) return read_word(text, key, value, on, &settings->on_log_probabilities);
    if (strcmp(key, "scheme") == 0) return read_word(text, key, value, schemes, &settings->equal_mass);
    double bins;
    TRY(read_positive(text, key, value, &bins));
    if (!(bins >= 1 && bins <= MOST_BINS) || bins != floor(bins))
        return fail(STATUS_USAGE, "%s: bins is a whole number from 1 to %d, not '%s'", text, MOST_BINS,
                    value);
    settings->bins = (int)bins;
    return OK;
}

static bool takes_key(const CalibratorKind *kind, const char *key)
{
    for (size_t i = 0; i < sizeof kind->keys / sizeof *kind->keys; ++i)
        if (kind->keys[i] != NULL && strcmp(kind->keys[i], key) == 0) return true;
    return false;
}

static Status read_settings(const char *text, const CalibratorKind *kind, char *rest,
                            CalibratorSettings *settings)
{
    char *place;
    for (char *part = strtok_r(rest, ":", &place); part != NULL; part = strtok_r(NULL, ":", &place)) {
        char *value = strchr(part, '=');
        if (value != NULL) *value++ = '\0';
        if (value != NULL && takes_key(kind, part)) {
            TRY(read_setting(text, part, value, settings));
            continue;
        }
        if (kind->keys[0] == NULL) return fail(STATUS_USAGE, "%s: %s takes no settings", text, kind->name);
        return fail(STATUS_USAGE, "%s: %s takes %s%s%s%s%s as KEY=VALUE, not '%s'", text, kind->name,
                    kind->keys[0], kind->keys[1] != NULL ? ", " : "",
                    kind->keys[1] != NULL ? kind->keys[1] : "", kind->keys[2] != NULL ? ", " : "",
                    kind->keys[2] != NULL ? kind->keys[2] : "", part);
    }
    return OK;
}

Status calibrator_settings_parse(const char *text, CalibratorSettings *settings)
{
    char *copy;
    TRY(text_copy(text, &copy));
    char *rest = strchr(copy, ':');
    if (rest != NULL) *rest++ = '\0';
    Status status = fail(STATUS_USAGE,
                         "there is no recalibration '%s': there are temperature_scaling, vector_scaling, "
                         "matrix_scaling, dirichlet, beta, isotonic and histogram_binning",
                         copy);
    for (int method = 0; method < CALIBRATOR_METHODS; ++method) {
        if (strcmp(copy, kinds[method].name) != 0 && strcmp(copy, kinds[method].other_name) != 0) continue;
        status_free(status);
        *settings = kinds[method].defaults;
        settings->method = (CalibratorMethod)method;
        status = rest != NULL ? read_settings(text, &kinds[method], rest, settings) : OK;
        break;
    }
    free(copy);
    return status;
}

/* ---- rows ---- */

/* What ln p is where the type of the file has no p. */
static double lowest(DType type) { return type == FLOAT32 ? log((double)FLT_MIN) : log(DBL_MIN); }

static void row_of_probabilities(const Logits *set, const double *x, int64_t padded, double *p)
{
    double weighted;
    if (set->probabilities) {
        (void)row_probabilities(x, set->classes, padded, p);
        return;
    }
    const double sum = row_exponentials(x, row_maximum(x, padded), 1, padded, p, &weighted);
    for (int64_t k = 0; k < set->classes; ++k)
        p[k] /= sum;
}

static void row_of_logits(const Logits *set, const double *x, int64_t padded, double *z)
{
    const double maximum = row_maximum(x, padded), least = maximum + lowest(set->type);
    for (int64_t k = 0; k < set->classes; ++k)
        z[k] = x[k] == -INFINITY ? least : x[k];
}

static void row_of_log_probabilities(const Logits *set, const double *x, int64_t padded, double *z)
{
    const double maximum = row_maximum(x, padded);
    double sum = 0;
    if (set->probabilities) { /* of x itself, and the logarithm of the number that calibration_measure takes */
        (void)row_probabilities(x, set->classes, padded, z);
        for (int64_t k = 0; k < set->classes; ++k)
            z[k] = z[k] > 0 ? log(z[k]) : lowest(set->type);
        return;
    }
    for (int64_t k = 0; k < set->classes; ++k)
        sum += exp(x[k] - maximum);
    const double log_sum = log(sum);
    for (int64_t k = 0; k < set->classes; ++k)
        z[k] = x[k] == -INFINITY ? lowest(set->type) : x[k] - maximum - log_sum;
}

/* A set's rows one by one, in any order. workspace [2, padded]; returns the row as the calibrator takes it. */
static const double *load_row(const Logits *set, RowKind kind, int64_t row, double *workspace, int64_t padded)
{
    double *x = workspace, *to = workspace + padded;
    row_load_values(set, row, x, padded);
    if (kind == ROWS_OF_PROBABILITIES)
        row_of_probabilities(set, x, padded, to);
    else if (kind == ROWS_OF_LOGITS)
        row_of_logits(set, x, padded, to);
    else
        row_of_log_probabilities(set, x, padded, to);
    return to;
}

static RowKind rows_for(const Calibrator *calibrator)
{
    const RowKind rows = kinds[calibrator->settings.method].rows;
    return rows == ROWS_OF_LOGITS && calibrator->settings.on_log_probabilities ? ROWS_OF_LOG_PROBABILITIES
                                                                               : rows;
}

/* ---- fitting ---- */

Status calibrator_new(const CalibratorSettings *settings, int64_t classes, Calibrator *calibrator)
{
    const CalibratorKind *kind = &kinds[settings->method];
    *calibrator =
        (Calibrator){.settings = *settings, .classes = classes, .first_missing = -1, .objective = NAN};
    if (kind->of_two && classes != 2)
        return fail(STATUS_INPUT, "%s is for two classes, not for %lld", kind->name, (long long)classes);
    const int64_t weights = kind->weights(classes), biases = kind->biases(classes);
    if (weights > 0) TRY(memory_new(&calibrator->weight, (size_t)weights, sizeof(double), "weights"));
    if (biases > 0) TRY(memory_new(&calibrator->bias, (size_t)biases, sizeof(double), "biases"));
    if (!kind->has_maps) return OK;
    return memory_new(&calibrator->map, (size_t)classes, sizeof *calibrator->map, "maps of probabilities");
}

void calibrator_free(Calibrator *calibrator)
{
    for (int64_t k = 0; calibrator->map != NULL && k < calibrator->classes; ++k) {
        free(calibrator->map[k].x);
        free(calibrator->map[k].y);
    }
    free(calibrator->map);
    free(calibrator->weight);
    free(calibrator->bias);
    *calibrator = (Calibrator){.classes = 0};
}

static Status count_missing(const Logits *set, Calibrator *calibrator)
{
    uint8_t *found;
    TRY(memory_new(&found, (size_t)set->classes, 1, "classes"));
    for (int64_t row = 0; row < set->count; ++row)
        found[logits_label(set, row)] = 1;
    for (int64_t k = set->classes - 1; k >= 0; --k) {
        calibrator->missing += found[k] == 0;
        if (found[k] == 0) calibrator->first_missing = k;
    }
    free(found);
    return OK;
}

Status calibrator_fit(const CalibratorSettings *settings, const Logits *set, int threads,
                      Calibrator *calibrator)
{
    const int64_t classes = set->classes, padded = row_padded(classes);
    const int team = team_size(threads, set->count);
    double *x = NULL, *workspace = NULL;
    Status status;
    TRY(calibrator_new(settings, classes, calibrator));
    calibrator->settings.on_log_probabilities = set->probabilities || settings->on_log_probabilities ||
                                                kinds[settings->method].rows == ROWS_OF_LOG_PROBABILITIES;
    calibrator->samples = set->count;
    TRY(count_missing(set, calibrator));
    TRY_ELSE(done, memory_new(&x, (size_t)set->count, (size_t)classes * sizeof *x, "rows to fit to"));
    TRY_ELSE(done, memory_new(&workspace, (size_t)team * 2 * (size_t)padded, sizeof *workspace, "rows"));
    const RowKind kind = rows_for(calibrator);
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t row = 0; row < set->count; ++row)
        memcpy(x + row * classes,
               load_row(set, kind, row, workspace + omp_get_thread_num() * 2 * padded, padded),
               (size_t)classes * sizeof *x);
    const FitRows rows = {.x = x, .set = set, .count = set->count, .classes = classes, .threads = threads};
    TRY_ELSE(done, kinds[settings->method].fit(&rows, calibrator));
done:
    free(x);
    free(workspace);
    return status;
}

/* ---- applying ---- */

Status calibrator_check_classes(const Calibrator *calibrator, const char *path, int64_t classes,
                                const char *what)
{
    if (calibrator->classes == classes) return OK;
    return fail(STATUS_INPUT, "%s is a calibrator of %lld classes, but %s has %lld", path,
                (long long)calibrator->classes, what, (long long)classes);
}

Status calibrator_apply(const Calibrator *calibrator, const Logits *set, int threads, double *probability)
{
    const CalibratorKind *kind = &kinds[calibrator->settings.method];
    const int64_t classes = set->classes, padded = row_padded(classes);
    if (classes != calibrator->classes)
        return fail(STATUS_INPUT, "the calibrator (%s) is for %lld classes, but %s has %lld", kind->name,
                    (long long)calibrator->classes, set->name, (long long)classes);
    if (set->probabilities && rows_for(calibrator) == ROWS_OF_LOGITS)
        return fail(
            STATUS_INPUT,
            "the calibrator (%s) was fitted on logits, but %s has probabilities, whose logarithms are not "
            "the same to it",
            kind->name, set->name);
    const int team = team_size(threads, set->count);
    const RowKind rows = rows_for(calibrator);
    double *workspace;
    TRY(memory_new(&workspace, (size_t)team * 2 * (size_t)padded, sizeof *workspace, "rows"));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t row = 0; row < set->count; ++row) {
        double *p = probability + row * classes, sum = 0;
        kind->apply(calibrator,
                    load_row(set, rows, row, workspace + omp_get_thread_num() * 2 * padded, padded), p);
        for (int64_t k = 0; k < classes; ++k)
            sum += p[k];
        for (int64_t k = 0; k < classes; ++k)
            p[k] = sum > 0 ? p[k] / sum : 1 / (double)classes;
    }
    free(workspace);
    return OK;
}

Status logits_probabilities(const Logits *set, double temperature, int threads, double *probability)
{
    double weight = 1 / temperature;
    const Calibrator scaling = {
        .settings = {.method = CALIBRATOR_TEMPERATURE}, .classes = set->classes, .weight = &weight};
    if (temperature != 1) return calibrator_apply(&scaling, set, threads, probability);
    const int64_t padded = row_padded(set->classes);
    const int team = team_size(threads, set->count);
    double *workspace;
    TRY(memory_new(&workspace, (size_t)team * 2 * (size_t)padded, sizeof *workspace, "rows"));
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t row = 0; row < set->count; ++row)
        memcpy(
            probability + row * set->classes,
            load_row(set, ROWS_OF_PROBABILITIES, row, workspace + omp_get_thread_num() * 2 * padded, padded),
            (size_t)set->classes * sizeof *probability);
    free(workspace);
    return OK;
}

/* ---- several ranks ---- */

/* All ranks' rows, in their order: each fills its own places, and the sum with the zeros of the others is exact. */
static Status gather(Collective *collective, const Logits *share, Logits *whole, void **values,
                     int64_t **labels)
{
    const int64_t numbers = share->total * share->classes;
    const size_t size = dtype_size(share->type);
    TRY(memory_new(values, (size_t)numbers, size, "the rows of all ranks"));
    TRY(memory_new(labels, (size_t)share->total, sizeof **labels, "the labels of all ranks"));
    memcpy((char *)*values + (size_t)(share->first * share->classes) * size, share->values,
           (size_t)(share->count * share->classes) * size);
    for (int64_t row = 0; row < share->count; ++row)
        (*labels)[share->first + row] = logits_label(share, row);
    TRY(collective_sum(collective, (Span){*values, numbers, share->type}, NULL));
    TRY(collective_sum(collective, (Span){*labels, share->total, INT64}, NULL));
    TRY(collective_join(collective, NULL));
    *whole = *share;
    whole->values = *values;
    whole->labels = *labels;
    whole->label_type = INT64;
    whole->first = 0;
    whole->count = share->total;
    whole->number = NULL;
    return OK;
}

/* Rank 0's text on all ranks; NULL there: it has none, as an error came in the way. */
static Status share_text(Collective *collective, char **text)
{
    int64_t bytes = *text != NULL ? (int64_t)strlen(*text) + 1 : 0;
    TRY(collective_broadcast(collective, (Span){&bytes, 1, INT64}, 0, NULL));
    TRY(collective_join(collective, NULL));
    if (bytes == 0) return OK;
    if (collective->rank != 0) TRY(memory_new(text, (size_t)bytes, 1, "a calibrator"));
    TRY(collective_broadcast(collective, (Span){*text, bytes, UINT8}, 0, NULL));
    return collective_join(collective, NULL);
}

Status calibrator_fit_shared(Collective *collective, const CalibratorSettings *settings, const Logits *set,
                             int threads, Calibrator *calibrator)
{
    if (collective->size == 1) return calibrator_fit(settings, set, threads, calibrator);
    Logits whole;
    void *values = NULL;
    int64_t *labels = NULL;
    char *text = NULL;
    Status status, fitted = OK;
    *calibrator = (Calibrator){.classes = 0};
    TRY_ELSE(done, gather(collective, set, &whole, &values, &labels));
    if (collective->rank == 0) {
        fitted = calibrator_fit(settings, &whole, threads, calibrator);
        if (fitted == OK) fitted = calibrator_write(calibrator, &text);
    }
    status = share_text(collective, &text);
    if (fitted != OK) { /* what rank 0 says is the reason */
        status_free(status);
        status = fitted;
    } else if (status == OK && text == NULL) {
        status = fail(STATUS_INTERNAL, "rank 0 could not fit the calibrator");
    } else if (status == OK && collective->rank != 0) {
        status = calibrator_parse("the calibrator of rank 0", text, calibrator);
    }
done:
    free(values);
    free(labels);
    free(text);
    return status;
}
