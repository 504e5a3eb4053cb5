/* The graph: a pure description of a computation. Nodes stand in execution order; nothing here owns
 * memory for data or knows a device, so the same graph is planned on CPU and on CUDA.
 *
 * A network is a C function that calls builders (engine/ops/ops.h):
 *
 *     x = conv2d(graph, "conv1", x, (Conv2d){.channels = 64, .kernel = 3, .padding = 1});
 *     x = relu(graph, batch_norm(graph, "bn1", x, (BatchNorm){0}));
 *
 * Builders never fail in the middle: the first error sticks to the graph with the scope it arose in, later
 * calls do nothing and return NO_VALUE, and graph_finish returns the error. */
#ifndef PLUMB_ENGINE_GRAPH_GRAPH_H
#define PLUMB_ENGINE_GRAPH_GRAPH_H

#include "engine/base/dtype.h"
#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* A dense tensor's type. Images are [samples, height, width, channels]; convolution weights are
 * [out, height, width, in]; FileLayout says how files hold them. */
enum { SHAPE_MAX_RANK = 5 };
typedef struct {
    DType type;
    int rank;
    int64_t extent[SHAPE_MAX_RANK];
} Shape;

int64_t shape_count(Shape);     /* elements; 1 for rank 0 */
int64_t shape_rows(Shape);      /* product of all extents but the last; 1 for rank 0 and 1 */
int64_t shape_columns(Shape);   /* the last extent; 1 for rank 0 */
size_t shape_bytes(Shape);      /* dense */
bool shape_equal(Shape, Shape); /* type, rank and extents */
Shape shape_of(DType type, int rank, const int64_t extent[]);
/* "float32[64, 32, 32, 3]" into text; returns text. */
enum { SHAPE_TEXT = 160 };
const char *shape_text(Shape, char text[SHAPE_TEXT]);

/* A tensor in a graph: a handle, no pointer. */
typedef struct {
    int32_t id;
} Value;
#define NO_VALUE ((Value){-1})
static inline bool value_exists(Value value) { return value.id >= 0; }
static inline bool value_equal(Value a, Value b) { return a.id == b.id; }

typedef enum {
    ROLE_INPUT,     /* the caller fills or binds it before each run */
    ROLE_PARAMETER, /* trained; lives in the store under its name */
    ROLE_STATE,     /* not trained, kept between runs; lives in the store (running statistics, caches) */
    ROLE_RESULT     /* made by a node */
} Role;

/* How parameters and states start; drawn from (seed, hash of the name, element). */
typedef enum { INIT_ZEROS, INIT_ONES, INIT_UNIFORM, INIT_NORMAL } InitKind;
typedef struct {
    InitKind kind;
    double scale; /* UNIFORM: values in [-scale, scale); NORMAL: standard deviation */
} Init;

/* How files order the elements of a parameter, and of the optimizer's state for it: as PyTorch does. */
typedef enum {
    FILE_AS_IN_MEMORY,
    FILE_CONVOLUTION_2D, /* in memory [out, height, width, in]; in files [out, in, height, width] */
    FILE_CONVOLUTION_1D  /* in memory [out, 1, width, in]; in files [out, in, width] */
} FileLayout;

/* How files name a parameter, where not by its own name alone. */
enum { FILE_NAMES_MAX = 3 };
typedef struct {
    int parts;                          /* 0, or: files hold so many tensors, equal shares of its rows, */
    const char *part[FILE_NAMES_MAX];   /* of these full names */
    int others;                         /* starting weights may also have */
    const char *other[FILE_NAMES_MAX];  /* these full names: copies of it, or it itself */
    int beside_count;                   /* and beside the network's parameters */
    const char *beside[FILE_NAMES_MAX]; /* what fits these patterns of fnmatch(3), which is passed over */
} FileNames;

/* How a parameter is trained. */
typedef enum {
    TRAINED,         /* its gradient has its shape */
    TRAINED_BY_ROWS, /* a table of which a batch uses some rows: the gradient holds these rows alone */
    FROZEN           /* no gradient, and no work for one */
} TrainingKind;

typedef enum { GRAPH_TRAIN, GRAPH_EVALUATE } GraphMode;
typedef enum { PHASE_FORWARD, PHASE_BACKWARD } Phase;

typedef struct Graph Graph;
typedef struct Node Node;
typedef struct Op Op; /* engine/graph/op.h */

/* compute: FLOAT32 or BFLOAT16, the type of activations (parameters, statistics and losses stay FLOAT32).
 * Never NULL-returning on success; release with graph_free. */
CHECKED Status graph_create(GraphMode mode, DType compute, Graph **);
void graph_free(Graph *); /* NULL is allowed */
GraphMode graph_mode(const Graph *);
DType graph_compute_type(const Graph *);

/* ---- building ---- */

/* Nest names: between enter("layer1") and leave, a parameter "weight" is "layer1.weight". An empty name
 * adds nothing. */
void graph_enter(Graph *, const char *name);
__attribute__((format(printf, 2, 3))) void graph_enter_format(Graph *, const char *format, ...);
void graph_leave(Graph *);
/* The current scope, "layer1.0"; "" outside of all. Valid until the next enter or leave. */
const char *graph_scope(const Graph *);

/* Values that no node makes. Names of inputs stand as given; parameters' and states' are nested in the scope.
 * Asking for the same parameter or state again (shared weights) returns the same value. */
Value graph_input(Graph *, const char *name, Shape);
/* An input that the caller always binds to its own memory (plan_bind): the plan sets none aside for it. */
Value graph_external_input(Graph *, const char *name, Shape);
Value graph_parameter(Graph *, const char *name, Shape, Init);
Value graph_parameter_with_layout(Graph *, const char *name, Shape, Init, FileLayout);
Value graph_state(Graph *, const char *name, Shape, Init);
/* A state that no checkpoint holds and that ranks do not share (a decoder's cache). All programs of a store that
 * name it share it. */
Value graph_transient_state(Graph *, const char *name, Shape, Init);

/* Names are copied. Parts need a number of rows that they divide. */
void graph_set_file_names(Graph *, Value parameter, FileNames);

/* Row `row` of a parameter starts at zero, whatever its Init (an embedding's padding). */
void graph_start_row_at_zero(Graph *, Value parameter, int64_t row);
/* Before graph_differentiate; TRAINED unless said otherwise. Only tables that are read by `embedding` once in the
 * graph, and by nothing else, can be TRAINED_BY_ROWS; graph_differentiate names the op that stands against it. */
void graph_set_training(Graph *, Value parameter, TrainingKind);

/* The clock: an int64[5] input {seed, epoch, step, first sample, padding}: the place in the global batch's order of the
 * first sample that this run of the program takes (of this rank's part of the batch), and how many samples at the end of
 * that part are padding. From the clock ops take what changes between runs
 * (dropout's mask, a scheduled gamma, the rows of a ragged batch that batch norm counts), so that nothing is
 * rebuilt when it does. The same value whenever asked. Filled by the trainer. */
enum { CLOCK_SEED, CLOCK_EPOCH, CLOCK_STEP, CLOCK_FIRST_SAMPLE, CLOCK_PADDING, CLOCK_COUNT };
Value graph_clock(Graph *);

/* Appends a node; attributes are copied. Returns its first output, or NO_VALUE after an error.
 * inputs may hold NO_VALUE where the op allows it. */
Value graph_node(Graph *, const Op *, const Value inputs[], int input_count, const void *attributes,
                 size_t attribute_bytes);
/* Output `index` of the node that made `first` (one of its outputs). */
Value graph_output(const Graph *, Value first, int index);

/* Keeps a value readable after a run (plan_data); without it memory is reused after the last use. */
void graph_keep(Graph *, Value);

/* Sticks an error to the graph (the first one wins), with the scope before the message. */
__attribute__((format(printf, 3, 4))) void graph_fail(Graph *, StatusCode, const char *format, ...);
bool graph_failed(const Graph *);

/* Rewrites chains into single nodes: batch_norm -> relu, batch_norm -> add -> relu. Before differentiation,
 * so that the backward of the pair is one node too. Returns how many chains were fused. */
int graph_fuse(Graph *);

/* The gradient of the loss itself: the constant 1. Only ops that can end a graph (losses, dot) accept it. */
#define ROOT_GRADIENT ((Value){-2})
static inline bool value_is_root_gradient(Value value) { return value.id == -2; }

/* Appends the backward pass of `loss` (its first element is what is differentiated). The gradient of each
 * parameter that the loss depends on can then be asked for; NO_VALUE for others. Call once. */
void graph_differentiate(Graph *, Value loss);
Value graph_gradient(const Graph *, Value of);
/* The gradient of a table that is TRAINED_BY_ROWS is output 0 of a node with three outputs (graph_output):
 *     0  FLOAT32 [most rows, columns]: the gradients of the rows,
 *     1  INT32 [most rows]: which rows, ascending, each once,
 *     2  INT32 [1]: how many there are; what stands behind them has no meaning. */
/* Also wanted: the gradient of this input or result (tests, adversarial inputs). Call before
 * graph_differentiate. */
void graph_want_gradient(Graph *, Value);

/* The first error, with the scope; else OK after checking that scopes are balanced. */
CHECKED Status graph_finish(Graph *);

/* ---- reading ---- */

struct Node {
    const Op *op;
    const char *scope; /* "layer1.0.conv1" */
    Phase phase;
    int input_count, output_count;
    const Value *input; /* may hold NO_VALUE */
    const Value *output;
    const void *attributes;
    int32_t forward; /* for backward nodes: index of the node whose gradient this is; else -1 */
};

int graph_node_count(const Graph *);
const Node *graph_node_at(const Graph *, int index);
/* STATUS_INPUT for a pattern of fnmatch(3) that fits no parameter's name: it names the nearest. */
CHECKED Status graph_check_pattern(const Graph *, const char *pattern);
/* Is a parameter that the pattern fits ("": any) a table, of which a run reads some rows only? */
bool graph_pattern_fits_table(const Graph *, const char *pattern);
int graph_value_count(const Graph *); /* values are {0} .. {count - 1} */
Shape graph_shape(const Graph *, Value);
Role graph_role(const Graph *, Value);
const char *graph_name(const Graph *, Value); /* inputs, parameters, states; for results "scope.op" */
Init graph_init(const Graph *, Value);
FileLayout graph_file_layout(const Graph *, Value);      /* of a parameter; FILE_AS_IN_MEMORY for others */
const FileNames *graph_file_names(const Graph *, Value); /* of a parameter */
int64_t graph_zero_row(const Graph *, Value);            /* which row starts at zero; -1: none */
TrainingKind graph_training(const Graph *, Value);
bool graph_is_transient(const Graph *, Value);
bool graph_is_kept(const Graph *, Value);
bool graph_is_external(const Graph *, Value);
int graph_producer(const Graph *, Value);          /* node index, or -1 */
int graph_use_count(const Graph *, Value);         /* inputs of nodes that are this value, plus one if kept */
Value graph_find(const Graph *, const char *name); /* input, parameter or state; NO_VALUE if absent */

#endif
