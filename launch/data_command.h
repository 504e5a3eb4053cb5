/* plumb data: makes ready what training reads of its data, and says what is in them. */
#ifndef PLUMB_LAUNCH_DATA_COMMAND_H
#define PLUMB_LAUNCH_DATA_COMMAND_H

#include "comm/comm.h"

CHECKED Status command_data(World *, int argc, char **argv);
extern const char data_help[];

#endif
