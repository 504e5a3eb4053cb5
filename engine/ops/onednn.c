/* Every operation is one oneDNN primitive, with reorders (the library's name for conversions of layout and
 * type) before its inputs and after its outputs where its formats are not ours. Everything is created once;
 * a run sets pointers and executes. Scratch memory holds, one after the other, the converted tensors, and
 * last the scratchpad that all primitives share, since they run one after the other.
 *
 * The two generations of the library differ in how memory and operations are described: in 2.x memory
 * descriptors are structs and an operation descriptor precedes the primitive descriptor; in 3.x memory
 * descriptors are objects and primitive descriptors are created at once. */
#include "engine/ops/onednn.h"

#include "engine/base/memory.h"

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY_DNNL(call)                                                                                       \
    do {                                                                                                     \
        const dnnl_status_t dnnl_status_ = (call);                                                           \
        if (dnnl_status_ != dnnl_success)                                                                    \
            return fail(dnnl_status_ == dnnl_out_of_memory ? STATUS_MEMORY : STATUS_INTERNAL,                \
                        "oneDNN: %s: %s", #call, dnnl_status2str(dnnl_status_));                             \
    } while (0)

enum { ARGUMENTS_MAX = 4, ALIGNMENT = 64, DIMENSIONS_MAX = 4 };

/* ---- memory descriptors, in both generations ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t MemoryView; /* borrowed */
typedef dnnl_memory_desc_t MemoryDescriptor; /* owned; NULL: none */
static MemoryView memory_view(const MemoryDescriptor *descriptor) { return *descriptor; }
static void memory_descriptor_free(MemoryDescriptor *descriptor)
{
    if (*descriptor != NULL) (void)dnnl_memory_desc_destroy(*descriptor);
    *descriptor = NULL;
}
#else
typedef const dnnl_memory_desc_t *MemoryView;
typedef dnnl_memory_desc_t MemoryDescriptor; /* zeroed: none */
static MemoryView memory_view(const MemoryDescriptor *descriptor) { return descriptor; }
static void memory_descriptor_free(MemoryDescriptor *descriptor) { (void)descriptor; }
#endif

static dnnl_status_t memory_descriptor_strided(MemoryDescriptor *descriptor, int rank,
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
static dnnl_status_t memory_descriptor_any(MemoryDescriptor *descriptor, int rank, const dnnl_dims_t extents,
                                           dnnl_data_type_t type)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(descriptor, rank, extents, type, dnnl_format_tag_any);
#else
    return dnnl_memory_desc_init_by_tag(descriptor, rank, extents, type, dnnl_format_tag_any);
#endif
}

/* ---- operations ---- */

typedef struct {
    int id; /* DNNL_ARG_... */
    bool output;
    dnnl_memory_t user;       /* our layout */
    dnnl_memory_t inner;      /* the primitive's, in scratch; NULL: the same */
    dnnl_primitive_t reorder; /* between them; NULL if inner is */
    size_t inner_offset;      /* in scratch */
    int64_t widened; /* > 0: BFLOAT16 elements that we convert from or to FLOAT32 in scratch ourselves, */
    size_t widened_offset; /* because the library has no BFLOAT16 on this processor */
} Argument;

struct OneDnn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attributes; /* scratchpads come from us */
    dnnl_primitive_t primitive;
    dnnl_memory_t scratchpad; /* of the primitive */
    size_t scratchpad_bytes;  /* the largest of the primitive and the reorders */
    size_t scratch_bytes;     /* of the converted tensors, which come before the scratchpad */
    dnnl_memory_t reorder_scratchpad[ARGUMENTS_MAX];
    Argument argument[ARGUMENTS_MAX];
    int arguments;
    char implementation[64];
};

/* How an argument looks before the primitive is chosen. */
typedef struct {
    int id;
    bool output, any; /* any: the library chooses the layout */
    DType type;       /* ours */
    dnnl_data_type_t inner_type;
    int rank;
    dnnl_dims_t extent, stride; /* in the library's order of dimensions: ours in memory */
    MemoryDescriptor user, wanted;
} Form;

static dnnl_data_type_t library_type(DType type) { return type == BFLOAT16 ? dnnl_bf16 : dnnl_f32; }

static size_t align(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

void onednn_free(OneDnn *one)
{
    if (one == NULL) return;
    for (int i = 0; i < one->arguments; ++i) {
        if (one->reorder_scratchpad[i] != NULL) (void)dnnl_memory_destroy(one->reorder_scratchpad[i]);
        if (one->argument[i].reorder != NULL) (void)dnnl_primitive_destroy(one->argument[i].reorder);
        if (one->argument[i].inner != NULL) (void)dnnl_memory_destroy(one->argument[i].inner);
        if (one->argument[i].user != NULL) (void)dnnl_memory_destroy(one->argument[i].user);
    }
    if (one->scratchpad != NULL) (void)dnnl_memory_destroy(one->scratchpad);
    if (one->primitive != NULL) (void)dnnl_primitive_destroy(one->primitive);
    if (one->attributes != NULL) (void)dnnl_primitive_attr_destroy(one->attributes);
    if (one->stream != NULL) (void)dnnl_stream_destroy(one->stream);
    if (one->engine != NULL) (void)dnnl_engine_destroy(one->engine);
    free(one);
}

static Status open_library(OneDnn *one)
{
    TRY_DNNL(dnnl_engine_create(&one->engine, dnnl_cpu, 0));
    TRY_DNNL(dnnl_stream_create(&one->stream, one->engine, dnnl_stream_default_flags));
    TRY_DNNL(dnnl_primitive_attr_create(&one->attributes));
    TRY_DNNL(dnnl_primitive_attr_set_scratchpad_mode(one->attributes, dnnl_scratchpad_mode_user));
    return OK;
}

static void forms_free(Form forms[], int count)
{
    for (int i = 0; i < count; ++i) {
        memory_descriptor_free(&forms[i].wanted);
        memory_descriptor_free(&forms[i].user);
    }
}

/* Descriptors of our memory and of what we ask of the primitive. widen: all arithmetic in FLOAT32. */
static Status forms_describe(Form forms[], int count, bool widen)
{
    for (int i = 0; i < count; ++i) {
        Form *form = &forms[i];
        const dnnl_data_type_t user = widen ? dnnl_f32 : library_type(form->type);
        if (widen) form->inner_type = dnnl_f32;
        const dnnl_data_type_t inner = form->inner_type;
        TRY_DNNL(memory_descriptor_strided(&form->user, form->rank, form->extent, user, form->stride));
        if (form->any)
            TRY_DNNL(memory_descriptor_any(&form->wanted, form->rank, form->extent, inner));
        else
            TRY_DNNL(memory_descriptor_strided(&form->wanted, form->rank, form->extent, inner, form->stride));
    }
    return OK;
}

static Status make_scratchpad(OneDnn *one, const_dnnl_primitive_desc_t descriptor, dnnl_memory_t *memory)
{
    MemoryView scratchpad = dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
    if (scratchpad == NULL) return OK;
    const size_t bytes = dnnl_memory_desc_get_size(scratchpad);
    if (bytes == 0) return OK;
    if (bytes > one->scratchpad_bytes) one->scratchpad_bytes = bytes;
    TRY_DNNL(dnnl_memory_create(memory, scratchpad, one->engine, DNNL_MEMORY_NONE));
    return OK;
}

/* Reorder between the argument's user and inner memory. */
static Status make_reorder(OneDnn *one, int index, MemoryView user, MemoryView inner)
{
    Argument *argument = &one->argument[index];
    TRY_DNNL(dnnl_memory_create(&argument->inner, inner, one->engine, DNNL_MEMORY_NONE));
    argument->inner_offset = one->scratch_bytes;
    one->scratch_bytes += align(dnnl_memory_desc_get_size(inner));
    dnnl_primitive_desc_t descriptor = NULL;
    TRY_DNNL(dnnl_reorder_primitive_desc_create(&descriptor, argument->output ? inner : user, one->engine,
                                                argument->output ? user : inner, one->engine,
                                                one->attributes));
    Status status = make_scratchpad(one, descriptor, &one->reorder_scratchpad[index]);
    if (status == OK) {
        const dnnl_status_t created = dnnl_primitive_create(&argument->reorder, descriptor);
        if (created != dnnl_success)
            status = fail(STATUS_INTERNAL, "oneDNN: no reorder: %s", dnnl_status2str(created));
    }
    (void)dnnl_primitive_desc_destroy(descriptor);
    return status;
}

/* The primitive and all around it from its descriptor. */
static Status assemble(OneDnn *one, const_dnnl_primitive_desc_t descriptor, const Form forms[], int count,
                       bool widen)
{
    const char *name = NULL;
    TRY_DNNL(dnnl_primitive_desc_query(descriptor, dnnl_query_impl_info_str, 0, &name));
    (void)snprintf(one->implementation, sizeof one->implementation, "%s%s", name,
                   widen ? " (float32 for bfloat16)" : "");
    TRY_DNNL(dnnl_primitive_create(&one->primitive, descriptor));
    TRY(make_scratchpad(one, descriptor, &one->scratchpad));
    for (int i = 0; i < count; ++i) {
        Argument *argument = &one->argument[one->arguments++];
        argument->id = forms[i].id;
        argument->output = forms[i].output;
        MemoryView user = memory_view(&forms[i].user);
        TRY_DNNL(dnnl_memory_create(&argument->user, user, one->engine, DNNL_MEMORY_NONE));
        if (widen && forms[i].type == BFLOAT16) {
            argument->widened = 1;
            for (int d = 0; d < forms[i].rank; ++d)
                argument->widened *= forms[i].extent[d];
            argument->widened_offset = one->scratch_bytes;
            one->scratch_bytes += align((size_t)argument->widened * sizeof(float));
        }
        MemoryView inner = dnnl_primitive_desc_query_md(descriptor, dnnl_query_exec_arg_md, argument->id);
        if (inner == NULL) return fail(STATUS_INTERNAL, "oneDNN: %s has no argument %d", name, argument->id);
        if (!dnnl_memory_desc_equal(user, inner)) TRY(make_reorder(one, i, user, inner));
    }
    return OK;
}

/* Primitive descriptors: `parameters` are an OneDnnConvolution or OneDnnInnerProduct. *hint, if made, is the
 * forward descriptor that a backward one is created from; the caller releases both. */
typedef dnnl_status_t Describe(const OneDnn *, const void *parameters, const Form forms[], int count,
                               dnnl_primitive_desc_t *hint, dnnl_primitive_desc_t *descriptor);

static Status attempt(OneDnn *one, Describe *describe, const void *parameters, Form forms[], int count,
                      bool widen, bool *unimplemented)
{
    dnnl_primitive_desc_t hint = NULL, descriptor = NULL;
    Status status = forms_describe(forms, count, widen);
    if (status == OK) {
        const dnnl_status_t made = describe(one, parameters, forms, count, &hint, &descriptor);
        *unimplemented = made == dnnl_unimplemented;
        if (made == dnnl_success)
            status = assemble(one, descriptor, forms, count, widen);
        else if (!*unimplemented)
            status = fail(made == dnnl_out_of_memory ? STATUS_MEMORY : STATUS_INTERNAL, "oneDNN: %s",
                          dnnl_status2str(made));
    }
    if (descriptor != NULL) (void)dnnl_primitive_desc_destroy(descriptor);
    if (hint != NULL) (void)dnnl_primitive_desc_destroy(hint);
    forms_free(forms, count);
    return status;
}

static Status create(Describe *describe, const void *parameters, Form forms[], int count, OneDnn **out,
                     size_t *scratch_bytes)
{
    OneDnn *one = NULL;
    Status status = OK;
    *out = NULL;
    TRY(memory_new(&one, 1, sizeof *one, "a oneDNN operation"));
    TRY_ELSE(failed, open_library(one));
    bool unimplemented = false, bfloat16_used = false;
    for (int i = 0; i < count; ++i)
        bfloat16_used = bfloat16_used || forms[i].type == BFLOAT16;
    TRY_ELSE(failed, attempt(one, describe, parameters, forms, count, false, &unimplemented));
    if (unimplemented && bfloat16_used)
        TRY_ELSE(failed, attempt(one, describe, parameters, forms, count, true, &unimplemented));
    if (unimplemented) {
        status = fail(STATUS_UNSUPPORTED, "oneDNN has no implementation for this shape");
        goto failed;
    }
    *out = one;
    *scratch_bytes = one->scratch_bytes + one->scratchpad_bytes;
    return OK;
failed:
    onednn_free(one);
    return status;
}

static void widen_values(float *to, const bfloat16 *from, int64_t count)
{
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; ++i)
        to[i] = bfloat16_to_float(from[i]);
}

static void narrow_values(bfloat16 *to, const float *from, int64_t count)
{
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; ++i)
        to[i] = bfloat16_from_float(from[i]);
}

static Status run_reorder(OneDnn *one, int index)
{
    const Argument *argument = &one->argument[index];
    const dnnl_exec_arg_t arguments[3] = {
        {DNNL_ARG_FROM, argument->output ? argument->inner : argument->user},
        {DNNL_ARG_TO, argument->output ? argument->user : argument->inner},
        {DNNL_ARG_SCRATCHPAD, one->reorder_scratchpad[index]},
    };
    TRY_DNNL(dnnl_primitive_execute(argument->reorder, one->stream,
                                    one->reorder_scratchpad[index] != NULL ? 3 : 2, arguments));
    return OK;
}

Status onednn_run(OneDnn *one, void *const tensors[], void *scratch)
{
    unsigned char *bytes = scratch;
    void *scratchpad = bytes == NULL ? NULL : bytes + one->scratch_bytes;
    dnnl_exec_arg_t arguments[ARGUMENTS_MAX + 1];
    int count = 0;
    for (int i = 0; i < one->arguments; ++i) {
        Argument *argument = &one->argument[i];
        void *user = tensors[i];
        if (argument->widened > 0) {
            float *wide = (float *)(void *)(bytes + argument->widened_offset);
            if (!argument->output) widen_values(wide, tensors[i], argument->widened);
            user = wide;
        }
        TRY_DNNL(dnnl_memory_set_data_handle(argument->user, user));
        if (one->reorder_scratchpad[i] != NULL)
            TRY_DNNL(dnnl_memory_set_data_handle(one->reorder_scratchpad[i], scratchpad));
        if (argument->inner != NULL) {
            TRY_DNNL(dnnl_memory_set_data_handle(argument->inner, bytes + argument->inner_offset));
            if (!argument->output) TRY(run_reorder(one, i));
        }
        arguments[count++] =
            (dnnl_exec_arg_t){argument->id, argument->inner != NULL ? argument->inner : argument->user};
    }
    if (one->scratchpad != NULL) {
        TRY_DNNL(dnnl_memory_set_data_handle(one->scratchpad, scratchpad));
        arguments[count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, one->scratchpad};
    }
    TRY_DNNL(dnnl_primitive_execute(one->primitive, one->stream, count, arguments));
    for (int i = 0; i < one->arguments; ++i) {
        const Argument *argument = &one->argument[i];
        if (!argument->output) continue;
        if (argument->inner != NULL) TRY(run_reorder(one, i));
        if (argument->widened > 0)
            narrow_values(tensors[i], (const float *)(const void *)(bytes + argument->widened_offset),
                          argument->widened);
    }
    TRY_DNNL(dnnl_stream_wait(one->stream));
    return OK;
}

const char *onednn_implementation(const OneDnn *one) { return one->implementation; }

const char *onednn_version(char text[32])
{
    const dnnl_version_t *version = dnnl_version();
    (void)snprintf(text, 32, "%d.%d.%d", version->major, version->minor, version->patch);
    return text;
}

/* ---- convolution ---- */

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

static Form bias_form(int64_t channels)
{
    return (Form){.id = DNNL_ARG_BIAS,
                  .type = FLOAT32,
                  .inner_type = dnnl_f32,
                  .rank = 1,
                  .extent = {channels},
                  .stride = {1}};
}

/* Forward, for itself or as hint of a backward primitive. */
static dnnl_status_t convolution_descriptor(const OneDnn *one, const OneDnnConvolution *p, const Form *x,
                                            const Form *weight, const Form *bias, const Form *y,
                                            dnnl_primitive_desc_t *descriptor)
{
    const dnnl_dims_t strides = {p->stride, p->stride}, dilations = {0, 0};
    const dnnl_dims_t padding = {p->padding_height, p->padding_width};
    const MemoryView bias_view = bias != NULL ? memory_view(&bias->wanted) : NULL;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_convolution_forward_primitive_desc_create(
        descriptor, one->engine, dnnl_forward_training, dnnl_convolution_direct, memory_view(&x->wanted),
        memory_view(&weight->wanted), bias_view, memory_view(&y->wanted), strides, dilations, padding,
        padding, one->attributes);
#else
    dnnl_convolution_desc_t operation;
    const dnnl_status_t status = dnnl_dilated_convolution_forward_desc_init(
        &operation, dnnl_forward_training, dnnl_convolution_direct, memory_view(&x->wanted),
        memory_view(&weight->wanted), bias_view, memory_view(&y->wanted), strides, dilations, padding,
        padding);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(descriptor, &operation, one->attributes, one->engine, NULL);
#endif
}

static dnnl_status_t describe_convolution(const OneDnn *one, const void *parameters, const Form forms[],
                                          int count, dnnl_primitive_desc_t *hint,
                                          dnnl_primitive_desc_t *descriptor)
{
    (void)hint;
    return convolution_descriptor(one, parameters, &forms[0], &forms[1], count > 3 ? &forms[2] : NULL,
                                  &forms[count - 1], descriptor);
}

/* forms: d_y, weight, d_x */
static dnnl_status_t describe_convolution_backward_data(const OneDnn *one, const void *parameters,
                                                        const Form forms[], int count,
                                                        dnnl_primitive_desc_t *hint,
                                                        dnnl_primitive_desc_t *descriptor)
{
    (void)count;
    const OneDnnConvolution *p = parameters;
    const dnnl_status_t status = convolution_descriptor(one, p, &forms[2], &forms[1], NULL, &forms[0], hint);
    if (status != dnnl_success) return status;
    const MemoryView d_y = memory_view(&forms[0].wanted), weight = memory_view(&forms[1].wanted);
    const MemoryView d_x = memory_view(&forms[2].wanted);
    const dnnl_dims_t strides = {p->stride, p->stride}, dilations = {0, 0};
    const dnnl_dims_t padding = {p->padding_height, p->padding_width};
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_convolution_backward_data_primitive_desc_create(
        descriptor, one->engine, dnnl_convolution_direct, d_x, weight, d_y, strides, dilations, padding,
        padding, *hint, one->attributes);
#else
    dnnl_convolution_desc_t operation;
    const dnnl_status_t made = dnnl_dilated_convolution_backward_data_desc_init(
        &operation, dnnl_convolution_direct, d_x, weight, d_y, strides, dilations, padding, padding);
    if (made != dnnl_success) return made;
    return dnnl_primitive_desc_create(descriptor, &operation, one->attributes, one->engine, *hint);
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
static dnnl_status_t describe_convolution_backward_weights(const OneDnn *one, const void *parameters,
                                                           const Form forms[], int count,
                                                           dnnl_primitive_desc_t *hint,
                                                           dnnl_primitive_desc_t *descriptor)
{
    (void)count;
    const OneDnnConvolution *p = parameters;
    Form weight = {0};
    const bool narrow = forms[0].inner_type == dnnl_bf16;
    dnnl_status_t status =
        memory_descriptor_any(&weight.wanted, forms[2].rank, forms[2].extent, narrow ? dnnl_bf16 : dnnl_f32);
    if (status == dnnl_success)
        status = convolution_descriptor(one, p, &forms[0], &weight, NULL, &forms[1], hint);
    memory_descriptor_free(&weight.wanted);
    if (status != dnnl_success) return status;
    const MemoryView x = memory_view(&forms[0].wanted), d_y = memory_view(&forms[1].wanted);
    const MemoryView d_weight = memory_view(&forms[2].wanted);
    const dnnl_dims_t strides = {p->stride, p->stride}, dilations = {0, 0};
    const dnnl_dims_t padding = {p->padding_height, p->padding_width};
#if DNNL_VERSION_MAJOR >= 3
    status = dnnl_convolution_backward_weights_primitive_desc_create(
        descriptor, one->engine, dnnl_convolution_direct, x, d_weight, NULL, d_y, strides, dilations, padding,
        padding, *hint, one->attributes);
    while (status == dnnl_success && writes_past_scratch(p, *descriptor))
        status = dnnl_primitive_desc_next_impl(*descriptor);
    return status == dnnl_last_impl_reached ? dnnl_unimplemented : status;
#else
    dnnl_convolution_desc_t operation;
    status = dnnl_dilated_convolution_backward_weights_desc_init(
        &operation, dnnl_convolution_direct, x, d_weight, NULL, d_y, strides, dilations, padding, padding);
    if (status != dnnl_success) return status;
    dnnl_primitive_desc_iterator_t implementations;
    status = dnnl_primitive_desc_iterator_create(&implementations, &operation, one->attributes, one->engine,
                                                 *hint);
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
    TRY(create(describe_convolution, &p, forms, count, out, scratch_bytes));
    return OK;
}

Status onednn_convolution_backward_data(OneDnnConvolution p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {output_form(DNNL_ARG_DIFF_DST, false, &p), weight_form(DNNL_ARG_WEIGHTS, false, &p),
                     input_form(DNNL_ARG_DIFF_SRC, true, &p)};
    TRY(create(describe_convolution_backward_data, &p, forms, 3, out, scratch_bytes));
    return OK;
}

Status onednn_convolution_backward_weights(OneDnnConvolution p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {input_form(DNNL_ARG_SRC, false, &p), output_form(DNNL_ARG_DIFF_DST, false, &p),
                     weight_form(DNNL_ARG_DIFF_WEIGHTS, true, &p)};
    TRY(create(describe_convolution_backward_weights, &p, forms, 3, out, scratch_bytes));
    return OK;
}

/* ---- inner product ---- */

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

static dnnl_status_t inner_product_descriptor(const OneDnn *one, const Form *x, const Form *weight,
                                              const Form *bias, const Form *y,
                                              dnnl_primitive_desc_t *descriptor)
{
    const MemoryView bias_view = bias != NULL ? memory_view(&bias->wanted) : NULL;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_inner_product_forward_primitive_desc_create(
        descriptor, one->engine, dnnl_forward_training, memory_view(&x->wanted), memory_view(&weight->wanted),
        bias_view, memory_view(&y->wanted), one->attributes);
#else
    dnnl_inner_product_desc_t operation;
    const dnnl_status_t status = dnnl_inner_product_forward_desc_init(
        &operation, dnnl_forward_training, memory_view(&x->wanted), memory_view(&weight->wanted), bias_view,
        memory_view(&y->wanted));
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(descriptor, &operation, one->attributes, one->engine, NULL);
#endif
}

static dnnl_status_t describe_inner_product(const OneDnn *one, const void *parameters, const Form forms[],
                                            int count, dnnl_primitive_desc_t *hint,
                                            dnnl_primitive_desc_t *descriptor)
{
    (void)parameters;
    (void)hint;
    return inner_product_descriptor(one, &forms[0], &forms[1], count > 3 ? &forms[2] : NULL,
                                    &forms[count - 1], descriptor);
}

/* forms: d_y, weight, d_x */
static dnnl_status_t describe_inner_product_backward_data(const OneDnn *one, const void *parameters,
                                                          const Form forms[], int count,
                                                          dnnl_primitive_desc_t *hint,
                                                          dnnl_primitive_desc_t *descriptor)
{
    (void)parameters;
    (void)count;
    const dnnl_status_t status = inner_product_descriptor(one, &forms[2], &forms[1], NULL, &forms[0], hint);
    if (status != dnnl_success) return status;
    const MemoryView d_y = memory_view(&forms[0].wanted), weight = memory_view(&forms[1].wanted);
    const MemoryView d_x = memory_view(&forms[2].wanted);
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_inner_product_backward_data_primitive_desc_create(descriptor, one->engine, d_x, weight, d_y,
                                                                  *hint, one->attributes);
#else
    dnnl_inner_product_desc_t operation;
    const dnnl_status_t made = dnnl_inner_product_backward_data_desc_init(&operation, d_x, weight, d_y);
    if (made != dnnl_success) return made;
    return dnnl_primitive_desc_create(descriptor, &operation, one->attributes, one->engine, *hint);
#endif
}

/* forms: x, d_y, d_weight; the hint's weights as in convolution. */
static dnnl_status_t describe_inner_product_backward_weights(const OneDnn *one, const void *parameters,
                                                             const Form forms[], int count,
                                                             dnnl_primitive_desc_t *hint,
                                                             dnnl_primitive_desc_t *descriptor)
{
    (void)parameters;
    (void)count;
    Form weight = {0};
    const bool narrow = forms[0].inner_type == dnnl_bf16;
    dnnl_status_t status =
        memory_descriptor_any(&weight.wanted, forms[2].rank, forms[2].extent, narrow ? dnnl_bf16 : dnnl_f32);
    if (status == dnnl_success)
        status = inner_product_descriptor(one, &forms[0], &weight, NULL, &forms[1], hint);
    memory_descriptor_free(&weight.wanted);
    if (status != dnnl_success) return status;
    const MemoryView x = memory_view(&forms[0].wanted), d_y = memory_view(&forms[1].wanted);
    const MemoryView d_weight = memory_view(&forms[2].wanted);
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_inner_product_backward_weights_primitive_desc_create(descriptor, one->engine, x, d_weight,
                                                                     NULL, d_y, *hint, one->attributes);
#else
    dnnl_inner_product_desc_t operation;
    const dnnl_status_t made =
        dnnl_inner_product_backward_weights_desc_init(&operation, x, d_weight, NULL, d_y);
    if (made != dnnl_success) return made;
    return dnnl_primitive_desc_create(descriptor, &operation, one->attributes, one->engine, *hint);
#endif
}

Status onednn_inner_product(OneDnnInnerProduct p, OneDnn **out, size_t *scratch_bytes)
{
    /* Sums are in FLOAT32 whatever the inputs are, so a FLOAT32 output costs nothing. */
    const DType arithmetic = p.in_type == BFLOAT16 ? p.out_type : FLOAT32;
    Form forms[4] = {rows_form(DNNL_ARG_SRC, false, p.in_type, p.in_type, p.rows, p.channels),
                     matrix_form(DNNL_ARG_WEIGHTS, false, &p)};
    int count = 2;
    if (p.bias) forms[count++] = bias_form(p.features);
    forms[count++] = rows_form(DNNL_ARG_DST, true, p.out_type, arithmetic, p.rows, p.features);
    TRY(create(describe_inner_product, &p, forms, count, out, scratch_bytes));
    return OK;
}

Status onednn_inner_product_backward_data(OneDnnInnerProduct p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {rows_form(DNNL_ARG_DIFF_DST, false, p.out_type, p.in_type, p.rows, p.features),
                     matrix_form(DNNL_ARG_WEIGHTS, false, &p),
                     rows_form(DNNL_ARG_DIFF_SRC, true, p.in_type, p.in_type, p.rows, p.channels)};
    TRY(create(describe_inner_product_backward_data, &p, forms, 3, out, scratch_bytes));
    return OK;
}

Status onednn_inner_product_backward_weights(OneDnnInnerProduct p, OneDnn **out, size_t *scratch_bytes)
{
    Form forms[3] = {rows_form(DNNL_ARG_SRC, false, p.in_type, p.in_type, p.rows, p.channels),
                     rows_form(DNNL_ARG_DIFF_DST, false, p.out_type, p.in_type, p.rows, p.features),
                     matrix_form(DNNL_ARG_DIFF_WEIGHTS, true, &p)};
    TRY(create(describe_inner_product_backward_weights, &p, forms, 3, out, scratch_bytes));
    return OK;
}
