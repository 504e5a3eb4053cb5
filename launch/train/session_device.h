/* The device that a rank works on. */
#ifndef PLUMB_LAUNCH_TRAIN_SESSION_DEVICE_H
#define PLUMB_LAUNCH_TRAIN_SESSION_DEVICE_H

#include "comm/comm.h"
#include "launch/train/experiment.h"

/* The device that the experiment wishes for: of GPUs that of this rank's place on the host. Not collective. */
CHECKED Status session_open_device(const World *, const Experiment *, Device **);

/* STATUS_INPUT where ranks are on devices of different kinds, or, unless they may share, two on one GPU. Collective. */
CHECKED Status session_check_devices(World *, Device *, const Experiment *);

#endif
