#include "launch/train/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 24 };

double progress_clock(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

double progress_rate(const Progress *progress)
{
    const double seconds = progress_clock() - progress->started;
    return seconds > 0 ? (double)progress->samples / seconds : 0;
}

/* mpirun gives its ranks a terminal of their own even when its output goes to a file: then it is mpirun's
 * output that counts, which is that of our parent. */
static bool is_terminal(void)
{
    if (isatty(STDOUT_FILENO) != 1) return false;
    if (getenv("OMPI_COMM_WORLD_SIZE") == NULL) return true;
    char link[64], target[64];
    (void)snprintf(link, sizeof link, "/proc/%ld/fd/1", (long)getppid());
    const ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return false;
    target[length] = '\0';
    return strncmp(target, "/dev/pts/", 9) == 0 || strncmp(target, "/dev/tty", 8) == 0;
}

static void time_text(double seconds, char text[32])
{
    const long long whole = (long long)(seconds + 0.5);
    if (whole >= 3600)
        (void)snprintf(text, 32, "%lld h %02lld min", whole / 3600, whole / 60 % 60);
    else
        (void)snprintf(text, 32, "%lld min %02lld s", whole / 60, whole % 60);
}

void progress_start(Progress *progress, bool speaks, const char *unit, int64_t first_step,
                    int64_t total_steps)
{
    const double now = progress_clock();
    *progress = (Progress){.speaks = speaks,
                           .unit = unit,
                           .terminal = speaks && is_terminal(),
                           .started = now,
                           .drawn = now,
                           .first_step = first_step,
                           .total_steps = total_steps};
}

void progress_step(Progress *progress, int64_t epoch, int64_t epochs, int64_t step, int64_t samples,
                   double loss)
{
    static const double terminal_interval = 0.2, file_interval = 30;
    progress->samples += samples;
    if (!progress->speaks) return;
    const double now = progress_clock();
    if (now - progress->drawn < (progress->terminal ? terminal_interval : file_interval)) return;
    progress->drawn = now;
    const int64_t done = step - progress->first_step;
    const double left =
        done > 0 ? (now - progress->started) / (double)done * (double)(progress->total_steps - step) : 0;
    char left_text[32];
    time_text(left, left_text);
    if (progress->terminal) {
        char bar[BAR + 1];
        for (int i = 0; i < BAR; ++i)
            bar[i] = (int64_t)i * progress->total_steps < step * BAR ? '#' : '.';
        bar[BAR] = '\0';
        (void)printf("\r\033[Kepoch %lld/%lld [%s] loss %.4f  %.0f %s/s  %s left", (long long)(epoch + 1),
                     (long long)epochs, bar, loss, progress_rate(progress), progress->unit, left_text);
    } else {
        (void)printf("epoch %lld/%lld, step %lld of %lld: loss %.4f, %.0f %s/s, %s left\n",
                     (long long)(epoch + 1), (long long)epochs, (long long)step,
                     (long long)progress->total_steps, loss, progress_rate(progress), progress->unit,
                     left_text);
    }
    (void)fflush(stdout);
}

void progress_clear(Progress *progress)
{
    if (!progress->terminal) return;
    (void)printf("\r\033[K");
    (void)fflush(stdout);
}
