/* Between onednn.c, which makes and runs operations, and the files that describe them to the library:
 * onednn_convolution.c and onednn_inner_product.c.
 *
 * The two generations of the library differ in how memory and operations are described: in 2.x memory
 * descriptors are structs and an operation descriptor precedes the primitive descriptor; in 3.x memory
 * descriptors are objects and primitive descriptors are created at once. */
#ifndef PLUMB_ENGINE_OPS_ONEDNN_ONEDNN_INTERNAL_H
#define PLUMB_ENGINE_OPS_ONEDNN_ONEDNN_INTERNAL_H

#include "engine/ops/onednn/onednn.h"

#include <oneapi/dnnl/dnnl.h>
#include <xxhash.h>

/* ---- memory descriptors, in both generations ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t MemoryView; /* borrowed */
typedef dnnl_memory_desc_t MemoryDescriptor; /* owned; NULL: none */
static inline MemoryView memory_view(const MemoryDescriptor *descriptor) { return *descriptor; }
static inline void memory_descriptor_free(MemoryDescriptor *descriptor)
{
    if (*descriptor != NULL) (void)dnnl_memory_desc_destroy(*descriptor);
    *descriptor = NULL;
}
#else
typedef const dnnl_memory_desc_t *MemoryView;
typedef dnnl_memory_desc_t MemoryDescriptor; /* zeroed: none */
static inline MemoryView memory_view(const MemoryDescriptor *descriptor) { return descriptor; }
static inline void memory_descriptor_free(MemoryDescriptor *descriptor) { (void)descriptor; }
#endif

static inline dnnl_status_t memory_descriptor_strided(MemoryDescriptor *descriptor, int rank,
                                                      const dnnl_dims_t extents, dnnl_data_type_t type,
                                                      const dnnl_dims_t strides)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_strides(descriptor, rank, extents, type, strides);
#else
    return dnnl_memory_desc_init_by_strides(descriptor, rank, extents, type, strides);
#endif
}

/* The library chooses the layout. */
static inline dnnl_status_t memory_descriptor_any(MemoryDescriptor *descriptor, int rank,
                                                  const dnnl_dims_t extents, dnnl_data_type_t type)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(descriptor, rank, extents, type, dnnl_format_tag_any);
#else
    return dnnl_memory_desc_init_by_tag(descriptor, rank, extents, type, dnnl_format_tag_any);
#endif
}

/* Equal for equal layouts, and for hardly any others. */
static inline uint64_t memory_descriptor_hash(MemoryView descriptor)
{
#if DNNL_VERSION_MAJOR >= 3
    static const dnnl_query_t queries[] = {dnnl_query_padded_dims, dnnl_query_strides, dnnl_query_inner_blks,
                                           dnnl_query_inner_idxs};
    uint64_t hash = dnnl_memory_desc_get_size(descriptor);
    int rank = 0, blocks = 0;
    dnnl_data_type_t type = dnnl_data_type_undef;
    (void)dnnl_memory_desc_query(descriptor, dnnl_query_ndims_s32, &rank);
    (void)dnnl_memory_desc_query(descriptor, dnnl_query_inner_nblks_s32, &blocks);
    (void)dnnl_memory_desc_query(descriptor, dnnl_query_data_type, &type);
    hash = XXH64(&type, sizeof type, hash);
    for (int i = 0; i < 4; ++i) {
        const dnnl_dims_t *values = NULL;
        if (dnnl_memory_desc_query(descriptor, queries[i], &values) == dnnl_success && values != NULL)
            hash = XXH64(*values, (size_t)(i < 2 ? rank : blocks) * sizeof **values, hash);
    }
    return hash;
#else
    return XXH64(descriptor, sizeof *descriptor, 0);
#endif
}

/* ---- what is asked of the library ---- */

/* How an argument looks before the primitive is chosen. */
typedef struct {
    int id;
    bool output, any; /* any: the library chooses the layout */
    bool kept;        /* an input whose inner form lives outside of scratch: onednn_kept */
    DType type;       /* ours */
    dnnl_data_type_t inner_type;
    int rank;
    dnnl_dims_t extent, stride; /* in the library's order of dimensions: ours in memory */
    MemoryDescriptor user, wanted;
} Form;

static inline dnnl_data_type_t library_type(DType type) { return type == BFLOAT16 ? dnnl_bf16 : dnnl_f32; }

static inline Form bias_form(int64_t channels)
{
    return (Form){.id = DNNL_ARG_BIAS,
                  .type = FLOAT32,
                  .inner_type = dnnl_f32,
                  .rank = 1,
                  .extent = {channels},
                  .stride = {1}};
}

typedef struct {
    dnnl_engine_t engine;
    dnnl_primitive_attr_t attributes; /* scratchpads come from us */
} OneDnnLibrary;

/* Primitive descriptors: `parameters` are an OneDnnConvolution or OneDnnInnerProduct. *hint, if made, is the
 * forward descriptor that a backward one is created from; the caller releases both. */
typedef dnnl_status_t Describe(const OneDnnLibrary *, const void *parameters, const Form forms[], int count,
                               dnnl_primitive_desc_t *hint, dnnl_primitive_desc_t *descriptor);

/* The operation of these arguments, in the order of onednn_run. */
CHECKED Status onednn_create(Describe *describe, const void *parameters, Form forms[], int count,
                             OneDnn **out, size_t *scratch_bytes);

#endif
