/* plumb sweep: runs every run of a sweep file, some at a time; see `plumb sweep --help`. */
#ifndef PLUMB_LAUNCH_SWEEP_SWEEP_H
#define PLUMB_LAUNCH_SWEEP_SWEEP_H

#include "comm/comm.h"

CHECKED Status command_sweep(World *, int argc, char **argv);
extern const char sweep_help[];

#endif
