/* The safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes. Nothing in
 * such a file can run code. Ours carry a checksum (XXH3-128 over the header with the checksum's
 * characters as zeros, and the data) so that any flipped byte is found; files from elsewhere need none. */
#ifndef PLUMB_ENGINE_BASE_SAFETENSORS_H
#define PLUMB_ENGINE_BASE_SAFETENSORS_H

#include "engine/base/dtype.h"
#include "engine/base/file.h"
#include "engine/base/status.h"

#include <stdint.h>

typedef struct {
    const char *name;
    DType type; /* F32 BF16 F64 I32 I64 U8; F16 is read as FLOAT32 (exactly) */
    int rank;
    int64_t extent[8];
    const void *data; /* C order */
    size_t bytes;     /* of data */
} SafeTensor;

typedef struct {
    const char *key, *value;
} SafeMetadata;

/* Atomic write. metadata: text pairs for "__metadata__"; "checksum" and "checksum_kind" are added. The header
 * keeps the tensors' order; their data are laid out so that each is aligned for its type. */
CHECKED Status safetensors_write(const char *path, const SafeTensor tensors[], int tensor_count,
                                 const SafeMetadata metadata[], int metadata_count);

typedef struct SafeFile SafeFile;
/* Maps and checks the whole file: header bounds, shapes against offsets, no overlap, checksum if any.
 * STATUS_INPUT names the path and what is wrong. The SafeFile owns all names and data
 * (safetensors_parse: the data stay in `bytes`). Tensors are in the header's order; data are aligned for
 * their type. */
CHECKED Status safetensors_open(const char *path, SafeFile **);
CHECKED Status safetensors_parse(const char *name, const uint8_t *bytes, size_t size, SafeFile **);
void safetensors_close(SafeFile *); /* NULL is allowed */
int safetensors_count(const SafeFile *);
const SafeTensor *safetensors_at(const SafeFile *, int index);
const SafeTensor *safetensors_find(const SafeFile *, const char *name); /* NULL if absent */
const char *safetensors_metadata(const SafeFile *, const char *key);    /* NULL if absent */

#endif
