/* The commands translate and score. */
#ifndef PLUMB_LAUNCH_TRANSLATE_COMMAND_H
#define PLUMB_LAUNCH_TRANSLATE_COMMAND_H

#include "comm/comm.h"

extern const char translate_help[], score_help[];
CHECKED Status command_translate(World *, int argc, char **argv);
CHECKED Status command_score(World *, int argc, char **argv);

#endif
