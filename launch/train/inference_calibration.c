#include "launch/train/inference_calibration.h"

#include "engine/base/memory.h"
#include "losses/calibration/exact_sum.h"
#include "nlp/bleu/ter.h"

#include <math.h>
#include <stdlib.h>

/* Of one temperature: confidence summed up exactly, so that ranks and their shares change nothing. */
typedef struct {
    int64_t count[INFERENCE_BINS], right[INFERENCE_BINS];
    ExactSum confidence[INFERENCE_BINS];
} Sums;

typedef struct {
    TerCounter *counter;
    Sums *sums; /* [temperatures] */
    uint8_t *right;
    size_t room;
} Taker;

/* [b / bins, (b + 1) / bins), the last closed. */
static int bin_of(double confidence)
{
    const int bin = (int)floor(confidence * INFERENCE_BINS);
    return bin < 0 ? 0 : bin >= INFERENCE_BINS ? INFERENCE_BINS - 1 : bin;
}

static Status take_translation(void *of, int pass, const SplitSentence *sentence, const Hypothesis *one)
{
    Taker *taker = of;
    Sums *sums = &taker->sums[pass];
    int64_t edits;
    if (one == NULL) return OK;
    const int64_t tokens = one->length - (one->ended ? 1 : 0);
    TRY(memory_grow(&taker->right, &taker->room, (size_t)tokens + 1, 1, "tokens of a translation"));
    /* Ids are not negative: they are words as they are. */
    Status status = ter_counter_align(
        taker->counter, (TerWords){(const uint32_t *)sentence->target, sentence->target_length - 1},
        (TerWords){(const uint32_t *)one->token, tokens}, taker->right, &edits);
    if (status != OK)
        return status_context(status, "sentence %lld of the split", (long long)sentence->number + 1);
    for (int64_t i = 0; i < tokens; ++i) {
        const double confidence = exp(one->token_log_probability[i]);
        const int bin = bin_of(confidence);
        ++sums->count[bin];
        sums->right[bin] += taker->right[i];
        exact_sum_add(&sums->confidence[bin], confidence);
    }
    return OK;
}

static void conclude(const Sums *sums, InferenceCalibration *result)
{
    double confidence = 0, right = 0, gaps = 0;
    *result = (InferenceCalibration){.tokens = 0};
    for (int b = 0; b < INFERENCE_BINS; ++b) {
        const double sum = exact_sum_value(sums->confidence[b]), count = (double)sums->count[b];
        CalibrationBin *bin = &result->bin[b];
        *bin = (CalibrationBin){.lower = (double)b / INFERENCE_BINS,
                                .upper = (double)(b + 1) / INFERENCE_BINS,
                                .count = sums->count[b]};
        result->tokens += sums->count[b];
        confidence += sum;
        right += (double)sums->right[b];
        gaps += fabs((double)sums->right[b] - sum);
        if (sums->count[b] == 0) continue;
        bin->confidence = sum / count;
        bin->accuracy = (double)sums->right[b] / count;
    }
    const double tokens = (double)result->tokens; /* none: nothing is known */
    result->ece = gaps / tokens;
    result->mean_confidence = confidence / tokens;
    result->accuracy = right / tokens;
}

static Status reduce(Collective *collective, Sums *sums)
{
    TRY(counts_reduce(collective, sums->count, INFERENCE_BINS));
    TRY(counts_reduce(collective, sums->right, INFERENCE_BINS));
    return exact_sum_reduce(collective, sums->confidence, INFERENCE_BINS);
}

Status inference_calibration(SplitTranslation *translation, const double temperature[], int count,
                             InferenceCalibration result[])
{
    Session *session = split_translation_session(translation);
    const TerOptions options = {.case_sensitive = true};
    Taker taker = {.counter = NULL};
    Status status = memory_new(&taker.sums, (size_t)count, sizeof *taker.sums, "sums of tokens");
    if (status == OK) status = ter_counter_new(&options, &taker.counter);
    if (status == OK)
        status = split_translation_run(translation, temperature, count, take_translation, &taker);
    status = comm_agree(session->world, status);
    for (int pass = 0; pass < count && status == OK; ++pass) {
        status = reduce(session->host_collective, &taker.sums[pass]);
        if (status == OK) conclude(&taker.sums[pass], &result[pass]);
    }
    ter_counter_free(taker.counter);
    free(taker.sums);
    free(taker.right);
    return status;
}
