/* Convolution over images, and over sequences as images of one row (cross-correlation, as all deep learning libraries have it):
 *
 *     y[n, i, j, o] = bias[o] + sum over a, b, c of
 *         x[n, i * stride + a - padding_height, j * stride + b - padding_width, c] * weight[o, a, b, c]
 *
 * with x zero outside. Its two gradients are nodes of their own, so that a first layer has no data gradient
 * and a bucket of weight gradients can leave before the data gradient is computed. */
#include "engine/ops/conv.h"

#include "engine/ops/linear.h"
#include "engine/ops/ops.h"
#include "engine/ops/table.h"

static const ConvAttributes *attributes_of(const Node *node) { return node->attributes; }

static Shape input_shape(const ConvAttributes *a, DType type)
{
    if (a->rank == 3) return shape_of(type, 3, (int64_t[]){a->samples, a->width, a->channels});
    return shape_of(type, 4, (int64_t[]){a->samples, a->height, a->width, a->channels});
}

static Shape output_shape(const ConvAttributes *a, DType type)
{
    if (a->rank == 3) return shape_of(type, 3, (int64_t[]){a->samples, a->out_width, a->out_channels});
    return shape_of(type, 4, (int64_t[]){a->samples, a->out_height, a->out_width, a->out_channels});
}

static Shape weight_shape(const ConvAttributes *a)
{
    return shape_of(FLOAT32, 4, (int64_t[]){a->out_channels, a->kernel_height, a->kernel_width, a->channels});
}

static Status forward_infer(const Node *node, const Shape in[], Shape out[])
{
    const ConvAttributes *a = attributes_of(node);
    if (!op_is_activation_type(in[0].type))
        return fail(STATUS_INTERNAL, "the input is %s, but must be float32 or bfloat16",
                    dtype_name(in[0].type));
    TRY(op_expect_shape(in[0], input_shape(a, in[0].type), "the input"));
    TRY(op_expect_shape(in[1], weight_shape(a), "the weight"));
    if (node->input_count > 2)
        TRY(op_expect_shape(in[2], shape_of(FLOAT32, 1, (int64_t[]){a->out_channels}), "the bias"));
    out[0] = output_shape(a, in[0].type);
    return OK;
}

static Status backward_data_infer(const Node *node, const Shape in[], Shape out[])
{
    const ConvAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[0], output_shape(a, in[0].type), "the gradient of the output"));
    TRY(op_expect_shape(in[1], weight_shape(a), "the weight"));
    out[0] = input_shape(a, in[0].type);
    return OK;
}

static Status backward_weights_infer(const Node *node, const Shape in[], Shape out[])
{
    const ConvAttributes *a = attributes_of(node);
    TRY(op_expect_shape(in[0], input_shape(a, in[0].type), "the input"));
    TRY(op_expect_shape(in[1], output_shape(a, in[0].type), "the gradient of the output"));
    out[0] = weight_shape(a);
    return OK;
}

/* The weights' gradient comes first: the input is dead after it, and the data gradient may take its place. */
static void forward_gradient(Graph *graph, const Node *node, const Value d_out[], const bool wanted[],
                             Value d_in[])
{
    const ConvAttributes *a = attributes_of(node);
    const Op *weights = a->rank == 3 ? &conv1d_backward_weights_op : &conv2d_backward_weights_op;
    const Op *data = a->rank == 3 ? &conv1d_backward_data_op : &conv2d_backward_data_op;
    if (!value_exists(d_out[0])) return;
    if (node->input_count > 2 && wanted[2]) d_in[2] = bias_gradient(graph, d_out[0]);
    if (wanted[1]) d_in[1] = graph_node(graph, weights, (Value[]){node->input[0], d_out[0]}, 2, a, sizeof *a);
    if (wanted[0]) d_in[0] = graph_node(graph, data, (Value[]){d_out[0], node->input[1]}, 2, a, sizeof *a);
}

/* The same for all three: each pairs every output with every element of its window. Products with padding are
 * counted, as everybody does. */
static Cost cost(const Node *node, const Shape in[], const Shape out[])
{
    const ConvAttributes *a = attributes_of(node);
    const double outputs = (double)shape_count(output_shape(a, FLOAT32));
    const double window = (double)a->kernel_height * (double)a->kernel_width * (double)a->channels;
    return (Cost){.flops = 2 * outputs * window, .bytes = op_bytes(node, in, out)};
}

const Op conv2d_op = {
    .name = "conv2d",
    .output_count = 1,
    .infer = forward_infer,
    .gradient = forward_gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &conv2d_cpu, [DEVICE_CUDA] = &conv2d_cuda},
};

const Op conv2d_backward_data_op = {
    .name = "conv2d_backward_data",
    .output_count = 1,
    .infer = backward_data_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &conv2d_backward_data_cpu, [DEVICE_CUDA] = &conv2d_backward_data_cuda},
};

const Op conv2d_backward_weights_op = {
    .name = "conv2d_backward_weights",
    .output_count = 1,
    .infer = backward_weights_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &conv2d_backward_weights_cpu, [DEVICE_CUDA] = &conv2d_backward_weights_cuda},
};

const Op conv1d_op = {
    .name = "conv1d",
    .output_count = 1,
    .infer = forward_infer,
    .gradient = forward_gradient,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &conv1d_cpu, [DEVICE_CUDA] = &conv2d_cuda},
};

const Op conv1d_backward_data_op = {
    .name = "conv1d_backward_data",
    .output_count = 1,
    .infer = backward_data_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &conv1d_backward_data_cpu, [DEVICE_CUDA] = &conv2d_backward_data_cuda},
};

const Op conv1d_backward_weights_op = {
    .name = "conv1d_backward_weights",
    .output_count = 1,
    .infer = backward_weights_infer,
    .cost = cost,
    .kernel = {[DEVICE_CPU] = &conv1d_backward_weights_cpu, [DEVICE_CUDA] = &conv2d_backward_weights_cuda},
};

/* The node of these attributes and its parameters. */
static Value convolve(Graph *graph, const Op *op, Value x, const ConvAttributes *a, FileLayout layout,
                      bool bias, WeightInit init)
{
    const double window = (double)(a->kernel_height * a->kernel_width);
    const double fan_in = window * (double)a->channels, fan_out = window * (double)a->out_channels;
    Value inputs[3] = {x,
                       graph_parameter_with_layout(graph, "weight", weight_shape(a),
                                                   op_weight_init(init, fan_in, fan_out), layout),
                       NO_VALUE};
    if (bias)
        inputs[2] = graph_parameter(graph, "bias", shape_of(FLOAT32, 1, (int64_t[]){a->out_channels}),
                                    op_bias_init(init, fan_in));
    return graph_node(graph, op, inputs, bias ? 3 : 2, a, sizeof *a);
}

Value conv2d(Graph *graph, const char *name, Value x, Conv2d conv)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape in = graph_shape(graph, x);
    ConvAttributes a = {
        .rank = 4,
        .out_channels = conv.channels,
        .kernel_height = conv.kernel_height > 0 ? conv.kernel_height : conv.kernel,
        .kernel_width = conv.kernel_width > 0 ? conv.kernel_width : conv.kernel,
        .stride = conv.stride == 0 ? 1 : conv.stride,
        .padding_height = conv.padding_height > 0 ? conv.padding_height : conv.padding,
        .padding_width = conv.padding_width > 0 ? conv.padding_width : conv.padding,
    };
    graph_enter(graph, name);
    Value y = NO_VALUE;
    if (in.rank != 4) {
        char text[SHAPE_TEXT];
        graph_fail(graph, STATUS_INPUT, "a convolution needs [samples, height, width, channels], not %s",
                   shape_text(in, text));
    } else if (a.out_channels < 1 || a.kernel_height < 1 || a.kernel_width < 1 || a.stride < 1 ||
               a.padding_height < 0 || a.padding_width < 0) {
        graph_fail(graph, STATUS_INPUT,
                   "a convolution of %lld channels, kernel %lld x %lld, stride %lld, padding %lld x %lld",
                   (long long)a.out_channels, (long long)a.kernel_height, (long long)a.kernel_width,
                   (long long)a.stride, (long long)a.padding_height, (long long)a.padding_width);
    } else {
        a.samples = in.extent[0];
        a.height = in.extent[1];
        a.width = in.extent[2];
        a.channels = in.extent[3];
        const int64_t free_height = a.height + 2 * a.padding_height - a.kernel_height;
        const int64_t free_width = a.width + 2 * a.padding_width - a.kernel_width;
        if (free_height < 0 || free_width < 0) {
            graph_fail(graph, STATUS_INPUT,
                       "a kernel of %lld x %lld does not fit into %lld x %lld pixels with "
                       "padding %lld x %lld",
                       (long long)a.kernel_height, (long long)a.kernel_width, (long long)a.height,
                       (long long)a.width, (long long)a.padding_height, (long long)a.padding_width);
        } else {
            a.out_height = free_height / a.stride + 1;
            a.out_width = free_width / a.stride + 1;
            const FileLayout layout = conv.one_dimensional ? FILE_CONVOLUTION_1D : FILE_CONVOLUTION_2D;
            y = convolve(graph, &conv2d_op, x, &a, layout, conv.bias, conv.init);
        }
    }
    graph_leave(graph);
    return y;
}

Value conv1d(Graph *graph, const char *name, Value x, Conv1d conv)
{
    if (graph_failed(graph)) return NO_VALUE;
    const Shape in = graph_shape(graph, x);
    graph_enter(graph, name);
    Value y = NO_VALUE;
    char text[SHAPE_TEXT];
    if (in.rank != 3) {
        graph_fail(graph, STATUS_INPUT,
                   "a convolution over sequences needs [samples, length, channels], not %s",
                   shape_text(in, text));
    } else if (conv.channels < 1 || conv.kernel < 1) {
        graph_fail(graph, STATUS_INPUT, "a convolution over sequences of %lld channels, kernel %lld",
                   (long long)conv.channels, (long long)conv.kernel);
    } else if (conv.kernel > in.extent[1]) {
        graph_fail(graph, STATUS_INPUT, "a kernel of %lld does not fit into a sequence of %lld",
                   (long long)conv.kernel, (long long)in.extent[1]);
    } else {
        const ConvAttributes a = {
            .rank = 3,
            .samples = in.extent[0],
            .height = 1,
            .width = in.extent[1],
            .channels = in.extent[2],
            .out_height = 1,
            .out_width = in.extent[1] - conv.kernel + 1,
            .out_channels = conv.channels,
            .kernel_height = 1,
            .kernel_width = conv.kernel,
            .stride = 1,
        };
        y = convolve(graph, &conv1d_op, x, &a, FILE_CONVOLUTION_1D, conv.bias, conv.init);
    }
    graph_leave(graph);
    return y;
}
