/* A program: one graph with its plan, recordings and named inputs, for one mode and batch shape. All programs of a
 * session share a store and an arena and are planned before the first step. The graph of a step is built here and
 * nowhere else. */
#ifndef PLUMB_LAUNCH_TRAIN_PROGRAM_H
#define PLUMB_LAUNCH_TRAIN_PROGRAM_H

#include "engine/data/source.h"
#include "engine/device/device.h"
#include "engine/plan/plan.h"
#include "launch/train/experiment.h"
#include "losses/loss.h"

/* The first, the middle and the last of the micro-steps of a step enqueue different things. */
enum { RECORD_FIRST, RECORD_MIDDLE, RECORD_LAST, PROGRAM_RECORDINGS };

typedef struct {
    BatchShape shape;
    Graph *graph;
    Plan *plan;                    /* NULL until planned */
    Value input[BATCH_MAX_FIELDS]; /* of each field of the shape; NO_VALUE where it stays on the host */
    Value clock;                   /* NO_VALUE where nothing asks for it */
    Value logits, sums;            /* kept results; sums only in training */
    Value last_weight;             /* parameter [classes, width] of the linear layer that makes the logits */
    Value feature_norms,
        logit_norms; /* kept results FLOAT64 [rows], if they are wanted: of what that layer reads, and of the logits */
    int fused;                               /* chains of nodes that became one */
    Recording recording[PROGRAM_RECORDINGS]; /* evaluation: the first */
} Program;

/* Appends a network's inputs, all but "target" and "weight", and the network; returns its logits. */
typedef Value BuildNetwork(Graph *, const BatchShape *, const void *context);

typedef struct {
    GraphMode mode;
    DType compute;
    bool fuse;
    bool norms;              /* of the rows of features and logits */
    const LossOptions *loss; /* of a graph with sums; NULL: logits alone */
    bool differentiate;
    const OptimizerOptions
        *optimizer;   /* of a graph that is differentiated, for what is not trained as usual; or NULL */
    int *wrong_group; /* if not NULL, receives which of its groups fits no parameter */
    BuildNetwork *build;
    const void *context; /* of build */
} ProgramOptions;

/* Builds the graph: the inputs "target" INT32 [rows] and "weight" FLOAT32 [rows] where there is a loss, the network,
 * the loss, fusion, the backward pass. Release with program_release, also after an error. */
CHECKED Status program_build(const ProgramOptions *, const BatchShape *, Program *);
/* The programs of an experiment. */
CHECKED Status program_build_training(const Experiment *, const BatchShape *, Program *);
/* data: the experiment's, or others of its task in the same form. */
CHECKED Status program_build_evaluation(const Experiment *, const TaskData *data, Split, const BatchShape *,
                                        Program *);

/* Makes the program ready to run; sums are reduced over ranks. */
CHECKED Status program_plan(Program *, Store *, Arena *, Collective *, PlanOptions);

/* Enqueues the upload of a part's fields, and of the clock where the graph has one. */
CHECKED Status program_upload(Program *, Device *, const BatchPart *, const int64_t clock[CLOCK_COUNT]);

/* The device may be NULL if the program was never planned. */
void program_release(Program *, Device *);

#endif
