/* How threads wait beside other programs: what is read, what is decided, and that it is done. No speed is measured here. */
#include "tests/support.h"

#include "engine/device/device.h"
#include "engine/device/spin.h"

#include <dirent.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static char folder[4096], path[4200];

/* As many threads as a device has. */
static int every(void) { return omp_get_num_procs() > 2 ? omp_get_num_procs() : 2; }

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Of all processors, each has worked for so many ticks. */
static void write_stat(double ticks)
{
    char next[sizeof path + 8];
    (void)snprintf(next, sizeof next, "%s.next", path);
    FILE *file = fopen(next, "w");
    assert_non_null(file);
    (void)fprintf(file, "cpu  1 2 3 4\n");
    for (int i = 0; i < CPU_SETSIZE; ++i)
        (void)fprintf(file, "cpu%d %.0f 0 0 77 5 0 0 0 0 0\n", i, ticks);
    (void)fprintf(file, "intr 1 2 3\n");
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(next, path), 0);
}

static void test_read(void **state)
{
    (void)state;
    const double tick = 1 / (double)sysconf(_SC_CLK_TCK);
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(1, &mask);
    CPU_SET(3, &mask);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "cpu  1 100 100 100 0 0 0 0 0 0\ncpu0 9 9 9 9 0 0\ncpu1 10 2 3 500 7 8 9\ncpu2 9 9 9 9\n"
                  "cpu3 20 0 5 1 0 0 0\nintr 5 5 5 5\n");
    (void)fclose(file);
    assert_float_equal(spin_busy_seconds(path, &mask), 40 * tick, 1e-6);
    CPU_SET(4, &mask); /* of which the file says nothing */
    assert_float_equal(spin_busy_seconds(path, &mask), -1, 0);
    assert_float_equal(spin_busy_seconds("/nowhere/stat", &mask), -1, 0);
}

static void test_decision(void **state)
{
    (void)state;
    /* An idle machine, and one with a little else to do. */
    assert_false(spin_should_yield(false, 2, 2, 0));
    assert_false(spin_should_yield(false, 2, 2, 0.4));
    /* One busy program on two processors, until it has gone. */
    assert_true(spin_should_yield(false, 2, 2, 0.7));
    assert_true(spin_should_yield(true, 2, 2, 0.4));
    assert_false(spin_should_yield(true, 2, 2, 0.2));
    /* Processors enough for all. */
    assert_false(spin_should_yield(false, 64, 8, 50));
    assert_true(spin_should_yield(false, 64, 8, 60));
    /* More threads than processors: these are all that can be had. */
    assert_false(spin_should_yield(false, 2, 8, 0));
    assert_true(spin_should_yield(false, 2, 8, 1));
}

static int threads_of_process(void)
{
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    int count = 0;
    for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;)
        count += entry->d_name[0] != '.';
    (void)closedir(tasks);
    return count;
}

/* Other programs take `share` of each processor until the watch answers so. */
static void until(SpinWatch *watch, bool yields, double share, double *ticks)
{
    const double start = now();
    double last = start;
    while (spin_watch_yields(watch) != yields) {
        const double time = now();
        assert_true(time - start < 60);
        *ticks += share * (time - last) * (double)sysconf(_SC_CLK_TCK);
        last = time;
        write_stat(*ticks);
        (void)usleep(2000);
    }
}

static void need_libgomp(void)
{
#if defined(__clang__)
    print_message("skipped: this OpenMP is not libgomp\n");
    skip();
#endif
}

static void test_watch(void **state)
{
    (void)state;
    need_libgomp();
    double ticks = 1000;
    SpinWatch *watch;
    write_stat(ticks);
#pragma omp parallel num_threads(2)
    (void)omp_get_thread_num();
    const int before = threads_of_process();
    assert_ok(spin_watch_open((SpinOptions){.threads = every(), .stat = path, .period = 0.05}, &watch));
    assert_non_null(watch);
    assert_false(spin_watch_yields(watch));
    for (int round = 0; round < 2; ++round) {
        until(watch, true, 100, &ticks);
        const double start = now();
        while (threads_of_process() < before + 3 &&
               now() - start < 60) /* the watch, and a team of two or more */
            (void)usleep(1000);
        assert_true(threads_of_process() >= before + 3);
        until(watch, false, 0, &ticks);
        while (threads_of_process() > before + 1 && now() - start < 60)
            (void)usleep(1000);
        assert_int_equal(threads_of_process(), before + 1);
    }
    until(watch, true, 100, &ticks);
    spin_watch_close(watch); /* also while it yields */
    const double start = now();
    while (threads_of_process() > before && now() - start < 60)
        (void)usleep(1000);
    assert_int_equal(threads_of_process(), before);
}

static SpinWatch *opened(int threads, const char *stat)
{
    SpinWatch *watch;
    assert_ok(spin_watch_open((SpinOptions){.threads = threads, .stat = stat}, &watch));
    return watch;
}

static void test_nothing_to_watch(void **state)
{
    (void)state;
    need_libgomp();
    write_stat(1);
    assert_null(opened(1, path)); /* waits for nobody */
    assert_null(opened(every(), "/nowhere/stat"));
    for (int i = 0; i < 2; ++i) { /* the user has chosen */
        const char *name = i == 0 ? "OMP_WAIT_POLICY" : "GOMP_SPINCOUNT";
        assert_int_equal(setenv(name, i == 0 ? "active" : "1000", 1), 0);
        assert_null(opened(every(), path));
        assert_int_equal(unsetenv(name), 0);
    }
    SpinWatch *watch = opened(every(), path);
    assert_non_null(watch);
    spin_watch_close(watch);
}

/* A device is opened and closed with its watch, also a second one. */
static void test_opened_device(void **state)
{
    (void)state;
    need_libgomp();
    const int before = threads_of_process();
    Device *device[2];
    for (int i = 0; i < 2; ++i)
        assert_ok(device_open(DEVICE_CPU, 0, every(), &device[i]));
    if (access("/proc/stat", R_OK) == 0) assert_true(threads_of_process() >= before + 2);
    for (int i = 0; i < 2; ++i)
        device_close(device[i]);
}

int main(void)
{
    (void)unsetenv("OMP_WAIT_POLICY"); /* which the suites set */
    (void)unsetenv("GOMP_SPINCOUNT");
    test_scratch_make(folder);
    (void)snprintf(path, sizeof path, "%s/stat", folder);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_decision),
                                       cmocka_unit_test(test_watch), cmocka_unit_test(test_nothing_to_watch),
                                       cmocka_unit_test(test_opened_device)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_scratch_remove(folder);
    return failed;
}
