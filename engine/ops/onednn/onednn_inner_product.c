/* Inner product (the linear layer's matrix products) as oneDNN is told of it. */
#include "engine/ops/onednn/onednn_internal.h"

/* Arithmetic is in BFLOAT16 if the input is: then an output gradient in FLOAT32 (of logits) is rounded on the
 * way in. */
static Form rows_form(int id, bool output, DType type, DType arithmetic, int64_t rows, int64_t columns)
{
    return (Form){
        .id = id,
        .output = output,
        .type = type,
        .inner_type = library_type(arithmetic),
        .rank = 2,
        .extent = {rows, columns},
        .stride = {columns, 1},
    };
}

static Form matrix_form(int id, bool output, const OneDnnInnerProduct *p)
{
    Form form = rows_form(id, output, FLOAT32, output ? FLOAT32 : p->in_type, p->features, p->channels);
    form.any = true;
    return form;
}

static dnnl_status_t inner_product_descriptor(const OneDnnLibrary *library, const Form *x, const Form *weight,
                                              const Form *bias, const Form *y,
                                              dnnl_primitive_desc_t *descriptor)
{
    const MemoryView bias_view = bias != NULL ? memory_view(&bias->wanted) : NULL;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_inner_product_forward_primitive_desc_create(
        descriptor, library->engine, dnnl_forward_training, memory_view(&x->wanted),
        memory_view(&weight->wanted), bias_view, memory_view(&y->wanted), library->attributes);
#else
    dnnl_inner_product_desc_t operation;
    const dnnl_status_t status = dnnl_inner_product_forward_desc_init(
        &operation, dnnl_forward_training, memory_view(&x->wanted), memory_view(&weight->wanted), bias_view,
        memory_view(&y->wanted));
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(descriptor, &operation, library->attributes, library->engine, NULL);
#endif
}

static dnnl_status_t describe_inner_product(const OneDnnLibrary *library, const void *parameters,
                                            const Form forms[], int count, dnnl_primitive_desc_t *hint,
                                            dnnl_primitive_desc_t *descriptor)
{
    (void)parameters;
    (void)hint;
    return inner_product_descriptor(library, &forms[0], &forms[1], count > 3 ? &forms[2] : NULL,
                                    &forms[count - 1], descriptor);
}

/* forms: d_y, weight, d_x */
static dnnl_status_t describe_inner_product_backward_data(const OneDnnLibrary *library,
                                                          const void *parameters, const Form forms[],
                                                          int count, dnnl_primitive_desc_t *hint,
                                                          dnnl_primitive_desc_t *descriptor)
{
    (void)parameters;
    (void)count;
    const dnnl_status_t status =
        inner_product_descriptor(library, &forms[2], &forms[1], NULL, &forms[0], hint);
    if (status != dnnl_success) return status;
    const MemoryView d_y = memory_view(&forms[0].wanted), weight = memory_view(&forms[1].wanted);
    const MemoryView d_x = memory_view(&forms[2].wanted);
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_inner_product_backward_data_primitive_desc_create(descriptor, library->engine, d_x, weight,
                                                                  d_y, *hint, library->attributes);
#else
    dnnl_inner_product_desc_t operation;
    const dnnl_status_t made = dnnl_inner_product_backward_data_desc_init(&operation, d_x, weight, d_y);
    if (made != dnnl_success) return made;
    return dnnl_primitive_desc_create(descriptor, &operation, library->attributes, library->engine, *hint);
#endif
}

/* forms: x, d_y, d_weight; the hint's weights as in convolution. */
static dnnl_status_t describe_inner_product_backward_weights(const OneDnnLibrary *library,
                                                             const void *parameters, const Form forms[],
                                                             int count, dnnl_primitive_desc_t *hint,
                                                             dnnl_primitive_desc_t *descriptor)
{
    (void)parameters;
    (void)count;
    Form weight = {0};
    const bool narrow = forms[0].inner_type == dnnl_bf16;
    dnnl_status_t status =
        memory_descriptor_any(&weight.wanted, forms[2].rank, forms[2].extent, narrow ? dnnl_bf16 : dnnl_f32);
    if (status == dnnl_success)
        status = inner_product_descriptor(library, &forms[0], &weight, NULL, &forms[1], hint);
    memory_descriptor_free(&weight.wanted);
    if (status != dnnl_success) return status;
    const MemoryView x = memory_view(&forms[0].wanted), d_y = memory_view(&forms[1].wanted);
    const MemoryView d_weight = memory_view(&forms[2].wanted);
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_inner_product_backward_weights_primitive_desc_create(descriptor, library->engine, x, d_weight,
                                                                     NULL, d_y, *hint, library->attributes);
#else
    dnnl_inner_product_desc_t operation;
    const dnnl_status_t made =
        dnnl_inner_product_backward_weights_desc_init(&operation, x, d_weight, NULL, d_y);
    if (made != dnnl_success) return made;
    return dnnl_primitive_desc_create(descriptor, &operation, library->attributes, library->engine, *hint);
#endif
}

Status onednn_inner_product(OneDnnInnerProduct p, OneDnn **out, size_t *scratch_bytes)
{
    /* Sums are in FLOAT32 whatever the inputs are, so a FLOAT32 output costs nothing. */
    const DType arithmetic = p.in_type == BFLOAT16 ? p.out_type : FLOAT32;
    Form forms[4] = {rows_form(DNNL_ARG_SRC, false, p.in_type, p.in_type, p.rows, p.channels),
                     matrix_form(DNNL_ARG_WEIGHTS, false, &p)};
    int count = 2;
    forms[1].kept = p.keeps_weight;
    if (p.bias) forms[count++] = bias_form(p.features);
    forms[count++] = rows_form(DNNL_ARG_DST, true, p.out_type, arithmetic, p.rows, p.features);
    return onednn_create(describe_inner_product, &p, forms, count, out, scratch_bytes);
}

Status onednn_inner_product_backward_data(OneDnnInnerProduct p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {rows_form(DNNL_ARG_DIFF_DST, false, p.out_type, p.in_type, p.rows, p.features),
                     matrix_form(DNNL_ARG_WEIGHTS, false, &p),
                     rows_form(DNNL_ARG_DIFF_SRC, true, p.in_type, p.in_type, p.rows, p.channels)};
    return onednn_create(describe_inner_product_backward_data, &p, forms, 3, out, scratch_bytes);
}

Status onednn_inner_product_backward_weights(OneDnnInnerProduct p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {rows_form(DNNL_ARG_SRC, false, p.in_type, p.in_type, p.rows, p.channels),
                     rows_form(DNNL_ARG_DIFF_DST, false, p.out_type, p.in_type, p.rows, p.features),
                     matrix_form(DNNL_ARG_DIFF_WEIGHTS, true, &p)};
    return onednn_create(describe_inner_product_backward_weights, &p, forms, 3, out, scratch_bytes);
}
