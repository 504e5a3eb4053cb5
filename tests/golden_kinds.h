/* Which suite reads which kind of golden cases (see golden.h), and which kinds none reads yet. */
#ifndef PLUMB_TESTS_GOLDEN_KINDS_H
#define PLUMB_TESTS_GOLDEN_KINDS_H

#include "tests/golden.h"

typedef struct {
    const char *kind;
    const char *mark;  /* a path that only these cases of the kind have; NULL: all of them */
    const char *suite; /* tests/SUITE.c; NULL: none */
    const char *why;   /* without a suite: why */
} GoldenKind;

const GoldenKind *golden_kinds(int *count);
/* The row of a case, or NULL; the first that fits. */
const GoldenKind *golden_kind(const GoldenCase *);
/* The case after `after` of any kind; NULL: there is none. */
const GoldenCase *golden_any(const GoldenCase *after);

#endif
