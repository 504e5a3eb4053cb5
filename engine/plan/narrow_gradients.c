#include "engine/plan/narrow_gradients.h"

#include "engine/base/memory.h"

#include <stdlib.h>

struct NarrowGradients {
    Store *store;
    char *data;   /* the store's flat BFLOAT16 array for gradients */
    Slice *slice; /* those that were added, in the flat array's order */
    int slices;
};

Status narrow_gradients_create(Store *store, int most, NarrowGradients **out)
{
    NarrowGradients *narrow;
    *out = NULL;
    TRY(memory_new(&narrow, 1, sizeof *narrow, "gradients in bfloat16"));
    narrow->store = store;
    Status status =
        memory_new(&narrow->slice, (size_t)most + 1, sizeof *narrow->slice, "gradients in bfloat16");
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
