/* How the collective over NCCL orders its operations on the device, with a device that writes down what it is
 * told and the stand-in for the library. */
#include "comm/comm.h"
#include "engine/device/device_methods.h"
#include "tests/support.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static World *world;

/* ---- a device that notes how its streams are ordered ---- */

enum { MOST = 64 };
static char main_stream, own_stream;
static struct {
    Stream stream, earlier;
} followed[MOST];
static int follows, streams_open;

static Status open_stream(Device *device, Stream *stream)
{
    (void)device;
    ++streams_open;
    *stream = &own_stream;
    return OK;
}

static void close_stream(Device *device, Stream stream)
{
    (void)device;
    assert_ptr_equal(stream, &own_stream);
    --streams_open;
}

static Status follow(Device *device, Stream stream, Stream earlier)
{
    (void)device;
    assert_in_range(follows, 0, MOST - 1);
    followed[follows].stream = stream;
    followed[follows].earlier = earlier;
    ++follows;
    return OK;
}

/* As a GPU whose work waits for a rank that does not come, until the communicator is aborted. */
static Collective *hung;

static Status synchronize(Device *device)
{
    (void)device;
    if (hung == NULL) return OK;
    Status status = OK;
    while (status == OK) {
        (void)usleep(10000);
        status = collective_health(hung);
    }
    status_free(status);
    return fail(STATUS_INTERNAL, "the GPU: unspecified launch failure");
}

static const DeviceMethods methods = {.stream_open = open_stream,
                                      .stream_close = close_stream,
                                      .stream_follow = follow,
                                      .synchronize = synchronize};
static Device device = {.kind = DEVICE_CPU, .methods = &methods, .stream = &main_stream};

static Collective *collective_new(void)
{
    Collective *collective;
    const CommOptions options = {.kind = "nccl", .timeout_seconds = 60};
    assert_ok(comm_device_collective(world, &device, &options, &collective));
    return collective;
}

/* The stream of the library's last operation; forgotten then. */
static void *stream_given(void)
{
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    void **stream = dlsym(library, "nccl_stand_in_stream");
    assert_non_null(stream);
    void *given = *stream;
    *stream = NULL;
    return given;
}

static void assert_followed(int count, Stream stream, Stream earlier)
{
    assert_int_equal(follows, count);
    assert_ptr_equal(followed[count - 1].stream, stream);
    assert_ptr_equal(followed[count - 1].earlier, earlier);
}

/* ---- tests ---- */

static void test_streams(void **state)
{
    (void)state;
    Collective *collective = collective_new();
    assert_int_equal(streams_open, 1);
    float values[4] = {1, 2, 3, 4}, all[16] = {0};
    const Span span = {values, 4, FLOAT32};

    /* An operation has its own stream, and waits there for what makes its operand. */
    assert_ok(collective_sum(collective, span, &main_stream));
    assert_followed(1, &own_stream, &main_stream);
    assert_ptr_equal(stream_given(), &own_stream);
    assert_ok(collective_gather(collective, span, (Span){all, 4L * world->size, FLOAT32}, &main_stream));
    assert_followed(2, &own_stream, &main_stream);
    assert_ptr_equal(stream_given(), &own_stream);
    assert_ok(collective_broadcast(collective, span, 0, &main_stream));
    assert_followed(3, &own_stream, &main_stream);
    assert_ptr_equal(stream_given(), &own_stream);

    /* Nothing to do is not done. */
    assert_ok(collective_sum(collective, (Span){values, 0, FLOAT32}, &main_stream));
    assert_int_equal(follows, 3);
    assert_null(stream_given());

    /* And the device's stream goes on without it until join. */
    assert_ok(collective_health(collective));
    assert_int_equal(follows, 3);
    assert_ok(collective_join(collective, &main_stream));
    assert_followed(4, &main_stream, &own_stream);
    /* Once: a recording of a step without operations must not wait for a stream outside of it. */
    assert_ok(collective_join(collective, &main_stream));
    assert_int_equal(follows, 4);
    assert_ok(collective_sum(collective, span, &main_stream));
    assert_ok(collective_join(collective, &main_stream));
    assert_followed(6, &main_stream, &own_stream);
    assert_ok(collective_wait(collective, &device, EVERYTHING));
    collective_free(collective);
    assert_int_equal(streams_open, 0);
}

static void test_user_chooses_the_algorithm(void **state)
{
    (void)state;
    (void)unsetenv("NCCL_ALGO");
    (void)setenv("NCCL_PROTO", "LL128", 1);
    Collective *collective = collective_new();
    collective_free(collective);
    assert_null(getenv("NCCL_ALGO"));
    const CommOptions options = {.kind = "nccl", .timeout_seconds = 60, .deterministic = true};
    assert_ok(comm_device_collective(world, &device, &options, &collective));
    collective_free(collective);
    assert_string_equal(getenv("NCCL_ALGO"), "Ring");
    assert_string_equal(getenv("NCCL_PROTO"), "LL128");
    assert_string_equal(getenv("NCCL_GRAPH_REGISTER"), "0");
}

/* What would hang or crash is refused. */
static void test_device_that_does_not_fit(void **state)
{
    (void)state;
    Device gpu = device;
    gpu.kind = DEVICE_CUDA;
    Collective *collective = NULL;
    CommOptions options = {.kind = "mpi", .timeout_seconds = 60};
    assert_fails(comm_device_collective(world, &gpu, &options, &collective), STATUS_INPUT,
                 "MPI moves host memory only");
    options.kind = "auto";
    assert_ok(comm_device_collective(world, &gpu, &options, &collective));
    assert_int_equal(streams_open, 1); /* it is NCCL's */
    collective_free(collective);
    assert_ok(comm_device_collective(world, &device, &options, &collective));
    assert_int_equal(streams_open, 0); /* and this is MPI's */
    collective_free(collective);
}

/* The last one: the ranks do not come back from it. */
static void test_step_that_takes_too_long(void **state)
{
    (void)state;
    Collective *collective;
    const CommOptions options = {.kind = "nccl", .timeout_seconds = 60, .step_seconds = 1};
    assert_ok(comm_device_collective(world, &device, &options, &collective));
    assert_ok(collective_wait(collective, &device, EVERYTHING));
    assert_ok(comm_barrier(world));
    hung = collective;
    assert_fails(collective_wait(collective, &device, EVERYTHING), STATUS_COMMUNICATION,
                 " waited 1 s for the step of all ranks: ");
    float value = 0;
    assert_fails(collective_sum(collective, (Span){&value, 1, FLOAT32}, &main_stream), STATUS_COMMUNICATION,
                 " waited 1 s for the step of all ranks: ");
    assert_fails(collective_join(collective, &main_stream), STATUS_COMMUNICATION, " waited 1 s ");
    collective_free(collective);
}

int main(int argc, char **argv)
{
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1); /* after one failure the ranks are out of step */
    const Status status = comm_start(&argc, &argv, &world);
    if (status != OK) comm_abort(world, status);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_user_chooses_the_algorithm),
        cmocka_unit_test(test_device_that_does_not_fit),
        cmocka_unit_test(test_step_that_takes_too_long),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0) return 1;
    comm_stop(world);
    return 0;
}
