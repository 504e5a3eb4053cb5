#include "launch/translate/shared_lines.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

void shared_lines_free(SharedLines *lines)
{
    for (size_t i = 0; i < lines->count; ++i) {
        free(lines->line[i].first);
        free(lines->line[i].second);
        free(lines->line[i].result);
    }
    free(lines->line);
    *lines = (SharedLines){.line = NULL};
}

static Status copy_bytes(const char *data, size_t size, char **out)
{
    TRY(memory_new(out, size + 1, 1, "a line"));
    if (size > 0) memcpy(*out, data, size);
    return OK;
}

Status shared_lines_add(SharedLines *lines, int64_t number, TextSpan first, TextSpan second)
{
    TRY(memory_grow(&lines->line, &lines->capacity, lines->count + 1, sizeof *lines->line, "lines"));
    SharedLine *line = &lines->line[lines->count++];
    *line = (SharedLine){.number = number, .first_size = first.size, .second_size = second.size};
    TRY(copy_bytes(first.data, first.size, &line->first));
    return second.data != NULL ? copy_bytes(second.data, second.size, &line->second) : OK;
}

/* ---- messages ---- */

/* Numbers and bytes that go from rank to rank. */
typedef struct {
    char *data;
    size_t size, capacity;
} Message;

static Status put(Message *message, const void *data, size_t size)
{
    TRY(memory_grow(&message->data, &message->capacity, message->size + size + 1, 1,
                    "lines for other ranks"));
    if (size > 0) memcpy(message->data + message->size, data, size);
    message->size += size;
    return OK;
}

static Status put_text(Message *message, const char *text, size_t size)
{
    const int64_t bytes = text != NULL ? (int64_t)size : -1;
    TRY(put(message, &bytes, sizeof bytes));
    return text != NULL ? put(message, text, size) : OK;
}

static void take(const Message *message, size_t *at, void *data, size_t size)
{
    memcpy(data, message->data + *at, size);
    *at += size;
}

/* *text is NULL for an absent one. */
static Status take_text(const Message *message, size_t *at, char **text, size_t *size)
{
    int64_t bytes;
    *text = NULL;
    *size = 0;
    take(message, at, &bytes, sizeof bytes);
    if (bytes < 0) return OK;
    TRY(copy_bytes(message->data + *at, (size_t)bytes, text));
    *size = (size_t)bytes;
    *at += (size_t)bytes;
    return OK;
}

static Status pack_lines(const SharedLines *lines, Message *message)
{
    for (size_t i = 0; i < lines->count; ++i) {
        const SharedLine *line = &lines->line[i];
        TRY(put(message, &line->number, sizeof line->number));
        TRY(put_text(message, line->first, line->first_size));
        TRY(put_text(message, line->second, line->second_size));
    }
    return OK;
}

static Status unpack_lines(const Message *message, SharedLines *lines)
{
    for (size_t at = 0; at < message->size;) {
        TRY(memory_grow(&lines->line, &lines->capacity, lines->count + 1, sizeof *lines->line, "lines"));
        SharedLine *line = &lines->line[lines->count++];
        *line = (SharedLine){.number = 0};
        take(message, &at, &line->number, sizeof line->number);
        TRY(take_text(message, &at, &line->first, &line->first_size));
        TRY(take_text(message, &at, &line->second, &line->second_size));
    }
    return OK;
}

/* ---- a round ---- */

double shared_lines_idle_seconds(double timeout)
{
    static const double most = 20;
    return timeout / 3 < most ? timeout / 3 : most;
}

static Status broadcast(Collective *collective, void *data, int64_t count, DType type)
{
    TRY(collective_broadcast(collective, (Span){data, count, type}, 0, NULL));
    return collective_join(collective, NULL);
}

/* Gives every rank the lines of rank 0; the others' are empty. */
static Status spread(World *world, Collective *collective, SharedLines *lines)
{
    if (world->size == 1) return OK;
    Message message = {.data = NULL};
    Status status = world->rank == 0 ? pack_lines(lines, &message) : OK;
    TRY_ELSE(done, comm_agree(world, status));
    int64_t bytes = (int64_t)message.size;
    TRY_ELSE(done, broadcast(collective, &bytes, 1, INT64));
    status = memory_grow(&message.data, &message.capacity, (size_t)bytes + 1, 1, "lines of rank 0");
    TRY_ELSE(done, comm_agree(world, status));
    message.size = (size_t)bytes;
    if (bytes > 0) TRY_ELSE(done, broadcast(collective, message.data, bytes, UINT8));
    status = world->rank != 0 ? unpack_lines(&message, lines) : OK;
    status = comm_agree(world, status);
done:
    free(message.data);
    return status;
}

typedef struct {
    size_t bytes, place;
} Dealt;

static int longest_first(const void *a, const void *b)
{
    const Dealt *left = a, *right = b;
    if (left->bytes != right->bytes) return left->bytes > right->bytes ? -1 : 1;
    return left->place < right->place ? -1 : left->place > right->place;
}

/* Whose each line is. */
static Status deal(const World *world, const SharedLines *lines, int rank[])
{
    Dealt *dealt;
    TRY(memory_new(&dealt, lines->count + 1, sizeof *dealt, "lines"));
    for (size_t i = 0; i < lines->count; ++i)
        dealt[i] = (Dealt){.bytes = lines->line[i].first_size + lines->line[i].second_size, .place = i};
    qsort(dealt, lines->count, sizeof *dealt, longest_first);
    for (size_t i = 0; i < lines->count; ++i)
        rank[dealt[i].place] = (int)(i % (size_t)world->size);
    free(dealt);
    return OK;
}

static Status pack_results(const SharedLines *lines, Message *message)
{
    for (size_t i = 0; i < lines->count; ++i) {
        const int64_t place = (int64_t)i;
        if (lines->line[i].result == NULL) continue;
        TRY(put(message, &place, sizeof place));
        TRY(put_text(message, lines->line[i].result, lines->line[i].result_size));
    }
    return OK;
}

static Status unpack_results(const Message *message, SharedLines *lines)
{
    for (size_t at = 0; at < message->size;) {
        int64_t place;
        take(message, &at, &place, sizeof place);
        SharedLine *line = &lines->line[place];
        free(line->result);
        TRY(take_text(message, &at, &line->result, &line->result_size));
    }
    return OK;
}

/* Gives rank 0 the results of every rank's lines. */
static Status collect(World *world, Collective *collective, SharedLines *lines)
{
    if (world->size == 1) return OK;
    Message mine = {.data = NULL}, all = {.data = NULL};
    int64_t *bytes = NULL, most = 1;
    Status status = memory_new(&bytes, (size_t)world->size, sizeof *bytes, "results of ranks");
    if (status == OK) status = pack_results(lines, &mine);
    TRY_ELSE(done, comm_agree(world, status));
    const int64_t own = (int64_t)mine.size;
    TRY_ELSE(done, comm_gather(world, &own, sizeof own, bytes, "results of ranks"));
    for (int r = 0; r < world->size; ++r)
        if (bytes[r] > most) most = bytes[r];
    status = memory_grow(&mine.data, &mine.capacity, (size_t)most, 1, "results of ranks");
    if (status == OK)
        status =
            memory_grow(&all.data, &all.capacity, (size_t)most * (size_t)world->size, 1, "results of ranks");
    TRY_ELSE(done, comm_agree(world, status));
    TRY_ELSE(done, collective_gather(collective, (Span){mine.data, most, UINT8},
                                     (Span){all.data, most * world->size, UINT8}, NULL));
    TRY_ELSE(done, collective_join(collective, NULL));
    for (int r = 1; r < world->size && world->rank == 0 && status == OK; ++r) {
        const Message part = {.data = all.data + (size_t)r * (size_t)most, .size = (size_t)bytes[r]};
        status = unpack_results(&part, lines);
    }
    status = comm_agree(world, status);
done:
    free(bytes);
    free(mine.data);
    free(all.data);
    return status;
}

Status shared_lines_round(World *world, Collective *collective, const SharedWork *work, bool *ended)
{
    SharedLines lines = {.line = NULL};
    int *rank = NULL;
    const bool first = world->rank == 0;
    Status status;
    TRY_ELSE(done, comm_agree(world, first ? work->read(work->context, &lines) : OK));
    TRY_ELSE(done, spread(world, collective, &lines));
    status = memory_new(&rank, lines.count + 1, sizeof *rank, "lines");
    if (status == OK) status = deal(world, &lines, rank);
    if (status == OK) status = work->work(work->context, &lines, rank);
    TRY_ELSE(done, comm_agree(world, status));
    TRY_ELSE(done, collect(world, collective, &lines));
    TRY_ELSE(done, comm_agree(world, first ? work->write(work->context, &lines) : OK));
    status = comm_any(world, first && work->ended(work->context), ended);
done:
    free(rank);
    shared_lines_free(&lines);
    return status;
}
