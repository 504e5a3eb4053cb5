#include "engine/device/collective_methods.h"

#include <limits.h>

static Status span_check(Span span, const char *what)
{
    const bool known = (unsigned)span.type < DTYPE_COUNT;
    if (known && span.count >= 0 && (span.count == 0 || span.data != NULL) &&
        span.count <= INT64_MAX / (int64_t)dtype_size(span.type))
        return OK;
    return fail(STATUS_INTERNAL, "%s of %lld elements at %p of type %d", what, (long long)span.count,
                span.data, (int)span.type);
}

Status collective_sum(Collective *collective, Span span, Stream after)
{
    TRY(span_check(span, "sum"));
    return span.count > 0 ? collective->methods->sum(collective, span, after) : OK;
}

Status collective_gather(Collective *collective, Span part, Span all, Stream after)
{
    TRY(span_check(part, "gather"));
    TRY(span_check(all, "gather"));
    if (part.type != all.type || all.count % collective->size != 0 ||
        all.count / collective->size != part.count)
        return fail(STATUS_INTERNAL, "gather of %lld %s from each of %d ranks into %lld %s",
                    (long long)part.count, dtype_name(part.type), collective->size, (long long)all.count,
                    dtype_name(all.type));
    return part.count > 0 ? collective->methods->gather(collective, part, all, after) : OK;
}

Status collective_broadcast(Collective *collective, Span span, int root, Stream after)
{
    TRY(span_check(span, "broadcast"));
    if (root < 0 || root >= collective->size)
        return fail(STATUS_INTERNAL, "broadcast from rank %d of %d", root, collective->size);
    return span.count > 0 ? collective->methods->broadcast(collective, span, root, after) : OK;
}

Status collective_join(Collective *collective, Stream stream)
{
    return collective->methods->join(collective, stream);
}

Status collective_wait(Collective *collective, Device *device, Mark mark)
{
    return collective->methods->wait(collective, device, mark);
}

Status collective_health(Collective *collective) { return collective->methods->health(collective); }

void collective_free(Collective *collective)
{
    if (collective != NULL) collective->methods->free(collective);
}
