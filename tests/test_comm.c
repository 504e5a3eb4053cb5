/* Collectives and agreement at any number of ranks, with results known in advance. PLUMB_TEST_COLLECTIVE says
 * which kind (mpi, nccl: with the stand-in for the library). */
#include "comm/comm.h"
#include "tests/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static World *world;
static Device *device;
static const char *kind; /* of collective */
static bool sockets;     /* connect the ranks, not MPI */

static const int64_t counts[] = {0, 1, 3, 64, 1000003};
static const DType types[] = {FLOAT32, BFLOAT16, FLOAT64, INT32, INT64, UINT8};
enum { COUNTS = sizeof counts / sizeof *counts, TYPES = sizeof types / sizeof *types };

static void store(void *data, DType type, int64_t i, int64_t value)
{
    switch (type) {
    case FLOAT32:
        ((float *)data)[i] = (float)value;
        break;
    case BFLOAT16:
        ((bfloat16 *)data)[i] = bfloat16_from_float((float)value);
        break;
    case FLOAT64:
        ((double *)data)[i] = (double)value;
        break;
    case INT32:
        ((int32_t *)data)[i] = (int32_t)value;
        break;
    case INT64:
        ((int64_t *)data)[i] = value;
        break;
    default:
        ((uint8_t *)data)[i] = (uint8_t)value;
        break;
    }
}

static double load(const void *data, DType type, int64_t i)
{
    switch (type) {
    case FLOAT32:
        return (double)((const float *)data)[i];
    case BFLOAT16:
        return (double)bfloat16_to_float(((const bfloat16 *)data)[i]);
    case FLOAT64:
        return ((const double *)data)[i];
    case INT32:
        return (double)((const int32_t *)data)[i];
    case INT64:
        return (double)((const int64_t *)data)[i];
    default:
        return (double)((const uint8_t *)data)[i];
    }
}

/* Small enough that sums over four ranks are exact in every type, bfloat16 with its 8 bits included. */
static int64_t value_at(int64_t i, int rank) { return (i % 7) * (rank + 1) + i % 5; }

static int64_t sum_at(int64_t i)
{
    int64_t sum = 0;
    for (int rank = 0; rank < world->size; ++rank)
        sum += value_at(i, rank);
    return sum;
}

static Span span_new(DType type, int64_t count)
{
    Span span = {.data = malloc((size_t)count * dtype_size(type) + 1), .count = count, .type = type};
    assert_non_null(span.data);
    return span;
}

static Span span_filled(DType type, int64_t count, int rank)
{
    const Span span = span_new(type, count);
    for (int64_t i = 0; i < count; ++i)
        store(span.data, type, i, value_at(i, rank));
    return span;
}

#define assert_element(condition, ...)                                                                       \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            print_error(__VA_ARGS__);                                                                        \
            assert_true(condition);                                                                          \
        }                                                                                                    \
    } while (0)

static void assert_sum(Span span)
{
    for (int64_t i = 0; i < span.count; ++i)
        assert_element(load(span.data, span.type, i) == (double)sum_at(i),
                       "%s[%lld] of %lld is %g, not %lld\n", dtype_name(span.type), (long long)i,
                       (long long)span.count, load(span.data, span.type, i), (long long)sum_at(i));
}

static Collective *collective_new(double timeout)
{
    Collective *collective;
    const CommOptions options = {.kind = kind, .timeout_seconds = timeout, .deterministic = true};
    assert_ok(comm_device_collective(world, device, &options, &collective));
    return collective;
}

static Status join(Collective *collective)
{
    TRY(collective_join(collective, device_stream(device)));
    return collective_wait(collective, device, EVERYTHING);
}

static double now(void)
{
    struct timespec time;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &time), 0);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void test_world(void **state)
{
    (void)state;
    const char *ranks = getenv(sockets ? "WORLD_SIZE" : "OMPI_COMM_WORLD_SIZE");
    if (ranks != NULL) assert_int_equal(world->size, atoi(ranks));
    assert_in_range(world->rank, 0, world->size - 1);
    assert_int_equal(world->local_size, world->size); /* the test runs on one host */
    assert_int_equal(world->local_rank, world->rank);
    assert_true(strlen(world->host) > 0);
    assert_true(comm_threads(world) >= 1);
    Collective *collective = collective_new(60);
    assert_int_equal(collective->rank, world->rank);
    assert_int_equal(collective->size, world->size);
    collective_free(collective);
    assert_fails(comm_collective(world, 0, &collective), STATUS_INPUT, "must be positive");
}

static void test_sum(void **state)
{
    (void)state;
    Collective *collective = collective_new(60);
    for (int t = 0; t < TYPES; ++t)
        for (int c = 0; c < COUNTS; ++c) {
            const Span span = span_filled(types[t], counts[c], world->rank);
            assert_ok(collective_sum(collective, span, NULL));
            assert_ok(join(collective));
            assert_sum(span);
            free(span.data);
        }
    collective_free(collective);
}

static void test_gather(void **state)
{
    (void)state;
    Collective *collective = collective_new(60);
    for (int t = 0; t < TYPES; ++t)
        for (int c = 0; c < COUNTS; ++c)
            for (int in_place = 0; in_place < 2; ++in_place) {
                Span part = span_filled(types[t], counts[c], world->rank);
                const Span all = span_new(types[t], counts[c] * world->size);
                if (in_place && counts[c] > 0) {
                    char *mine = (char *)all.data + (size_t)(world->rank * counts[c]) * dtype_size(types[t]);
                    memcpy(mine, part.data, (size_t)counts[c] * dtype_size(types[t]));
                    free(part.data);
                    part.data = mine;
                }
                assert_ok(collective_gather(collective, part, all, NULL));
                assert_ok(join(collective));
                for (int rank = 0; rank < world->size; ++rank)
                    for (int64_t i = 0; i < counts[c]; ++i)
                        assert_element(
                            load(all.data, types[t], rank * counts[c] + i) == (double)value_at(i, rank),
                            "element %lld of rank %d's %lld\n", (long long)i, rank, (long long)counts[c]);
                if (!in_place || counts[c] == 0) free(part.data);
                free(all.data);
            }
    const Span part = span_filled(FLOAT32, 4, world->rank);
    const Span wrong = {.data = part.data, .count = 4 * world->size - 1, .type = FLOAT32};
    assert_fails(collective_gather(collective, part, wrong, NULL), STATUS_INTERNAL, "gather of 4 float32");
    free(part.data);
    collective_free(collective);
}

static void test_broadcast(void **state)
{
    (void)state;
    Collective *collective = collective_new(60);
    for (int root = 0; root < world->size; ++root)
        for (int t = 0; t < TYPES; ++t)
            for (int c = 0; c < COUNTS; ++c) {
                const Span span = span_filled(types[t], counts[c], world->rank);
                assert_ok(collective_broadcast(collective, span, root, NULL));
                assert_ok(join(collective));
                for (int64_t i = 0; i < counts[c]; ++i)
                    assert_element(load(span.data, types[t], i) == (double)value_at(i, root),
                                   "element %lld of %lld from rank %d\n", (long long)i, (long long)counts[c],
                                   root);
                free(span.data);
            }
    const Span span = span_filled(FLOAT32, 4, world->rank);
    assert_fails(collective_broadcast(collective, span, world->size, NULL), STATUS_INTERNAL,
                 "broadcast from rank");
    free(span.data);
    collective_free(collective);
}

/* As a backward pass does it: buckets of many sizes and kinds, computation and health between, one join. */
static void test_many_outstanding(void **state)
{
    (void)state;
    enum { BUCKETS = 60 };
    Collective *collective = collective_new(60);
    for (int round = 0; round < 3; ++round) {
        Span bucket[BUCKETS], part[BUCKETS], all[BUCKETS];
        for (int b = 0; b < BUCKETS; ++b) {
            const DType type = types[b % TYPES];
            const int64_t count = b % 10 == 9 ? 700001 : (int64_t)b * b * 13;
            bucket[b] = span_filled(type, count, world->rank);
            part[b] = span_filled(type, b, world->rank);
            all[b] = span_new(type, (int64_t)b * world->size);
            assert_ok(collective_sum(collective, bucket[b], NULL));
            assert_ok(collective_gather(collective, part[b], all[b], NULL));
            /* Ranks are out of step with each other. */
            if ((b + world->rank) % 7 == 0) usleep(2000);
            assert_ok(collective_health(collective));
        }
        assert_ok(join(collective));
        for (int b = 0; b < BUCKETS; ++b) {
            assert_sum(bucket[b]);
            for (int rank = 0; rank < world->size; ++rank)
                for (int64_t i = 0; i < b; ++i)
                    assert_true(load(all[b].data, all[b].type, rank * b + i) == (double)value_at(i, rank));
            free(bucket[b].data);
            free(part[b].data);
            free(all[b].data);
        }
    }
    collective_free(collective);
}

/* Sums that are not exact: the same bits on all ranks and each time, also among other traffic. */
static void test_same_bits(void **state)
{
    (void)state;
    enum { COUNT = 700003 };
    Collective *collective = collective_new(60);
    float *first = malloc(COUNT * sizeof *first), *again = malloc(COUNT * sizeof *again);
    double *exact = calloc(COUNT, sizeof *exact);
    assert_true(first != NULL && again != NULL && exact != NULL);
    for (int repeat = 0; repeat < 4; ++repeat) {
        float *values = repeat == 0 ? first : again;
        for (int rank = 0; rank < world->size; ++rank)
            for (int64_t i = 0; i < COUNT; ++i) {
                const uint32_t bits = (uint32_t)i * 2654435761U ^ (uint32_t)(rank + 1) * 0x9e3779b9U;
                const float value = ((float)(bits >> 8) - 8388608.0F) * (bits & 1 ? 1e-3F : 1e-9F);
                if (rank == world->rank) values[i] = value;
                if (repeat == 0) exact[i] += (double)value;
            }
        float other[1000] = {0};
        if (repeat % 2 == 1)
            assert_ok(
                collective_sum(collective, (Span){.data = other, .count = 1000, .type = FLOAT32}, NULL));
        if (repeat == 2 && world->rank == 0) usleep(20000);
        assert_ok(collective_sum(collective, (Span){.data = values, .count = COUNT, .type = FLOAT32}, NULL));
        assert_ok(join(collective));
        assert_ok(comm_check_equal(world, values, COUNT * sizeof *values, "the sum"));
        if (repeat > 0) assert_memory_equal(first, again, COUNT * sizeof *first);
    }
    assert_close_float(first, exact, COUNT, 1e-6, 1e-2, "sum");
    free(first);
    free(again);
    free(exact);
    collective_free(collective);
}

static void test_agree(void **state)
{
    (void)state;
    assert_ok(comm_agree(world, OK));
    const int last = world->size - 1;

    /* One fails, and comes late. */
    if (world->rank == last) usleep(100000);
    Status status =
        comm_agree(world, world->rank == last ? fail(STATUS_INPUT, "file %s is empty", "a.gz") : OK);
    assert_true(status != OK);
    assert_int_equal(status_code(status), STATUS_INPUT);
    char want[64];
    (void)snprintf(want, sizeof want, "rank %d: file a.gz is empty", last);
    assert_string_equal(status_message(status), world->size == 1 ? "file a.gz is empty" : want);
    status_free(status);

    /* All fail alike. */
    status = comm_agree(world, fail(STATUS_IO, "disk full"));
    assert_int_equal(status_code(status), STATUS_IO);
    assert_string_equal(status_message(status), "disk full");
    status_free(status);

    /* All fail, each in its way: the lowest rank's message, on all. */
    status =
        comm_agree(world, fail(world->rank == 0 ? STATUS_NUMERIC : STATUS_IO, "mine is %d", world->rank));
    assert_int_equal(status_code(status), STATUS_NUMERIC);
    assert_string_equal(status_message(status), world->size == 1 ? "mine is 0" : "rank 0: mine is 0");
    status_free(status);
    assert_ok(comm_agree(world, OK));
    assert_ok(comm_barrier(world));
}

static void test_any(void **state)
{
    (void)state;
    bool any = true;
    assert_ok(comm_any(world, false, &any));
    assert_false(any);
    for (int rank = 0; rank < world->size; ++rank) {
        assert_ok(comm_any(world, rank == world->rank, &any));
        assert_true(any);
    }
    assert_ok(comm_any(world, true, &any));
    assert_true(any);
}

static void test_check_equal(void **state)
{
    (void)state;
    char text[] = "learning_rate: 0.1";
    assert_ok(comm_check_equal(world, text, sizeof text, "config"));
    assert_ok(comm_check_equal(world, NULL, 0, "nothing"));
    if (world->size == 1) return;
    const int last = world->size - 1;
    char want[64];
    (void)snprintf(want, sizeof want, "config of rank %d on host", last);
    if (world->rank == last) text[17] = '2';
    assert_fails(comm_check_equal(world, text, sizeof text, "config"), STATUS_COMMUNICATION, want);
    text[17] = '1';
    assert_fails(comm_check_equal(world, text, sizeof text - (world->rank == last), "config"),
                 STATUS_COMMUNICATION, "has 18 bytes");
    assert_ok(comm_check_equal(world, text, sizeof text, "config"));
}

/* The last rank does not come to the second sum in time: the others must say so, and which, before it comes. */
static void stall(bool answering, const char *said)
{
    if (world->size == 1 || strcmp(kind, "mpi") != 0) skip();
    const int last = world->size - 1;
    Collective *collective = collective_new(world->rank == last ? 60 : 1);
    Collective *patient = collective_new(60); /* agreement, too, waits as long as the newest */
    Span first = span_filled(FLOAT32, 1000, world->rank), second = span_filled(FLOAT32, 1003, world->rank);
    assert_ok(collective_sum(patient, first, NULL));
    assert_ok(join(patient));
    char given_up[64] = "", names[8 * sizeof given_up]; /* a file, which gets a byte of each rank that has */
    if (world->rank == 0) {
        (void)strcpy(given_up, "/tmp/plumb-test-XXXXXX");
        (void)close(mkstemp(given_up));
    }
    assert_ok(comm_gather(world, given_up, sizeof given_up, names, "the file's name"));
    memcpy(given_up, names, sizeof given_up);
    if (world->rank == last) {
        struct stat file = {.st_size = 0};
        for (const double start = now(); file.st_size < last && now() - start < 300;
             (void)stat(given_up, &file))
            if (answering) {
                usleep(1000);
                assert_ok(collective_health(collective));
            } else {
                sleep(1);
            }
    }
    assert_ok(collective_sum(collective, second, NULL));
    if (world->rank == last) {
        assert_ok(join(collective));
        assert_sum(second);
    } else {
        char want[512];
        (void)snprintf(want, sizeof want, "(sum of 1003 float32): rank %d on host %s %s", last, world->host,
                       said);
        const Status status = collective_join(collective, NULL);
        assert_true(status != OK);
        const char *message = status_message(status);
        assert_non_null(strstr(message, "waited 1 s for operation "));
        assert_non_null(strstr(message, want));
        /* Nobody else is accused. */
        for (int rank = 0; rank < last; ++rank) {
            (void)snprintf(want, sizeof want, ": rank %d on host", rank);
            assert_null(strstr(message, want));
        }
        assert_int_equal(status_code(status), STATUS_COMMUNICATION);
        status_free(status);
        /* It stays failed. */
        assert_fails(collective_health(collective), STATUS_COMMUNICATION, "(sum of 1003 float32)");
        assert_fails(collective_sum(collective, first, NULL), STATUS_COMMUNICATION, "(sum of 1003 float32)");
        if (sockets) { /* nothing is written to it any more */
            free(second.data);
            second.data = NULL;
        }
        const int file = open(given_up, O_WRONLY | O_APPEND);
        assert_int_equal(write(file, "!", 1), 1);
        (void)close(file);
    }
    assert_ok(comm_barrier(world));
    if (world->rank == 0) (void)unlink(given_up);
    /* It has come meanwhile, so the ranks are in step again. */
    if (world->rank != last)
        assert_fails(collective_health(collective), STATUS_COMMUNICATION, "(sum of 1003 float32)");
    collective_free(collective);
    collective_free(patient);
    free(first.data);
    free(second.data);
}

static void test_hung_rank(void **state)
{
    (void)state;
    stall(false, sockets ? "answers, but has not come to it" : "does not answer"); /* or its thread does */
}

static void test_late_rank(void **state)
{
    (void)state;
    stall(true, "answers, but has not come to it");
}

int main(int argc, char **argv)
{
    /* After one failure the ranks are out of step: end all of them at once. */
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    kind = getenv("PLUMB_TEST_COLLECTIVE");
    if (kind == NULL) kind = "mpi";
    sockets = getenv("PLUMB_RENDEZVOUS") != NULL;
    Status status = comm_start(&argc, &argv, &world);
    if (status == OK) status = device_open(DEVICE_CPU, 0, 1, &device);
    if (status != OK) comm_abort(world, status);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_world),
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_broadcast),
        cmocka_unit_test(test_many_outstanding),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_agree),
        cmocka_unit_test(test_any),
        cmocka_unit_test(test_check_equal),
        cmocka_unit_test(test_hung_rank),
        cmocka_unit_test(test_late_rank),
        cmocka_unit_test(test_agree), /* still works after that */
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0) return 1;
    device_close(device);
    comm_stop(world);
    return 0;
}
