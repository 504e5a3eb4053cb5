/* CIFAR records: every label that is let through is one of a class. */
#include "engine/data/images/cifar.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void decode_all(const uint8_t *bytes, size_t size, const CifarFormat *format)
{
    int64_t count;
    Status status = cifar_count("input", size, format, &count);
    if (status != OK) {
        status_free(status);
        return;
    }
    uint8_t *pixels = malloc((size_t)count * CIFAR_PIXEL_BYTES);
    int32_t *labels = malloc((size_t)count * sizeof *labels);
    if (pixels == NULL || labels == NULL) abort();
    status = cifar_decode("input", bytes, count, format, pixels, labels);
    for (int64_t i = 0; i < count && status == OK; ++i)
        if (labels[i] < 0 || labels[i] >= format->classes[format->label_bytes - 1]) abort();
    status_free(status);
    free(pixels);
    free(labels);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    decode_all(bytes, size, &cifar10_format);
    decode_all(bytes, size, &cifar100_format);
    return 0;
}
