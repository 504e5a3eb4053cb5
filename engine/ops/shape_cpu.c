/* concat, slice and flatten on the CPU. */
#include "engine/ops/shape_ops.h"

#include "engine/ops/rows_cpu.h"

#include <string.h>

/* Rows of `columns` elements from one place to another, unless they are the same place. */
static void copy_rows(const Device *device, DType type, int64_t rows, int64_t columns, const void *from,
                      int64_t from_stride, void *to, int64_t to_stride)
{
    if (from == to && (from_stride == to_stride || rows <= 1)) return;
    const size_t size = dtype_size(type);
#pragma omp parallel num_threads(threads_for(device, rows *columns))
    {
        int64_t first, last;
        thread_share(rows, &first, &last);
        for (int64_t row = first; row < last; ++row)
            memcpy((char *)to + (size_t)(row * to_stride) * size,
                   (const char *)from + (size_t)(row * from_stride) * size, (size_t)columns * size);
    }
}

static void *at_column(const Tensor *tensor, int64_t column)
{
    return (char *)tensor->data + (size_t)column * dtype_size(tensor->shape.type);
}

static Status concat_run(const Call *call)
{
    const Tensor *y = &call->out[0];
    int64_t column = 0;
    for (int i = 0; i < call->node->input_count; ++i) {
        const Tensor *part = &call->in[i];
        const int64_t columns = shape_columns(part->shape);
        copy_rows(call->device, y->shape.type, shape_rows(y->shape), columns, part->data, part->stride,
                  at_column(y, column), y->stride);
        column += columns;
    }
    return OK;
}

const Kernel concat_cpu = {.run = concat_run, .strided_in = (1U << CALL_MAX_TENSORS) - 1, .strided_out = 1};

static Status slice_run(const Call *call)
{
    const SliceAttributes *a = call->attributes;
    const Tensor *x = &call->in[0], *y = &call->out[0];
    copy_rows(call->device, y->shape.type, shape_rows(y->shape), a->columns, at_column(x, a->first),
              x->stride, y->data, y->stride);
    return OK;
}

const Kernel slice_cpu = {.run = slice_run, .strided_in = 1, .strided_out = 1};

static Status slice_backward_run(const Call *call)
{
    const SliceAttributes *a = call->attributes;
    const Tensor *dy = &call->in[0], *dx = &call->out[0];
    const int64_t rows = shape_rows(dx->shape), after = a->first + a->columns;
    const size_t size = dtype_size(dx->shape.type);
#pragma omp parallel num_threads(threads_for(call->device, rows * a->x_columns))
    {
        int64_t first, last;
        thread_share(rows, &first, &last);
        for (int64_t row = first; row < last; ++row) {
            char *to = (char *)dx->data + (size_t)(row * dx->stride) * size;
            const char *from = (const char *)dy->data + (size_t)(row * dy->stride) * size;
            memset(to, 0, (size_t)a->first * size);
            memcpy(to + (size_t)a->first * size, from, (size_t)a->columns * size);
            memset(to + (size_t)after * size, 0, (size_t)(a->x_columns - after) * size);
        }
    }
    return OK;
}

const Kernel slice_backward_cpu = {.run = slice_backward_run, .strided_in = 1, .strided_out = 1};

/* y[n][j][i] = x[n][i][j] for `rows` times `columns` elements a sample. */
static void transpose(const Call *call, int64_t samples, int64_t rows, int64_t columns)
{
    const int64_t count = rows * columns;
    const bool half = dtype_size(call->in[0].shape.type) == 2;
#pragma omp parallel num_threads(threads_for(call->device, samples *count))
    {
        int64_t first, last;
        thread_share(samples, &first, &last);
        for (int64_t n = first; n < last; ++n) {
            if (half) {
                const uint16_t *x = (const uint16_t *)call->in[0].data + n * count;
                uint16_t *y = (uint16_t *)call->out[0].data + n * count;
                for (int64_t j = 0; j < columns; ++j)
                    for (int64_t i = 0; i < rows; ++i)
                        y[j * rows + i] = x[i * columns + j];
            } else {
                const uint32_t *x = (const uint32_t *)call->in[0].data + n * count;
                uint32_t *y = (uint32_t *)call->out[0].data + n * count;
                for (int64_t j = 0; j < columns; ++j)
                    for (int64_t i = 0; i < rows; ++i)
                        y[j * rows + i] = x[i * columns + j];
            }
        }
    }
}

static Status flatten_run(const Call *call)
{
    const FlattenAttributes *a = call->attributes;
    transpose(call, a->x.extent[0], a->x.extent[1] * a->x.extent[2], a->x.extent[3]);
    return OK;
}

const Kernel flatten_cpu = {.run = flatten_run};

static Status flatten_backward_run(const Call *call)
{
    const FlattenAttributes *a = call->attributes;
    transpose(call, a->x.extent[0], a->x.extent[3], a->x.extent[1] * a->x.extent[2]);
    return OK;
}

const Kernel flatten_backward_cpu = {.run = flatten_backward_run};
