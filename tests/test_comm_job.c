/* Whole jobs under mpirun, as a user meets them: a rank that is killed, fails, or hangs ends the job soon and
 * says who and why; and ranks share a host's processors. This program starts itself with the name of a part
 * to play. PLUMB_TEST_COLLECTIVE says how the ranks exchange data (mpi, nccl: with the stand-in, sockets:
 * without MPI). */
#include "comm/comm.h"
#include "comm/processors.h"
#include "comm/star/star.h"
#include "engine/base/log.h"
#include "tests/support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { END_WITHIN = 50 /* seconds, on a busy machine; a rank that waits for another waits for 60 */ };

static const char *kind; /* of collective */

static bool is_kind(const char *one) { return strcmp(kind, one) == 0; }

/* ---- the parts that ranks play ---- */

static int play_threads(World *world)
{
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
    printf("rank %d of %d: %d threads on %d processors\n", world->rank, world->size, comm_threads(world),
           CPU_COUNT(&mask));
    comm_stop(world);
    return 0;
}

/* A rank that fails alone returns to main; the others, who do not know, ask each other whether to stop. */
static int play_end(World *world, const char *part)
{
    Status status = OK;
    for (int step = 0; status == OK; ++step) {
        bool stop;
        if (step == 20 && strcmp(part, "all fail") == 0) status = fail(STATUS_IO, "disk full");
        if (step == 20 && strcmp(part, "one fails") == 0 && world->rank == 1)
            status = fail(STATUS_INPUT, "step 20: bad image");
        if (step == 20 && strcmp(part, "all end") == 0) break;
        if (status == OK) status = comm_any(world, false, &stop);
        if (status == OK && stop) return 99; /* it heard something else */
    }
    return comm_finish(world, status);
}

/* Sums for ever, until one rank does what `part` says. */
static int play_training(World *world, const char *part)
{
    Collective *collective = NULL;
    Device *device;
    const CommOptions options = {
        .kind = kind, .timeout_seconds = 60, .step_seconds = strcmp(part, "hang") == 0 ? 5 : 0};
    Status status = device_open(DEVICE_CPU, 0, 1, &device);
    if (status == OK && is_kind("nccl"))
        status = comm_device_collective(world, device, &options, &collective);
    else if (status == OK)
        status = comm_collective(world, strcmp(part, "hang") == 0 ? 5 : 60, &collective);
    if (status != OK) comm_abort(world, status);
    if (strcmp(part, "told") == 0) { /* rank 1 does not come; what has happened is known all the same */
        if (world->rank == 1) {
            star_fail(world->star, STATUS_NUMERIC, "step 20: the GPU is gone");
            (void)pause();
        }
        status = comm_barrier(world);
        if (status_code(status) == STATUS_NUMERIC) log_any_rank("the wait has ended");
        comm_abort(world, status);
    }
    float *values = calloc(100000, sizeof *values);
    if (values == NULL) return 1;
    for (int step = 0;; ++step) {
        if (step == 20 && world->rank == 1) {
            if (strcmp(part, "kill") == 0) (void)raise(SIGKILL);
            if (strcmp(part, "hang") == 0) (void)pause();
            if (strcmp(part, "abort") == 0)
                comm_abort(world, fail(STATUS_NUMERIC, "step 20: the loss is NaN"));
            if (strcmp(part, "leave") == 0) _exit(3);
            if (strcmp(part, "quit") == 0) {
                free(values);
                collective_free(collective);
                device_close(device);
                return comm_finish(world, fail(STATUS_IO, "step 20: the disk is gone"));
            }
        }
        status = collective_sum(collective, (Span){.data = values, .count = 100000, .type = FLOAT32}, NULL);
        if (status == OK) status = collective_join(collective, NULL);
        if (status == OK) status = collective_wait(collective, device, EVERYTHING);
        if (status != OK) comm_abort(world, status);
    }
}

static int play(int argc, char **argv)
{
    const char *part = argv[1];
    World *world;
    Status status = comm_start(&argc, &argv, &world);
    if (status != OK) comm_abort(NULL, status);
    if (strcmp(part, "threads") == 0) return play_threads(world);
    if (strchr(part, ' ') != NULL) return play_end(world, part);
    return play_training(world, part);
}

/* ---- the tests ---- */

typedef struct {
    int exit_code; /* -1: killed by a signal */
    double seconds;
    char output[16384];
} Job;

/* Runs mpirun with these arguments, then this program with `part`. NULL for no mpirun. */
static Job job_run(const char *const arguments[], const char *part)
{
    Job job = {.exit_code = -1};
    char self[4096];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    const char *command[32];
    int count = 0;
    if (arguments != NULL && is_kind("sockets")) {
        command[count++] = TEST_START_RANKS;
        command[count++] = "3";
    } else if (arguments != NULL) {
        command[count++] = "mpirun";
        command[count++] = "--allow-run-as-root";
        command[count++] = "--oversubscribe";
        for (; *arguments != NULL; ++arguments)
            command[count++] = *arguments;
    }
    command[count++] = self;
    command[count++] = part;
    command[count] = NULL;

    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct timespec start, end;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)unsetenv("OMP_NUM_THREADS");
        execvp(command[0], (char *const *)(void *)command);
        _exit(127);
    }
    (void)close(ends[1]);
    size_t filled = 0;
    ssize_t got;
    while ((got = read(ends[0], job.output + filled, sizeof job.output - 1 - filled)) > 0)
        filled += (size_t)got;
    (void)close(ends[0]);
    job.output[filled] = '\0';
    int state;
    assert_int_equal(waitpid(child, &state, 0), child);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    job.seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    job.exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    return job;
}

static void assert_output(const Job *job, const char *text)
{
    if (strstr(job->output, text) == NULL) print_error("no \"%s\" in:\n%s\n", text, job->output);
    assert_non_null(strstr(job->output, text));
}

static const char *const three[] = {"-n", "3", "--bind-to", "none", NULL};

static void test_killed_rank(void **state)
{
    (void)state;
    Job job = job_run(three, "kill");
    assert_true(job.seconds < END_WITHIN);
    /* The other ranks may hear of it before mpirun does. */
    assert_true(job.exit_code == 128 + SIGKILL || (is_kind("nccl") && job.exit_code == STATUS_COMMUNICATION));
}

static void test_failed_rank(void **state)
{
    (void)state;
    Job job = job_run(three, "abort");
    assert_true(job.seconds < END_WITHIN);
    assert_int_equal(job.exit_code, STATUS_NUMERIC);
    assert_output(&job, "rank 1: step 20: the loss is NaN");
}

static void test_rank_that_leaves(void **state)
{
    (void)state;
    Job job = job_run(three, "leave");
    assert_true(job.seconds < END_WITHIN);
    assert_true(job.exit_code == 3 || (!is_kind("mpi") && job.exit_code == STATUS_COMMUNICATION));
}

/* It releases everything before it says why; the others wait for it in the next sum. */
static void test_rank_that_quits(void **state)
{
    (void)state;
    Job job = job_run(three, "quit");
    assert_true(job.seconds < END_WITHIN);
    assert_output(&job, "rank 1: step 20: the disk is gone");
    assert_int_equal(job.exit_code, STATUS_IO);
}

static void test_hung_rank(void **state)
{
    (void)state;
    Job job = job_run(three, "hang");
    /* Without mpirun nobody ends the one that hangs but itself, 10 s later. */
    assert_true(job.seconds < END_WITHIN);
    assert_int_equal(job.exit_code, STATUS_COMMUNICATION);
    assert_output(&job, "waited 5 s for operation ");
    assert_output(&job, "(sum of 100000 float32): rank 1 on host");
    /* Over sockets, a thread answers for a rank that hangs. */
    assert_output(&job, !is_kind("mpi") ? "answers, but has not come to it" : "does not answer");
}

/* Whoever waits for the others in an exchange hears of a failure as one that waits in a sum does. */
static void test_failure_known_to_all(void **state)
{
    (void)state;
    if (is_kind("mpi")) skip(); /* nothing but MPI connects the ranks */
    Job job = job_run(three, "told");
    assert_true(job.seconds < END_WITHIN);
    assert_int_equal(job.exit_code, STATUS_NUMERIC);
    assert_output(&job, "the wait has ended");
    assert_output(&job, "step 20: the GPU is gone");
}

static void test_ends(void **state)
{
    (void)state;
    Job job = job_run(three, "all end");
    assert_int_equal(job.exit_code, 0);
    assert_string_equal(job.output, "");
    job = job_run(three, "all fail");
    assert_int_equal(job.exit_code, STATUS_IO);
    assert_output(&job, "disk full\n");
    assert_null(strstr(strstr(job.output, "disk full") + 1, "disk full")); /* once */
    job = job_run(three, "one fails");
    assert_true(job.seconds < END_WITHIN);
    assert_int_equal(job.exit_code, STATUS_INPUT);
    assert_output(&job, "rank 1: step 20: bad image");
}

/* ---- processors ---- */

static int processors_here(void)
{
    cpu_set_t mask;
    assert_int_equal(sched_getaffinity(0, sizeof mask, &mask), 0);
    const int quota = processors_quota();
    return CPU_COUNT(&mask) < quota ? CPU_COUNT(&mask) : quota;
}

/* mpirun binds one rank to one core by default; the rank must have all of them. */
static void test_threads_of_one_rank(void **state)
{
    (void)state;
    static const char *const one[] = {"-n", "1", NULL};
    char want[128];
    (void)snprintf(want, sizeof want, "rank 0 of 1: %d threads on %d processors", processors_here(),
                   processors_here());
    Job job = job_run(one, "threads");
    assert_int_equal(job.exit_code, 0);
    assert_output(&job, want);
    job = job_run(NULL, "threads"); /* alone, without mpirun */
    assert_int_equal(job.exit_code, 0);
    assert_output(&job, want);
}

static void test_threads_are_shared(void **state)
{
    (void)state;
    static const char *const two[] = {"-n", "2", NULL};
    const int processors = processors_here();
    Job job = job_run(two, "threads");
    assert_int_equal(job.exit_code, 0);
    for (int rank = 0; rank < 2; ++rank) {
        int share = (rank + 1) * processors / 2 - rank * processors / 2;
        if (share < 1) share = 1;
        char want[128];
        (void)snprintf(want, sizeof want, "rank %d of 2: %d threads on %d processors", rank, share, share);
        assert_output(&job, want);
    }
}

/* What the user says about binding stands. */
static void test_chosen_binding_stands(void **state)
{
    (void)state;
    static const char *const bound[] = {"-n", "1", "--bind-to", "core", NULL};
    Job job = job_run(bound, "threads");
    assert_int_equal(job.exit_code, 0);
    char siblings[64] = "", want[64]; /* of the first core: "0", or "0,4" or "0-1" */
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "re");
    if (file != NULL) {
        assert_non_null(fgets(siblings, sizeof siblings, file));
        (void)fclose(file);
    }
    const int share = strpbrk(siblings, ",-") != NULL ? 2 : 1;
    (void)snprintf(want, sizeof want, "rank 0 of 1: %d threads on %d processors", share, share);
    assert_output(&job, want);
}

static void test_slices(void **state)
{
    (void)state;
    for (int processors = 1; processors <= 24; ++processors)
        for (int parts = 1; parts <= 30; ++parts) {
            cpu_set_t all, seen, slice;
            CPU_ZERO(&all);
            CPU_ZERO(&seen);
            for (int i = 0; i < processors; ++i)
                CPU_SET(3 * i + 1, &all);
            int least = processors, most = 0;
            for (int part = 0; part < parts; ++part) {
                processors_slice(&all, part, parts, &slice);
                const int count = CPU_COUNT(&slice);
                if (count < least) least = count;
                if (count > most) most = count;
                cpu_set_t both;
                CPU_AND(&both, &slice, &all);
                assert_true(CPU_EQUAL(&both, &slice));
                CPU_AND(&both, &slice, &seen);
                if (parts <= processors) assert_int_equal(CPU_COUNT(&both), 0);
                CPU_OR(&seen, &seen, &slice);
            }
            assert_true(least >= 1 && most - least <= 1);
            assert_true(CPU_EQUAL(&seen, &all));
        }
}

int main(int argc, char **argv)
{
    kind = getenv("PLUMB_TEST_COLLECTIVE");
    if (kind == NULL) kind = "mpi";
    if (argc > 1) return play(argc, argv);
    const struct CMUnitTest of_processors[] = {
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_threads_of_one_rank),
        cmocka_unit_test(test_threads_are_shared),
        cmocka_unit_test(test_chosen_binding_stands),
    };
    const struct CMUnitTest of_ranks[] = {
        cmocka_unit_test(test_killed_rank),
        cmocka_unit_test(test_failed_rank),
        cmocka_unit_test(test_rank_that_leaves),
        cmocka_unit_test(test_rank_that_quits),
        cmocka_unit_test(test_hung_rank),
        cmocka_unit_test(test_failure_known_to_all),
        cmocka_unit_test(test_ends),
    };
    /* How ranks exchange data has nothing to do with processors: once is enough. */
    int failures = is_kind("mpi") ? cmocka_run_group_tests(of_processors, NULL, NULL) : 0;
    failures += cmocka_run_group_tests(of_ranks, NULL, NULL);
    return failures;
}
