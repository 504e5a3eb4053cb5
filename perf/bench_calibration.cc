// Evaluation: metrics, temperature search and bootstrap, with the threads that OpenMP gives.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

extern "C" {
#include "losses/calibration/bootstrap.h"
#include "losses/calibration/calibration.h"
#include "losses/calibration/temperature.h"
}

namespace
{

void check(Status status)
{
    if (status == OK) return;
    std::fprintf(stderr, "%s\n", status_message(status));
    std::exit(1);
}

// An overconfident network: the label's logit is raised by a normal number.
struct Set {
    std::vector<float> values;
    std::vector<int32_t> labels;
    Logits logits{};

    Set(int64_t samples, int64_t classes) : values(samples * classes), labels(samples)
    {
        std::mt19937 random(1);
        std::normal_distribution<float> noise(0.F, 2.F), raise(6.F, 4.F);
        for (float &value : values)
            value = noise(random);
        for (int64_t i = 0; i < samples; ++i) {
            labels[i] = static_cast<int32_t>(random() % classes);
            values[i * classes + labels[i]] += raise(random);
        }
        logits.name = "generated";
        logits.type = FLOAT32;
        logits.values = values.data();
        logits.label_type = INT32;
        logits.labels = labels.data();
        logits.count = logits.total = samples;
        logits.classes = classes;
    }
};

Collective *self()
{
    static Collective *collective = nullptr;
    if (collective == nullptr) check(collective_self(&collective));
    return collective;
}

Calibration measured;

void measure(benchmark::State &state)
{
    const Set set(state.range(0), state.range(1));
    for (auto _ : state)
        check(calibration_measure(self(), &set.logits, 1.5, 15, 0, &measured, nullptr));
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

void search(benchmark::State &state)
{
    const Set set(state.range(0), state.range(1));
    TemperatureSearch result;
    for (auto _ : state)
        check(temperature_curves(self(), &set.logits, temperature_published, 15, 0,
                                 static_cast<DType>(state.range(2)), &result));
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

void bootstrap(benchmark::State &state)
{
    const Set set(state.range(0), state.range(1));
    CalibrationScores scores;
    check(calibration_measure(self(), &set.logits, 1, 15, 0, &measured, &scores));
    BootstrapOptions options{};
    options.replicates = 1000;
    options.seed = 1;
    options.level = 0.9;
    options.bins = 15;
    BootstrapIntervals intervals;
    for (auto _ : state)
        check(bootstrap_intervals(self(), &set.logits, 1, &measured, &scores, &options, 0, &intervals));
    calibration_scores_free(&scores);
}

} // namespace

BENCHMARK(measure)->Args({100000, 10})->Args({100000, 100})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(search)
    ->ArgNames({"samples", "classes", "precision"})
    ->ArgsProduct({{100000}, {10, 100}, {FLOAT32, FLOAT64}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
// The last by groups of samples.
BENCHMARK(bootstrap)
    ->Args({10000, 10})
    ->Args({10000, 100})
    ->Args({1000000, 100})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_MAIN();
