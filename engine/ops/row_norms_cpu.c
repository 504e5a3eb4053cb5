/* row_norms on the CPU: squares of float32 cannot overflow in double, so that no scaling is needed. */
#include "engine/ops/row_norms.h"

#include "engine/ops/rows_cpu.h"

#include <math.h>

/* Partial sums, which a vector holds; their number is fixed, and so is the order of the sum. */
enum { PARTS = 8 };

static double total_of(const double part[PARTS])
{
    double total = 0;
    for (int i = 0; i < PARTS; ++i)
        total += part[i];
    return total;
}

static double float_norm(const float *x, int64_t columns)
{
    double part[PARTS] = {0};
    int64_t c = 0;
    for (; c + PARTS <= columns; c += PARTS)
        for (int i = 0; i < PARTS; ++i)
            part[i] += (double)x[c + i] * (double)x[c + i];
    for (; c < columns; ++c)
        part[0] += (double)x[c] * (double)x[c];
    return sqrt(total_of(part));
}

static double bfloat16_norm(const bfloat16 *x, int64_t columns)
{
    double part[PARTS] = {0};
    for (int64_t c = 0; c < columns; ++c) {
        const double value = (double)bfloat16_to_float(x[c]);
        part[c % PARTS] += value * value;
    }
    return sqrt(total_of(part));
}

static Status run(const Call *call)
{
    const Tensor *x = &call->in[0];
    const int64_t rows = shape_rows(x->shape), columns = shape_columns(x->shape);
    double *norm = call->out[0].data;
#pragma omp parallel for num_threads(threads_for(call->device, rows *columns)) schedule(static)
    for (int64_t row = 0; row < rows; ++row)
        norm[row] = x->shape.type == BFLOAT16
                        ? bfloat16_norm((const bfloat16 *)x->data + row * x->stride, columns)
                        : float_norm((const float *)x->data + row * x->stride, columns);
    return OK;
}

const Kernel row_norms_cpu = {.run = run, .strided_in = 1};
