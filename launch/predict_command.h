/* plumb predict: its words. */
#ifndef PLUMB_LAUNCH_PREDICT_COMMAND_H
#define PLUMB_LAUNCH_PREDICT_COMMAND_H

#include "comm/comm.h"

CHECKED Status command_predict(World *, int argc, char **argv);
extern const char predict_help[];

#endif
