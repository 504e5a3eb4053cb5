/* What a test writes to the standard error; it has a scratch folder. */
#ifndef PLUMB_TESTS_LISTENING_H
#define PLUMB_TESTS_LISTENING_H

#include "tests/scratch.h"

void start_listening(void);
/* What was written since then, as text; release with free(). */
char *heard(void);
int lines_of(const char *text);

#endif
