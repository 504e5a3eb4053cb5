#include "launch/train/progress.h"

#include "engine/base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 24, SHORT_BAR = 10, USUAL_WIDTH = 80 };

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

/* As it is now: a window may be made narrower. mpirun's terminal for its ranks has no width; its own has. */
static int terminal_width(void)
{
    struct winsize size = {.ws_col = 0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    char name[64];
    (void)snprintf(name, sizeof name, "/proc/%ld/fd/1", (long)getppid());
    const int parent = open(name, O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (parent >= 0) {
        const bool known = ioctl(parent, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
        (void)close(parent);
        if (known) return size.ws_col;
    }
    const char *columns = getenv("COLUMNS");
    const long given = columns != NULL ? strtol(columns, NULL, 10) : 0;
    return given > 0 && given < PROGRESS_LINE ? (int)given : USUAL_WIDTH;
}

/* The bar, of `width` signs; nothing for 0. */
static void bar_text(double done, int width, char text[BAR + 4])
{
    char signs[BAR + 1] = "";
    for (int i = 0; i < width && i < BAR; ++i)
        signs[i] = i < done * width ? '#' : '.';
    (void)snprintf(text, BAR + 4, width > 0 ? "[%s] " : "%s", signs);
}

void progress_line(const ProgressParts *parts, int width, char line[PROGRESS_LINE])
{
    /* From the whole line to what is left of it where there is no room. */
    static const struct {
        int bar;
        bool rate, left, loss;
    } forms[] = {
        {BAR, true, true, true}, {SHORT_BAR, true, true, true}, {0, true, true, true},
        {0, false, true, true},  {0, false, true, false},       {0, false, false, false},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; ++i) {
        char bar[BAR + 4], loss[32] = "", rate[64] = "", left[48] = "";
        bar_text(parts->done, forms[i].bar, bar);
        if (forms[i].loss) (void)snprintf(loss, sizeof loss, "loss %.4f", parts->loss);
        if (forms[i].rate) (void)snprintf(rate, sizeof rate, "  %.0f %.30s/s", parts->rate, parts->unit);
        if (forms[i].left)
            (void)snprintf(left, sizeof left, "%s%s left", forms[i].loss ? "  " : "", parts->left);
        const int length = snprintf(line, PROGRESS_LINE, "epoch %lld/%lld %s%s%s%s", (long long)parts->epoch,
                                    (long long)parts->epochs, bar, loss, rate, left);
        if (length < width) return; /* the last column stays free: some terminals wrap there */
    }
    if (width > 0 && width <= PROGRESS_LINE) line[width - 1] = '\0';
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
        const ProgressParts parts = {
            .epoch = epoch + 1,
            .epochs = epochs,
            .done = progress->total_steps > 0 ? (double)step / (double)progress->total_steps : 0,
            .loss = loss,
            .rate = progress_rate(progress),
            .unit = progress->unit,
            .left = left_text};
        char line[PROGRESS_LINE];
        progress_line(&parts, terminal_width(), line);
        (void)printf("\r\033[K%s", line);
        log_open_line(true);
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
    log_open_line(false);
}
