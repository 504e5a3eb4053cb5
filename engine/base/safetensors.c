#include "engine/base/safetensors.h"

#include "engine/base/memory.h"

#include <cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Two marks in the metadata say that a file is ours: a flipped byte in one of the keys cannot hide both, and
 * one without the other is an error. The checksum comes first, so that its place is known. */
#define CHECKSUM_KEY "checksum"
#define KIND_KEY "checksum_kind"
#define KIND "xxh3-128"
#define METADATA_KEY "__metadata__"
static const char preamble[] = "{\"" METADATA_KEY "\":{\"" CHECKSUM_KEY "\":\"";

enum {
    LENGTH_BYTES = 8,
    CHECKSUM_CHARACTERS = 32,
    CHECKSUM_AT = LENGTH_BYTES + sizeof preamble - 1,
    MAX_HEADER = 16 << 20, /* some 100,000 tensors; bounds what a hostile header makes cJSON allocate */
    ALIGNMENT = 64
};
static const char no_checksum[CHECKSUM_CHARACTERS + 1] = "00000000000000000000000000000000";

static const char *const type_names[DTYPE_COUNT] = {
    [FLOAT32] = "F32", [BFLOAT16] = "BF16", [FLOAT64] = "F64",
    [INT32] = "I32",   [INT64] = "I64",     [UINT8] = "U8",
};

struct SafeFile {
    char *name; /* for messages */
    FileMap map;
    cJSON *header; /* owns the names */
    const cJSON *metadata;
    SafeTensor *tensors;
    size_t *begins; /* of each tensor in the data, while reading */
    bool *halves;   /* float16 in the file */
    void **copies;  /* of tensors that lie misaligned in the file, or are float16 there; mostly NULL */
    int *by_name;   /* indices in the order of names */
    int count;
};

/* ---- Checksum ---- */

typedef struct {
    const void *data;
    size_t size;
} Piece;

static Status checksum(const Piece pieces[], size_t count, char text[CHECKSUM_CHARACTERS + 1])
{
    XXH3_state_t *state = XXH3_createState();
    if (state == NULL) return fail(STATUS_MEMORY, "no memory for a checksum");
    (void)XXH3_128bits_reset(state);
    for (size_t i = 0; i < count; ++i)
        if (pieces[i].size > 0) (void)XXH3_128bits_update(state, pieces[i].data, pieces[i].size);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    (void)XXH3_freeState(state);
    for (int i = 0; i < CHECKSUM_CHARACTERS / 2; ++i)
        (void)sprintf(text + 2 * i, "%02x", canonical.digest[i]);
    return OK;
}

/* ---- Writing ---- */

/* Larger elements first: then every tensor is aligned for its type without gaps, which the format forbids. */
static Status lay_out(const SafeTensor tensors[], int count, int order[], size_t begins[])
{
    static const size_t sizes[] = {8, 4, 2, 1};
    size_t end = 0;
    int placed = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
        for (int i = 0; i < count; ++i) {
            if (dtype_size(tensors[i].type) != sizes[s]) continue;
            begins[i] = end;
            if (__builtin_add_overflow(end, tensors[i].bytes, &end))
                return fail(STATUS_INTERNAL, "the tensors to be written are too large");
            order[placed++] = i;
        }
    }
    return OK;
}

/* Bytes that the shape needs, or false if that overflows or an extent is negative. */
static bool shape_bytes(const SafeTensor *tensor, size_t *bytes)
{
    bool empty = false;
    for (int i = 0; i < tensor->rank; ++i) {
        if (tensor->extent[i] < 0) return false;
        empty |= tensor->extent[i] == 0;
    }
    *bytes = empty ? 0 : dtype_size(tensor->type);
    for (int i = 0; i < tensor->rank; ++i)
        if (__builtin_mul_overflow(*bytes, (size_t)tensor->extent[i], bytes)) return false;
    return true;
}

static bool add_tensor(cJSON *header, const SafeTensor *tensor, size_t begin)
{
    cJSON *entry = cJSON_AddObjectToObject(header, tensor->name);
    if (entry == NULL || cJSON_AddStringToObject(entry, "dtype", type_names[tensor->type]) == NULL)
        return false;
    cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
    for (int i = 0; i < tensor->rank; ++i)
        if (!cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->extent[i]))) return false;
    cJSON *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    return cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)begin)) &&
           cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)(begin + tensor->bytes)));
}

static bool add_metadata(cJSON *header, const SafeMetadata metadata[], int count)
{
    cJSON *entries = cJSON_AddObjectToObject(header, METADATA_KEY);
    bool good = cJSON_AddStringToObject(entries, CHECKSUM_KEY, no_checksum) != NULL &&
                cJSON_AddStringToObject(entries, KIND_KEY, KIND) != NULL;
    for (int i = 0; i < count && good; ++i)
        good = cJSON_AddStringToObject(entries, metadata[i].key, metadata[i].value) != NULL;
    return good;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names that would make a file which cannot be read back are the caller's defect. */
static Status check_names(const char *path, const char *names[], int count)
{
    if (count > 1) qsort(names, (size_t)count, sizeof *names, compare_texts);
    for (int i = 1; i < count; ++i)
        if (strcmp(names[i - 1], names[i]) == 0)
            return fail(STATUS_INTERNAL, "%s: '%s' would be written twice", path, names[i]);
    return OK;
}

static Status check_input(const char *path, const SafeTensor tensors[], int tensor_count,
                          const SafeMetadata metadata[], int metadata_count)
{
    const char **names;
    const int most = tensor_count > metadata_count ? tensor_count : metadata_count;
    TRY(memory_new(&names, (size_t)most + 2, sizeof *names, "tensor names"));
    Status status = OK;
    for (int i = 0; i < tensor_count; ++i) {
        size_t bytes;
        names[i] = tensors[i].name;
        if (tensors[i].rank < 0 || tensors[i].rank > 8 || !shape_bytes(&tensors[i], &bytes) ||
            bytes != tensors[i].bytes) {
            status = fail(STATUS_INTERNAL, "%s: the shape of %s does not fit its %zu bytes", path,
                          tensors[i].name, tensors[i].bytes);
            break;
        }
    }
    names[tensor_count] = METADATA_KEY;
    if (status == OK) status = check_names(path, names, tensor_count + 1);
    for (int i = 0; i < metadata_count; ++i)
        names[i] = metadata[i].key;
    names[metadata_count] = CHECKSUM_KEY;
    names[metadata_count + 1] = KIND_KEY;
    if (status == OK) status = check_names(path, names, metadata_count + 2);
    free(names);
    return status;
}

/* The header with its length before it and spaces behind it, so that the data begin aligned. */
static Status make_header(const char *path, const SafeTensor tensors[], int tensor_count,
                          const size_t begins[], const SafeMetadata metadata[], int metadata_count,
                          char **out, size_t *size)
{
    cJSON *header = cJSON_CreateObject();
    bool good = header != NULL && add_metadata(header, metadata, metadata_count);
    for (int i = 0; i < tensor_count && good; ++i)
        good = add_tensor(header, &tensors[i], begins[i]);
    char *text = good ? cJSON_PrintUnformatted(header) : NULL;
    cJSON_Delete(header);
    if (text == NULL) return fail(STATUS_MEMORY, "%s: no memory for the header", path);
    const size_t length = strlen(text);
    *size = (LENGTH_BYTES + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    Status status = memory_new(out, *size, 1, "safetensors header");
    if (status == OK) {
        const uint64_t padded = *size - LENGTH_BYTES;
        for (int i = 0; i < LENGTH_BYTES; ++i)
            (*out)[i] = (char)(padded >> (8 * i) & 0xff);
        memset(*out + LENGTH_BYTES, ' ', padded);
        memcpy(*out + LENGTH_BYTES, text, length);
    }
    if (status == OK && *size > MAX_HEADER) {
        status = fail(STATUS_INTERNAL, "%s: a header of %zu bytes is too large", path, *size);
        free(*out);
    }
    cJSON_free(text);
    return status;
}

static Status write_pieces(const char *path, const Piece pieces[], size_t count)
{
    FileWriter *writer;
    TRY(file_writer_open(path, &writer));
    for (size_t i = 0; i < count; ++i) {
        Status status = file_writer_write(writer, pieces[i].data, pieces[i].size);
        if (status == OK) continue;
        file_writer_abandon(writer);
        return status;
    }
    return file_writer_commit(writer);
}

Status safetensors_write(const char *path, const SafeTensor tensors[], int tensor_count,
                         const SafeMetadata metadata[], int metadata_count)
{
    TRY(check_input(path, tensors, tensor_count, metadata, metadata_count));
    Status status = OK;
    const size_t count = (size_t)tensor_count;
    int *order = NULL;
    size_t *begins = NULL, size = 0;
    Piece *pieces = NULL;
    char *header = NULL, text[CHECKSUM_CHARACTERS + 1];
    TRY_ELSE(done, memory_new(&order, count, sizeof *order, "tensor order"));
    TRY_ELSE(done, memory_new(&begins, count, sizeof *begins, "tensor offsets"));
    TRY_ELSE(done, memory_new(&pieces, count + 1, sizeof *pieces, "tensor pieces"));
    TRY_ELSE(done, lay_out(tensors, tensor_count, order, begins));
    TRY_ELSE(done,
             make_header(path, tensors, tensor_count, begins, metadata, metadata_count, &header, &size));
    pieces[0] = (Piece){header, size};
    for (size_t i = 0; i < count; ++i)
        pieces[i + 1] = (Piece){tensors[order[i]].data, tensors[order[i]].bytes};
    TRY_ELSE(done, checksum(pieces, count + 1, text));
    memcpy(header + CHECKSUM_AT, text, CHECKSUM_CHARACTERS);
    TRY_ELSE(done, write_pieces(path, pieces, count + 1));
done:
    free(order);
    free(begins);
    free(pieces);
    free(header);
    return status;
}

/* ---- Reading ---- */

static Status read_count(const SafeFile *file, const cJSON *number, const char *tensor, const char *what,
                         int64_t *count)
{
    /* cJSON keeps numbers as doubles: exact up to 2^53, which no count reaches. */
    if (!cJSON_IsNumber(number) || !(number->valuedouble >= 0 && number->valuedouble <= 0x1p53) ||
        number->valuedouble != (double)(int64_t)number->valuedouble)
        return fail(STATUS_INPUT, "%s: tensor %.100s: its %s is not a list of counts", file->name, tensor,
                    what);
    *count = (int64_t)number->valuedouble;
    return OK;
}

/* *half: float16 in the file, of which *type has twice the size. */
static Status read_type(const SafeFile *file, const cJSON *entry, const char *name, DType *type, bool *half)
{
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(entry, "dtype");
    if (!cJSON_IsString(dtype)) return fail(STATUS_INPUT, "%s: tensor %.100s has no dtype", file->name, name);
    *half = strcmp(dtype->valuestring, "F16") == 0;
    if (*half) {
        *type = FLOAT32;
        return OK;
    }
    for (int i = 0; i < DTYPE_COUNT; ++i) {
        if (strcmp(dtype->valuestring, type_names[i]) != 0) continue;
        *type = (DType)i;
        return OK;
    }
    return fail(
        STATUS_INPUT,
        "%s: tensor %.100s: element type %.20s is not supported (only F32 BF16 F16 F64 I32 I64 U8 are)",
        file->name, name, dtype->valuestring);
}

/* One entry of the header: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}. */
static Status read_tensor(SafeFile *file, const cJSON *entry, size_t data_size)
{
    SafeTensor *tensor = &file->tensors[file->count];
    bool *half = &file->halves[file->count];
    tensor->name = entry->string;
    if (!cJSON_IsObject(entry))
        return fail(STATUS_INPUT, "%s: the header's entry %.100s is not a tensor", file->name, tensor->name);
    TRY(read_type(file, entry, tensor->name, &tensor->type, half));
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(entry, "shape"), *item;
    if (!cJSON_IsArray(shape))
        return fail(STATUS_INPUT, "%s: tensor %.100s has no shape", file->name, tensor->name);
    cJSON_ArrayForEach(item, shape)
    {
        if (tensor->rank == 8)
            return fail(STATUS_INPUT, "%s: tensor %.100s: more than 8 dimensions are not supported",
                        file->name, tensor->name);
        TRY(read_count(file, item, tensor->name, "shape", &tensor->extent[tensor->rank++]));
    }
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2)
        return fail(STATUS_INPUT, "%s: tensor %.100s has no pair of data_offsets", file->name, tensor->name);
    int64_t first, last;
    TRY(read_count(file, cJSON_GetArrayItem(offsets, 0), tensor->name, "data_offsets", &first));
    TRY(read_count(file, cJSON_GetArrayItem(offsets, 1), tensor->name, "data_offsets", &last));
    if (first > last || (uint64_t)last > data_size)
        return fail(STATUS_INPUT,
                    "%s: tensor %.100s lies at bytes %lld to %lld, outside the %zu bytes of data (is the "
                    "file cut short?)",
                    file->name, tensor->name, (long long)first, (long long)last, data_size);
    file->begins[file->count] = (size_t)first;
    tensor->bytes = (size_t)(last - first);
    size_t needed;
    if (!shape_bytes(tensor, &needed) || (*half ? needed / 2 : needed) != tensor->bytes)
        return fail(STATUS_INPUT, "%s: tensor %.100s: its shape does not fit its %zu bytes", file->name,
                    tensor->name, tensor->bytes);
    return OK;
}

static int compare_places(const void *a, const void *b, void *context)
{
    const SafeFile *file = context;
    const int left = *(const int *)a, right = *(const int *)b;
    const size_t begin[2] = {file->begins[left], file->begins[right]};
    if (begin[0] != begin[1]) return begin[0] < begin[1] ? -1 : 1;
    /* An empty tensor comes before the one that begins where it stands. */
    const size_t bytes[2] = {file->tensors[left].bytes, file->tensors[right].bytes};
    return (bytes[0] > bytes[1]) - (bytes[0] < bytes[1]);
}

static int compare_names(const void *a, const void *b, void *context)
{
    const SafeFile *file = context;
    return strcmp(file->tensors[*(const int *)a].name, file->tensors[*(const int *)b].name);
}

/* The tensors must follow each other without gap or overlap from the first byte to the last. */
static Status check_places(SafeFile *file, size_t data_size)
{
    int *order = file->by_name; /* sorted anew by name afterwards */
    for (int i = 0; i < file->count; ++i)
        order[i] = i;
    if (file->count > 1) qsort_r(order, (size_t)file->count, sizeof *order, compare_places, file);
    size_t end = 0;
    for (int i = 0; i < file->count; ++i) {
        if (file->begins[order[i]] != end)
            return fail(STATUS_INPUT,
                        "%s: tensor %.100s begins at byte %zu of the data, but the one before ends at %zu",
                        file->name, file->tensors[order[i]].name, file->begins[order[i]], end);
        end += file->tensors[order[i]].bytes;
    }
    if (end != data_size)
        return fail(STATUS_INPUT, "%s: its tensors have %zu bytes, but the file holds %zu", file->name, end,
                    data_size);
    return OK;
}

static Status check_unique(SafeFile *file)
{
    int *order = file->by_name;
    if (file->count > 1) qsort_r(order, (size_t)file->count, sizeof *order, compare_names, file);
    for (int i = 1; i < file->count; ++i)
        if (compare_names(&order[i - 1], &order[i], file) == 0)
            return fail(STATUS_INPUT, "%s: tensor %.100s is there twice", file->name,
                        file->tensors[order[i]].name);
    return OK;
}

static Status read_metadata(SafeFile *file)
{
    const cJSON *item;
    if (file->metadata == NULL) return OK;
    if (!cJSON_IsObject(file->metadata))
        return fail(STATUS_INPUT, "%s: its metadata is malformed", file->name);
    cJSON_ArrayForEach(item, file->metadata)
    {
        if (!cJSON_IsString(item))
            return fail(STATUS_INPUT, "%s: metadata %.100s is not a text", file->name, item->string);
    }
    return OK;
}

static Status check_checksum(const SafeFile *file, const uint8_t *bytes, size_t size)
{
    const char *stored = safetensors_metadata(file, CHECKSUM_KEY),
               *kind = safetensors_metadata(file, KIND_KEY);
    if (stored == NULL && kind == NULL) return OK; /* a file from elsewhere */
    /* A stored checksum has its place; one that is elsewhere, or of another kind, cannot be checked. */
    if (stored == NULL || kind == NULL || strcmp(kind, KIND) != 0 || strlen(stored) != CHECKSUM_CHARACTERS ||
        size < CHECKSUM_AT + CHECKSUM_CHARACTERS ||
        memcmp(bytes + LENGTH_BYTES, preamble, sizeof preamble - 1) != 0 ||
        memcmp(bytes + CHECKSUM_AT, stored, CHECKSUM_CHARACTERS) != 0)
        return fail(STATUS_INPUT, "%s: its checksum is malformed: the file is damaged", file->name);
    const size_t after = CHECKSUM_AT + CHECKSUM_CHARACTERS;
    const Piece pieces[3] = {
        {bytes, CHECKSUM_AT}, {no_checksum, CHECKSUM_CHARACTERS}, {bytes + after, size - after}};
    char text[CHECKSUM_CHARACTERS + 1];
    TRY(checksum(pieces, 3, text));
    if (memcmp(text, stored, CHECKSUM_CHARACTERS) == 0) return OK;
    return fail(STATUS_INPUT, "%s: its checksum does not match: the file is damaged (stored %s, computed %s)",
                file->name, stored, text);
}

/* The file may have them at any byte. */
static Status widen_halves(SafeFile *file, int i)
{
    SafeTensor *tensor = &file->tensors[i];
    const size_t count = tensor->bytes / sizeof(uint16_t);
    float *wide;
    TRY(memory_new(&wide, count, sizeof *wide, tensor->name));
    for (size_t k = 0; k < count; ++k) {
        uint16_t half;
        memcpy(&half, (const uint8_t *)tensor->data + k * sizeof half, sizeof half);
        wide[k] = half_to_float(half);
    }
    file->copies[i] = wide;
    tensor->data = wide;
    tensor->bytes = count * sizeof *wide;
    return OK;
}

/* The tensors' data, copied where they lie misaligned for their type. */
static Status place_data(SafeFile *file, const uint8_t *data)
{
    for (int i = 0; i < file->count; ++i) {
        SafeTensor *tensor = &file->tensors[i];
        tensor->data = data + file->begins[i];
        if (file->halves[i]) {
            TRY(widen_halves(file, i));
            continue;
        }
        if (tensor->bytes == 0 || (uintptr_t)tensor->data % dtype_size(tensor->type) == 0) continue;
        TRY(memory_new(&file->copies[i], tensor->bytes, 1, tensor->name));
        memcpy(file->copies[i], tensor->data, tensor->bytes);
        tensor->data = file->copies[i];
    }
    return OK;
}

/* bytes: at least LENGTH_BYTES. */
static Status not_safetensors(const SafeFile *file, const uint8_t *bytes)
{
    const bool zip = memcmp(bytes, "PK\3\4", 4) == 0, pickle = bytes[0] == 0x80 && bytes[1] <= 5;
    if (!zip && !pickle) return fail(STATUS_INPUT, "%s: not a safetensors file", file->name);
    return fail(STATUS_INPUT,
                "%s: a file of torch.save, not safetensors; convert it in PyTorch with "
                "safetensors.torch.save_file(state_dict, FILE)",
                file->name);
}

static Status read_header(SafeFile *file, const uint8_t *bytes, size_t size, size_t *start)
{
    if (size < LENGTH_BYTES + 2)
        return fail(STATUS_INPUT, "%s: not a safetensors file (it has %zu bytes)", file->name, size);
    uint64_t length = 0;
    for (int i = 0; i < LENGTH_BYTES; ++i)
        length |= (uint64_t)bytes[i] << (8 * i);
    if (bytes[LENGTH_BYTES] != '{') return not_safetensors(file, bytes);
    if (length > size - LENGTH_BYTES)
        return fail(STATUS_INPUT, "%s: cut short in its header, or not a safetensors file", file->name);
    if (length > MAX_HEADER)
        return fail(STATUS_INPUT, "%s: a header of %llu bytes is not supported", file->name,
                    (unsigned long long)length);
    *start = LENGTH_BYTES + (size_t)length;
    const char *text = (const char *)bytes + LENGTH_BYTES, *end = NULL;
    file->header = cJSON_ParseWithLengthOpts(text, length, &end, false);
    if (!cJSON_IsObject(file->header)) return fail(STATUS_INPUT, "%s: its header is not JSON", file->name);
    for (; end < text + length; ++end)
        if (strchr(" \t\r\n", *end) == NULL || *end == '\0')
            return fail(STATUS_INPUT, "%s: something follows its header's JSON", file->name);
    return OK;
}

static Status read_file(SafeFile *file, const uint8_t *bytes, size_t size)
{
    size_t start = 0;
    TRY(read_header(file, bytes, size, &start));
    size_t count = 0;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, file->header)++ count;
    TRY(memory_new(&file->tensors, count, sizeof *file->tensors, "tensors"));
    TRY(memory_new(&file->begins, count, sizeof *file->begins, "tensor offsets"));
    TRY(memory_new(&file->by_name, count, sizeof *file->by_name, "tensor names"));
    TRY(memory_new(&file->halves, count, sizeof *file->halves, "tensor types"));
    TRY(memory_new(&file->copies, count, sizeof *file->copies, "tensor copies"));
    cJSON_ArrayForEach(entry, file->header)
    {
        if (strcmp(entry->string, METADATA_KEY) == 0) {
            if (file->metadata != NULL) return fail(STATUS_INPUT, "%s: it has metadata twice", file->name);
            file->metadata = entry;
            continue;
        }
        TRY(read_tensor(file, entry, size - start));
        ++file->count;
    }
    TRY(read_metadata(file));
    TRY(check_places(file, size - start));
    TRY(check_unique(file));
    TRY(check_checksum(file, bytes, size));
    return place_data(file, bytes + start);
}

Status safetensors_parse(const char *name, const uint8_t *bytes, size_t size, SafeFile **out)
{
    *out = NULL;
    SafeFile *file;
    TRY(memory_new(&file, 1, sizeof *file, "safetensors file"));
    Status status = text_copy(name, &file->name);
    if (status == OK) status = read_file(file, bytes, size);
    if (status != OK) {
        safetensors_close(file);
        return status;
    }
    *out = file;
    return OK;
}

Status safetensors_open(const char *path, SafeFile **out)
{
    *out = NULL;
    FileMap map;
    TRY(file_map(path, &map));
    Status status = safetensors_parse(path, map.data, map.size, out);
    if (status != OK)
        file_unmap(&map);
    else
        (*out)->map = map;
    return status;
}

void safetensors_close(SafeFile *file)
{
    if (file == NULL) return;
    for (int i = 0; i < file->count; ++i)
        free(file->copies[i]);
    free(file->copies);
    free(file->halves);
    free(file->tensors);
    free(file->begins);
    free(file->by_name);
    cJSON_Delete(file->header);
    file_unmap(&file->map);
    free(file->name);
    free(file);
}

int safetensors_count(const SafeFile *file) { return file->count; }

const SafeTensor *safetensors_at(const SafeFile *file, int index) { return &file->tensors[index]; }

const SafeTensor *safetensors_find(const SafeFile *file, const char *name)
{
    int low = 0, high = file->count;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const SafeTensor *tensor = &file->tensors[file->by_name[middle]];
        const int order = strcmp(name, tensor->name);
        if (order == 0) return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *safetensors_metadata(const SafeFile *file, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(file->metadata, key);
    return item != NULL ? item->valuestring : NULL;
}
