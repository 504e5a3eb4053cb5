#include "engine/plan/packed_parameters.h"

#include "engine/base/memory.h"

#include <stdlib.h>

struct PackedUse {
    const Call *call;
    PackedParameter *parameter;
};

Status packed_parameters_add(PackedParameters *list, Store *store, const Graph *graph, Call *call)
{
    for (int i = 0; i < call->node->input_count; ++i) {
        if (call->in[i].packed_bytes == 0) continue;
        const char *name = graph_name(graph, call->node->input[i]);
        const StoreEntry *entry = store_find(store, name);
        if (entry == NULL) return fail(STATUS_INTERNAL, "%s is not in the store", name);
        PackedParameter *parameter;
        TRY(store_packed(store, entry, call->node->op, call->in[i].packed_bytes, call->in[i].packed_form,
                         &parameter));
        TRY(memory_grow(&list->use, &list->capacity, list->count + 1, sizeof *list->use,
                        "packed parameters"));
        list->use[list->count++] = (struct PackedUse){call, parameter};
        call->in[i].packed = parameter->memory;
        list->version = -1;
    }
    return OK;
}

Status packed_parameters_make(PackedParameters *list, Store *store)
{
    const int64_t version = store_version(store);
    if (list->count == 0 || list->version == version) return OK;
    for (size_t i = 0; i < list->count; ++i) {
        const Call *call = list->use[i].call;
        PackedParameter *parameter = list->use[i].parameter;
        if (parameter->version == version) continue;
        TRY(call->node->op->kernel[device_kind(call->device)]->pack(call));
        parameter->version = version;
    }
    list->version = version;
    return OK;
}

void packed_parameters_free(PackedParameters *list)
{
    free(list->use);
    *list = (PackedParameters){.use = NULL};
}
