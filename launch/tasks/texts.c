#include "launch/tasks/texts.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "nlp/word_vectors.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char table_name[] = "embedding.weight", vocabulary_file[] = "vocabulary.txt";

Status texts_read(const Config *config, TaskShare share, const ModelOptions *model, Texts *texts)
{
    *texts = (Texts){.folder = config_text(config, "dataset.folder"),
                     .vectors = config_text(config, "vectors.file"),
                     .limit = {[SPLIT_TRAIN] = config_integer(config, "dataset.train_limit"),
                               [SPLIT_VALIDATION] = config_integer(config, "dataset.validation_limit"),
                               [SPLIT_TEST] = config_integer(config, "dataset.test_limit")},
                     .width = model->embedding_width,
                     .split_seed = (uint64_t)config_integer(config, "dataset.split_seed"),
                     .starts = share.training && !share.goes_on};
    if (texts->vectors[0] == '\0' && model->freeze_embedding)
        return config_error(config, "model.freeze_embedding",
                            "there are no word vectors to keep as they are: set vectors.file, or "
                            "model.freeze_embedding: false");
    return OK;
}

void texts_free(Texts *texts) { vocabulary_free(texts->vocabulary); }

static Status of_width(Status status, int64_t width)
{
    return status == OK
               ? OK
               : status_context(status, "vectors.file, of vectors as wide as model.embedding_width, %" PRId64,
                                width);
}

Status texts_check_vectors(const Texts *texts, const Config *config, const char *fetch)
{
    if (!texts->starts || texts->vectors[0] == '\0') return OK;
    if (file_exists(texts->vectors))
        return of_width(word_vectors_check(texts->vectors, texts->width), texts->width);
    return config_error(config, "vectors.file", "there is no file %s (launch/get_data.sh %s fetches GloVe's)",
                        texts->vectors, fetch);
}

static Status fill_known(Store *store, const StoreEntry *table, const WordVectors *vectors)
{
    const int64_t width = table->shape.extent[1], count = shape_count(table->shape);
    float *values;
    TRY(memory_new(&values, (size_t)count, sizeof *values, "word vectors"));
    Status status = device_download(store_device(store), values, table->data, shape_bytes(table->shape));
    if (status == OK) status = device_synchronize(store_device(store));
    for (int64_t i = 0; i < vectors->size && status == OK; ++i)
        if (vectors->known[i])
            memcpy(values + i * width, vectors->vector + i * width, (size_t)width * sizeof *values);
    if (status == OK) status = store_fill(store, table_name, values, count);
    free(values);
    return status;
}

Status texts_fill_vectors(const Texts *texts, Store *store, const char *others)
{
    if (texts->vectors[0] == '\0') return OK;
    const StoreEntry *table = store_find(store, table_name);
    if (table == NULL)
        return fail(STATUS_INPUT, "vectors.file: the network has no table of word vectors (%s)", table_name);
    WordVectors vectors;
    const int64_t width = table->shape.extent[1];
    Status status = word_vectors_read(texts->vectors, texts->vocabulary, width, &vectors);
    TRY(of_width(status, width));
    log_info("%s: %" PRId64 " vectors; %" PRId64 " words of the vocabulary have one, %" PRId64
             " have none and %s",
             texts->vectors, vectors.lines, vectors.found, vectors.missing, others);
    if (vectors.duplicates > 0)
        log_warning("%s: lines that repeat a word of the vocabulary: %" PRId64
                    "; the first line of a word counts",
                    texts->vectors, vectors.duplicates);
    status = vectors.found > 0
                 ? fill_known(store, table, &vectors)
                 : fail(STATUS_INPUT, "vectors.file: %s has no vector for any word of the vocabulary",
                        texts->vectors);
    word_vectors_free(&vectors);
    return status;
}

Status texts_write_files(const Texts *texts, const char *folder)
{
    char path[PATH_MAX];
    TRY(file_join(path, folder, vocabulary_file));
    return vocabulary_write(texts->vocabulary, path);
}

Status texts_read_files(Texts *texts, const char *folder, const char *special)
{
    char path[PATH_MAX];
    TRY(file_join(path, folder, vocabulary_file));
    if (!file_exists(path))
        return fail(STATUS_INPUT, "%s has no %s: the run has not begun to train", folder, vocabulary_file);
    return vocabulary_read(path, &special, 1, &texts->vocabulary);
}

static int by_number(const void *a, const void *b)
{
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

Status texts_limit(const Texts *texts, Split split, int64_t item[], int64_t *count)
{
    const int64_t limit = texts->limit[split];
    int64_t *drawn;
    if (limit <= 0 || limit >= *count) return OK;
    TRY(memory_new(&drawn, (size_t)*count, sizeof *drawn, "samples"));
    random_shuffle(texts->split_seed, RANDOM_SPLIT, 1 + (uint64_t)split, drawn, *count);
    qsort(drawn, (size_t)limit, sizeof *drawn, by_number);
    for (int64_t i = 0; i < limit; ++i)
        item[i] = item[drawn[i]]; /* drawn[i] >= i */
    *count = limit;
    free(drawn);
    return OK;
}
