#include "nlp/token_batches.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <stdlib.h>
#include <string.h>

/* ---- which shapes ---- */

/* Boxes are first cut finer than there may be shapes, and then joined: cuts go through all of a box, joints need not. */
enum { FINER = 2, MOST_BOXES = FINER * BATCH_MAX_SHAPES };
/* Shapes for pairs that are set apart. */
enum { MOST_APART = 8 };

/* All pairs of one pair of lengths. */
typedef struct {
    int32_t length[2]; /* source, target */
    int64_t pairs;
} Cell;

/* Cells that one shape is for, and the cut that would save the most positions. */
typedef struct {
    Cell *cell; /* within an array of all */
    int64_t cells;
    int64_t gain; /* positions that the best cut saves; 0: there is no cut */
    int axis;     /* by which lengths */
    int64_t cut;  /* cells of the first part, sorted by axis */
} Box;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static int by_source(const void *a, const void *b)
{
    const Cell *left = a, *right = b;
    if (left->length[0] != right->length[0]) return left->length[0] < right->length[0] ? -1 : 1;
    return left->length[1] < right->length[1] ? -1 : left->length[1] > right->length[1];
}

static int by_target(const void *a, const void *b)
{
    const Cell *left = a, *right = b;
    if (left->length[1] != right->length[1]) return left->length[1] < right->length[1] ? -1 : 1;
    return left->length[0] < right->length[0] ? -1 : left->length[0] > right->length[0];
}

static void sort_by(Box *box, int axis)
{
    qsort(box->cell, (size_t)box->cells, sizeof *box->cell, axis == 0 ? by_source : by_target);
}

/* The extent of cells, grown one by one, and what their pairs take when padded to it. */
typedef struct {
    int64_t length[2], pairs;
} Extent;

static void extend(Extent *extent, const Cell *cell)
{
    for (int side = 0; side < 2; ++side)
        extent->length[side] = larger(extent->length[side], cell->length[side]);
    extent->pairs += cell->pairs;
}

static int64_t positions(const Extent *extent)
{
    return (extent->length[0] + extent->length[1]) * extent->pairs;
}

/* behind [cells]: what the cells from each one on take. */
static void try_axis(Box *box, int axis, int64_t behind[])
{
    Extent extent = {.pairs = 0};
    sort_by(box, axis);
    for (int64_t i = box->cells - 1; i >= 0; --i) {
        extend(&extent, &box->cell[i]);
        behind[i] = positions(&extent);
    }
    const int64_t whole = behind[0];
    extent = (Extent){.pairs = 0};
    for (int64_t i = 1; i < box->cells; ++i) {
        extend(&extent, &box->cell[i - 1]);
        if (box->cell[i].length[axis] == box->cell[i - 1].length[axis]) continue;
        const int64_t gain = whole - positions(&extent) - behind[i];
        if (gain <= box->gain) continue;
        box->gain = gain;
        box->axis = axis;
        box->cut = i;
    }
}

static void find_cut(Box *box, int64_t behind[])
{
    box->gain = 0;
    for (int axis = 0; axis < 2; ++axis)
        try_axis(box, axis, behind);
}

/* Cuts the box in two; the second part is returned. */
static Box cut_box(Box *box, int64_t behind[])
{
    sort_by(box, box->axis);
    Box second = {.cell = box->cell + box->cut, .cells = box->cells - box->cut};
    box->cells = box->cut;
    find_cut(box, behind);
    find_cut(&second, behind);
    return second;
}

static Extent extent_of(const Box *box)
{
    Extent extent = {.pairs = 0};
    for (int64_t i = 0; i < box->cells; ++i)
        extend(&extent, &box->cell[i]);
    return extent;
}

/* The box whose cut saves the most; -1: no cut saves any. */
static int best_box(const Box box[], int count)
{
    int best = -1;
    for (int i = 0; i < count; ++i)
        if (box[i].gain > 0 && (best < 0 || box[i].gain > box[best].gain)) best = i;
    return best;
}

/* Pairs of a batch: what fits; eights, which ranks and vector registers share well, if there are many. */
static int64_t pairs_within(int64_t tokens, const Extent *extent)
{
    const int64_t pairs = tokens / larger(extent->length[0], extent->length[1]);
    return pairs >= 64 ? pairs / 8 * 8 : pairs;
}

static int longest_first(const void *a, const void *b)
{
    const TokenShape *left = a, *right = b;
    const int64_t l = left->source + left->target, r = right->source + right->target;
    if (l != r) return l > r ? -1 : 1;
    return left->source > right->source ? -1 : left->source < right->source;
}

static bool contains(const TokenShape *shape, int64_t source, int64_t target)
{
    return shape->source >= source && shape->target >= target;
}

static void add_shape(TokenShapes *shapes, int64_t tokens, const Extent *extent)
{
    const TokenShape shape = {
        .source = extent->length[0], .target = extent->length[1], .pairs = pairs_within(tokens, extent)};
    for (int i = 0; i < shapes->count; ++i)
        if (shapes->shape[i].source == shape.source && shapes->shape[i].target == shape.target) return;
    shapes->shape[shapes->count++] = shape;
}

static Extent joined(const Extent *a, const Extent *b)
{
    return (Extent){.length = {larger(a->length[0], b->length[0]), larger(a->length[1], b->length[1])},
                    .pairs = a->pairs + b->pairs};
}

/* Joins the two extents that lose the least by that, until `most` are left. */
static int join_extents(Extent extent[], int count, int most)
{
    for (; count > most; --count) {
        int first = 0, second = 1;
        int64_t least = INT64_MAX;
        for (int i = 1; i < count; ++i)
            for (int j = 0; j < i; ++j) {
                const Extent both = joined(&extent[i], &extent[j]);
                const int64_t loss = positions(&both) - positions(&extent[i]) - positions(&extent[j]);
                if (loss >= least) continue;
                least = loss;
                first = j;
                second = i;
            }
        extent[first] = joined(&extent[first], &extent[second]);
        extent[second] = extent[count - 1];
    }
    return count;
}

static void take_shapes(const Box box[], int count, int most, int64_t tokens, const Extent *all,
                        TokenShapes *shapes)
{
    Extent extent[MOST_BOXES];
    for (int i = 0; i < count; ++i)
        extent[i] = extent_of(&box[i]);
    count = join_extents(extent, count, most);
    add_shape(shapes, tokens, all);
    for (int i = 0; i < count; ++i)
        add_shape(shapes, tokens, &extent[i]);
    qsort(shapes->shape, (size_t)shapes->count, sizeof *shapes->shape, longest_first);
    for (int i = 0; i < shapes->count; ++i) {
        TokenShape *shape = &shapes->shape[i];
        shape->parent = i - 1;
        while (shape->parent >= 0 && !contains(&shapes->shape[shape->parent], shape->source, shape->target))
            --shape->parent;
    }
}

/* Cells of all lengths that there are; *cells of them. */
static Status make_cells(const PairLength length[], int64_t count, Cell **cell, int64_t *cells)
{
    TRY(memory_new(cell, (size_t)count, sizeof **cell, "lengths of sentences"));
    for (int64_t i = 0; i < count; ++i)
        (*cell)[i] = (Cell){.length = {length[i].source, length[i].target}, .pairs = 1};
    qsort(*cell, (size_t)count, sizeof **cell, by_source);
    *cells = 1;
    for (int64_t i = 1; i < count; ++i) {
        Cell *last = &(*cell)[*cells - 1];
        if (by_source(last, &(*cell)[i]) == 0)
            ++last->pairs;
        else
            (*cell)[(*cells)++] = (*cell)[i];
    }
    return OK;
}

static int64_t longer_side(const Cell *cell) { return larger(cell->length[0], cell->length[1]); }

static int longer_side_first(const void *a, const void *b)
{
    const int64_t left = longer_side(a), right = longer_side(b);
    return left != right ? (left > right ? -1 : 1) : by_source(a, b);
}

/* Not so many shapes that most of their batches would be ragged. */
static int most_shapes(const TokenShapeOptions *options, int64_t tokens)
{
    enum { BATCHES_A_SHAPE = 4 };
    const int64_t batches = tokens / 2 / options->tokens;
    const int room = BATCH_MAX_SHAPES - (options->longest > 0 ? MOST_APART : 0);
    int most = options->most < room ? options->most : room;
    if (most > batches / BATCHES_A_SHAPE) most = (int)(batches / BATCHES_A_SHAPE);
    return most > 1 ? most : 1;
}

static Status choose(Cell cell[], int64_t cells, const TokenShapeOptions *options, TokenShapes *shapes)
{
    Box box[MOST_BOXES] = {{.cell = cell, .cells = cells}};
    const Extent all = extent_of(&box[0]);
    int64_t real = 0, padded = positions(&all), *behind;
    for (int64_t i = 0; i < cells; ++i)
        real += (int64_t)(cell[i].length[0] + cell[i].length[1]) * cell[i].pairs;
    if (larger(all.length[0], all.length[1]) > options->tokens)
        return fail(STATUS_INPUT, "a sentence of %lld tokens is longer than a batch of %lld",
                    (long long)larger(all.length[0], all.length[1]), (long long)options->tokens);
    TRY(memory_new(&behind, (size_t)cells, sizeof *behind, "lengths of sentences"));
    /* One less: the shape that holds all is one more where no box is as large. */
    const int most = most_shapes(options, real) > 1 ? most_shapes(options, real) - 1 : 1;
    int count = 1;
    find_cut(&box[0], behind);
    while (count < FINER * most && (double)(padded - real) > options->padding * (double)padded) {
        const int best = best_box(box, count);
        if (best < 0) break;
        padded -= box[best].gain;
        box[count++] = cut_box(&box[best], behind);
    }
    free(behind);
    take_shapes(box, count, most, options->tokens, &all, shapes);
    return OK;
}

/* Cells with a side that is longer than that come first, the longest before all; how many there are. */
static int64_t set_apart(Cell cell[], int64_t cells, int64_t longest)
{
    int64_t apart = 0;
    qsort(cell, (size_t)cells, sizeof *cell, longer_side_first);
    while (apart < cells && longer_side(&cell[apart]) > longest)
        ++apart;
    return apart;
}

/* Their shapes, before the others: each for lengths down to half of its longest one. */
static void add_apart(const Cell cell[], int64_t cells, const TokenShapeOptions *options, TokenShapes *shapes)
{
    TokenShapes all = {.count = 0};
    for (int64_t i = 0; i < cells && all.count < MOST_APART;) {
        const bool last = all.count == MOST_APART - 1;
        const int64_t half = longer_side(&cell[i]) / 2;
        Extent extent = {.pairs = 0};
        for (; i < cells && (last || longer_side(&cell[i]) > half); ++i)
            extend(&extent, &cell[i]);
        all.shape[all.count++] = (TokenShape){.source = extent.length[0],
                                              .target = extent.length[1],
                                              .pairs = larger(pairs_within(options->tokens, &extent), 1),
                                              .parent = -1};
    }
    const int before = all.count;
    for (int i = 0; i < shapes->count; ++i) {
        all.shape[all.count] = shapes->shape[i];
        if (shapes->shape[i].parent >= 0) all.shape[all.count].parent += before;
        ++all.count;
    }
    *shapes = all;
}

Status token_shapes_choose(const PairLength length[], int64_t count, const TokenShapeOptions *options,
                           TokenShapes *shapes)
{
    Cell *cell = NULL;
    int64_t cells;
    *shapes = (TokenShapes){.count = 0};
    if (count < 1) return fail(STATUS_INPUT, "there is no sentence to make batches of");
    Status status = make_cells(length, count, &cell, &cells);
    const int64_t apart = status == OK && options->longest > 0 ? set_apart(cell, cells, options->longest) : 0;
    if (status == OK && apart < cells) status = choose(cell + apart, cells - apart, options, shapes);
    if (status == OK && apart > 0) add_apart(cell, apart, options, shapes);
    free(cell);
    return status;
}

int token_shape_for(const TokenShapes *shapes, PairLength length)
{
    int i = shapes->count - 1;
    while (i >= 0 && !contains(&shapes->shape[i], length.source, length.target))
        --i;
    return i;
}

/* ---- which pairs ---- */

/* Batches of each shape, from the shortest on: what does not fill one goes to the parent. */
static int64_t plan_batches(const TokenShapes *shapes, const int64_t pairs[], int64_t batches[])
{
    int64_t have[BATCH_MAX_SHAPES], all = 0;
    memcpy(have, pairs, (size_t)shapes->count * sizeof *have);
    for (int i = shapes->count - 1; i >= 0; --i) {
        const TokenShape *shape = &shapes->shape[i];
        batches[i] = have[i] / shape->pairs;
        const int64_t left = have[i] - batches[i] * shape->pairs;
        if (shape->parent >= 0)
            have[shape->parent] += left;
        else
            batches[i] += left > 0;
        all += batches[i];
    }
    return all;
}

int64_t token_epoch_batches(const TokenShapes *shapes, const int64_t pairs[])
{
    int64_t batches[BATCH_MAX_SHAPES];
    return plan_batches(shapes, pairs, batches);
}

/* Pairs of a shape, in the order in which its batches take them. */
typedef struct {
    int64_t *pair;
    int64_t count;
    size_t capacity;
} PairList;

static Status add_pairs(PairList *list, const int64_t pair[], int64_t count)
{
    TRY(memory_grow(&list->pair, &list->capacity, (size_t)(list->count + count), sizeof *list->pair,
                    "batches of sentences"));
    memcpy(list->pair + list->count, pair, (size_t)count * sizeof *pair);
    list->count += count;
    return OK;
}

/* Cuts the lists into batches, from the shortest shape on. What comes from a smaller shape (`came`) is taken before the
 * shape's own pairs: it does not go on to the next. */
static Status cut_batches(const TokenShapes *shapes, PairList came[], const PairList own[],
                          const int64_t batches[], TokenEpoch *epoch)
{
    int64_t *to = epoch->order, number = 0;
    for (int i = shapes->count - 1; i >= 0; --i) {
        const TokenShape *shape = &shapes->shape[i];
        PairList *all = &came[i];
        if (own[i].count > 0) TRY(add_pairs(all, own[i].pair, own[i].count));
        const int64_t taken = shape->parent >= 0 ? batches[i] * shape->pairs : all->count;
        if (taken < all->count) TRY(add_pairs(&came[shape->parent], all->pair + taken, all->count - taken));
        if (taken > 0) memcpy(to, all->pair, (size_t)taken * sizeof *to);
        for (int64_t b = 0; b < batches[i]; ++b) {
            epoch->shape[number] = i;
            epoch->first[number++] = (to - epoch->order) + b * shape->pairs;
        }
        to += taken;
    }
    return OK;
}

/* Batches in random order; `order` has the pairs in that of the shapes. */
static Status shuffle_batches(uint64_t seed, int64_t number, int64_t count, TokenEpoch *epoch)
{
    int64_t *place = NULL, *order = NULL, *first = NULL;
    int *shape = NULL;
    const size_t batches = (size_t)epoch->batches;
    Status status;
    TRY_ELSE(done, memory_new(&place, batches + 1, sizeof *place, "the order of batches"));
    TRY_ELSE(done, memory_new(&order, (size_t)count, sizeof *order, "the order of sentences"));
    TRY_ELSE(done, memory_new(&first, batches + 1, sizeof *first, "the order of batches"));
    TRY_ELSE(done, memory_new(&shape, batches + 1, sizeof *shape, "the order of batches"));
    random_shuffle(seed, RANDOM_BATCH_ORDER, (uint64_t)number, place, epoch->batches);
    for (int64_t b = 0; b < epoch->batches; ++b) {
        const int64_t from = epoch->first[place[b]], pairs = epoch->first[place[b] + 1] - from;
        memcpy(order + first[b], epoch->order + from, (size_t)pairs * sizeof *order);
        first[b + 1] = first[b] + pairs;
        shape[b] = epoch->shape[place[b]];
    }
    free(epoch->order);
    free(epoch->first);
    free(epoch->shape);
    epoch->order = order;
    epoch->first = first;
    epoch->shape = shape;
    order = first = NULL;
    shape = NULL;
done:
    free(place);
    free(order);
    free(first);
    free(shape);
    return status;
}

static Status fill_lists(const int shape_index[], int64_t count, uint64_t seed, int64_t number,
                         PairList own[], int64_t order[])
{
    random_shuffle(seed, RANDOM_ORDER, (uint64_t)number, order, count);
    for (int64_t i = 0; i < count; ++i)
        TRY(add_pairs(&own[shape_index[order[i]]], &order[i], 1));
    return OK;
}

Status token_epoch_make(const TokenShapes *shapes, const int shape_index[], int64_t count, uint64_t seed,
                        int64_t number, TokenEpoch *epoch)
{
    PairList own[BATCH_MAX_SHAPES] = {{.pair = NULL}}, came[BATCH_MAX_SHAPES] = {{.pair = NULL}};
    int64_t pairs[BATCH_MAX_SHAPES], batches[BATCH_MAX_SHAPES];
    Status status;
    *epoch = (TokenEpoch){.batches = 0};
    TRY_ELSE(done, memory_new(&epoch->order, (size_t)count, sizeof *epoch->order, "the order of sentences"));
    TRY_ELSE(done, fill_lists(shape_index, count, seed, number, own, epoch->order));
    for (int i = 0; i < shapes->count; ++i)
        pairs[i] = own[i].count;
    epoch->batches = plan_batches(shapes, pairs, batches);
    const size_t room = (size_t)epoch->batches + 1;
    TRY_ELSE(done, memory_new(&epoch->first, room, sizeof *epoch->first, "the order of batches"));
    TRY_ELSE(done, memory_new(&epoch->shape, room, sizeof *epoch->shape, "the order of batches"));
    TRY_ELSE(done, cut_batches(shapes, came, own, batches, epoch));
    epoch->first[epoch->batches] = count;
    TRY_ELSE(done, shuffle_batches(seed, number, count, epoch));
done:
    for (int i = 0; i < shapes->count; ++i) {
        free(own[i].pair);
        free(came[i].pair);
    }
    if (status != OK) token_epoch_free(epoch);
    return status;
}

void token_epoch_free(TokenEpoch *epoch)
{
    free(epoch->order);
    free(epoch->first);
    free(epoch->shape);
    *epoch = (TokenEpoch){.batches = 0};
}
