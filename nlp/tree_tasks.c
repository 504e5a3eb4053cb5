/* What is learnt at the nodes of trees. */
#include "engine/base/memory.h"
#include "nlp/trees.h"

#include <stdlib.h>

enum { NEUTRAL = 2, LEFT_OUT = -1 };

typedef struct {
    const char *name;
    int classes;
    bool neutral_roots;           /* are trees with a neutral root kept? */
    int8_t class_of[TREE_LABELS]; /* of a label; or LEFT_OUT: weight 0 */
    const char *class_name[TREE_LABELS];
} TaskRow;

static const TaskRow tasks[TREE_TASK_COUNT] = {
    [TREE_BINARY3] = {"binary3", 3, false, {0, 0, 1, 2, 2}, {"negative", "neutral", "positive"}},
    [TREE_BINARY2] = {"binary2", 2, false, {0, 0, LEFT_OUT, 1, 1}, {"negative", "positive"}},
    [TREE_FINE5] = {"fine5",
                    5,
                    true,
                    {0, 1, 2, 3, 4},
                    {"very negative", "negative", "neutral", "positive", "very positive"}},
};

const char *tree_task_name(TreeTask task) { return tasks[task].name; }

int tree_task_classes(TreeTask task) { return tasks[task].classes; }

const char *const *tree_task_class_names(TreeTask task) { return tasks[task].class_name; }

bool tree_task_keeps(TreeTask task, int root_label)
{
    return tasks[task].neutral_roots || root_label != NEUTRAL;
}

int32_t tree_task_class(TreeTask task, int label)
{
    const int8_t class_of = tasks[task].class_of[label];
    return class_of == LEFT_OUT ? 0 : class_of;
}

float tree_task_weight(TreeTask task, int label)
{
    return tasks[task].class_of[label] == LEFT_OUT ? 0.0F : 1.0F;
}

Status trees_of_task(const Trees *trees, TreeTask task, const char *name, int64_t **kept, int64_t *count)
{
    *count = 0;
    TRY(memory_new(kept, (size_t)trees->count, sizeof **kept, "trees of a task"));
    for (int64_t tree = 0; tree < trees->count; ++tree)
        if (tree_task_keeps(task, trees_root_label(trees, tree))) (*kept)[(*count)++] = tree;
    if (*count > 0) return OK;
    free(*kept);
    *kept = NULL;
    return fail(STATUS_INPUT, "%s: none of its %lld trees is left for the task %s: all roots are neutral",
                name, (long long)trees->count, tasks[task].name);
}
