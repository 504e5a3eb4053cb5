/* Maxima along rows on the CPU: windows of one row's height that move by one pixel, or one window that is all of the
 * row. Several channels a vector; what pool_cpu.c does, in the same order, without its tables. */
#include "engine/ops/pool.h"

#include "engine/ops/rows_cpu.h"
#include "engine/ops/vector_cpu.h"

bool pool_is_sequence(const PoolAttributes *a)
{
    const bool single = a->out_width == 1;
    return a->kernel_height == 1 && a->padding_height == 0 && a->padding_width == 0 &&
           (a->stride == 1 || (single && a->out_height == a->height)) &&
           (single || pool_index_type(a) == UINT8);
}

/* Windows of one line that a thread takes at a time. */
enum { CHUNK = 128 };

VECTOR_INLINE IntVector index_vector(int32_t value) { return (IntVector){0} + value; }

/* In lanes of the mask a, else b. */
VECTOR_INLINE IntVector index_select(Mask mask, IntVector a, IntVector b)
{
#if VECTOR_AVX512
    return (IntVector)_mm512_mask_mov_epi32((__m512i)b, mask, (__m512i)a);
#else
    return (mask & a) | (~mask & b);
#endif
}

VECTOR_INLINE void index_put(void *index, int64_t at, int lanes, bool byte, IntVector where)
{
    if (byte) {
        uint8_t *to = (uint8_t *)index + at;
#if VECTOR_AVX512
        _mm512_mask_cvtepi32_storeu_epi8(to, (__mmask16)((1U << lanes) - 1), (__m512i)where);
#else
        for (int i = 0; i < lanes; ++i)
            to[i] = (uint8_t)where[i];
#endif
    } else {
        vector_store(index, at, lanes, false, (Vector)where);
    }
}

VECTOR_INLINE IntVector index_get(const uint8_t *index, int64_t at, int lanes)
{
#if VECTOR_AVX512
    return (IntVector)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8((__mmask16)((1U << lanes) - 1), index + at));
#else
    IntVector where = {0};
    for (int i = 0; i < lanes; ++i)
        where[i] = index[at + i];
    return where;
#endif
}

/* One window of `kernel` rows of x. */
VECTOR_INLINE void largest(const void *x, int64_t x_stride, int64_t kernel, void *y, void *index, int64_t c,
                           int lanes, bool relu, bool bf16, bool byte)
{
    Vector best = vector_load(x, c, lanes, bf16);
    IntVector where = index_vector(0);
    for (int64_t w = 1; w < kernel; ++w) {
        const Vector pixel = vector_load(x, w * x_stride + c, lanes, bf16);
        const Mask better = vector_beats(pixel, best);
        best = vector_choose(better, pixel, best);
        where = index_select(better, index_vector((int32_t)w), where);
    }
    if (relu) {
        const Mask passes = vector_passes(best);
        best = vector_gate(passes, best);
        where = index_select(passes, where, index_vector(-1));
    }
    vector_store(y, c, lanes, bf16, best);
    if (index != NULL) index_put(index, c, lanes, byte, where);
}

VECTOR_INLINE void forward_rows(const Call *call, int64_t line, int64_t first, int64_t last, bool bf16,
                                bool byte)
{
    const PoolAttributes *a = call->attributes;
    const Tensor *x = &call->in[0], *y = &call->out[0], *index = &call->out[1];
    const bool wanted = call->wanted[1] && index->data != NULL;
    for (int64_t j = first; j < last; ++j) {
        const int64_t row = line * a->out_width + j;
        const void *from = vector_at(x->data, (line * a->width + j) * x->stride, bf16);
        void *to = (void *)(uintptr_t)vector_at(y->data, row * y->stride, bf16);
        void *places = wanted ? (char *)index->data + row * index->stride * (byte ? 1 : 4) : NULL;
        int64_t c = 0;
        for (; c + LANES <= a->channels; c += LANES)
            largest(from, x->stride, a->kernel_width, to, places, c, LANES, a->relu, bf16, byte);
        if (c < a->channels)
            largest(from, x->stride, a->kernel_width, to, places, c, (int)(a->channels - c), a->relu, bf16,
                    byte);
    }
}

Status max_sequence_run(const Call *call)
{
    const PoolAttributes *a = call->attributes;
    const bool bf16 = call->in[0].shape.type == BFLOAT16, byte = call->out[1].shape.type == UINT8;
    const int64_t lines = a->samples * a->height;
#pragma omp parallel for collapse(2) schedule(static)                                                        \
    num_threads(threads_for(call->device, shape_count(call->in[0].shape)))
    for (int64_t line = 0; line < lines; ++line) {
        for (int64_t first = 0; first < a->out_width; first += CHUNK) {
            const int64_t last = first + CHUNK < a->out_width ? first + CHUNK : a->out_width;
            if (bf16 && byte)
                forward_rows(call, line, first, last, true, true);
            else if (bf16)
                forward_rows(call, line, first, last, true, false);
            else if (byte)
                forward_rows(call, line, first, last, false, true);
            else
                forward_rows(call, line, first, last, false, false);
        }
    }
    return OK;
}

/* Pixel w gets the gradients of the windows that found their maximum there: window i in its place w - i. */
VECTOR_INLINE void gather(const Call *call, int64_t line, int64_t w, int64_t c, int lanes, bool bf16)
{
    const PoolAttributes *a = call->attributes;
    const Tensor *d_y = &call->in[0], *index = &call->in[1], *d_x = &call->out[0];
    const int64_t reach = w - a->kernel_width + 1;
    const int64_t last = w < a->out_width ? w : a->out_width - 1;
    Vector sum = vector_all(0);
    for (int64_t i = reach > 0 ? reach : 0; i <= last; ++i) {
        const int64_t row = line * a->out_width + i;
        const IntVector where = index_get(index->data, row * index->stride + c, lanes);
        const Vector gradient = vector_load(d_y->data, row * d_y->stride + c, lanes, bf16);
#if VECTOR_AVX512
        const Mask here = _mm512_cmpeq_epi32_mask((__m512i)where, (__m512i)index_vector((int32_t)(w - i)));
#else
        const Mask here = where == index_vector((int32_t)(w - i));
#endif
        sum += vector_gate(here, gradient);
    }
    vector_store(d_x->data, (line * a->width + w) * d_x->stride + c, lanes, bf16, sum);
}

VECTOR_INLINE void backward_rows(const Call *call, int64_t line, int64_t first, int64_t last, bool bf16)
{
    const PoolAttributes *a = call->attributes;
    for (int64_t w = first; w < last; ++w) {
        int64_t c = 0;
        for (; c + LANES <= a->channels; c += LANES)
            gather(call, line, w, c, LANES, bf16);
        if (c < a->channels) gather(call, line, w, c, (int)(a->channels - c), bf16);
    }
}

/* One window a line: all is zero but for an element a channel. */
static void scatter(const Call *call, int64_t line)
{
    const PoolAttributes *a = call->attributes;
    const Tensor *d_y = &call->in[0], *index = &call->in[1], *d_x = &call->out[0];
    const size_t size = dtype_size(d_x->shape.type);
    const char *gradient = (const char *)d_y->data + (size_t)(line * d_y->stride) * size;
    char *to = (char *)d_x->data + (size_t)(line * a->width * d_x->stride) * size;
    for (int64_t w = 0; w < a->width; ++w)
        memset(to + (size_t)(w * d_x->stride) * size, 0, (size_t)a->channels * size);
    for (int64_t c = 0; c < a->channels; ++c) {
        const int64_t place = line * index->stride + c;
        const bool byte = index->shape.type == UINT8;
        const int32_t where =
            byte ? ((const uint8_t *)index->data)[place] : ((const int32_t *)index->data)[place];
        if (where >= 0 && where < a->width && !(byte && a->relu && where == UINT8_MAX))
            memcpy(to + (size_t)(where * d_x->stride + c) * size, gradient + (size_t)c * size, size);
    }
}

Status max_sequence_backward_run(const Call *call)
{
    const PoolAttributes *a = call->attributes;
    const bool bf16 = call->in[0].shape.type == BFLOAT16;
    const int64_t lines = a->samples * a->height;
    const int threads = threads_for(call->device, shape_count(call->out[0].shape));
    if (a->out_width == 1) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t line = 0; line < lines; ++line)
            scatter(call, line);
        return OK;
    }
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (int64_t line = 0; line < lines; ++line) {
        for (int64_t first = 0; first < a->width; first += CHUNK) {
            const int64_t last = first + CHUNK < a->width ? first + CHUNK : a->width;
            if (bf16)
                backward_rows(call, line, first, last, true);
            else
                backward_rows(call, line, first, last, false);
        }
    }
    return OK;
}
