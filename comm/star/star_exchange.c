/* Exchanges, as a rank makes them: parts that the rank's own thread sends, and results that the star's thread keeps
 * until they are taken. */
#include "comm/star/star_private.h"

#include <stdlib.h>

Status star_send(Star *star, int kind, const void *part, size_t bytes, int64_t *number)
{
    if (bytes > star_largest_payload(FRAME_PART, star->options.size))
        return fail(STATUS_INTERNAL, "%zu bytes are too many to exchange", bytes);
    TRY(star_failure(star));
    *number = ++star->exchanges;
    star_send_frame(star, (Frame){.kind = FRAME_PART, .detail = kind, .number = *number}, part, bytes);
    return OK;
}

/* Takes the result out of the list; NULL: it is not there. lock is held. */
static Result *take(Star *star, int64_t number)
{
    Result *before = NULL, *result = star->first;
    while (result != NULL && result->number != number) {
        before = result;
        result = result->next;
    }
    if (result == NULL) return NULL;
    *(before != NULL ? &before->next : &star->first) = result->next;
    if (star->last == result) star->last = before;
    return result;
}

bool star_ready(Star *star, int64_t number)
{
    (void)pthread_mutex_lock(&star->lock);
    /* They come in their order. */
    const bool ready = (star->last != NULL && star->last->number >= number) || star->failure != 0;
    (void)pthread_mutex_unlock(&star->lock);
    return ready;
}

Status star_receive(Star *star, int64_t number, const Operation *operation, double seconds, char **data,
                    size_t *bytes)
{
    *data = NULL;
    *bytes = 0;
    Wait wait = wait_begin();
    bool late = false;
    (void)pthread_mutex_lock(&star->lock);
    Result *result = take(star, number);
    while (result == NULL && star->failure == 0 && !late) {
        late = star_wait_for_change(star, &wait, seconds);
        result = take(star, number);
    }
    const Status status = result == NULL ? star_failure_locked(star) : OK;
    (void)pthread_mutex_unlock(&star->lock);
    TRY(status);
    if (result == NULL) return star_timeout_error(star, operation, seconds, true, number);
    *data = result->data;
    *bytes = result->bytes;
    free(result);
    return OK;
}

bool star_all_fail(Star *star, double seconds)
{
    Wait wait = wait_begin();
    bool late = false;
    star_send_frame(star, (Frame){.kind = FRAME_PART, .detail = STAR_GATHER, .number = EXCHANGE_OF_FAILING},
                    NULL, 0);
    (void)pthread_mutex_lock(&star->lock);
    while (!star->all_fail && star->failure == 0 && !late)
        late = star_wait_for_change(star, &wait, seconds);
    const bool all = star->all_fail;
    (void)pthread_mutex_unlock(&star->lock);
    return all;
}
