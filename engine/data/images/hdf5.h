/* Arrays of bytes in HDF5 files. The library is found when the program runs, as cuDNN is: few need it, and it draws in three
 * dozen others (of network file systems, encryption and more). */
#ifndef PLUMB_ENGINE_DATA_IMAGES_HDF5_H
#define PLUMB_ENGINE_DATA_IMAGES_HDF5_H

#include "engine/data/images/matlab.h"

/* The data set `variable` at the file's root, of 8-bit unsigned numbers; extents in MATLAB's order, the reverse of HDF5's. Not
 * thread-safe. Errors as matlab_read. */
CHECKED Status hdf5_read(const char *path, const char *variable, MatlabArray *);

#endif
