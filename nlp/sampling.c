#include "nlp/sampling.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct {
    float logit;
    int32_t token;
} Choice;

struct Sampler {
    SamplingOptions options;
    Choice *choice;   /* [vocabulary] */
    double *weight;   /* [vocabulary] exp of what is left of a choice */
    double log_total; /* of the last row: log sum of exp((logit - highest) / temperature) */
    float highest;
};

Status sampler_create(const SamplingOptions *options, Sampler **out)
{
    *out = NULL;
    Sampler *sampler;
    TRY(memory_new(&sampler, 1, sizeof *sampler, "sampling"));
    sampler->options = *options;
    Status status =
        memory_new(&sampler->choice, (size_t)options->vocabulary, sizeof *sampler->choice, "sampling");
    if (status == OK)
        status =
            memory_new(&sampler->weight, (size_t)options->vocabulary, sizeof *sampler->weight, "sampling");
    if (status != OK) {
        sampler_free(sampler);
        return status;
    }
    *out = sampler;
    return OK;
}

void sampler_free(Sampler *sampler)
{
    if (sampler == NULL) return;
    free(sampler->choice);
    free(sampler->weight);
    free(sampler);
}

/* Reads a row: its highest logit and its sum. */
static Status measure(Sampler *sampler, const float logits[])
{
    float highest = -INFINITY;
    double total = 0;
    for (int64_t i = 0; i < sampler->options.vocabulary; ++i) {
        if (isnan(logits[i]) || logits[i] == INFINITY)
            return fail(STATUS_NUMERIC, "the network's logit of token %lld is %g", (long long)i,
                        (double)logits[i]);
        if (logits[i] > highest) highest = logits[i];
    }
    if (highest == -INFINITY) return fail(STATUS_NUMERIC, "all logits of the network are -inf");
    for (int64_t i = 0; i < sampler->options.vocabulary; ++i)
        total += exp(((double)logits[i] - (double)highest) / sampler->options.temperature);
    sampler->highest = highest;
    sampler->log_total = log(total);
    return OK;
}

static double log_probability_of(const Sampler *sampler, float logit)
{
    return ((double)logit - (double)sampler->highest) / sampler->options.temperature - sampler->log_total;
}

static int best_first(const void *a, const void *b)
{
    const Choice *left = a, *right = b;
    if (left->logit != right->logit) return left->logit > right->logit ? -1 : 1;
    return left->token < right->token ? -1 : left->token > right->token;
}

/* The fewest of the sorted choices that have the share top_p. */
static int64_t nucleus(const Sampler *sampler, int64_t count)
{
    double total = 0, sum = 0;
    for (int64_t i = 0; i < count; ++i)
        total += sampler->weight[i];
    for (int64_t i = 0; i < count; ++i) {
        sum += sampler->weight[i];
        if (sum >= sampler->options.top_p * total) return i + 1;
    }
    return count;
}

Status sampler_draw(Sampler *sampler, const float logits[], const int32_t banned[], int banned_count,
                    double uniform, int32_t *token, double *log_probability)
{
    const SamplingOptions *options = &sampler->options;
    TRY(measure(sampler, logits));
    int64_t count = 0;
    float highest = -INFINITY; /* of those that are allowed */
    for (int64_t i = 0; i < options->vocabulary; ++i) {
        bool allowed = logits[i] > -INFINITY;
        for (int j = 0; j < banned_count && allowed; ++j)
            allowed = banned[j] != i;
        if (!allowed) continue;
        sampler->choice[count++] = (Choice){.logit = logits[i], .token = (int32_t)i};
        if (logits[i] > highest) highest = logits[i];
    }
    *token = -1;
    if (count == 0) return OK;
    if (options->top_k > 0 || options->top_p < 1)
        qsort(sampler->choice, (size_t)count, sizeof *sampler->choice, best_first);
    if (options->top_k > 0 && options->top_k < count) count = options->top_k;
    for (int64_t i = 0; i < count; ++i)
        sampler->weight[i] = exp(((double)sampler->choice[i].logit - (double)highest) / options->temperature);
    if (options->top_p < 1) count = nucleus(sampler, count);
    double total = 0, sum = 0;
    for (int64_t i = 0; i < count; ++i)
        total += sampler->weight[i];
    int64_t drawn = 0;
    for (int64_t i = 0; i < count; ++i) {
        sum += sampler->weight[i];
        if (sampler->weight[i] > 0) drawn = i;
        if (uniform * total < sum) break;
    }
    *token = sampler->choice[drawn].token;
    *log_probability = log_probability_of(sampler, sampler->choice[drawn].logit);
    return OK;
}

Status sampler_take(Sampler *sampler, const float logits[], int32_t token, double *log_probability)
{
    TRY(measure(sampler, logits));
    *log_probability = log_probability_of(sampler, logits[token]);
    return OK;
}
