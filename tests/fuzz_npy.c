/* libFuzzer: any bytes as a .npy file; what is accepted is read to the last byte. */
#include "engine/base/npy.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Npy npy;
    Status status = npy_parse("fuzz", data, size, &npy);
    if (status != OK) {
        if (status_code(status) != STATUS_INPUT) abort();
        status_free(status);
        return 0;
    }
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < (size_t)npy.count * dtype_size(npy.type); ++i)
        sum = (uint8_t)(sum + ((const uint8_t *)npy.data)[i]);
    npy_close(&npy);
    return 0;
}
