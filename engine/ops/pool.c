/* Pooling over windows of height and width.
 *
 *     average:  y[n, i, j, c] = sum of x[n, a, b, c] over the window's pixels / kernel^2
 *     adaptive: the same over rows floor(i H / H') .. ceil((i + 1) H / H') - 1, columns likewise, divided by
 *               the number of pixels
 *     max:      the largest; NaN wins, as in PyTorch
 *
 * Incomplete windows at the far border are dropped.
 *
 * A ReLU before a maximum is made part of the node: max(relu(x)) = relu(max(x)), bit for bit. The gradients are the
 * same too: where the maximum is positive the ReLU changes neither it nor which pixel is the first to have it, and
 * where it is not the ReLU's gradient is 0 at every pixel. So no pass over memory is spent on the ReLU, and x is
 * dead after the forward pass. */
#include "engine/ops/pool.h"

#include "engine/ops/ops.h"
#include "engine/ops/table.h"

#include <string.h>

static const PoolAttributes *attributes_of(const Node *node) { return node->attributes; }

static Shape input_shape(const PoolAttributes *a, DType type)
{
    if (a->rank == 3) return shape_of(type, 3, (int64_t[]){a->samples, a->width, a->channels});
    return shape_of(type, 4, (int64_t[]){a->samples, a->height, a->width, a->channels});
}

static Shape output_shape(const PoolAttributes *a, DType type)
{
    if (a->rank == 3) return shape_of(type, 3, (int64_t[]){a->samples, a->out_width, a->channels});
    return shape_of(type, 4, (int64_t[]){a->samples, a->out_height, a->out_width, a->channels});
}

static Shape index_shape(const PoolAttributes *a) { return output_shape(a, pool_index_type(a)); }

static Status average_infer(const Node *node, const Shape in[], Shape out[])
{
    const PoolAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[0], input_shape(a, in[0].type), "the input"));
    out[0] = output_shape(a, in[0].type);
    return OK;
}

static Status average_backward_infer(const Node *node, const Shape in[], Shape out[])
{
    const PoolAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[0], output_shape(a, in[0].type), "the gradient of the output"));
    out[0] = input_shape(a, in[0].type);
    return OK;
}

static Status max_infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(average_infer(node, in, out));
    out[1] = index_shape(attributes_of(node));
    return OK;
}

static Status max_backward_infer(const Node *node, const Shape in[], Shape out[])
{
    TRY(average_backward_infer(node, in, out));
    return op_expect_shape(in[1], index_shape(attributes_of(node)), "the index");
}

static void average_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                             Value d_in[])
{
    if (value_exists(d_out[0]) && wanted[0])
        d_in[0] = graph_node(graph, &average_pool2d_backward_op, d_out, 1, node->attributes,
                             sizeof(PoolAttributes));
}

static void adaptive_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                              Value d_in[])
{
    if (value_exists(d_out[0]) && wanted[0])
        d_in[0] = graph_node(graph, &adaptive_average_pool2d_backward_op, d_out, 1, node->attributes,
                             sizeof(PoolAttributes));
}

static void max_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                         Value d_in[])
{
    if (value_exists(d_out[0]) && wanted[0])
        d_in[0] = graph_node(graph, &max_pool2d_backward_op, (Value[]){d_out[0], node->output[1]}, 2,
                             node->attributes, sizeof(PoolAttributes));
}

/* A ReLU whose result nothing else reads. */
static bool max_fuse(const Graph *graph, int index, Fusion *fusion)
{
    const Node *node = graph_node_at(graph, index);
    const int producer = graph_producer(graph, node->input[0]);
    if (producer < 0 || graph_node_at(graph, producer)->op != &relu_op ||
        graph_use_count(graph, node->input[0]) != 1)
        return false;
    PoolAttributes a = *attributes_of(node);
    a.relu = true;
    if (pool_index_type(&a) != graph_shape(graph, node->output[1]).type) return false;
    *fusion = (Fusion){.op = &max_pool2d_op,
                       .input_count = 1,
                       .output_count = 2,
                       .input = {graph_node_at(graph, producer)->input[0]},
                       .output = {node->output[0], node->output[1]},
                       .attribute_bytes = sizeof a,
                       .absorbed = {producer},
                       .absorbed_count = 1};
    memcpy(fusion->attributes, &a, sizeof a);
    return true;
}

/* One operation for every pixel of every window. */
static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    const PoolAttributes *a = attributes_of(node);
    const double flops = a->kernel_height == 0 ? (double)shape_count(input_shape(a, FLOAT32))
                                               : (double)shape_count(output_shape(a, FLOAT32)) *
                                                     (double)(a->kernel_height * a->kernel_width);
    return (Cost){.flops = flops, .bytes = op_bytes(node, in, out)};
}

const Op average_pool2d_op = {
    .name = "average_pool2d",
    .output_count = 1,
    .infer = average_infer,
    .gradient = average_gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &average_pool_cpu, [DEVICE_CUDA] = &average_pool_cuda},
};

const Op average_pool2d_backward_op = {
    .name = "average_pool2d_backward",
    .output_count = 1,
    .infer = average_backward_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &average_pool_backward_cpu, [DEVICE_CUDA] = &average_pool_backward_cuda},
};

const Op adaptive_average_pool2d_op = {
    .name = "adaptive_average_pool2d",
    .output_count = 1,
    .infer = average_infer,
    .gradient = adaptive_gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &average_pool_cpu, [DEVICE_CUDA] = &average_pool_cuda},
};

const Op adaptive_average_pool2d_backward_op = {
    .name = "adaptive_average_pool2d_backward",
    .output_count = 1,
    .infer = average_backward_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &average_pool_backward_cpu, [DEVICE_CUDA] = &average_pool_backward_cuda},
};

const Op max_pool2d_op = {
    .name = "max_pool2d",
    .output_count = 2,
    .infer = max_infer,
    .gradient = max_gradient,
    .cost = cost,
    .fuse = max_fuse,
    .kernel = {[DEVICE_CPU] = &max_pool2d_cpu, [DEVICE_CUDA] = &max_pool2d_cuda},
};

const Op max_pool2d_backward_op = {
    .name = "max_pool2d_backward",
    .output_count = 1,
    .infer = max_backward_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &max_pool2d_backward_cpu, [DEVICE_CUDA] = &max_pool2d_backward_cuda},
};

/* The input's extents into *a; false after failing the graph. */
static bool take_input(Graph *graph, Value x, const char *what, PoolAttributes *a)
{
    if (graph_failed(graph)) return false;
    const Shape in = graph_shape(graph, x);
    if (in.rank != 4 || !op_is_activation_type(in.type)) {
        char text[SHAPE_TEXT];
        graph_fail(graph, STATUS_INPUT,
                   "%s needs float32 or bfloat16 [samples, height, width, channels], not %s", what,
                   shape_text(in, text));
        return false;
    }
    a->rank = 4;
    a->samples = in.extent[0];
    a->height = in.extent[1];
    a->width = in.extent[2];
    a->channels = in.extent[3];
    return true;
}

static Value window_pool(Graph *graph, const Op *op, Value x, Pool2d pool)
{
    const bool square = pool.kernel_height == 0 && pool.kernel_width == 0;
    PoolAttributes a = {.kernel_height = square ? pool.kernel : pool.kernel_height,
                        .kernel_width = square ? pool.kernel : pool.kernel_width,
                        .padding_height = square ? pool.padding : pool.padding_height,
                        .padding_width = square ? pool.padding : pool.padding_width};
    a.stride = pool.stride != 0 ? pool.stride : a.kernel_width;
    if (!take_input(graph, x, op->name, &a)) return NO_VALUE;
    /* A window that is all padding would have no maximum, so a padding is smaller than the kernel. */
    if (a.kernel_height < 1 || a.kernel_width < 1 || a.kernel_height > INT16_MAX ||
        a.kernel_width > INT32_MAX / a.kernel_height || a.stride < 1 || a.padding_height < 0 ||
        a.padding_width < 0 || a.padding_height >= a.kernel_height || a.padding_width >= a.kernel_width) {
        graph_fail(graph, STATUS_INPUT, "%s with kernel %lld x %lld, stride %lld, padding %lld x %lld",
                   op->name, (long long)a.kernel_height, (long long)a.kernel_width, (long long)a.stride,
                   (long long)a.padding_height, (long long)a.padding_width);
        return NO_VALUE;
    }
    const int64_t free_height = a.height + 2 * a.padding_height - a.kernel_height;
    const int64_t free_width = a.width + 2 * a.padding_width - a.kernel_width;
    if (free_height < 0 || free_width < 0) {
        graph_fail(
            graph, STATUS_INPUT,
            "%s: a kernel of %lld x %lld does not fit into %lld x %lld pixels with padding %lld x %lld",
            op->name, (long long)a.kernel_height, (long long)a.kernel_width, (long long)a.height,
            (long long)a.width, (long long)a.padding_height, (long long)a.padding_width);
        return NO_VALUE;
    }
    a.out_height = free_height / a.stride + 1;
    a.out_width = free_width / a.stride + 1;
    return graph_node(graph, op, &x, 1, &a, sizeof a);
}

/* A sequence as an image of one row, in which a stride has no vertical meaning. */
Value max_pool1d(Graph *graph, Value x, Pool1d pool)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape in = graph_shape(graph, x);
    char text[SHAPE_TEXT];
    if (in.rank != 3 || !op_is_activation_type(in.type)) {
        graph_fail(graph, STATUS_INPUT,
                   "max_pool1d needs float32 or bfloat16 [samples, length, channels], not %s",
                   shape_text(in, text));
        return NO_VALUE;
    }
    PoolAttributes a = {.rank = 3,
                        .samples = in.extent[0],
                        .height = 1,
                        .width = in.extent[1],
                        .channels = in.extent[2],
                        .out_height = 1,
                        .kernel_height = 1,
                        .kernel_width = pool.kernel,
                        .stride = pool.stride == 0 ? pool.kernel : pool.stride,
                        .padding_width = pool.padding};
    if (pool.kernel < 1 || pool.kernel > INT32_MAX || a.stride < 1 || pool.padding < 0 ||
        pool.padding >= pool.kernel || a.width + 2 * pool.padding < pool.kernel) {
        graph_fail(graph, STATUS_INPUT, "max_pool1d of %s with kernel %lld, stride %lld, padding %lld",
                   shape_text(in, text), (long long)pool.kernel, (long long)a.stride,
                   (long long)pool.padding);
        return NO_VALUE;
    }
    a.out_width = (a.width + 2 * pool.padding - pool.kernel) / a.stride + 1;
    return graph_node(graph, &max_pool2d_op, &x, 1, &a, sizeof a);
}

Value global_max_pool1d(Graph *graph, Value x)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape in = graph_shape(graph, x);
    const Value y = max_pool1d(graph, x, (Pool1d){.kernel = in.rank == 3 ? in.extent[1] : 1});
    return reshape(graph, y, 2, (const int64_t[]){in.extent[0], in.extent[2]});
}

Value max_pool2d(Graph *graph, Value x, Pool2d pool) { return window_pool(graph, &max_pool2d_op, x, pool); }

Value average_pool2d(Graph *graph, Value x, Pool2d pool)
{
    return window_pool(graph, &average_pool2d_op, x, pool);
}

Value adaptive_average_pool2d(Graph *graph, Value x, int64_t height, int64_t width)
{
    PoolAttributes a = {.out_height = height, .out_width = width};
    if (!take_input(graph, x, "adaptive_average_pool2d", &a)) return NO_VALUE;
    if (height < 1 || width < 1) {
        graph_fail(graph, STATUS_INPUT, "adaptive_average_pool2d to %lld x %lld", (long long)height,
                   (long long)width);
        return NO_VALUE;
    }
    return graph_node(graph, &adaptive_average_pool2d_op, &x, 1, &a, sizeof a);
}
