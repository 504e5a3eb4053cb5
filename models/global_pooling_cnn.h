/* The global-pooling network for documents of Kumar, Sarawagi and Jain, "Trainable Calibration Measures for Neural
 * Networks from Kernel Mean Embeddings", ICML 2018, as their code for 20 Newsgroups has it: three convolutions over the
 * words' vectors with ReLU, maximum pooling behind the first two, the maximum over all positions behind the third, a
 * dense layer with ReLU, dropout, and the classifier. Glorot's uniform initialisation, biases 0.
 *
 * Cropping. Documents have their padding in front. A batch may be cropped to fewer positions, from the front, with
 * the same logits and the same gradients (up to the order of sums), if
 *
 *   - a document that loses positions keeps at least global_pooling_cnn_field() positions of padding, so the batch
 *     has its longest document's length and that many more positions (or all);
 *   - every position of padding has the same vector (whatever it is; not a trained one of its own position);
 *   - the positions that go are a multiple of pool_stride squared (of 1: any).
 *
 * Why: the last convolution's output at t depends on `field` inputs from t on (pool_stride squared times t). Where all
 * of these are padding, every output is the same number in a channel; biases and ReLU change nothing in that. The outputs
 * that go are all of this kind, and at least one more of it, the new first one, stays: so no maximum changes. Ties: each
 * maximum sends its gradient to the first position that has it. If that is a window of padding, then it is the first
 * position of all, before and after cropping, and the inputs and the pooling windows below it are the same in both;
 * if it is not, then it stays. The vectors of padding receive the same gradient too, as a sum over positions. */
#ifndef PLUMB_MODELS_GLOBAL_POOLING_CNN_H
#define PLUMB_MODELS_GLOBAL_POOLING_CNN_H

#include "engine/graph/graph.h"

typedef struct {
    int64_t width;  /* channels of each convolution */
    int64_t kernel; /* words that a convolution sees */
    int64_t pool, pool_stride;
    int64_t dense; /* features */
    double dropout;
} GlobalPoolingCnn;
extern const GlobalPoolingCnn global_pooling_cnn_published; /* 128, 5, 5, 1, 128, 0.3 */

/* Words on which one output of the last convolution depends: 21 as published. */
int64_t global_pooling_cnn_field(const GlobalPoolingCnn *);

/* vectors [documents, positions, size] -> logits FLOAT32 [documents, classes]. Parameters conv1.weight, conv1.bias,
 * conv2..., conv3..., dense..., output.... An error says how many positions are needed at least. */
Value global_pooling_cnn(Graph *, Value vectors, const GlobalPoolingCnn *, int64_t classes);

#endif
