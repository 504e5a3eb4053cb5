/* plumb doctor: what this job runs on, how fast it is, and what is wrong with it. */
#ifndef PLUMB_LAUNCH_DOCTOR_H
#define PLUMB_LAUNCH_DOCTOR_H

#include "comm/comm.h"

CHECKED Status command_doctor(World *, int argc, char **argv);
extern const char doctor_help[];

#endif
