/* Connections over TCP: ranks are threads here. What comes from strangers, who is missing, and every way to
 * be lost; and how ranks find one another without MPI. */
#include "comm/launcher.h"
#include "comm/star/rendezvous.h"
#include "comm/star/star_frames.h"
#include "tests/support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RANKS = 3 };

/* ---- ranks ---- */

static StarOptions options_of(int rank, int size)
{
    return (StarOptions){.rank = rank,
                         .size = size,
                         .host = rank == 0 ? "here" : "there",
                         .start_seconds = 60,
                         .heartbeat_timeout = 60};
}

static Status find_given(void *context, StarAddress *address)
{
    *address = *(const StarAddress *)context;
    return OK;
}

typedef struct {
    StarOptions options;
    Hub *hub;
    StarAddress address;
    Star *star;
    Status status; /* of opening it */
    pthread_t thread;
} Rank;

static void *open_rank(void *argument)
{
    Rank *rank = argument;
    rank->status = star_open(&rank->options, rank->hub, find_given, &rank->address, &rank->star);
    return NULL;
}

/* Connects `threads` ranks of `size`: the others are up to the caller, and must be there before. */
static void open_ranks(Rank rank[], int threads, int size, double silence, StarAddress *address)
{
    Hub *hub = NULL;
    for (int i = 0; i < threads; ++i) {
        rank[i] = (Rank){.options = options_of(i, size)};
        rank[i].options.heartbeat_timeout = silence;
    }
    if (address->port == 0) assert_ok(hub_start(&rank[0].options, &hub, address));
    rank[0].hub = hub;
    for (int i = 0; i < threads; ++i) {
        rank[i].address = *address;
        assert_int_equal(pthread_create(&rank[i].thread, NULL, open_rank, &rank[i]), 0);
    }
}

/* Those from `first` on, of a hub that runs. */
static void open_others(Rank rank[], int first, int size, const StarAddress *address)
{
    for (int i = first; i < size; ++i) {
        rank[i] = (Rank){.options = options_of(i, size), .address = *address};
        assert_int_equal(pthread_create(&rank[i].thread, NULL, open_rank, &rank[i]), 0);
    }
}

static void join_ranks(Rank rank[], int threads)
{
    for (int i = 0; i < threads; ++i) {
        assert_int_equal(pthread_join(rank[i].thread, NULL), 0);
        assert_ok(rank[i].status);
    }
}

static void *close_rank(void *argument)
{
    star_close(((Rank *)argument)->star);
    return NULL;
}

static void close_ranks(Rank rank[], int threads)
{
    for (int i = 0; i < threads; ++i)
        assert_int_equal(pthread_create(&rank[i].thread, NULL, close_rank, &rank[i]), 0);
    join_ranks(rank, threads);
}

static void await_failure(Star *star, StatusCode code, const char *text)
{
    Status status = OK;
    for (int turn = 0; turn < 6000 && status == OK; ++turn) {
        pause_for(0.01);
        status = star_failure(star);
    }
    assert_fails(status, code, text);
}

/* ---- tests ---- */

static void test_exchanges(void **state)
{
    (void)state;
    Rank rank[RANKS];
    StarAddress address = {.port = 0};
    open_ranks(rank, RANKS, RANKS, 60, &address);
    join_ranks(rank, RANKS);
    for (int i = 0; i < RANKS; ++i) {
        assert_string_equal(star_hosts(rank[i].star)[0], "here");
        assert_string_equal(star_hosts(rank[i].star)[RANKS - 1], "there");
        assert_ok(star_failure(rank[i].star));
    }
    /* Parts of different sizes, given in another order than that of ranks. */
    const Operation operation = {.what = "test", .count = -1};
    int64_t gather = 0, sum = 0;
    for (int i = RANKS - 1; i >= 0; --i) {
        const float value[] = {(float)i, 1e8F * (float)(i == 1)};
        assert_ok(star_send(rank[i].star, STAR_GATHER, "abc", (size_t)i, &gather));
        assert_ok(star_send(rank[i].star, FLOAT32, value, sizeof value, &sum));
    }
    assert_int_equal(gather, 1);
    assert_int_equal(sum, 2);
    for (int i = 0; i < RANKS; ++i) {
        char *result;
        size_t bytes;
        assert_ok(star_receive(rank[i].star, sum, &operation, 60, &result, &bytes)); /* the later one first */
        assert_true(star_ready(rank[i].star, gather));
        assert_false(star_ready(rank[i].star, sum + 1));
        assert_int_equal(bytes, 8);
        const float want[] = {3, 1e8F};
        assert_memory_equal(result, want, sizeof want);
        free(result);
        assert_ok(star_receive(rank[i].star, gather, &operation, 60, &result, &bytes));
        assert_int_equal(bytes, 3);
        assert_memory_equal(result, "aab", 3);
        free(result);
    }
    /* One that nobody else makes. */
    char *result;
    size_t bytes;
    int64_t number;
    assert_ok(star_send(rank[1].star, STAR_GATHER, NULL, 0, &number));
    const Operation late = {.what = "sum", .number = 7, .count = 5, .type = INT64};
    assert_fails(
        star_receive(rank[1].star, number, &late, 0.3, &result, &bytes), STATUS_COMMUNICATION,
        "rank 1 on host there waited 0.3 s for operation 7 (sum of 5 int64): rank 0 on host here answers, "
        "but has not come to it; rank 2");
    close_ranks(rank, RANKS);
}

static int connect_raw(int port)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(file >= 0);
    assert_int_equal(connect(file, (const struct sockaddr *)&to, sizeof to), 0);
    return file;
}

/* The hub ends the connection, having said nothing. */
static void assert_turned_away(const StarAddress *address, const void *data, size_t bytes)
{
    char answer;
    const int file = connect_raw(address->port);
    assert_int_equal(send(file, data, bytes, MSG_NOSIGNAL), bytes);
    assert_true(recv(file, &answer, 1, 0) <= 0);
    (void)close(file);
}

static void test_strangers(void **state)
{
    (void)state;
    Rank rank[RANKS] = {{.star = NULL}};
    StarAddress address = {.port = 0};
    open_ranks(rank, 1, RANKS, 60, &address);

    static char noise[1000] = "GET / HTTP/1.1\r\n\r\n";
    assert_turned_away(&address, noise, sizeof noise);
    struct {
        Frame frame;
        JoinRequest request;
    } request = {.frame = {.magic = STAR_MAGIC, .kind = FRAME_JOIN, .bytes = sizeof(JoinRequest)},
                 .request = {.secret = address.secret[0] + 1, .rank = 1, .size = RANKS}};
    assert_turned_away(&address, &request, sizeof request); /* it does not know the secret */
    request.request.secret = address.secret[0];
    request.request.size = RANKS + 1;
    assert_turned_away(&address, &request, sizeof request);
    request.request.size = RANKS;
    request.request.rank = RANKS;
    assert_turned_away(&address, &request, sizeof request);
    request.request.rank = -1;
    assert_turned_away(&address, &request, sizeof request);
    request.request.rank = 1;
    request.frame.kind = FRAME_HEARTBEAT;
    assert_turned_away(&address, &request, sizeof request);
    request.frame.kind = FRAME_JOIN;
    request.frame.bytes = 1ULL << 62; /* of memory */
    assert_turned_away(&address, &request, sizeof request);

    /* And the hub is not who it seems. */
    const StarOptions other = options_of(1, RANKS);
    StarAddress wrong = address;
    wrong.secret[1] ^= 1;
    assert_int_equal(star_connect(&wrong, &other, 1), -1);

    /* None of them is in the way of the ranks. */
    open_others(rank, 1, RANKS, &address);
    join_ranks(rank, RANKS);
    close_ranks(rank, RANKS);
}

typedef struct {
    Frame frame;
    JoinRequest request;
} JoinFrame;

static JoinFrame request_of(int rank, const StarAddress *address)
{
    return (JoinFrame){
        .frame = {.magic = STAR_MAGIC, .kind = FRAME_JOIN, .bytes = sizeof(JoinRequest)},
        .request = {.secret = address->secret[0], .rank = rank, .size = RANKS, .host = "there"}};
}

/* Rank 0's host was busy for longer than a rank waits for an answer: the request of the rank is read after the
 * rank has closed that connection to try another. */
static void test_rank_that_comes_again(void **state)
{
    (void)state;
    Rank rank[RANKS] = {{.star = NULL}};
    StarAddress address = {.port = 0};
    open_ranks(rank, 1, RANKS, 60, &address);
    for (int turn = 0; turn < 3; ++turn) {
        const JoinFrame request = request_of(1 + turn % 2, &address);
        const int file = connect_raw(address.port);
        assert_int_equal(send(file, &request, sizeof request, MSG_NOSIGNAL), sizeof request);
        (void)close(file);
    }
    open_others(rank, 1, RANKS, &address);
    join_ranks(rank, RANKS);
    for (int i = 0; i < RANKS; ++i)
        assert_ok(star_failure(rank[i].star));
    close_ranks(rank, RANKS);
}

/* A rank that has joined and dies while others are awaited is a failure at once. */
static void test_lost_before_the_start(void **state)
{
    (void)state;
    Rank rank[RANKS] = {{.star = NULL}};
    StarAddress address = {.port = 0};
    open_ranks(rank, 1, RANKS, 60, &address);
    const StarOptions options = options_of(1, RANKS);
    const int file = star_connect(&address, &options, 5);
    assert_true(file >= 0);
    const Frame frame = {.magic = STAR_MAGIC, .kind = FRAME_HEARTBEAT};
    assert_int_equal(send(file, &frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    (void)close(file);
    assert_int_equal(pthread_join(rank[0].thread, NULL), 0);
    assert_fails(rank[0].status, STATUS_COMMUNICATION, "rank 1 on host there is lost");
}

static void receive_all(int file, void *data, size_t bytes)
{
    assert_int_equal(recv(file, data, bytes, MSG_WAITALL), bytes);
}

/* A hub that is made here, for one rank of RANKS: it starts, and then sends the frame. */
static void assert_hub_refused(Frame last)
{
    Rank rank = {.options = options_of(1, RANKS)};
    int listening;
    assert_ok(star_listen(&rank.address, &listening));
    assert_int_equal(pthread_create(&rank.thread, NULL, open_rank, &rank), 0);
    struct pollfd one = {.fd = listening, .events = POLLIN};
    assert_int_equal(poll(&one, 1, 60000), 1);
    const int file = accept(listening, NULL, NULL);
    assert_true(file >= 0);
    JoinFrame request;
    receive_all(file, &request, sizeof request);
    struct {
        Frame frame;
        uint64_t secret;
    } answer = {.frame = {.magic = STAR_MAGIC, .kind = FRAME_ACCEPTED, .bytes = sizeof answer.secret},
                .secret = rank.address.secret[1]};
    struct {
        Frame frame;
        HostName host[RANKS];
    } start = {.frame = {.magic = STAR_MAGIC, .kind = FRAME_START, .bytes = sizeof start.host},
               .host = {"here", "there", "there"}};
    assert_int_equal(send(file, &answer, sizeof answer, MSG_NOSIGNAL), sizeof answer);
    assert_int_equal(send(file, &start, sizeof start, MSG_NOSIGNAL), sizeof start);
    join_ranks(&rank, 1);
    last.magic = STAR_MAGIC;
    assert_int_equal(send(file, &last, sizeof last, MSG_NOSIGNAL), sizeof last);
    await_failure(rank.star, STATUS_COMMUNICATION, "rank 0 on host here is lost: its connection ended");
    close_ranks(&rank, 1);
    (void)close(file);
    (void)close(listening);
}

/* A rank allocates no more than a frame of that kind can need, whatever the frame's header says. */
static void test_nonsense_of_the_hub(void **state)
{
    (void)state;
    const Frame frames[] = {
        {.kind = FRAME_RESULT, .number = 1, .bytes = (1ULL << 30) + 1},
        {.kind = FRAME_FAILED, .bytes = 1 << 20},
        {.kind = FRAME_MEMBERSHIP, .bytes = RANKS * sizeof(MemberState) + 1},
        {.kind = FRAME_HEARTBEAT, .bytes = 1},
        {.kind = FRAME_KINDS, .bytes = 1},
    };
    for (size_t i = 0; i < sizeof frames / sizeof *frames; ++i)
        assert_hub_refused(frames[i]);
}

/* The start fails with what the hub says. */
static void assert_start_fails(Hub *hub, const StarOptions *options, StarAddress address, const char *text)
{
    Star *star;
    assert_fails(star_open(options, hub, find_given, &address, &star), STATUS_COMMUNICATION, text);
    assert_null(star);
}

static void test_missing_rank(void **state)
{
    (void)state;
    StarOptions options = options_of(0, RANKS);
    options.start_seconds = 2;
    StarAddress address;
    Hub *hub;
    assert_ok(hub_start(&options, &hub, &address));
    assert_start_fails(hub, &options, address, "of 3 ranks only 1 have come to rank 0 on host here within ");
    assert_ok(hub_start(&options, &hub, &address));
    assert_start_fails(hub, &options, address, "missing: rank 1, 2");
    /* And one without a rank 0. */
    options.rank = 1;
    assert_start_fails(NULL, &options, address, "gets no answer from rank 0 at ");
}

/* A rank that is not a thread of ours: connected, and no more. */
static int connect_silent(Rank rank[], int rank_of_it, double silence, StarAddress *address)
{
    const StarOptions options = options_of(rank_of_it, RANKS);
    open_ranks(rank, RANKS - 1, RANKS, silence, address);
    const int file = star_connect(address, &options, 5);
    assert_true(file >= 0);
    assert_int_equal(star_connect(address, &options, 1), -1); /* there is one already */
    const Frame frame = {.magic = STAR_MAGIC, .kind = FRAME_HEARTBEAT};
    assert_int_equal(send(file, &frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    join_ranks(rank, RANKS - 1);
    return file;
}

static void test_lost_connection(void **state)
{
    (void)state;
    Rank rank[RANKS];
    StarAddress address = {.port = 0};
    const int file = connect_silent(rank, 2, 60, &address);
    assert_ok(star_failure(rank[0].star));
    (void)close(file);
    for (int i = 0; i < RANKS - 1; ++i)
        await_failure(rank[i].star, STATUS_COMMUNICATION,
                      "rank 2 on host there is lost: its connection ended");
    int64_t number;
    assert_fails(star_send(rank[1].star, STAR_GATHER, NULL, 0, &number), STATUS_COMMUNICATION, "rank 2");
    assert_false(star_all_fail(rank[1].star, 5));
    close_ranks(rank, RANKS - 1);
}

static void test_silence(void **state)
{
    (void)state;
    Rank rank[RANKS];
    StarAddress address = {.port = 0};
    const int file = connect_silent(rank, 2, 8, &address);
    for (int i = 0; i < RANKS - 1; ++i)
        await_failure(rank[i].star, STATUS_COMMUNICATION,
                      "rank 2 on host there is lost: it was last heard of 8 s ago");
    close_ranks(rank, RANKS - 1);
    (void)close(file);
}

static void test_nonsense_of_a_rank(void **state)
{
    (void)state;
    Rank rank[RANKS];
    StarAddress address = {.port = 0};
    const int file = connect_silent(rank, 2, 60, &address);
    const Frame frame = {.magic = STAR_MAGIC, .kind = FRAME_PART, .detail = DTYPE_COUNT, .number = 1};
    assert_int_equal(send(file, &frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    await_failure(rank[0].star, STATUS_COMMUNICATION, "rank 2 on host there is lost");
    close_ranks(rank, RANKS - 1);
    (void)close(file);
}

static void test_failures_are_told(void **state)
{
    (void)state;
    Rank rank[RANKS];
    StarAddress address = {.port = 0};
    open_ranks(rank, RANKS, RANKS, 60, &address);
    join_ranks(rank, RANKS);
    star_fail(rank[1].star, STATUS_NUMERIC, "the loss is NaN");
    star_end(rank[1].star);
    await_failure(rank[0].star, STATUS_NUMERIC, "rank 1 on host there failed: the loss is NaN");
    await_failure(rank[2].star, STATUS_NUMERIC, "rank 1 on host there failed: the loss is NaN");
    await_failure(rank[1].star, STATUS_NUMERIC, "the loss is NaN");
    star_fail(rank[2].star, STATUS_IO, "something that follows");
    await_failure(rank[2].star, STATUS_NUMERIC, "the loss is NaN");
    close_ranks(rank, RANKS);
}

static void test_ranks_out_of_step(void **state)
{
    (void)state;
    Rank rank[RANKS];
    StarAddress address = {.port = 0};
    int64_t number;
    const double value[2] = {0};
    for (int turn = 0; turn < 2; ++turn) {
        address.port = 0;
        open_ranks(rank, RANKS, RANKS, 60, &address);
        join_ranks(rank, RANKS);
        assert_ok(star_send(rank[0].star, FLOAT64, value, sizeof value[0], &number));
        assert_ok(star_send(rank[2].star, turn == 0 ? FLOAT64 : STAR_GATHER, value,
                            turn == 0 ? sizeof value : sizeof value[0], &number));
        await_failure(rank[1].star, STATUS_INTERNAL,
                      "are out of step: their exchange 1 is of different kinds or sizes");
        close_ranks(rank, RANKS);
    }
}

static void *end_alike(void *argument)
{
    Rank *rank = argument;
    rank->status = star_all_fail(rank->star, 60) ? OK : fail(STATUS_INTERNAL, "the others did not come");
    return NULL;
}

static void test_all_fail(void **state)
{
    (void)state;
    Rank rank[RANKS];
    StarAddress address = {.port = 0};
    int64_t number;
    open_ranks(rank, RANKS, RANKS, 60, &address);
    join_ranks(rank, RANKS);
    assert_ok(star_send(rank[1].star, STAR_GATHER, NULL, 0, &number)); /* is not mistaken for it */
    for (int i = 0; i < RANKS; ++i)
        assert_int_equal(pthread_create(&rank[i].thread, NULL, end_alike, &rank[i]), 0);
    join_ranks(rank, RANKS);
    close_ranks(rank, RANKS);
}

/* ---- finding one another ---- */

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_rendezvous(void **state)
{
    (void)state;
    char folder[4096], path[4200];
    StarAddress read, address = {.secret = {0x123456789abcdef0, 7}, .port = 65535, .hosts = 2};
    (void)strcpy(address.host[0], "10.0.0.1");
    (void)strcpy(address.host[1], "fd00::2");
    test_scratch_make(folder);
    (void)snprintf(path, sizeof path, "%s/rendezvous", folder);
    assert_fails(rendezvous_read(path, &read), STATUS_IO, "cannot be read: No such file");
    static const char *const bad[] = {
        "",
        "something else\n",
        "plumb-rendezvous-1 12 34 0\n10.0.0.1\nend\n",
        "plumb-rendezvous-1 12 34 70000\n10.0.0.1\nend\n",
        "plumb-rendezvous-1 12 34 5\nend\n",
        "plumb-rendezvous-1 12 34 5\n10.0.0.1\n", /* half of it */
        ("plumb-rendezvous-1 12 34 5\n"
         "1000000000000000000000000000000000000000000000000000000000000000\nend\n")};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        write_text(path, bad[i]);
        assert_fails(rendezvous_read(path, &read), STATUS_INPUT, "is not rank 0's");
    }
    assert_ok(rendezvous_write(path, &address)); /* in place of another */
    assert_ok(rendezvous_read(path, &read));
    assert_memory_equal(&read, &address, sizeof read);
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
    rendezvous_remove(path);
    assert_int_equal(access(path, F_OK), -1);
    (void)snprintf(path, sizeof path, "%s/no/such/folder", folder);
    assert_fails(rendezvous_write(path, &address), STATUS_IO, "no/such/folder");
    test_scratch_remove(folder);
}

/* Only these of all variables that launchers set. */
static void set_environment(const char *const variables[])
{
    static const char *const all[] = {"RANK",
                                      "WORLD_SIZE",
                                      "PLUMB_RENDEZVOUS",
                                      "PMI_RANK",
                                      "PMI_SIZE",
                                      "PMI_FD",
                                      "PMIX_RANK",
                                      "SLURM_STEP_ID",
                                      "SLURM_STEP_NUM_TASKS",
                                      "SLURM_PROCID",
                                      "SLURM_JOB_ID",
                                      "SLURM_RESTART_COUNT",
                                      "SLURM_NTASKS",
                                      "OMPI_COMM_WORLD_RANK",
                                      "OMPI_COMM_WORLD_SIZE"};
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        (void)unsetenv(all[i]);
    for (; *variables != NULL; variables += 2)
        (void)setenv(variables[0], variables[1], 1);
}

static void assert_launch(const char *const variables[], LaunchKind kind, int rank, int size,
                          const char *file)
{
    Launch launch;
    set_environment(variables);
    assert_ok(launch_find(&launch));
    assert_int_equal(launch.kind, kind);
    assert_int_equal(launch.size, size);
    if (kind == LAUNCHED_SOCKETS) assert_int_equal(launch.rank, rank);
    if (kind == LAUNCHED_SOCKETS) assert_string_equal(launch.rendezvous, file);
}

static void assert_no_launch(const char *const variables[], const char *text)
{
    Launch launch;
    set_environment(variables);
    const Status status = launch_find(&launch);
    assert_fails(status, status != OK ? status_code(status) : STATUS_USAGE, text);
}

#define SLURM "SLURM_STEP_ID", "2", "SLURM_PROCID", "3", "SLURM_STEP_NUM_TASKS", "4", "SLURM_JOB_ID", "77"
#define VARIABLES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_launchers(void **state)
{
    (void)state;
    char folder[4096], file[4200];
    test_scratch_make(folder);
    (void)snprintf(file, sizeof file, "%s/.plumb-job-77.2.0", folder);
    assert_launch((const char *const[]){NULL}, LAUNCHED_ALONE, 0, 1, NULL);
    assert_launch(VARIABLES("RANK", "0", "WORLD_SIZE", "1"), LAUNCHED_ALONE, 0, 1, NULL);
    assert_launch(VARIABLES("PLUMB_RENDEZVOUS", "file"), LAUNCHED_ALONE, 0, 1, NULL);
    assert_launch(VARIABLES("RANK", "1", "WORLD_SIZE", "2", "PLUMB_RENDEZVOUS", "file"), LAUNCHED_SOCKETS, 1,
                  2, "file");
    /* srun without a way for MPI; within the job's script alone there is no step. */
    assert_launch(VARIABLES(SLURM), LAUNCHED_SOCKETS, 3, 4, ".plumb-job-77.2.0");
    assert_launch(VARIABLES(SLURM, "SLURM_RESTART_COUNT", "5"), LAUNCHED_SOCKETS, 3, 4, ".plumb-job-77.2.5");
    assert_launch(VARIABLES(SLURM, "PLUMB_RENDEZVOUS", folder), LAUNCHED_SOCKETS, 3, 4, file);
    assert_launch(VARIABLES("SLURM_PROCID", "0", "SLURM_NTASKS", "4"), LAUNCHED_ALONE, 0, 1, NULL);
    /* torchrun's ranks within a step of srun */
    assert_launch(VARIABLES(SLURM, "RANK", "9", "WORLD_SIZE", "16", "PLUMB_RENDEZVOUS", "f"),
                  LAUNCHED_SOCKETS, 9, 16, "f");
    /* a launcher of MPI as no more than what starts them */
    assert_launch(
        VARIABLES("OMPI_COMM_WORLD_SIZE", "3", "OMPI_COMM_WORLD_RANK", "1", "PLUMB_RENDEZVOUS", "f"),
        LAUNCHED_SOCKETS, 1, 3, "f");
    assert_launch(VARIABLES("OMPI_COMM_WORLD_SIZE", "1", "OMPI_COMM_WORLD_RANK", "0"), LAUNCHED_ALONE, 0, 1,
                  NULL);
    if (PLUMB_HAVE_MPI) {
        assert_launch(VARIABLES("OMPI_COMM_WORLD_SIZE", "3", "OMPI_COMM_WORLD_RANK", "1"), LAUNCHED_MPI, 1, 3,
                      NULL);
        assert_launch(VARIABLES("PMI_SIZE", "3", "PMI_RANK", "1"), LAUNCHED_MPI, 1, 3, NULL);
        assert_launch(VARIABLES("PMIX_RANK", "1"), LAUNCHED_MPI, 1, 0, NULL);
        assert_launch(VARIABLES(SLURM, "PMIX_RANK", "3"), LAUNCHED_MPI, 3, 4, NULL);
    } else {
        assert_no_launch(VARIABLES("OMPI_COMM_WORLD_SIZE", "3", "OMPI_COMM_WORLD_RANK", "1"),
                         "built without MPI");
        assert_launch(VARIABLES(SLURM, "PMIX_RANK", "3"), LAUNCHED_SOCKETS, 3, 4, ".plumb-job-77.2.0");
    }
    assert_no_launch(VARIABLES("RANK", "1", "WORLD_SIZE", "2"), "set PLUMB_RENDEZVOUS to a file");
    assert_no_launch(VARIABLES("RANK", "2", "WORLD_SIZE", "2", "PLUMB_RENDEZVOUS", "f"),
                     "this is rank 2 of only 2");
    assert_no_launch(VARIABLES("RANK", "1", "WORLD_SIZE", "2", "PLUMB_RENDEZVOUS", folder), "say which file");
    test_scratch_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchanges),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_missing_rank),
        cmocka_unit_test(test_rank_that_comes_again),
        cmocka_unit_test(test_lost_before_the_start),
        cmocka_unit_test(test_nonsense_of_the_hub),
        cmocka_unit_test(test_lost_connection),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_nonsense_of_a_rank),
        cmocka_unit_test(test_failures_are_told),
        cmocka_unit_test(test_ranks_out_of_step),
        cmocka_unit_test(test_all_fail),
        cmocka_unit_test(test_rendezvous),
        cmocka_unit_test(test_launchers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
