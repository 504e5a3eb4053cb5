/* Exchanges in the hub: the parts of all ranks become one result. */
#include "comm/star/star_hub.h"

#include <stdlib.h>
#include <string.h>

#define ADD(type)                                                                                            \
    do {                                                                                                     \
        type *left = (type *)(void *)sum;                                                                    \
        const type *right = (const type *)(const void *)part;                                                \
        for (size_t i = 0; i < bytes / sizeof(type); ++i)                                                    \
            left[i] = (type)(left[i] + right[i]);                                                            \
    } while (0)

static void add(char *sum, const char *part, size_t bytes, DType type)
{
    switch (type) {
    case FLOAT32:
        ADD(float);
        break;
    case FLOAT64:
        ADD(double);
        break;
    case INT32:
        ADD(uint32_t);
        break;
    case INT64:
        ADD(uint64_t);
        break;
    case UINT8:
        ADD(uint8_t);
        break;
    default: {
        bfloat16 *left = (bfloat16 *)(void *)sum;
        const bfloat16 *right = (const bfloat16 *)(const void *)part;
        for (size_t i = 0; i < bytes / sizeof *left; ++i)
            left[i] = bfloat16_from_float(bfloat16_to_float(left[i]) + bfloat16_to_float(right[i]));
        break;
    }
    }
}

static void exchange_free(HubExchange *exchange, int size)
{
    for (int i = 0; i < size; ++i)
        free(exchange->part[i]);
    free(exchange->part);
    free(exchange->bytes);
    free(exchange);
}

static HubExchange *exchange_find(Hub *hub, const Frame *frame, int rank)
{
    HubExchange **at = &hub->exchange;
    while (*at != NULL && (*at)->number != frame->number)
        at = &(*at)->following;
    if (*at != NULL) return *at;
    HubExchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL) return NULL;
    *exchange = (HubExchange){.number = frame->number,
                              .detail = frame->detail,
                              .first = rank,
                              .part = calloc((size_t)hub->options.size, sizeof(char *)),
                              .bytes = calloc((size_t)hub->options.size, sizeof(size_t))};
    if (exchange->part == NULL || exchange->bytes == NULL) {
        free(exchange->part);
        free(exchange->bytes);
        free(exchange);
        return NULL;
    }
    *at = exchange;
    return exchange;
}

static void exchange_finish(Hub *hub, HubExchange *exchange)
{
    const int size = hub->options.size;
    const Frame frame = {.kind = FRAME_RESULT, .number = exchange->number};
    Message *message;
    if (exchange->detail == STAR_GATHER) {
        size_t bytes = 0, at = sizeof frame;
        for (int i = 0; i < size; ++i)
            bytes += exchange->bytes[i];
        message = malloc(sizeof *message + sizeof frame + bytes);
        if (message != NULL) {
            *message = (Message){.references = 1, .bytes = sizeof frame + bytes};
            Frame head = frame;
            head.magic = STAR_MAGIC;
            head.bytes = bytes;
            memcpy(message->data, &head, sizeof head);
            for (int i = 0; i < size; at += exchange->bytes[i], ++i)
                if (exchange->bytes[i] > 0) memcpy(message->data + at, exchange->part[i], exchange->bytes[i]);
        }
    } else {
        message = hub_message_new(frame, exchange->part[0], exchange->bytes[0]);
    }
    hub_send_all(hub, message);
    hub_message_release(message);
    HubExchange **at = &hub->exchange;
    while (*at != exchange)
        at = &(*at)->following;
    *at = exchange->following;
    exchange_free(exchange, size);
}

void hub_take_part(Hub *hub, Member *member)
{
    const Frame *frame = &member->frame;
    if (frame->number > member->exchanges) member->exchanges = frame->number;
    HubExchange *exchange = exchange_find(hub, frame, member->rank);
    if (exchange == NULL) {
        hub_fail(hub, 0, STATUS_MEMORY, "rank 0: no memory for what the ranks exchange");
        return;
    }
    const bool sum = frame->detail != STAR_GATHER;
    if (exchange->detail != frame->detail ||
        (sum && exchange->arrived > 0 && exchange->bytes[exchange->first] != frame->bytes)) {
        hub_fail(hub, member->rank, STATUS_INTERNAL,
                 "ranks %d and %d are out of step: their exchange %lld is of different kinds or sizes",
                 exchange->first, member->rank, (long long)frame->number);
        return;
    }
    exchange->part[member->rank] = member->payload;
    exchange->bytes[member->rank] = frame->bytes;
    member->payload = NULL;
    ++exchange->arrived;
    if (exchange->arrived < hub->options.size) return;
    for (int i = 1; i < hub->options.size && sum; ++i) /* in this order, whatever came first */
        add(exchange->part[0], exchange->part[i], frame->bytes, (DType)frame->detail);
    exchange_finish(hub, exchange);
}

void hub_exchanges_free(Hub *hub)
{
    while (hub->exchange != NULL) {
        HubExchange *exchange = hub->exchange;
        hub->exchange = exchange->following;
        exchange_free(exchange, hub->options.size);
    }
}
