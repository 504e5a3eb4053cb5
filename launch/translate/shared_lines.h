/* Lines shared among ranks, a round at a time: rank 0 has them, every rank works on its share, rank 0 gets what became of each,
 * in order. */
#ifndef PLUMB_LAUNCH_TRANSLATE_SHARED_LINES_H
#define PLUMB_LAUNCH_TRANSLATE_SHARED_LINES_H

#include "comm/comm.h"
#include "nlp/vocabulary.h"

#include <stdbool.h>
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
/* What the ranks do in a round. */
typedef struct {
    void *context;
    /* Rank 0: the lines of the round; none, so that the others know that it lives. */
    Status (*read)(void *context, SharedLines *);
    /* The results of this rank's lines: rank[i] says whose line i is. */
    Status (*work)(void *context, SharedLines *, const int rank[]);
    /* Rank 0: takes the lines with their results, in order. */
    Status (*write)(void *context, const SharedLines *);
    bool (*ended)(const void *context); /* rank 0: that was the last round */
} SharedWork;
/* A round: the longest lines are dealt first, so that all ranks have as much to do. collective: of host memory; NULL of one rank. An
 * error on one rank is an error on all. Collective. */
CHECKED Status shared_lines_round(World *, Collective *, const SharedWork *, bool *ended);

#endif
