/* Edit distance of two texts as sacreBLEU 2.6.0's TER has it: in a beam around the diagonal, with its order among equals. */
#ifndef PLUMB_NLP_BLEU_EDIT_DISTANCE_H
#define PLUMB_NLP_BLEU_EDIT_DISTANCE_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EDIT_NONE = ' ', EDIT_SUBSTITUTE = 's', EDIT_INSERT = 'i', EDIT_DELETE = 'd', EDIT_UNKNOWN = 'x' };

/* The part of a row of the matrix that the beam sees: columns [first, behind), at `start` of the arrays. */
typedef struct {
    int32_t first, behind;
    size_t start;
} EditRow;

/* Zeroed it is empty. Fields are its own business. */
typedef struct {
    const uint32_t *there;
    int32_t words_there, words_here;
    EditRow *row;          /* [words_here + 1] */
    int32_t *cost, *other; /* the matrix of edit_distance_set; that of edit_distance_changed */
    char *step,
        *steps; /* how each cell was reached; the way to the last, backwards from the end of `steps` */
    size_t row_room, cost_room, other_room, step_room, steps_room;
} EditDistance;

/* Distances from hypotheses of words_here words to a reference, which must stay. */
CHECKED Status edit_distance_begin(EditDistance *, const uint32_t there[], int32_t words_there,
                                   int32_t words_here);
void edit_distance_free(EditDistance *);
/* A hypothesis; its distance; and the steps from it to the reference: EDIT_INSERT puts in a word of the reference, EDIT_DELETE
 * takes out one of the hypothesis. STATUS_UNSUPPORTED where the beam leads nowhere, which sacreBLEU does not survive either. */
void edit_distance_set(EditDistance *, const uint32_t here[]);
int32_t edit_distance_cost(const EditDistance *);
CHECKED Status edit_distance_steps(EditDistance *, const char **step, int64_t *count);
/* The distance of another hypothesis, which is as the one of edit_distance_set before place `first`. */
int32_t edit_distance_changed(EditDistance *, const uint32_t here[], int32_t first);

#endif
