/* Attributes that cuDNN calls deprecated: a plan takes its handle so in all versions 9, the other way in the
 * newest alone. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include "engine/ops/cudnn/cuda_convolution.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/device/cuda_library.h"
#include "engine/ops/cudnn/engine_cache.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_CANDIDATES = 10, /* are timed: the heuristics' order is good, and building one may take a second */
    MOST_OF_ONE_ENGINE = 4,
    MOST_CONFIGS = 64, /* at most 100: the cache has two digits */
    MOST_DESCRIPTORS = 16 + MOST_CONFIGS,
    ALIGNED = 16, /* bytes, of whole tensors */
    UID_X = 'x',
    UID_WEIGHTS = 'w',
    UID_Y = 'y'
};
static const int64_t most_workspace = (int64_t)1 << 30;

struct CudaConvolution {
    CudaConvolution *next;
    char key[ENGINE_KEY_BYTES];
    int users;
    const Cudnn *cudnn;
    ConvolutionProblem problem;
    /* All that was made for it, in order: a plan may refer to what it was made of. */
    cudnnBackendDescriptor_t made[MOST_DESCRIPTORS];
    int made_count;
    cudnnBackendDescriptor_t graph, config[MOST_CONFIGS], plan;
    int configs, fallback; /* of config: how many; where those of the fallback begin */
    int64_t workspace;
};

/* Equal problems share one. */
static CudaConvolution *all;
static pthread_mutex_t all_mutex = PTHREAD_MUTEX_INITIALIZER;

/* ---- descriptors ---- */

typedef cudnnBackendDescriptor_t Descriptor;

static Status make(CudaConvolution *c, cudnnBackendDescriptorType_t type, Descriptor *out)
{
    *out = NULL;
    if (c->made_count == MOST_DESCRIPTORS)
        return fail(STATUS_INTERNAL, "too many descriptors for a convolution");
    TRY(cudnn_status(c->cudnn, c->cudnn->BackendCreateDescriptor(type, out), "a descriptor"));
    c->made[c->made_count++] = *out;
    return OK;
}

static Status set(const CudaConvolution *c, Descriptor descriptor, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    return cudnn_status(c->cudnn, c->cudnn->BackendSetAttribute(descriptor, name, type, count, values),
                        "an attribute");
}

static Status finalize(const CudaConvolution *c, Descriptor descriptor, const char *what)
{
    return cudnn_status(c->cudnn, c->cudnn->BackendFinalize(descriptor), what);
}

static cudnnDataType_t data_type(DType type)
{
    return type == BFLOAT16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* extent and stride as cuDNN counts: [N, C, H, W] whatever the order in memory. */
static Status make_tensor(CudaConvolution *c, int64_t uid, DType type, const int64_t extent[4],
                          const int64_t stride[4], int64_t alignment, Descriptor *out)
{
    const cudnnDataType_t element = data_type(type);
    TRY(make(c, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    TRY(set(c, *out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid));
    TRY(set(c, *out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &element));
    TRY(set(c, *out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment));
    TRY(set(c, *out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, extent));
    TRY(set(c, *out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride));
    return finalize(c, *out, "a tensor");
}

/* Pixels of `channels` elements, `pitch` apart. */
static Status make_image(CudaConvolution *c, int64_t uid, int64_t channels, int64_t height, int64_t width,
                         int64_t pitch, int64_t alignment, Descriptor *out)
{
    const int64_t extent[] = {c->problem.shape.samples, channels, height, width};
    const int64_t stride[] = {height * width * pitch, 1, width * pitch, pitch};
    return make_tensor(c, uid, c->problem.type, extent, stride, alignment, out);
}

static Status make_convolution(CudaConvolution *c, Descriptor *out)
{
    const ConvAttributes *a = &c->problem.shape;
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dimensions = 2, dilation[] = {1, 1}, stride[] = {a->stride, a->stride};
    const int64_t padding[] = {a->padding_height, a->padding_width};
    TRY(make(c, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
    TRY(set(c, *out, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute));
    TRY(set(c, *out, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    TRY(set(c, *out, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dimensions));
    TRY(set(c, *out, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation));
    TRY(set(c, *out, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride));
    TRY(set(c, *out, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding));
    TRY(set(c, *out, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding));
    return finalize(c, *out, "a convolution");
}

/* What the three operations call the same things. */
static const struct {
    cudnnBackendDescriptorType_t operation;
    cudnnBackendAttributeName_t alpha, beta, convolution, x, weights, y;
} names[] = {
    [CONVOLUTION_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
    [CONVOLUTION_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
    [CONVOLUTION_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
};

static Status make_graph(CudaConvolution *c)
{
    const ConvolutionProblem *p = &c->problem;
    const ConvAttributes *a = &p->shape;
    const int64_t extent[] = {a->out_channels, a->channels, a->kernel_height, a->kernel_width};
    const int64_t stride[] = {a->kernel_height * a->kernel_width * a->channels, 1,
                              a->kernel_width * a->channels, a->channels};
    const float one = 1, zero = 0;
    Descriptor x, weights, y, convolution, operation;
    TRY(make_image(c, UID_X, a->channels, a->height, a->width, p->x_stride, p->x_alignment, &x));
    TRY(make_tensor(c, UID_WEIGHTS, p->type, extent, stride, ALIGNED, &weights));
    TRY(make_image(c, UID_Y, a->out_channels, a->out_height, a->out_width, p->y_stride, p->y_alignment, &y));
    TRY(make_convolution(c, &convolution));
    TRY(make(c, names[p->kind].operation, &operation));
    TRY(set(c, operation, names[p->kind].convolution, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &convolution));
    TRY(set(c, operation, names[p->kind].x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x));
    TRY(set(c, operation, names[p->kind].weights, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &weights));
    TRY(set(c, operation, names[p->kind].y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y));
    TRY(set(c, operation, names[p->kind].alpha, CUDNN_TYPE_FLOAT, 1, &one));
    TRY(set(c, operation, names[p->kind].beta, CUDNN_TYPE_FLOAT, 1, &zero));
    TRY(finalize(c, operation, "a convolution"));
    TRY(make(c, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &c->graph));
    TRY(set(c, c->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->cudnn->handle));
    TRY(set(c, c->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &operation));
    return finalize(c, c->graph, "a graph of one convolution");
}

/* ---- engines ---- */

/* Appends the engines that a mode of the heuristics names, best first. None is no error. */
static Status ask_heuristics(CudaConvolution *c, cudnnBackendHeurMode_t mode)
{
    Descriptor heuristics;
    int64_t count = 0;
    TRY(make(c, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics));
    TRY(set(c, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
            &c->graph));
    TRY(set(c, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    if (c->cudnn->BackendFinalize(heuristics) != CUDNN_STATUS_SUCCESS) return OK;
    if (c->cudnn->BackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, NULL) != CUDNN_STATUS_SUCCESS)
        return OK;
    const int room = MOST_CONFIGS / 2 - (c->configs > MOST_CONFIGS / 2 ? MOST_CONFIGS / 2 : 0);
    if (count > room) count = room;
    Descriptor *config = &c->config[c->configs];
    for (int64_t i = 0; i < count; ++i)
        TRY(make(c, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[i]));
    int64_t given = 0;
    if (count > 0)
        TRY(cudnn_status(c->cudnn,
                         c->cudnn->BackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &given, config),
                         "the heuristics' results"));
    c->configs += (int)given;
    return OK;
}

/* What is known of an engine before it is built. */
typedef struct {
    bool allowed;   /* its arithmetic is what was asked for */
    bool compiled;  /* at run time, which takes most of a second */
    int64_t number; /* which of cuDNN's it is; -1: unknown */
} Engine;

static bool is_arithmetic_allowed(DType type, cudnnBackendNumericalNote_t note, DeviceNumerics numerics)
{
    const bool exact = type == FLOAT32 && !numerics.tf32;
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
        return !numerics.deterministic;
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: /* float32 there is TF32 */
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        return !exact;
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION: /* sums are float32 */
        return false;
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6: /* large tiles lose what float32 is asked for */
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13:
        return type != FLOAT32;
    default:
        return true;
    }
}

static Engine engine_of(const CudaConvolution *c, Descriptor config, DeviceNumerics numerics)
{
    const Cudnn *cudnn = c->cudnn;
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behavior[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    Engine engine = {.number = -1};
    Descriptor descriptor = NULL;
    int64_t count = 0;
    if (cudnn->BackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &descriptor) != CUDNN_STATUS_SUCCESS)
        return engine;
    engine.allowed =
        cudnn->BackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                   &count, &descriptor) == CUDNN_STATUS_SUCCESS &&
        cudnn->BackendGetAttribute(descriptor, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                   CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, note) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; i < count && engine.allowed; ++i)
        engine.allowed = is_arithmetic_allowed(c->problem.type, note[i], numerics);
    if (cudnn->BackendGetAttribute(descriptor, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                   CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count, behavior) == CUDNN_STATUS_SUCCESS)
        for (int64_t i = 0; i < count; ++i)
            engine.compiled = engine.compiled || behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    if (cudnn->BackendGetAttribute(descriptor, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count,
                                   &engine.number) != CUDNN_STATUS_SUCCESS)
        engine.number = -1;
    (void)cudnn->BackendDestroyDescriptor(descriptor);
    return engine;
}

/* Many engines refuse a problem only now. */
static bool build_plan(const CudaConvolution *c, Descriptor config, Descriptor *plan, int64_t *workspace)
{
    const Cudnn *cudnn = c->cudnn;
    int64_t count = 0;
    *plan = NULL;
    if (cudnn->BackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, plan) != CUDNN_STATUS_SUCCESS)
        return false;
    const bool built =
        cudnn->BackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                   &cudnn->handle) == CUDNN_STATUS_SUCCESS &&
        cudnn->BackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                   CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config) == CUDNN_STATUS_SUCCESS &&
        cudnn->BackendFinalize(*plan) == CUDNN_STATUS_SUCCESS &&
        cudnn->BackendGetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                   &count, workspace) == CUDNN_STATUS_SUCCESS &&
        *workspace <= most_workspace;
    if (built) return true;
    (void)cudnn->BackendDestroyDescriptor(*plan);
    *plan = NULL;
    return false;
}

/* Takes that engine, if it may be taken and takes the problem. */
static bool take(CudaConvolution *c, int index, DeviceNumerics numerics)
{
    return index >= 0 && index < c->configs && engine_of(c, c->config[index], numerics).allowed &&
           build_plan(c, c->config[index], &c->plan, &c->workspace);
}

/* ---- running ---- */

Status cuda_convolution_run(CudaConvolution *c, Device *device, void *x, void *weights, void *y,
                            void *workspace)
{
    static const int64_t uid[] = {UID_X, UID_WEIGHTS, UID_Y};
    void *const data[] = {x, weights, y};
    const Cudnn *cudnn = c->cudnn;
    Descriptor pack;
    TRY(cudnn_status(cudnn, cudnn->BackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack),
                     "a pack"));
    Status status = set(c, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uid);
    if (status == OK)
        status = set(c, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, data);
    if (status == OK)
        status = set(c, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (status == OK) status = finalize(c, pack, "a pack");
    if (status == OK)
        status = cudnn_status(cudnn, cudnn->SetStream(cudnn->handle, device_stream(device)), "its stream");
    if (status == OK)
        status =
            cudnn_status(cudnn, cudnn->BackendExecute(cudnn->handle, c->plan, pack), "running a convolution");
    (void)cudnn->BackendDestroyDescriptor(pack);
    return status;
}

/* ---- timing ---- */

typedef struct {
    CudaConvolution *convolution;
    Device *device;
    char *memory; /* x, weights, y, workspace, one after the other */
    size_t weights_at, y_at, workspace_at;
} Trial;

static size_t after(size_t at, int64_t elements, DType type)
{
    enum { LINE = 256 };
    return (at + (size_t)elements * dtype_size(type) + LINE - 1) / LINE * LINE;
}

static Status run_trial(void *argument)
{
    const Trial *t = argument;
    return cuda_convolution_run(t->convolution, t->device, t->memory, t->memory + t->weights_at,
                                t->memory + t->y_at, t->memory + t->workspace_at);
}

typedef struct {
    int count;
    Descriptor plan[MOST_CANDIDATES];
    int index[MOST_CANDIDATES]; /* among the heuristics' configs */
    int64_t workspace[MOST_CANDIDATES];
} Candidates;

/* Builds those that deserve a trial. */
static void build_candidates(Device *device, const CudaConvolution *c, Candidates *candidates)
{
    Engine engine[MOST_CANDIDATES];
    candidates->count = 0;
    for (int i = 0; i < c->configs && candidates->count < MOST_CANDIDATES; ++i) {
        const int count = candidates->count;
        int same = 0;
        engine[count] = engine_of(c, c->config[i], device_numerics(device));
        if (!engine[count].allowed) continue;
        /* Where others are, one of the fallback is not worth the time that its compiler takes. */
        if (i >= c->fallback && engine[count].compiled && count > 0) continue;
        /* The heuristics often name one engine many times, with other tiles; others deserve a trial too. */
        for (int other = 0; other < count; ++other)
            same += engine[other].number >= 0 && engine[other].number == engine[count].number ? 1 : 0;
        if (same >= MOST_OF_ONE_ENGINE ||
            !build_plan(c, c->config[i], &candidates->plan[count], &candidates->workspace[count]))
            continue;
        candidates->index[candidates->count++] = i;
    }
}

static Status allocate_trial(Device *device, const CudaConvolution *c, const Candidates *candidates,
                             Trial *trial)
{
    const ConvAttributes *a = &c->problem.shape;
    int64_t most = 0;
    for (int i = 0; i < candidates->count; ++i)
        most = candidates->workspace[i] > most ? candidates->workspace[i] : most;
    trial->weights_at = after(0, a->samples * a->height * a->width * c->problem.x_stride, c->problem.type);
    trial->y_at = after(trial->weights_at, a->out_channels * a->kernel_height * a->kernel_width * a->channels,
                        c->problem.type);
    trial->workspace_at =
        after(trial->y_at, a->samples * a->out_height * a->out_width * c->problem.y_stride, c->problem.type);
    return device_allocate(device, trial->workspace_at + (size_t)most, "timing convolutions",
                           (void **)(void *)&trial->memory);
}

/* The fastest; an engine that does not run is not chosen. */
static Status time_candidates(Device *device, CudaConvolution *c, const Candidates *candidates, int *best)
{
    Trial trial = {.convolution = c, .device = device};
    TRY(allocate_trial(device, c, candidates, &trial));
    double shortest = 0;
    Status failure = OK; /* the last engine's that did not run */
    for (int i = 0; i < candidates->count; ++i) {
        double seconds;
        c->plan = candidates->plan[i];
        Status ran = device_time(device, run_trial, &trial, &seconds);
        if (ran != OK) {
            status_free(failure);
            failure = ran;
            continue;
        }
        if (shortest == 0 || seconds < shortest) {
            shortest = seconds;
            *best = i;
        }
    }
    c->plan = NULL;
    device_free(device, trial.memory);
    Status status = OK;
    if (failure != OK && shortest == 0)
        status = fail(STATUS_UNSUPPORTED, "none of %d engines runs: %s", candidates->count,
                      status_message(failure));
    status_free(failure);
    return status;
}

/* Does the plan that was taken run, plainly and recorded? Where no memory is left to try it, it is believed to. */
static bool runs(Device *device, CudaConvolution *c)
{
    const Candidates only = {.count = 1, .workspace = {c->workspace}};
    Trial trial = {.convolution = c, .device = device};
    Status status = allocate_trial(device, c, &only, &trial);
    bool good = status != OK;
    if (status == OK) {
        status = device_try(device, run_trial, &trial);
        good = status == OK;
        device_free(device, trial.memory);
    }
    status_free(status);
    return good;
}

/* Takes the fastest of all candidates. Without memory to time them it is the first that the heuristics name, and
 * *timed is false. *index: its own, -1 if there is none. */
static Status take_fastest(Device *device, CudaConvolution *c, int *index, bool *timed)
{
    Candidates candidates;
    build_candidates(device, c, &candidates);
    int best = 0;
    Status status = candidates.count > 1 ? time_candidates(device, c, &candidates, &best) : OK;
    *timed = status == OK;
    if (status != OK && status_code(status) == STATUS_MEMORY) {
        static bool warned;
        if (!warned)
            log_warning("no memory to time the engines of a convolution, so the first is taken: %s",
                        status_message(status));
        warned = true;
        status_free(status);
        status = OK;
    }
    *index = candidates.count > 0 ? candidates.index[best] : -1;
    for (int i = 0; i < candidates.count; ++i)
        if (status == OK && i == best) {
            c->plan = candidates.plan[i];
            c->workspace = candidates.workspace[i];
        } else {
            (void)c->cudnn->BackendDestroyDescriptor(candidates.plan[i]);
        }
    return status;
}

/* ---- choosing ---- */

/* What is known is read without waiting, for all ranks build plans and that takes time. Those to which nothing is
 * known take turns, so that one times and the others read what it found. */
static Status choose(Device *device, CudaConvolution *c)
{
    EngineCache cache;
    int index;
    bool timed;
    if (!engine_cache_open(&cache)) return take_fastest(device, c, &index, &timed);
    Status status = OK;
    for (bool chosen = false; !chosen;) {
        const int known = engine_cache_look_up(&cache, c->key);
        if (take(c, known, device_numerics(device))) break;
        engine_cache_lock(&cache);
        if (engine_cache_look_up(&cache, c->key) == known) { /* nobody found another meanwhile */
            status = take_fastest(device, c, &index, &timed);
            if (c->plan != NULL && timed) engine_cache_note(&cache, c->key, index);
            chosen = true;
        }
        engine_cache_unlock(&cache);
    }
    engine_cache_close(&cache);
    return status;
}

/* ---- making ---- */

static void write_key(const ConvolutionProblem *p, const Cudnn *cudnn, Device *device,
                      char key[ENGINE_KEY_BYTES])
{
    static const char *const kinds[] = {"forward", "data", "weights"};
    const ConvAttributes *a = &p->shape;
    const DeviceNumerics numerics = device_numerics(device);
    (void)snprintf(key, ENGINE_KEY_BYTES,
                   "%.100s cudnn %zu %s %s %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 "/%" PRId64
                   "@%" PRId64 " to %" PRId64 "x%" PRId64 "x%" PRId64 "/%" PRId64 "@%" PRId64
                   " kernel %" PRId64 "x%" PRId64 " stride %" PRId64 " padding %" PRId64 "x%" PRId64 "%s%s",
                   device_name(device), cudnn->version, kinds[p->kind], dtype_name(p->type), a->samples,
                   a->height, a->width, a->channels, p->x_stride, p->x_alignment, a->out_height, a->out_width,
                   a->out_channels, p->y_stride, p->y_alignment, a->kernel_height, a->kernel_width, a->stride,
                   a->padding_height, a->padding_width, numerics.tf32 ? " tf32" : "",
                   numerics.deterministic ? " deterministic" : "");
}

static void destroy(CudaConvolution *c)
{
    if (c->plan != NULL) (void)c->cudnn->BackendDestroyDescriptor(c->plan);
    while (c->made_count > 0)
        (void)c->cudnn->BackendDestroyDescriptor(c->made[--c->made_count]);
    free(c);
}

static Status build(Device *device, CudaConvolution *c)
{
    const DeviceNumerics numerics = device_numerics(device);
    TRY(make_graph(c));
    TRY(ask_heuristics(c, CUDNN_HEUR_MODE_A));
    c->fallback = c->configs;
    TRY(ask_heuristics(c, CUDNN_HEUR_MODE_FALLBACK));
    if (!numerics.deterministic) TRY(choose(device, c));
    /* The heuristics' order is the same in every run. */
    for (int i = 0; numerics.deterministic && i < c->configs && c->plan == NULL; ++i) {
        if (!take(c, i, numerics) || runs(device, c)) continue;
        (void)c->cudnn->BackendDestroyDescriptor(c->plan);
        c->plan = NULL;
    }
    if (c->plan == NULL) return fail(STATUS_UNSUPPORTED, "cuDNN %zu has no engine for it", c->cudnn->version);
    return OK;
}

Status cuda_convolution(Device *device, const ConvolutionProblem *problem, CudaConvolution **out)
{
    const Cudnn *cudnn;
    char key[ENGINE_KEY_BYTES];
    CudaConvolution *c;
    *out = NULL;
    TRY(cudnn_load(&cudnn));
    write_key(problem, cudnn, device, key);
    (void)pthread_mutex_lock(&all_mutex);
    for (c = all; c != NULL && strcmp(c->key, key) != 0; c = c->next)
        ;
    Status status = OK;
    if (c == NULL) {
        status = memory_new(&c, 1, sizeof *c, "a convolution");
        if (status == OK) {
            c->cudnn = cudnn;
            c->problem = *problem;
            memcpy(c->key, key, sizeof key);
            status = build(device, c);
            if (status != OK) {
                status = status_context(status, "convolution %s", key);
                destroy(c);
                c = NULL;
            } else {
                c->next = all;
                all = c;
            }
        }
    }
    if (status == OK) {
        ++c->users;
        *out = c;
    }
    (void)pthread_mutex_unlock(&all_mutex);
    return status;
}

void cuda_convolution_free(Device *device, CudaConvolution *c)
{
    (void)device;
    if (c == NULL) return;
    (void)pthread_mutex_lock(&all_mutex);
    if (--c->users == 0) {
        CudaConvolution **at = &all;
        while (*at != c)
            at = &(*at)->next;
        *at = c->next;
        destroy(c);
    }
    (void)pthread_mutex_unlock(&all_mutex);
}

size_t cuda_convolution_workspace(const CudaConvolution *c) { return (size_t)c->workspace; }
