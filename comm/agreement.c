/* Agreement is built on two exchanges: a maximum, which is all that the ordinary case (nothing to report)
 * costs, and a gather, for when there is something to say. */
#include "comm/comm.h"
#include "comm/transport.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* What a rank tells of its failure before the message itself is sent. */
typedef struct {
    uint64_t hash;   /* of the message */
    uint64_t length; /* of the message, without the terminating zero */
    int64_t code;    /* 0: no failure */
} Failure;

bool world_in_step(const World *world)
{
    const Status failure = world->star != NULL ? star_failure(world->star) : OK;
    const bool failed = failure != OK;
    status_free(failure);
    return !failed && world->transport->in_step(world);
}

static Status agree_on_failure(World *world, Status mine, int first, Status *agreed)
{
    Failure failure = {0};
    if (mine != OK) {
        failure.length = strlen(status_message(mine));
        failure.hash = XXH3_64bits(status_message(mine), failure.length);
        failure.code = (int64_t)status_code(mine);
    }
    Failure *failures = NULL;
    char *message = NULL;
    Status status;
    TRY_ELSE(done, memory_new(&failures, (size_t)world->size, sizeof *failures, "the ranks' failures"));
    TRY_ELSE(done,
             world->transport->gather(world, &failure, sizeof failure, failures, "agreement on a failure"));
    const Failure *theirs = &failures[first];
    TRY_ELSE(done, memory_new(&message, theirs->length + 1, 1, "another rank's message"));
    if (world->rank == first) memcpy(message, status_message(mine), theirs->length);
    TRY_ELSE(done,
             world->transport->broadcast(world, message, theirs->length, first, "agreement on a failure"));
    bool alike = true;
    for (int i = 0; i < world->size; ++i)
        alike &= memcmp(&failures[i], theirs, sizeof *theirs) == 0;
    /* The failing rank keeps its own status, for its trail. */
    *agreed = world->rank == first ? mine : fail((StatusCode)theirs->code, "%s", message);
    if (world->rank != first) status_free(mine);
    if (!alike) *agreed = status_context(*agreed, "rank %d", first);
done:
    free(message);
    free(failures);
    return status;
}

Status comm_agree(World *world, Status mine)
{
    if (world->size == 1) return mine;
    /* After a timeout the others would be waited for in vain a second time. */
    if (mine != OK && !world_in_step(world)) return mine;
    /* The lowest rank that failed has the largest of these; 0 if none did. */
    int64_t failed = mine != OK ? world->size - world->rank : 0;
    Status agreed = OK;
    Status status = world->transport->maximum(world, &failed, "agreement");
    if (status == OK && failed != 0)
        status = agree_on_failure(world, mine, (int)(world->size - failed), &agreed);
    if (status == OK) return agreed;
    /* The ranks could not agree. What this one has to say itself is then nearer to the cause. */
    if (mine == OK) return status_trail(status, __func__, __FILE__, __LINE__);
    status_free(status);
    return status_context(mine, "rank %d", world->rank);
}

Status comm_any(World *world, bool mine, bool *any)
{
    int64_t value = mine;
    *any = mine;
    if (world->size > 1) TRY(world->transport->maximum(world, &value, "a question to all ranks"));
    *any = value != 0;
    return OK;
}

Status comm_check_equal(World *world, const void *data, size_t bytes, const char *what)
{
    if (world->size == 1) return OK;
    typedef struct {
        uint64_t low, high, bytes;
        char host[sizeof world->host];
    } Sum;
    const XXH128_hash_t hash = XXH3_128bits(data, bytes);
    Sum mine = {.low = hash.low64, .high = hash.high64, .bytes = bytes};
    memcpy(mine.host, world->host, sizeof mine.host);
    Sum *all;
    TRY(memory_new(&all, (size_t)world->size, sizeof *all, "the ranks' check sums"));
    Status status = comm_gather(world, &mine, sizeof mine, all, what);
    for (int i = 1; i < world->size && status == OK; ++i) {
        if (all[i].bytes != all[0].bytes)
            status = fail(STATUS_COMMUNICATION,
                          "%s of rank %d on host %s has %llu bytes, that of rank 0 on host %s %llu", what, i,
                          all[i].host, (unsigned long long)all[i].bytes, all[0].host,
                          (unsigned long long)all[0].bytes);
        else if (all[i].low != all[0].low || all[i].high != all[0].high)
            status =
                fail(STATUS_COMMUNICATION, "%s of rank %d on host %s differs from that of rank 0 on host %s",
                     what, i, all[i].host, all[0].host);
    }
    free(all);
    return status;
}

Status comm_gather(World *world, const void *mine, size_t bytes, void *all, const char *what)
{
    if (world->size > 1) return world->transport->gather(world, mine, bytes, all, what);
    memcpy(all, mine, bytes);
    return OK;
}

Status comm_barrier(World *world)
{
    int64_t nothing = 0;
    if (world->size > 1) TRY(world->transport->maximum(world, &nothing, "a barrier"));
    return OK;
}
