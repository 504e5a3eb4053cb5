#include "tests/support.h"

#include "tests/kernel_call.h"

#include "engine/device/collective.h"

#include <stdlib.h>
#include <string.h>

/* A piece of host memory that tensors of a call lie in, and its copy on the device. */
typedef struct {
    char *host, *copy;
    size_t bytes;
} Piece;

enum { MOST_PIECES = 2 * CALL_MAX_TENSORS, GUARD = 64, GUARD_BYTE = 0xa5 };

static size_t tensor_bytes(const Tensor *tensor)
{
    const int64_t rows = shape_rows(tensor->shape);
    if (tensor->data == NULL || shape_count(tensor->shape) == 0) return 0;
    return (size_t)((rows - 1) * tensor->stride + shape_columns(tensor->shape)) *
           dtype_size(tensor->shape.type);
}

/* Tensors that overlap (in place, or one inside another) share a piece. */
static void add_piece(Piece piece[], int *count, const Tensor *tensor)
{
    char *from = tensor->data, *to = from + tensor_bytes(tensor);
    if (from == to) return;
    for (int i = 0; i < *count; ++i) {
        char *end = piece[i].host + piece[i].bytes;
        if (from >= end || to <= piece[i].host) continue;
        from = piece[i].host < from ? piece[i].host : from;
        to = end > to ? end : to;
        piece[i] = piece[--*count];
        i = -1; /* what has grown may touch others */
    }
    piece[(*count)++] = (Piece){.host = from, .bytes = (size_t)(to - from)};
}

static void move_tensor(const Piece piece[], int count, Tensor *tensor)
{
    const char *data = tensor->data;
    for (int i = 0; i < count && tensor_bytes(tensor) > 0; ++i)
        if (data >= piece[i].host && data < piece[i].host + piece[i].bytes) {
            tensor->data = piece[i].copy + (data - piece[i].host);
            return;
        }
}

/* Copies all tensors to the device; the call then refers to the copies. */
static int copy_tensors(Call *call, int inputs, int outputs, Piece piece[])
{
    int count = 0;
    for (int i = 0; i < inputs; ++i)
        add_piece(piece, &count, &call->in[i]);
    for (int i = 0; i < outputs; ++i)
        add_piece(piece, &count, &call->out[i]);
    for (int i = 0; i < count; ++i) {
        /* The same alignment as on the host, of up to 64 bytes. */
        const size_t ahead = (uintptr_t)piece[i].host % 64;
        char guard[GUARD];
        memset(guard, GUARD_BYTE, sizeof guard);
        assert_ok(device_allocate(call->device, piece[i].bytes + ahead + GUARD, "a test's tensor",
                                  (void **)&piece[i].copy));
        piece[i].copy += ahead;
        assert_ok(device_upload(call->device, piece[i].copy, piece[i].host, piece[i].bytes));
        assert_ok(device_upload(call->device, piece[i].copy + piece[i].bytes, guard, sizeof guard));
    }
    for (int i = 0; i < inputs; ++i)
        move_tensor(piece, count, &call->in[i]);
    for (int i = 0; i < outputs; ++i)
        move_tensor(piece, count, &call->out[i]);
    return count;
}

/* Only what changed is written: inputs may be constants. */
static void copy_back(Call *call, const Piece piece[], int count)
{
    for (int i = 0; i < count; ++i) {
        char *now = malloc(piece[i].bytes + GUARD);
        assert_non_null(now);
        assert_ok(device_download(call->device, now, piece[i].copy, piece[i].bytes + GUARD));
        assert_ok(device_synchronize(call->device));
        for (size_t b = 0; b < GUARD; ++b) /* nothing was written behind the tensor */
            assert_int_equal((unsigned char)now[piece[i].bytes + b], GUARD_BYTE);
        if (memcmp(now, piece[i].host, piece[i].bytes) != 0) memcpy(piece[i].host, now, piece[i].bytes);
        free(now);
        device_free(call->device, piece[i].copy - (uintptr_t)piece[i].host % 64);
    }
}

Status kernel_call_with(Device *device, const Op *op, Call *call, int inputs, uint32_t unwanted,
                        Collective *collective)
{
    const Kernel *kernel = op->kernel[device_kind(device)];
    const Node node = {.op = op,
                       .scope = "",
                       .input_count = inputs,
                       .output_count = op->output_count,
                       .attributes = call->attributes,
                       .forward = -1};
    Collective *self = NULL;
    size_t scratch_bytes = 0;
    const Call given = *call;
    Piece piece[MOST_PIECES];
    int pieces = 0;
    call->node = &node;
    call->state = call->scratch = NULL;
    call->device = device;
    if (device_kind(device) != DEVICE_CPU) pieces = copy_tensors(call, inputs, op->output_count, piece);
    if (collective == NULL) assert_ok(collective_self(&self));
    call->collective = collective != NULL ? collective : self;
    for (int i = 0; i < op->output_count; ++i)
        call->wanted[i] = (unwanted >> i & 1U) == 0;
    if (kernel->prepare != NULL) assert_ok(kernel->prepare(call, &scratch_bytes));
    if (scratch_bytes > 0) assert_ok(device_allocate(call->device, scratch_bytes, "scratch", &call->scratch));
    Status status = kernel->run(call);
    copy_back(call, piece, pieces);
    if (kernel->release != NULL) kernel->release(call);
    device_free(call->device, call->scratch);
    collective_free(self);
    *call = given;
    return status;
}

Status kernel_call_on(DeviceKind kind, const Op *op, Call *call, int inputs, int threads, uint32_t unwanted,
                      Collective *collective)
{
    Device *device;
    assert_ok(device_open(kind, 0, threads, &device));
    const Status status = kernel_call_with(device, op, call, inputs, unwanted, collective);
    device_close(device);
    return status;
}

Status kernel_call(const Op *op, Call *call, int inputs, int threads, uint32_t unwanted,
                   Collective *collective)
{
    return kernel_call_on(test_device(), op, call, inputs, threads, unwanted, collective);
}

Tensor tensor_floats(float *data, int64_t rows, int64_t columns, int64_t stride)
{
    return (Tensor){
        .data = data, .shape = shape_of(FLOAT32, 2, (int64_t[]){rows, columns}), .stride = stride};
}

Tensor tensor_vector(float *data, int64_t count)
{
    return (Tensor){.data = data, .shape = shape_of(FLOAT32, 1, (int64_t[]){count}), .stride = count};
}
