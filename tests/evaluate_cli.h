/* What the suites of `plumb evaluate` share: the command as a user types it, in a folder of their own, and what it wrote. */
#ifndef PLUMB_TESTS_EVALUATE_CLI_H
#define PLUMB_TESTS_EVALUATE_CLI_H

#include "tests/golden.h"
#include "tests/scratch.h"

#include <cJSON.h>

enum { ROOM = 65536 };
#define MPIRUN "mpirun --allow-run-as-root --oversubscribe --bind-to none -n"

extern const char *plumb; /* the program */
/* Runs the tests in one scratch folder, which has ood.npy. */
#define EVALUATE_TESTS(tests) (evaluate_begin(), evaluate_end(cmocka_run_group_tests(tests, NULL, NULL)))
void evaluate_begin(void);
int evaluate_end(int failures);

/* Runs a shell command in the scratch folder; returns its exit code, with all that it wrote in `output`. */
__attribute__((format(printf, 2, 3))) int shell(char output[ROOM], const char *format, ...);
/* The command must succeed; otherwise what it wrote to the file `problem` says why. */
void assert_runs(int code);

/* A file of a golden case. */
const char *example(const char *id, const char *role);
/* The arguments for a golden case of temperature scaling. */
const char *arguments(void);
/* Writes a file for the command; columns: of rank 2. */
void write_array(const char *name, DType type, int rank, int64_t rows, int64_t columns, const void *data);

/* What the command wrote as JSON; release with cJSON_Delete. */
cJSON *parse_file(const char *name);
/* path: "before.ece" */
void assert_number(const cJSON *root, const char *path, double want, double relative);
void assert_interval(const cJSON *stage, const char *metric);

#endif
