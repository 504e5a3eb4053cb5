// Collectives over sizes. Alone it measures the world of one; under mpirun every rank runs the same number of
// iterations and rank 0 reports:
//
//     mpirun -n 2 bench_comm --benchmark_filter=sum
//
// bytes_per_second counts the span once. The last sizes are those of ResNet-50's gradients, whole and in
// buckets.
#include <benchmark/benchmark.h>

#define _Noreturn [[noreturn]]
extern "C" {
#include "comm/comm.h"
}
#undef _Noreturn

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace
{

World *world;
Collective *collective;

void check(Status status)
{
    if (status != OK) comm_abort(world, status);
}

// Google Benchmark would choose the number of iterations by the clock, on each rank another.
int iterations(int64_t bytes) { return bytes < 1 << 20 ? 200 : bytes < 1 << 24 ? 20 : 5; }

void sum(benchmark::State &state, DType type, int64_t count, int64_t bucket)
{
    std::vector<char> data(static_cast<size_t>(count) * dtype_size(type));
    check(comm_barrier(world));
    for (auto _ : state) {
        for (int64_t first = 0; first < count; first += bucket) {
            char *start = data.data() + static_cast<size_t>(first) * dtype_size(type);
            const int64_t length = count - first < bucket ? count - first : bucket;
            check(collective_sum(collective, Span{start, length, type}, nullptr));
            check(collective_health(collective));
        }
        check(collective_join(collective, nullptr));
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * data.size()));
}

void gather(benchmark::State &state, int64_t count)
{
    std::vector<float> part(static_cast<size_t>(count));
    std::vector<float> all(static_cast<size_t>(count) * static_cast<size_t>(world->size));
    check(comm_barrier(world));
    for (auto _ : state) {
        const int64_t total = count * world->size;
        check(collective_gather(collective, Span{part.data(), count, FLOAT32},
                                Span{all.data(), total, FLOAT32}, nullptr));
        check(collective_join(collective, nullptr));
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * all.size() * sizeof(float)));
}

void broadcast(benchmark::State &state, int64_t count)
{
    std::vector<float> data(static_cast<size_t>(count));
    check(comm_barrier(world));
    for (auto _ : state) {
        check(collective_broadcast(collective, Span{data.data(), count, FLOAT32}, 0, nullptr));
        check(collective_join(collective, nullptr));
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * data.size() * sizeof(float)));
}

void any(benchmark::State &state)
{
    bool answer = false;
    for (auto _ : state)
        check(comm_any(world, false, &answer));
}

// Looking after outstanding work between two nodes must cost nothing next to a node.
void health(benchmark::State &state)
{
    for (auto _ : state)
        check(collective_health(collective));
}

void list()
{
    const int64_t resnet50 = 23520842;
    for (const int64_t count : {int64_t{1}, int64_t{1} << 10, int64_t{1} << 15, int64_t{1} << 20, resnet50}) {
        const int64_t bytes = 4 * count;
        const auto name = [count](const char *what) {
            return std::string(what) + "/" + std::to_string(count);
        };
        benchmark::RegisterBenchmark(name("sum_float32").c_str(), sum, FLOAT32, count, count)
            ->Iterations(iterations(bytes))
            ->UseRealTime();
        benchmark::RegisterBenchmark(name("sum_bfloat16").c_str(), sum, BFLOAT16, count, count)
            ->Iterations(iterations(bytes))
            ->UseRealTime();
        benchmark::RegisterBenchmark(name("gather").c_str(), gather, count)
            ->Iterations(iterations(bytes))
            ->UseRealTime();
        benchmark::RegisterBenchmark(name("broadcast").c_str(), broadcast, count)
            ->Iterations(iterations(bytes))
            ->UseRealTime();
    }
    benchmark::RegisterBenchmark("sum_float32_buckets/23520842", sum, FLOAT32, resnet50, int64_t{1} << 20)
        ->Iterations(iterations(4 * resnet50))
        ->UseRealTime();
    benchmark::RegisterBenchmark("any", any)->Iterations(1000)->UseRealTime();
    benchmark::RegisterBenchmark("health", health)->Iterations(100000)->UseRealTime();
}

class Silent : public benchmark::BenchmarkReporter
{
  public:
    bool ReportContext(const Context &) override { return true; }
    void ReportRuns(const std::vector<Run> &) override {}
};

} // namespace

int main(int argc, char **argv)
{
    check(comm_start(&argc, &argv, &world));
    check(comm_collective(world, 60, &collective));
    benchmark::Initialize(&argc, argv);
    list();
    if (world->rank == 0) {
        benchmark::ConsoleReporter reporter;
        benchmark::RunSpecifiedBenchmarks(&reporter);
    } else {
        Silent reporter;
        benchmark::RunSpecifiedBenchmarks(&reporter);
    }
    collective_free(collective);
    comm_stop(world);
    return 0;
}
