/* idx headers and sizes: whatever the bytes, every one that the parser grants can be read. */
#include "engine/data/images/idx.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    for (int rank = 1; rank <= IDX_MAX_RANK; ++rank) {
        Idx idx;
        Status status = idx_parse("input", bytes, size, rank, &idx);
        if (status == OK) {
            int64_t count = 1;
            for (int i = 0; i < rank; ++i)
                count *= idx.extent[i];
            unsigned sum = 0;
            for (int64_t i = 0; i < count; ++i)
                sum += idx.data[i];
            if (idx.data + count != bytes + size || sum > 255U * (uint64_t)count) abort();
        }
        status_free(status);
    }
    return 0;
}
