/* Lines shared among ranks, a round at a time: rank 0 has them, every rank works on its share, rank 0 gets what became of each,
 * in order. */
#ifndef PLUMB_LAUNCH_TRANSLATE_SHARED_LINES_H
#define PLUMB_LAUNCH_TRANSLATE_SHARED_LINES_H

#include "comm/comm.h"
#include "nlp/vocabulary.h"

#include <stddef.h>
#include <stdint.h>

/* One line, or two that belong together (a source and its target). */
typedef struct {
    int64_t number;
    char *first, *second; /* second: NULL if there is none; both owned */
    size_t first_size, second_size;
    char *result; /* owned; NULL: none yet */
    size_t result_size;
} SharedLine;

/* The lines of a round. */
typedef struct {
    SharedLine *line;
    size_t count, capacity;
} SharedLines;
void shared_lines_free(SharedLines *);
/* Copies both; second.data NULL: there is none. */
CHECKED Status shared_lines_add(SharedLines *, int64_t number, TextSpan first, TextSpan second);

/* How long rank 0 waits for lines at most before it begins a round without any, so that the others, which wait for it at most
 * `timeout` seconds, know that it lives. */
double shared_lines_idle_seconds(double timeout);
/* Gives every rank the lines of rank 0; the others' must be empty, and are theirs afterwards. Collective. */
CHECKED Status shared_lines_spread(World *, Collective *, SharedLines *);
/* Whose the line is: the longest are dealt first, so that all ranks have as much to do. rank[count]. */
CHECKED Status shared_lines_deal(const World *, const SharedLines *, int rank[]);
/* Gives rank 0 the results of every rank's lines. Collective. */
CHECKED Status shared_lines_collect(World *, Collective *, SharedLines *);

#endif
