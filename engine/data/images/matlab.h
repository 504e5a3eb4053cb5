/* Arrays of bytes in MATLAB's files: version 5 (5 to 7.2, compressed or not, either byte order), read here, and version 7.3, which
 * is HDF5 and read by its library (hdf5.h).
 *
 * Not by libmatio: of a file that was cut short it gives zeros and reports success, and it finds nothing in a 7.3 file whose
 * variables lack MATLAB's attributes, as h5py writes them. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_MATLAB_H
#define PLUMB_ENGINE_DATA_IMAGES_MATLAB_H

#include "engine/base/status.h"

#include <stdint.h>

enum { MATLAB_MAX_RANK = 8 };

typedef struct {
    int rank;
    int64_t extent[MATLAB_MAX_RANK]; /* as MATLAB gives them: the first runs fastest */
    int64_t count;                   /* the product, at least 1 */
    uint8_t *data;                   /* [count], released with free() */
} MatlabArray;

/* The variable `variable`, which must be an array of uint8. STATUS_INPUT names the file: no such file, version 4, damaged, no such
 * variable (and which there are), another type. STATUS_UNSUPPORTED: version 7.3, and no HDF5 library is installed. */
CHECKED Status matlab_read(const char *path, const char *variable, MatlabArray *);

/* The same of a version 5 file in memory. */
CHECKED Status matlab_parse(const char *name, const uint8_t *bytes, size_t size, const char *variable,
                            MatlabArray *);

#endif
