/* Files of encoded corpora: any bytes are told from a file, without a read beyond them. */
#include "nlp/encode_cache.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint64_t identity = 0; /* its place in the header */
    if (size >= 24) memcpy(&identity, bytes + 16, sizeof identity);
    Status status = encoded_block_check("input", bytes, size, identity);
    if (status != OK && strncmp(status_message(status), "input", 5) != 0) abort();
    status_free(status);
    return 0;
}
