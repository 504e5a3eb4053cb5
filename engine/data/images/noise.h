/* The Gaussian noise of CIFAR-10-C (Hendrycks and Dietterich, 2019), as its authors' program makes it. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_NOISE_H
#define PLUMB_ENGINE_DATA_IMAGES_NOISE_H

#include <stdint.h>

enum { NOISE_SEVERITIES = 5 };

/* Standard deviation of a severity from 1 to 5, of pixel / 255. */
double noise_deviation(int severity);

/* floor(255 min(max(byte / 255 + deviation * normal, 0), 1)) for a normal draw: cut to a byte, not rounded, so that 255 comes of
 * clipped values only. Without noise no byte changes. */
uint8_t noise_byte(uint8_t byte, double deviation, double normal);

/* Adds the noise to `count` bytes of image `image`, each with a draw of its own that (seed, image, place) decides. */
void noise_add(uint8_t bytes[], int64_t count, int severity, uint64_t seed, int64_t image);

#endif
