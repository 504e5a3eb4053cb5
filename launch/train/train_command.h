/* plumb train: see `plumb train --help`. */
#ifndef PLUMB_LAUNCH_TRAIN_TRAIN_COMMAND_H
#define PLUMB_LAUNCH_TRAIN_TRAIN_COMMAND_H

#include "comm/comm.h"

CHECKED Status command_train(World *, int argc, char **argv);
extern const char train_help[];

#endif
