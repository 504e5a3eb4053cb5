/* Convolution as oneDNN is told of it. */
#include "engine/ops/onednn/onednn_internal.h"

#include <string.h>

/* The library's dimensions are N, C, H, W and O, I, H, W; strides say how ours lie in memory. */
static Form image_form(int id, bool output, DType type, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return (Form){
        .id = id,
        .output = output,
        .type = type,
        .inner_type = library_type(type),
        .rank = 4,
        .extent = {n, c, h, w},
        .stride = {h * w * c, 1, w * c, c},
    };
}

static Form input_form(int id, bool output, const OneDnnConvolution *p)
{
    return image_form(id, output, p->type, p->samples, p->height, p->width, p->channels);
}

static Form output_form(int id, bool output, const OneDnnConvolution *p)
{
    return image_form(id, output, p->type, p->samples, p->out_height, p->out_width, p->out_channels);
}

/* Packed in the layout of the library's choice. Weight gradients come out as FLOAT32: they are sums over a
 * batch. */
static Form weight_form(int id, bool output, const OneDnnConvolution *p)
{
    const int64_t h = p->kernel_height, w = p->kernel_width, i = p->channels;
    return (Form){
        .id = id,
        .output = output,
        .any = true,
        .type = FLOAT32,
        .inner_type = output ? dnnl_f32 : library_type(p->type),
        .rank = 4,
        .extent = {p->out_channels, i, h, w},
        .stride = {h * w * i, 1, w * i, i},
    };
}

/* Forward, for itself or as hint of a backward primitive. */
static dnnl_status_t convolution_descriptor(const OneDnnLibrary *library, const OneDnnConvolution *p,
                                            const Form *x, const Form *weight, const Form *bias,
                                            const Form *y, dnnl_primitive_desc_t *descriptor)
{
    const dnnl_dims_t strides = {p->stride, p->stride}, dilations = {0, 0};
    const dnnl_dims_t padding = {p->padding_height, p->padding_width};
    const MemoryView bias_view = bias != NULL ? memory_view(&bias->wanted) : NULL;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_convolution_forward_primitive_desc_create(
        descriptor, library->engine, dnnl_forward_training, dnnl_convolution_direct, memory_view(&x->wanted),
        memory_view(&weight->wanted), bias_view, memory_view(&y->wanted), strides, dilations, padding,
        padding, library->attributes);
#else
    dnnl_convolution_desc_t operation;
    const dnnl_status_t status = dnnl_dilated_convolution_forward_desc_init(
        &operation, dnnl_forward_training, dnnl_convolution_direct, memory_view(&x->wanted),
        memory_view(&weight->wanted), bias_view, memory_view(&y->wanted), strides, dilations, padding,
        padding);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(descriptor, &operation, library->attributes, library->engine, NULL);
#endif
}

static dnnl_status_t describe_convolution(const OneDnnLibrary *library, const void *parameters,
                                          const Form forms[], int count, dnnl_primitive_desc_t *hint,
                                          dnnl_primitive_desc_t *descriptor)
{
    (void)hint;
    return convolution_descriptor(library, parameters, &forms[0], &forms[1], count > 3 ? &forms[2] : NULL,
                                  &forms[count - 1], descriptor);
}

/* forms: d_y, weight, d_x */
static dnnl_status_t describe_convolution_backward_data(const OneDnnLibrary *library, const void *parameters,
                                                        const Form forms[], int count,
                                                        dnnl_primitive_desc_t *hint,
                                                        dnnl_primitive_desc_t *descriptor)
{
    (void)count;
    const OneDnnConvolution *p = parameters;
    const dnnl_status_t status =
        convolution_descriptor(library, p, &forms[2], &forms[1], NULL, &forms[0], hint);
    if (status != dnnl_success) return status;
    const MemoryView d_y = memory_view(&forms[0].wanted), weight = memory_view(&forms[1].wanted);
    const MemoryView d_x = memory_view(&forms[2].wanted);
    const dnnl_dims_t strides = {p->stride, p->stride}, dilations = {0, 0};
    const dnnl_dims_t padding = {p->padding_height, p->padding_width};
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_convolution_backward_data_primitive_desc_create(
        descriptor, library->engine, dnnl_convolution_direct, d_x, weight, d_y, strides, dilations, padding,
        padding, *hint, library->attributes);
#else
    dnnl_convolution_desc_t operation;
    const dnnl_status_t made = dnnl_dilated_convolution_backward_data_desc_init(
        &operation, dnnl_convolution_direct, d_x, weight, d_y, strides, dilations, padding, padding);
    if (made != dnnl_success) return made;
    return dnnl_primitive_desc_create(descriptor, &operation, library->attributes, library->engine, *hint);
#endif
}

/* A fault of the library's kernels for 1x1 convolutions (jit_1x1:avx2 of 2.6, and what its source became
 * in 3.x): of a stride above 1 each thread gathers its pixels in scratch memory, at places counted in whole
 * vectors of channels, but of a size counted in channels. With fewer channels than a vector's it writes into
 * the next thread's part and behind it, into a barrier: the sums are wrong, or threads wait forever. */
static bool writes_past_scratch(const OneDnnConvolution *p, const_dnnl_primitive_desc_t descriptor)
{
    enum { LANES_MOST = 16 };
    const char *name = NULL;
    return p->stride > 1 && p->channels < LANES_MOST &&
           dnnl_primitive_desc_query(descriptor, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
           strstr(name, "1x1") != NULL;
}

/* forms: x, d_y, d_weight. The hint takes the weights' form too, whose type a forward primitive may not have,
 * so it gets one of its own. */
static dnnl_status_t describe_convolution_backward_weights(const OneDnnLibrary *library,
                                                           const void *parameters, const Form forms[],
                                                           int count, dnnl_primitive_desc_t *hint,
                                                           dnnl_primitive_desc_t *descriptor)
{
    (void)count;
    const OneDnnConvolution *p = parameters;
    Form weight = {0};
    const bool narrow = forms[0].inner_type == dnnl_bf16;
    dnnl_status_t status =
        memory_descriptor_any(&weight.wanted, forms[2].rank, forms[2].extent, narrow ? dnnl_bf16 : dnnl_f32);
    if (status == dnnl_success)
        status = convolution_descriptor(library, p, &forms[0], &weight, NULL, &forms[1], hint);
    memory_descriptor_free(&weight.wanted);
    if (status != dnnl_success) return status;
    const MemoryView x = memory_view(&forms[0].wanted), d_y = memory_view(&forms[1].wanted);
    const MemoryView d_weight = memory_view(&forms[2].wanted);
    const dnnl_dims_t strides = {p->stride, p->stride}, dilations = {0, 0};
    const dnnl_dims_t padding = {p->padding_height, p->padding_width};
#if DNNL_VERSION_MAJOR >= 3
    status = dnnl_convolution_backward_weights_primitive_desc_create(
        descriptor, library->engine, dnnl_convolution_direct, x, d_weight, NULL, d_y, strides, dilations,
        padding, padding, *hint, library->attributes);
    while (status == dnnl_success && writes_past_scratch(p, *descriptor))
        status = dnnl_primitive_desc_next_impl(*descriptor);
    return status == dnnl_last_impl_reached ? dnnl_unimplemented : status;
#else
    dnnl_convolution_desc_t operation;
    status = dnnl_dilated_convolution_backward_weights_desc_init(
        &operation, dnnl_convolution_direct, x, d_weight, NULL, d_y, strides, dilations, padding, padding);
    if (status != dnnl_success) return status;
    dnnl_primitive_desc_iterator_t implementations;
    status = dnnl_primitive_desc_iterator_create(&implementations, &operation, library->attributes,
                                                 library->engine, *hint);
    if (status != dnnl_success) return status;
    *descriptor = dnnl_primitive_desc_iterator_fetch(implementations);
    while (status == dnnl_success && *descriptor != NULL && writes_past_scratch(p, *descriptor)) {
        (void)dnnl_primitive_desc_destroy(*descriptor);
        *descriptor = NULL;
        status = dnnl_primitive_desc_iterator_next(implementations);
        if (status == dnnl_success) *descriptor = dnnl_primitive_desc_iterator_fetch(implementations);
    }
    (void)dnnl_primitive_desc_iterator_destroy(implementations);
    return status == dnnl_iterator_ends ? dnnl_unimplemented : status;
#endif
}

Status onednn_convolution(OneDnnConvolution p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[4] = {input_form(DNNL_ARG_SRC, false, &p), weight_form(DNNL_ARG_WEIGHTS, false, &p)};
    int count = 2;
    if (p.bias) forms[count++] = bias_form(p.out_channels);
    forms[count++] = output_form(DNNL_ARG_DST, true, &p);
    return onednn_create(describe_convolution, &p, forms, count, out, scratch_bytes);
}

Status onednn_convolution_backward_data(OneDnnConvolution p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {output_form(DNNL_ARG_DIFF_DST, false, &p), weight_form(DNNL_ARG_WEIGHTS, false, &p),
                     input_form(DNNL_ARG_DIFF_SRC, true, &p)};
    return onednn_create(describe_convolution_backward_data, &p, forms, 3, out, scratch_bytes);
}

Status onednn_convolution_backward_weights(OneDnnConvolution p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {input_form(DNNL_ARG_SRC, false, &p), output_form(DNNL_ARG_DIFF_DST, false, &p),
                     weight_form(DNNL_ARG_DIFF_WEIGHTS, true, &p)};
    return onednn_create(describe_convolution_backward_weights, &p, forms, 3, out, scratch_bytes);
}
