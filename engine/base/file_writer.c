/* The atomic writer of file.h. */
#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITER_BUFFER = 1 << 16 };

struct FileWriter {
    int descriptor;
    bool in_place;       /* a device or pipe: nothing to rename */
    char path[PATH_MAX]; /* with symbolic links resolved: the link stays, its target is replaced */
    char folder[PATH_MAX];
    char temporary[PATH_MAX];
    size_t written; /* bytes that the system took */
    size_t used;    /* bytes in the buffer */
    char buffer[WRITER_BUFFER];
};

/* ".NAME.HOST.PID.N.tmp": hidden, unique among hosts that share the folder and among processes. */
static Status temporary_prefix(char prefix[PATH_MAX], const char *path)
{
    const char *slash = strrchr(path, '/');
    char host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    const int length = snprintf(prefix, PATH_MAX, ".%s.%s.", slash != NULL ? slash + 1 : path, host);
    /* 255 is the longest name that file systems take; 32 holds pid, count and suffix. */
    if (length < 0 || length > 255 - 32) return fail(STATUS_INPUT, "%s: the file's name is too long", path);
    return OK;
}

/* Removes temporaries that processes of this host left when they were killed, or a run that is killed
 * again and again would fill its disk. A live writer holds a lock on its temporary. */
static void remove_leftovers(const char *folder, const char *prefix)
{
    DIR *listing = opendir(folder);
    if (listing == NULL) return;
    const size_t prefix_length = strlen(prefix);
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        long pid;
        unsigned number;
        int end = 0;
        if (strncmp(entry->d_name, prefix, prefix_length) != 0) continue;
        if (sscanf(entry->d_name + prefix_length, "%ld.%u.tmp%n", &pid, &number, &end) != 2 || end == 0 ||
            entry->d_name[prefix_length + (size_t)end] != '\0')
            continue;
        if (pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) continue;
        const int descriptor = openat(dirfd(listing), entry->d_name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (descriptor < 0) continue;
        if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) (void)unlinkat(dirfd(listing), entry->d_name, 0);
        close(descriptor);
    }
    closedir(listing);
}

static Status open_temporary(FileWriter *writer)
{
    char prefix[PATH_MAX];
    TRY(temporary_prefix(prefix, writer->path));
    remove_leftovers(writer->folder, prefix);
    for (unsigned number = 0; number < 1000; ++number) {
        char name[PATH_MAX];
        (void)snprintf(name, sizeof name, "%.255s%ld.%u.tmp", prefix, (long)getpid(), number);
        TRY(file_join(writer->temporary, writer->folder, name));
        writer->descriptor = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->descriptor >= 0) {
            (void)flock(writer->descriptor, LOCK_EX | LOCK_NB); /* only a mark for remove_leftovers */
            return OK;
        }
        if (errno != EEXIST) break;
    }
    return fail(STATUS_IO, "cannot write %s: %s", writer->path, strerror(errno));
}

static Status open_writer(FileWriter *writer, const char *path)
{
    TRY(file_join(writer->path, "", path));
    struct stat about;
    if (stat(path, &about) == 0) {
        if (S_ISDIR(about.st_mode)) return fail(STATUS_IO, "cannot write %s: it is a folder", path);
        if (!S_ISREG(about.st_mode)) {
            /* Renaming over /dev/null would replace the device. */
            writer->in_place = true;
            writer->descriptor = open(path, O_WRONLY | O_CLOEXEC);
            if (writer->descriptor < 0) return fail(STATUS_IO, "cannot write %s: %s", path, strerror(errno));
            return OK;
        }
        if (realpath(path, writer->path) == NULL)
            return fail(STATUS_IO, "cannot write %s: %s", path, strerror(errno));
    }
    const char *slash = strrchr(writer->path, '/');
    if (slash == NULL)
        (void)snprintf(writer->folder, sizeof writer->folder, ".");
    else /* "/name" lies in "/" */
        (void)snprintf(writer->folder, sizeof writer->folder, "%.*s",
                       (int)(slash - writer->path) + (slash == writer->path), writer->path);
    return open_temporary(writer);
}

Status file_writer_open(const char *path, FileWriter **out)
{
    *out = NULL;
    FileWriter *writer;
    TRY(memory_new(&writer, 1, sizeof *writer, "file writer"));
    writer->descriptor = -1;
    Status status = open_writer(writer, path);
    if (status != OK) {
        free(writer);
        return status;
    }
    *out = writer;
    return OK;
}

static Status write_out(FileWriter *writer, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        const ssize_t wrote = write(writer->descriptor, data + done, size - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0)
            return fail(STATUS_IO, "cannot write %zu bytes to %s (after %zu bytes): %s", size - done,
                        writer->path, writer->written, strerror(errno));
        done += (size_t)wrote;
        writer->written += (size_t)wrote;
    }
    return OK;
}

static Status write_buffer(FileWriter *writer)
{
    const size_t used = writer->used;
    writer->used = 0;
    return write_out(writer, writer->buffer, used);
}

Status file_writer_write(FileWriter *writer, const void *data, size_t size)
{
    if (size > WRITER_BUFFER - writer->used) TRY(write_buffer(writer));
    if (size >= WRITER_BUFFER) return write_out(writer, data, size);
    if (size > 0) memcpy(writer->buffer + writer->used, data, size);
    writer->used += size;
    return OK;
}

/* The name's new meaning must be on the disk too. */
static Status sync_folder(const FileWriter *writer)
{
    const int descriptor = open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return fail(STATUS_IO, "cannot open the folder %s: %s", writer->folder, strerror(errno));
    Status status = OK;
    /* Some file systems cannot sync folders and say so with EINVAL. */
    if (fsync(descriptor) != 0 && errno != EINVAL)
        status = fail(STATUS_IO, "cannot sync the folder %s: %s", writer->folder, strerror(errno));
    close(descriptor);
    return status;
}

static Status commit(FileWriter *writer)
{
    TRY(write_buffer(writer));
    if (!writer->in_place && fsync(writer->descriptor) != 0)
        return fail(STATUS_IO, "cannot sync the %zu bytes of %s: %s", writer->written, writer->path,
                    strerror(errno));
    /* Renamed while still open: the lock on the temporary ends with the descriptor. */
    if (!writer->in_place) {
        if (rename(writer->temporary, writer->path) != 0)
            return fail(STATUS_IO, "cannot rename %s to %s: %s", writer->temporary, writer->path,
                        strerror(errno));
        writer->temporary[0] = '\0';
    }
    const int descriptor = writer->descriptor;
    writer->descriptor = -1;
    if (close(descriptor) != 0)
        return fail(STATUS_IO, "cannot write the %zu bytes of %s: %s", writer->written, writer->path,
                    strerror(errno));
    if (writer->in_place) return OK;
    return sync_folder(writer);
}

Status file_writer_commit(FileWriter *writer)
{
    Status status = commit(writer);
    file_writer_abandon(writer);
    return status;
}

void file_writer_abandon(FileWriter *writer)
{
    if (writer == NULL) return;
    if (writer->descriptor >= 0) close(writer->descriptor);
    if (!writer->in_place && writer->temporary[0] != '\0') (void)unlink(writer->temporary);
    free(writer);
}

Status file_check_writable(const char *path)
{
    FileWriter *writer;
    struct stat about;
    /* A pipe would wait for its reader, and a device is what it is. */
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode)) return OK;
    TRY(file_writer_open(path, &writer));
    file_writer_abandon(writer);
    return OK;
}

Status file_write(const char *path, const void *data, size_t size)
{
    FileWriter *writer;
    TRY(file_writer_open(path, &writer));
    Status status = file_writer_write(writer, data, size);
    if (status != OK) {
        file_writer_abandon(writer);
        return status;
    }
    return file_writer_commit(writer);
}
