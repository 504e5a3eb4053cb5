/* The program's commands: one visible table. Adding one is a new file and one row. */
#ifndef PLUMB_LAUNCH_COMMAND_H
#define PLUMB_LAUNCH_COMMAND_H

#include "comm/comm.h"
#include "engine/base/status.h"

typedef struct {
    const char *name;
    const char *summary; /* one line */
    const char *help;    /* what `plumb NAME --help` prints */
    /* argv[0] is the command's name. Collective: every rank calls it with the same arguments. */
    Status (*run)(World *, int argc, char **argv);
} Command;

const Command *command_table(int *count);

/* Runs `plumb ARGUMENTS`; argv[0] is the program. */
CHECKED Status command_run(World *, int argc, char **argv);

#endif
