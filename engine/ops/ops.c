#include "engine/ops/ops.h"

#include "engine/ops/table.h"

#include <math.h>

/* In the order of the names. */
static const Op *const table[] = {
    &adaptive_average_pool2d_op,
    &adaptive_average_pool2d_backward_op,
    &add_op,
    &attention_op,
    &attention_backward_op,
    &attention_step_op,
    &augment_op,
    &average_pool2d_op,
    &average_pool2d_backward_op,
    &batch_norm_op,
    &batch_norm_backward_op,
    &best_tokens_op,
    &bias_gradient_op,
    &cast_op,
    &concat_op,
    &conv1d_op,
    &conv1d_backward_data_op,
    &conv1d_backward_weights_op,
    &conv2d_op,
    &conv2d_backward_data_op,
    &conv2d_backward_weights_op,
    &dot_op,
    &dot_backward_op,
    &dropout_op,
    &embedding_op,
    &embedding_backward_op,
    &embedding_backward_rows_op,
    &flatten_op,
    &flatten_backward_op,
    &layer_norm_op,
    &layer_norm_backward_op,
    &linear_op,
    &linear_backward_data_op,
    &linear_backward_weights_op,
    &log_softmax_op,
    &log_softmax_backward_op,
    &max_pool2d_op,
    &max_pool2d_backward_op,
    &place_sequences_op,
    &positions_op,
    &positions_backward_op,
    &relu_op,
    &relu_backward_op,
    &reshape_op,
    &residual_norm_op,
    &residual_norm_backward_op,
    &row_norms_op,
    &slice_op,
    &slice_backward_op,
    &softmax_op,
    &softmax_backward_op,
    &tree_lstm_op,
    &tree_lstm_backward_op,
};

const Op *const *ops_table(int *count)
{
    *count = (int)(sizeof table / sizeof table[0]);
    return table;
}

double op_bytes(const Node *node, const Shape in[], const Shape out[])
{
    double bytes = 0;
    for (int i = 0; i < node->input_count; ++i)
        if (in[i].rank >= 0) bytes += (double)shape_bytes(in[i]);
    for (int i = 0; i < node->output_count; ++i)
        bytes += (double)shape_bytes(out[i]);
    return bytes;
}

bool op_is_activation_type(DType type) { return type == FLOAT32 || type == BFLOAT16; }

Init op_weight_init(WeightInit init, double fan_in, double fan_out)
{
    switch (init) {
    case INIT_HE_FAN_OUT:
        return (Init){INIT_NORMAL, sqrt(2 / fan_out)};
    case INIT_GLOROT_UNIFORM:
        return (Init){INIT_UNIFORM, sqrt(6 / (fan_in + fan_out))};
    case INIT_PYTORCH:
        break;
    }
    return (Init){INIT_UNIFORM, 1 / sqrt(fan_in)};
}

Init op_bias_init(WeightInit init, double fan_in)
{
    return init == INIT_PYTORCH ? (Init){INIT_UNIFORM, 1 / sqrt(fan_in)} : (Init){INIT_ZEROS, 0};
}

Status op_expect_shape(Shape got, Shape want, const char *what)
{
    if (shape_equal(got, want)) return OK;
    char got_text[SHAPE_TEXT], want_text[SHAPE_TEXT];
    return fail(STATUS_INTERNAL, "%s is %s, but must be %s", what, shape_text(got, got_text),
                shape_text(want, want_text));
}
