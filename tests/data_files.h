/* Small data sets in their real formats, written into scratch folders, and ways to spoil a file. */
#ifndef PLUMB_TESTS_DATA_FILES_H
#define PLUMB_TESTS_DATA_FILES_H

#include "engine/data/images/dataset.h"
#include "tests/support.h"

#include "engine/base/file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void path_of(char path[PATH_MAX], const char *folder, const char *name)
{
    assert_ok(file_join(path, folder, name));
}

static inline void put_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[PATH_MAX];
    path_of(path, folder, name);
    assert_ok(file_write(path, data, size));
}

static inline void make_folder(const char *folder, const char *name)
{
    char path[PATH_MAX];
    path_of(path, folder, name);
    assert_ok(file_make_folder(path));
}

/* What is done to one file of a good data set, and what the error must say. */
typedef enum { REMOVE, EMPTY, CUT, ADD, SET } Harm;

typedef struct {
    const char *file;
    Harm harm;
    int64_t amount; /* CUT, ADD: bytes; SET: the offset */
    int value;      /* SET: the byte */
    const char *message;
} Spoiled;

static inline void spoil(const char *folder, const Spoiled *spoiled)
{
    char path[PATH_MAX];
    path_of(path, folder, spoiled->file);
    if (spoiled->harm == REMOVE) {
        assert_int_equal(unlink(path), 0);
        return;
    }
    FileMap map; /* as it is: file_read would decompress */
    assert_ok(file_map(path, &map));
    size_t size = map.size;
    char *changed = calloc(1, size + (size_t)(spoiled->harm == ADD ? spoiled->amount : 0) + 1);
    assert_non_null(changed);
    memcpy(changed, map.data, size);
    file_unmap(&map);
    switch (spoiled->harm) {
    case EMPTY:
        size = 0;
        break;
    case CUT:
        assert_true((size_t)spoiled->amount < size);
        size -= (size_t)spoiled->amount;
        break;
    case ADD:
        size += (size_t)spoiled->amount;
        break;
    case SET:
        assert_true((size_t)spoiled->amount < size);
        changed[spoiled->amount] = (char)spoiled->value;
        break;
    case REMOVE:
        break;
    }
    put_file(folder, spoiled->file, changed, size);
    free(changed);
}

/* Opening must fail with the row's message, which must name the file. */
static inline void assert_spoiled(const char *dataset_name, const char *folder, const Spoiled *spoiled)
{
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = -1};
    Status status = dataset_open(dataset_name, &options, &dataset);
    if (status == OK) {
        print_error("%s: opened although %s is spoiled (%s)\n", dataset_name, spoiled->file,
                    spoiled->message);
        _fail(__FILE__, __LINE__);
    }
    const char *message = status_message(status);
    const char *file_name = strrchr(spoiled->file, '/');
    file_name = file_name != NULL ? file_name + 1 : spoiled->file;
    if (strstr(message, spoiled->message) == NULL || strstr(message, file_name) == NULL) {
        print_error("got \"%s\", expected \"%s\" and the name %s\n", message, spoiled->message, file_name);
        _fail(__FILE__, __LINE__);
    }
    assert_int_equal(status_code(status), STATUS_INPUT);
    assert_null(dataset);
    status_free(status);
}

#endif
