#include "engine/base/npy.h"

#include "engine/base/memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A version 1.0 header counts its length in 16 bits; in later versions 32 bits. NumPy itself refuses
 * headers over 10,000 bytes; no array of rank 8 needs more. */
enum { MAGIC_BYTES = 8, MAX_HEADER = 65536 };
static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

/* ---- Elements ---- */

/* Makes of an element's `bytes` in the file what memory holds of it; false: its type cannot. */
typedef bool ReadElement(const uint8_t *from, size_t bytes, void *to);

static uint64_t little_endian(const uint8_t *from, size_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, from, bytes);
    return value;
}

static bool read_signed(const uint8_t *from, size_t bytes, void *to)
{
    const int unused = 64 - 8 * (int)bytes;
    const int64_t value = (int64_t)(little_endian(from, bytes) << unused) >> unused;
    memcpy(to, &value, sizeof value);
    return true;
}

static bool read_unsigned(const uint8_t *from, size_t bytes, void *to)
{
    const uint64_t value = little_endian(from, bytes);
    memcpy(to, &value, sizeof value);
    return value <= INT64_MAX;
}

static bool read_half(const uint8_t *from, size_t bytes, void *to)
{
    const float value = half_to_float((uint16_t)little_endian(from, bytes));
    memcpy(to, &value, sizeof value);
    return true;
}

typedef struct {
    const char *name;  /* as in 'descr' */
    size_t bytes;      /* of an element in the file */
    DType type;        /* as which it is read; written is the first of that type */
    ReadElement *read; /* NULL: the bytes as they are */
} FileType;
static const FileType types[] = {
    {"<f4", 4, FLOAT32, NULL},        {"<f8", 8, FLOAT64, NULL},        {"<i4", 4, INT32, NULL},
    {"<i8", 8, INT64, NULL},          {"|u1", 1, UINT8, NULL},          {"|b1", 1, UINT8, NULL},
    {"<f2", 2, FLOAT32, read_half},   {"|i1", 1, INT64, read_signed},   {"<i2", 2, INT64, read_signed},
    {"<u2", 2, INT64, read_unsigned}, {"<u4", 4, INT64, read_unsigned}, {"<u8", 8, INT64, read_unsigned},
};
enum { TYPE_COUNT = sizeof types / sizeof *types };

/* ---- The header: a Python dict with three known keys ---- */

typedef struct {
    const char *name; /* of the file */
    const char *at, *end;
    const FileType *type; /* what 'descr' says */
    bool fortran_order;   /* the first index runs fastest */
} Reader;

static Status malformed(const Reader *reader, const char *what)
{
    return fail(STATUS_INPUT, "%s: not a valid .npy header: %s", reader->name, what);
}

static void skip_space(Reader *reader)
{
    while (reader->at < reader->end && strchr(" \t\n\r", *reader->at) != NULL && *reader->at != '\0')
        ++reader->at;
}

static bool take(Reader *reader, char c)
{
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != c) return false;
    ++reader->at;
    return true;
}

static bool take_word(Reader *reader, const char *word)
{
    skip_space(reader);
    const size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) return false;
    reader->at += length;
    return true;
}

static Status read_quoted(Reader *reader, char *text, size_t size)
{
    skip_space(reader);
    if (reader->at == reader->end || (*reader->at != '\'' && *reader->at != '"'))
        return malformed(reader, "a quoted text was expected");
    const char quote = *reader->at++;
    size_t length = 0;
    while (reader->at < reader->end && *reader->at != quote) {
        const char c = *reader->at++;
        if (c < ' ' || c > '~' || c == '\\' || length + 1 == size)
            return malformed(reader, "a text in it is over-long or has odd characters");
        text[length++] = c;
    }
    text[length] = '\0';
    if (!take(reader, quote)) return malformed(reader, "a text in it does not end");
    return OK;
}

/* "<i8" as NumPy calls it: "int64". */
static void name_type(const char *descr, char stored[16])
{
    static const struct {
        char letter;
        const char *name;
    } kinds[] = {{'f', "float"}, {'i', "int"}, {'u', "uint"}};
    (void)snprintf(stored, 16, "bool");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i)
        if (descr[1] == kinds[i].letter)
            (void)snprintf(stored, 16, "%s%d", kinds[i].name, 8 * (descr[2] - '0'));
}

static Status read_type(Reader *reader, Npy *npy)
{
    skip_space(reader);
    if (reader->at < reader->end && *reader->at == '[')
        return fail(STATUS_INPUT, "%s: arrays of records are not supported", reader->name);
    char descr[32];
    TRY(read_quoted(reader, descr, sizeof descr));
    for (int i = 0; i < TYPE_COUNT; ++i) {
        if (strcmp(descr, types[i].name) != 0) continue;
        reader->type = &types[i];
        npy->type = types[i].type;
        name_type(descr, npy->stored);
        return OK;
    }
    if (descr[0] == '>')
        return fail(STATUS_INPUT,
                    "%s: element type '%s' is big-endian, which is not supported (save array.astype('<%s'))",
                    reader->name, descr, descr + 1);
    if (strcmp(descr, "|V2") == 0 || strcmp(descr, "<V2") == 0)
        return fail(STATUS_INPUT,
                    "%s: element type '%s' is bfloat16 as NumPy saves it, without its name (save "
                    "array.astype('float32'))",
                    reader->name, descr);
    return fail(STATUS_INPUT,
                "%s: element type '%s' is not supported (only float16, float32, float64, integers and bool "
                "are)",
                reader->name, descr);
}

static Status read_extent(Reader *reader, int64_t *extent)
{
    skip_space(reader);
    if (reader->at == reader->end || *reader->at < '0' || *reader->at > '9')
        return malformed(reader, "the shape is not a tuple of counts");
    *extent = 0;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        if (__builtin_mul_overflow(*extent, 10, extent) ||
            __builtin_add_overflow(*extent, *reader->at - '0', extent))
            return malformed(reader, "an extent of the shape is too large");
        ++reader->at;
    }
    if (reader->at < reader->end && *reader->at == 'L') ++reader->at; /* Python 2 wrote long integers so */
    return OK;
}

static Status read_shape(Reader *reader, Npy *npy)
{
    if (!take(reader, '(')) return malformed(reader, "the shape is not a tuple");
    npy->rank = 0;
    bool comma = true;
    while (!take(reader, ')')) {
        if (!comma) return malformed(reader, "the shape's extents are not separated by commas");
        if (npy->rank == NPY_MAX_RANK)
            return fail(STATUS_INPUT, "%s: more than %d dimensions are not supported", reader->name,
                        NPY_MAX_RANK);
        TRY(read_extent(reader, &npy->extent[npy->rank++]));
        comma = take(reader, ',');
    }
    if (npy->rank == 1 && !comma) return malformed(reader, "the shape is not a tuple");
    return OK;
}

static Status read_order(Reader *reader)
{
    if (take_word(reader, "False")) return OK;
    if (!take_word(reader, "True")) return malformed(reader, "fortran_order is neither True nor False");
    reader->fortran_order = true;
    return OK;
}

/* With one dimension, or none, both orders are the same. */
static Status check_order(Reader *reader, const Npy *npy)
{
    if (npy->rank < 2) reader->fortran_order = false;
    if (!reader->fortran_order || npy->rank == 2) return OK;
    return fail(STATUS_INPUT,
                "%s: an array of %d dimensions in Fortran order is not supported (save "
                "numpy.ascontiguousarray of it)",
                reader->name, npy->rank);
}

static Status read_header(Reader *reader, Npy *npy)
{
    static const char *const keys[3] = {"descr", "fortran_order", "shape"};
    bool seen[3] = {false, false, false};
    if (!take(reader, '{')) return malformed(reader, "it does not begin with {");
    bool comma = true;
    while (!take(reader, '}')) {
        if (!comma) return malformed(reader, "its entries are not separated by commas");
        char key[32];
        TRY(read_quoted(reader, key, sizeof key));
        if (!take(reader, ':')) return malformed(reader, "a key lacks its colon");
        int which = 0;
        while (which < 3 && strcmp(key, keys[which]) != 0)
            ++which;
        if (which == 3 || seen[which]) return malformed(reader, "it has an unknown or a repeated key");
        seen[which] = true;
        switch (which) {
        case 0:
            TRY(read_type(reader, npy));
            break;
        case 1:
            TRY(read_order(reader));
            break;
        default:
            TRY(read_shape(reader, npy));
            break;
        }
        comma = take(reader, ',');
    }
    skip_space(reader);
    if (reader->at != reader->end) return malformed(reader, "something follows its }");
    for (int i = 0; i < 3; ++i)
        if (!seen[i])
            return fail(STATUS_INPUT, "%s: not a valid .npy header: it lacks '%s'", reader->name, keys[i]);
    return OK;
}

/* ---- The file ---- */

static Status count_items(const char *name, Npy *npy, size_t item, size_t *bytes)
{
    npy->count = 1;
    bool empty = false, overflow = false;
    for (int i = 0; i < npy->rank; ++i)
        empty |= npy->extent[i] == 0;
    if (empty) npy->count = 0;
    for (int i = 0; i < npy->rank && !empty; ++i)
        overflow |= __builtin_mul_overflow(npy->count, npy->extent[i], &npy->count);
    overflow = overflow || __builtin_mul_overflow((size_t)npy->count, item, bytes);
    if (overflow) return fail(STATUS_INPUT, "%s: the shape is too large for any memory", name);
    return OK;
}

static Status copy_element(const Reader *reader, const uint8_t *data, int64_t from, const Npy *npy,
                           int64_t to)
{
    const FileType *type = reader->type;
    const uint8_t *element = data + (size_t)from * type->bytes;
    uint8_t *copy = (uint8_t *)npy->copy + (size_t)to * dtype_size(type->type);
    if (type->read == NULL) {
        memcpy(copy, element, type->bytes);
    } else if (!type->read(element, type->bytes, copy)) {
        return fail(STATUS_INPUT, "%s: element %lld is %llu, more than 64-bit signed integers hold",
                    reader->name, (long long)to, (unsigned long long)little_endian(element, type->bytes));
    }
    return OK;
}

/* A few rows at a time: of each column the file then gives whole cache lines. */
static Status copy_transposed(const Reader *reader, const uint8_t *data, const Npy *npy)
{
    enum { ROWS = 32 };
    const int64_t rows = npy->extent[0], columns = npy->extent[1];
    for (int64_t first = 0; first < rows; first += ROWS) {
        const int64_t end = rows - first < ROWS ? rows : first + ROWS;
        for (int64_t column = 0; column < columns; ++column)
            for (int64_t row = first; row < end; ++row)
                TRY(copy_element(reader, data, column * rows + row, npy, row * columns + column));
    }
    return OK;
}

/* npy->copy = the elements as what they are read, in C order. */
static Status copy_elements(const Reader *reader, const uint8_t *data, Npy *npy)
{
    TRY(memory_new(&npy->copy, (size_t)npy->count, dtype_size(npy->type), reader->name));
    Status status = OK;
    if (reader->fortran_order) {
        status = copy_transposed(reader, data, npy);
    } else {
        for (int64_t i = 0; i < npy->count && status == OK; ++i)
            status = copy_element(reader, data, i, npy, i);
    }
    if (status != OK) {
        free(npy->copy);
        npy->copy = NULL;
    }
    return status;
}

/* Can the elements be used where they lie? */
static bool fits_as_it_lies(const Reader *reader, const uint8_t *data)
{
    return reader->type->read == NULL && !reader->fortran_order &&
           (uintptr_t)data % dtype_size(reader->type->type) == 0;
}

Status npy_parse(const char *name, const uint8_t *bytes, size_t size, Npy *npy)
{
    memset(npy, 0, sizeof *npy);
    const size_t looked_at = size < 256 ? size : 256;
    const bool is_archive = bytes != NULL && size >= 4 && memcmp(bytes, "PK\x03\x04", 4) == 0;
    if (is_archive && memmem(bytes, looked_at, "/data.pkl", 9) != NULL)
        return fail(STATUS_INPUT,
                    "%s: a file of torch.save, not a .npy file: save it as one, with "
                    "numpy.save('logits.npy', torch.load('%s').cpu().numpy())",
                    name, name);
    if (is_archive)
        return fail(STATUS_INPUT,
                    "%s: an archive of arrays (.npz), not a .npy file: save the one that is meant, as in "
                    "numpy.save('logits.npy', numpy.load('%s')['NAME'])",
                    name, name);
    if (size < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0)
        return fail(STATUS_INPUT, "%s: not a .npy file (%s)", name,
                    size == 0 ? "it is empty" : "wrong magic bytes; numpy.save writes such files");
    if (size < MAGIC_BYTES + 2)
        return fail(STATUS_INPUT, "%s: the .npy file is cut short in its header", name);
    const int version = bytes[6];
    if (version < 1 || version > 3)
        return fail(STATUS_INPUT, "%s: .npy version %d.%d is not supported", name, version, bytes[7]);
    size_t start = MAGIC_BYTES + 2, header = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (version > 1) {
        start = MAGIC_BYTES + 4;
        if (size < start) return fail(STATUS_INPUT, "%s: the .npy file is cut short in its header", name);
        header |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    }
    if (header > MAX_HEADER)
        return fail(STATUS_INPUT, "%s: a .npy header of %zu bytes is not supported", name, header);
    if (size - start < header)
        return fail(STATUS_INPUT, "%s: the .npy file is cut short in its header", name);

    Npy read = {.type = FLOAT32};
    Reader reader = {
        .name = name, .at = (const char *)bytes + start, .end = (const char *)bytes + start + header};
    TRY(read_header(&reader, &read));
    TRY(check_order(&reader, &read));
    size_t needed;
    TRY(count_items(name, &read, reader.type->bytes, &needed));
    const size_t present = size - start - header;
    if (present != needed)
        return fail(STATUS_INPUT, "%s: the shape needs %zu bytes of data, but the file holds %zu%s", name,
                    needed, present, present < needed ? " (it is cut short)" : "");
    const uint8_t *data = bytes + start + header;
    if (needed == 0) {
        data = NULL;
    } else if (!fits_as_it_lies(&reader, data)) {
        TRY(copy_elements(&reader, data, &read));
        data = read.copy;
    }
    *npy = read;
    npy->data = data;
    return OK;
}

Status npy_open(const char *path, Npy *npy)
{
    memset(npy, 0, sizeof *npy);
    FileMap map;
    TRY(file_map(path, &map));
    Status status = npy_parse(path, map.data, map.size, npy);
    if (status != OK || npy->copy != NULL)
        file_unmap(&map);
    else
        npy->map = map;
    return status;
}

void npy_close(Npy *npy)
{
    file_unmap(&npy->map);
    free(npy->copy);
    memset(npy, 0, sizeof *npy);
}

Status npy_write(const char *path, DType type, int rank, const int64_t extent[], const void *data)
{
    const char *descr = NULL;
    for (int i = 0; i < TYPE_COUNT && descr == NULL; ++i)
        if (types[i].type == type) descr = types[i].name;
    if (descr == NULL) return fail(STATUS_UNSUPPORTED, "%s: .npy has no type %s", path, dtype_name(type));
    if (rank < 0 || rank > NPY_MAX_RANK)
        return fail(STATUS_INTERNAL, "%s: cannot write an array of %d dimensions", path, rank);
    Npy npy = {.type = type, .rank = rank};
    char shape[NPY_MAX_RANK * 24] = "";
    int length = 0;
    for (int i = 0; i < rank; ++i) {
        if (extent[i] < 0) return fail(STATUS_INTERNAL, "%s: extent %d is negative", path, i);
        npy.extent[i] = extent[i];
        length += snprintf(shape + length, sizeof shape - (size_t)length, "%s%lld%s", i > 0 ? ", " : "",
                           (long long)extent[i], rank == 1 ? "," : "");
    }
    size_t bytes;
    TRY(count_items(path, &npy, dtype_size(type), &bytes));

    /* Spaces and a newline make the header a multiple of 64 bytes, so that the data are aligned in a map. */
    char header[512];
    length = snprintf(header + 10, sizeof header - 10,
                      "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape);
    const int total = (10 + length + 1 + 63) / 64 * 64;
    memset(header + 10 + length, ' ', (size_t)(total - 10 - length));
    header[total - 1] = '\n';
    memcpy(header, magic, sizeof magic);
    header[6] = 1;
    header[7] = 0;
    header[8] = (char)((total - 10) & 0xff);
    header[9] = (char)((total - 10) >> 8);

    FileWriter *writer;
    TRY(file_writer_open(path, &writer));
    Status status = file_writer_write(writer, header, (size_t)total);
    if (status == OK) status = file_writer_write(writer, data, bytes);
    if (status != OK) {
        file_writer_abandon(writer);
        return status;
    }
    return file_writer_commit(writer);
}
