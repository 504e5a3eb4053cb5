/* Optimizers over the flat store: one pass that clips, decays and steps every parameter at once, whatever groups they
 * are in; and one over the rows of each table that is trained by rows.
 *
 * The order is that of torch and of the published code: the gradient (sum over ranks, times gradient_scale)
 * is clipped to a global norm, then weight decay is added, then momentum or moments, then the step. The
 * learning rate is outside the momentum buffer. */
#ifndef PLUMB_ENGINE_OPTIM_OPTIMIZER_H
#define PLUMB_ENGINE_OPTIM_OPTIMIZER_H

#include "engine/base/status.h"
#include "engine/plan/store.h"

/* Some parameters that are trained in another way: those whose full names ("layer1.0.conv1.weight") fit a pattern of
 * fnmatch(3), in which "*" stands for any characters, dots too. Of several groups that fit, the last one counts. */
typedef struct {
    const char *parameters;      /* the pattern */
    const char *name;            /* the rule; NULL: the optimizer's, with its momentum */
    double learning_rate_factor; /* of the schedule's rate */
    double weight_decay;
    bool frozen; /* no gradient, no step */
    bool
        sparse; /* a table whose gradient is kept for the rows that a batch uses: sgd without momentum, or adagrad;
                    without weight decay. The same steps as dense */
} OptimizerGroup;

typedef struct {
    const char *name;    /* "sgd", "adam", "adagrad" */
    double momentum;     /* sgd */
    bool nesterov;       /* sgd */
    double weight_decay; /* added to the gradient (L2), all optimizers */
    double beta1, beta2; /* adam */
    double epsilon;      /* adam, adagrad */
    double clip_norm;    /* 0: no clipping; else factor min(1, clip / (norm + 1e-6)) */
    const OptimizerGroup
        *groups; /* outlive the optimizer; one with a rule of its own has no momentum, and the betas
                                     and the epsilon above */
    int group_count;
} OptimizerOptions;

/* Which settings the rule of this name takes, and whether it can step a table by rows: a set of the constants. Empty for a
 * name that is not in the list. */
enum {
    OPTIMIZER_TAKES_MOMENTUM = 1, /* and nesterov; with momentum a table cannot be trained by rows */
    OPTIMIZER_TAKES_BETAS = 2,
    OPTIMIZER_TAKES_EPSILON = 4,
    OPTIMIZER_STEPS_ALL_ROWS = 8 /* also those that a batch does not use */
};
unsigned optimizer_takes(const char *name);

/* Says in the graph which parameters are frozen or trained by rows. Before graph_differentiate, of every graph that is.
 * STATUS_INPUT for a pattern that fits no parameter of the graph; it names the nearest parameter; and for one trained
 * by rows that the network has frozen. *which, if not NULL,
 * receives the number of the group that is wrong. */
CHECKED Status optimizer_mark(Graph *, const OptimizerOptions *, int *which);

typedef struct Optimizer Optimizer;
CHECKED Status optimizer_create(Store *, OptimizerOptions, Optimizer **);
void optimizer_free(Optimizer *); /* NULL is allowed */

/* What the next step uses (enqueues a small copy). step: from 1 (Adam's bias correction). gradient_scale: 1
 * for a summed loss, 1 / (sum of weights) for a mean. */
CHECKED Status optimizer_set(Optimizer *, int64_t step, double learning_rate, double gradient_scale);
/* Enqueues the step, and nothing that differs from one step to the next: it can be part of a Recording. A gradient
 * whose norm is not finite changes nothing, nor does any after it: who asks for the norm a few steps later still finds
 * the parameters of before. */
CHECKED Status optimizer_step(Optimizer *);
/* Enqueues a copy of the last step's gradient norm, before clipping; of the first that was not finite. */
CHECKED Status optimizer_gradient_norm(Optimizer *, double *norm);

/* Learning-rate schedules; a pure function of the place in training. */
typedef struct {
    const char *name;      /* "constant", "steps", "linear", "cosine", "inverse_square_root" */
    double learning_rate;  /* the base; for inverse_square_root a factor */
    const int64_t *epochs; /* steps: where it is multiplied by factor */
    int epoch_count;
    double factor;        /* steps */
    bool one_epoch_early; /* steps: as the published code under torch >= 1.1 */
    int64_t warmup_steps; /* linear warm-up, any schedule; Vaswani's warm-up for inverse_square_root */
    int64_t total_steps;  /* linear, cosine */
    double final_rate;    /* linear, cosine: where it ends */
    double decay;         /* linear: the last part of all steps, in which the rate falls; (0..1] */
    int64_t model_width;  /* inverse_square_root: d_model of "Attention Is All You Need", section 5.3 */
} Schedule;
/* Which of these fields the schedule of this name takes, besides learning_rate and warmup_steps: a set of the constants.
 * Empty for a name that is not in the list. */
enum {
    SCHEDULE_TAKES_EPOCHS = 1, /* and factor, one_epoch_early */
    SCHEDULE_TAKES_FINAL_RATE = 2,
    SCHEDULE_TAKES_DECAY = 4,
    SCHEDULE_TAKES_MODEL_WIDTH = 8
};
unsigned schedule_takes(const char *name);
/* epoch from 0; step from 1, counted over the whole run. NaN for a name that is not in the list. */
double schedule_learning_rate(const Schedule *, int64_t epoch, int64_t step);

#endif
