/* What an op is: one constant descriptor. The engine's ops are listed in engine/ops/ops.c; losses bring
 * their own from losses/. */
#ifndef PLUMB_ENGINE_GRAPH_OP_H
#define PLUMB_ENGINE_GRAPH_OP_H

#include "engine/device/device.h"
#include "engine/graph/graph.h"

typedef struct Collective Collective; /* engine/device/collective.h */

/* Work of one run, for the profile and the report. */
typedef struct {
    double flops, bytes;
} Cost;

/* A tensor as a kernel sees it: `shape_rows` rows of `shape_columns` elements, `stride` elements apart
 * (stride == columns when dense, which is always so unless the kernel allows otherwise). */
typedef struct {
    void *data; /* NULL for an absent optional tensor */
    Shape shape;
    int64_t stride;
    int64_t column; /* inside wider rows: at which of theirs it begins; `data` is there already */
    const void
        *rounded; /* of a parameter, dense: its values as BFLOAT16, if the plan keeps them; else NULL */
    /* Of a parameter's gradient: where it may stand as BFLOAT16, dense, instead of in `data`; NULL: nowhere. A
     * kernel whose prepare sets `narrowed` always leaves it there, and the plan widens many at once. */
    void *narrow;
    bool narrowed;
    /* Of a parameter that changes seldom (PlanOptions.packs): a kernel whose prepare sets packed_bytes has in `packed` that
     * much memory, aligned to 64 bytes, for a form of its own. Its pack writes it, before the first run and after each
     * change. Kernels of one op that ask for the same form of a parameter share it. */
    bool packs;
    size_t packed_bytes;
    uint64_t packed_form; /* tells forms of as many bytes apart */
    void *packed;
} Tensor;

/* One node made ready on a device. Kernels read it; only prepare and release may change `state`. */
enum { CALL_MAX_TENSORS = 31 }; /* masks of tensors are of 32 bits */
typedef struct Call {
    const Node *node;
    const void *attributes; /* node->attributes */
    Tensor in[CALL_MAX_TENSORS], out[CALL_MAX_TENSORS];
    void *scratch; /* as many bytes as prepare asked for; contents do not survive the run */
    void *state;   /* the kernel's own: made in prepare, freed in release */
    Device *device;
    Collective *collective;        /* never NULL; ops that couple samples across ranks use it */
    bool wanted[CALL_MAX_TENSORS]; /* is output i used by anybody? a kernel may skip one that is not */
} Call;

typedef struct Kernel {
    /* Once a plan: shapes and strides are final, data pointers are not yet set. May be NULL. */
    Status (*prepare)(Call *, size_t *scratch_bytes);
    /* Only enqueues: allocates nothing, reads nothing from disk, never waits. */
    Status (*run)(const Call *);
    void (*release)(Call *);          /* may be NULL */
    uint32_t in_place;                /* bit i: output 0 may be the very memory of input i (same shape) */
    uint32_t strided_in, strided_out; /* bit i: this tensor may have stride > columns */
    Status (*pack)(const Call *);     /* NULL: it keeps no parameter in a form of its own */
} Kernel;

/* Of a declared kernel that a program may be linked without (those of CUDA): its address is then NULL, which
 * says that the op does not exist on that device. So all tables are compiled once, and the linker decides. */
#define OPTIONAL_KERNEL __attribute__((weak))

/* Values that need no memory of their own. The planner decides; kernels of CONCAT and SLICE copy what is not
 * already in place (data pointers and strides tell). */
typedef enum {
    ALIAS_NONE,
    ALIAS_RESHAPE, /* output 0 is input 0's memory, always; no kernel needed */
    ALIAS_CONCAT,  /* inputs may live inside output 0, at their column offset */
    ALIAS_SLICE    /* output 0 may live inside input 0, at the column offset of its SliceAttributes */
} Alias;

/* A chain of forward nodes rewritten as one (graph_fuse). The new node takes the place of the chain's last,
 * and makes its output 0; `output` are taken over from the chain (output[0] is the last node's), or NO_VALUE for one that
 * the chain does not make. */
typedef struct {
    const Op *op;
    int input_count, output_count;
    Value input[CALL_MAX_TENSORS], output[CALL_MAX_TENSORS];
    unsigned char attributes[512] __attribute__((aligned(16)));
    size_t attribute_bytes;
    int absorbed[4]; /* indices of the chain's other nodes, which vanish */
    int absorbed_count;
} Fusion;

struct Op {
    const char *name;
    int output_count;
    /* Checks inputs and gives the outputs' shapes (types included). An absent input has rank -1. */
    Status (*infer)(const Node *, const Shape in[], Shape out[]);
    /* Appends nodes that compute d_in from d_out. d_out[i] may be NO_VALUE (nobody needs that output);
     * d_in[i] starts as NO_VALUE and may stay so (no gradient). NULL: not differentiable. `node` stays valid.
     * wanted[i]: is the gradient of input i needed at all? For a loss d_out[0] is ROOT_GRADIENT. */
    void (*gradient)(Graph *, const Node *, const Value d_out[], const bool wanted[], Value d_in[]);
    Cost (*cost)(const Node *, const Shape in[],
                 const Shape out[]); /* NULL: bytes of all tensors, no flops */
    /* Can the chain that ends in this node become one? Called once a forward node, in order. May be NULL. */
    bool (*fuse)(const Graph *, int node, Fusion *);
    /* > 0: that input is optional and, given, is added to output 0; differentiation then spares an `add`. */
    int addend;
    uint32_t gathers; /* bit i: of input i, a table, a run reads some rows only, as float32 */
    Alias alias;
    const Kernel *kernel[DEVICE_KINDS]; /* NULL: not on this device */
};

/* The sum of two values of one shape: the only op that differentiation itself appends. engine/ops provides it. */
extern const Op add_op;

#endif
