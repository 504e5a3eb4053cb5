#include "losses/mmce.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef struct {
    uint64_t key; /* the confidence's bits: those of numbers that are not negative sort as integers */
    uint64_t index;
} Item;

/* Sums over the samples before an item: of weight u exp(-distance / width), for u of the right samples and of
 * the wrong ones. */
typedef struct {
    double right, wrong;
} Pair;

size_t mmce_workspace(int64_t count) { return (size_t)count * (sizeof(Item) + sizeof(Pair)); }

/* Sorts items by key, a byte a pass, from one array into the other; returns the array that holds the result.
 * Passes in which all items have the same byte (there are some: confidences lie within a few powers of 2)
 * are left out. */
static Item *sort_items(Item *items, Item *other, size_t count)
{
    enum { BYTES = 8, VALUES = 256 };
    static_assert(sizeof items->key == BYTES, "a pass a byte");
    uint32_t tally[BYTES][VALUES];
    memset(tally, 0, sizeof tally);
    for (size_t i = 0; i < count; ++i)
        for (int b = 0; b < BYTES; ++b)
            ++tally[b][items[i].key >> (8 * b) & 0xff];
    for (int b = 0; b < BYTES && count > 0; ++b) {
        if (tally[b][items[0].key >> (8 * b) & 0xff] == count) continue;
        uint32_t start = 0;
        for (int v = 0; v < VALUES; ++v) {
            const uint32_t here = tally[b][v];
            tally[b][v] = start;
            start += here;
        }
        for (size_t i = 0; i < count; ++i)
            other[tally[b][items[i].key >> (8 * b) & 0xff]++] = items[i];
        Item *swap = items;
        items = other;
        other = swap;
    }
    return items;
}

static double confidence_of(Item item)
{
    double confidence;
    memcpy(&confidence, &item.key, sizeof confidence);
    return confidence;
}

/* The set in order of confidence. Samples of equal confidence form a group, which enters all sums as one, so
 * that their order cannot matter. */
typedef struct {
    const Judged *samples;
    const Item *items;
    Pair *before;        /* of each item's group */
    size_t count;        /* without those of weight 0 */
    double right, wrong; /* sums of weights: m and n */
} Sorted;

static Sorted sort_samples(const Judged samples[], int64_t count, void *workspace)
{
    /* `before` shares the memory of the sort's second array. */
    Item *items = workspace, *other = items + count;
    static_assert(sizeof(Item) == sizeof(Pair), "one block holds either");
    Sorted sorted = {.samples = samples};
    for (int64_t i = 0; i < count; ++i) {
        if (samples[i].weight == 0) continue;
        Item item = {.index = (uint64_t)i};
        memcpy(&item.key, &samples[i].confidence, sizeof item.key);
        items[sorted.count++] = item;
        if (samples[i].correct != 0)
            sorted.right += samples[i].weight;
        else
            sorted.wrong += samples[i].weight;
    }
    Item *result = sort_items(items, other, sorted.count);
    sorted.items = result;
    sorted.before = (Pair *)(void *)(result == items ? other : items);
    return sorted;
}

/* NaN, whose bits are above all numbers', is sorted to the end. */
static bool has_nan(const Sorted *sorted)
{
    return sorted->count > 0 && isnan(confidence_of(sorted->items[sorted->count - 1]));
}

/* The group that begins at item `first`: its end, and its sums of weight u. */
static size_t take_group(const Sorted *sorted, size_t first, Pair *group)
{
    const double r = confidence_of(sorted->items[first]);
    Pair weight = {0, 0};
    size_t end = first;
    /* by bits, so that a NaN is equal to itself and the group is not empty */
    while (end < sorted->count && sorted->items[end].key == sorted->items[first].key) {
        const Judged *sample = &sorted->samples[sorted->items[end].index];
        if (sample->correct != 0)
            weight.right += sample->weight;
        else
            weight.wrong += sample->weight;
        ++end;
    }
    *group = (Pair){weight.right * (1 - r), weight.wrong * r};
    return end;
}

/* Sums over pairs of weight weight' u u' k: both right, both wrong, one of each (once, not twice), and with
 * signed u (+ for right, - for wrong), which would cancel if it were formed from the other three. */
typedef struct {
    double right, wrong, mixed, signs;
} PairSums;

static PairSums sum_pairs(const Sorted *sorted, double width)
{
    PairSums sums = {0, 0, 0, 0};
    Pair before = {0, 0};
    double signed_before = 0, previous = 0;
    for (size_t first = 0, end; first < sorted->count; first = end) {
        Pair group;
        end = take_group(sorted, first, &group);
        const double r = confidence_of(sorted->items[first]);
        const double step = exp((previous - r) / width);
        before.right *= step;
        before.wrong *= step;
        signed_before *= step;
        for (size_t i = first; i < end; ++i)
            sorted->before[i] = before;
        const double signed_group = group.right - group.wrong;
        sums.right += group.right * (2 * before.right + group.right);
        sums.wrong += group.wrong * (2 * before.wrong + group.wrong);
        sums.mixed += group.right * before.wrong + group.wrong * before.right + group.right * group.wrong;
        sums.signs += signed_group * (2 * signed_before + signed_group);
        before.right += group.right;
        before.wrong += group.wrong;
        signed_before += signed_group;
        previous = r;
    }
    return sums;
}

/* gradient[i] = d/dri of (scale.right sums.right + scale.wrong sums.wrong + scale.mixed sums.mixed). The
 * samples after a group are summed on the way back; `near` are sums of weight u k over all, `slope` the same
 * with the sign of ri - rj. */
static void differentiate_pairs(const Sorted *sorted, double width, PairSums scale, double gradient[])
{
    Pair after = {0, 0};
    double next = 0;
    for (size_t end = sorted->count; end > 0;) {
        size_t first = end - 1;
        while (first > 0 && sorted->items[first - 1].key == sorted->items[end - 1].key)
            --first;
        Pair group;
        (void)take_group(sorted, first, &group);
        const double r = confidence_of(sorted->items[first]);
        const double step = exp((r - next) / width);
        if (end < sorted->count) {
            after.right *= step;
            after.wrong *= step;
        }
        const Pair before = sorted->before[first];
        const Pair near = {before.right + group.right + after.right,
                           before.wrong + group.wrong + after.wrong};
        const Pair slope = {(before.right - after.right) / width, (before.wrong - after.wrong) / width};
        /* u = 1 - r for a right sample, r for a wrong one */
        const double right = 2 * scale.right * (-near.right - (1 - r) * slope.right) +
                             scale.mixed * (-near.wrong - (1 - r) * slope.wrong);
        const double wrong =
            2 * scale.wrong * (near.wrong - r * slope.wrong) + scale.mixed * (near.right - r * slope.right);
        for (size_t i = first; i < end; ++i) {
            const uint64_t index = sorted->items[i].index;
            const Judged *sample = &sorted->samples[index];
            gradient[index] = sample->weight * (sample->correct != 0 ? right : wrong);
        }
        after.right += group.right;
        after.wrong += group.wrong;
        next = r;
        end = first;
    }
}

static void clear(double gradient[], int64_t count)
{
    if (gradient != NULL)
        for (int64_t i = 0; i < count; ++i)
            gradient[i] = 0;
}

/* What multiplies the pair sums; for the weighted form their sum is under the root. */
static PairSums plain_scale(const Sorted *sorted)
{
    const double total = sorted->right + sorted->wrong, scale = 1 / (total * total);
    return (PairSums){.right = scale, .wrong = scale, .mixed = -2 * scale, .signs = scale};
}

static PairSums weighted_scale(const Sorted *sorted)
{
    const double m = sorted->right, n = sorted->wrong;
    return (PairSums){.right = 1 / (m * m * (m * m + 1e-5)),
                      .wrong = 1 / (n * n * (n * n + 1e-5)),
                      .mixed = -2 / (m * n * (m * n + 1e-5))};
}

static double plain_value(const Sorted *sorted, const PairSums *sums)
{
    if (has_nan(sorted)) return NAN;
    return sorted->count > 0 ? sums->signs * plain_scale(sorted).signs : 0;
}

static double weighted_value(const Sorted *sorted, const PairSums *sums)
{
    if (has_nan(sorted)) return NAN;
    if (sorted->right == 0 || sorted->wrong == 0) return 0;
    const PairSums scale = weighted_scale(sorted);
    const double square =
        scale.right * sums->right + scale.wrong * sums->wrong + scale.mixed * sums->mixed + 1e-10;
    return square > 0 ? sqrt(square) : 0;
}

double mmce(const Judged samples[], int64_t count, double width, void *workspace, double gradient[])
{
    clear(gradient, count);
    const Sorted sorted = sort_samples(samples, count, workspace);
    const PairSums sums = sum_pairs(&sorted, width);
    const double value = plain_value(&sorted, &sums);
    if (gradient != NULL && !isnan(value) && sorted.count > 0)
        differentiate_pairs(&sorted, width, plain_scale(&sorted), gradient);
    return value;
}

double mmce_weighted(const Judged samples[], int64_t count, double width, void *workspace, double gradient[])
{
    clear(gradient, count);
    const Sorted sorted = sort_samples(samples, count, workspace);
    const PairSums sums = sum_pairs(&sorted, width);
    const double value = weighted_value(&sorted, &sums);
    if (gradient != NULL && value > 0) {
        PairSums scale = weighted_scale(&sorted);
        scale.right /= 2 * value;
        scale.wrong /= 2 * value;
        scale.mixed /= 2 * value;
        differentiate_pairs(&sorted, width, scale, gradient);
    }
    return value;
}

void mmce_both(const Judged samples[], int64_t count, double width, void *workspace, double *plain,
               double *weighted)
{
    const Sorted sorted = sort_samples(samples, count, workspace);
    const PairSums sums = sum_pairs(&sorted, width);
    *plain = plain_value(&sorted, &sums);
    *weighted = weighted_value(&sorted, &sums);
}
