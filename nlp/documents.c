#include "nlp/documents.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

void documents_free(Documents *documents)
{
    for (int64_t i = 0; documents->class_name != NULL && i < documents->classes; ++i)
        free(documents->class_name[i]);
    free(documents->class_name);
    free(documents->label);
    free(documents->text);
    free(documents->text_start);
    free(documents->name);
    free(documents->name_start);
    *documents = (Documents){.given_train = -1};
}

TextSpan documents_text(const Documents *documents, int64_t document)
{
    const int64_t start = documents->text_start[document];
    return (TextSpan){.data = documents->text + start,
                      .size = (size_t)(documents->text_start[document + 1] - start)};
}

const char *documents_name(const Documents *documents, int64_t document)
{
    return documents->name + documents->name_start[document];
}

/* ---- Splits ---- */

typedef enum { TRAIN, VALIDATION, TEST, PARTS } Part;

/* Marks the last `amount` of a shuffle of the first `count` documents, after leaving out the very last `skip`. */
static void mark(const int64_t shuffled[], int64_t count, int64_t skip, int64_t amount, Part part,
                 uint8_t part_of[])
{
    for (int64_t i = count - skip - amount; i < count - skip; ++i)
        part_of[shuffled[i]] = (uint8_t)part;
}

static Status check_sizes(const DocumentsSplitOptions *options, int64_t count, int64_t test, const char *from)
{
    if (options->validation < 1)
        return fail(STATUS_INPUT, "%lld documents for validation: at least 1 is needed",
                    (long long)options->validation);
    if (count - test - options->validation < 1)
        return fail(STATUS_INPUT, "%lld documents for validation and %lld for test leave none of the %lld %s",
                    (long long)options->validation, (long long)test, (long long)count, from);
    return OK;
}

/* part_of[i]: where document i belongs. */
static Status choose(const Documents *documents, const DocumentsSplitOptions *options, int64_t shuffled[],
                     uint8_t part_of[])
{
    const int64_t count = documents->count;
    int64_t pool = count, test = 0; /* how many are shuffled, and how many of those are for test */
    if (options->rule == DOCUMENTS_BY_DATE) {
        pool = documents->given_train;
        if (pool < 0)
            return fail(STATUS_INPUT,
                        "a split by date needs documents that come in two parts, train and test; these "
                        "come in one folder and can be split at random");
        if (pool == count) return fail(STATUS_INPUT, "no document is given for test");
        TRY(check_sizes(options, pool, 0, "training documents"));
    } else {
        test = (int64_t)(0.2 * (double)count); /* as Python has it: not always count / 5 */
        if (test < 1)
            return fail(STATUS_INPUT, "%lld documents are too few: a fifth is none", (long long)count);
        TRY(check_sizes(options, count, test, "documents"));
    }
    random_shuffle(options->seed, RANDOM_SPLIT, 0, shuffled, pool);
    for (int64_t i = 0; i < count; ++i)
        part_of[i] = i < pool ? TRAIN : TEST;
    mark(shuffled, pool, 0, test, TEST, part_of);
    mark(shuffled, pool, test, options->validation, VALIDATION, part_of);
    return OK;
}

static Status gather(const Documents *documents, const uint8_t part_of[], DocumentsSplit *split)
{
    int64_t **const lists[PARTS] = {&split->train, &split->validation, &split->test};
    int64_t *const counts[PARTS] = {&split->train_count, &split->validation_count, &split->test_count};
    for (int part = 0; part < PARTS; ++part)
        TRY(memory_new(lists[part], (size_t)documents->count, sizeof **lists[part], "a split of documents"));
    for (int64_t i = 0; i < documents->count; ++i)
        (*lists[part_of[i]])[(*counts[part_of[i]])++] = i;
    return OK;
}

Status documents_split(const Documents *documents, const DocumentsSplitOptions *options,
                       DocumentsSplit *split)
{
    *split = (DocumentsSplit){.train = NULL};
    int64_t *shuffled;
    uint8_t *part_of;
    TRY(memory_new(&shuffled, (size_t)documents->count, sizeof *shuffled, "a split of documents"));
    Status status = memory_new(&part_of, (size_t)documents->count, sizeof *part_of, "a split of documents");
    if (status == OK) status = choose(documents, options, shuffled, part_of);
    if (status == OK) status = gather(documents, part_of, split);
    free(shuffled);
    free(part_of);
    if (status != OK) documents_split_free(split);
    return status;
}

void documents_split_free(DocumentsSplit *split)
{
    free(split->train);
    free(split->validation);
    free(split->test);
    *split = (DocumentsSplit){.train = NULL};
}

/* ---- The same text in two places ---- */

/* 128 bits: two texts of one corpus do not have the same by chance. */
static XXH128_hash_t text_hash(const Documents *documents, int64_t document)
{
    const TextSpan text = documents_text(documents, document);
    return XXH3_128bits(text.data, text.size);
}

static int compare_hashes(const void *a, const void *b)
{
    const XXH128_hash_t *left = a, *right = b;
    if (left->high64 != right->high64) return left->high64 < right->high64 ? -1 : 1;
    return left->low64 == right->low64 ? 0 : left->low64 < right->low64 ? -1 : 1;
}

Status documents_shared(const Documents *documents, const int64_t sample[], int64_t samples,
                        const int64_t other[], int64_t others, int64_t *shared)
{
    *shared = 0;
    XXH128_hash_t *known;
    TRY(memory_new(&known, (size_t)others, sizeof *known, "hashes of documents"));
    for (int64_t i = 0; i < others; ++i)
        known[i] = text_hash(documents, other[i]);
    qsort(known, (size_t)others, sizeof *known, compare_hashes);
    for (int64_t i = 0; i < samples; ++i) {
        if (documents_text(documents, sample[i]).size == 0) continue;
        const XXH128_hash_t hash = text_hash(documents, sample[i]);
        *shared += bsearch(&hash, known, (size_t)others, sizeof *known, compare_hashes) != NULL;
    }
    free(known);
    return OK;
}
