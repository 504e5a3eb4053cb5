/* plumb average: the mean of the last models that a run has kept, as a model file. */
#ifndef PLUMB_LAUNCH_AVERAGE_COMMAND_H
#define PLUMB_LAUNCH_AVERAGE_COMMAND_H

#include "comm/comm.h"
#include "engine/base/status.h"

extern const char average_help[];
CHECKED Status command_average(World *, int argc, char **argv);

#endif
