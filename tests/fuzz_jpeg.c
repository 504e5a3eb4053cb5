/* JPEG images: libjpeg's errors come back as a Status, without leaks or jumps into the void. */
#include "engine/data/images/jpeg.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    enum { SIDE = 64 };
    static uint8_t pixels[SIDE * SIDE * 3];
    status_free(jpeg_decode("input", bytes, size, SIDE, SIDE, 3, pixels));
    return 0;
}
