/* Kernels called by hand, without graph or plan: with strides, threads and absent tensors of the test's
 * choice. */
#ifndef PLUMB_TESTS_KERNEL_CALL_H
#define PLUMB_TESTS_KERNEL_CALL_H

#include "engine/graph/op.h"

/* Fills in node, device and scratch of a call whose tensors and attributes are set, runs it and releases what
 * it took. Every output is wanted unless `unwanted` has its bit. collective NULL: a world of one. Runs on
 * test_device(). Returns run's status. */
CHECKED Status kernel_call(const Op *, Call *, int inputs, int threads, uint32_t unwanted, Collective *);

/* The same on a device of that kind, which must have a kernel for the op: tensors are copied to it and back.
 */
CHECKED Status kernel_call_on(DeviceKind, const Op *, Call *, int inputs, int threads, uint32_t unwanted,
                              Collective *);

/* The same on a device that is open. */
CHECKED Status kernel_call_with(Device *, const Op *, Call *, int inputs, uint32_t unwanted, Collective *);

/* Rows of `columns` float32 elements, `stride` apart. */
Tensor tensor_floats(float *data, int64_t rows, int64_t columns, int64_t stride);
Tensor tensor_vector(float *data, int64_t count);

#endif
