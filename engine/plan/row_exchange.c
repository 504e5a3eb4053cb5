#include "engine/plan/row_exchange.h"

#include "engine/base/memory.h"

#include <stdlib.h>

struct RowExchange {
    Store *store;
    Device *device;
    Collective *collective;
    const RowGradient *gathered; /* one a table; NULL for one rank */
    void *scratch;
};

Status row_exchange_create(Store *store, Collective *collective, RowExchange **out)
{
    *out = NULL;
    if (store_table_count(store) == 0) return OK;
    RowExchange *rows;
    TRY(memory_new(&rows, 1, sizeof *rows, "the exchange of rows"));
    *rows = (RowExchange){.store = store, .device = store_device(store), .collective = collective};
    const Status status = store_share_rows(store, collective->size, &rows->gathered, &rows->scratch);
    if (status != OK) {
        free(rows);
        return status;
    }
    *out = rows;
    return OK;
}

void row_exchange_free(RowExchange *rows) { free(rows); }

static bool is_trained(const Graph *graph, const StoreEntry *entry)
{
    const Value table = graph_find(graph, entry->name);
    return value_exists(table) && value_exists(graph_gradient(graph, table));
}

Status row_exchange_start(RowExchange *rows, const Graph *graph)
{
    const Stream stream = device_stream(rows->device);
    for (int i = 0, table = 0; i < store_count(rows->store); ++i) {
        const StoreEntry *entry = store_at(rows->store, i);
        if (!entry->by_rows) continue;
        const RowGradient *mine = &entry->rows;
        if (!is_trained(graph, entry)) TRY(device_clear(rows->device, mine->list, sizeof *mine->list));
        if (rows->gathered == NULL) continue;
        const RowGradient *all = &rows->gathered[table++];
        const int64_t list = ROW_LIST_HEAD + mine->most, elements = mine->most * shape_columns(entry->shape);
        const int64_t ranks = rows->collective->size;
        TRY(collective_gather(rows->collective, (Span){mine->list, list, INT32},
                              (Span){all->list, ranks * list, INT32}, stream));
        TRY(collective_gather(rows->collective, (Span){mine->gradient, elements, FLOAT32},
                              (Span){all->gradient, ranks * elements, FLOAT32}, stream));
    }
    return OK;
}

static Status add_rows(Device *device, const RowSums *sums)
{
    return device_kind(device) == DEVICE_CUDA ? row_sums_cuda(device, sums) : row_sums_cpu(device, sums);
}

Status row_exchange_finish(RowExchange *rows)
{
    for (int i = 0, table = 0; i < store_count(rows->store) && rows->gathered != NULL; ++i) {
        const StoreEntry *entry = store_at(rows->store, i);
        if (!entry->by_rows) continue;
        const RowGradient *from = &rows->gathered[table++], *to = &entry->all_rows;
        const RowSums sums = {.count = from->most * rows->collective->size,
                              .rows = shape_rows(entry->shape),
                              .columns = shape_columns(entry->shape),
                              .skipped_row = -1,
                              .scale = 1,
                              .type = FLOAT32,
                              .index = from->list,
                              .list_rows = from->most,
                              .vector = from->gradient,
                              .sum = to->gradient,
                              .row = to->list + ROW_LIST_HEAD,
                              .found = to->list,
                              .scratch = rows->scratch};
        TRY(add_rows(rows->device, &sums));
    }
    return OK;
}
