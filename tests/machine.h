/* Graphs made ready to run, with what they need: for suites that look at whole networks. */
#ifndef PLUMB_TESTS_MACHINE_H
#define PLUMB_TESTS_MACHINE_H

#include "engine/plan/plan.h"
#include "tests/support.h"

enum { MACHINE_MOST_GRAPHS = 5 };
typedef struct {
    int count;
    Graph *graph[MACHINE_MOST_GRAPHS]; /* the caller's to make, the machine's from then on */
    Plan *plan[MACHINE_MOST_GRAPHS];
    Device *device; /* as test_device() says */
    Collective *self;
    Store *store;
    Arena *arena;
} Machine;
/* Finishes the graphs and plans them over one store. */
void machine_open(Machine *, int threads);
void machine_close(Machine *);

/* Doubles to device memory of that shape, and back; release with free(). */
void machine_put(const Machine *, void *to, Shape shape, const double *values);
double *machine_get(const Machine *, const void *from, Shape shape);
/* The same of an input and of a result. */
void machine_put_input(const Machine *, int graph, Value value, const double *values);
double *machine_get_result(const Machine *, int graph, Value value);
void machine_run(const Machine *, int graph);

/* Zeros; release with free(). */
void *new_items(int64_t count, size_t size);

#endif
