/* Matrix products as oneDNN is told of them: its matmul, with our layouts as they are. */
#include "engine/ops/onednn/onednn_internal.h"

static Form matrix(int id, DType type, int64_t rows, int64_t columns, bool turned)
{
    return (Form){.id = id,
                  .type = type,
                  .inner_type = library_type(type),
                  .rank = 2,
                  .extent = {rows, columns},
                  .stride = {turned ? 1 : columns, turned ? rows : 1}};
}

static dnnl_status_t product_descriptor(const OneDnnLibrary *library, dnnl_primitive_attr_t attributes,
                                        const Form forms[], dnnl_primitive_desc_t *descriptor)
{
    const MemoryView a = memory_view(&forms[0].wanted), b = memory_view(&forms[1].wanted);
    const MemoryView out = memory_view(&forms[2].wanted);
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(descriptor, library->engine, a, b, NULL, out, attributes);
#else
    dnnl_matmul_desc_t operation;
    const dnnl_status_t status = dnnl_matmul_desc_init(&operation, a, b, NULL, out);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(descriptor, &operation, attributes, library->engine, NULL);
#endif
}

static dnnl_status_t add_to_result(dnnl_primitive_attr_t attributes)
{
    dnnl_post_ops_t after;
    dnnl_status_t status = dnnl_post_ops_create(&after);
    if (status != dnnl_success) return status;
#if DNNL_VERSION_MAJOR >= 3
    status = dnnl_post_ops_append_sum(after, 1, 0, dnnl_f32);
#else
    status = dnnl_post_ops_append_sum(after, 1);
#endif
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(attributes, after);
    (void)dnnl_post_ops_destroy(after);
    return status;
}

static dnnl_status_t describe_product(const OneDnnLibrary *library, const void *parameters,
                                      const Form forms[], int count, dnnl_primitive_desc_t *hint,
                                      dnnl_primitive_desc_t *descriptor)
{
    const MatrixProduct *product = parameters;
    (void)count;
    (void)hint;
    if (!product->accumulate) return product_descriptor(library, library->attributes, forms, descriptor);
    dnnl_primitive_attr_t attributes;
    dnnl_status_t status = dnnl_primitive_attr_clone(&attributes, library->attributes);
    if (status != dnnl_success) return status;
    status = add_to_result(attributes);
    if (status == dnnl_success) status = product_descriptor(library, attributes, forms, descriptor);
    (void)dnnl_primitive_attr_destroy(attributes);
    return status;
}

Status onednn_product(MatrixProduct p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {matrix(DNNL_ARG_SRC, p.type, p.rows, p.inner, p.a_turned),
                     matrix(DNNL_ARG_WEIGHTS, p.type, p.inner, p.columns, p.b_turned),
                     matrix(DNNL_ARG_DST, p.out_type, p.rows, p.columns, false)};
    forms[2].output = true;
    return onednn_create(describe_product, &p, forms, 3, out, scratch_bytes);
}
