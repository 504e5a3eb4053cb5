/* plumb list models|losses|datasets|settings: what there is, from the tables. */
#ifndef PLUMB_LAUNCH_LIST_H
#define PLUMB_LAUNCH_LIST_H

#include "comm/comm.h"

CHECKED Status command_list(World *, int argc, char **argv);
extern const char list_help[];

#endif
