#include "engine/base/memory.h"
#include "engine/optim/optimizer_kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[OPTIMIZER_STATES] = {[STATE_MOMENTUM] = "momentum",
                                                          [STATE_FIRST_MOMENT] = "first_moment",
                                                          [STATE_SECOND_MOMENT] = "second_moment",
                                                          [STATE_SUM_OF_SQUARES] = "sum_of_squares"};

/* bit i: a kind has state i. */
static const unsigned int states_of_kind[STEP_KINDS] = {
    [STEP_MOMENTUM] = 1U << STATE_MOMENTUM,
    [STEP_NESTEROV] = 1U << STATE_MOMENTUM,
    [STEP_ADAM] = 1U << STATE_FIRST_MOMENT | 1U << STATE_SECOND_MOMENT,
    [STEP_ADAGRAD] = 1U << STATE_SUM_OF_SQUARES,
};

typedef struct {
    const char *name;
    StepKind (*kind)(const OptimizerOptions *);
    /* What takes an epsilon divides by a root plus epsilon, which keeps the gaps between tensors at zero instead of 0 / 0. */
    unsigned takes;
} Rule;

static StepKind sgd_kind(const OptimizerOptions *options)
{
    if (options->momentum == 0) return STEP_PLAIN;
    return options->nesterov ? STEP_NESTEROV : STEP_MOMENTUM;
}

static StepKind adam_kind(const OptimizerOptions *options)
{
    (void)options;
    return STEP_ADAM;
}

static StepKind adagrad_kind(const OptimizerOptions *options)
{
    (void)options;
    return STEP_ADAGRAD;
}

static const Rule rules[] = {
    {"sgd", sgd_kind, OPTIMIZER_TAKES_MOMENTUM},
    {"adam", adam_kind, OPTIMIZER_TAKES_BETAS | OPTIMIZER_TAKES_EPSILON | OPTIMIZER_STEPS_ALL_ROWS},
    {"adagrad", adagrad_kind, OPTIMIZER_TAKES_EPSILON},
};

static OptimizerKernel *const kernels[DEVICE_KINDS] = {
    [DEVICE_CPU] = optimizer_cpu, [DEVICE_CUDA] = optimizer_cuda};

struct Optimizer {
    Store *store;
    OptimizerOptions options;
    int rule_count; /* 1 + groups: that of parameters in no group, then the groups' */
    StepRule *rule;
    double *factor;         /* of the learning rate, one a rule */
    OptimizerScalars *next; /* host; stays until it is uploaded */
    Segment *segment;       /* host */
    TableCall *table;
    OptimizerCall call;
    OptimizerScalars *scalars; /* device memory, as call.scalars */
    StepRule *device_rules;
    Segment *device_segments;
};

static const Rule *named_rule(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; ++i)
        if (name != NULL && strcmp(name, rules[i].name) == 0) return &rules[i];
    return NULL;
}

unsigned optimizer_takes(const char *name)
{
    const Rule *rule = named_rule(name);
    return rule != NULL ? rule->takes : 0;
}

static Status find_rule(const char *name, const Rule **rule)
{
    *rule = named_rule(name);
    if (*rule != NULL) return OK;
    return fail(STATUS_INPUT, "there is no optimizer \"%s\"; there are sgd, adam and adagrad",
                name != NULL ? name : "");
}

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
    if ((rule->takes & OPTIMIZER_TAKES_EPSILON) != 0 && options->epsilon == 0)
        return fail(STATUS_INPUT, "optimizer %s needs an epsilon above 0", rule->name);
    return OK;
}

/* The optimizer as a group has it. */
static OptimizerOptions options_of(const OptimizerOptions *options, const OptimizerGroup *group)
{
    OptimizerOptions own = *options;
    own.weight_decay = group->weight_decay;
    if (group->name == NULL) return own;
    own.name = group->name;
    own.momentum = 0;
    own.nesterov = false;
    return own;
}

static Status make_rule(const OptimizerOptions *options, StepRule *to)
{
    const Rule *rule;
    TRY(find_rule(options->name, &rule));
    TRY(check_options(rule, options));
    *to = (StepRule){.kind = rule->kind(options),
                     .decay = (float)options->weight_decay,
                     .momentum = (float)options->momentum,
                     .beta1 = (float)options->beta1,
                     .beta2 = (float)options->beta2,
                     .rest1 = (float)(1 - options->beta1),
                     .rest2 = (float)(1 - options->beta2),
                     .epsilon = (float)options->epsilon};
    return OK;
}

static Status make_rules(Optimizer *optimizer)
{
    const OptimizerOptions *options = &optimizer->options;
    const size_t count = (size_t)options->group_count + 1;
    optimizer->rule_count = (int)count;
    TRY(memory_new(&optimizer->rule, count, sizeof *optimizer->rule, "the optimizer"));
    TRY(memory_new(&optimizer->factor, count, sizeof *optimizer->factor, "the optimizer"));
    TRY(memory_new(&optimizer->next, count, sizeof *optimizer->next, "the optimizer"));
    TRY(make_rule(options, &optimizer->rule[0]));
    optimizer->factor[0] = 1;
    for (int g = 0; g < options->group_count; ++g) {
        const OptimizerGroup *group = &options->groups[g];
        const OptimizerOptions own = options_of(options, group);
        const Status status = make_rule(&own, &optimizer->rule[g + 1]);
        if (status != OK) return status_context(status, "the group of %s", group->parameters);
        if (!(group->learning_rate_factor >= 0))
            return fail(STATUS_INPUT,
                        "the group of %s: the factor %g of the learning rate must not be negative",
                        group->parameters, group->learning_rate_factor);
        optimizer->factor[g + 1] = group->learning_rate_factor;
    }
    return OK;
}

static int rule_of(const Optimizer *optimizer, const StoreEntry *entry)
{
    return optimizer_group_of(&optimizer->options, entry->name) + 1;
}

/* Neighbours of one rule step as one. */
static Status make_segments(Optimizer *optimizer)
{
    const Store *store = optimizer->store;
    TRY(memory_new(&optimizer->segment, (size_t)store_count(store) + 1, sizeof *optimizer->segment,
                   "the optimizer"));
    int count = 0;
    for (int i = 0; i < store_count(store); ++i) {
        const StoreEntry *entry = store_at(store, i);
        if (entry->gradient == NULL) continue;
        const int rule = rule_of(optimizer, entry);
        if (count == 0 || optimizer->segment[count - 1].rule != rule) optimizer->segment[count++].rule = rule;
        const bool last = i + 1 == store_count(store) || store_at(store, i + 1)->gradient == NULL;
        optimizer->segment[count - 1].end =
            last ? store_trained_count(store) : store_at(store, i + 1)->offset;
    }
    optimizer->call.segment_count = count;
    optimizer->call.segments_rule = count > 0 ? optimizer->segment[0].rule : 0;
    return OK;
}

static Status make_table(Optimizer *optimizer, const StoreEntry *entry, TableCall *table)
{
    const int rule = rule_of(optimizer, entry);
    const StepKind kind = optimizer->rule[rule].kind;
    *table = (TableCall){.list = entry->all_rows.list,
                         .gradient = entry->all_rows.gradient,
                         .parameters = entry->data,
                         .most = entry->all_rows.most,
                         .columns = shape_columns(entry->shape),
                         .rule = rule};
    if (kind != STEP_PLAIN && kind != STEP_ADAGRAD)
        return fail(STATUS_INPUT,
                    "%s is trained by rows, which neither momentum nor adam can do (rows that a batch does "
                    "not use would "
                    "step, too): give its group the name sgd or adagrad",
                    entry->name);
    if (optimizer->rule[rule].decay != 0)
        return fail(STATUS_INPUT, "%s is trained by rows: its group needs weight_decay 0", entry->name);
    return OK;
}

/* Which states there are, and whether tables have them too: sum_of_squares alone. */
static Status make_states(Optimizer *optimizer)
{
    OptimizerCall *call = &optimizer->call;
    unsigned int flat = 0, tables = 0;
    for (int i = 0; i < call->segment_count; ++i)
        flat |= states_of_kind[optimizer->rule[optimizer->segment[i].rule].kind];
    for (int t = 0; t < call->tables; ++t)
        tables |= states_of_kind[optimizer->rule[call->table[t].rule].kind];
    for (int i = 0; i < OPTIMIZER_STATES; ++i)
        if (((flat | tables) >> i & 1U) != 0)
            TRY(store_flat(optimizer->store, state_names[i], (tables >> i & 1U) != 0, &call->state[i]));
    for (int t = 0; t < call->tables; ++t) {
        TableCall *table = &optimizer->table[t];
        if (optimizer->rule[table->rule].kind == STEP_ADAGRAD)
            table->sum_of_squares =
                call->state[STATE_SUM_OF_SQUARES] + (table->parameters - store_parameters(optimizer->store));
    }
    return OK;
}

static Status make_tables(Optimizer *optimizer)
{
    const Store *store = optimizer->store;
    OptimizerCall *call = &optimizer->call;
    TRY(memory_new(&optimizer->table, (size_t)store_count(store) + 1, sizeof *optimizer->table,
                   "the optimizer"));
    call->table = optimizer->table;
    call->partials = optimizer_blocks(call->count);
    for (int i = 0; i < store_count(store); ++i) {
        const StoreEntry *entry = store_at(store, i);
        if (!entry->by_rows) continue;
        TRY(make_table(optimizer, entry, &optimizer->table[call->tables]));
        call->partials += optimizer_blocks(entry->all_rows.most * shape_columns(entry->shape));
        ++call->tables;
    }
    return OK;
}

static Status upload(Device *device, const void *from, size_t bytes, void **to)
{
    TRY(device_allocate(device, bytes, "the optimizer's groups", to));
    return device_upload(device, *to, from, bytes);
}

static Status prepare(Optimizer *optimizer)
{
    Store *store = optimizer->store;
    Device *device = store_device(store);
    OptimizerCall *call = &optimizer->call;
    if (kernels[device_kind(device)] == NULL)
        return fail(STATUS_UNSUPPORTED, "optimizers do not run on %s", device_name(device));
    if (store_gradients(store) == NULL)
        return fail(STATUS_INTERNAL, "optimizer %s: the store has no gradients", optimizer->options.name);
    TRY(make_rules(optimizer));
    call->clip_norm = optimizer->options.clip_norm;
    call->rules = optimizer->rule;
    call->count = store_trained_count(store);
    call->parameters = store_parameters(store);
    call->gradients = store_gradients(store);
    TRY(make_segments(optimizer));
    TRY(make_tables(optimizer));
    TRY(make_states(optimizer));
    TRY(device_allocate(device, (size_t)(call->partials + 1) * sizeof(double), "the gradient's norm",
                        (void **)&call->norm));
    call->partial = call->norm + 1;
    double *partial = call->partial + optimizer_blocks(call->count);
    for (int t = 0; t < call->tables; ++t) {
        optimizer->table[t].partial = partial;
        partial += optimizer_blocks(call->table[t].most * call->table[t].columns);
    }
    const size_t rule_count = (size_t)optimizer->rule_count, segments = (size_t)call->segment_count;
    TRY(device_allocate(device, rule_count * sizeof *optimizer->scalars, "the optimizer's step",
                        (void **)&optimizer->scalars));
    TRY(upload(device, optimizer->rule, rule_count * sizeof *optimizer->rule,
               (void **)&optimizer->device_rules));
    TRY(upload(device, optimizer->segment, (segments + 1) * sizeof *optimizer->segment,
               (void **)&optimizer->device_segments));
    call->scalars = optimizer->scalars;
    call->device_rules = optimizer->device_rules;
    call->segments = optimizer->device_segments;
    return device_synchronize(device);
}

Status optimizer_create(Store *store, OptimizerOptions options, Optimizer **out)
{
    *out = NULL;
    const Rule *rule;
    TRY(find_rule(options.name, &rule));
    TRY(check_options(rule, &options));
    Optimizer *optimizer;
    TRY(memory_new(&optimizer, 1, sizeof *optimizer, "the optimizer"));
    optimizer->store = store;
    optimizer->options = options;
    optimizer->options.name = rule->name;
    const Status status = prepare(optimizer);
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
    device_free(device, optimizer->device_rules);
    device_free(device, optimizer->device_segments);
    device_free(device, optimizer->call.norm);
    free(optimizer->rule);
    free(optimizer->factor);
    free(optimizer->next);
    free(optimizer->segment);
    free(optimizer->table);
    free(optimizer);
}

Status optimizer_set(Optimizer *optimizer, int64_t step, double learning_rate, double gradient_scale)
{
    if (step < 1) return fail(STATUS_INTERNAL, "optimizer step %lld; the first is 1", (long long)step);
    Device *device = store_device(optimizer->store);
    const OptimizerOptions *options = &optimizer->options;
    /* Bias corrections as torch.optim.Adam has them, in double on the host: at beta2 = 0.999 and step 1
     * float32 would leave four digits of 1 - beta2^step. */
    for (int i = 0; i < optimizer->rule_count; ++i) {
        const double rate = learning_rate * optimizer->factor[i];
        optimizer->next[i] =
            (OptimizerScalars){.gradient_scale = gradient_scale,
                               .learning_rate = (float)rate,
                               .step_size = (float)(rate / (1 - pow(options->beta1, (double)step))),
                               .second_root = (float)sqrt(1 - pow(options->beta2, (double)step))};
    }
    return device_upload(device, optimizer->scalars, optimizer->next,
                         (size_t)optimizer->rule_count * sizeof *optimizer->next);
}

Status optimizer_step(Optimizer *optimizer)
{
    Device *device = store_device(optimizer->store);
    return kernels[device_kind(device)](device, &optimizer->call);
}

Status optimizer_gradient_norm(Optimizer *optimizer, double *norm)
{
    return device_download(store_device(optimizer->store), norm, optimizer->call.norm, sizeof *norm);
}
