/* A scratch folder for suites whose tests write files. */
#ifndef PLUMB_TESTS_SCRATCH_H
#define PLUMB_TESTS_SCRATCH_H

#include "tests/support.h"

/* Of the test that runs; made before it and removed after it. */
enum { SCRATCH_SIZE = 4096 };
extern char scratch[SCRATCH_SIZE];
int scratch_make(void **state);
int scratch_remove(void **state);
/* A test with such a folder, for the list that cmocka is given. */
#define SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

/* folder/name, scratch/name; valid until the eighth call from now. */
const char *path_in(const char *folder, const char *name);
const char *in_scratch(const char *name);
/* Writes the file as it is, without the care of file_write. */
void write_plain(const char *path, const void *data, size_t size);
/* The file is this text, and no more. */
void assert_holds(const char *path, const char *text);

#endif
