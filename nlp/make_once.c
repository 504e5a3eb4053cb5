#include "nlp/make_once.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* The lock is removed once the file is there: a process that locks the removed file finds the other one made. */
static Status make_locked(const char *path, const char *lock_path, const MakeOnce *work, bool *made)
{
    FileLock *lock;
    Status status = file_lock(lock_path, &lock);
    if (status != OK && status_code(status) == STATUS_BUSY) {
        status_free(status);
        return OK;
    }
    if (status != OK) return status;
    if (!work->is_made(work->context, path)) status = work->make(work->context, path);
    *made = status == OK;
    (void)unlink(lock_path);
    file_unlock(lock);
    return status;
}

Status make_once_try(const char *path, const MakeOnce *work, bool *made)
{
    char *lock_path;
    *made = work->is_made(work->context, path);
    if (*made) return OK;
    TRY(text_format(&lock_path, "%s.lock", path));
    Status status = make_locked(path, lock_path, work, made);
    free(lock_path);
    return status;
}

void make_once_wait(void)
{
    const struct timespec time = {.tv_nsec = 50000000};
    (void)nanosleep(&time, NULL);
}

Status make_once(const char *path, const MakeOnce *work)
{
    for (bool made = false;;) {
        TRY(make_once_try(path, work, &made));
        if (made) return OK;
        make_once_wait();
    }
}
