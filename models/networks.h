/* The families of networks that models/models.c lists: their sizes, and the functions of a Model (models/model.h). */
#ifndef PLUMB_MODELS_NETWORKS_H
#define PLUMB_MODELS_NETWORKS_H

#include "models/model.h"

/* linear.c */
Value linear_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

/* resnet.c: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in the form for small
 * images: 3x3 stride-1 stem, no max pool. */
typedef struct {
    bool bottleneck;
    int64_t width; /* of stem and first stage */
    int stages;
    int64_t blocks[MODEL_MAX_STAGES];
    int64_t window; /* of the average before the classifier; 0: the whole map */
} Resnet;
Status resnet_read(const Config *, ModelOptions *);
Value resnet_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

/* tiny_imagenet_resnet.c: takes the Resnet's width, stages and blocks. */
Value tiny_imagenet_resnet_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

/* wide_resnet.c: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, in the published code's form:
 * normalisation and ReLU after each convolution, stem of 16 channels. */
Status wide_resnet_read(const Config *, ModelOptions *);
Value wide_resnet_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

/* document_network.c: global_pooling_cnn (global_pooling_cnn.h) over a table of word vectors, embedding.weight, whose
 * row 0 is padding. */
Status document_network_read(const Config *, ModelOptions *);
Value document_network_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

/* tree_network.c: tree_lstm_logits (tree_lstm.h) over a table of word vectors, embedding.weight. */
Status tree_network_read(const Config *, ModelOptions *);
Value tree_network_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

/* translation_network.c: encoder, decoder and logits of transformer.h. */
typedef struct {
    int64_t width, feed_forward_width, heads, layers;
    double dropout;
} PublishedTransformer;
Status translation_network_read(const Config *, ModelOptions *);
Value translation_network_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

/* densenet.c: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017. */
typedef struct {
    int64_t growth;
    int64_t blocks[MODEL_MAX_STAGES];
} Densenet;
Status densenet_read(const Config *, ModelOptions *);
Value densenet_build(Graph *, const ModelOptions *, const Value input[], int64_t classes);

#endif
