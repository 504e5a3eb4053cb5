/* CIFAR's Python version: each file is a dictionary of "data" (images by 3072 bytes, as three planes) and of lists of
 * labels. What else such files hold (the images' names) and batches.meta and meta (the classes' names) is not needed. */
#include "engine/base/memory.h"
#include "engine/data/images/cifar.h"
#include "engine/data/images/pickle.h"

#include <stdlib.h>
#include <string.h>

static Status put_labels(const char *name, const Pickle *pickle, const char *key, int64_t rows, uint8_t *at,
                         size_t record)
{
    int64_t *labels, count;
    TRY(pickle_integers(pickle, key, &labels, &count));
    Status status = OK;
    if (count != rows)
        status = fail(STATUS_INPUT, "%s: \"%s\" holds %lld labels, and \"data\" %lld images", name, key,
                      (long long)count, (long long)rows);
    for (int64_t i = 0; i < count && status == OK; ++i) {
        if (labels[i] < 0 || labels[i] > UINT8_MAX)
            status = fail(STATUS_INPUT, "%s: \"%s\", item %lld: %lld is no label", name, key, (long long)i,
                          (long long)labels[i]);
        at[(size_t)i * record] = (uint8_t)labels[i];
    }
    free(labels);
    return status;
}

static void put_pixels(const PickleArray *data, uint8_t *at, size_t record)
{
    for (int64_t i = 0; i < data->rows; ++i, at += record) {
        if (!data->columns_first) memcpy(at, data->data + i * CIFAR_PIXEL_BYTES, CIFAR_PIXEL_BYTES);
        for (int64_t k = 0; k < CIFAR_PIXEL_BYTES && data->columns_first; ++k)
            at[k] = data->data[k * data->rows + i];
    }
}

static Status put_records(const char *name, const Pickle *pickle, const CifarFormat *format, char **records,
                          size_t *size)
{
    const size_t record = (size_t)format->label_bytes + CIFAR_PIXEL_BYTES;
    PickleArray data;
    TRY(pickle_array(pickle, "data", &data));
    if (data.columns != CIFAR_PIXEL_BYTES)
        return fail(STATUS_INPUT, "%s: \"data\" has %lld columns; an image is %d bytes", name,
                    (long long)data.columns, CIFAR_PIXEL_BYTES);
    TRY(memory_new(records, (size_t)data.rows, record, "CIFAR's images"));
    *size = (size_t)data.rows * record;
    uint8_t *bytes = (uint8_t *)*records;
    for (int k = 0; k < format->label_bytes; ++k)
        TRY(put_labels(name, pickle, format->python_key[k], data.rows, bytes + k, record));
    put_pixels(&data, bytes + format->label_bytes, record);
    return OK;
}

Status cifar_records_of_pickle(const char *name, const uint8_t *bytes, size_t size, const CifarFormat *format,
                               char **records, size_t *records_size)
{
    Pickle *pickle;
    *records = NULL;
    *records_size = 0;
    TRY(pickle_parse(name, bytes, size, &pickle));
    Status status = put_records(name, pickle, format, records, records_size);
    pickle_free(pickle);
    if (status != OK) {
        free(*records);
        *records = NULL;
    }
    return status;
}
