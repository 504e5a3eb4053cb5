/* Decimal numbers in text, fast: files of word vectors hold hundreds of millions of them. */
#ifndef PLUMB_NLP_FLOAT_PARSE_H
#define PLUMB_NLP_FLOAT_PARSE_H

/* Reads [+-]digits[.digits][e[+-]digits] (digits may be missing on one side of the point) at `at`, which ends before
 * `end`. *value is the nearest float, ties to even, as strtof has it. Returns the first byte after the number; NULL if
 * there is none here, or one beyond the range of finite floats. Knows no "nan" and no "inf". */
const char *float_parse(const char *at, const char *end, float *value);

#endif
