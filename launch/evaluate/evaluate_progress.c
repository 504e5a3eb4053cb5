#include "launch/evaluate/evaluate.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static double clock_now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void evaluate_progress_start(EvaluateProgress *progress, bool wanted, int stages)
{
    *progress = (EvaluateProgress){
        .shown = wanted && isatty(STDERR_FILENO) == 1, .started = clock_now(), .stages = stages};
}

void evaluate_progress(void *of, double done)
{
    static const double patience = 2; /* seconds without a word */
    const EvaluateProgress *progress = of;
    const double share = (progress->stage + done) / progress->stages,
                 seconds = clock_now() - progress->started;
    if (!progress->shown || seconds < patience || !(share > 0)) return;
    const double left = seconds / share - seconds;
    (void)fprintf(stderr, "\r\033[Kintervals: %.0f %% done, %.0f s left", 100 * share, left);
    (void)fflush(stderr);
}

void evaluate_progress_end(EvaluateProgress *progress)
{
    if (progress->shown) (void)fputs("\r\033[K", stderr);
    progress->shown = false;
}
