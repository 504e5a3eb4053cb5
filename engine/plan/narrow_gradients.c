#include "engine/plan/narrow_gradients.h"

#include "engine/base/memory.h"

#include <stdlib.h>

struct NarrowGradients {
    Store *store;
    char *data;   /* the store's flat BFLOAT16 array for gradients */
    Slice *slice; /* those that were added, in the flat array's order */
    int slices;
    Slice *rest; /* room for what lies between them */
};

Status narrow_gradients_create(Store *store, int most, NarrowGradients **out)
{
    NarrowGradients *narrow;
    *out = NULL;
    TRY(memory_new(&narrow, 1, sizeof *narrow, "gradients in bfloat16"));
    narrow->store = store;
    Status status =
        memory_new(&narrow->slice, (size_t)most + 1, sizeof *narrow->slice, "gradients in bfloat16");
    if (status == OK)
        status = memory_new(&narrow->rest, (size_t)most + 2, sizeof *narrow->rest, "gradients in bfloat16");
    if (status == OK) status = store_narrow_gradients(store, (void **)(void *)&narrow->data);
    if (status != OK) {
        narrow_gradients_free(narrow);
        return status;
    }
    *out = narrow;
    return OK;
}

void narrow_gradients_free(NarrowGradients *narrow)
{
    if (narrow == NULL) return;
    free(narrow->slice);
    free(narrow->rest);
    free(narrow);
}

void *narrow_gradients_place(const NarrowGradients *narrow, const float *gradient)
{
    return narrow->data + (gradient - store_gradients(narrow->store)) * (ptrdiff_t)dtype_size(BFLOAT16);
}

void narrow_gradients_add(NarrowGradients *narrow, const float *gradient, int64_t count)
{
    const Slice added = {gradient - store_gradients(narrow->store), count};
    int at = narrow->slices++;
    for (; at > 0 && narrow->slice[at - 1].first > added.first; --at)
        narrow->slice[at] = narrow->slice[at - 1];
    narrow->slice[at] = added;
}

Status narrow_gradients_widen(const NarrowGradients *narrow, int64_t first, int64_t count)
{
    int begin = 0, end;
    while (begin < narrow->slices && narrow->slice[begin].first < first)
        ++begin;
    for (end = begin; end < narrow->slices && narrow->slice[end].first < first + count;)
        ++end;
    return device_widen(store_device(narrow->store), store_gradients(narrow->store), narrow->data,
                        narrow->slice + begin, end - begin);
}

Status narrow_gradients_complete(const NarrowGradients *narrow, int64_t first, int64_t count)
{
    enum { GAP = 16 };
    const int64_t end = first + count;
    int rest = 0;
    for (int i = 0; i < narrow->slices && first < end; ++i) {
        const Slice *slice = &narrow->slice[i];
        if (slice->first < first) continue;
        const int64_t until = slice->first < end ? slice->first : end;
        if (until > first) narrow->rest[rest++] = (Slice){first, until - first};
        first = slice->first + (slice->count + GAP - 1) / GAP * GAP;
    }
    if (first < end) narrow->rest[rest++] = (Slice){first, end - first};
    return device_narrow(store_device(narrow->store), narrow->data, store_gradients(narrow->store),
                         narrow->rest, rest);
}
