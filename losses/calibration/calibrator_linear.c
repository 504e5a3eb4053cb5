/* Calibrators that are linear in a row's logits or their like: convex fits by minimise.h. */
#include "losses/calibration/calibrator_fit.h"

#include "engine/base/memory.h"
#include "losses/calibration/minimise.h"
#include "losses/calibration/threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sums over the rows are made block by block, then over the blocks in their order: the same bits for any number of
 * threads. */
enum { BLOCKS = 32, WORK_OF_THREAD = 1 << 19 };

/* p = softmax(u), in place; returns -log p[label], from u. */
static double softmax_loss(double *u, int64_t classes, int64_t label)
{
    int64_t top = 0;
    for (int64_t k = 1; k < classes; ++k)
        if (u[k] > u[top]) top = k;
    const double maximum = u[top], own = u[label] - maximum;
    double sum = 1; /* the term of the top */
    for (int64_t k = 0; k < classes; ++k) {
        u[k] = exp(u[k] - maximum);
        sum += k == top ? 0 : u[k];
    }
    for (int64_t k = 0; k < classes; ++k)
        u[k] /= sum;
    return log(sum) - own;
}

static void softmax_in_place(double *u, int64_t classes) { (void)softmax_loss(u, classes, 0); }

/* A map from a row of x and the parameters to the row of u of which softmax is taken. */
typedef struct Fit {
    const FitRows *rows;
    double lambda, mu;
    int64_t parameters;
    double *p;     /* [count, classes]: of the last value with a gradient */
    double *part;  /* [BLOCKS, parameters + 1]: gradients and values by block */
    double *outer; /* [classes, classes + 1, classes + 1], of a matrix */
    void (*map)(const struct Fit *, const double *at, const double *x, double *u);
    /* gradient += of a row with the residuals r = p - onehot(label) */
    void (*add_gradient)(const struct Fit *, const double *x, const double *r, double *gradient);
    void (*hessian)(const struct Fit *,
                    double *hessian); /* the mean of the losses', from p; its lower triangle */
    double (*penalty)(const struct Fit *, const double *at, double *gradient,
                      double *hessian); /* NULL: none */
} Fit;

static void add_block(const Fit *fit, const double *at, int64_t begin, int64_t end, bool with_gradient,
                      double *part)
{
    const int64_t classes = fit->rows->classes;
    double *sum = part + fit->parameters;
    memset(part, 0, (size_t)(fit->parameters + 1) * sizeof *part);
    for (int64_t row = begin; row < end; ++row) {
        const double *x = fit->rows->x + row * classes;
        double *u = fit->p + row * classes;
        const int64_t label = logits_label(fit->rows->set, row);
        fit->map(fit, at, x, u);
        *sum += softmax_loss(u, classes, label);
        if (!with_gradient) continue;
        u[label] -= 1;
        fit->add_gradient(fit, x, u, part);
        u[label] += 1;
    }
}

static double fit_value(const void *data, const double *at, double *gradient, double *hessian)
{
    const Fit *fit = data;
    const int64_t count = fit->rows->count, parameters = fit->parameters;
    const int64_t share = (count + BLOCKS - 1) / BLOCKS;
    const double scale = 1 / (double)count;
    const int64_t work =
        count * parameters / WORK_OF_THREAD + 1; /* threads cost more than they bring to less */
#pragma omp parallel for schedule(dynamic)                                                                   \
    num_threads(team_size(fit->rows->threads, work < BLOCKS ? work : BLOCKS))
    for (int64_t block = 0; block < BLOCKS; ++block) {
        const int64_t begin = block * share < count ? block * share : count;
        const int64_t end = begin + share < count ? begin + share : count;
        add_block(fit, at, begin, end, gradient != NULL, fit->part + block * (parameters + 1));
    }
    double value = 0;
    if (gradient != NULL) memset(gradient, 0, (size_t)parameters * sizeof *gradient);
    for (int64_t block = 0; block < BLOCKS; ++block) {
        const double *part = fit->part + block * (parameters + 1);
        value += part[parameters] * scale;
        for (int64_t i = 0; gradient != NULL && i < parameters; ++i)
            gradient[i] += part[i] * scale;
    }
    if (hessian != NULL) {
        memset(hessian, 0, (size_t)(parameters * parameters) * sizeof *hessian);
        fit->hessian(fit, hessian);
    }
    if (fit->penalty != NULL) value += fit->penalty(fit, at, gradient, hessian);
    return value;
}

/* at [parameters] goes from its first value to the fitted one. */
static Status fit_run(Fit *fit, double *at, Calibrator *calibrator)
{
    const FitRows *rows = fit->rows;
    Minimum minimum;
    Status status;
    TRY_ELSE(done, memory_new(&fit->p, (size_t)rows->count, (size_t)rows->classes * sizeof(double),
                              "probabilities"));
    TRY_ELSE(done,
             memory_new(&fit->part, BLOCKS, (size_t)(fit->parameters + 1) * sizeof(double), "gradients"));
    const Objective objective = {.parameters = fit->parameters, .data = fit, .value = fit_value};
    TRY_ELSE(done, minimise(&objective, at, &minimum));
    calibrator->objective = minimum.value;
    calibrator->gap = minimum.gap;
    calibrator->finished = minimum.finished;
done:
    free(fit->p);
    free(fit->part);
    return status;
}

/* ---- temperature: u = w x ---- */

static void map_temperature(const Fit *fit, const double *at, const double *x, double *u)
{
    for (int64_t k = 0; k < fit->rows->classes; ++k)
        u[k] = at[0] * x[k];
}

static void add_temperature(const Fit *fit, const double *x, const double *r, double *gradient)
{
    for (int64_t k = 0; k < fit->rows->classes; ++k)
        gradient[0] += r[k] * x[k];
}

static void hessian_temperature(const Fit *fit, double *hessian)
{
    const int64_t classes = fit->rows->classes;
    for (int64_t row = 0; row < fit->rows->count; ++row) {
        const double *p = fit->p + row * classes, *x = fit->rows->x + row * classes;
        double mean = 0, spread = 0;
        for (int64_t k = 0; k < classes; ++k)
            mean += p[k] * x[k];
        for (int64_t k = 0; k < classes; ++k)
            spread += p[k] * (x[k] - mean) * (x[k] - mean);
        hessian[0] += spread / (double)fit->rows->count;
    }
}

Status calibrator_fit_temperature(const FitRows *rows, Calibrator *calibrator)
{
    Fit fit = {.rows = rows,
               .parameters = 1,
               .map = map_temperature,
               .add_gradient = add_temperature,
               .hessian = hessian_temperature};
    calibrator->weight[0] = 1;
    TRY(fit_run(&fit, calibrator->weight, calibrator));
    if (!(calibrator->weight[0] > 0))
        return fail(STATUS_NUMERIC,
                    "%s: the best temperature is negative or infinite: the network's confidence says nothing "
                    "about the labels",
                    rows->set->name);
    return OK;
}

void calibrator_apply_temperature(const Calibrator *calibrator, const double *x, double *p)
{
    for (int64_t k = 0; k < calibrator->classes; ++k)
        p[k] = calibrator->weight[0] * x[k];
    softmax_in_place(p, calibrator->classes);
}

/* ---- vector: u_k = w_k x_k + b_k; at = w, b ---- */

static void map_vector(const Fit *fit, const double *at, const double *x, double *u)
{
    const int64_t classes = fit->rows->classes;
    for (int64_t k = 0; k < classes; ++k)
        u[k] = at[k] * x[k] + at[classes + k];
}

static void add_vector(const Fit *fit, const double *x, const double *r, double *gradient)
{
    const int64_t classes = fit->rows->classes;
    for (int64_t k = 0; k < classes; ++k) {
        gradient[k] += r[k] * x[k];
        gradient[classes + k] += r[k];
    }
}

/* Row i of the blocks (w, w), (b, w) and (b, b), in one pass over the rows. */
static void hessian_vector_row(const Fit *fit, int64_t i, double *restrict ww, double *restrict bw,
                               double *restrict bb)
{
    const int64_t count = fit->rows->count, classes = fit->rows->classes;
    for (int64_t row = 0; row < count; ++row) {
        const double *restrict p = fit->p + row * classes, *restrict x = fit->rows->x + row * classes;
        const double b = p[i] / (double)count, w = b * x[i];
#pragma omp simd
        for (int64_t j = 0; j < classes; ++j) {
            const double product = p[j] * x[j];
            ww[j] -= w * product;
            bw[j] -= b * product;
            bb[j] -= b * p[j];
        }
        ww[i] += w * x[i];
        bw[i] += b * x[i];
        bb[i] += b;
    }
}

static void hessian_vector(const Fit *fit, double *hessian)
{
    const int64_t classes = fit->rows->classes, parameters = fit->parameters;
#pragma omp parallel for schedule(dynamic) num_threads(team_size(fit->rows->threads, classes))
    for (int64_t i = 0; i < classes; ++i) {
        double *bias_row = hessian + (classes + i) * parameters;
        hessian_vector_row(fit, i, hessian + i * parameters, bias_row, bias_row + classes);
    }
}

/* at = weights, then biases. */
static Status fit_with_biases(Fit *fit, int64_t weights, Calibrator *calibrator)
{
    const size_t biases = (size_t)calibrator->classes;
    double *at;
    fit->parameters = weights + calibrator->classes;
    TRY(memory_new(&at, (size_t)fit->parameters, sizeof *at, "parameters"));
    memcpy(at, calibrator->weight, (size_t)weights * sizeof *at);
    const Status status = fit_run(fit, at, calibrator);
    memcpy(calibrator->weight, at, (size_t)weights * sizeof *at);
    memcpy(calibrator->bias, at + weights, biases * sizeof *at);
    free(at);
    return status;
}

/* Softmax does not see the mean of the biases. */
static void centre(double *number, int64_t count, int64_t step)
{
    double mean = 0;
    for (int64_t i = 0; i < count; ++i)
        mean += number[i * step] / (double)count;
    for (int64_t i = 0; i < count; ++i)
        number[i * step] -= mean;
}

Status calibrator_fit_vector(const FitRows *rows, Calibrator *calibrator)
{
    Fit fit = {.rows = rows, .map = map_vector, .add_gradient = add_vector, .hessian = hessian_vector};
    for (int64_t k = 0; k < rows->classes; ++k)
        calibrator->weight[k] = 1;
    TRY(fit_with_biases(&fit, rows->classes, calibrator));
    centre(calibrator->bias, rows->classes, 1);
    return OK;
}

void calibrator_apply_vector(const Calibrator *calibrator, const double *x, double *p)
{
    for (int64_t k = 0; k < calibrator->classes; ++k)
        p[k] = calibrator->weight[k] * x[k] + calibrator->bias[k];
    softmax_in_place(p, calibrator->classes);
}

/* ---- matrix: u = W x + b; at = W, b ---- */

static void multiply(const double *weight, const double *bias, const double *x, int64_t classes, double *u)
{
    for (int64_t i = 0; i < classes; ++i) {
        const double *row = weight + i * classes;
        double sum = bias[i];
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < classes; ++j)
            sum += row[j] * x[j];
        u[i] = sum;
    }
}

static void map_matrix(const Fit *fit, const double *at, const double *x, double *u)
{
    const int64_t classes = fit->rows->classes;
    multiply(at, at + classes * classes, x, classes, u);
}

static void add_matrix(const Fit *fit, const double *x, const double *r, double *gradient)
{
    const int64_t classes = fit->rows->classes;
    for (int64_t i = 0; i < classes; ++i) {
        double *row = gradient + i * classes;
        const double residual = r[i];
#pragma omp simd
        for (int64_t j = 0; j < classes; ++j)
            row[j] += residual * x[j];
        gradient[classes * classes + i] += residual;
    }
}

/* outer [classes + 1, classes + 1] = the mean over the rows of p_i (delta_ij - p_j) times the products of (x, 1); its lower
 * triangle. */
static void weighted_products(const Fit *fit, int64_t i, int64_t j, double *outer)
{
    const int64_t count = fit->rows->count, classes = fit->rows->classes, side = classes + 1;
    memset(outer, 0, (size_t)(side * side) * sizeof *outer);
    for (int64_t row = 0; row < count; ++row) {
        const double *p = fit->p + row * classes, *x = fit->rows->x + row * classes;
        const double weight = p[i] * ((i == j) - p[j]) / (double)count;
        for (int64_t a = 0; a < side; ++a) {
            const double product = weight * (a < classes ? x[a] : 1);
            double *to = outer + a * side;
#pragma omp simd
            for (int64_t b = 0; b < classes; ++b)
                to[b] += product * x[b];
        }
        outer[side * side - 1] += weight;
    }
}

static void hessian_matrix(const Fit *fit, double *hessian)
{
    const int64_t classes = fit->rows->classes, parameters = fit->parameters, biases = classes * classes;
    const int64_t side = classes + 1;
#pragma omp parallel for schedule(dynamic) num_threads(team_size(fit->rows->threads, classes))
    for (int64_t i = 0; i < classes; ++i)
        for (int64_t j = 0; j <= i; ++j) {
            double *outer = fit->outer + i * side * side;
            weighted_products(fit, i, j, outer);
            for (int64_t a = 0; a < classes; ++a) {
                for (int64_t b = 0; b < classes; ++b)
                    hessian[(i * classes + a) * parameters + j * classes + b] = outer[a * side + b];
                hessian[(biases + i) * parameters + j * classes + a] = outer[classes * side + a];
                hessian[(biases + j) * parameters + i * classes + a] = outer[classes * side + a];
            }
            hessian[(biases + i) * parameters + biases + j] = outer[side * side - 1];
        }
}

static double odir(const Fit *fit, const double *at, double *gradient, double *hessian)
{
    const int64_t classes = fit->rows->classes, biases = classes * classes, parameters = fit->parameters;
    const double off = fit->lambda / (double)(classes * (classes - 1)), on = fit->mu / (double)classes;
    double value = 0;
    for (int64_t i = 0; i < parameters; ++i) {
        const bool is_bias = i >= biases, is_diagonal = !is_bias && i % (classes + 1) == 0;
        const double strength = is_bias ? on : is_diagonal ? 0 : off;
        value += strength * at[i] * at[i];
        if (gradient != NULL) gradient[i] += 2 * strength * at[i];
        if (hessian != NULL) hessian[i * parameters + i] += 2 * strength;
    }
    return value;
}

Status calibrator_fit_matrix(const FitRows *rows, Calibrator *calibrator)
{
    const int64_t classes = rows->classes, square = classes * classes;
    const bool penalised = calibrator->settings.lambda > 0 || calibrator->settings.mu > 0;
    Fit fit = {.rows = rows,
               .lambda = calibrator->settings.lambda,
               .mu = calibrator->settings.mu,
               .map = map_matrix,
               .add_gradient = add_matrix,
               .hessian = hessian_matrix,
               .penalty = penalised ? odir : NULL};
    for (int64_t k = 0; k < classes; ++k)
        calibrator->weight[k * classes + k] = 1;
    if (square + classes <= MINIMISE_NEWTON) /* which asks for second derivatives */
        TRY(memory_new(&fit.outer, (size_t)classes, (size_t)((classes + 1) * (classes + 1)) * sizeof(double),
                       "products of logits"));
    const Status status = fit_with_biases(&fit, square, calibrator);
    free(fit.outer);
    TRY(status);
    if (penalised) return OK;
    for (int64_t k = 0; k < classes; ++k) /* softmax does not see the mean of a column */
        centre(calibrator->weight + k, classes, classes);
    centre(calibrator->bias, classes, 1);
    return OK;
}

void calibrator_apply_matrix(const Calibrator *calibrator, const double *x, double *p)
{
    multiply(calibrator->weight, calibrator->bias, x, calibrator->classes, p);
    softmax_in_place(p, calibrator->classes);
}

/* ---- beta: u_1 = a ln p_1 - b ln p_0 + c, u_0 = 0 ---- */

/* Which of a, b and c are free. */
typedef struct {
    Fit fit;
    int free[3];
} BetaFit;

static void beta_terms(const double *x, double term[3])
{
    term[0] = x[1];
    term[1] = -x[0];
    term[2] = 1;
}

static void map_beta(const Fit *fit, const double *at, const double *x, double *u)
{
    const BetaFit *beta = (const BetaFit *)(const void *)fit;
    double term[3];
    beta_terms(x, term);
    u[0] = u[1] = 0;
    for (int64_t i = 0; i < fit->parameters; ++i)
        u[1] += at[i] * term[beta->free[i]];
}

static void add_beta(const Fit *fit, const double *x, const double *r, double *gradient)
{
    const BetaFit *beta = (const BetaFit *)(const void *)fit;
    double term[3];
    beta_terms(x, term);
    for (int64_t i = 0; i < fit->parameters; ++i)
        gradient[i] += r[1] * term[beta->free[i]];
}

static void hessian_beta(const Fit *fit, double *hessian)
{
    const BetaFit *beta = (const BetaFit *)(const void *)fit;
    for (int64_t row = 0; row < fit->rows->count; ++row) {
        const double p = fit->p[2 * row + 1];
        double term[3];
        beta_terms(fit->rows->x + 2 * row, term);
        for (int64_t i = 0; i < fit->parameters; ++i)
            for (int64_t j = 0; j <= i; ++j)
                hessian[i * fit->parameters + j] +=
                    p * (1 - p) * term[beta->free[i]] * term[beta->free[j]] / (double)fit->rows->count;
    }
}

/* The best under a >= 0 and b >= 0 is the best without bounds of one of these choices of free parameters: of those that
 * keep the bounds, that with the least objective. */
Status calibrator_fit_beta(const FitRows *rows, Calibrator *calibrator)
{
    static const int choices[4][3] = {{0, 1, 2}, {1, 2, -1}, {0, 2, -1}, {2, -1, -1}};
    static const int counts[4] = {3, 2, 2, 1};
    double best[3] = {0};
    Calibrator of_best = {.objective = INFINITY};
    for (int i = 0; i < 4; ++i) {
        BetaFit beta = {.fit = {.rows = rows,
                                .parameters = counts[i],
                                .map = map_beta,
                                .add_gradient = add_beta,
                                .hessian = hessian_beta}};
        memcpy(beta.free, choices[i], sizeof beta.free);
        double at[3] = {0}, all[3] = {0};
        TRY(fit_run(&beta.fit, at, calibrator));
        for (int k = 0; k < counts[i]; ++k)
            all[choices[i][k]] = at[k];
        if (all[0] < 0 || all[1] < 0 || !(calibrator->objective < of_best.objective)) continue;
        of_best = *calibrator;
        memcpy(best, all, sizeof best);
        if (i == 0) break; /* without bounds there is no better one */
    }
    calibrator->objective = of_best.objective;
    calibrator->gap = of_best.gap;
    calibrator->finished = of_best.finished;
    calibrator->weight[0] = best[0];
    calibrator->weight[1] = best[1];
    calibrator->bias[0] = best[2];
    return OK;
}

void calibrator_apply_beta(const Calibrator *calibrator, const double *x, double *p)
{
    p[1] = calibrator->weight[0] * x[1] - calibrator->weight[1] * x[0] + calibrator->bias[0];
    p[0] = 0;
    softmax_in_place(p, 2);
}
