#include "launch/train/pixels.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* One table of the data set; splits may share it. */
typedef struct {
    const uint8_t *host;
    int64_t rows;
    void *copy; /* device memory: all rows; NULL: none, or rows are streamed */
} Table;

struct Pixels {
    Device *device;
    Dataset *dataset;
    size_t row_bytes;
    Table table[SPLIT_COUNT];
    int table_of[SPLIT_COUNT];
    int tables;
    bool streamed;
    int64_t room; /* rows that the two below hold */
    uint8_t *gathered;
    void *batch; /* device memory */
    int64_t *number;
};

static void find_tables(Pixels *pixels)
{
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        const DataSplit *data = &pixels->dataset->split[split];
        int t = 0;
        while (t < pixels->tables && pixels->table[t].host != data->table)
            ++t;
        if (t == pixels->tables) pixels->table[pixels->tables++] = (Table){.host = data->table};
        if (data->rows > pixels->table[t].rows) pixels->table[t].rows = data->rows;
        pixels->table_of[split] = t;
    }
}

/* Images that are decoded on first use must be decoded before they are copied. */
static Status prepare_all(Pixels *pixels)
{
    enum { CHUNK = 256 };
    Dataset *dataset = pixels->dataset;
    if (dataset->prepare == NULL) return OK;
    Status status = OK;
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        const int64_t count = dataset->split[split].count;
#pragma omp parallel for schedule(dynamic) num_threads(device_threads(pixels->device))
        for (int64_t first = 0; first < count; first += CHUNK) {
            int64_t sample[CHUNK];
            const int64_t here = count - first < CHUNK ? count - first : CHUNK;
            for (int64_t i = 0; i < here; ++i)
                sample[i] = first + i;
            Status mine = dataset->prepare(dataset, (Split)split, sample, here);
#pragma omp critical(prepare_all)
            {
                if (status == OK)
                    status = mine;
                else
                    status_free(mine);
            }
        }
        if (status != OK) return status;
    }
    return OK;
}

static Status copy_tables(Pixels *pixels)
{
    enum { SHARE = 4 }; /* of the GPU's memory; the rest is for the network */
    size_t bytes = 0;
    for (int t = 0; t < pixels->tables; ++t)
        bytes += (size_t)pixels->table[t].rows * pixels->row_bytes;
    pixels->streamed = bytes > device_memory(pixels->device) / SHARE;
    if (pixels->streamed) return OK;
    TRY(prepare_all(pixels));
    for (int t = 0; t < pixels->tables; ++t) {
        Table *table = &pixels->table[t];
        const size_t size = (size_t)table->rows * pixels->row_bytes;
        if (size == 0) continue;
        TRY(device_allocate(pixels->device, size, "the images", &table->copy));
        TRY(device_upload(pixels->device, table->copy, table->host, size));
    }
    return device_synchronize(pixels->device);
}

/* For the rows of a batch. Made once: what is freed between steps would make recordings be made anew, and on the
 * ranks that stream alone. */
static Status make_room(Pixels *pixels, int64_t count)
{
    const size_t bytes = (size_t)count * pixels->row_bytes;
    TRY(device_allocate(pixels->device, bytes, "a batch of images", &pixels->batch));
    TRY(memory_new(&pixels->gathered, bytes, 1, "a batch of images"));
    TRY(memory_new(&pixels->number, (size_t)count, sizeof *pixels->number, "a batch of images"));
    for (int64_t i = 0; i < count; ++i)
        pixels->number[i] = i;
    pixels->room = count;
    return OK;
}

Status pixels_open(Device *device, Dataset *dataset, int64_t most, Pixels **out)
{
    *out = NULL;
    Pixels *pixels;
    TRY(memory_new(&pixels, 1, sizeof *pixels, "the images"));
    pixels->device = device;
    pixels->dataset = dataset;
    pixels->row_bytes = (size_t)(dataset->height * dataset->width * dataset->channels);
    find_tables(pixels);
    if (device_memory(device) > 0) {
        Status status = copy_tables(pixels);
        if (status == OK && pixels->streamed) status = make_room(pixels, most);
        if (status != OK) {
            pixels_close(pixels);
            return status;
        }
    }
    *out = pixels;
    return OK;
}

void pixels_close(Pixels *pixels)
{
    if (pixels == NULL) return;
    for (int t = 0; t < pixels->tables; ++t)
        device_free(pixels->device, pixels->table[t].copy);
    device_free(pixels->device, pixels->batch);
    free(pixels->gathered);
    free(pixels->number);
    free(pixels);
}

int64_t pixels_rows(const Pixels *pixels, Split split, int64_t batch)
{
    return pixels->streamed ? batch : pixels->dataset->split[split].rows;
}

Status pixels_batch(Pixels *pixels, Split split, const int64_t row[], const int64_t sample[], int64_t count,
                    int64_t *index, const void **out)
{
    Dataset *dataset = pixels->dataset;
    const Table *table = &pixels->table[pixels->table_of[split]];
    const bool copied = table->copy != NULL;
    if (sample != NULL && dataset->prepare != NULL && !copied)
        TRY(dataset->prepare(dataset, split, sample, count));
    *out = copied ? table->copy : table->host;
    if (!pixels->streamed) return device_upload(pixels->device, index, row, (size_t)count * sizeof *row);
    if (count > pixels->room)
        return fail(STATUS_INTERNAL, "%lld images, and room for %lld", (long long)count,
                    (long long)pixels->room);
    for (int64_t i = 0; i < count; ++i)
        memcpy(pixels->gathered + (size_t)i * pixels->row_bytes,
               table->host + (size_t)row[i] * pixels->row_bytes, pixels->row_bytes);
    *out = pixels->batch;
    TRY(device_upload(pixels->device, pixels->batch, pixels->gathered, (size_t)count * pixels->row_bytes));
    return device_upload(pixels->device, index, pixels->number, (size_t)count * sizeof *pixels->number);
}
