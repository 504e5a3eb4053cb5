// The losses: the head of a training step for each, MMCE of large sets, and all losses of an evaluation.
extern "C" {
#include "engine/base/random.h"
#include "engine/device/collective.h"
#include "engine/device/device.h"
#include "losses/calibration/evaluated_losses.h"
#include "losses/loss.h"
#include "losses/loss_head.h"
#include "losses/mmce.h"
}

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <vector>

namespace
{

void must(Status status)
{
    if (status != OK) std::abort();
}

struct Samples {
    std::vector<float> logits, weight;
    std::vector<int32_t> target;
    Samples(int64_t count, int64_t classes) : logits(count * classes), weight(count, 1.0F), target(count)
    {
        RandomStream random = random_stream(1, RANDOM_TEST, 0);
        for (float &logit : logits)
            logit = 8 * static_cast<float>(random_uniform(&random));
        for (int64_t n = 0; n < count; ++n) {
            target[n] = static_cast<int32_t>(random_below(&random, static_cast<uint64_t>(classes)));
            logits[n * classes + target[n]] += 3;
        }
    }
};

void run_head(benchmark::State &state, const LossHead &head)
{
    const int64_t samples = state.range(0), classes = state.range(1);
    Samples data(samples, classes);
    std::vector<float> gradient(samples * classes), confidence(samples), correct(samples);
    double sums[LOSS_SUMS];
    Device *device;
    Collective *self;
    must(device_open(DEVICE_CPU, 0, 0, &device));
    must(collective_self(&self));
    Call call = {};
    call.attributes = &head;
    call.device = device;
    call.collective = self;
    const int64_t extent[] = {samples, classes};
    call.in[HEAD_LOGITS].shape = shape_of(FLOAT32, 2, extent);
    size_t scratch = 0;
    must(loss_head_cpu.prepare(&call, &scratch));
    must(device_allocate(device, scratch, "scratch", &call.scratch));
    void *const in[] = {data.logits.data(), data.target.data(), data.weight.data()};
    void *const out[] = {sums, gradient.data(), confidence.data(), correct.data()};
    for (int i = 0; i < HEAD_CLOCK; ++i)
        call.in[i].data = in[i];
    for (int i = 0; i < HEAD_OUTPUTS; ++i) {
        call.out[i].data = out[i];
        call.wanted[i] = true;
    }
    for (auto _ : state) {
        must(loss_head_cpu.run(&call));
        benchmark::DoNotOptimize(gradient.data());
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations() * samples);
    device_free(device, call.scratch);
    collective_free(self);
    device_close(device);
}

LossHead head_of(SampleForm form, PenaltyForm penalty)
{
    LossHead head = {};
    head.form = form;
    head.penalty = penalty;
    head.lambda = 2;
    head.kernel_width = 0.4;
    head.gamma.gamma[0] = 3;
    return head;
}

void mmce_of(benchmark::State &state)
{
    const int64_t count = state.range(0);
    RandomStream random = random_stream(2, RANDOM_TEST, 0);
    std::vector<Judged> samples(count);
    for (Judged &sample : samples)
        sample = {random_uniform(&random), random_below(&random, 2) == 0 ? 1.0 : 0.0, 1};
    std::vector<double> workspace(mmce_workspace(count) / sizeof(double) + 1);
    for (auto _ : state)
        benchmark::DoNotOptimize(mmce(samples.data(), count, 0.4, workspace.data(), nullptr));
    state.SetItemsProcessed(state.iterations() * count);
}

void evaluate(benchmark::State &state)
{
    const int64_t samples = state.range(0), classes = state.range(1);
    Samples data(samples, classes);
    Logits logits = {};
    logits.name = "random";
    logits.type = FLOAT32;
    logits.values = data.logits.data();
    logits.label_type = INT32;
    logits.labels = data.target.data();
    logits.count = logits.total = samples;
    logits.classes = classes;
    Collective *self;
    must(collective_self(&self));
    EvaluatedLosses value;
    for (auto _ : state) {
        must(losses_evaluate(self, &logits, 0, &value));
        benchmark::DoNotOptimize(value);
    }
    state.SetItemsProcessed(state.iterations() * samples);
    collective_free(self);
}

} // namespace

BENCHMARK_CAPTURE(run_head, cross_entropy, head_of(SAMPLE_LABEL_SMOOTHING, PENALTY_NONE))
    ->Args({128, 10})
    ->Args({128, 100})
    ->Args({4096, 32000})
    ->UseRealTime();
BENCHMARK_CAPTURE(run_head, brier, head_of(SAMPLE_BRIER, PENALTY_NONE))->Args({128, 100})->UseRealTime();
BENCHMARK_CAPTURE(run_head, focal, head_of(SAMPLE_FOCAL, PENALTY_NONE))->Args({128, 100})->UseRealTime();
BENCHMARK_CAPTURE(run_head, mmce, head_of(SAMPLE_LABEL_SMOOTHING, PENALTY_MMCE))
    ->Args({128, 100})
    ->UseRealTime();
BENCHMARK_CAPTURE(run_head, mmce_weighted, head_of(SAMPLE_LABEL_SMOOTHING, PENALTY_MMCE_WEIGHTED))
    ->Args({128, 100})
    ->UseRealTime();
BENCHMARK(mmce_of)->Arg(128)->Arg(10000)->Arg(1000000)->Unit(benchmark::kMillisecond);
BENCHMARK(evaluate)->Args({10000, 100})->Args({1000000, 100})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_MAIN();
