#include "tests/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void test_assert_ok(Status status, const char *call, const char *file, int line)
{
    if (status == OK) return;
    print_error("%s\n%s\n%s", call, status_message(status), status_trace(status));
    status_free(status);
    _fail(file, line);
}

void test_assert_fails(Status status, StatusCode code, const char *text, const char *call, const char *file,
                       int line)
{
    if (status == OK) {
        print_error("%s succeeded, but should have failed with \"%s\"\n", call, text);
        _fail(file, line);
        return;
    }
    const bool as_expected = status_code(status) == code && strstr(status_message(status), text) != NULL;
    if (!as_expected)
        print_error("%s failed with code %d: %s\nexpected code %d and \"%s\"\n", call,
                    (int)status_code(status), status_message(status), (int)code, text);
    status_free(status);
    if (!as_expected) _fail(file, line);
}

static void check_close(double got, double want, int64_t index, double relative, double absolute,
                        const char *what)
{
    if (isnan(got) && isnan(want)) return;
    if (got == want) return;
    if (isfinite(want) && fabs(got - want) <= absolute + relative * fabs(want)) return;
    print_error("%s[%lld]: got %.17g, want %.17g (difference %.3g)\n", what, (long long)index, got, want,
                fabs(got - want));
    _fail(__FILE__, __LINE__);
}

void assert_close(const double *got, const double *want, int64_t count, double relative, double absolute,
                  const char *what)
{
    for (int64_t i = 0; i < count; ++i)
        check_close(got[i], want[i], i, relative, absolute, what);
}

void assert_close_float(const float *got, const double *want, int64_t count, double relative, double absolute,
                        const char *what)
{
    for (int64_t i = 0; i < count; ++i)
        check_close((double)got[i], want[i], i, relative, absolute, what);
}

void test_scratch_make(char path[4096])
{
    const char *root = getenv("TMPDIR");
    (void)snprintf(path, 4096, "%s/plumb-test-XXXXXX", root != NULL ? root : "/tmp");
    assert_non_null(mkdtemp(path));
}

void test_scratch_remove(const char *path)
{
    char command[4200];
    assert_non_null(strstr(path, "plumb-test-"));
    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

const char *test_data_or_skip(const char *name)
{
    static char path[4096]; /* valid until the next call */
    const char *root = getenv("PLUMB_DATA");
    (void)snprintf(path, sizeof path, "%s/%s", root != NULL ? root : "../shared/data", name);
    if (access(path, R_OK) != 0) {
        print_message("skipped: %s is absent (set PLUMB_DATA to the folder of real data sets)\n", path);
        skip();
    }
    return path;
}

DeviceKind test_device(void)
{
    const char *wish = getenv("PLUMB_TEST_DEVICE");
    return wish != NULL && strcmp(wish, "cuda") == 0 ? DEVICE_CUDA : DEVICE_CPU;
}

/* In programs whose kernels run on the host (cuda_device_on_host.cc). */
__attribute__((weak)) void enqueue_device_work(void (*run)(void *), void (*drop)(void *), void *argument);

bool test_reads_device_memory(void)
{
    const char *guard = getenv("PLUMB_TEST_GUARD");
    if (test_device() == DEVICE_CPU) return true;
    return enqueue_device_work != NULL && (guard == NULL || guard[0] != '1');
}
