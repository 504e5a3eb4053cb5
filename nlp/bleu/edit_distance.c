#include "nlp/bleu/edit_distance.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BEAM = 25, INFINITE = 1 << 30 };

void edit_distance_free(EditDistance *distance)
{
    free(distance->row);
    free(distance->cost);
    free(distance->other);
    free(distance->step);
    free(distance->steps);
    *distance = (EditDistance){.there = NULL};
}

/* The beam runs along the diagonal that the lengths have. */
static size_t lay_out_rows(EditDistance *distance)
{
    const int32_t here = distance->words_here, there = distance->words_there;
    const double ratio = here > 0 ? (double)there / here : 1;
    const int32_t beam = BEAM < ratio / 2 ? (int32_t)ceil(ratio / 2 + BEAM) : BEAM;
    distance->row[0] = (EditRow){.first = 0, .behind = there + 1, .start = 0};
    size_t cells = (size_t)there + 1;
    for (int32_t i = 1; i <= here; ++i) {
        const int32_t diagonal = (int32_t)floor(i * ratio);
        EditRow *row = &distance->row[i];
        row->first = diagonal > beam ? diagonal - beam : 0;
        row->behind = diagonal + beam < there + 1 && i < here ? diagonal + beam : there + 1;
        row->start = cells;
        cells += (size_t)(row->behind - row->first);
    }
    return cells;
}

Status edit_distance_begin(EditDistance *distance, const uint32_t there[], int32_t words_there,
                           int32_t words_here)
{
    static const char what[] = "a matrix of edits";
    distance->there = there;
    distance->words_there = words_there;
    distance->words_here = words_here;
    TRY(memory_grow(&distance->row, &distance->row_room, (size_t)words_here + 1, sizeof *distance->row,
                    what));
    const size_t cells = lay_out_rows(distance), steps = (size_t)words_here + (size_t)words_there + 1;
    TRY(memory_grow(&distance->cost, &distance->cost_room, cells, sizeof *distance->cost, what));
    TRY(memory_grow(&distance->other, &distance->other_room, cells, sizeof *distance->other, what));
    TRY(memory_grow(&distance->step, &distance->step_room, cells, 1, what));
    TRY(memory_grow(&distance->steps, &distance->steps_room, steps, 1, what));
    for (int32_t j = 0; j <= words_there; ++j) {
        distance->cost[j] = distance->other[j] = j;
        distance->step[j] = EDIT_INSERT;
    }
    return OK;
}

static int32_t cost_at(const EditRow *row, const int32_t cost[], int32_t column)
{
    return column >= row->first && column < row->behind ? cost[row->start + (size_t)(column - row->first)]
                                                        : INFINITE;
}

/* Row i from row i-1 of `above`. Among equals a substitution goes before a deletion, and that before an insertion. */
static void fill_row(const EditDistance *distance, int32_t i, uint32_t word, const int32_t above[],
                     int32_t cost[], char step[])
{
    const EditRow *row = &distance->row[i], *before = row - 1;
    int32_t diagonal = cost_at(before, above, row->first - 1), left = INFINITE;
    for (int32_t j = row->first; j < row->behind; ++j) {
        const int32_t up = cost_at(before, above, j);
        int32_t best = INFINITE;
        char how = EDIT_UNKNOWN;
        if (j == 0) {
            best = up + 1;
            how = EDIT_DELETE;
        } else {
            const bool equal = word == distance->there[j - 1];
            if (diagonal + !equal < best) {
                best = diagonal + !equal;
                how = equal ? EDIT_NONE : EDIT_SUBSTITUTE;
            }
            if (up + 1 < best) {
                best = up + 1;
                how = EDIT_DELETE;
            }
            if (left + 1 < best) {
                best = left + 1;
                how = EDIT_INSERT;
            }
        }
        cost[row->start + (size_t)(j - row->first)] = best;
        if (step != NULL) step[row->start + (size_t)(j - row->first)] = how;
        diagonal = up;
        left = best;
    }
}

static int32_t last_cost(const EditDistance *distance, const int32_t cost[])
{
    return cost_at(&distance->row[distance->words_here], cost, distance->words_there);
}

void edit_distance_set(EditDistance *distance, const uint32_t here[])
{
    for (int32_t i = 1; i <= distance->words_here; ++i)
        fill_row(distance, i, here[i - 1], distance->cost, distance->cost, distance->step);
}

int32_t edit_distance_cost(const EditDistance *distance) { return last_cost(distance, distance->cost); }

int32_t edit_distance_changed(EditDistance *distance, const uint32_t here[], int32_t first)
{
    for (int32_t i = first + 1; i <= distance->words_here; ++i)
        fill_row(distance, i, here[i - 1], i == first + 1 ? distance->cost : distance->other, distance->other,
                 NULL);
    return last_cost(distance, first < distance->words_here ? distance->other : distance->cost);
}

Status edit_distance_steps(EditDistance *distance, const char **step, int64_t *count)
{
    int32_t i = distance->words_here, j = distance->words_there;
    char *end = distance->steps + (size_t)i + (size_t)j, *at = end;
    while (i > 0 || j > 0) {
        const EditRow *row = &distance->row[i];
        const bool seen = j >= row->first && j < row->behind;
        const char how = seen ? distance->step[row->start + (size_t)(j - row->first)] : EDIT_UNKNOWN;
        if (how == EDIT_UNKNOWN)
            return fail(STATUS_UNSUPPORTED, "TER: the beam finds no way from %d words to %d",
                        distance->words_here, distance->words_there);
        *--at = how;
        i -= how != EDIT_INSERT;
        j -= how != EDIT_DELETE;
    }
    *step = at;
    *count = end - at;
    return OK;
}
