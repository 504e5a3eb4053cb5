/* A GPU as a device, through the CUDA runtime (linked statically; it finds the driver when the program runs,
 * so the program also starts on machines without one). */
#include "engine/base/memory.h"
#include "engine/device/cuda_kernels.h"
#include "engine/device/cuda_library.h"
#include "engine/device/device_methods.h"
#include "engine/device/staging.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int index;
    cudaStream_t stream;
    cudaEvent_t
        order;       /* of device_stream_follow; a wait refers to the event as it was recorded last before */
    Staging staging; /* its pinned memory is NULL: not yet made */
    cudaEvent_t reached[STAGING_EVENTS];
} Cuda;

static Status cuda_status(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return OK;
    (void)cudaGetLastError(); /* of launches; else the next one would be blamed */
    return fail(error == cudaErrorMemoryAllocation ? STATUS_MEMORY : STATUS_INTERNAL, "the GPU: %s: %s (%s)",
                what, cudaGetErrorString(error), cudaGetErrorName(error));
}

/* ---- which ---- */

static int count_cuda(Status *why)
{
    int count = 0, driver = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) return count;
    (void)cudaGetLastError();
    (void)cudaDriverGetVersion(&driver);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (driver == 0)
        *why = fail(
            STATUS_UNSUPPORTED,
            "this machine has no NVIDIA driver (libcuda.so.1 was not found): install it; start a container "
            "with its GPUs");
    else if (error == cudaErrorInsufficientDriver)
        *why = fail(STATUS_UNSUPPORTED,
                    "the NVIDIA driver is too old: it supports CUDA %d.%d, and this build needs %d.%d: "
                    "update the driver",
                    driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    else if (error == cudaSuccess || error == cudaErrorNoDevice)
        *why = fail(STATUS_UNSUPPORTED, "no NVIDIA GPU can be used here%s%s%s: ask for GPUs in the job",
                    visible != NULL ? " (CUDA_VISIBLE_DEVICES is \"" : "", visible != NULL ? visible : "",
                    visible != NULL ? "\")" : "");
    else
        *why = fail(STATUS_UNSUPPORTED, "the GPUs cannot be used: %s (%s)", cudaGetErrorString(error),
                    cudaGetErrorName(error));
    return 0;
}

static bool driver_function(void *driver, const char *name, void *function)
{
    void *found = dlsym(driver, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

/* The driver stays loaded: it may have started threads. */
static int visible_cuda(void)
{
    enum { MAJOR = 1000 };
    int (*version)(int *), (*start)(unsigned), (*count)(int *), number = 0;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver == NULL || !driver_function(driver, "cuDriverGetVersion", (void *)&version) ||
        !driver_function(driver, "cuInit", (void *)&start) ||
        !driver_function(driver, "cuDeviceGetCount", (void *)&count))
        return 0;
    if (version(&number) != 0 || number / MAJOR < CUDART_VERSION / MAJOR) return 0;
    return start(0) == 0 && count(&number) == 0 ? number : 0;
}

static bool has_driver_cuda(void)
{
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess && version > 0;
}

static void read_identity(const struct cudaDeviceProp *properties, char identity[64])
{
    int at = snprintf(identity, 64, "GPU-");
    for (int i = 0; i < 16; ++i)
        at += snprintf(identity + at, 64 - (size_t)at, "%02x", (unsigned char)properties->uuid.bytes[i]);
}

static Status describe(Device *device, const Cuda *cuda)
{
    struct cudaDeviceProp properties;
    TRY(cuda_status(cudaGetDeviceProperties(&properties, cuda->index), "its properties"));
    enum { OLDEST = 8 }; /* Ampere: what the kernels are compiled for, and bfloat16 */
    const double gigabyte = 1e9;
    if (properties.major < OLDEST)
        return fail(STATUS_UNSUPPORTED,
                    "GPU %d (%s) has compute capability %d.%d; plumb needs 8.0 (A100) or newer", cuda->index,
                    properties.name, properties.major, properties.minor);
    (void)snprintf(device->name, sizeof device->name, "%.200s, %.0f GB", properties.name,
                   (double)properties.totalGlobalMem / gigabyte);
    read_identity(&properties, device->identity);
    device->memory = properties.totalGlobalMem;
    device->bfloat16 = 1;
    return OK;
}

static void close_cuda(Device *device)
{
    Cuda *cuda = device->implementation;
    if (cuda == NULL) return;
    if (cuda->stream != NULL) (void)cudaStreamSynchronize(cuda->stream);
    for (int i = 0; i < STAGING_EVENTS; ++i)
        if (cuda->reached[i] != NULL) (void)cudaEventDestroy(cuda->reached[i]);
    if (cuda->order != NULL) (void)cudaEventDestroy(cuda->order);
    if (cuda->staging.memory != NULL) (void)cudaFreeHost(cuda->staging.memory);
    if (cuda->stream != NULL) (void)cudaStreamDestroy(cuda->stream);
    free(cuda);
    device->implementation = NULL;
}

/* ---- its queue, for staging.h ---- */

static Status enqueue_upload(void *queue, void *to, const void *pinned, size_t bytes)
{
    const Cuda *cuda = queue;
    return cuda_status(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, cuda->stream),
                       "a copy to it");
}

static Status enqueue_download(void *queue, void *pinned, const void *from, size_t bytes)
{
    const Cuda *cuda = queue;
    return cuda_status(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, cuda->stream),
                       "a copy from it");
}

static Status record_event(void *queue, int event)
{
    const Cuda *cuda = queue;
    return cuda_status(cudaEventRecord(cuda->reached[event], cuda->stream), "work given to it before");
}

static Status wait_for_event(void *queue, int event)
{
    const Cuda *cuda = queue;
    return cuda_status(cudaEventSynchronize(cuda->reached[event]), "work given to it before");
}

static Status drain(void *queue)
{
    const Cuda *cuda = queue;
    return cuda_status(cudaStreamSynchronize(cuda->stream), "work given to it before");
}

static const StagingQueue staging_queue = {enqueue_upload, enqueue_download, record_event, wait_for_event,
                                           drain};

static Status make(Device *device, Cuda *cuda)
{
    TRY(cuda_status(cudaSetDevice(cuda->index), "it cannot be used"));
    TRY(describe(device, cuda));
    TRY(cuda_status(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "a stream"));
    TRY(cuda_status(cudaEventCreateWithFlags(&cuda->order, cudaEventDisableTiming), "an event"));
    for (int i = 0; i < STAGING_EVENTS; ++i)
        TRY(cuda_status(cudaEventCreateWithFlags(&cuda->reached[i], cudaEventDisableTiming), "an event"));
    TRY(cuda_status(cudaMallocHost((void **)&cuda->staging.memory, STAGING_BYTES),
                    "pinned memory for copies"));
    device->stream = cuda->stream;
    return OK;
}

static Status open_cuda(Device *device, int index, int threads)
{
    Status why = OK;
    const int count = count_cuda(&why);
    if (count == 0) return why;
    if (index < 0 || index >= count)
        return fail(STATUS_INPUT, "there is no GPU %d: this process can use %d, numbered from 0", index,
                    count);
    if (threads > 0) omp_set_num_threads(threads);
    device->threads = omp_get_max_threads();
    Cuda *cuda;
    TRY(memory_new(&cuda, 1, sizeof *cuda, "device"));
    cuda->index = index;
    cuda->staging.methods = &staging_queue;
    cuda->staging.queue = cuda;
    device->implementation = cuda;
    const Status status = make(device, cuda);
    if (status != OK) close_cuda(device);
    return status;
}

/* ---- memory ---- */

static Status allocate_cuda(Device *device, size_t bytes, const char *what, void **memory)
{
    const Cuda *cuda = device->implementation;
    const size_t wanted = bytes > 0 ? bytes : 1;
    *memory = NULL;
    void *block = NULL;
    const cudaError_t error = cudaMallocAsync(&block, wanted, cuda->stream);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        size_t free_bytes = 0, total = 0;
        (void)cudaMemGetInfo(&free_bytes, &total);
        const double gigabyte = 1e9;
        return fail(STATUS_MEMORY,
                    "%s needs %.3f GB of the GPU's memory; %.3f of %.3f GB are free (%s). Use a smaller "
                    "batch, more ranks or "
                    "micro_batches",
                    what, (double)bytes / gigabyte, (double)free_bytes / gigabyte, (double)total / gigabyte,
                    device->name);
    }
    TRY(cuda_status(error, what));
    Status status = cuda_status(cudaMemsetAsync(block, 0, wanted, cuda->stream), what);
    /* Other streams may use it at once. */
    if (status == OK) status = cuda_status(cudaStreamSynchronize(cuda->stream), what);
    if (status != OK) {
        (void)cudaFreeAsync(block, cuda->stream);
        return status;
    }
    *memory = block;
    return OK;
}

static void free_cuda(Device *device, void *memory)
{
    const Cuda *cuda = device->implementation;
    (void)cudaFreeAsync(memory, cuda->stream);
}

static Status upload_cuda(Device *device, void *to, const void *host, size_t bytes)
{
    Cuda *cuda = device->implementation;
    return staging_upload(&cuda->staging, to, host, bytes);
}

static Status download_cuda(Device *device, void *host, const void *from, size_t bytes)
{
    Cuda *cuda = device->implementation;
    if (bytes <= STAGED_MOST) return staging_download(&cuda->staging, host, from, bytes);
    return cuda_status(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, cuda->stream),
                       "a copy from it");
}

static Status copy_rows_cuda(Device *device, void *to, size_t to_stride, const void *from, size_t from_stride,
                             size_t bytes, size_t rows)
{
    const Cuda *cuda = device->implementation;
    if (bytes == 0 || rows == 0) return OK;
    return cuda_status(cudaMemcpy2DAsync(to, to_stride, from, from_stride, bytes, rows,
                                         cudaMemcpyDeviceToDevice, cuda->stream),
                       "a copy of rows");
}

static Status clear_cuda(Device *device, void *memory, size_t bytes)
{
    const Cuda *cuda = device->implementation;
    if (bytes == 0) return OK;
    return cuda_status(cudaMemsetAsync(memory, 0, bytes, cuda->stream), "clearing its memory");
}

static Status synchronize_cuda(Device *device)
{
    Cuda *cuda = device->implementation;
    return staging_synchronize(&cuda->staging);
}

static Status mark_cuda(Device *device, Mark *mark)
{
    Cuda *cuda = device->implementation;
    return staging_mark(&cuda->staging, mark);
}

static Status wait_cuda(Device *device, Mark mark)
{
    Cuda *cuda = device->implementation;
    return staging_wait(&cuda->staging, mark);
}

/* ---- streams, recordings ---- */

static Status stream_open_cuda(Device *device, Stream *stream)
{
    (void)device;
    int least, greatest;
    TRY(cuda_status(cudaDeviceGetStreamPriorityRange(&least, &greatest), "a stream"));
    /* Reductions should start as soon as their bucket is there, ahead of waiting blocks of backward. */
    return cuda_status(cudaStreamCreateWithPriority((cudaStream_t *)stream, cudaStreamNonBlocking, greatest),
                       "a stream");
}

static void stream_close_cuda(Device *device, Stream stream)
{
    (void)device;
    (void)cudaStreamDestroy(stream);
}

static Status stream_follow_cuda(Device *device, Stream stream, Stream earlier)
{
    const Cuda *cuda = device->implementation;
    TRY(cuda_status(cudaEventRecord(cuda->order, earlier), "ordering its streams"));
    return cuda_status(cudaStreamWaitEvent(stream, cuda->order, 0), "ordering its streams");
}

static Status record_cuda(Device *device, Recording *recording, Status (*enqueue)(void *), void *argument)
{
    const Cuda *cuda = device->implementation;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    TRY(cuda_status(cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal),
                    "recording a step"));
    Status status = enqueue(argument);
    const cudaError_t error = cudaStreamEndCapture(cuda->stream, &graph);
    if (status == OK)
        status = cuda_status(error, "recording a step (graph: false runs without)");
    else
        (void)cudaGetLastError();
    if (status == OK)
        /* Kernels keep the priority of the stream that they were recorded on: sums over ranks go before the rest. */
        status = cuda_status(cudaGraphInstantiate(&ready, graph, cudaGraphInstantiateFlagUseNodePriority),
                             "preparing a recorded step");
    if (graph != NULL) (void)cudaGraphDestroy(graph);
    recording->implementation = ready;
    return status;
}

static Status replay_cuda(Device *device, const Recording *recording)
{
    const Cuda *cuda = device->implementation;
    return cuda_status(cudaGraphLaunch(recording->implementation, cuda->stream), "running a recorded step");
}

static void forget_cuda(Device *device, Recording *recording)
{
    const Cuda *cuda = device->implementation;
    (void)cudaStreamSynchronize(cuda->stream);
    (void)cudaGraphExecDestroy(recording->implementation);
}

/* ---- peaks ---- */

/* Seconds that the stream's work between two events took. */
static Status elapsed(cudaEvent_t start, cudaEvent_t end, double *seconds)
{
    float milliseconds = 0;
    TRY(cuda_status(cudaEventSynchronize(end), "measuring its speed"));
    TRY(cuda_status(cudaEventElapsedTime(&milliseconds, start, end), "measuring its speed"));
    *seconds = (double)milliseconds * 1e-3;
    return OK;
}

static Status time_between(Device *device, Status (*enqueue)(void *), void *argument, cudaEvent_t start,
                           cudaEvent_t end, double *seconds)
{
    const Cuda *cuda = device->implementation;
    TRY(cuda_status(cudaEventRecord(start, cuda->stream), "measuring its speed"));
    TRY(enqueue(argument));
    TRY(cuda_status(cudaEventRecord(end, cuda->stream), "measuring its speed"));
    return elapsed(start, end, seconds);
}

static Status time_once_cuda(Device *device, Status (*enqueue)(void *), void *argument, double *seconds)
{
    cudaEvent_t start = NULL, end = NULL;
    Status status = cuda_status(cudaEventCreate(&start), "an event");
    if (status == OK) status = cuda_status(cudaEventCreate(&end), "an event");
    if (status == OK) status = time_between(device, enqueue, argument, start, end, seconds);
    if (start != NULL) (void)cudaEventDestroy(start);
    if (end != NULL) (void)cudaEventDestroy(end);
    return status;
}

typedef struct {
    Device *device;
    char *memory;
    size_t bytes;
    double flops;
} Peak;

static Status enqueue_multiply_adds(void *argument)
{
    enum { ROUNDS = 20000 };
    Peak *peak = argument;
    return multiply_adds_cuda(peak->device, ROUNDS, (float *)(void *)peak->memory, &peak->flops);
}

static Status enqueue_copy(void *argument)
{
    const Peak *peak = argument;
    const Cuda *cuda = peak->device->implementation;
    return cuda_status(cudaMemcpyAsync(peak->memory + peak->bytes, peak->memory, peak->bytes,
                                       cudaMemcpyDeviceToDevice, cuda->stream),
                       "measuring its speed");
}

/* Two square matrices of bfloat16 numbers, and their product. */
typedef struct {
    Device *device;
    const CublasLt *blas;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t square;
    cublasLtMatmulHeuristicResult_t chosen;
    char *memory;
} Matrix;
enum { MATRIX_SIDE = 8192, MATRIX_WORKSPACE = 32 << 20 };
static const size_t matrix_bytes = (size_t)MATRIX_SIDE * MATRIX_SIDE * 2;

static Status enqueue_product(void *argument)
{
    const Matrix *m = argument;
    const float one = 1, zero = 0;
    char *result = m->memory + 2 * matrix_bytes;
    return cublaslt_status(m->blas,
                           m->blas->Matmul(m->blas->handle, m->product, &one, m->memory, m->square,
                                           m->memory + matrix_bytes, m->square, &zero, result, m->square,
                                           result, m->square, &m->chosen.algo, m->memory + 3 * matrix_bytes,
                                           m->chosen.workspaceSize, m->device->stream),
                           "a matrix product");
}

static Status choose_product(Matrix *m)
{
    const uint64_t most = MATRIX_WORKSPACE;
    cublasLtMatmulPreference_t preference;
    int found = 0;
    TRY(cublaslt_status(m->blas, m->blas->MatmulDescCreate(&m->product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                        "a product"));
    TRY(cublaslt_status(
        m->blas, m->blas->MatrixLayoutCreate(&m->square, CUDA_R_16BF, MATRIX_SIDE, MATRIX_SIDE, MATRIX_SIDE),
        "a matrix"));
    TRY(cublaslt_status(m->blas, m->blas->MatmulPreferenceCreate(&preference), "a preference"));
    (void)m->blas->MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most,
                                                sizeof most);
    const Status status = cublaslt_status(
        m->blas,
        m->blas->MatmulAlgoGetHeuristic(m->blas->handle, m->product, m->square, m->square, m->square,
                                        m->square, preference, 1, &m->chosen, &found),
        "no algorithm for a matrix product");
    (void)m->blas->MatmulPreferenceDestroy(preference);
    return status;
}

/* memory: at least 3 matrices and the workspace. The numbers are
 * all 0.0118: a GPU draws less power then, and is a little faster, than with random ones. */
static Status measure_matrix(Device *device, char *memory, double *flops_per_second)
{
    Matrix m = {.device = device, .memory = memory};
    double seconds = 0;
    TRY(cublaslt_load(&m.blas));
    TRY(cuda_status(cudaMemsetAsync(memory, 0x3c, 2 * matrix_bytes, device->stream), "matrices"));
    Status status = choose_product(&m);
    if (status == OK) status = device_time(device, enqueue_product, &m, &seconds);
    if (status == OK) *flops_per_second = 2.0 * MATRIX_SIDE * MATRIX_SIDE * MATRIX_SIDE / seconds;
    if (m.product != NULL) (void)m.blas->MatmulDescDestroy(m.product);
    if (m.square != NULL) (void)m.blas->MatrixLayoutDestroy(m.square);
    return status;
}

static Status measure_peaks_cuda(Device *device, DevicePeaks *peaks)
{
    Peak peak = {.device = device, .bytes = (size_t)1 << 30};
    double seconds;
    void *memory;
    *peaks = (DevicePeaks){0};
    TRY(allocate_cuda(device, 2 * peak.bytes, "the measurement of peaks", &memory));
    peak.memory = memory;
    Status status = device_time(device, enqueue_multiply_adds, &peak, &seconds);
    if (status == OK) {
        peaks->flops_per_second = peak.flops / seconds;
        status = device_time(device, enqueue_copy, &peak, &seconds);
    }
    if (status == OK) {
        peaks->bytes_per_second = 2.0 * (double)peak.bytes / seconds;
        status = measure_matrix(device, memory, &peaks->matrix_flops_per_second);
        if (status != OK && status_code(status) == STATUS_UNSUPPORTED) { /* no cuBLASLt: not measured */
            status_free(status);
            status = OK;
        }
    }
    free_cuda(device, memory);
    return status;
}

static void libraries_cuda(const Device *device, char text[1024])
{
    (void)device;
    int driver = 0, runtime = 0;
    char cudnn_text[400], blas_text[400];
    const Cudnn *cudnn;
    const CublasLt *blas;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    Status status = cudnn_load(&cudnn);
    if (status == OK)
        (void)snprintf(cudnn_text, sizeof cudnn_text, "cuDNN %zu.%zu.%zu", cudnn->version / 10000,
                       cudnn->version / 100 % 100, cudnn->version % 100);
    else
        (void)snprintf(cudnn_text, sizeof cudnn_text, "no cuDNN: %s", status_message(status));
    status_free(status);
    status = cublaslt_load(&blas);
    if (status == OK)
        (void)snprintf(blas_text, sizeof blas_text, "cuBLASLt %zu.%zu.%zu", blas->version / 10000,
                       blas->version / 100 % 100, blas->version % 100);
    else
        (void)snprintf(blas_text, sizeof blas_text, "no cuBLASLt: %s", status_message(status));
    status_free(status);
    (void)snprintf(text, 1024, "CUDA %d.%d, driver for CUDA %d.%d\n%s\n%s", runtime / 1000,
                   runtime % 1000 / 10, driver / 1000, driver % 1000 / 10, cudnn_text, blas_text);
}

/* ---- links ---- */

typedef struct {
    const Cuda *cuda;
    int other;
    void *here, *there;
    size_t bytes;
} Link;

static Status enqueue_link(void *argument)
{
    const Link *l = argument;
    return cuda_status(
        cudaMemcpyPeerAsync(l->there, l->other, l->here, l->cuda->index, l->bytes, l->cuda->stream),
        "a copy to another GPU");
}

static Status measure_link_cuda(Device *device, int other, DeviceLink *out)
{
    const Cuda *cuda = device->implementation;
    /* Long enough for any link that device_time need not record it: whether a copy between GPUs without
     * direct access can be recorded is nowhere said. */
    Link link = {.cuda = cuda, .other = other, .bytes = (size_t)1 << 30};
    int direct = 0;
    double seconds = 0;
    TRY(cuda_status(cudaDeviceCanAccessPeer(&direct, cuda->index, other), "its link to another GPU"));
    out->direct = direct != 0;
    if (direct != 0) { /* already enabled is no error */
        (void)cudaDeviceEnablePeerAccess(other, 0);
        (void)cudaGetLastError();
    }
    TRY(cuda_status(cudaMalloc(&link.here, link.bytes), "memory to copy"));
    const cudaError_t taken = cudaSetDevice(other);
    /* In exclusive mode another rank's GPU is for that rank alone. */
    const bool usable = taken != cudaErrorDevicesUnavailable;
    if (!usable) (void)cudaGetLastError();
    Status status = usable ? cuda_status(taken, "another GPU") : OK;
    if (status == OK && usable)
        status = cuda_status(cudaMalloc(&link.there, link.bytes), "memory of another GPU");
    const Status back = cuda_status(cudaSetDevice(cuda->index), "it cannot be used");
    if (status == OK)
        status = back;
    else
        status_free(back);
    if (status == OK && usable) status = device_time(device, enqueue_link, &link, &seconds);
    if (status == OK && usable) out->bytes_per_second = (double)link.bytes / seconds;
    (void)cudaFree(link.here);
    (void)cudaFree(link.there);
    return status;
}

const DeviceMethods device_cuda_methods = {.count = count_cuda,
                                           .visible = visible_cuda,
                                           .has_driver = has_driver_cuda,
                                           .open = open_cuda,
                                           .close = close_cuda,
                                           .allocate = allocate_cuda,
                                           .free = free_cuda,
                                           .upload = upload_cuda,
                                           .download = download_cuda,
                                           .copy_rows = copy_rows_cuda,
                                           .clear = clear_cuda,
                                           .accumulate = accumulate_cuda,
                                           .narrow = narrow_cuda,
                                           .widen = widen_cuda,
                                           .synchronize = synchronize_cuda,
                                           .mark = mark_cuda,
                                           .wait = wait_cuda,
                                           .time_once = time_once_cuda,
                                           .measure_peaks = measure_peaks_cuda,
                                           .libraries = libraries_cuda,
                                           .measure_link = measure_link_cuda,
                                           .stream_open = stream_open_cuda,
                                           .stream_close = stream_close_cuda,
                                           .stream_follow = stream_follow_cuda,
                                           .record = record_cuda,
                                           .replay = replay_cuda,
                                           .forget = forget_cuda};
