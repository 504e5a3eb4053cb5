#include "losses/calibration/minimise.h"

#include "engine/base/memory.h"

#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <gsl/gsl_multimin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Objectives are mean losses, a few nats at most: their rounding is about 1e-15. */
static const double small_gap = 1e-13, known_gap = 1e-7;

/* ---- Newton ---- */

typedef struct {
    double *gradient, *step, *next; /* [parameters] */
    double *hessian, *factors;      /* [parameters, parameters] */
} Newton;

static Status newton_new(size_t parameters, Newton *newton, double **memory)
{
    TRY(memory_new(memory, parameters * (3 + 2 * parameters), sizeof **memory, "Newton's method"));
    newton->gradient = *memory;
    newton->step = newton->gradient + parameters;
    newton->next = newton->step + parameters;
    newton->hessian = newton->next + parameters;
    newton->factors = newton->hessian + parameters * parameters;
    return OK;
}

/* step = -(H + ridge)^-1 gradient. Softmax does not see some directions, in which H is 0, and the gradient too: a ridge makes
 * the system regular, and leaves them as they are. Returns whether it could be solved. */
static bool newton_step(const Objective *objective, Newton *newton)
{
    const size_t parameters = (size_t)objective->parameters;
    gsl_matrix_view factors = gsl_matrix_view_array(newton->factors, parameters, parameters);
    gsl_vector_view step = gsl_vector_view_array(newton->step, parameters);
    double trace = 0;
    for (size_t i = 0; i < parameters; ++i)
        trace += newton->hessian[i * parameters + i];
    for (double ridge = 1e-13; ridge < 1; ridge *= 100) {
        memcpy(newton->factors, newton->hessian, parameters * parameters * sizeof(double));
        for (size_t i = 0; i < parameters; ++i) {
            newton->factors[i * parameters + i] += ridge * (trace / (double)parameters) + 1e-300;
            newton->step[i] = -newton->gradient[i];
        }
        if (gsl_linalg_cholesky_decomp1(&factors.matrix) != GSL_SUCCESS) continue;
        if (gsl_linalg_cholesky_svx(&factors.matrix, &step.vector) != GSL_SUCCESS) continue;
        bool finite = true;
        for (size_t i = 0; i < parameters; ++i)
            finite = finite && isfinite(newton->step[i]);
        if (finite) return true;
    }
    return false;
}

/* Half as far, until the value falls as a step of that length must let it. */
static bool newton_search(const Objective *objective, Newton *newton, double *at, double descent,
                          double *value)
{
    for (double length = 1; length > 1e-12; length /= 2) {
        for (int64_t i = 0; i < objective->parameters; ++i)
            newton->next[i] = at[i] + length * newton->step[i];
        const double next = objective->value(objective->data, newton->next, NULL, NULL);
        if (!(next <= *value + 1e-4 * length * descent)) continue;
        memcpy(at, newton->next, (size_t)objective->parameters * sizeof *at);
        *value = next;
        return true;
    }
    return false;
}

static void minimise_newton(const Objective *objective, Newton *newton, double *at, Minimum *minimum)
{
    enum { MOST_STEPS = 200 };
    minimum->gap = INFINITY;
    for (int i = 0; i < MOST_STEPS; ++i) {
        minimum->value = objective->value(objective->data, at, newton->gradient, newton->hessian);
        if (!newton_step(objective, newton)) return;
        double descent = 0;
        for (int64_t k = 0; k < objective->parameters; ++k)
            descent += newton->gradient[k] * newton->step[k];
        minimum->gap = -descent / 2;
        if (!(minimum->gap > small_gap)) break;
        if (!newton_search(objective, newton, at, descent, &minimum->value)) break;
    }
    minimum->finished = minimum->gap <= known_gap;
}

/* ---- BFGS ---- */

static double bfgs_value(const gsl_vector *at, void *objective_of)
{
    const Objective *objective = objective_of;
    return objective->value(objective->data, at->data, NULL, NULL);
}

static void bfgs_both(const gsl_vector *at, void *objective_of, double *value, gsl_vector *gradient)
{
    const Objective *objective = objective_of;
    *value = objective->value(objective->data, at->data, gradient->data, NULL);
}

static void bfgs_gradient(const gsl_vector *at, void *objective_of, gsl_vector *gradient)
{
    double value;
    bfgs_both(at, objective_of, &value, gradient);
}

static Status minimise_bfgs(const Objective *objective, double *at, Minimum *minimum)
{
    enum { MOST_STEPS = 2000, WINDOW = 20 };
    static const double first_step = 0.1, exactness = 0.1;
    const size_t parameters = (size_t)objective->parameters;
    gsl_multimin_function_fdf function = {.f = bfgs_value,
                                          .df = bfgs_gradient,
                                          .fdf = bfgs_both,
                                          .n = parameters,
                                          .params = (void *)(uintptr_t)objective};
    gsl_vector_view start = gsl_vector_view_array(at, parameters);
    gsl_multimin_fdfminimizer *solver =
        gsl_multimin_fdfminimizer_alloc(gsl_multimin_fdfminimizer_vector_bfgs2, parameters);
    if (solver == NULL) return fail(STATUS_MEMORY, "no memory to fit %zu parameters", parameters);
    double before[WINDOW];
    minimum->gap = INFINITY;
    if (gsl_multimin_fdfminimizer_set(solver, &function, &start.vector, first_step, exactness) == GSL_SUCCESS)
        for (int i = 0; i < MOST_STEPS; ++i) {
            if (i >= WINDOW) minimum->gap = before[i % WINDOW] - solver->f;
            if (minimum->gap < 1e-10) break;
            before[i % WINDOW] = solver->f;
            if (gsl_multimin_fdfminimizer_iterate(solver) != GSL_SUCCESS) {
                /* No progress along the gradient: as far as rounding lets it. */
                minimum->gap = fmin(minimum->gap, gsl_blas_dnrm2(solver->gradient));
                break;
            }
        }
    minimum->value = solver->f;
    minimum->finished = minimum->gap <= known_gap;
    memcpy(at, solver->x->data, parameters * sizeof *at);
    gsl_multimin_fdfminimizer_free(solver);
    return OK;
}

Status minimise(const Objective *objective, double *at, Minimum *minimum)
{
    *minimum = (Minimum){.gap = INFINITY};
    /* GSL ends the program on an error unless told otherwise. */
    gsl_error_handler_t *handler = gsl_set_error_handler_off();
    Status status = OK;
    if (objective->parameters > MINIMISE_NEWTON) {
        status = minimise_bfgs(objective, at, minimum);
    } else {
        Newton newton;
        double *memory = NULL;
        status = newton_new((size_t)objective->parameters, &newton, &memory);
        if (status == OK) minimise_newton(objective, &newton, at, minimum);
        free(memory);
    }
    (void)gsl_set_error_handler(handler);
    return status;
}
