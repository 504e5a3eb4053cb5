#include "launch/tasks/corpus_record.h"

#include "engine/base/file.h"

#include <cJSON.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HASH_TEXT = 20, MOST_BYTES = 1 << 20 };
static const char file_name[] = "corpus.json";
static const char *const side_names[SIDES] = {[SOURCE_SIDE] = "source", [TARGET_SIDE] = "target"};

static void hash_text(uint64_t hash, char text[HASH_TEXT])
{
    (void)snprintf(text, HASH_TEXT, "%016" PRIx64, hash);
}

static bool add_side(cJSON *object, const TranslationSplit *split, int side)
{
    char hash[HASH_TEXT];
    hash_text(split->hash[side], hash);
    cJSON *of = cJSON_AddObjectToObject(object, side_names[side]);
    return cJSON_AddStringToObject(of, "file", split->file[side]) != NULL &&
           cJSON_AddNumberToObject(of, "lines", (double)split->corpus.pairs) != NULL &&
           cJSON_AddStringToObject(of, "xxh3", hash) != NULL;
}

Status corpus_record_write(const TranslationData *data, const char *folder)
{
    char path[PATH_MAX];
    TRY(file_join(path, folder, file_name));
    cJSON *root = cJSON_CreateObject();
    bool ok = root != NULL;
    for (int which = 0; which < SPLIT_COUNT; ++which) {
        const TranslationSplit *split = &data->split[which];
        if (split->file[SOURCE_SIDE] == NULL) continue; /* there is none */
        cJSON *object = cJSON_AddObjectToObject(root, split_name((Split)which));
        for (int side = 0; side < SIDES; ++side)
            ok = ok && add_side(object, split, side);
    }
    char *text = ok ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return fail(STATUS_MEMORY, "no memory for %s", file_name);
    const Status status = file_write(path, text, strlen(text));
    cJSON_free(text);
    return status;
}

static Status check_side(const cJSON *object, const TranslationSplit *split, int side, const char *path)
{
    char hash[HASH_TEXT];
    const cJSON *of = cJSON_GetObjectItemCaseSensitive(object, side_names[side]);
    const cJSON *was = cJSON_GetObjectItemCaseSensitive(of, "xxh3"),
                *lines = cJSON_GetObjectItemCaseSensitive(of, "lines");
    if (!cJSON_IsString(was) || !cJSON_IsNumber(lines)) return OK;
    hash_text(split->hash[side], hash);
    if (strcmp(hash, was->valuestring) == 0) return OK;
    return fail(
        STATUS_INPUT,
        "%s has changed since the run began: it has %" PRId64
        " lines with the hash %s, and had %.0f with the hash %s (%s). Give the run its corpus back, or begin "
        "another run",
        split->file[side], split->corpus.pairs, hash, lines->valuedouble, was->valuestring, path);
}

Status corpus_record_check(const TranslationData *data, const char *folder)
{
    char path[PATH_MAX], *text;
    size_t size;
    TRY(file_join(path, folder, file_name));
    if (!file_exists(path)) return OK;
    TRY(file_read(path, MOST_BYTES, &text, &size));
    cJSON *root = cJSON_ParseWithLength(text, size);
    free(text);
    if (root == NULL)
        return fail(STATUS_INPUT, "%s is damaged: remove it if the run's corpus is what it was", path);
    Status status = OK;
    for (int which = 0; which < SPLIT_COUNT && status == OK; ++which) {
        const TranslationSplit *split = &data->split[which];
        const cJSON *object = cJSON_GetObjectItemCaseSensitive(root, split_name((Split)which));
        for (int side = 0; side < SIDES && split->file[side] != NULL && status == OK; ++side)
            status = check_side(object, split, side, path);
    }
    cJSON_Delete(root);
    return status;
}
