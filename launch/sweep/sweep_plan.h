/* What a sweep file says: the runs it stands for.
 *
 *     sweep: quickstart              # runs/quickstart/RUN
 *     base: fashion_mnist.yaml       # the config that every run starts from, relative to this file
 *     ranks: 2                       # MPI ranks a run; --ranks overrides
 *     set: {epochs: 5}               # settings of every run
 *     axes:                          # every combination of one entry of each axis is a run
 *       loss:
 *         cross_entropy: {loss.name: cross_entropy}
 *         flsd_53: {loss: {name: focal, policy: sample}}
 *       dataset:
 *         cifar10: {base: cifar10.yaml}    # an entry may name the config to start from
 *       seed: [1, 2, 3]              # an axis named after a setting may list its values
 *     adjust:                        # settings of some combinations, later ones win
 *       - when: {loss: flsd_53, dataset: cifar10}
 *         set: {optimizer.learning_rate: 0.05}
 *     exclude:                       # combinations that are not runs
 *       - {loss: cross_entropy, dataset: cifar10}
 *
 * A run's name is its entries joined by "-", in the order of the axes; of a value with its setting's name before it
 * (flsd_53-cifar10-seed2). */
#ifndef PLUMB_LAUNCH_SWEEP_SWEEP_PLAN_H
#define PLUMB_LAUNCH_SWEEP_SWEEP_PLAN_H

#include "engine/base/config.h"
#include "engine/base/status.h"

#include <stdint.h>

typedef struct {
    char *name;               /* "cifar10-resnet50-flsd_53" */
    char *config;             /* path of the config it starts from */
    ConfigOverride *override; /* each setting once, the last that was given; words are owned */
    int override_count;
} SweepRun;

typedef struct {
    char *name;
    char *path; /* of the sweep file; overrides point to it */
    int ranks;
    SweepRun *run;
    int run_count;
} SweepPlan;

/* overrides: of the command line; they come last in every run, and a setting stands there once (STATUS_USAGE).
 * STATUS_INPUT names file and line. */
CHECKED Status sweep_plan_load(const char *path, int override_count, const char *const overrides[],
                               SweepPlan *);
void sweep_plan_free(SweepPlan *);

#endif
