/* Copies by way of pinned memory, over a queue that does its work as late as it may. */
#include "tests/support.h"

#include "engine/device/staging.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    void *to;
    const void *from;
    size_t bytes;
} Work;

enum { MOST_WORK = 1 << 16 };

typedef struct {
    Work work[MOST_WORK];
    int done, given, event[STAGING_EVENTS];
} Queue;

static void work_until(Queue *queue, int end)
{
    for (; queue->done < end; ++queue->done)
        memcpy(queue->work[queue->done].to, queue->work[queue->done].from, queue->work[queue->done].bytes);
}

static Status enqueue(void *queue, void *to, const void *from, size_t bytes)
{
    Queue *q = queue;
    assert_true(q->given < MOST_WORK);
    q->work[q->given++] = (Work){to, from, bytes};
    return OK;
}

static Status record(void *queue, int event)
{
    Queue *q = queue;
    q->event[event] = q->given;
    return OK;
}

static Status wait_for(void *queue, int event)
{
    work_until(queue, ((Queue *)queue)->event[event]);
    return OK;
}

static Status drain(void *queue)
{
    work_until(queue, ((Queue *)queue)->given);
    return OK;
}

static const StagingQueue methods = {enqueue, enqueue, record, wait_for, drain};

/* Of many sizes: the same ones in every run. */
static size_t next_size(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 29 == 0 ? (*state >> 8) % (3U << 20) : (*state >> 8) % 9000;
}

static void copies_arrive_however_late(void **test_state)
{
    (void)test_state;
    enum { COPIES = 300, ROUNDS = 20 };
    static Queue queue;
    static Staging staging;
    static char *host[COPIES], *device[COPIES], *back[COPIES];
    size_t size[COPIES];
    uint32_t state = 7;
    char *passing = malloc(3U << 20);
    staging = (Staging){.methods = &methods, .queue = &queue, .memory = malloc(STAGING_BYTES)};
    assert_non_null(staging.memory);
    assert_non_null(passing);
    for (int round = 0; round < ROUNDS; ++round) {
        queue = (Queue){.done = 0};
        for (int i = 0; i < COPIES; ++i) {
            size[i] = next_size(&state);
            host[i] = malloc(size[i] + 1);
            device[i] = calloc(1, size[i] + 1);
            back[i] = calloc(1, size[i] + 1);
            assert_true(host[i] != NULL && device[i] != NULL && back[i] != NULL);
            for (size_t k = 0; k < size[i]; ++k)
                host[i][k] = (char)(k * 31 + (size_t)(i * 7 + round));
            memcpy(passing, host[i], size[i]);
            assert_ok(staging_upload(&staging, device[i], passing, size[i]));
            memset(passing, 99, size[i]); /* it is its owner's again */
            if (i % 5 == 0 && size[i] <= STAGED_MOST)
                assert_ok(staging_download(&staging, back[i], device[i], size[i]));
            if (i % 97 == 96) assert_ok(staging_synchronize(&staging));
        }
        assert_ok(staging_synchronize(&staging));
        for (int i = 0; i < COPIES; ++i) {
            assert_memory_equal(host[i], device[i], size[i]);
            if (i % 5 == 0 && size[i] <= STAGED_MOST) assert_memory_equal(host[i], back[i], size[i]);
            free(host[i]);
            free(device[i]);
            free(back[i]);
        }
    }
    free(staging.memory);
    free(passing);
}

/* As a training loop does it: a step's report is read when the next step has been given, and that one is not waited
 * for. The last steps' reports come at the end. */
static void reports_come_a_step_later(void **test_state)
{
    (void)test_state;
    enum { STEPS = 30000, LAG = STAGING_MARKS + 2 };
    static Queue queue;
    static Staging staging;
    int64_t input[1], device[1], report[LAG];
    Mark mark[LAG];
    int early = 0;
    queue = (Queue){.done = 0};
    staging = (Staging){.methods = &methods, .queue = &queue, .memory = malloc(STAGING_BYTES)};
    assert_non_null(staging.memory);
    for (int lag = 1; lag < LAG; ++lag) {
        for (int64_t step = 0; step < STEPS / lag; ++step) {
            if (queue.given > MOST_WORK - 8) {
                work_until(&queue, queue.given); /* a fresh page; events of before are long past */
                queue = (Queue){.done = 0};
            }
            input[0] = step * 7 + lag;
            assert_ok(staging_upload(&staging, device, input, sizeof input));
            assert_ok(staging_download(&staging, &report[step % LAG], device, sizeof input));
            assert_ok(staging_mark(&staging, &mark[step % LAG]));
            if (step < lag) continue;
            assert_ok(staging_wait(&staging, mark[(step - lag) % LAG]));
            assert_int_equal(report[(step - lag) % LAG], (step - lag) * 7 + lag);
            early += queue.done < queue.given ? 1 : 0; /* it did not wait for all */
        }
        assert_ok(staging_synchronize(&staging));
        assert_int_equal(report[(STEPS / lag - 1) % LAG], (STEPS / lag - 1) * 7 + lag);
    }
    assert_true(early > STEPS / 2);
    free(staging.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_arrive_however_late),
                                       cmocka_unit_test(reports_come_a_step_later)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
