#include "engine/data/images/hdf5.h"

#include "engine/base/memory.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* What is used of hdf5.h (1.10 and later), whose types these are. */
typedef int64_t Id;             /* hid_t; negative: an error */
typedef unsigned long long Len; /* hsize_t */

enum { READ_ONLY = 0, DEFAULT = 0, ALL = 0, INTEGER = 0, UNSIGNED = 0, BY_NAME = 0, RISING = 0 };

static struct {
    int (*open)(void);
    int (*set_auto)(Id stack, void *function, void *data);
    Id (*file_open)(const char *, unsigned flags, Id access);
    int (*file_close)(Id);
    int (*exists)(Id, const char *, Id access);
    ssize_t (*name)(Id, const char *group, int index, int order, Len, char *, size_t, Id access);
    Id (*data_open)(Id, const char *, Id access);
    int (*data_close)(Id);
    Id (*data_space)(Id);
    Id (*data_type)(Id);
    int (*data_read)(Id, Id memory_type, Id memory_space, Id file_space, Id transfer, void *);
    int (*space_rank)(Id);
    int (*space_extents)(Id, Len extent[], Len most[]);
    int (*space_close)(Id);
    int (*type_class)(Id);
    size_t (*type_size)(Id);
    int (*type_sign)(Id);
    int (*type_close)(Id);
    const Id *byte_type;
} hdf5;

static const struct {
    const char *name;
    void *function;
} symbols[] = {
    {"H5open", &hdf5.open},
    {"H5Eset_auto2", &hdf5.set_auto},
    {"H5Fopen", &hdf5.file_open},
    {"H5Fclose", &hdf5.file_close},
    {"H5Lexists", &hdf5.exists},
    {"H5Lget_name_by_idx", &hdf5.name},
    {"H5Dopen2", &hdf5.data_open},
    {"H5Dclose", &hdf5.data_close},
    {"H5Dget_space", &hdf5.data_space},
    {"H5Dget_type", &hdf5.data_type},
    {"H5Dread", &hdf5.data_read},
    {"H5Sget_simple_extent_ndims", &hdf5.space_rank},
    {"H5Sget_simple_extent_dims", &hdf5.space_extents},
    {"H5Sclose", &hdf5.space_close},
    {"H5Tget_class", &hdf5.type_class},
    {"H5Tget_size", &hdf5.type_size},
    {"H5Tget_sign", &hdf5.type_sign},
    {"H5Tclose", &hdf5.type_close},
    {"H5T_NATIVE_UINT8_g", &hdf5.byte_type},
};

/* Debian's and others' names of the library: 1.10, 1.12, 1.14. */
static void *open_library(void)
{
    static const char *const names[] = {
        "libhdf5_serial.so.103", "libhdf5_serial.so.310", "libhdf5_serial.so", "libhdf5.so.103",
        "libhdf5.so.200",        "libhdf5.so.310",        "libhdf5.so"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && library == NULL; ++i)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

static Status load(const char *path)
{
    static bool loaded;
    if (loaded) return OK;
    void *library = open_library();
    if (library == NULL)
        return fail(STATUS_UNSUPPORTED,
                    "%s: a MATLAB file of version 7.3 is read by the HDF5 library, which is not installed: "
                    "apt-get install "
                    "libhdf5-dev, or save the file with -v7",
                    path);
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; ++i) {
        void *found = dlsym(library, symbols[i].name);
        if (found == NULL)
            return fail(STATUS_UNSUPPORTED, "%s: the HDF5 library has no %s: it is too old", path,
                        symbols[i].name);
        memcpy(symbols[i].function, &found, sizeof found);
    }
    /* Its own reports on standard error would come between ours. */
    if (hdf5.open() < 0 || hdf5.set_auto(DEFAULT, NULL, NULL) < 0)
        return fail(STATUS_INTERNAL, "%s: the HDF5 library does not start", path);
    loaded = true;
    return OK;
}

static Status read_extents(const char *path, const char *variable, Id data, MatlabArray *array)
{
    Len extent[MATLAB_MAX_RANK];
    const Id space = hdf5.data_space(data);
    const int rank = space >= 0 ? hdf5.space_rank(space) : -1;
    bool good = rank >= 1 && rank <= MATLAB_MAX_RANK && hdf5.space_extents(space, extent, NULL) == rank;
    array->count = 1;
    array->rank = rank;
    for (int i = 0; i < rank && good; ++i) {
        good = extent[i] >= 1 && extent[i] <= INT64_MAX &&
               !__builtin_mul_overflow(array->count, (int64_t)extent[i], &array->count);
        array->extent[rank - 1 - i] = (int64_t)extent[i];
    }
    if (space >= 0) (void)hdf5.space_close(space);
    if (good) return OK;
    return fail(STATUS_INPUT, "%s: %s has no elements, more than %d dimensions, or is no array", path,
                variable, MATLAB_MAX_RANK);
}

static Status check_type(const char *path, const char *variable, Id data)
{
    const Id type = hdf5.data_type(data);
    const bool bytes = type >= 0 && hdf5.type_class(type) == INTEGER && hdf5.type_size(type) == 1 &&
                       hdf5.type_sign(type) == UNSIGNED;
    if (type >= 0) (void)hdf5.type_close(type);
    return bytes ? OK : fail(STATUS_INPUT, "%s: %s is not of type uint8", path, variable);
}

static Status read_data(const char *path, const char *variable, Id data, MatlabArray *array)
{
    TRY(check_type(path, variable, data));
    TRY(read_extents(path, variable, data, array));
    TRY(memory_new(&array->data, (size_t)array->count, 1, "the images of a MATLAB file"));
    if (hdf5.data_read(data, *hdf5.byte_type, ALL, ALL, DEFAULT, array->data) >= 0) return OK;
    free(array->data);
    array->data = NULL;
    return fail(
        STATUS_INPUT,
        "%s: %s cannot be read: the file is damaged, or compressed in a way that the HDF5 library lacks",
        path, variable);
}

/* With the names of the variables that there are. Those with # are MATLAB's own. */
static Status say_missing(const char *path, const char *variable, Id file)
{
    char name[64], names[256] = "";
    size_t used = 0;
    for (Len i = 0;
         used < sizeof names && hdf5.name(file, ".", BY_NAME, RISING, i, name, sizeof name, DEFAULT) >= 0;
         ++i) {
        if (name[0] == '#') continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "", name);
    }
    return fail(STATUS_INPUT, "%s: there is no variable %s in it%s%s", path, variable,
                used > 0 ? "; it holds " : ", nor any other", names);
}

Status hdf5_read(const char *path, const char *variable, MatlabArray *array)
{
    *array = (MatlabArray){0};
    TRY(load(path));
    const Id file = hdf5.file_open(path, READ_ONLY, DEFAULT);
    if (file < 0)
        return fail(STATUS_INPUT,
                    "%s: begins as a file of MATLAB 7.3, but is no HDF5 file, is cut short or damaged", path);
    Status status = OK;
    Id data = -1;
    if (hdf5.exists(file, variable, DEFAULT) <= 0) status = say_missing(path, variable, file);
    if (status == OK && (data = hdf5.data_open(file, variable, DEFAULT)) < 0)
        status = fail(STATUS_INPUT, "%s: %s is no array", path, variable);
    if (status == OK) status = read_data(path, variable, data, array);
    if (data >= 0) (void)hdf5.data_close(data);
    (void)hdf5.file_close(file);
    return status;
}
