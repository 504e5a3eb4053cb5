#include "engine/data/images/noise.h"

#include "engine/base/random.h"

double noise_deviation(int severity)
{
    static const double deviation[NOISE_SEVERITIES] = {0.04, 0.06, 0.08, 0.09, 0.10};
    return deviation[severity - 1];
}

uint8_t noise_byte(uint8_t byte, double deviation, double normal)
{
    const double value = byte / 255.0 + deviation * normal;
    return (uint8_t)(255 * (value < 0 ? 0 : value > 1 ? 1 : value));
}

void noise_add(uint8_t bytes[], int64_t count, int severity, uint64_t seed, int64_t image)
{
    const double deviation = noise_deviation(severity);
    RandomStream stream = random_stream(seed, RANDOM_NOISE, (uint64_t)image);
    for (int64_t i = 0; i < count; ++i)
        bytes[i] = noise_byte(bytes[i], deviation, random_normal(&stream));
}
