#include "engine/device/spin.h"

#include "engine/base/memory.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ASLEEP = 64 };

/* gcc's OpenMP; clang brings another one. */
#if defined(__clang__)
enum { IS_LIBGOMP = 0 };
#else
enum { IS_LIBGOMP = 1 };
#endif

struct SpinWatch {
    SpinOptions options;
    cpu_set_t mask;
    int processors, asleep; /* threads that make libgomp stop spinning */
    pthread_t thread, sleeper;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool yields, over;
};

/* libgomp counts the processors when it is loaded, and never again; a rank may use fewer of them later. */
static int processors_at_start;
__attribute__((constructor)) static void count_processors(void)
{
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) processors_at_start = CPU_COUNT(&mask);
}

static double clock_seconds(clockid_t clock)
{
    struct timespec time;
    (void)clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

double spin_busy_seconds(const char *path, const cpu_set_t *mask)
{
    char line[512];
    double ticks = 0;
    int found = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) return -1;
    while (fgets(line, sizeof line, file) != NULL) {
        int processor;
        double user, nice, system;
        /* "cpu3 ..."; the line "cpu  ..." is of all of them. */
        if (strncmp(line, "cpu", 3) != 0 || line[3] == ' ') continue;
        if (sscanf(line + 3, "%d %lf %lf %lf", &processor, &user, &nice, &system) != 4) continue;
        if (processor < 0 || processor >= CPU_SETSIZE || !CPU_ISSET((size_t)processor, mask)) continue;
        ticks += user + nice + system;
        ++found;
    }
    (void)fclose(file);
    return found == CPU_COUNT(mask) ? ticks / (double)sysconf(_SC_CLK_TCK) : -1;
}

bool spin_should_yield(bool yields, int processors, int threads, double others)
{
    static const double enough_to_begin = 0.5, enough_to_go_on = 0.3; /* processors that our threads lack */
    const double needed = threads < processors ? threads : processors;
    return needed - (processors - others) > (yields ? enough_to_go_on : enough_to_begin);
}

/* A team of its own, asleep until the watch changes its mind; its threads end with the thread that made them. */
static void *sleep_as_team(void *argument)
{
    SpinWatch *watch = argument;
    int made = 0;
#pragma omp parallel num_threads(watch->asleep)
#pragma omp atomic
    ++made;
    (void)made;
    (void)pthread_mutex_lock(&watch->mutex);
    while (watch->yields)
        (void)pthread_cond_wait(&watch->changed, &watch->mutex);
    (void)pthread_mutex_unlock(&watch->mutex);
    return NULL;
}

/* With the mutex held. */
static void change(SpinWatch *watch, bool yields)
{
    if (watch->yields == yields) return;
    watch->yields = yields;
    if (yields) {
        watch->yields = pthread_create(&watch->sleeper, NULL, sleep_as_team, watch) == 0;
        return;
    }
    (void)pthread_cond_broadcast(&watch->changed);
    (void)pthread_mutex_unlock(&watch->mutex);
    (void)pthread_join(watch->sleeper, NULL);
    (void)pthread_mutex_lock(&watch->mutex);
}

/* With the mutex held; returns whether the watch is over. */
static bool pause_watch(SpinWatch *watch)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    const double wait = watch->options.period + 1e-9 * (double)until.tv_nsec;
    until.tv_sec += (time_t)wait;
    until.tv_nsec = (long)(1e9 * (wait - (double)(time_t)wait));
    while (!watch->over && pthread_cond_timedwait(&watch->changed, &watch->mutex, &until) == 0) {}
    return watch->over;
}

static void *look(void *argument)
{
    SpinWatch *watch = argument;
    const char *stat = watch->options.stat;
    double last = clock_seconds(CLOCK_MONOTONIC), busy = spin_busy_seconds(stat, &watch->mask);
    double ours = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    (void)pthread_mutex_lock(&watch->mutex);
    while (!pause_watch(watch)) {
        const double now = clock_seconds(CLOCK_MONOTONIC), busy_now = spin_busy_seconds(stat, &watch->mask);
        const double ours_now = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
        const double others = (busy_now - busy - (ours_now - ours)) / (now - last);
        if (busy_now >= 0 && busy >= 0)
            change(watch,
                   spin_should_yield(watch->yields, watch->processors, watch->options.threads, others));
        last = now, busy = busy_now, ours = ours_now;
    }
    change(watch, false);
    (void)pthread_mutex_unlock(&watch->mutex);
    return NULL;
}

/* Its threads inherit the mask: signals are for the threads that work. */
static int start_thread(SpinWatch *watch)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&watch->thread, NULL, look, watch);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static void make_clock(SpinWatch *watch)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&watch->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&watch->mutex, NULL);
}

Status spin_watch_open(SpinOptions options, SpinWatch **out)
{
    *out = NULL;
    if (options.stat == NULL) options.stat = "/proc/stat";
    if (options.period <= 0) options.period = 0.25;
    if (!IS_LIBGOMP || options.threads < 2 || getenv("OMP_WAIT_POLICY") != NULL ||
        getenv("GOMP_SPINCOUNT") != NULL)
        return OK;
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0 || spin_busy_seconds(options.stat, &mask) < 0)
        return OK;
    const int spare = processors_at_start - options.threads;
    if (spare + 2 > MOST_ASLEEP) return OK; /* not worth so many threads */
    SpinWatch *watch;
    TRY(memory_new(&watch, 1, sizeof *watch, "the watch of other programs"));
    watch->options = options;
    watch->mask = mask;
    watch->processors = CPU_COUNT(&mask);
    watch->asleep = spare > 0 ? spare + 2 : 2;
    make_clock(watch);
    if (start_thread(watch) != 0) { /* a convenience: without it threads spin as they would */
        (void)pthread_cond_destroy(&watch->changed);
        (void)pthread_mutex_destroy(&watch->mutex);
        free(watch);
        return OK;
    }
    *out = watch;
    return OK;
}

bool spin_watch_yields(SpinWatch *watch)
{
    if (watch == NULL) return false;
    (void)pthread_mutex_lock(&watch->mutex);
    const bool yields = watch->yields;
    (void)pthread_mutex_unlock(&watch->mutex);
    return yields;
}

void spin_watch_close(SpinWatch *watch)
{
    if (watch == NULL) return;
    (void)pthread_mutex_lock(&watch->mutex);
    watch->over = true;
    (void)pthread_cond_broadcast(&watch->changed);
    (void)pthread_mutex_unlock(&watch->mutex);
    (void)pthread_join(watch->thread, NULL);
    (void)pthread_cond_destroy(&watch->changed);
    (void)pthread_mutex_destroy(&watch->mutex);
    free(watch);
}
