#include "engine/graph/graph.h"

#include <stdio.h>

int64_t shape_count(Shape shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape.rank; ++i)
        count *= shape.extent[i];
    return count;
}

int64_t shape_rows(Shape shape)
{
    int64_t rows = 1;
    for (int i = 0; i + 1 < shape.rank; ++i)
        rows *= shape.extent[i];
    return rows;
}

int64_t shape_columns(Shape shape) { return shape.rank > 0 ? shape.extent[shape.rank - 1] : 1; }

size_t shape_bytes(Shape shape) { return (size_t)shape_count(shape) * dtype_size(shape.type); }

bool shape_equal(Shape a, Shape b)
{
    if (a.type != b.type || a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; ++i)
        if (a.extent[i] != b.extent[i]) return false;
    return true;
}

Shape shape_of(DType type, int rank, const int64_t extent[])
{
    Shape shape = {.type = type, .rank = rank};
    for (int i = 0; i < rank && i < SHAPE_MAX_RANK; ++i)
        shape.extent[i] = extent[i];
    return shape;
}

const char *shape_text(Shape shape, char text[SHAPE_TEXT])
{
    int used = snprintf(text, SHAPE_TEXT, "%s[", dtype_name(shape.type));
    for (int i = 0; i < shape.rank && used < SHAPE_TEXT - 1; ++i)
        used += snprintf(text + used, (size_t)(SHAPE_TEXT - used), i == 0 ? "%lld" : ", %lld",
                         (long long)shape.extent[i]);
    if (used < SHAPE_TEXT - 1) (void)snprintf(text + used, (size_t)(SHAPE_TEXT - used), "]");
    return text;
}
