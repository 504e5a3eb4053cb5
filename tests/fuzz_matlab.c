/* MATLAB files of version 5: tags, extents and compressed variables that lie. */
#include "engine/data/images/matlab.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    MatlabArray array;
    status_free(matlab_parse("input", bytes, size, "X", &array));
    free(array.data);
    return 0;
}
