/* Files: whole reads with checked sizes, memory maps, and writes that are atomic: a temporary name in
 * the same folder, fsync, rename, fsync of the folder. A reader sees the old file or the new one. */
#ifndef PLUMB_ENGINE_BASE_FILE_H
#define PLUMB_ENGINE_BASE_FILE_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* The whole file, NUL-terminated after its last byte; release with free(). Files ending in .gz are
 * decompressed. limit: the most bytes (after decompression) accepted; more is an error that says so. */
CHECKED Status file_read(const char *path, size_t limit, char **data, size_t *size);

/* A read-only map of a file; empty files give data NULL, size 0. */
typedef struct {
    const uint8_t *data;
    size_t size;
} FileMap;
CHECKED Status file_map(const char *path, FileMap *);
void file_unmap(FileMap *);

/* An atomic write in progress: write any number of pieces, then commit or abandon. A symbolic link stays
 * and its target is replaced; a device or pipe is written in place. One thread of a process may write a
 * path at a time. What a killed process left behind is removed by the next write to the same path.
 * Errors name the path and say what the system said (a full disk: how much was to be written). */
typedef struct FileWriter FileWriter;
CHECKED Status file_writer_open(const char *path, FileWriter **);
CHECKED Status file_writer_write(FileWriter *, const void *data, size_t size);
CHECKED Status file_writer_commit(FileWriter *); /* syncs, renames, frees; on error the old file stays */
void file_writer_abandon(FileWriter *);          /* frees and removes the temporary; NULL is allowed */
CHECKED Status file_write(const char *path, const void *data, size_t size); /* the three in one */

/* Would file_write begin to write there? For a command to ask before its work, and not find out when that is done. */
CHECKED Status file_check_writable(const char *path);

/* Appends one line (newline added) with a single write(2), on a line of its own even after a torn one, and
 * syncs it. */
CHECKED Status file_append_line(const char *path, const char *line);

bool file_exists(const char *path);
CHECKED Status file_make_folder(const char *path); /* with parents; an existing folder is fine */
/* Joins folder and name into buffer of PATH_MAX bytes; an absolute name stands for itself. An over-long
 * path is an error. */
CHECKED Status file_join(char *buffer, const char *folder, const char *name);

/* An exclusive lock on `path` (created if absent), held until released or the process ends.
 * STATUS_BUSY when another process holds it, naming its pid and host as found in the file. */
typedef struct FileLock FileLock;
CHECKED Status file_lock(const char *path, FileLock **);
void file_unlock(FileLock *); /* NULL is allowed */

#endif
