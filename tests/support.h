/* What the test suites share: assertions on Status, scratch folders. */
#ifndef PLUMB_TESTS_SUPPORT_H
#define PLUMB_TESTS_SUPPORT_H

#include <setjmp.h> /* cmocka.h needs these four before it */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* status.h has a function of that name; a test that must fail here says assert_true(false) */

#include "engine/base/npy.h"
#include "engine/base/status.h"
#include "engine/device/device.h"

#include <stdbool.h>

/* Fails the test with the error's message and trail. */
#define assert_ok(call) test_assert_ok((call), #call, __FILE__, __LINE__)
void test_assert_ok(Status status, const char *call, const char *file, int line);

/* The call must fail with `code` and a message that contains `text`. */
#define assert_fails(call, code, text) test_assert_fails((call), (code), (text), #call, __FILE__, __LINE__)
void test_assert_fails(Status status, StatusCode code, const char *text, const char *call, const char *file,
                       int line);

/* |got - want| <= absolute + relative * |want|; NaN equals NaN. Names the index of the worst element. */
void assert_close(const double *got, const double *want, int64_t count, double relative, double absolute,
                  const char *what);
void assert_close_float(const float *got, const double *want, int64_t count, double relative, double absolute,
                        const char *what);

/* A new empty folder under $TMPDIR, removed by test_scratch_remove. */
void test_scratch_make(char path[4096]);
void test_scratch_remove(const char *path);

/* The device to test: DEVICE_CUDA if the environment has PLUMB_TEST_DEVICE=cuda (a GPU, or the kernels on the
 * host, as the suite is linked), else DEVICE_CPU. */
DeviceKind test_device(void);
/* Is that device's memory the host's? True of the CPU, and of kernels on the host unless the environment has
 * PLUMB_TEST_GUARD=1. */
bool test_reads_device_memory(void);

/* $PLUMB_DATA/NAME if it exists, else prints that the test is skipped and calls skip(). */
const char *test_data_or_skip(const char *name);

#endif
