/* The losses of rows of logits on CUDA, and the penalty of a batch: what the loss head and the output layer with its loss have
 * in common. A block takes a sample: softmax, loss and gradient in float64 as on the CPU (the formulas are those of
 * sample_loss.h). The logits come from memory once; the later rounds over a row find it in the cache. A penalty needs the
 * confidences of the whole batch before any gradient: then rows are gone through twice, and between the rounds a warp takes
 * a sample and goes through all others, so that no N x N matrix is ever in memory. */
#ifndef PLUMB_LOSSES_LOSS_ROWS_CUDA_CUH
#define PLUMB_LOSSES_LOSS_ROWS_CUDA_CUH

#include "engine/ops/op_cuda.cuh"

extern "C" {
#include "engine/device/collective.h"
#include "losses/loss_head.h"
#include "losses/mmce.h"
#include "losses/sample_loss.h"
}

namespace
{

constexpr int FEW_CLASSES = 1024, MANY_THREADS = 256; /* up to FEW_CLASSES a warp suffices for a row */
constexpr int PAIR_THREADS = 128;

__device__ double infinity() { return __longlong_as_double(0x7ff0000000000000LL); }
__device__ double not_a_number() { return __longlong_as_double(0x7ff8000000000000LL); }

/* What a sample and all samples have with each other: sums over them of weight u k, u = 1 - r of the right
 * ones and r of the wrong, and the derivatives of k by this sample's confidence. */
struct Pairs {
    double right, wrong, right_slope, wrong_slope;
};

/* Of the whole batch: what multiplies the pair sums in the gradient, 0 where there is none; and its weight.
 */
struct PenaltyScale {
    double right, wrong, mixed, weight;
};

/* Parts of the scratch memory, at its beginning. */
struct Layout {
    double *losses;      /* [N]: weighted */
    Judged *mine;        /* [N] */
    Judged *all;         /* [ranks, N] */
    Pairs *pairs;        /* [ranks, N] */
    PenaltyScale *scale; /* [1] */
    size_t bytes;

    Layout(const Call *call, const LossHead *head, int64_t count)
    {
        const size_t samples = static_cast<size_t>(count);
        const size_t everyone = samples * static_cast<size_t>(call->collective->size);
        const bool penalty = head->penalty != PENALTY_NONE;
        auto *at = static_cast<double *>(call->scratch);
        losses = at;
        at += samples;
        mine = reinterpret_cast<Judged *>(at);
        /* Alone there is nothing to gather. */
        all = call->collective->size > 1 ? mine + samples : mine;
        pairs = reinterpret_cast<Pairs *>(all + everyone);
        scale = reinterpret_cast<PenaltyScale *>(pairs + everyone);
        bytes = samples * sizeof(double);
        if (penalty)
            bytes += (samples + everyone) * sizeof(Judged) + everyone * sizeof(Pairs) + sizeof(PenaltyScale);
    }
};

/* T: the type of the gradient. */
template <typename T> struct Arguments {
    const float *logits, *weight;
    const int32_t *target;
    const int64_t *clock; /* null unless gamma follows the epoch */
    int64_t samples, classes;
    T *gradient; /* null if not wanted now; may be the logits */
    float *confidence, *correct;
    double *sums;
    double *losses;
    Judged *judged;            /* null without a penalty */
    const Judged *own;         /* with a penalty's gradient: this rank's part of all samples; else null */
    const Pairs *pairs;        /* likewise */
    const PenaltyScale *scale; /* likewise */
    unsigned int *done;
};

/* The greatest number of the row and its first index: NaN never wins, all NaN give index 0. */
__device__ void find_maximum(const float *row, int64_t classes, double *highest, int64_t *first)
{
    __shared__ double values[WARP];
    __shared__ int64_t places[WARP];
    double value = -infinity();
    int64_t place = classes;
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) {
        const double x = static_cast<double>(row[k]);
        if (x > value || (x == value && k < place)) {
            value = x;
            place = k;
        }
    }
    const auto join = [&](double other, int64_t at) {
        if (other > value || (other == value && at < place)) {
            value = other;
            place = at;
        }
    };
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        const double other = __shfl_xor_sync(0xffffffffu, value, offset);
        const int64_t at = __shfl_xor_sync(0xffffffffu, place, offset);
        join(other, at);
    }
    if (threadIdx.x % WARP == 0) {
        values[threadIdx.x / WARP] = value;
        places[threadIdx.x / WARP] = place;
    }
    __syncthreads();
    for (unsigned int warp = 0; warp < blockDim.x / WARP; ++warp)
        join(values[warp], places[warp]);
    __syncthreads();
    *highest = value;
    *first = place < classes ? place : 0;
}

/* sample_softmax by all threads of the block, which leaves the row as it is: probability k is
 * exp(row[k] - highest) * scale. */
struct RowScale {
    double highest, scale;
};

__device__ Sample softmax(const float *row, int64_t classes, int64_t label, RowScale *out)
{
    __shared__ double shared[WARP];
    double highest;
    int64_t prediction;
    find_maximum(row, classes, &highest, &prediction);
    const bool valid = label >= 0 && label < classes;
    const int64_t y = valid ? label : prediction;
    const bool correct = y == prediction;
    double below = 0, rest = 0, squares = 0;
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) {
        const double less = static_cast<double>(row[k]) - highest;
        below -= less;
        if (k == y || k == prediction) continue; /* added where they belong: see sample_softmax */
        const double e = exp(less);
        rest += e;
        squares += e * e;
    }
    below = block_sum(below, shared);
    rest = block_sum(rest, shared);
    squares = block_sum(squares, shared);
    const double label_below = highest - static_cast<double>(row[y]);
    const double label_exponential = exp(-label_below);
    const double prediction_exponential = exp(static_cast<double>(row[prediction]) - highest); /* 1, or NaN */
    const double excess = correct ? rest : rest + label_exponential; /* of the whole sum over 1 */
    const double scale = 1 / (prediction_exponential + excess);
    const double log_sum = log1p(excess);
    Sample sample = {};
    sample.probability = label_exponential * scale;
    sample.complement = (correct ? rest : rest + prediction_exponential) * scale;
    sample.negative_log = label_below + log_sum;
    sample.negative_log_sum = below + static_cast<double>(classes) * log_sum;
    sample.other_squares = (correct ? squares : squares + 1) * (scale * scale);
    sample.confidence = prediction_exponential * scale;
    sample.confidence_complement = excess * scale;
    sample.prediction = prediction;
    sample.label = label;
    sample.classes = classes;
    sample.correct = valid && correct;
    if (!valid)
        sample.probability = sample.complement = sample.negative_log = sample.negative_log_sum =
            sample.other_squares = not_a_number();
    out->highest = highest;
    out->scale = scale;
    return sample;
}

__device__ SampleLoss loss_of(const Sample &sample, const LossHead &head, int64_t epoch)
{
    if (head.form == SAMPLE_BRIER) return sample_brier(&sample);
    if (head.form == SAMPLE_FOCAL)
        return sample_focal(&sample, gamma_choose(&head.gamma, sample.probability, epoch));
    return sample_label_smoothing(&sample, head.uniform ? smoothing_uniform(head.alpha, sample.classes)
                                                        : smoothing_paper(head.alpha, sample.classes));
}

/* d penalty / d confidence of a sample, per unit of its weight. */
__device__ double penalty_slope(const Judged &sample, const Pairs &near, const PenaltyScale &scale)
{
    const double r = sample.confidence;
    if (sample.correct != 0)
        return 2 * scale.right * (-near.right + (1 - r) * near.right_slope) +
               scale.mixed * (-near.wrong + (1 - r) * near.wrong_slope);
    return 2 * scale.wrong * (near.wrong + r * near.wrong_slope) +
           scale.mixed * (near.right + r * near.right_slope);
}

template <typename T>
__device__ void take_sample(const Arguments<T> &a, const LossHead &head, int64_t n, int64_t epoch)
{
    const double weight = static_cast<double>(a.weight[n]);
    const bool leader = threadIdx.x == 0;
    T *gradient = a.gradient != nullptr ? a.gradient + n * a.classes : nullptr;
    if (weight == 0) {
        if (gradient != nullptr)
            for (int64_t k = threadIdx.x; k < a.classes; k += blockDim.x)
                gradient[k] = from_float<T>(0);
        if (!leader) return;
        a.confidence[n] = a.correct[n] = 0;
        a.losses[n] = 0;
        if (a.judged != nullptr) a.judged[n] = Judged{0, 0, 0};
        return;
    }
    const float *row = a.logits + n * a.classes;
    RowScale by;
    const Sample sample = softmax(row, a.classes, a.target[n], &by);
    SampleLoss loss = loss_of(sample, head, epoch);
    if (leader) {
        a.confidence[n] = static_cast<float>(sample.confidence);
        a.correct[n] = sample.correct ? 1.0f : 0.0f;
        a.losses[n] = weight * loss.value;
        if (a.judged != nullptr) a.judged[n] = Judged{sample.confidence, sample.correct ? 1.0 : 0.0, weight};
    }
    if (gradient == nullptr) return;
    if (a.own != nullptr) {
        const double slope = penalty_slope(a.own[n], a.pairs[n], *a.scale) * head.lambda * a.scale->weight;
        if (slope != 0) sample_couple(&sample, slope, &loss);
    }
    __syncthreads(); /* all have read of the row what they need of it; the gradient may take its place */
    for (int64_t k = threadIdx.x; k < a.classes; k += blockDim.x) {
        const double p = exp(static_cast<double>(row[k]) - by.highest) * by.scale;
        double value = weight * (loss.constant + p * (loss.linear + loss.quadratic * p));
        if (loss.coupled && k == sample.prediction) value = weight * loss.at_prediction;
        if (k == sample.label) value = weight * loss.at_label;
        gradient[k] = from_float<T>(static_cast<float>(value));
    }
}

/* By all threads of one block, in the order of the samples, so that the sums are the same bits every time. */
__device__ void add_up(const double *losses, const float *weight, const float *correct, int64_t samples,
                       double *sums)
{
    __shared__ double shared[WARP];
    double sum[LOSS_SUMS] = {};
    for (int64_t n = threadIdx.x; n < samples; n += blockDim.x) {
        sum[LOSS_SUM] += losses[n];
        sum[LOSS_WEIGHT] += static_cast<double>(weight[n]);
        sum[LOSS_CORRECT] += static_cast<double>(weight[n]) * static_cast<double>(correct[n]);
    }
    for (int i = 0; i < LOSS_SUMS; ++i) {
        const double total = block_sum(sum[i], shared);
        if (threadIdx.x == 0) sums[i] = total;
    }
}

/* head by value: a captured launch keeps it; what changes from step to step is in the clock. */
template <typename T> __global__ void rows_kernel(Arguments<T> a, LossHead head)
{
    const int64_t epoch = a.clock != nullptr ? a.clock[CLOCK_EPOCH] : 0;
    for (int64_t n = blockIdx.x; n < a.samples; n += gridDim.x)
        take_sample(a, head, n, epoch);
    if (a.sums == nullptr || !is_last_block(a.done)) return;
    add_up(a.losses, a.weight, a.correct, a.samples, a.sums);
}

/* A warp takes a sample, so that a batch of a few hundred keeps the whole GPU busy. */
__global__ void pairs_kernel(const Judged *all, int64_t count, double width, Pairs *pairs)
{
    const double share = 1 / width;
    for (int64_t i = grid_thread() / WARP; i < count; i += grid_threads() / WARP) {
        const double r = all[i].confidence;
        Pairs sums = {0, 0, 0, 0};
        for (int64_t j = threadIdx.x % WARP; j < count; j += WARP) {
            const Judged other = all[j];
            if (other.weight == 0) continue;
            const double apart = r - other.confidence;
            const double k = other.weight * exp(-fabs(apart) * share);
            const double slope = apart > 0 ? -k * share : apart < 0 ? k * share : 0;
            if (other.correct != 0) {
                sums.right += (1 - other.confidence) * k;
                sums.right_slope += (1 - other.confidence) * slope;
            } else {
                sums.wrong += other.confidence * k;
                sums.wrong_slope += other.confidence * slope;
            }
        }
        sums = {warp_sum(sums.right), warp_sum(sums.wrong), warp_sum(sums.right_slope),
                warp_sum(sums.wrong_slope)};
        if (threadIdx.x % WARP == 0) pairs[i] = sums;
    }
}

/* One block: the penalty's value from the pair sums, as mmce.c has it, added to this rank's loss in
 * proportion to its weight; and what the gradient needs. */
__global__ void penalty_kernel(const Judged *all, const Pairs *pairs, int64_t count, PenaltyForm form,
                               double lambda, double *sums, PenaltyScale *out)
{
    __shared__ double shared[WARP];
    double right = 0, wrong = 0, both_right = 0, both_wrong = 0, mixed = 0, bad = 0;
    double signs = 0; /* + for right, - for wrong: would cancel if it were formed from the other three */
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
        const Judged sample = all[i];
        if (sample.weight == 0) continue;
        if (sample.confidence != sample.confidence) bad += 1;
        if (sample.correct != 0) {
            const double u = sample.weight * (1 - sample.confidence);
            right += sample.weight;
            both_right += u * pairs[i].right;
            mixed += u * pairs[i].wrong;
            signs += u * (pairs[i].right - pairs[i].wrong);
        } else {
            wrong += sample.weight;
            both_wrong += sample.weight * sample.confidence * pairs[i].wrong;
            signs += sample.weight * sample.confidence * (pairs[i].wrong - pairs[i].right);
        }
    }
    right = block_sum(right, shared);
    wrong = block_sum(wrong, shared);
    both_right = block_sum(both_right, shared);
    both_wrong = block_sum(both_wrong, shared);
    mixed = block_sum(mixed, shared);
    signs = block_sum(signs, shared);
    bad = block_sum(bad, shared);
    if (threadIdx.x != 0) return;
    const double total = right + wrong;
    PenaltyScale scale = {0, 0, 0, total};
    double value = 0;
    if (bad != 0) {
        value = not_a_number();
    } else if (form == PENALTY_MMCE && total > 0) {
        scale.right = scale.wrong = 1 / (total * total);
        scale.mixed = -2 / (total * total);
        value = signs / (total * total);
    } else if (form == PENALTY_MMCE_WEIGHTED && right > 0 && wrong > 0) {
        scale.right = 1 / (right * right * (right * right + 1e-5));
        scale.wrong = 1 / (wrong * wrong * (wrong * wrong + 1e-5));
        scale.mixed = -2 / (right * wrong * (right * wrong + 1e-5));
        const double square =
            scale.right * both_right + scale.wrong * both_wrong + scale.mixed * mixed + 1e-10;
        value = square > 0 ? sqrt(square) : 0;
        const double by = value > 0 ? 1 / (2 * value) : 0;
        scale.right *= by;
        scale.wrong *= by;
        scale.mixed *= by;
    }
    *out = scale;
    sums[LOSS_SUM] += lambda * value * sums[LOSS_WEIGHT];
}

/* The penalty of the batch of all ranks, from the confidences in layout.mine: it is added to the sums, and layout.pairs and
 * layout.scale are what the gradient needs. Collective. */
Status add_penalty(const Call *call, const LossHead &head, const Layout &layout, int64_t samples,
                   double *sums)
{
    const Stream stream = device_stream(call->device);
    Collective *collective = call->collective;
    const int64_t everyone = samples * collective->size;
    if (collective->size > 1) {
        constexpr int64_t NUMBERS = sizeof(Judged) / sizeof(double);
        Span part = {}, all = {};
        part.data = layout.mine;
        part.count = samples * NUMBERS;
        all.data = layout.all;
        all.count = everyone * NUMBERS;
        part.type = all.type = FLOAT64;
        TRY(collective_gather(collective, part, all, stream));
        TRY(collective_join(collective, stream));
    }
    TRY(launch("the penalty", pairs_kernel, blocks_for(everyone, PAIR_THREADS / WARP), PAIR_THREADS, 0,
               stream, layout.all, everyone, head.kernel_width, layout.pairs));
    return launch("the penalty", penalty_kernel, 1, MANY_THREADS, 0, stream, layout.all, layout.pairs,
                  everyone, head.penalty, head.lambda, sums, layout.scale);
}

/* For a second round over the rows, which makes the gradient. */
template <typename T>
void with_penalty(Arguments<T> *a, const Call *call, const Layout &layout, int64_t samples)
{
    a->judged = nullptr;
    a->sums = nullptr; /* they are there already */
    a->own = layout.all + call->collective->rank * samples;
    a->pairs = layout.pairs + call->collective->rank * samples;
    a->scale = layout.scale;
}

unsigned int row_threads(int64_t classes) { return classes <= FEW_CLASSES ? WARP : MANY_THREADS; }

} // namespace

#endif
