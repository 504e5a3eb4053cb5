#include "nlp/float_parse.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_DIGITS = 18,          /* that surely fit into 64 bits */
    MOST_EXPONENT = 22,        /* 10^22 is a double without rounding */
    MOST_WRITTEN = 999999,     /* exponents beyond stay there: their numbers are 0 or no floats anyway */
    LONGEST_FALLBACK = 1 << 10 /* characters */
};

static const uint64_t whole_power[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
static const double power[MOST_EXPONENT + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* The digits among the next eight bytes as a number, and how many there are. All eight are handled at once: the first
 * byte that is no digit is the lowest one whose high bit is set below (carries spoil only what is behind it). */
static int eight_digits(const char *at, uint64_t *number)
{
    uint64_t bytes;
    memcpy(&bytes, at, sizeof bytes); /* little-endian: the first digit is the lowest byte */
    const uint64_t digits = bytes - 0x3030303030303030U;
    const uint64_t others = ((bytes + 0x4646464646464646U) | digits) & 0x8080808080808080U;
    const int count = others == 0 ? 8 : __builtin_ctzll(others) / 8;
    if (count == 0) return 0;
    const uint64_t padded = digits << (64 - 8 * count); /* zeros in front */
    /* Pairs, then fours, then eight, in two multiplications. */
    const uint64_t mask = 0x000000FF000000FFU;
    const uint64_t pairs = padded * 10 + (padded >> 8);
    *number = ((pairs & mask) * 0x000F424000000064U + ((pairs >> 16) & mask) * 0x0000271000000001U) >> 32;
    return count;
}

/* Appends a run of digits to *mantissa, which overflows harmlessly behind MOST_DIGITS; returns how many. */
static ptrdiff_t add_digits(const char **at, const char *end, uint64_t *mantissa)
{
    const char *start = *at;
    while (end - *at >= 8) {
        uint64_t number = 0;
        const int count = eight_digits(*at, &number);
        *mantissa = *mantissa * whole_power[count] + number;
        *at += count;
        if (count < 8) return *at - start;
    }
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at)
        *mantissa = *mantissa * 10 + (uint64_t)(**at - '0');
    return *at - start;
}

/* An exponent, if one is whole; else nothing is taken. */
static int64_t exponent(const char **at, const char *end)
{
    const char *c = *at + 1;
    const bool negative = c < end && *c == '-';
    if (c < end && (*c == '-' || *c == '+')) ++c;
    if (c == end || *c < '0' || *c > '9') return 0;
    int64_t value = 0;
    for (; c < end && *c >= '0' && *c <= '9'; ++c)
        if (value <= MOST_WRITTEN) value = value * 10 + (*c - '0');
    *at = c;
    return negative ? -value : value;
}

/* What is not exact in doubles, by the library. */
static bool fallback(const char *start, const char *stop, float *value)
{
    char text[LONGEST_FALLBACK];
    if ((size_t)(stop - start) >= sizeof text) return false;
    memcpy(text, start, (size_t)(stop - start));
    text[stop - start] = '\0';
    *value = strtof(text, NULL);
    return isfinite(*value);
}

/* Between two rounded numbers a double can lie exactly in the middle of two floats although the number does not. */
static bool is_middle(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return (bits & 0x1FFFFFFFU) == 0x10000000U;
}

const char *float_parse(const char *at, const char *end, float *value)
{
    const char *start = at;
    const bool negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) ++at;
    uint64_t mantissa = 0;
    ptrdiff_t digits = 0, behind = 0;
    for (; at < end && *at >= '0' && *at <= '9'; ++at, ++digits) /* one, most often */
        mantissa = mantissa * 10 + (uint64_t)(*at - '0');
    if (at < end && *at == '.') {
        ++at;
        behind = add_digits(&at, end, &mantissa);
        digits += behind;
    }
    if (digits == 0) return NULL;
    int64_t scale = -(int64_t)behind;
    if (at < end && (*at == 'e' || *at == 'E')) scale += exponent(&at, end);
    if (digits <= MOST_DIGITS && mantissa <= (uint64_t)1 << DBL_MANT_DIG && scale >= -MOST_EXPONENT &&
        scale <= MOST_EXPONENT) {
        const double number = scale < 0 ? (double)mantissa / power[-scale] : (double)mantissa * power[scale];
        const bool usual = number >= (double)FLT_MIN && number <= (double)FLT_MAX && !is_middle(number);
        if (usual || mantissa == 0) {
            *value = (float)(negative ? -number : number);
            return at;
        }
    }
    return fallback(start, at, value) ? at : NULL;
}
