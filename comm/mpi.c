#if PLUMB_HAVE_MPI

#include "comm/mpi_ranks.h"
#include "engine/base/memory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double patience_default = 600; /* seconds, until comm_collective says otherwise */

static Ranks *ranks_of(World *world) { return world->implementation; }

static void sum_bfloat16(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void)type;
    const bfloat16 *a = in;
    bfloat16 *b = inout;
    for (int i = 0; i < *count; ++i)
        b[i] = bfloat16_from_float(bfloat16_to_float(a[i]) + bfloat16_to_float(b[i]));
}

/* ---- small exchanges ----
 *
 * They go through memory of their own, so that one given up cannot write to its caller's later. */

static Status exchange_new(size_t bytes, Abandoned **exchange)
{
    TRY(memory_new(exchange, sizeof **exchange + bytes, 1, "a message to other ranks"));
    return OK;
}

/* Waits for the request that was just made with `code`. On failure the exchange is no longer the caller's. */
static Status exchange_finish(Ranks *ranks, int code, MPI_Request *request, Abandoned *exchange,
                              const char *what)
{
    const Operation operation = {.channel = CHANNEL_AGREEMENT,
                                 .number = ++ranks->progress.issued[CHANNEL_AGREEMENT],
                                 .what = what,
                                 .count = -1};
    Status status = mpi_status(code, what);
    if (status == OK) status = ranks_wait(ranks, request, &operation, ranks->patience);
    if (status == OK) return OK;
    ranks->stuck = true;
    exchange->next = ranks->abandoned;
    ranks->abandoned = exchange;
    return status;
}

static Status gather_from(Ranks *ranks, MPI_Comm ranks_from, int size, const void *mine, size_t bytes,
                          void *all, const char *what)
{
    if (bytes > INT_MAX / (size_t)size)
        return fail(STATUS_INTERNAL, "%s: %zu bytes are too many to exchange", what, bytes);
    Abandoned *exchange;
    TRY(exchange_new(bytes * ((size_t)size + 1), &exchange));
    memcpy(exchange->bytes, mine, bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = MPI_Iallgather(exchange->bytes, (int)bytes, MPI_BYTE, exchange->bytes + bytes,
                                    (int)bytes, MPI_BYTE, ranks_from, &request);
    TRY(exchange_finish(ranks, code, &request, exchange, what));
    memcpy(all, exchange->bytes + bytes, bytes * (size_t)size);
    free(exchange);
    return OK;
}

static Status gather(World *world, const void *mine, size_t bytes, void *all, const char *what)
{
    return gather_from(ranks_of(world), ranks_of(world)->everyone, world->size, mine, bytes, all, what);
}

static Status gather_local(World *world, const void *mine, size_t bytes, void *all, const char *what)
{
    return gather_from(ranks_of(world), ranks_of(world)->host, world->local_size, mine, bytes, all, what);
}

static Status broadcast(World *world, void *data, size_t bytes, int root, const char *what)
{
    Ranks *ranks = ranks_of(world);
    if (bytes > INT_MAX) return fail(STATUS_INTERNAL, "%s: %zu bytes are too many to exchange", what, bytes);
    Abandoned *exchange;
    TRY(exchange_new(bytes, &exchange));
    memcpy(exchange->bytes, data, bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = MPI_Ibcast(exchange->bytes, (int)bytes, MPI_BYTE, root, ranks->everyone, &request);
    TRY(exchange_finish(ranks, code, &request, exchange, what));
    memcpy(data, exchange->bytes, bytes);
    free(exchange);
    return OK;
}

static Status maximum(World *world, int64_t *value, const char *what)
{
    Ranks *ranks = ranks_of(world);
    Abandoned *exchange;
    TRY(exchange_new(2 * sizeof *value, &exchange));
    memcpy(exchange->bytes, value, sizeof *value);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = MPI_Iallreduce(exchange->bytes, exchange->bytes + sizeof *value, 1, MPI_INT64_T, MPI_MAX,
                                    ranks->everyone, &request);
    TRY(exchange_finish(ranks, code, &request, exchange, what));
    memcpy(value, exchange->bytes + sizeof *value, sizeof *value);
    free(exchange);
    return OK;
}

/* ---- start and end ---- */

static Status connect(World *world, Ranks *ranks)
{
    /* Set on the world first: what is derived from it inherits it. */
    TRY(mpi_status(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
    TRY(mpi_status(MPI_Comm_rank(MPI_COMM_WORLD, &world->rank), "MPI_Comm_rank"));
    TRY(mpi_status(MPI_Comm_size(MPI_COMM_WORLD, &world->size), "MPI_Comm_size"));
    TRY(mpi_status(MPI_Comm_dup(MPI_COMM_WORLD, &ranks->everyone), "MPI_Comm_dup"));
    TRY(mpi_status(MPI_Comm_dup(MPI_COMM_WORLD, &ranks->probes), "MPI_Comm_dup"));
    TRY(mpi_status(MPI_Comm_dup(MPI_COMM_WORLD, &ranks->failing), "MPI_Comm_dup"));
    TRY(mpi_status(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &ranks->host),
        "MPI_Comm_split_type"));
    TRY(mpi_status(MPI_Comm_rank(ranks->host, &world->local_rank), "MPI_Comm_rank"));
    TRY(mpi_status(MPI_Comm_size(ranks->host, &world->local_size), "MPI_Comm_size"));
    TRY(mpi_status(MPI_Op_create(sum_bfloat16, 1, &ranks->sum_bfloat16), "MPI_Op_create"));
    ranks->rank = world->rank;
    ranks->size = world->size;

    const size_t size = (size_t)world->size;
    TRY(memory_new(&ranks->hosts, size, sizeof *ranks->hosts, "the names of the ranks' hosts"));
    TRY(memory_new(&ranks->heard, size, sizeof *ranks->heard, "the membership"));
    TRY(memory_new(&ranks->sent, size, sizeof *ranks->sent, "the membership"));
    TRY(memory_new(&ranks->sending, size, sizeof(MPI_Request), "the membership"));
    for (size_t i = 0; i < size; ++i)
        ranks->sending[i] = MPI_REQUEST_NULL;
    return gather(world, world->host, sizeof world->host, ranks->hosts, "the start of all ranks");
}

static void stop(World *world)
{
    static Star *const nobody = NULL;
    Ranks *ranks = ranks_of(world);
    int64_t nothing = 0;
    ranks->star = &nobody; /* all that come here have done what they had to do */
    /* MPI_Finalize waits for all ranks without end, so it is entered together or not at all. */
    Status status = ranks->stuck ? OK : maximum(world, &nothing, "the end of all ranks");
    const bool together = status == OK && !ranks->stuck;
    status_free(status);
    if (!together) return; /* memory that late messages may still be written to */
    (void)MPI_Op_free(&ranks->sum_bfloat16);
    (void)MPI_Comm_free(&ranks->everyone);
    (void)MPI_Comm_free(&ranks->probes);
    (void)MPI_Comm_free(&ranks->failing);
    (void)MPI_Comm_free(&ranks->host);
    (void)MPI_Finalize();
    free(ranks->sending);
    free(ranks->sent);
    free(ranks->heard);
    free(ranks->hosts);
    free(ranks);
    world->implementation = NULL;
}

static bool all_fail(World *world, double seconds)
{
    Ranks *ranks = ranks_of(world);
    MPI_Request request = MPI_REQUEST_NULL;
    const Operation operation = {.channel = CHANNEL_AGREEMENT, .what = "the end of all ranks", .count = -1};
    Status status = mpi_status(MPI_Ibarrier(ranks->failing, &request), "MPI_Ibarrier");
    if (status == OK) status = ranks_wait(ranks, &request, &operation, seconds);
    const bool all = status == OK;
    status_free(status);
    return all;
}

static bool in_step(const World *world) { return !((const Ranks *)world->implementation)->stuck; }

static void abort_all(World *world, int code)
{
    (void)world;
    (void)MPI_Abort(MPI_COMM_WORLD, code);
}

static void describe(char text[256], bool *threads)
{
    static const char *const names[] = {"single", "funneled", "serialized", "multiple"};
    char library[MPI_MAX_LIBRARY_VERSION_STRING] = "MPI";
    int length = 0, level = MPI_THREAD_SINGLE;
    (void)MPI_Get_library_version(library, &length);
    for (char *tab = library; (tab = strchr(tab, '\t')) != NULL;)
        *tab = ' '; /* MPICH's */
    (void)MPI_Query_thread(&level);
    *threads = level >= MPI_THREAD_FUNNELED; /* one thread of a rank probes it */
    (void)snprintf(text, 256, "%.*s, threads: %s", (int)strcspn(library, ",\n"), library,
                   names[level == MPI_THREAD_SINGLE       ? 0
                         : level == MPI_THREAD_FUNNELED   ? 1
                         : level == MPI_THREAD_SERIALIZED ? 2
                                                          : 3]);
}

static const Transport transport = {.describe = describe,
                                    .gather = gather,
                                    .gather_local = gather_local,
                                    .broadcast = broadcast,
                                    .maximum = maximum,
                                    .collective = mpi_collective,
                                    .in_step = in_step,
                                    .all_fail = all_fail,
                                    .stop = stop,
                                    .abort = abort_all};

Status mpi_start(int *argc, char ***argv, World *world)
{
    /* Open MPI's default for a sum in place sends everything to one rank and back. This one is optimal in
     * bandwidth, and its order of summation depends only on (count, size). The user's own choice stands. */
    (void)setenv("OMPI_MCA_coll_libnbc_iallreduce_algorithm", "rabenseifner", 0);
    int provided;
    TRY(mpi_status(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread"));
    if (provided < MPI_THREAD_FUNNELED)
        return fail(STATUS_UNSUPPORTED, "this MPI library cannot be used beside threads");
    Ranks *ranks;
    TRY(memory_new(&ranks, 1, sizeof *ranks, "the ranks"));
    ranks->patience = patience_default;
    ranks->star = &world->star;
    world->implementation = ranks;
    world->transport = &transport;
    return connect(world, ranks);
}

#endif
