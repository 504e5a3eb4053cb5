#include "launch/tasks/task.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const Task *const tasks[] = {&images_task, &documents_task, &trees_task, &translation_task};
enum { TASKS = sizeof tasks / sizeof tasks[0], MOST_DATASETS = 64 };

const Task *const *tasks_table(int *count)
{
    *count = TASKS;
    return tasks;
}

Status task_find(const Config *config, const Task **task)
{
    const char *known[MOST_DATASETS];
    const Task *of[MOST_DATASETS];
    int count = 0, index;
    *task = NULL;
    TRY(config_require(config, (const char *const[]){"dataset.name", NULL}));
    for (int t = 0; t < TASKS; ++t) {
        TaskDataset dataset;
        for (int i = 0; tasks[t]->dataset(i, &dataset) && count < MOST_DATASETS; ++i) {
            known[count] = dataset.name;
            of[count++] = tasks[t];
        }
    }
    TRY(config_choose(config, "dataset.name", "data set", "plumb list datasets", known, count, &index));
    *task = of[index];
    return OK;
}

void task_data_free(TaskData *data)
{
    if (data != NULL) data->task->free(data);
}

void task_vocabulary_text(const TaskData *data, char text[VOCABULARY_TEXT])
{
    text[0] = '\0';
    if (data->vocabulary_hash != 0)
        (void)snprintf(text, VOCABULARY_TEXT, "%016" PRIx64, data->vocabulary_hash);
}

Status task_check_vocabulary(const TaskData *data, const SafeFile *checkpoint)
{
    char own[VOCABULARY_TEXT];
    task_vocabulary_text(data, own);
    const char *its = safetensors_metadata(checkpoint, "vocabulary");
    if (its == NULL) its = "";
    if (strcmp(own, its) == 0) return OK;
    return fail(STATUS_INPUT,
                "the checkpoint was trained with another vocabulary (%s) than the data now have (%s): give "
                "it the data and the settings (dataset.*, %s.*) that it was trained with",
                its[0] != '\0' ? its : "none", own[0] != '\0' ? own : "none",
                data->task->translates ? "subwords" : "vocabulary");
}

/* The global batch must part evenly among ranks and micro-batches. */
static Status check_batch(const Config *config, const char *name, const SampleBatches *batches)
{
    if (batches->batch < batches->ranks)
        return config_error(
            config, name,
            "a batch of %lld samples cannot be shared by %d ranks: use fewer ranks or a larger batch",
            (long long)batches->batch, batches->ranks);
    const int64_t shares = (int64_t)batches->ranks * batches->parts, below = batches->batch / shares * shares;
    if (batches->batch % shares == 0) return OK;
    char parts[64] = "";
    if (batches->parts > 1) (void)snprintf(parts, sizeof parts, ", %d micro-batches each", batches->parts);
    return config_error(config, name, "%lld samples do not part evenly among %d rank%s%s; %lld do",
                        (long long)batches->batch, batches->ranks, batches->ranks == 1 ? "" : "s", parts,
                        (long long)(below > 0 ? below : shares));
}

Status task_read_batches(const Config *config, TaskShare share, TaskBatches *batches)
{
    const SampleBatches common = {.parts = 1,
                                  .rank = share.rank,
                                  .ranks = share.ranks,
                                  .seed = (uint64_t)config_integer(config, "seed")};
    batches->train = batches->evaluate = common;
    batches->train.training = true;
    batches->train.batch = config_integer(config, "batch");
    batches->train.parts = (int)config_integer(config, "micro_batches");
    batches->evaluate.batch = config_integer(config, "evaluate_batch");
    if (share.training) TRY(check_batch(config, "batch", &batches->train));
    if (batches->evaluate.batch == 0) batches->evaluate.batch = batches->train.batch / batches->train.parts;
    return check_batch(config, "evaluate_batch", &batches->evaluate);
}

/* ---- samples that a user gives ---- */

const char *input_place_text(InputPlace place, char text[INPUT_PLACE_TEXT])
{
    enum { LINE = 24 };
    const size_t length = strlen(place.file), room = INPUT_PLACE_TEXT - LINE;
    const bool whole = length < room;
    const char *name = whole ? place.file : place.file + length - room + 4;
    const int made = snprintf(text, INPUT_PLACE_TEXT, "%s%s", whole ? "" : "...", name);
    if (place.line > 0) (void)snprintf(text + made, LINE, ":%lld", (long long)place.line);
    return text;
}

int input_rows(const InputOptions *options, int64_t rows[INPUT_ROW_COUNTS])
{
    enum { FEW = 8 };
    int count = 0;
    rows[count++] = options->rows;
    if (options->deterministic) return count;
    if (options->rows > FEW) rows[count++] = FEW;
    if (options->rows > 1) rows[count++] = 1;
    return count;
}

void input_mark_rows(const BatchShape *shape, int64_t taken, BatchPart *part)
{
    float *weight = part->field[batch_shape_find(shape, "weight")];
    int64_t *sample = part->field[batch_shape_find(shape, "sample")];
    int32_t *target = part->field[batch_shape_find(shape, "target")];
    part->first = 0;
    part->padding = shape->rows - taken;
    for (int64_t i = 0; i < shape->rows; ++i) {
        weight[i] = i < taken ? 1.0F : 0.0F;
        sample[i] = i < taken ? i : 0;
        target[i] = 0;
    }
}

int64_t task_measured_class(const uint8_t *masked, int64_t k)
{
    int64_t place = 0;
    for (int64_t c = 0; c < k; ++c)
        place += masked == NULL || masked[c] == 0;
    return place;
}
