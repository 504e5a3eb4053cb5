/* Slots of a sweep: the shares of this host's GPUs and processors that runs at the same time have. */
#ifndef PLUMB_LAUNCH_SWEEP_SWEEP_SLOTS_H
#define PLUMB_LAUNCH_SWEEP_SWEEP_SLOTS_H

#include "engine/base/status.h"

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

enum { SLOT_GPUS = 4096, SLOT_TEXT = 256 };

typedef struct {
    char gpus[SLOT_GPUS]; /* for CUDA_VISIBLE_DEVICES; "": those of the sweep */
    int threads;          /* a rank; 0: as the ranks find out */
    bool bound;           /* to these processors */
    cpu_set_t processors;
    char text[SLOT_TEXT]; /* " on GPU 2,3, processors 4-7"; "" where a run has all */
} Slot;

typedef struct {
    int64_t slots; /* 0: as many runs as there are GPUs for, else 1 */
    int ranks;     /* a run */
    int waiting;   /* runs that are to be done: `slots: 0` makes no more slots */
    bool gpus;     /* do runs use GPUs? */
    bool
        elsewhere; /* a launcher of the user's starts the runs: it places them, and slots say no more than threads */
} SlotOptions;

/* GPUs are those that CUDA_VISIBLE_DEVICES, or else Slurm (SLURM_STEP_GPUS, SLURM_JOB_GPUS), leaves to the sweep; a slot
 * has one for each rank of a run, none of another slot's while there are enough. One slot alone is given nothing: its
 * runs have what the sweep has. Release with free(). Not collective. */
CHECKED Status sweep_slots_make(const SlotOptions *, Slot **slots, int *count);

/* In the process that becomes the run: its GPUs, processors and threads, where the user has not chosen them. */
void sweep_slot_enter(const Slot *);

#endif
