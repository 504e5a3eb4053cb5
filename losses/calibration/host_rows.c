#include "losses/calibration/host_rows.h"

#include "engine/base/memory.h"

#include <stdlib.h>

Status host_rows_open(Device *device, const char *name, int64_t classes, int64_t most_rows, HostRows *host)
{
    const size_t rows = (size_t)most_rows;
    *host = (HostRows){.name = name, .classes = classes, .most_rows = most_rows};
    if (device_kind(device) == DEVICE_CPU) return OK;
    host->device = device;
    TRY(memory_new(&host->logits, rows, (size_t)classes * sizeof(float), "logits"));
    TRY(memory_new(&host->labels, rows, sizeof *host->labels, "labels"));
    TRY(memory_new(&host->numbers, rows, sizeof *host->numbers, "rows' numbers"));
    return memory_new(&host->weights, rows, sizeof *host->weights, "weights");
}

void host_rows_close(HostRows *host)
{
    free(host->logits);
    free(host->labels);
    free(host->numbers);
    free(host->weights);
    *host = (HostRows){.name = NULL};
}

/* *rows become those in host memory. */
static Status download(const HostRows *host, LogitRows *rows)
{
    const size_t count = (size_t)rows->rows;
    TRY(device_download(host->device, host->logits, rows->logits,
                        count * (size_t)host->classes * sizeof(float)));
    TRY(device_download(host->device, host->labels, rows->labels, count * sizeof *host->labels));
    if (rows->weights != NULL)
        TRY(device_download(host->device, host->weights, rows->weights, count * sizeof *host->weights));
    if (rows->number != NULL)
        TRY(device_download(host->device, host->numbers, rows->number, count * sizeof *host->numbers));
    TRY(device_synchronize(host->device));
    rows->logits = host->logits;
    rows->labels = host->labels;
    if (rows->weights != NULL) rows->weights = host->weights;
    if (rows->number != NULL) rows->number = host->numbers;
    return OK;
}

Status host_rows_take(HostRows *host, const LogitRows *rows, int threads, Logits *logits,
                      const float **weights)
{
    LogitRows here = *rows;
    if (here.rows > host->most_rows)
        return fail(STATUS_INTERNAL, "%s: a batch of %lld rows; at most %lld were announced", host->name,
                    (long long)here.rows, (long long)host->most_rows);
    if (host->device != NULL && here.rows > 0) TRY(download(host, &here));
    TRY(logit_rows_check(host->name, host->classes, &here, threads));
    *weights = here.weights;
    *logits = (Logits){.name = host->name,
                       .type = FLOAT32,
                       .values = here.logits,
                       .label_type = INT32,
                       .labels = here.labels,
                       .count = here.rows,
                       .first = here.first,
                       .number = here.number,
                       .classes = host->classes};
    return OK;
}
