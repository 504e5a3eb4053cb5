/* The descriptors of the engine's ops, so that the table, gradient rules and fusions can name them; and what
 * op families share. In the order of the alphabet; add_op is in engine/graph/op.h. */
#ifndef PLUMB_ENGINE_OPS_TABLE_H
#define PLUMB_ENGINE_OPS_TABLE_H

#include "engine/graph/op.h"
#include "engine/ops/ops.h"

extern const Op adaptive_average_pool2d_op;
extern const Op adaptive_average_pool2d_backward_op;
extern const Op attention_op;
extern const Op attention_backward_op;
extern const Op attention_step_op;
extern const Op augment_op;
extern const Op average_pool2d_op;
extern const Op average_pool2d_backward_op;
extern const Op batch_norm_op;
extern const Op batch_norm_backward_op;
extern const Op best_tokens_op;
extern const Op bias_gradient_op;
extern const Op cast_op;
extern const Op concat_op;
extern const Op conv1d_op;
extern const Op conv1d_backward_data_op;
extern const Op conv1d_backward_weights_op;
extern const Op conv2d_op;
extern const Op conv2d_backward_data_op;
extern const Op conv2d_backward_weights_op;
extern const Op dot_op;
extern const Op dot_backward_op;
extern const Op dropout_op;
extern const Op embedding_op;
extern const Op embedding_backward_op;
extern const Op embedding_backward_rows_op;
extern const Op flatten_op;
extern const Op flatten_backward_op;
extern const Op layer_norm_op;
extern const Op layer_norm_backward_op;
extern const Op linear_op;
extern const Op linear_backward_data_op;
extern const Op linear_backward_weights_op;
extern const Op log_softmax_op;
extern const Op log_softmax_backward_op;
extern const Op max_pool2d_op;
extern const Op max_pool2d_backward_op;
extern const Op place_sequences_op;
extern const Op positions_op;
extern const Op positions_backward_op;
extern const Op relu_op;
extern const Op relu_backward_op;
extern const Op reshape_op;
extern const Op residual_norm_op;
extern const Op residual_norm_backward_op;
extern const Op row_norms_op;
extern const Op slice_op;
extern const Op slice_backward_op;
extern const Op softmax_op;
extern const Op softmax_backward_op;
extern const Op tree_lstm_op;
extern const Op tree_lstm_backward_op;

/* Bytes of all inputs and outputs of a node, each counted once: what it must move at least. An absent input
 * (rank -1) has none. */
double op_bytes(const Node *, const Shape in[], const Shape out[]);

/* Is it FLOAT32 or BFLOAT16, the types of activations? */
bool op_is_activation_type(DType);

/* How the weights and the bias of a layer start; fan_in, fan_out: products that go into an output, and that an input
 * goes into. */
Init op_weight_init(WeightInit, double fan_in, double fan_out);
Init op_bias_init(WeightInit, double fan_in);

/* For shape rules: STATUS_INTERNAL "WHAT is ..., but must be ..." unless both are equal. */
CHECKED Status op_expect_shape(Shape got, Shape want, const char *what);

#endif
