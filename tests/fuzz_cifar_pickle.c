/* CIFAR's Python version: what is let through are whole records whose labels are bytes. */
#include "engine/data/images/cifar.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void convert(const uint8_t *bytes, size_t size, const CifarFormat *format)
{
    char *records;
    size_t records_size;
    Status status = cifar_records_of_pickle("input", bytes, size, format, &records, &records_size);
    if (status != OK) {
        if (status_code(status) != STATUS_INPUT || records != NULL) abort();
        status_free(status);
        return;
    }
    int64_t count;
    if (cifar_count("input", records_size, format, &count) != OK || count < 1) abort();
    free(records);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    convert(bytes, size, &cifar10_format);
    convert(bytes, size, &cifar100_format);
    return 0;
}
