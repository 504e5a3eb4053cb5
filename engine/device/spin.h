/* How threads of the CPU wait for one another beside other programs.
 *
 * A thread of OpenMP that waits for the others spins for milliseconds before it sleeps. On processors that have nothing else to do nothing is
 * faster. Beside a busy program it takes the processor from the thread that it waits for: two threads on two cores then do less than one would,
 * as little as a fourth. libgomp spins a thousandth as long while there are more OpenMP threads than processors (GOMP_SPINCOUNT in its manual). So a
 * watch looks several times a second at what other programs take of our processors, and while that is what our threads need, it
 * keeps so many threads of OpenMP asleep that libgomp stops spinning. The number of threads that work, and so every result,
 * stays the same. Built with clang, whose OpenMP does otherwise, nothing is watched. */
#ifndef PLUMB_ENGINE_DEVICE_SPIN_H
#define PLUMB_ENGINE_DEVICE_SPIN_H

#include "engine/base/status.h"

#include <sched.h>
#include <stdbool.h>

typedef struct SpinWatch SpinWatch;

typedef struct {
    int threads;      /* of the device's teams */
    const char *stat; /* a file like /proc/stat; NULL: that one */
    double period;    /* seconds between two looks; 0: 0.25 */
} SpinOptions;

/* Begins to watch the processors that the calling thread may use. *watch is NULL, which spin_watch_close takes, where there is nothing to
 * do: one thread waits for nobody, OMP_WAIT_POLICY and GOMP_SPINCOUNT are the user's choice, and a kernel may not
 * say what others take. */
CHECKED Status spin_watch_open(SpinOptions, SpinWatch **);
void spin_watch_close(SpinWatch *);
/* Whether threads sleep at once now. */
bool spin_watch_yields(SpinWatch *);

/* Seconds that the processors of the mask have worked since the machine started, by a file like /proc/stat; -1 if the file
 * cannot be read or lacks one of them. Its clock has ticks of 10 ms. */
double spin_busy_seconds(const char *path, const cpu_set_t *);

/* Whether threads should sleep at once, where `others` are the processors, of all, that other programs keep busy. `yields` is the
 * answer of before: it takes more to change it than a look's error. */
bool spin_should_yield(bool yields, int processors, int threads, double others);

#endif
