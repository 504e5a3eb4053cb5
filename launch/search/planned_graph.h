/* A graph with its plan and its recording: what searches and scores run over and over, with inputs of their own. */
#ifndef PLUMB_LAUNCH_SEARCH_PLANNED_GRAPH_H
#define PLUMB_LAUNCH_SEARCH_PLANNED_GRAPH_H

#include "engine/device/device.h"
#include "engine/graph/graph.h"
#include "engine/plan/plan.h"

typedef struct {
    Graph *graph;
    Plan *plan;
    Recording recording;
} PlannedGraph;
void planned_free(Device *, PlannedGraph *);

/* An input of integers, [first] or [first, second]. */
Value planned_integers(Graph *, const char *name, int rank, int64_t first, int64_t second);
/* All of an input; enqueues. */
CHECKED Status planned_upload(Device *, const PlannedGraph *, Value input, const void *data);
/* The first rows of a result; enqueues. */
CHECKED Status planned_download(Device *, const PlannedGraph *, Value result, void *data, int64_t rows);
/* Enqueues the work, as a recording if *record. If it cannot be recorded, which is slower, but no reason to stop, a warning says so
 * and *record becomes false. what: "a step of the search". */
CHECKED Status planned_run(Device *, PlannedGraph *, const char *what, bool *record);

#endif
