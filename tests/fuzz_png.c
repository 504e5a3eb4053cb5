/* PNG images: libpng's errors come back as a Status, without leaks or jumps into the void. */
#include "engine/data/images/png.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    enum { SIDE = 16 };
    static uint8_t pixels[SIDE * SIDE * 3];
    ImageHeader header;
    status_free(png_header("input", bytes, size, &header));
    status_free(png_decode("input", bytes, size, SIDE, SIDE, 3, pixels));
    status_free(png_decode("input", bytes, size, SIDE, SIDE, 1, pixels));
    return 0;
}
