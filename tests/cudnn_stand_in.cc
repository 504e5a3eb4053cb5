/* A libcudnn for tests: the backend functions that plumb uses, on host memory, by plain loops. Descriptors
 * are bags of attributes; what plumb writes into them (extents, strides, paddings, types, which tensor is
 * which) decides the numbers, so a wrong word gives wrong ones. It has four engines: 0 refuses every plan, 1
 * is not deterministic and rounds float32 as TF32 does, 2 takes dense tensors only, 3 takes all. Weights and
 * their gradients are of the type of x and y. The environment's CUDNN_STAND_IN_LOG names a file to which it
 * adds a line a plan that is built. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cudnn.h>
#include <map>
#include <vector>

namespace
{

struct Bag {
    cudnnBackendDescriptorType_t type;
    std::map<int, std::vector<char>> attribute;
    bool ready;
    int engine;

    template <typename T> std::vector<T> all(int name) const
    {
        const auto found = attribute.find(name);
        std::vector<T> values(found == attribute.end() ? 0 : found->second.size() / sizeof(T));
        if (!values.empty()) std::memcpy(values.data(), found->second.data(), values.size() * sizeof(T));
        return values;
    }
    template <typename T> T one(int name) const
    {
        const auto values = all<T>(name);
        return values.size() == 1 ? values[0] : T{};
    }
    const Bag &bag(int name) const { return *static_cast<const Bag *>(one<void *>(name)); }
    bool has(int name) const { return attribute.count(name) > 0; }
};

Bag *as_bag(cudnnBackendDescriptor_t descriptor) { return static_cast<Bag *>(descriptor); }

struct Tensor {
    cudnnDataType_t type;
    std::vector<int64_t> extent, stride;
    int64_t uid, alignment;
    char *data;

    explicit Tensor(const Bag &bag)
        : type(bag.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)),
          extent(bag.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)),
          stride(bag.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES)),
          uid(bag.one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)),
          alignment(bag.one<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)), data(nullptr)
    {
    }
    bool is_dense() const
    {
        int64_t span = 1, count = 1;
        for (size_t i = 0; i < extent.size(); ++i) {
            span += (extent[i] - 1) * stride[i];
            count *= extent[i];
        }
        return span == count;
    }
    int64_t at(int64_t a, int64_t b, int64_t c, int64_t d) const
    {
        return a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3];
    }
    double get(int64_t place) const
    {
        if (type == CUDNN_DATA_FLOAT)
            return static_cast<double>(reinterpret_cast<const float *>(data)[place]);
        const uint32_t bits = static_cast<uint32_t>(reinterpret_cast<const uint16_t *>(data)[place]) << 16;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return static_cast<double>(value);
    }
    int64_t span() const { return at(extent[0] - 1, extent[1] - 1, extent[2] - 1, extent[3] - 1) + 1; }
    std::vector<double> numbers() const
    {
        std::vector<double> all(static_cast<size_t>(span()));
        for (size_t i = 0; i < all.size(); ++i)
            all[i] = get(static_cast<int64_t>(i));
        return all;
    }
    void set(int64_t place, double number) const
    {
        const float value = static_cast<float>(number);
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        if (type == CUDNN_DATA_FLOAT)
            reinterpret_cast<float *>(data)[place] = value;
        else
            reinterpret_cast<uint16_t *>(data)[place] =
                static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
};

/* The operation of a graph with its three tensors. */
struct Problem {
    int kind; /* 0 forward, 1 data, 2 weights */
    const Bag *convolution;
    Tensor x, w, y;

    static Problem of(const Bag &operation)
    {
        switch (operation.type) {
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
            return {0, &operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W)),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y))};
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
            return {1, &operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX)),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W)),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY))};
        default:
            return {2, &operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X)),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW)),
                    Tensor(operation.bag(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY))};
        }
    }
    /* Extents that fit together, as cuDNN checks them when the operation is finalized. */
    bool is_sound() const
    {
        const auto stride = convolution->all<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
        const auto before = convolution->all<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
        const auto after = convolution->all<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
        bool sound = x.extent.size() == 4 && x.extent[0] == y.extent[0] && x.extent[1] == w.extent[1] &&
                     y.extent[1] == w.extent[0] && stride.size() == 2 &&
                     convolution->one<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) == CUDNN_DATA_FLOAT;
        for (size_t i = 0; i < 2 && sound; ++i)
            sound =
                (x.extent[2 + i] + before[i] + after[i] - w.extent[2 + i]) / stride[i] + 1 == y.extent[2 + i];
        return sound;
    }
    void run() const
    {
        const auto stride = convolution->all<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
        const auto padding = convolution->all<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
        const Tensor &result = kind == 0 ? y : kind == 1 ? x : w;
        const std::vector<double> from_x = kind == 1 ? std::vector<double>() : x.numbers();
        const std::vector<double> from_w = kind == 2 ? std::vector<double>() : w.numbers();
        const std::vector<double> from_y = kind == 0 ? std::vector<double>() : y.numbers();
        std::vector<double> sums(static_cast<size_t>(result.span()));
        for (int64_t n = 0; n < y.extent[0]; ++n)
            for (int64_t i = 0; i < y.extent[2]; ++i)
                for (int64_t j = 0; j < y.extent[3]; ++j)
                    for (int64_t r = 0; r < w.extent[2]; ++r)
                        for (int64_t s = 0; s < w.extent[3]; ++s) {
                            const int64_t h = i * stride[0] + r - padding[0],
                                          v = j * stride[1] + s - padding[1];
                            if (h < 0 || h >= x.extent[2] || v < 0 || v >= x.extent[3]) continue;
                            for (int64_t k = 0; k < y.extent[1]; ++k)
                                for (int64_t c = 0; c < x.extent[1]; ++c) {
                                    const auto in = static_cast<size_t>(x.at(n, c, h, v));
                                    const auto by = static_cast<size_t>(w.at(k, c, r, s));
                                    const auto out = static_cast<size_t>(y.at(n, k, i, j));
                                    if (kind == 0) sums[out] += from_x[in] * from_w[by];
                                    if (kind == 1) sums[in] += from_y[out] * from_w[by];
                                    if (kind == 2) sums[by] += from_x[in] * from_y[out];
                                }
                        }
        for (int64_t a = 0; a < result.extent[0]; ++a)
            for (int64_t b = 0; b < result.extent[1]; ++b)
                for (int64_t c = 0; c < result.extent[2]; ++c)
                    for (int64_t d = 0; d < result.extent[3]; ++d)
                        result.set(result.at(a, b, c, d), sums[static_cast<size_t>(result.at(a, b, c, d))]);
        const char *bad = std::getenv("CUDNN_STAND_IN_NAN_RANK"), *rank = std::getenv("OMPI_COMM_WORLD_RANK");
        if (kind == 2 && bad != nullptr && rank != nullptr && std::strcmp(bad, rank) == 0)
            result.set(0, std::strtod("nan", nullptr));
    }
};

constexpr int ENGINES = 4;
constexpr int64_t WORKSPACE = 1000;

const Bag &operation_of(const Bag &plan)
{
    return plan.bag(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
        .bag(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)
        .bag(CUDNN_ATTR_OPERATIONGRAPH_OPS);
}

bool supports(const Bag &plan)
{
    const int engine = plan.bag(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine;
    const Problem problem = Problem::of(operation_of(plan));
    const char *log = std::getenv("CUDNN_STAND_IN_LOG");
    if (engine == 0 || problem.x.type != problem.y.type || problem.w.type != problem.x.type) return false;
    if (engine != 3 && !(problem.x.is_dense() && problem.y.is_dense())) return false;
    if (std::FILE *file = log != nullptr ? std::fopen(log, "a") : nullptr) {
        std::fprintf(file, "engine %d kind %d\n", engine, problem.kind);
        std::fclose(file);
    }
    return true;
}

} // namespace

/* Of the device on which kernels run on the host. */
extern "C" void enqueue_device_work(void (*run)(void *), void (*drop)(void *), void *argument)
    __attribute__((weak));

extern "C" {
cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = reinterpret_cast<cudnnHandle_t>(new int(0));
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t) { return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }
size_t cudnnGetVersion(void) { return 90000; }
const char *cudnnGetErrorString(cudnnStatus_t) { return "an error of the stand-in"; }
void cudnnGetLastErrorString(char *message, size_t size)
{
    if (size > 0) message[0] = '\0';
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    *out = new Bag{type, {}, false, -1};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    delete as_bag(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_INT64:
        return sizeof(int64_t);
    case CUDNN_TYPE_FLOAT:
        return sizeof(float);
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return sizeof(void *);
    default:
        return sizeof(int); /* enumerations */
    }
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    Bag *bag = as_bag(descriptor);
    if (bag->ready) return CUDNN_STATUS_BAD_PARAM;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR && !as_bag(*static_cast<void *const *>(values))->ready)
        return CUDNN_STATUS_BAD_PARAM;
    const char *bytes = static_cast<const char *>(values);
    bag->attribute[name] = std::vector<char>(bytes, bytes + static_cast<size_t>(count) * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    Bag *bag = as_bag(descriptor);
    switch (bag->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        if (!bag->has(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT) ||
            Tensor(*bag).stride.size() != Tensor(*bag).extent.size())
            return CUDNN_STATUS_BAD_PARAM;
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        if (!Problem::of(*bag).is_sound()) return CUDNN_STATUS_BAD_PARAM;
        break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        if (!bag->has(CUDNN_ATTR_EXECUTION_PLAN_HANDLE) || !supports(*bag)) return CUDNN_STATUS_NOT_SUPPORTED;
        break;
    default:
        break;
    }
    bag->ready = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t,
                                       int64_t room, int64_t *count, void *values)
{
    const Bag *bag = as_bag(descriptor);
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        const bool fallback =
            bag->one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_FALLBACK;
        *count = fallback ? 1 : ENGINES - 1; /* the last engine is the fallback */
        for (int64_t i = 0; i < room && i < *count; ++i) {
            Bag *config = as_bag(static_cast<cudnnBackendDescriptor_t *>(values)[i]);
            config->attribute[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] =
                bag->attribute.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
            config->engine = fallback ? ENGINES - 1 : static_cast<int>(i);
            config->ready = true;
        }
    } else if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
        as_bag(*static_cast<cudnnBackendDescriptor_t *>(values))->engine = bag->engine;
        *count = 1;
    } else if (name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX) {
        *static_cast<int64_t *>(values) = bag->engine;
        *count = 1;
    } else if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        auto *note = static_cast<cudnnBackendNumericalNote_t *>(values);
        *count = bag->engine == 1 && room >= 2 ? 2 : 0;
        if (*count == 2) {
            note[0] = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
            note[1] = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        }
    } else if (name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE) {
        /* CUDNN_STAND_IN_COMPILED names the engine that is compiled at run time. */
        const char *compiled = std::getenv("CUDNN_STAND_IN_COMPILED");
        *count = compiled != nullptr && std::atoi(compiled) == bag->engine && room >= 1 ? 1 : 0;
        if (*count == 1)
            *static_cast<cudnnBackendBehaviorNote_t *>(values) = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    } else if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        /* CUDNN_STAND_IN_WORKSPACE: what the last engine asks for. */
        const char *large = std::getenv("CUDNN_STAND_IN_WORKSPACE");
        const bool last = bag->bag(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine == ENGINES - 1;
        *static_cast<int64_t *>(values) =
            last && large != nullptr ? std::strtoll(large, nullptr, 10) : WORKSPACE;
        *count = 1;
    } else {
        return CUDNN_STATUS_BAD_PARAM;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    struct Work {
        Problem problem;
        void *workspace;
    };
    const Bag *bag = as_bag(pack);
    auto *work = new Work{Problem::of(operation_of(*as_bag(plan))),
                          bag->one<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE)};
    const auto uid = bag->all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto data = bag->all<char *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    Tensor *tensors[] = {&work->problem.x, &work->problem.w, &work->problem.y};
    for (Tensor *tensor : tensors)
        for (size_t i = 0; i < uid.size(); ++i)
            if (uid[i] == tensor->uid) tensor->data = data[i];
    constexpr uintptr_t LINE = 256; /* as the device's allocator aligns, which the library may count on */
    bool sound = reinterpret_cast<uintptr_t>(work->workspace) % LINE == 0;
    for (const Tensor *tensor : tensors)
        sound = sound && tensor->data != nullptr &&
                reinterpret_cast<uintptr_t>(tensor->data) % static_cast<uintptr_t>(tensor->alignment) == 0;
    if (!sound) {
        delete work;
        return CUDNN_STATUS_BAD_PARAM;
    }
    enqueue_device_work(
        [](void *argument) {
            const auto *w = static_cast<const Work *>(argument);
            std::memset(w->workspace, 0x7f, WORKSPACE); /* it is ours to spoil */
            w->problem.run();
        },
        [](void *argument) { delete static_cast<Work *>(argument); }, work);
    return CUDNN_STATUS_SUCCESS;
}
}
