/* A network with its loss, built from settings the way the trainer does it, for suites that run whole steps.
 * Images and tensors of golden cases are in PyTorch's layout and in double; conversion is done here. */
#ifndef PLUMB_TESTS_NETWORK_H
#define PLUMB_TESTS_NETWORK_H

#include "tests/golden.h"

#include "engine/base/config.h"
#include "launch/train/program.h"
#include "losses/loss.h"
#include "models/model.h"

#include <cjson/cJSON.h>

double item_number(const cJSON *object, const char *key);

/* The extents a file has: [out, in, height, width] for a weight of rank 4. */
Shape pytorch_shape(Shape);
/* Values in PyTorch's order to ours and back; a copy for ranks other than 4. */
void from_pytorch(Shape, const double *values, float *ours);
void to_pytorch(Shape, const float *ours, double *values);

/* A config of the program's settings alone: "key=value" words, NULL-terminated. */
enum { NETWORK_MAX_SETTINGS = 16 };
Config *config_of(const char *const settings[]);

/* The graph of the network alone, from images [samples, rows, columns, channels] to "logits"; fails the test
 * on an error. */
Graph *network_graph(const Config *, GraphMode, DType compute, const int64_t images[4], int64_t classes,
                     Value *logits);

typedef struct {
    Config *config;
    ModelOptions model;
    LossOptions loss;
    DType compute;
    int64_t images[4], classes;
    Device *device;
    Store *store;
    Arena *arena;
    Collective *collective;
} Network;
/* images: samples, rows, columns, channels. */
void network_open(Network *, const char *const settings[], DType compute, const int64_t images[4],
                  int64_t classes);
void network_close(Network *);

/* What golden cases say of the published networks: the settings that build the network of "params/built". Fails the test for
 * a network that the table there does not know. */
typedef struct {
    char text[4][128];
    const char *settings[NETWORK_MAX_SETTINGS]; /* the last of them NULL; more may be added */
    int count;
} NetworkSettings;
void network_settings(const GoldenCase *, NetworkSettings *);

/* All parameters and states from the case's inputs "weights" and "index" (num_batches_tracked is in neither), and the same from
 * the store, in the order of the index; release with free(). */
void network_load(Network *, const GoldenCase *);
typedef enum { TENSORS_ALL, TENSORS_STATES, TENSORS_GRADIENTS } Tensors;
double *network_tensors(Network *, const GoldenCase *, Tensors, int64_t *count);

/* |got - want| / |want| over whole vectors. */
double relative_distance(const double *got, const double *want, int64_t count);

/* One plan of the network. */
typedef struct {
    GraphMode mode;
    bool forward_only;    /* no gradients */
    bool separate_nodes;  /* not fused */
    bool separate_memory; /* nothing shared */
} StepOptions;
typedef struct {
    Network *network;
    Program program;
} NetworkStep;
void network_step_open(NetworkStep *, Network *, StepOptions);
void network_step_close(NetworkStep *);
/* Runs it on the samples first .. first + batch - 1 of images [*, channels, rows, columns]. */
void network_step_run(NetworkStep *, const double *images, const double *labels, int64_t first);
const float *network_step_logits(NetworkStep *);
const double *network_step_sums(NetworkStep *); /* LOSS_SUMS of them */

#endif
