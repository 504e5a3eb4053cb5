/* libFuzzer: any bytes as a safetensors file; what is accepted is read to the last byte. */
#include "engine/base/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    SafeFile *file;
    Status status = safetensors_parse("fuzz", data, size, &file);
    if (status != OK) {
        if (status_code(status) != STATUS_INPUT) abort();
        status_free(status);
        return 0;
    }
    volatile uint8_t sum = 0;
    for (int i = 0; i < safetensors_count(file); ++i) {
        const SafeTensor *tensor = safetensors_at(file, i);
        for (size_t j = 0; j < tensor->bytes; ++j)
            sum = (uint8_t)(sum + ((const uint8_t *)tensor->data)[j]);
        if (safetensors_find(file, tensor->name) != tensor) abort();
    }
    (void)safetensors_metadata(file, "format");
    safetensors_close(file);
    return 0;
}
