#include "engine/data/images/lazy_rows.h"

#include "engine/base/memory.h"

#include <pthread.h>
#include <stdlib.h>

typedef enum { RAW, IN_WORK, READY } RowState;

struct LazyRows {
    uint8_t *state; /* [rows] RowState, under the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

Status lazy_rows_new(int64_t rows, LazyRows **out)
{
    LazyRows *lazy;
    *out = NULL;
    TRY(memory_new(&lazy, 1, sizeof *lazy, "states of images"));
    Status status = memory_new(&lazy->state, (size_t)rows, sizeof *lazy->state, "states of images");
    if (status != OK) {
        free(lazy);
        return status;
    }
    (void)pthread_mutex_init(&lazy->mutex, NULL);
    (void)pthread_cond_init(&lazy->changed, NULL);
    *out = lazy;
    return OK;
}

void lazy_rows_free(LazyRows *lazy)
{
    if (lazy == NULL) return;
    (void)pthread_mutex_destroy(&lazy->mutex);
    (void)pthread_cond_destroy(&lazy->changed);
    free(lazy->state);
    free(lazy);
}

/* Takes the row if it is raw, and waits if another thread has it in work. True: the caller decodes it. */
static bool claim(LazyRows *lazy, int64_t row)
{
    (void)pthread_mutex_lock(&lazy->mutex);
    while (lazy->state[row] == IN_WORK)
        (void)pthread_cond_wait(&lazy->changed, &lazy->mutex);
    const bool mine = lazy->state[row] == RAW;
    if (mine) lazy->state[row] = IN_WORK;
    (void)pthread_mutex_unlock(&lazy->mutex);
    return mine;
}

static void release(LazyRows *lazy, int64_t row, RowState state)
{
    (void)pthread_mutex_lock(&lazy->mutex);
    lazy->state[row] = (uint8_t)state;
    (void)pthread_cond_broadcast(&lazy->changed);
    (void)pthread_mutex_unlock(&lazy->mutex);
}

Status lazy_rows_prepare(LazyRows *lazy, const ImageTable *table, Split split, const int64_t sample[],
                         int64_t count, Status (*decode)(const ImageTable *, int64_t row))
{
    for (int64_t i = 0; i < count; ++i) {
        const int64_t row = table->dataset.split[split].row[sample[i]];
        if (!claim(lazy, row)) continue;
        Status status = decode(table, row);
        release(lazy, row, status == OK ? READY : RAW);
        TRY(status);
    }
    return OK;
}
