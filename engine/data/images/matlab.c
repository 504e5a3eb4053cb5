#include "engine/data/images/matlab.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/data/images/hdf5.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

/* Version 5: a header of 128 bytes, then elements: a tag (type, bytes), then as many bytes, padded to 8. A variable is an element
 * of type MATRIX made of elements (flags, extents, name, values), or a COMPRESSED one that unpacks to it. */
enum {
    HEADER = 128,
    TAG = 8,
    TYPE_INT8 = 1,
    TYPE_UINT8 = 2,
    TYPE_INT32 = 5,
    TYPE_UINT32 = 6,
    TYPE_MATRIX = 14,
    TYPE_COMPRESSED = 15,
    CLASS_UINT8 = 9,
    COMPLEX = 0x800,
    LONGEST_NAME = 64,
    HEAD_BYTES = 512, /* hold flags, extents and name of any array that is wanted */
    MOST_RATIO = 1032 /* by which deflate can shrink */
};

typedef struct {
    const char *name; /* of the file */
    bool swapped;     /* the other byte order */
} MatFile;

/* Bytes that are read one element after the other. */
typedef struct {
    const uint8_t *at;
    size_t left;
} Bytes;

typedef struct {
    uint32_t type, size; /* bytes */
    const uint8_t *data; /* NULL where fewer bytes are left */
} Element;

static uint32_t word_at(const MatFile *file, const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return file->swapped ? __builtin_bswap32(word) : word;
}

static Status cut_short(const MatFile *file)
{
    return fail(STATUS_INPUT, "%s: the MATLAB file is cut short or damaged", file->name);
}

/* Takes the next element. `whole`: all of its bytes must be there. Elements of up to 4 bytes may stand inside their tag. */
static Status next_element(const MatFile *file, Bytes *bytes, bool whole, Element *element)
{
    if (bytes->left < TAG) return cut_short(file);
    const uint32_t first = word_at(file, bytes->at);
    if (first >> 16 != 0) {
        *element = (Element){first & 0xFFFF, first >> 16, bytes->at + 4};
        if (element->size > 4) return cut_short(file);
        bytes->at += TAG;
        bytes->left -= TAG;
        return OK;
    }
    *element = (Element){first, word_at(file, bytes->at + 4), bytes->at + TAG};
    bytes->at += TAG;
    bytes->left -= TAG;
    const size_t padding = element->type == TYPE_COMPRESSED ? 0 : (8 - element->size % 8) % 8;
    if (element->size > bytes->left) {
        if (whole) return cut_short(file);
        element->data = NULL;
        return OK;
    }
    const size_t step = element->size + padding < bytes->left ? element->size + padding : bytes->left;
    bytes->at += step;
    bytes->left -= step;
    return OK;
}

/* ---- a variable ---- */

typedef struct {
    char name[LONGEST_NAME];
    uint32_t class;
    bool complex;
    int rank; /* 0: more dimensions than are read */
    int64_t extent[MATLAB_MAX_RANK], count;
} Variable;

static Status read_extents(const MatFile *file, const Element *element, Variable *variable)
{
    const uint32_t rank = element->size / 4;
    if (element->type != TYPE_INT32 || rank == 0) return cut_short(file);
    variable->count = 1;
    if (rank > MATLAB_MAX_RANK) return OK;
    variable->rank = (int)rank;
    for (uint32_t i = 0; i < rank; ++i) {
        variable->extent[i] = word_at(file, element->data + 4 * (size_t)i);
        if (__builtin_mul_overflow(variable->count, variable->extent[i], &variable->count))
            return cut_short(file);
    }
    return OK;
}

/* Flags, extents and name; what is left of `matrix` are the values. */
static Status read_head(const MatFile *file, Bytes *matrix, Variable *variable)
{
    Element flags, extents, name;
    *variable = (Variable){.rank = 0};
    TRY(next_element(file, matrix, true, &flags));
    if (flags.type != TYPE_UINT32 || flags.size != 8) return cut_short(file);
    variable->class = word_at(file, flags.data) & 0xFF;
    variable->complex = (word_at(file, flags.data) & COMPLEX) != 0;
    TRY(next_element(file, matrix, true, &extents));
    TRY(read_extents(file, &extents, variable));
    TRY(next_element(file, matrix, true, &name));
    if (name.type != TYPE_INT8 || name.size >= LONGEST_NAME) return cut_short(file);
    memcpy(variable->name, name.data, name.size);
    return OK;
}

static Status check_wanted(const MatFile *file, const Variable *variable)
{
    if (variable->class != CLASS_UINT8 || variable->complex)
        return fail(STATUS_INPUT, "%s: %s is not an array of type uint8", file->name, variable->name);
    if (variable->rank == 0 || variable->count < 1)
        return fail(STATUS_INPUT, "%s: %s has no elements, or more than %d dimensions", file->name,
                    variable->name, MATLAB_MAX_RANK);
    return OK;
}

static Status take_values(const MatFile *file, Bytes *matrix, const Variable *variable, MatlabArray *array)
{
    Element values;
    TRY(check_wanted(file, variable));
    TRY(next_element(file, matrix, true, &values));
    if (values.type != TYPE_UINT8 || values.size != variable->count) return cut_short(file);
    array->rank = variable->rank;
    memcpy(array->extent, variable->extent, sizeof array->extent);
    array->count = variable->count;
    TRY(memory_new(&array->data, (size_t)array->count, 1, "the images of a MATLAB file"));
    memcpy(array->data, values.data, (size_t)array->count);
    return OK;
}

/* ---- compressed variables ---- */

/* Unpacks the first `size` bytes; *whole: it is all, and its checksum is right. Fewer may come: *got. */
static Status unpack(const MatFile *file, const Element *packed, uint8_t *to, size_t size, size_t *got,
                     bool *whole)
{
    z_stream stream = {.next_in = (uint8_t *)(uintptr_t)packed->data, .avail_in = packed->size};
    if (inflateInit(&stream) != Z_OK) return fail(STATUS_MEMORY, "%s: no memory to unpack it", file->name);
    stream.next_out = to;
    stream.avail_out = (uInt)size;
    const int code = inflate(&stream, Z_FINISH);
    *got = size - stream.avail_out;
    *whole = code == Z_STREAM_END;
    const bool damaged = code != Z_STREAM_END && code != Z_OK && code != Z_BUF_ERROR;
    (void)inflateEnd(&stream);
    return damaged ? fail(STATUS_INPUT, "%s: a compressed variable is damaged", file->name) : OK;
}

/* The bytes inside the MATRIX element that `unpacked` begins with. */
static Status inside_matrix(const MatFile *file, Bytes *unpacked, Element *matrix, Bytes *inside)
{
    const Bytes all = *unpacked;
    TRY(next_element(file, unpacked, false, matrix));
    if (matrix->type != TYPE_MATRIX || all.left < TAG) return cut_short(file);
    *inside = (Bytes){all.at + TAG, all.left - TAG < matrix->size ? all.left - TAG : matrix->size};
    return OK;
}

static Status take_packed(const MatFile *file, const Element *packed, size_t size, MatlabArray *array)
{
    uint8_t *memory;
    size_t got;
    bool whole;
    Element matrix;
    Variable variable;
    Bytes inside;
    if (size / MOST_RATIO > packed->size || size > UINT32_MAX) return cut_short(file);
    /* One byte more, so that zlib looks at the end of the stream and its checksum. */
    TRY(memory_new(&memory, size + 1, 1, "a variable of a MATLAB file"));
    Status status = unpack(file, packed, memory, size + 1, &got, &whole);
    if (status == OK && (!whole || got != size)) status = cut_short(file);
    Bytes unpacked = {memory, size};
    if (status == OK) status = inside_matrix(file, &unpacked, &matrix, &inside);
    if (status == OK) status = read_head(file, &inside, &variable);
    if (status == OK) status = take_values(file, &inside, &variable, array);
    free(memory);
    return status;
}

/* ---- the file ---- */

/* Names of the variables that there are, for the message. */
typedef struct {
    char text[256];
    size_t used;
} Names;

static void add_name(Names *names, const char *name)
{
    if (names->used >= sizeof names->text) return;
    names->used += (size_t)snprintf(names->text + names->used, sizeof names->text - names->used, "%s%s",
                                    names->used > 0 ? ", " : "", name[0] != '\0' ? name : "(unnamed)");
}

/* One variable: taken if it is the wanted one. */
static Status look_at(const MatFile *file, const Element *element, const char *wanted, Names *names,
                      bool *found, MatlabArray *array)
{
    uint8_t head[HEAD_BYTES];
    Element matrix = *element;
    Bytes inside = {element->data, element->size};
    Variable variable;
    if (element->type == TYPE_COMPRESSED) {
        size_t got;
        bool whole;
        TRY(unpack(file, element, head, sizeof head, &got, &whole));
        Bytes unpacked = {head, got};
        TRY(inside_matrix(file, &unpacked, &matrix, &inside));
    } else if (element->type != TYPE_MATRIX) {
        return OK;
    }
    if (matrix.size == 0) return OK; /* an empty one has nothing, not even a name */
    TRY(read_head(file, &inside, &variable));
    add_name(names, variable.name);
    if (strcmp(variable.name, wanted) != 0) return OK;
    *found = true;
    if (element->type == TYPE_COMPRESSED) return take_packed(file, element, (size_t)matrix.size + TAG, array);
    return take_values(file, &inside, &variable, array);
}

static Status parse_header(const char *name, const uint8_t *bytes, size_t size, MatFile *file)
{
    *file = (MatFile){.name = name};
    /* Version 4 has no header: it begins with a number below 5000, which has a zero byte. */
    if (size >= 4 && (bytes[0] == 0 || bytes[1] == 0 || bytes[2] == 0 || bytes[3] == 0))
        return fail(STATUS_INPUT,
                    "%s: no MATLAB file of version 5 to 7.3 (version 4 is not read: save it with -v7)", name);
    if (size < HEADER) return fail(STATUS_INPUT, "%s: %zu bytes are no MATLAB file", name, size);
    const bool little = bytes[126] == 'I' && bytes[127] == 'M', big = bytes[126] == 'M' && bytes[127] == 'I';
    const int version = little ? bytes[125] : bytes[124];
    if ((!little && !big) || version != 1)
        return fail(STATUS_INPUT, "%s: no MATLAB file of version 5 to 7.3", name);
    file->swapped = big;
    return OK;
}

Status matlab_parse(const char *name, const uint8_t *bytes, size_t size, const char *variable,
                    MatlabArray *array)
{
    MatFile file;
    Names names = {.used = 0};
    bool found = false;
    *array = (MatlabArray){0};
    TRY(parse_header(name, bytes, size, &file));
    Bytes left = {bytes + HEADER, size - HEADER};
    while (left.left > 0 && !found) {
        Element element;
        TRY(next_element(&file, &left, true, &element));
        TRY(look_at(&file, &element, variable, &names, &found, array));
    }
    if (found) return OK;
    return fail(STATUS_INPUT, "%s: there is no variable %s in it%s%s", name, variable,
                names.used > 0 ? "; it holds " : ", nor any other", names.text);
}

/* HDF5's signature stands at the beginning or, behind a block of the user's, at 512: MATLAB puts its header there. */
static bool is_hdf5(const FileMap *map)
{
    static const char signature[] = "\x89HDF\r\n\x1A\n";
    enum { LENGTH = sizeof signature - 1, USER_BLOCK = 512 };
    return (map->size >= LENGTH && memcmp(map->data, signature, LENGTH) == 0) ||
           (map->size >= USER_BLOCK + LENGTH && memcmp(map->data + USER_BLOCK, signature, LENGTH) == 0);
}

static bool says_7_3(const FileMap *map)
{
    static const char text[] = "MATLAB 7.3 MAT-file";
    return map->size >= sizeof text - 1 && memcmp(map->data, text, sizeof text - 1) == 0;
}

Status matlab_read(const char *path, const char *variable, MatlabArray *array)
{
    FileMap map;
    *array = (MatlabArray){0};
    TRY(file_map(path, &map));
    const bool hdf5 = is_hdf5(&map), lost = !hdf5 && says_7_3(&map);
    Status status = OK;
    if (lost)
        status = fail(STATUS_INPUT, "%s: a MATLAB file of version 7.3 that is cut short or damaged", path);
    if (!hdf5 && !lost) status = matlab_parse(path, map.data, map.size, variable, array);
    file_unmap(&map);
    return hdf5 ? hdf5_read(path, variable, array) : status;
}
