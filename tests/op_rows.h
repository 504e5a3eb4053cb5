/* Which ops the suites of ops exercised, for test_op_rows, which compares them with the table of ops.
 *
 * A suite that records writes PROGRAM into the folder op_rows of the build when it ends: a line "OP WHAT DEVICE" each. */
#ifndef PLUMB_TESTS_OP_ROWS_H
#define PLUMB_TESTS_OP_ROWS_H

#include "engine/graph/op.h"

typedef enum {
    OP_ROW_REFERENCE, /* compared with a float64 program */
    OP_ROW_DIFFERENCES /* its gradient, or it as a part of a gradient, with finite differences of that program */
} OpRow;
/* On test_device(). */
void op_rows_record(const Op *, OpRow);

#endif
