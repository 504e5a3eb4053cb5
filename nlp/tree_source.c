#include "nlp/tree_source.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS, CHILDREN, LEVELS, KEY, TARGET, WEIGHT, SAMPLE, FIELDS };

typedef struct {
    Source source; /* first */
    TreeSourceOptions options;
    BatchShape shape;
    int64_t *order; /* [count]; in evaluation the split's own */
} TreeSource;

void tree_batch_shape(TreeBatchRoom room, BatchShape *shape)
{
    const int64_t nodes = room.leaves + room.inner, levels = 1 + room.levels;
    const int64_t children[] = {room.inner, 2};
    *shape = (BatchShape){.rows = nodes,
                          .field_count = FIELDS,
                          .field = {[WORDS] = {"words", shape_of(INT32, 1, &room.leaves)},
                                    [CHILDREN] = {"children", shape_of(INT32, 2, children)},
                                    [LEVELS] = {"levels", shape_of(INT32, 1, &levels)},
                                    [KEY] = {"key", shape_of(INT64, 1, &nodes)},
                                    [TARGET] = {"target", shape_of(INT32, 1, &nodes)},
                                    [WEIGHT] = {"weight", shape_of(FLOAT32, 1, &nodes)},
                                    [SAMPLE] = {"sample", shape_of(INT64, 1, &nodes)}}};
}

/* Each tree's number stands at its root; in evaluation roots alone are measured. */
static void mark_roots(const TreeSource *source, const int64_t sample[], int64_t count, const int32_t root[],
                       BatchPart *part)
{
    float *weight = part->field[WEIGHT];
    int64_t *at = part->field[SAMPLE];
    memset(at, 0, (size_t)source->shape.rows * sizeof *at);
    if (!source->options.batches.training) memset(weight, 0, (size_t)source->shape.rows * sizeof *weight);
    for (int64_t i = 0; i < count; ++i) {
        at[root[i]] = sample[i];
        if (!source->options.batches.training) weight[root[i]] = 1;
    }
}

static Status fill_part(const TreeSource *source, int64_t number, int p, BatchPart *part)
{
    const TreeSourceOptions *options = &source->options;
    const int64_t trees = options->room.trees;
    int64_t count = 0, *tree = NULL, *sample = NULL;
    int32_t *root = NULL;
    Status status;
    TRY_ELSE(done, memory_new(&tree, (size_t)trees, sizeof *tree, "a batch of trees"));
    TRY_ELSE(done, memory_new(&sample, (size_t)trees, sizeof *sample, "a batch of trees"));
    TRY_ELSE(done, memory_new(&root, (size_t)trees, sizeof *root, "a batch of trees"));
    for (int64_t i = 0; i < trees; ++i) {
        bool padding;
        const int64_t place = sample_batches_place(&options->batches, options->count, number, p, i, &padding);
        if (padding) break; /* at the end only */
        sample[count] = source->order[place];
        tree[count] = options->tree[sample[count]];
        ++count;
    }
    TreeBatch batch = {.word = part->field[WORDS],
                       .children = part->field[CHILDREN],
                       .levels = part->field[LEVELS],
                       .target = part->field[TARGET],
                       .weight = part->field[WEIGHT],
                       .root = root,
                       .key = part->field[KEY],
                       .place = part->first};
    TRY_ELSE(done,
             tree_batch_fill(options->trees, options->id, options->task, tree, count, options->room, &batch));
    part->shape = 0;
    part->padding = 0; /* rows of no node may be anywhere; their weight is 0 */
    mark_roots(source, sample, count, root, part);
done:
    free(tree);
    free(sample);
    free(root);
    return status;
}

static Status fill(Source *source, int64_t number, Batch *batch)
{
    const TreeSource *trees = (const TreeSource *)source;
    sample_batches_begin(&trees->options.batches, trees->options.count, number, batch);
    for (int p = 0; p < batch->parts; ++p)
        TRY(fill_part(trees, number, p, &batch->part[p]));
    return OK;
}

static int64_t batches(const Source *source, int64_t epoch)
{
    (void)epoch;
    const TreeSource *trees = (const TreeSource *)source;
    return sample_batches_count(&trees->options.batches, trees->options.count);
}

static Status start(Source *source, int64_t epoch)
{
    const TreeSource *trees = (const TreeSource *)source;
    const TreeSourceOptions *options = &trees->options;
    if (options->batches.training)
        random_shuffle(options->batches.seed, RANDOM_ORDER, (uint64_t)epoch, trees->order, options->count);
    return OK;
}

static void release(Source *source)
{
    TreeSource *trees = (TreeSource *)source;
    free(trees->order);
    free(trees);
}

Status tree_source_open(const TreeSourceOptions *options, Source **out)
{
    *out = NULL;
    TRY(sample_batches_check(&options->batches, options->count, options->dataset, options->split));
    if (options->room.trees != sample_batches_rows(&options->batches))
        return fail(STATUS_INTERNAL, "room for %lld trees, but parts of %lld", (long long)options->room.trees,
                    (long long)sample_batches_rows(&options->batches));
    TreeSource *trees;
    TRY(memory_new(&trees, 1, sizeof *trees, "a source of trees"));
    trees->options = *options;
    tree_batch_shape(options->room, &trees->shape);
    trees->source = (Source){.shape_count = 1,
                             .shape = &trees->shape,
                             .parts = options->batches.parts,
                             .workers = 1,
                             .batches = batches,
                             .start = start,
                             .fill = fill,
                             .free = release};
    Status status = memory_new(&trees->order, (size_t)options->count, sizeof *trees->order, "order");
    if (status != OK) {
        release(&trees->source);
        return status;
    }
    for (int64_t i = 0; i < options->count; ++i)
        trees->order[i] = i;
    *out = &trees->source;
    return OK;
}
