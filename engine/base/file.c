#include "engine/base/file.h"

#include "engine/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* ---- Reading ---- */

static Status too_large(const char *path, size_t limit)
{
    return fail(STATUS_INPUT, "%s: larger than the %zu bytes that are accepted here", path, limit);
}

/* Opens for reading and refuses folders, whose read(2) would give a puzzling error. */
static Status open_for_reading(const char *path, int *descriptor, struct stat *about)
{
    *descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (*descriptor < 0) return fail(STATUS_IO, "cannot open %s: %s", path, strerror(errno));
    Status status = OK;
    if (fstat(*descriptor, about) != 0)
        status = fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    else if (S_ISDIR(about->st_mode))
        status = fail(STATUS_IO, "cannot read %s: it is a folder", path);
    if (status != OK) {
        close(*descriptor);
        *descriptor = -1;
    }
    return status;
}

/* At most `size` bytes from either kind of file; 0 at the end, negative for an error. */
typedef struct {
    int descriptor;
    gzFile zipped; /* NULL: a plain file */
} Source;

static ssize_t source_read(const Source *source, char *buffer, size_t size)
{
    if (size > 1U << 30) size = 1U << 30;
    if (source->zipped != NULL) return gzread(source->zipped, buffer, (unsigned)size);
    ssize_t got;
    do
        got = read(source->descriptor, buffer, size);
    while (got < 0 && errno == EINTR);
    return got;
}

static Status source_error(const Source *source, const char *path)
{
    int code = Z_ERRNO;
    const char *message = source->zipped != NULL ? gzerror(source->zipped, &code) : "";
    if (source->zipped == NULL || code == Z_ERRNO)
        return fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    if (code == Z_BUF_ERROR) return fail(STATUS_INPUT, "%s: the compressed file is cut short", path);
    return fail(STATUS_INPUT, "%s: the compressed file is damaged: %s", path, message);
}

/* Reads to the end into memory that grows; `guess` (the file's size) only saves the growing. */
static Status read_to_end(const Source *source, const char *path, size_t guess, size_t limit, char **data,
                          size_t *size)
{
    size_t capacity = (guess < limit ? guess : limit) + 2, used = 0; /* room for the NUL and to see the end */
    char *memory = malloc(capacity);
    Status status = OK;
    for (;;) {
        if (memory == NULL) {
            status = fail(STATUS_MEMORY, "no memory to read %s", path);
            break;
        }
        const ssize_t got = source_read(source, memory + used, capacity - 1 - used);
        if (got < 0) {
            status = source_error(source, path);
            break;
        }
        if (got == 0) break;
        used += (size_t)got;
        if (used > limit) {
            status = too_large(path, limit);
            break;
        }
        if (used < capacity - 1) continue;
        capacity = capacity > limit / 2 ? limit + 2 : capacity * 2;
        char *grown = realloc(memory, capacity);
        if (grown == NULL) free(memory);
        memory = grown;
    }
    if (status != OK) {
        free(memory);
        return status;
    }
    memory[used] = '\0';
    *data = memory;
    *size = used;
    return OK;
}

static bool ends_in(const char *text, const char *end)
{
    const size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

Status file_read(const char *path, size_t limit, char **data, size_t *size)
{
    *data = NULL;
    *size = 0;
    if (limit > SIZE_MAX / 4) limit = SIZE_MAX / 4;
    struct stat about;
    Source source = {.descriptor = -1, .zipped = NULL};
    TRY(open_for_reading(path, &source.descriptor, &about));
    if (!ends_in(path, ".gz")) {
        const size_t guess = about.st_size > 0 ? (size_t)about.st_size : 0;
        Status status;
        if (S_ISREG(about.st_mode) && guess > limit)
            status = too_large(path, limit);
        else
            status = read_to_end(&source, path, guess, limit, data, size);
        close(source.descriptor);
        return status;
    }
    source.zipped = gzdopen(source.descriptor, "rb");
    if (source.zipped == NULL) {
        close(source.descriptor);
        return fail(STATUS_MEMORY, "no memory to decompress %s", path);
    }
    (void)gzbuffer(source.zipped, 1U << 17);
    Status status = OK;
    /* zlib passes files of another format through unchanged; a name in .gz promises gzip. */
    if (gzdirect(source.zipped)) status = fail(STATUS_INPUT, "%s: not a gzip file", path);
    if (status == OK) status = read_to_end(&source, path, 1U << 20, limit, data, size);
    if (status == OK) {
        /* A stream that ends too early reads as a short file; only the error state tells. */
        int code;
        (void)gzerror(source.zipped, &code);
        if (code != Z_OK && code != Z_STREAM_END) {
            status = source_error(&source, path);
            free(*data);
            *data = NULL;
            *size = 0;
        }
    }
    (void)gzclose_r(source.zipped);
    return status;
}

Status file_map(const char *path, FileMap *map)
{
    *map = (FileMap){NULL, 0};
    int descriptor;
    struct stat about;
    TRY(open_for_reading(path, &descriptor, &about));
    Status status = OK;
    if (!S_ISREG(about.st_mode)) {
        status = fail(STATUS_IO, "cannot map %s: not a regular file", path);
    } else if (about.st_size > 0) {
        void *data = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (data == MAP_FAILED)
            status = fail(STATUS_IO, "cannot map %s (%lld bytes): %s", path, (long long)about.st_size,
                          strerror(errno));
        else
            *map = (FileMap){data, (size_t)about.st_size};
    }
    close(descriptor);
    return status;
}

void file_unmap(FileMap *map)
{
    if (map->data != NULL) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (FileMap){NULL, 0};
}

/* ---- Names and folders ---- */

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

Status file_join(char *buffer, const char *folder, const char *name)
{
    const size_t length = strlen(folder);
    int needed;
    if (length == 0 || name[0] == '/')
        needed = snprintf(buffer, PATH_MAX, "%s", name);
    else
        needed = snprintf(buffer, PATH_MAX, "%s%s%s", folder, folder[length - 1] == '/' ? "" : "/", name);
    if (needed < 0 || needed >= PATH_MAX)
        return fail(STATUS_INPUT, "the path %.60s.../%.60s... is longer than %d bytes", folder, name,
                    PATH_MAX - 1);
    return OK;
}

static Status make_one_folder(const char *path)
{
    if (mkdir(path, 0777) == 0) return OK;
    const int reason = errno;
    struct stat about;
    /* Several ranks may make the same folder at once, and a parent that exists may not be writable. */
    if (stat(path, &about) == 0) {
        if (S_ISDIR(about.st_mode)) return OK;
        return fail(STATUS_IO, "cannot make the folder %s: a file of that name is in the way", path);
    }
    return fail(STATUS_IO, "cannot make the folder %s: %s", path, strerror(reason));
}

Status file_make_folder(const char *path)
{
    char part[PATH_MAX];
    TRY(file_join(part, "", path));
    for (char *c = part; *c != '\0'; ++c) {
        if (*c != '/' || c == part) continue;
        *c = '\0';
        TRY(make_one_folder(part));
        *c = '/';
    }
    return make_one_folder(part);
}

/* ---- Appending and locking ---- */

static Status write_all(int descriptor, const char *path, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        const ssize_t wrote = write(descriptor, data + done, size - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0)
            return fail(STATUS_IO, "cannot write %zu bytes to %s: %s", size - done, path, strerror(errno));
        done += (size_t)wrote;
    }
    return OK;
}

Status file_append_line(const char *path, const char *line)
{
    const int descriptor = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0) return fail(STATUS_IO, "cannot open %s for appending: %s", path, strerror(errno));
    /* A line that a crash tore must not swallow this one. */
    const off_t end = lseek(descriptor, 0, SEEK_END);
    char last = '\n';
    const bool torn = end > 0 && pread(descriptor, &last, 1, end - 1) == 1 && last != '\n';
    char *text = NULL;
    Status status = text_format(&text, "%s%s\n", torn ? "\n" : "", line);
    if (status == OK) status = write_all(descriptor, path, text, strlen(text));
    free(text);
    /* A device or a pipe cannot be synced, and says so. */
    if (status == OK && fdatasync(descriptor) != 0 && errno != EINVAL && errno != EROFS)
        status = fail(STATUS_IO, "cannot sync %s: %s", path, strerror(errno));
    if (close(descriptor) != 0 && status == OK)
        status = fail(STATUS_IO, "cannot write to %s: %s", path, strerror(errno));
    return status;
}

struct FileLock {
    int descriptor;
};

/* The holder wrote "pid host"; it may not yet have done so. */
static Status lock_is_held(int descriptor, const char *path)
{
    char holder[512] = "";
    const ssize_t got = pread(descriptor, holder, sizeof holder - 1, 0);
    holder[got > 0 ? got : 0] = '\0';
    long pid;
    char host[256];
    if (sscanf(holder, "%ld %255s", &pid, host) != 2)
        return fail(STATUS_BUSY, "%s is locked by another process", path);
    return fail(STATUS_BUSY, "%s is locked by process %ld on %s", path, pid, host);
}

Status file_lock(const char *path, FileLock **out)
{
    *out = NULL;
    FileLock *lock;
    TRY(memory_new(&lock, 1, sizeof *lock, "file lock"));
    Status status = OK;
    /* flock, not fcntl: closing another descriptor of the file must not drop the lock. The file stays after
     * release, since removing it would let two processes lock two files of one name. */
    lock->descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock->descriptor < 0) {
        status = fail(STATUS_IO, "cannot open the lock %s: %s", path, strerror(errno));
    } else if (flock(lock->descriptor, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            status = lock_is_held(lock->descriptor, path);
        else
            status = fail(STATUS_IO, "cannot lock %s: %s", path, strerror(errno));
    } else {
        char host[256] = "", holder[512];
        (void)gethostname(host, sizeof host - 1);
        (void)snprintf(holder, sizeof holder, "%ld %s\n", (long)getpid(), host);
        if (ftruncate(lock->descriptor, 0) != 0)
            status = fail(STATUS_IO, "cannot write the lock %s: %s", path, strerror(errno));
        else
            status = write_all(lock->descriptor, path, holder, strlen(holder));
    }
    if (status != OK) {
        if (lock->descriptor >= 0) close(lock->descriptor);
        free(lock);
        return status;
    }
    *out = lock;
    return OK;
}

void file_unlock(FileLock *lock)
{
    if (lock == NULL) return;
    if (ftruncate(lock->descriptor, 0) != 0) { /* the name of the last holder is only a courtesy */
    }
    close(lock->descriptor);
    free(lock);
}
