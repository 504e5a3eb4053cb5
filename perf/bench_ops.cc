// Ops at the shapes of the paper's networks. Each op runs inside a small training graph, forward and
// backward, and the plan's profile says what the node itself took: time of the node, flop/s and bytes/s by
// its own cost. The first rows are square matrix products, which come near the machine's peak; all others are
// to be read against them.
//
//     bench_ops --benchmark_filter='conv2d.*float32'
#include <benchmark/benchmark.h>

extern "C" {
#include "engine/ops/ops.h"
#include "engine/plan/plan.h"
}

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace
{

void check(Status status)
{
    if (status == OK) return;
    std::fprintf(stderr, "%s\n%s\n", status_message(status), status_trace(status));
    std::exit(1);
}

using Build = std::function<Value(Graph *, Value)>;

// A graph of one op and its backward, ready to run.
class Step
{
  public:
    Step(DType type, const std::vector<int64_t> &shape, const Build &build)
    {
        check(graph_create(GRAPH_TRAIN, type, &graph_));
        Value x = graph_input(graph_, "x", shape_of(type, static_cast<int>(shape.size()), shape.data()));
        graph_want_gradient(graph_, x);
        Value y = build(graph_, x);
        if (!graph_failed(graph_)) {
            Value loss = dot(graph_, y, graph_input(graph_, "upstream", graph_shape(graph_, y)));
            graph_keep(graph_, loss);
            (void)graph_fuse(graph_);
            graph_differentiate(graph_, loss);
            graph_keep(graph_, graph_gradient(graph_, x));
        }
        check(graph_finish(graph_));
        check(device_open(DEVICE_CPU, 0, 0, &device_));
        check(collective_self(&collective_));
        check(arena_create(device_, &arena_));
        const Graph *const graphs[] = {graph_};
        check(store_create(device_, graphs, 1, 1, &store_));
        PlanOptions options{};
        options.share_memory = true;
        options.profile = true;
        check(plan_create(graph_, store_, arena_, collective_, options, &plan_));
    }
    Step(const Step &) = delete;
    Step &operator=(const Step &) = delete;
    ~Step()
    {
        plan_free(plan_);
        store_free(store_);
        arena_free(arena_);
        collective_free(collective_);
        device_close(device_);
        graph_free(graph_);
    }

    void run() { check(plan_run(plan_)); }

    // Since the plan was made.
    ProfileRow row(const std::string &op)
    {
        const ProfileRow *rows = nullptr;
        const int count = plan_profile(plan_, &rows);
        for (int i = 0; i < count; ++i)
            if (op == rows[i].op) return rows[i];
        std::fprintf(stderr, "the step has no node %s\n", op.c_str());
        std::exit(1);
    }

  private:
    Graph *graph_ = nullptr;
    Device *device_ = nullptr;
    Collective *collective_ = nullptr;
    Arena *arena_ = nullptr;
    Store *store_ = nullptr;
    Plan *plan_ = nullptr;
};

void register_op(const std::string &op, const std::string &name, const std::vector<int64_t> &shape,
                 const Build &build)
{
    for (DType type : {FLOAT32, BFLOAT16}) {
        const std::string title = op + "/" + name + "/" + dtype_name(type);
        benchmark::RegisterBenchmark(title.c_str(),
                                     [=](benchmark::State &state) {
                                         Step step(type, shape, build);
                                         step.run();
                                         const ProfileRow before = step.row(op);
                                         double last = before.seconds;
                                         for (auto _ : state) {
                                             step.run();
                                             const double now = step.row(op).seconds;
                                             state.SetIterationTime(now - last);
                                             last = now;
                                         }
                                         const ProfileRow after = step.row(op);
                                         using benchmark::Counter;
                                         const double seconds = after.seconds - before.seconds;
                                         state.counters["flop/s"] = Counter(
                                             (after.flops - before.flops) / seconds, Counter::kDefaults);
                                         state.counters["bytes/s"] = Counter(
                                             (after.bytes - before.bytes) / seconds, Counter::kDefaults);
                                     })
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
    }
}

// What memory itself gives: all threads copying. Ops that are bound by memory are to be read against it.
void add_copy(size_t bytes)
{
    const std::string title = "memcpy/" + std::to_string(bytes >> 20) + "_MiB";
    benchmark::RegisterBenchmark(title.c_str(),
                                 [=](benchmark::State &state) {
                                     Device *device = nullptr;
                                     check(device_open(DEVICE_CPU, 0, 0, &device));
                                     void *from = nullptr, *to = nullptr;
                                     check(device_allocate(device, bytes, "from", &from));
                                     check(device_allocate(device, bytes, "to", &to));
                                     const size_t threads = static_cast<size_t>(device_threads(device)),
                                                  share = bytes / threads;
                                     for (auto _ : state) {
                                         std::vector<std::thread> copiers;
                                         for (size_t i = 0; i < threads; ++i)
                                             copiers.emplace_back([=] {
                                                 std::memcpy(static_cast<char *>(to) + i * share,
                                                             static_cast<char *>(from) + i * share, share);
                                             });
                                         for (std::thread &copier : copiers)
                                             copier.join();
                                     }
                                     state.counters["bytes/s"] =
                                         benchmark::Counter(2.0 * static_cast<double>(share * threads),
                                                            benchmark::Counter::kIsIterationInvariantRate);
                                     device_free(device, from);
                                     device_free(device, to);
                                     device_close(device);
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
}

struct Layer {
    int64_t size, channels, out_channels, kernel, stride;
};

// ResNet-50 and DenseNet-121 at CIFAR's size, Wide-ResNet-26-10, ResNet-110's narrow blocks; batch 64.
const Layer layers[] = {
    {32, 3, 64, 3, 1},    {32, 64, 64, 1, 1},   {32, 64, 64, 3, 1},   {32, 64, 256, 1, 1},
    {32, 256, 64, 1, 1},  {32, 256, 128, 1, 1}, {32, 128, 128, 3, 2}, {16, 128, 512, 1, 1},
    {32, 256, 512, 1, 2}, {16, 512, 128, 1, 1}, {16, 128, 128, 3, 1}, {16, 512, 256, 1, 1},
    {16, 256, 256, 3, 2}, {8, 256, 1024, 1, 1}, {8, 1024, 256, 1, 1}, {8, 256, 256, 3, 1},
    {8, 1024, 512, 1, 1}, {8, 512, 512, 3, 2},  {4, 512, 2048, 1, 1}, {4, 2048, 512, 1, 1},
    {4, 512, 512, 3, 1},  {32, 160, 160, 3, 1}, {16, 320, 320, 3, 1}, {16, 256, 128, 1, 1},
    {16, 128, 32, 3, 1},  {32, 16, 16, 3, 1},
};

} // namespace

int main(int argc, char **argv)
{
    for (size_t bytes : {size_t{8} << 20, size_t{64} << 20})
        add_copy(bytes);
    for (const char *op : {"linear", "linear_backward_data", "linear_backward_weights"}) {
        register_op(op, "peak_2048x2048x2048", {2048, 2048}, [](Graph *graph, Value x) {
            Linear layer{};
            layer.features = 2048;
            layer.type = graph_compute_type(graph);
            return linear(graph, "layer", x, layer);
        });
        register_op(op, "logits_64x2048x100", {64, 2048}, [](Graph *graph, Value x) {
            Linear layer{};
            layer.features = 100;
            return linear(graph, "layer", x, layer);
        });
    }
    for (const Layer &l : layers) {
        char name[128];
        (void)std::snprintf(name, sizeof name, "%lldx%lld_%lld_to_%lld_kernel_%lld_stride_%lld",
                            static_cast<long long>(l.size), static_cast<long long>(l.size),
                            static_cast<long long>(l.channels), static_cast<long long>(l.out_channels),
                            static_cast<long long>(l.kernel), static_cast<long long>(l.stride));
        const Build build = [l](Graph *graph, Value x) {
            Conv2d layer{};
            layer.channels = l.out_channels;
            layer.kernel = l.kernel;
            layer.stride = l.stride;
            layer.padding = l.kernel / 2;
            return conv2d(graph, "layer", x, layer);
        };
        for (const char *op : {"conv2d", "conv2d_backward_data", "conv2d_backward_weights"})
            register_op(op, name, {64, l.size, l.size, l.channels}, build);
    }
    for (const char *op : {"average_pool2d", "average_pool2d_backward"})
        register_op(op, "64x32x32x128_kernel_2", {64, 32, 32, 128}, [](Graph *graph, Value x) {
            Pool2d window{};
            window.kernel = 2;
            return average_pool2d(graph, x, window);
        });
    for (const char *op : {"adaptive_average_pool2d", "adaptive_average_pool2d_backward"})
        register_op(op, "64x4x4x2048_to_1", {64, 4, 4, 2048},
                    [](Graph *graph, Value x) { return adaptive_average_pool2d(graph, x, 1, 1); });
    for (const char *op : {"max_pool2d", "max_pool2d_backward"})
        register_op(op, "64x32x32x64_kernel_3_stride_2", {64, 32, 32, 64}, [](Graph *graph, Value x) {
            Pool2d window{};
            window.kernel = 3;
            window.stride = 2;
            window.padding = 1;
            return max_pool2d(graph, x, window);
        });
    // As ResNet-50 has them: behind a block's first convolutions, and at its end with the shortcut.
    for (const char *op : {"batch_norm", "batch_norm_backward"})
        for (const Layer &l : {Layer{32, 64, 64, 0, 0},
                               {32, 0, 256, 0, 0},
                               {16, 128, 128, 0, 0},
                               {16, 0, 512, 0, 0},
                               {8, 256, 256, 0, 0},
                               {8, 0, 1024, 0, 0},
                               {4, 0, 2048, 0, 0}}) {
            char name[128];
            const bool shortcut = l.channels == 0;
            (void)std::snprintf(name, sizeof name, "64x%lldx%lldx%lld%s_relu", static_cast<long long>(l.size),
                                static_cast<long long>(l.size), static_cast<long long>(l.out_channels),
                                shortcut ? "_add" : "");
            register_op(op, name, {64, l.size, l.size, l.out_channels}, [shortcut](Graph *graph, Value x) {
                Value y = batch_norm(graph, "layer", x, BatchNorm{});
                if (shortcut) {
                    const Value other = graph_input(graph, "shortcut", graph_shape(graph, x));
                    graph_want_gradient(graph, other);
                    y = add(graph, y, other);
                }
                return relu(graph, y);
            });
        }
    for (const char *op : {"layer_norm", "layer_norm_backward"})
        register_op(op, "4096x512", {4096, 512},
                    [](Graph *graph, Value x) { return layer_norm(graph, "layer", x, 0); });
    for (const char *op : {"relu", "relu_backward"})
        register_op(op, "64x32x32x256", {64, 32, 32, 256},
                    [](Graph *graph, Value x) { return relu(graph, x); });
    for (const char *op : {"softmax", "softmax_backward"})
        register_op(op, "4096x512", {4096, 512}, [](Graph *graph, Value x) { return softmax(graph, x); });
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
