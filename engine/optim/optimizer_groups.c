/* Which parameters are in which group. */
#include "engine/optim/optimizer_kernel.h"

#include <fnmatch.h>

int optimizer_group_of(const OptimizerOptions *options, const char *parameter)
{
    for (int g = options->group_count - 1; g >= 0; --g)
        if (fnmatch(options->groups[g].parameters, parameter, 0) == 0) return g;
    return -1;
}

/* A rate or a rule for parameters that the network itself keeps as they are would have no effect. */
static Status check_frozen(const Graph *graph, const OptimizerGroup *group)
{
    const char *frozen = NULL;
    if (group->frozen || group->sparse) return OK; /* of the latter optimizer_mark says more */
    for (int v = 0; v < graph_value_count(graph); ++v) {
        const Value value = {v};
        if (graph_role(graph, value) != ROLE_PARAMETER ||
            fnmatch(group->parameters, graph_name(graph, value), 0) != 0)
            continue;
        if (graph_training(graph, value) != FROZEN) return OK;
        frozen = graph_name(graph, value);
    }
    return frozen == NULL
               ? OK
               : fail(
                     STATUS_INPUT,
                     "%s is frozen by the network (as by model.freeze_embedding), so the group has no effect",
                     frozen);
}

static Status check_patterns(const Graph *graph, const OptimizerOptions *options, int *which)
{
    for (int g = 0; g < options->group_count; ++g) {
        Status status = graph_check_pattern(graph, options->groups[g].parameters);
        if (status == OK) status = check_frozen(graph, &options->groups[g]);
        if (status == OK) continue;
        if (which != NULL) *which = g;
        return status;
    }
    return OK;
}

Status optimizer_mark(Graph *graph, const OptimizerOptions *options, int *which)
{
    if (options->group_count == 0 || graph_failed(graph)) return OK;
    TRY(check_patterns(graph, options, which));
    for (int v = 0; v < graph_value_count(graph); ++v) {
        const Value value = {v};
        if (graph_role(graph, value) != ROLE_PARAMETER) continue;
        const int g = optimizer_group_of(options, graph_name(graph, value));
        if (g < 0) continue;
        if (options->groups[g].sparse && graph_training(graph, value) == FROZEN) {
            if (which != NULL) *which = g;
            return fail(
                STATUS_INPUT,
                "%s is frozen by the network (as by model.freeze_embedding), and cannot be trained by rows: "
                "leave the group out",
                graph_name(graph, value));
        }
        if (options->groups[g].frozen)
            graph_set_training(graph, value, FROZEN);
        else if (options->groups[g].sparse)
            graph_set_training(graph, value, TRAINED_BY_ROWS);
    }
    return OK;
}
