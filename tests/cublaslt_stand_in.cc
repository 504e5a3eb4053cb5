/* A libcublasLt for tests: the functions that plumb uses, on host memory, by plain loops. What plumb tells it
 * (layouts, transposes, epilogue) decides the numbers, so a wrong word gives wrong ones. */
#include <cstring>
#include <cublasLt.h>
#include <map>
#include <vector>

namespace
{

struct Operation {
    std::map<int, std::vector<char>> attribute;
    template <typename T> T get(int name, T otherwise) const
    {
        const auto found = attribute.find(name);
        if (found == attribute.end() || found->second.size() != sizeof(T)) return otherwise;
        T value;
        std::memcpy(&value, found->second.data(), sizeof value);
        return value;
    }
};

struct Layout {
    cudaDataType type;
    int64_t rows, columns, stride;

    double get(const void *data, int64_t row, int64_t column) const
    {
        const int64_t at = column * stride + row;
        if (type == CUDA_R_32F) return static_cast<double>(static_cast<const float *>(data)[at]);
        const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(data)[at]) << 16;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return static_cast<double>(value);
    }
    void set(void *data, int64_t row, int64_t column, double number) const
    {
        const int64_t at = column * stride + row;
        const float value = static_cast<float>(number);
        if (type == CUDA_R_32F) {
            static_cast<float *>(data)[at] = value;
            return;
        }
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        static_cast<uint16_t *>(data)[at] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
};

const Operation *as_operation(cublasLtMatmulDesc_t operation)
{
    return reinterpret_cast<const Operation *>(operation);
}
const Layout *as_layout(cublasLtMatrixLayout_t layout) { return reinterpret_cast<const Layout *>(layout); }

constexpr size_t WORKSPACE = 1000;
struct Preference {
    uint32_t alignment[4] = {256, 256, 256, 256};      /* of A, B, C, D: the library's default */
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK; /* all: likewise */
};

bool is_aligned(const void *data, uint64_t alignment)
{
    return reinterpret_cast<uintptr_t>(data) % alignment == 0;
}

bool fits(const Operation &operation, const Layout &a, const Layout &b, const Layout &d)
{
    const bool turn_a = operation.get(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) == CUBLAS_OP_T;
    const bool turn_b = operation.get(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N) == CUBLAS_OP_T;
    return a.type == b.type && (turn_a ? a.columns : a.rows) == d.rows &&
           (turn_b ? b.rows : b.columns) == d.columns &&
           (turn_a ? a.rows : a.columns) == (turn_b ? b.columns : b.rows) && a.stride >= a.rows &&
           b.stride >= b.rows && d.stride >= d.rows;
}

} // namespace

/* The device runs kernels that were recorded later; this one, too. Weak: a program that records nothing has
 * none. */
extern "C" void enqueue_device_work(void (*run)(void *), void (*drop)(void *), void *argument)
    __attribute__((weak));

extern "C" {
cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
size_t cublasLtGetVersion(void) { return CUBLAS_VER_MAJOR * 10000; }
const char *cublasLtGetStatusString(cublasStatus_t) { return "an error of the stand-in"; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t, cudaDataType_t)
{
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(new Operation);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    delete as_operation(operation);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t name, const void *value,
                                              size_t size)
{
    const char *bytes = static_cast<const char *>(value);
    reinterpret_cast<Operation *>(operation)->attribute[name] = std::vector<char>(bytes, bytes + size);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t stride)
{
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(
        new Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), stride});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete as_layout(layout);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete reinterpret_cast<Preference *>(preference);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t size)
{
    auto *alignment = reinterpret_cast<Preference *>(preference)->alignment;
    if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
        if (size != sizeof(uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
        std::memcpy(&reinterpret_cast<Preference *>(preference)->schemes, value, size);
    }
    if (name >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
        name <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES) {
        if (size != sizeof(uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
        std::memcpy(&alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, size);
    }
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t results[], int *found)
{
    /* Sums of plumb's are float32 to their end. */
    constexpr uint32_t in_type = CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    if (!fits(*as_operation(operation), *as_layout(a), *as_layout(b), *as_layout(d)) ||
        (reinterpret_cast<const Preference *>(preference)->schemes & in_type) != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    results[0] = {};
    results[0].workspaceSize = WORKSPACE;
    for (int i = 0; i < 4; ++i)
        results[0].algo.data[i] = reinterpret_cast<const Preference *>(preference)->alignment[i];
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void *alpha,
                              const void *a_data, cublasLtMatrixLayout_t a_layout, const void *b_data,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c_data,
                              cublasLtMatrixLayout_t, void *d_data, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t)
{
    struct Work {
        Operation operation;
        Layout a, b, d;
        const void *a_data, *b_data;
        void *d_data, *workspace;
        double others; /* beta */
    };
    if (*static_cast<const float *>(alpha) != 1 ||
        (*static_cast<const float *>(beta) != 0 && *static_cast<const float *>(beta) != 1) ||
        c_data != d_data || workspace_bytes < WORKSPACE || !is_aligned(workspace, 256) ||
        !is_aligned(a_data, algorithm->data[0]) || !is_aligned(b_data, algorithm->data[1]) ||
        !is_aligned(d_data, algorithm->data[3]) ||
        !fits(*as_operation(operation), *as_layout(a_layout), *as_layout(b_layout), *as_layout(d_layout)))
        return CUBLAS_STATUS_INVALID_VALUE;
    auto *work = new Work{*as_operation(operation),
                          *as_layout(a_layout),
                          *as_layout(b_layout),
                          *as_layout(d_layout),
                          a_data,
                          b_data,
                          d_data,
                          workspace,
                          static_cast<double>(*static_cast<const float *>(beta))};
    const auto run = [](void *argument) {
        const auto *w = static_cast<const Work *>(argument);
        const bool turn_a = w->operation.get(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) == CUBLAS_OP_T;
        const bool turn_b = w->operation.get(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N) == CUBLAS_OP_T;
        const bool with_bias = w->operation.get(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT) ==
                               CUBLASLT_EPILOGUE_BIAS;
        const auto *bias = w->operation.get<const float *>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr);
        const int64_t depth = turn_a ? w->a.rows : w->a.columns;
        std::memset(w->workspace, 0x7f, WORKSPACE); /* it is ours to spoil */
        for (int64_t column = 0; column < w->d.columns; ++column)
            for (int64_t row = 0; row < w->d.rows; ++row) {
                double sum = 0;
                for (int64_t k = 0; k < depth; ++k)
                    sum += (turn_a ? w->a.get(w->a_data, k, row) : w->a.get(w->a_data, row, k)) *
                           (turn_b ? w->b.get(w->b_data, column, k) : w->b.get(w->b_data, k, column));
                if (w->others != 0) sum += w->others * w->d.get(w->d_data, row, column);
                if (with_bias) sum += static_cast<double>(bias[row]);
                w->d.set(w->d_data, row, column, sum);
            }
    };
    const auto drop = [](void *argument) { delete static_cast<Work *>(argument); };
    enqueue_device_work(run, drop, work);
    return CUBLAS_STATUS_SUCCESS;
}
}
