#include "launch/train/program.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

/* ---- building ---- */

static void add_loss_inputs(Program *program, Value *target, Value *weight)
{
    const int64_t rows = program->shape.rows;
    *target = graph_input(program->graph, "target", shape_of(INT32, 1, &rows));
    *weight = graph_input(program->graph, "weight", shape_of(FLOAT32, 1, &rows));
}

/* Which input takes which field. */
static Status match_fields(Program *program)
{
    const Graph *graph = program->graph;
    for (int i = 0; i < program->shape.field_count; ++i) {
        const Field *field = &program->shape.field[i];
        char want[SHAPE_TEXT], have[SHAPE_TEXT];
        program->input[i] = graph_find(graph, field->name);
        if (!value_exists(program->input[i]) || graph_role(graph, program->input[i]) != ROLE_INPUT) {
            program->input[i] = NO_VALUE;
            continue;
        }
        if (!shape_equal(graph_shape(graph, program->input[i]), field->shape))
            return fail(STATUS_INTERNAL, "the program takes %s as %s, but batches have %s", field->name,
                        shape_text(graph_shape(graph, program->input[i]), want),
                        shape_text(field->shape, have));
    }
    program->clock = graph_find(graph, "clock");
    return OK;
}

/* The linear layer that networks end in; NULL for one that ends otherwise. */
static const Node *last_layer(const Graph *graph, Value logits)
{
    if (graph_failed(graph) || graph_producer(graph, logits) < 0) return NULL;
    const Node *node = graph_node_at(graph, graph_producer(graph, logits));
    return node->op == &linear_op && graph_role(graph, node->input[1]) == ROLE_PARAMETER ? node : NULL;
}

static Value kept_norms(Graph *graph, Value x)
{
    const Value norms = row_norms(graph, x);
    graph_keep(graph, norms);
    return norms;
}

static void look_at_last_layer(const ProgramOptions *options, Value logits, Program *program)
{
    Graph *graph = program->graph;
    const Node *layer = last_layer(graph, logits);
    if (layer != NULL) {
        const Value features = layer->input[0];
        program->last_weight = layer->input[1];
        if (!options->norms) return;
        program->feature_norms = kept_norms(graph, features);
        program->logit_norms = kept_norms(graph, logits);
    } else if (options->norms) {
        graph_fail(graph, STATUS_INTERNAL,
                   "the network does not end in a linear layer, whose norms are wanted");
    }
}

Status program_build(const ProgramOptions *options, const BatchShape *shape, Program *program)
{
    *program = (Program){.shape = *shape,
                         .clock = NO_VALUE,
                         .logits = NO_VALUE,
                         .sums = NO_VALUE,
                         .last_weight = NO_VALUE,
                         .feature_norms = NO_VALUE,
                         .logit_norms = NO_VALUE};
    TRY(graph_create(options->mode, options->compute, &program->graph));
    Graph *graph = program->graph;
    Value target = NO_VALUE, weight = NO_VALUE;
    if (options->loss != NULL) add_loss_inputs(program, &target, &weight);
    const Value logits = options->build(graph, shape, options->context);
    look_at_last_layer(options, logits, program);
    const bool taken = options->loss != NULL && options->fuse && loss_takes_logits(graph, logits);
    if (!taken) {
        program->logits = logits;
        graph_keep(graph, logits);
    }
    if (options->loss != NULL) {
        program->sums = loss_build(graph, options->loss, logits, target, weight);
        graph_keep(graph, program->sums);
    }
    if (options->fuse) program->fused = graph_fuse(graph);
    if (options->optimizer != NULL) TRY(optimizer_mark(graph, options->optimizer, options->wrong_group));
    if (options->differentiate) graph_differentiate(graph, program->sums);
    TRY(graph_finish(graph));
    return match_fields(program);
}

typedef struct {
    const Experiment *experiment;
    const TaskData *data;
    Split split;
} TaskNetwork;

static Value build_task(Graph *graph, const BatchShape *shape, const void *context)
{
    const TaskNetwork *network = context;
    const TaskData *data = network->data;
    return data->task->build(graph, data, &network->experiment->model, network->split, shape);
}

/* Says of an error about a group where the config has that group. */
static Status with_place_of_group(const Experiment *experiment, int group, Status status)
{
    if (group < 0) return status;
    return config_error_of(config_row(experiment->config, "optimizer.groups", group), "parameters", status);
}

Status program_build_training(const Experiment *experiment, const BatchShape *shape, Program *program)
{
    const TaskNetwork network = {experiment, experiment->data, SPLIT_TRAIN};
    int wrong = -1;
    const ProgramOptions options = {.mode = GRAPH_TRAIN,
                                    .compute = experiment->compute,
                                    .fuse = experiment->fuse,
                                    .loss = &experiment->loss,
                                    .differentiate = true,
                                    .optimizer = &experiment->optimizer,
                                    .wrong_group = &wrong,
                                    .build = build_task,
                                    .context = &network};
    Status status = program_build(&options, shape, program);
    return with_place_of_group(experiment, wrong, status);
}

Status program_build_evaluation(const Experiment *experiment, const TaskData *data, Split split,
                                const BatchShape *shape, Program *program)
{
    const TaskNetwork network = {experiment, data, split};
    const ProgramOptions options = {.mode = GRAPH_EVALUATE,
                                    .compute = experiment->compute,
                                    .fuse = experiment->fuse,
                                    .norms = split == SPLIT_TRAIN && experiment_wants_norms(experiment),
                                    .build = build_task,
                                    .context = &network};
    return program_build(&options, shape, program);
}

/* ---- running ---- */

Status program_plan(Program *program, Store *store, Arena *arena, Collective *collective, PlanOptions options)
{
    TRY(plan_create(program->graph, store, arena, collective, options, &program->plan));
    return value_exists(program->sums) ? plan_reduce(program->plan, program->sums) : OK;
}

Status program_upload(Program *program, Device *device, const BatchPart *part,
                      const int64_t clock[CLOCK_COUNT])
{
    for (int i = 0; i < program->shape.field_count; ++i)
        if (value_exists(program->input[i]))
            TRY(device_upload(device, plan_data(program->plan, program->input[i]), part->field[i],
                              shape_bytes(program->shape.field[i].shape)));
    if (!value_exists(program->clock)) return OK;
    return device_upload(device, plan_data(program->plan, program->clock), clock,
                         CLOCK_COUNT * sizeof *clock);
}

void program_release(Program *program, Device *device)
{
    for (int i = 0; i < PROGRAM_RECORDINGS && device != NULL; ++i)
        device_forget(device, &program->recording[i]);
    plan_free(program->plan);
    graph_free(program->graph);
    *program = (Program){.graph = NULL};
}
