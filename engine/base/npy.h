/* NumPy's .npy format, versions 1.0 to 3.0, little-endian. A reader trusts no length it reads.
 *
 * What is read is in C order, whatever the file has: two-dimensional arrays in Fortran order (as numpy.save
 * writes a transposed array) are transposed while they are read; more dimensions are refused. */
#ifndef PLUMB_ENGINE_BASE_NPY_H
#define PLUMB_ENGINE_BASE_NPY_H

#include "engine/base/dtype.h"
#include "engine/base/file.h"
#include "engine/base/status.h"

#include <stdint.h>

enum { NPY_MAX_RANK = 8 };

typedef struct {
    DType type; /* <f4 <f8 <i4 <i8 |u1; <f2 as FLOAT32 (exactly), |b1 as UINT8, other integers as INT64 (of
                   <u8: up to INT64_MAX) */
    char stored[16]; /* the type in the file, as NumPy calls it: "int8" */
    int rank;
    int64_t extent[NPY_MAX_RANK];
    int64_t count;    /* product of the extents */
    const void *data; /* aligned for its type; read-only; NULL only if count is 0 */
    FileMap map;      /* these two are what npy_close releases */
    void *copy;       /* what is converted, transposed or misaligned is copied; NULL: data is in the map */
} Npy;

/* Maps `path`. STATUS_INPUT for anything that is not such a file, naming the path and what is wrong. */
CHECKED Status npy_open(const char *path, Npy *);
void npy_close(Npy *);

/* The same from memory (`name` for messages); data points into `bytes` unless it had to be copied: release
 * with npy_close too. For fuzzing and archives. */
CHECKED Status npy_parse(const char *name, const uint8_t *bytes, size_t size, Npy *);

/* Atomic write, version 1.0, the bytes that numpy.save writes. bfloat16 is unsupported: NumPy has none. */
CHECKED Status npy_write(const char *path, DType type, int rank, const int64_t extent[], const void *data);

#endif
