/* Every operation is one oneDNN primitive, with reorders (the library's name for conversions of layout and
 * type) before its inputs and after its outputs where its formats are not ours. Everything is created once;
 * a run sets pointers and executes. Scratch memory holds, one after the other, the converted tensors, and
 * last the scratchpad that all primitives share, since they run one after the other. */
#include "engine/ops/onednn/onednn_internal.h"

#include "engine/base/memory.h"

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

enum { ARGUMENTS_MAX = 4, ALIGNMENT = 64 };

typedef struct {
    int id; /* DNNL_ARG_... */
    bool output;
    dnnl_memory_t user;       /* our layout */
    dnnl_memory_t inner;      /* the primitive's, in scratch; NULL: the same */
    dnnl_primitive_t reorder; /* between them; NULL if inner is */
    size_t inner_offset;      /* in scratch */
    size_t kept_bytes;        /* > 0: inner is not in scratch, but what the caller keeps */
    uint64_t kept_form;
    int64_t widened; /* > 0: BFLOAT16 elements that we convert from or to FLOAT32 in scratch ourselves, */
    size_t widened_offset; /* because the library has no BFLOAT16 on this processor */
} Argument;

struct OneDnn {
    OneDnnLibrary library;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t scratchpad; /* of the primitive */
    size_t scratchpad_bytes;  /* the largest of the primitive and the reorders */
    size_t scratch_bytes;     /* of the converted tensors, which come before the scratchpad */
    dnnl_memory_t reorder_scratchpad[ARGUMENTS_MAX];
    Argument argument[ARGUMENTS_MAX];
    int arguments;
    char implementation[64];
};

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
    if (one->library.attributes != NULL) (void)dnnl_primitive_attr_destroy(one->library.attributes);
    if (one->stream != NULL) (void)dnnl_stream_destroy(one->stream);
    if (one->library.engine != NULL) (void)dnnl_engine_destroy(one->library.engine);
    free(one);
}

static Status open_library(OneDnn *one)
{
    TRY_DNNL(dnnl_engine_create(&one->library.engine, dnnl_cpu, 0));
    TRY_DNNL(dnnl_stream_create(&one->stream, one->library.engine, dnnl_stream_default_flags));
    TRY_DNNL(dnnl_primitive_attr_create(&one->library.attributes));
    TRY_DNNL(dnnl_primitive_attr_set_scratchpad_mode(one->library.attributes, dnnl_scratchpad_mode_user));
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
    TRY_DNNL(dnnl_memory_create(memory, scratchpad, one->library.engine, DNNL_MEMORY_NONE));
    return OK;
}

/* Reorder between the argument's user and inner memory. */
static Status make_reorder(OneDnn *one, int index, MemoryView user, MemoryView inner, bool kept)
{
    Argument *argument = &one->argument[index];
    TRY_DNNL(dnnl_memory_create(&argument->inner, inner, one->library.engine, DNNL_MEMORY_NONE));
    const size_t bytes = align(dnnl_memory_desc_get_size(inner));
    if (kept) {
        argument->kept_bytes = bytes;
        argument->kept_form = memory_descriptor_hash(inner);
    } else {
        argument->inner_offset = one->scratch_bytes;
        one->scratch_bytes += bytes;
    }
    dnnl_primitive_desc_t descriptor = NULL;
    TRY_DNNL(dnnl_reorder_primitive_desc_create(&descriptor, argument->output ? inner : user,
                                                one->library.engine, argument->output ? user : inner,
                                                one->library.engine, one->library.attributes));
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
        TRY_DNNL(dnnl_memory_create(&argument->user, user, one->library.engine, DNNL_MEMORY_NONE));
        if (widen && forms[i].type == BFLOAT16) {
            argument->widened = 1;
            for (int d = 0; d < forms[i].rank; ++d)
                argument->widened *= forms[i].extent[d];
            argument->widened_offset = one->scratch_bytes;
            one->scratch_bytes += align((size_t)argument->widened * sizeof(float));
        }
        MemoryView inner = dnnl_primitive_desc_query_md(descriptor, dnnl_query_exec_arg_md, argument->id);
        if (inner == NULL) return fail(STATUS_INTERNAL, "oneDNN: %s has no argument %d", name, argument->id);
        if (!dnnl_memory_desc_equal(user, inner)) TRY(make_reorder(one, i, user, inner, forms[i].kept));
    }
    return OK;
}

static Status attempt(OneDnn *one, Describe *describe, const void *parameters, Form forms[], int count,
                      bool widen, bool *unimplemented)
{
    dnnl_primitive_desc_t hint = NULL, descriptor = NULL;
    Status status = forms_describe(forms, count, widen);
    if (status == OK) {
        const dnnl_status_t made = describe(&one->library, parameters, forms, count, &hint, &descriptor);
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

Status onednn_create(Describe *describe, const void *parameters, Form forms[], int count, OneDnn **out,
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
        if (argument->kept_bytes > 0) {
            TRY_DNNL(dnnl_memory_set_data_handle(argument->inner, user));
            arguments[count++] = (dnnl_exec_arg_t){argument->id, argument->inner};
            continue;
        }
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

/* The argument whose form the caller keeps; -1: there is none. */
static int find_kept(const OneDnn *one)
{
    for (int i = 0; i < one->arguments; ++i)
        if (one->argument[i].kept_bytes > 0) return i;
    return -1;
}

size_t onednn_kept(const OneDnn *one, uint64_t *form)
{
    const int kept = find_kept(one);
    *form = kept >= 0 ? one->argument[kept].kept_form : 0;
    return kept >= 0 ? one->argument[kept].kept_bytes : 0;
}

Status onednn_pack(OneDnn *one, void *weight, void *packed, void *scratch)
{
    const int kept = find_kept(one);
    if (kept < 0) return fail(STATUS_INTERNAL, "oneDNN: this operation keeps no weight");
    const Argument *argument = &one->argument[kept];
    TRY_DNNL(dnnl_memory_set_data_handle(argument->user, weight));
    TRY_DNNL(dnnl_memory_set_data_handle(argument->inner, packed));
    if (one->reorder_scratchpad[kept] != NULL)
        TRY_DNNL(dnnl_memory_set_data_handle(one->reorder_scratchpad[kept],
                                             (unsigned char *)scratch + one->scratch_bytes));
    TRY(run_reorder(one, kept));
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
