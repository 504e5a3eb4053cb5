#include "engine/base/memory.h"
#include "engine/data/images/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* numpy's seed in the published code. */
enum { SPLIT_SEED = 1 };

const Normalisation imagenet_normalisation = {{0.485F, 0.456F, 0.406F}, {0.229F, 0.224F, 0.225F}};
const Normalisation cifar_normalisation = {{0.4914F, 0.4822F, 0.4465F}, {0.2023F, 0.1994F, 0.2010F}};
const Normalisation mnist_normalisation = {{0.1307F}, {0.3081F}};
const Normalisation fashion_mnist_normalisation = {{0.2860F}, {0.3530F}};

static size_t table_bytes(const ImageTable *table)
{
    return (size_t)table->rows * (size_t)image_table_row_bytes(table);
}

static void dataset_free(Dataset *dataset) { image_table_free(dataset->implementation); }

void image_table_free(ImageTable *table)
{
    if (table == NULL) return;
    if (table->reader_free != NULL) table->reader_free(table->reader);
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        free(table->split_row[split]);
        free(table->split_label[split]);
    }
    free(table->label);
    if (table->pixels != NULL) munmap(table->pixels, table_bytes(table));
    free(table);
}

int64_t image_table_row_bytes(const ImageTable *table)
{
    return table->dataset.height * table->dataset.width * table->dataset.channels;
}

Status image_table_new(ImageTableSize size, ImageTable **out)
{
    *out = NULL;
    if (size.train_rows <= 0 || size.test_rows <= 0)
        return fail(STATUS_INPUT, "%s: %lld training and %lld test samples: both must be at least 1",
                    size.name, (long long)size.train_rows, (long long)size.test_rows);
    ImageTable *table;
    TRY(memory_new(&table, 1, sizeof *table, "data set"));
    Status status = OK;
    table->dataset = (Dataset){.name = size.name,
                               .height = size.height,
                               .width = size.width,
                               .channels = size.channels,
                               .classes = size.classes,
                               .free = dataset_free,
                               .implementation = table};
    table->train_rows = size.train_rows;
    table->rows = size.train_rows + size.test_rows;
    TRY_ELSE(done, memory_new(&table->label, (size_t)table->rows, sizeof *table->label, "labels"));
    /* Straight from the system: it is zero, and what a lazy reader never decodes stays unallocated. */
    void *pixels = mmap(NULL, table_bytes(table), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pixels == MAP_FAILED) {
        status = fail(STATUS_MEMORY, "%s: no memory for %zu bytes of pixels: %s", size.name,
                      table_bytes(table), strerror(errno));
        goto done;
    }
    table->pixels = pixels;
    *out = table;
done:
    if (status != OK) image_table_free(table);
    return status;
}

Status image_table_open(ImageTableSize size, LazyReader lazy, const DatasetOptions *options, Dataset **out)
{
    ImageTable *table;
    Status status = image_table_new(size, &table);
    if (status != OK) {
        lazy.free(lazy.reader);
        return status;
    }
    table->reader = lazy.reader;
    table->reader_free = lazy.free;
    status = lazy.fill(table, options);
    if (status != OK) {
        image_table_free(table);
        return status;
    }
    *out = &table->dataset;
    return OK;
}

void image_table_normalise(ImageTable *table, Split split, const Normalisation *normalisation)
{
    for (int64_t c = 0; c < table->dataset.channels; ++c) {
        table->dataset.split[split].mean[c] = normalisation->mean[c];
        table->dataset.split[split].deviation[c] = normalisation->deviation[c];
    }
}

/* ---- Splits ---- */

static int by_number(const void *a, const void *b)
{
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

/* row [limit] becomes `limit` of the `count` rows, drawn at random, in their order. */
static Status draw_rows(const int64_t rows[], int64_t count, int64_t limit, int64_t row[])
{
    int64_t *drawn;
    TRY(memory_new(&drawn, (size_t)count, sizeof *drawn, "rows to draw from"));
    numpy_shuffle(SPLIT_SEED, drawn, count);
    qsort(drawn, (size_t)limit, sizeof *drawn, by_number);
    for (int64_t i = 0; i < limit; ++i)
        row[i] = rows[drawn[i]];
    free(drawn);
    return OK;
}

Status image_table_set_split(ImageTable *table, Split split, const int64_t rows[], int64_t count,
                             int64_t limit)
{
    const bool limited = limit > 0 && limit < count;
    const int64_t all = count;
    if (limited) count = limit;
    int64_t *row;
    int32_t *label;
    TRY(memory_new(&row, (size_t)count, sizeof *row, "rows of a split"));
    table->split_row[split] = row;
    TRY(memory_new(&label, (size_t)count, sizeof *label, "labels of a split"));
    table->split_label[split] = label;
    if (limited && table->class_after_class)
        TRY(draw_rows(rows, all, limit, row));
    else
        memcpy(row, rows, (size_t)count * sizeof *row);
    for (int64_t i = 0; i < count; ++i)
        label[i] = table->label[row[i]];
    DataSplit *made = &table->dataset.split[split];
    made->table = table->pixels;
    made->rows = table->rows;
    made->count = count;
    made->row = row;
    made->label = label;
    return OK;
}

/* How many of each class are held out: the same number, the first classes one more if it does not divide. */
static Status class_quotas(const ImageTable *table, int64_t held_out, HoldOut rule, int64_t quota[])
{
    const int64_t classes = table->dataset.classes;
    int64_t *available;
    TRY(memory_new(&available, (size_t)classes, sizeof *available, "class counts"));
    for (int64_t i = 0; i < table->train_rows; ++i)
        ++available[table->label[i]];
    Status status = OK;
    for (int64_t c = 0; c < classes && status == OK; ++c) {
        quota[c] = held_out / classes + (c < held_out % classes ? 1 : 0);
        if (quota[c] >= available[c])
            status =
                fail(STATUS_INPUT,
                     "%s: class %s has %lld training samples; holding out %lld for validation leaves none "
                     "(dataset.validation sets the number in all)",
                     table->dataset.name, rule.class_name[c], (long long)available[c], (long long)quota[c]);
    }
    free(available);
    return status;
}

/* Parts `order` (all training rows, shuffled) into those held out and the others, each in its order. */
static Status part(const ImageTable *table, int64_t held_out, HoldOut rule, const int64_t order[],
                   int64_t validation[], int64_t train[])
{
    int64_t *quota = NULL;
    if (rule.class_name != NULL) {
        TRY(memory_new(&quota, (size_t)table->dataset.classes, sizeof *quota, "class quotas"));
        Status status = class_quotas(table, held_out, rule, quota);
        if (status != OK) {
            free(quota);
            return status;
        }
    }
    int64_t held = 0, kept = 0;
    for (int64_t i = 0; i < table->train_rows; ++i) {
        int64_t *left = quota != NULL ? &quota[table->label[order[i]]] : NULL;
        const bool hold = left != NULL ? *left > 0 : held < held_out;
        if (hold) {
            if (left != NULL) --*left;
            validation[held++] = order[i];
        } else {
            train[kept++] = order[i];
        }
    }
    free(quota);
    return OK;
}

static Status held_out_count(const ImageTable *table, const DatasetOptions *options, HoldOut rule,
                             int64_t *count)
{
    const int64_t classes = rule.class_name != NULL ? table->dataset.classes : 1;
    *count = options->validation >= 0 ? options->validation : rule.usual * classes;
    if (options->validation_is_test) {
        if (options->validation > 0)
            return fail(STATUS_INPUT,
                        "%s: when validation is the test split, no samples can be held out "
                        "(dataset.validation is %lld)",
                        table->dataset.name, (long long)options->validation);
        *count = 0;
    }
    if (*count >= table->train_rows)
        return fail(STATUS_INPUT,
                    "%s: %lld samples held out for validation, but there are only %lld to train on",
                    table->dataset.name, (long long)*count, (long long)table->train_rows);
    return OK;
}

Status image_table_split(ImageTable *table, const DatasetOptions *options, HoldOut rule)
{
    const int64_t test_rows = table->rows - table->train_rows;
    int64_t held_out;
    TRY(held_out_count(table, options, rule, &held_out));
    Status status = OK;
    int64_t *order = NULL, *validation = NULL, *train = NULL, *test = NULL;
    TRY_ELSE(done, memory_new(&order, (size_t)table->train_rows, sizeof *order, "order of a split"));
    TRY_ELSE(done, memory_new(&validation, (size_t)held_out, sizeof *validation, "validation split"));
    TRY_ELSE(done, memory_new(&train, (size_t)table->train_rows, sizeof *train, "training split"));
    TRY_ELSE(done, memory_new(&test, (size_t)test_rows, sizeof *test, "test split"));
    numpy_shuffle(SPLIT_SEED, order, table->train_rows);
    for (int64_t i = 0; i < test_rows; ++i)
        test[i] = table->train_rows + i;
    TRY_ELSE(done, part(table, held_out, rule, order, validation, train));
    TRY_ELSE(done, image_table_set_split(table, SPLIT_TRAIN, train, table->train_rows - held_out,
                                         options->train_limit));
    if (options->validation_is_test)
        TRY_ELSE(done,
                 image_table_set_split(table, SPLIT_VALIDATION, test, test_rows, options->validation_limit));
    else
        TRY_ELSE(done, image_table_set_split(table, SPLIT_VALIDATION, validation, held_out,
                                             options->validation_limit));
    TRY_ELSE(done, image_table_set_split(table, SPLIT_TEST, test, test_rows, options->test_limit));
done:
    free(order);
    free(validation);
    free(train);
    free(test);
    return status;
}
