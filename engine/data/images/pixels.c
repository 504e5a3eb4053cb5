#include "engine/data/images/pixels.h"

#include "engine/base/memory.h"

#include <stdlib.h>

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

Status pixels_open(Device *device, Dataset *dataset, Pixels **out)
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
    free(pixels);
}

bool pixels_are_streamed(const Pixels *pixels) { return pixels->streamed; }

bool pixels_are_lazy(const Pixels *pixels)
{
    return pixels->dataset->prepare != NULL && (device_memory(pixels->device) == 0 || pixels->streamed);
}

void *pixels_table(const Pixels *pixels, Split split)
{
    const Table *table = &pixels->table[pixels->table_of[split]];
    if (pixels->streamed) return NULL;
    return table->copy != NULL ? table->copy : (void *)(uintptr_t)table->host;
}
