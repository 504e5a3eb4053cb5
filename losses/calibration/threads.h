/* How many threads a loop of evaluation uses. Internal to losses/. */
#ifndef PLUMB_LOSSES_CALIBRATION_THREADS_H
#define PLUMB_LOSSES_CALIBRATION_THREADS_H

#include <omp.h>
#include <stdint.h>

/* threads: 0 means as OpenMP says. No more than there are items. */
static inline int team_size(int threads, int64_t items)
{
    const int most = threads > 0 ? threads : omp_get_max_threads();
    return items < most ? (items < 1 ? 1 : (int)items) : most;
}

#endif
