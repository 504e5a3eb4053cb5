#include "engine/base/memory.h"
#include "engine/optim/optimizer_kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    const char *state[OPTIMIZER_STATES]; /* names in checkpoints */
    int (*states)(const OptimizerOptions *);
    bool divides; /* by a root plus epsilon, which keeps the gaps between tensors at zero instead of 0 / 0 */
    OptimizerKernel *kernel[DEVICE_KINDS];
} Rule;

static int sgd_states(const OptimizerOptions *options) { return options->momentum != 0 ? 1 : 0; }

static int adam_states(const OptimizerOptions *options)
{
    (void)options;
    return 2;
}

static int adagrad_states(const OptimizerOptions *options)
{
    (void)options;
    return 1;
}

static const Rule rules[] = {
    {"sgd", {"momentum"}, sgd_states, false, {[DEVICE_CPU] = sgd_cpu, [DEVICE_CUDA] = sgd_cuda}},
    {"adam",
     {"first_moment", "second_moment"},
     adam_states,
     true,
     {[DEVICE_CPU] = adam_cpu, [DEVICE_CUDA] = adam_cuda}},
    {"adagrad",
     {"sum_of_squares"},
     adagrad_states,
     true,
     {[DEVICE_CPU] = adagrad_cpu, [DEVICE_CUDA] = adagrad_cuda}},
};

struct Optimizer {
    Store *store;
    OptimizerOptions options;
    OptimizerKernel *kernel;
    OptimizerCall call;
    OptimizerScalars *scalars; /* device memory, as call.scalars */
    OptimizerScalars next;     /* host; stays until it is uploaded */
};

static Status check_options(const Rule *rule, const OptimizerOptions *options)
{
    if (!(options->momentum >= 0 && options->momentum < 1))
        return fail(STATUS_INPUT, "optimizer.momentum is %g, not in [0, 1)", options->momentum);
    if (options->nesterov && options->momentum == 0)
        return fail(STATUS_INPUT, "optimizer.nesterov needs a momentum above 0");
    if (!(options->beta1 >= 0 && options->beta1 < 1 && options->beta2 >= 0 && options->beta2 < 1))
        return fail(STATUS_INPUT, "optimizer.beta1 and beta2 are %g and %g, not both in [0, 1)",
                    options->beta1, options->beta2);
    if (!(options->weight_decay >= 0 && options->epsilon >= 0 && options->clip_norm >= 0))
        return fail(STATUS_INPUT,
                    "optimizer: weight_decay %g, epsilon %g and clip_norm %g must not be negative",
                    options->weight_decay, options->epsilon, options->clip_norm);
    if (rule->divides && options->epsilon == 0)
        return fail(STATUS_INPUT, "optimizer %s needs an epsilon above 0", rule->name);
    return OK;
}

static Status prepare(Optimizer *optimizer, const Rule *rule)
{
    Store *store = optimizer->store;
    Device *device = store_device(store);
    optimizer->kernel = rule->kernel[device_kind(device)];
    if (optimizer->kernel == NULL)
        return fail(STATUS_UNSUPPORTED, "optimizer %s does not run on %s", rule->name, device_name(device));
    if (store_gradients(store) == NULL)
        return fail(STATUS_INTERNAL, "optimizer %s: the store has no gradients", rule->name);
    OptimizerCall *call = &optimizer->call;
    call->options = &optimizer->options;
    call->count = store_trained_count(store);
    call->parameters = store_parameters(store);
    call->gradients = store_gradients(store);
    for (int i = 0; i < rule->states(&optimizer->options); ++i)
        TRY(store_flat(store, rule->state[i], false, &call->state[i]));
    const size_t blocks = (size_t)((call->count + OPTIMIZER_BLOCK - 1) / OPTIMIZER_BLOCK);
    TRY(device_allocate(device, (blocks + 1) * sizeof(double), "the gradient's norm", (void **)&call->norm));
    call->partial = call->norm + 1;
    TRY(device_allocate(device, sizeof *optimizer->scalars, "the optimizer's step",
                        (void **)&optimizer->scalars));
    call->scalars = optimizer->scalars;
    return OK;
}

Status optimizer_create(Store *store, OptimizerOptions options, Optimizer **out)
{
    *out = NULL;
    const Rule *rule = NULL;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; ++i)
        if (options.name != NULL && strcmp(options.name, rules[i].name) == 0) rule = &rules[i];
    if (rule == NULL)
        return fail(STATUS_INPUT, "there is no optimizer \"%s\"; there are sgd, adam and adagrad",
                    options.name != NULL ? options.name : "");
    TRY(check_options(rule, &options));
    Optimizer *optimizer;
    TRY(memory_new(&optimizer, 1, sizeof *optimizer, "the optimizer"));
    optimizer->store = store;
    optimizer->options = options;
    optimizer->options.name = rule->name;
    const Status status = prepare(optimizer, rule);
    if (status != OK) {
        optimizer_free(optimizer);
        return status_trail(status, __func__, __FILE__, __LINE__);
    }
    *out = optimizer;
    return OK;
}

void optimizer_free(Optimizer *optimizer)
{
    if (optimizer == NULL) return;
    Device *device = store_device(optimizer->store);
    device_free(device, optimizer->scalars);
    device_free(device, optimizer->call.norm);
    free(optimizer);
}

Status optimizer_set(Optimizer *optimizer, int64_t step, double learning_rate, double gradient_scale)
{
    if (step < 1) return fail(STATUS_INTERNAL, "optimizer step %lld; the first is 1", (long long)step);
    Device *device = store_device(optimizer->store);
    const OptimizerOptions *options = &optimizer->options;
    /* Bias corrections as torch.optim.Adam has them, in double on the host: at beta2 = 0.999 and step 1
     * float32 would leave four digits of 1 - beta2^step. */
    optimizer->next =
        (OptimizerScalars){.gradient_scale = gradient_scale,
                           .learning_rate = (float)learning_rate,
                           .step_size = (float)(learning_rate / (1 - pow(options->beta1, (double)step))),
                           .second_root = (float)sqrt(1 - pow(options->beta2, (double)step))};
    return device_upload(device, optimizer->scalars, &optimizer->next, sizeof optimizer->next);
}

Status optimizer_step(Optimizer *optimizer)
{
    return optimizer->kernel(store_device(optimizer->store), &optimizer->call);
}

Status optimizer_gradient_norm(Optimizer *optimizer, double *norm)
{
    return device_download(store_device(optimizer->store), norm, optimizer->call.norm, sizeof *norm);
}
