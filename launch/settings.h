/* Every setting of a run, one row each. */
#ifndef PLUMB_LAUNCH_SETTINGS_H
#define PLUMB_LAUNCH_SETTINGS_H

#include "engine/base/config.h"

const Setting *settings_table(int *count);

#endif
