#include "engine/plan/checkpoint.h"

#include "engine/base/memory.h"
#include "engine/plan/parameter_pattern.h"

#include <fnmatch.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- pieces ---- */

/* Files hold an entry as one tensor or as several, each equal shares of its rows: pieces, which are entries like any
 * other but for their place, so many bytes behind the entry's. */
static int piece_count(const StoreEntry *entry)
{
    return entry->file_names.parts > 0 ? entry->file_names.parts : 1;
}

static StoreEntry piece_of(const StoreEntry *entry, int index, size_t *place)
{
    StoreEntry piece = *entry;
    *place = 0;
    if (entry->file_names.parts == 0) return piece;
    piece.name = entry->file_names.part[index];
    piece.shape.extent[0] /= entry->file_names.parts;
    *place = (size_t)index * shape_bytes(piece.shape);
    return piece;
}

/* All pieces of a store, one after the other: begins with entry -1. */
typedef struct {
    const Store *store;
    int entry, index;
    StoreEntry piece;
    size_t place;
} Pieces;

static bool next_piece(Pieces *p)
{
    if (p->entry < 0 || ++p->index == piece_count(store_at(p->store, p->entry))) {
        if (++p->entry == store_count(p->store)) return false;
        p->index = 0;
    }
    p->piece = piece_of(store_at(p->store, p->entry), p->index, &p->place);
    return true;
}

static Pieces pieces_of(const Store *store) { return (Pieces){.store = store, .entry = -1}; }

static void *piece_data(const Pieces *p, void *of_entry) { return (char *)of_entry + p->place; }

static bool find_piece(const Store *store, const char *name, Pieces *p)
{
    *p = pieces_of(store);
    while (next_piece(p))
        if (strcmp(p->piece.name, name) == 0) return true;
    return false;
}

/* ---- layouts ---- */

/* Of a convolution's weight, [out, height, width, in] in memory and [out, in, height, width] in files. */
static void permute(const float *from, float *to, const int64_t extent[4], bool to_file)
{
    const int64_t out = extent[0], pixels = extent[1] * extent[2], in = extent[3];
    for (int64_t o = 0; o < out; ++o)
        for (int64_t p = 0; p < pixels; ++p)
            for (int64_t i = 0; i < in; ++i) {
                const int64_t memory = (o * pixels + p) * in + i, file = (o * in + i) * pixels + p;
                if (to_file)
                    to[file] = from[memory];
                else
                    to[memory] = from[file];
            }
}

static Status read_in(Device *device, const StoreEntry *entry, const void *file, void *data)
{
    const size_t size = shape_bytes(entry->shape);
    void *host = NULL;
    if (entry->file_layout != FILE_AS_IN_MEMORY) {
        TRY(memory_new(&host, size, 1, "checkpoint"));
        permute(file, host, entry->shape.extent, false);
    }
    Status status = device_upload(device, data, host != NULL ? host : file, size);
    if (status == OK) status = device_synchronize(device);
    free(host);
    return status;
}

static void file_shape(const StoreEntry *entry, SafeTensor *tensor)
{
    const Shape shape = entry->shape;
    tensor->type = shape.type;
    tensor->rank = shape.rank;
    for (int i = 0; i < shape.rank; ++i)
        tensor->extent[i] = shape.extent[i];
    if (entry->file_layout != FILE_AS_IN_MEMORY) {
        tensor->extent[1] = shape.extent[3];
        tensor->extent[2] = shape.extent[1];
        tensor->extent[3] = shape.extent[2];
    }
    if (entry->file_layout == FILE_CONVOLUTION_1D) {
        tensor->rank = 3;
        tensor->extent[2] = shape.extent[2];
    }
    tensor->bytes = shape_bytes(shape);
}

static void tensor_text(const SafeTensor *tensor, char text[SHAPE_TEXT])
{
    (void)shape_text(
        shape_of(tensor->type, tensor->rank < SHAPE_MAX_RANK ? tensor->rank : SHAPE_MAX_RANK, tensor->extent),
        text);
}

/* ---- saving ---- */

static Status file_path(char path[PATH_MAX], const char *folder, const char *stem, const char *part)
{
    char name[NAME_MAX + 1];
    const int length = snprintf(name, sizeof name, "%s.%s.safetensors", stem, part);
    if (length < 0 || (size_t)length >= sizeof name)
        return fail(STATUS_INTERNAL, "the checkpoint name %s is too long", stem);
    return file_join(path, folder, name);
}

struct HostCopy {
    SafeTensor *tensor;
    Shape *permuted; /* shape of each tensor that is to be permuted before it is written; else of rank 0 */
    int count;
    bool owns_names;
};

void host_copy_free(HostCopy *copy)
{
    if (copy == NULL) return;
    for (int i = 0; i < copy->count; ++i) {
        free((void *)(uintptr_t)copy->tensor[i].data);
        if (copy->owns_names) free((void *)(uintptr_t)copy->tensor[i].name);
    }
    free(copy->tensor);
    free(copy->permuted);
    free(copy);
}

static Status host_copy_new(int room, HostCopy **out)
{
    HostCopy *copy;
    TRY(memory_new(&copy, 1, sizeof *copy, "checkpoint"));
    Status status = memory_new(&copy->tensor, (size_t)room + 1, sizeof *copy->tensor, "checkpoint");
    if (status == OK)
        status = memory_new(&copy->permuted, (size_t)room + 1, sizeof *copy->permuted, "checkpoint");
    if (status != OK) {
        host_copy_free(copy);
        return status;
    }
    *out = copy;
    return OK;
}

/* Enqueues the copy of one more. */
static Status host_copy_add(HostCopy *copy, Device *device, const StoreEntry *entry, const char *name,
                            const void *data)
{
    const size_t size = shape_bytes(entry->shape);
    void *bytes;
    SafeTensor *at = &copy->tensor[copy->count];
    TRY(memory_new(&bytes, size > 0 ? size : 1, 1, "checkpoint"));
    file_shape(entry, at);
    at->name = name;
    at->data = bytes;
    if (entry->file_layout != FILE_AS_IN_MEMORY) copy->permuted[copy->count] = entry->shape;
    ++copy->count;
    return device_download(device, bytes, data, size);
}

static Status to_file_layout(HostCopy *copy)
{
    for (int i = 0; i < copy->count; ++i) {
        SafeTensor *at = &copy->tensor[i];
        void *permuted;
        if (copy->permuted[i].rank == 0) continue;
        TRY(memory_new(&permuted, at->bytes, 1, "checkpoint"));
        permute(at->data, permuted, copy->permuted[i].extent, true);
        free((void *)(uintptr_t)at->data);
        at->data = permuted;
        copy->permuted[i].rank = 0;
    }
    return OK;
}

/* Waits for what was enqueued, whatever failed. */
static Status host_copy_end(HostCopy *copy, Device *device, Status status, HostCopy **out)
{
    const Status waited = device_synchronize(device);
    if (status == OK)
        status = waited;
    else
        status_free(waited);
    if (status == OK)
        *out = copy;
    else
        host_copy_free(copy);
    return status;
}

static Status copy_optimizer(Store *store, HostCopy **out)
{
    const int arrays = store_flat_arrays(store);
    Device *device = store_device(store);
    HostCopy *copy;
    char *name = NULL;
    TRY(host_copy_new(arrays * FILE_NAMES_MAX * store_count(store), &copy));
    copy->owns_names = true;
    Status status = OK;
    for (int a = 0; a < arrays && status == OK; ++a)
        for (Pieces p = pieces_of(store); next_piece(&p) && status == OK;) {
            float *state = store_flat_of(store, a, store_at(store, p.entry));
            if (state == NULL) continue;
            status = text_format(&name, "%s/%s", store_flat_name(store, a), p.piece.name);
            if (status != OK) break;
            const int before = copy->count;
            status = host_copy_add(copy, device, &p.piece, name, piece_data(&p, state));
            if (copy->count == before) free(name);
        }
    return host_copy_end(copy, device, status, out);
}

Status checkpoint_copy_model(Store *store, HostCopy **out)
{
    Device *device = store_device(store);
    HostCopy *copy;
    *out = NULL;
    TRY(host_copy_new(FILE_NAMES_MAX * store_count(store), &copy));
    Status status = OK;
    for (Pieces p = pieces_of(store); status == OK && next_piece(&p);)
        if (!p.piece.transient)
            status = host_copy_add(copy, device, &p.piece, p.piece.name, piece_data(&p, p.piece.data));
    return host_copy_end(copy, device, status, out);
}

/* The caller's pairs and ours; release with free(). */
static Status add_format(const SafeMetadata metadata[], int count, SafeMetadata **pairs)
{
    static const char version[] = {'0' + CHECKPOINT_VERSION, '\0'};
    TRY(memory_new(pairs, (size_t)count + 1, sizeof **pairs, "checkpoint"));
    (*pairs)[0] = (SafeMetadata){"plumb.format", version};
    for (int i = 0; i < count; ++i)
        (*pairs)[i + 1] = metadata[i];
    return OK;
}

static Status write_copy(HostCopy *copy, const char *folder, const char *stem, const char *part,
                         const SafeMetadata metadata[], int count)
{
    char path[PATH_MAX];
    SafeMetadata *pairs;
    TRY(file_path(path, folder, stem, part));
    TRY(to_file_layout(copy));
    TRY(add_format(metadata, count, &pairs));
    const Status status = safetensors_write(path, copy->tensor, copy->count, pairs, count + 1);
    free(pairs);
    return status;
}

Status checkpoint_save(Store *store, const char *folder, const char *stem, const SafeMetadata metadata[],
                       int count)
{
    HostCopy *optimizer = NULL, *model = NULL;
    Status status = copy_optimizer(store, &optimizer);
    if (status == OK) status = checkpoint_copy_model(store, &model);
    if (status == OK) status = write_copy(optimizer, folder, stem, "optimizer", metadata, count);
    if (status == OK) status = write_copy(model, folder, stem, "model", metadata, count);
    host_copy_free(optimizer);
    host_copy_free(model);
    return status;
}

Status checkpoint_write_model(HostCopy *copy, const char *folder, const char *stem,
                              const SafeMetadata metadata[], int count)
{
    return write_copy(copy, folder, stem, "model", metadata, count);
}

/* ---- loading ---- */

static Status check_version(const SafeFile *file, const char *path)
{
    const char *version = safetensors_metadata(file, "plumb.format");
    if (version == NULL)
        return fail(
            STATUS_INPUT,
            "%s is not a checkpoint of plumb (it has no plumb.format); give foreign weights with init=FILE",
            path);
    char *end;
    const long number = strtol(version, &end, 10);
    if (*end != '\0' || end == version || number < 1)
        return fail(STATUS_INPUT, "%s: plumb.format is \"%s\", not a number", path, version);
    if (number > CHECKPOINT_VERSION)
        return fail(STATUS_INPUT,
                    "%s was written by a newer plumb (format %ld; this one knows up to %d): use that version",
                    path, number, CHECKPOINT_VERSION);
    return OK;
}

static Status check_tensor(const SafeTensor *tensor, const StoreEntry *entry, const char *name,
                           const char *path)
{
    SafeTensor want = {.name = name};
    file_shape(entry, &want);
    bool equal = tensor->type == want.type && tensor->rank == want.rank;
    for (int i = 0; equal && i < want.rank; ++i)
        equal = tensor->extent[i] == want.extent[i];
    if (equal) return OK;
    char has[SHAPE_TEXT], wants[SHAPE_TEXT];
    tensor_text(tensor, has);
    tensor_text(&want, wants);
    return fail(STATUS_INPUT, "%s: %s is %s; this network needs %s. Is it a checkpoint of another network?",
                path, name, has, wants);
}

static Status check_model(const Store *store, const SafeFile *file, const char *path)
{
    Pieces p = pieces_of(store);
    while (next_piece(&p)) {
        if (p.piece.transient) continue;
        const SafeTensor *tensor = safetensors_find(file, p.piece.name);
        if (tensor == NULL)
            return fail(STATUS_INPUT, "%s has no tensor %s. Is it a checkpoint of another network?", path,
                        p.piece.name);
        TRY(check_tensor(tensor, &p.piece, p.piece.name, path));
    }
    for (int i = 0; i < safetensors_count(file); ++i)
        if (!find_piece(store, safetensors_at(file, i)->name, &p))
            return fail(STATUS_INPUT, "%s holds %s, which this network does not have", path,
                        safetensors_at(file, i)->name);
    return OK;
}

/* "momentum/layer1.0.conv1.weight" for one parameter; calls for every (array, parameter). */
static Status each_optimizer_tensor(Store *store, const SafeFile *file, const char *path, bool load)
{
    for (int a = 0; a < store_flat_arrays(store); ++a)
        for (Pieces p = pieces_of(store); next_piece(&p);) {
            float *state = store_flat_of(store, a, store_at(store, p.entry));
            if (state == NULL) continue;
            char *name;
            TRY(text_format(&name, "%s/%s", store_flat_name(store, a), p.piece.name));
            const SafeTensor *tensor = safetensors_find(file, name);
            Status status = OK;
            if (tensor == NULL)
                status = fail(STATUS_INPUT, "%s has no tensor %s. Was it written with another optimizer?",
                              path, name);
            else if (load)
                status = read_in(store_device(store), &p.piece, tensor->data, piece_data(&p, state));
            else
                status = check_tensor(tensor, &p.piece, name, path);
            free(name);
            TRY(status);
        }
    return OK;
}

/* Both files were written by the same save: all their metadata but the checksum agree. */
static Status check_pair(const SafeFile *model, const SafeFile *optimizer, const char *path)
{
    static const char *const keys[] = {"plumb.format", "step", "epoch", "config"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; ++i) {
        const char *a = safetensors_metadata(model, keys[i]), *b = safetensors_metadata(optimizer, keys[i]);
        if ((a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0))
            return fail(STATUS_INPUT, "%s and its optimizer file do not belong together: %s is %s and %s",
                        path, keys[i], a != NULL ? a : "absent", b != NULL ? b : "absent");
    }
    return OK;
}

Status checkpoint_load(Store *store, const char *folder, const char *stem, SafeFile **file)
{
    char model_path[PATH_MAX], optimizer_path[PATH_MAX];
    SafeFile *model = NULL, *optimizer = NULL;
    Status status;
    if (file != NULL) *file = NULL;
    TRY(file_path(model_path, folder, stem, "model"));
    TRY(file_path(optimizer_path, folder, stem, "optimizer"));
    TRY_ELSE(done, safetensors_open(model_path, &model));
    TRY_ELSE(done, check_version(model, model_path));
    TRY_ELSE(done, check_model(store, model, model_path));
    if (store_flat_arrays(store) > 0) {
        TRY_ELSE(done, safetensors_open(optimizer_path, &optimizer));
        TRY_ELSE(done, check_version(optimizer, optimizer_path));
        TRY_ELSE(done, check_pair(model, optimizer, model_path));
        TRY_ELSE(done, each_optimizer_tensor(store, optimizer, optimizer_path, false));
        TRY_ELSE(done, each_optimizer_tensor(store, optimizer, optimizer_path, true));
    }
    for (Pieces p = pieces_of(store); next_piece(&p);) {
        if (p.piece.transient) continue;
        TRY_ELSE(done, read_in(store_device(store), &p.piece, safetensors_find(model, p.piece.name)->data,
                               piece_data(&p, p.piece.data)));
    }
    if (file != NULL) {
        *file = model;
        model = NULL;
    }
done:
    safetensors_close(model);
    safetensors_close(optimizer);
    return status;
}

void checkpoint_remove(const char *folder, const char *stem)
{
    char path[PATH_MAX];
    /* The model file first: without it the checkpoint does not exist. What is already gone is no error. */
    static const char *const parts[] = {"model", "optimizer"};
    for (int i = 0; i < 2; ++i) {
        Status status = file_path(path, folder, stem, parts[i]);
        if (status == OK) (void)unlink(path);
        status_free(status);
    }
}

bool checkpoint_exists(const char *folder, const char *stem)
{
    char path[PATH_MAX];
    Status status = file_path(path, folder, stem, "model");
    const bool exists = status == OK && file_exists(path);
    status_free(status);
    return exists;
}

/* PyTorch's files may have any of its types of numbers; parameters and statistics are float32. The tensor as the entry
 * has it, and the memory of its numbers, if those had to be converted. What is not finite trains nothing, and is better
 * found here than blamed on the learning rate. */
static Status as_entry_has_it(SafeTensor *tensor, const StoreEntry *entry, const char *path,
                              float **converted)
{
    const DType type = tensor->type;
    *converted = NULL;
    if (entry->shape.type != FLOAT32 || (type != FLOAT32 && type != FLOAT64 && type != BFLOAT16)) return OK;
    const size_t count = tensor->bytes / dtype_size(type);
    const void *numbers = tensor->data;
    if (type != FLOAT32) {
        TRY(memory_new(converted, count, sizeof **converted, tensor->name));
        for (size_t i = 0; i < count; ++i)
            (*converted)[i] = type == FLOAT64 ? (float)((const double *)numbers)[i]
                                              : bfloat16_to_float(((const bfloat16 *)numbers)[i]);
        tensor->type = FLOAT32;
        tensor->data = *converted;
        tensor->bytes = count * sizeof **converted;
    }
    for (size_t i = 0; i < count; ++i)
        if (!isfinite(((const float *)tensor->data)[i]))
            return fail(STATUS_INPUT, "%s: %s, element %zu is %s", path, tensor->name, i,
                        isnan(((const float *)tensor->data)[i]) ? "NaN" : "infinite as float32");
    return OK;
}

/* Checks a tensor against its entry, or reads it in. */
static Status take_weights(Store *store, const SafeTensor *tensor, const StoreEntry *entry, void *data,
                           const char *path, bool read)
{
    SafeTensor taken = *tensor;
    float *converted;
    Status status = as_entry_has_it(&taken, entry, path, &converted);
    if (status == OK) {
        if (read)
            status = read_in(store_device(store), entry, taken.data, data);
        else
            status = check_tensor(&taken, entry, tensor->name, path);
    }
    free(converted);
    return status;
}

static const char *without_prefix(const char *name)
{
    static const char prefix[] = "module.";
    return strncmp(name, prefix, sizeof prefix - 1) == 0 ? name + sizeof prefix - 1 : name;
}

static bool has_other_name(const StoreEntry *piece, const char *name)
{
    for (int i = 0; i < piece->file_names.others; ++i)
        if (strcmp(piece->file_names.other[i], name) == 0) return true;
    return false;
}

/* The piece of that name, or one that may have it in others' files. */
static bool find_named_piece(const Store *store, const char *name, Pieces *p)
{
    if (find_piece(store, name, p)) return true;
    *p = pieces_of(store);
    while (next_piece(p))
        if (has_other_name(&p->piece, name)) return true;
    return false;
}

/* The tensor of a piece: of the piece's own name, if there is one. */
static const SafeTensor *tensor_of(const SafeFile *file, const StoreEntry *piece)
{
    const SafeTensor *found = NULL;
    for (int i = 0; i < safetensors_count(file); ++i) {
        const SafeTensor *tensor = safetensors_at(file, i);
        const char *name = without_prefix(tensor->name);
        if (strcmp(name, piece->name) == 0) return tensor;
        if (found == NULL && has_other_name(piece, name)) found = tensor;
    }
    return found;
}

/* What a file holds under a piece's other names is the same: else it is of a network that has a matrix for each. */
static Status check_copies(const SafeFile *file, const StoreEntry *piece, const SafeTensor *taken,
                           const char *path)
{
    for (int i = 0; i < safetensors_count(file); ++i) {
        const SafeTensor *tensor = safetensors_at(file, i);
        if (tensor == taken || !has_other_name(piece, without_prefix(tensor->name))) continue;
        if (tensor->type != taken->type || tensor->bytes != taken->bytes ||
            memcmp(tensor->data, taken->data, taken->bytes) != 0)
            return fail(STATUS_INPUT, "%s: %s is not %s again, but this network has one matrix for both",
                        path, tensor->name, taken->name);
    }
    return OK;
}

/* What others' files hold beside parameters. */
static bool is_beside(const Store *store, const char *name)
{
    for (int i = 0; i < store_count(store); ++i) {
        const FileNames *names = &store_at(store, i)->file_names;
        for (int k = 0; k < names->beside_count; ++k)
            if (fnmatch(names->beside[k], name, 0) == 0) return true;
    }
    return false;
}

/* A file for the whole network holds nothing else; what it holds several times has one shape. */
static Status check_all_known(Store *store, const SafeFile *file, const char *path)
{
    for (int i = 0; i < safetensors_count(file); ++i) {
        const SafeTensor *tensor = safetensors_at(file, i);
        Pieces p;
        if (is_beside(store, without_prefix(tensor->name))) continue;
        if (!find_named_piece(store, without_prefix(tensor->name), &p))
            return fail(STATUS_INPUT, "%s holds %s, which this network does not have", path, tensor->name);
        TRY(take_weights(store, tensor, &p.piece, NULL, path, false));
    }
    return OK;
}

Status checkpoint_load_weights(Store *store, const char *path, const char *pattern, char **kept)
{
    SafeFile *file;
    if (kept != NULL) *kept = NULL;
    TRY(parameter_pattern_check(store, pattern));
    TRY(safetensors_open(path, &file));
    Status status = pattern[0] == '\0' ? check_all_known(store, file, path) : OK;
    for (int pass = 0; pass < 2 && status == OK; ++pass) /* all must be there before any is changed */
        for (Pieces p = pieces_of(store); status == OK && next_piece(&p);) {
            if (!parameter_pattern_takes(pattern, store_at(store, p.entry)->name)) continue;
            const SafeTensor *tensor = tensor_of(file, &p.piece);
            if (tensor == NULL && p.piece.role == ROLE_PARAMETER)
                status = fail(STATUS_INPUT, "%s has no tensor %s", path, p.piece.name);
            else if (tensor != NULL)
                status = take_weights(store, tensor, &p.piece,
                                      pass == 1 ? piece_data(&p, p.piece.data) : NULL, path, pass == 1);
            if (tensor != NULL && pass == 0 && status == OK)
                status = check_copies(file, &p.piece, tensor, path);
        }
    safetensors_close(file);
    store_changed(store);
    return status == OK && kept != NULL ? parameter_pattern_list_others(store, pattern, kept) : status;
}
