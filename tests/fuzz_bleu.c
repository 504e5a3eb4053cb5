/* Two texts, a LF between them: every tokeniser, BLEU, chrF and TER take any bytes; what equals its reference is perfect. */
#include "nlp/bleu/characters.h"
#include "nlp/bleu/metric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

static double score(const Metric *metric, TextSpan hypothesis, const TextSpan reference[], int references)
{
    MetricCounter *counter;
    double row[METRIC_WIDEST];
    Status status = metric_counter_new(metric, &counter);
    require(status == OK);
    status = metric_counter_references(counter, reference, references);
    require(status == OK);
    status = metric_counter_count(counter, hypothesis, row);
    require(status == OK);
    metric_counter_free(counter);
    const double value = metric_score(metric, row, (Arithmetic){.kept = KEPT_IN_PYTHON}).value;
    require(isfinite(value) && value >= 0);
    require(metric->kind == METRIC_TER || value < 100.001);
    for (int k = 0; k < metric_width(metric); ++k)
        require(row[k] >= 0);
    return value;
}

static bool is_blank(TextSpan text) { return text_without_space_at_end(text).size == 0; }

static void check(const Metric *metric, TextSpan a, TextSpan b)
{
    const TextSpan both[] = {b, a};
    (void)score(metric, a, &b, 1);
    const double best = score(metric, a, both, 2), same = score(metric, a, &a, 1);
    if (metric->kind == METRIC_CHRF)
        require(is_blank(a) ? same == 0 : fabs(same - 100) < 1e-9 && best > 99.999999);
    /* References are prepared twice, which normalisation feels. */
    if (metric->kind == METRIC_TER && !metric->ter.normalized) require(same == 0 && best == 0);
    if (metric->kind == METRIC_BLEU && metric->bleu.effective_order && same > 0)
        require(fabs(same - 100) < 1e-9);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0 || size > 1024) return 0;
    const char *text = (const char *)bytes, *middle = memchr(text, '\n', size);
    if (middle == NULL) middle = text + size;
    const TextSpan a = {.data = text, .size = (size_t)(middle - text)};
    const TextSpan b = middle < text + size
                           ? (TextSpan){.data = middle + 1, .size = (size_t)(text + size - middle - 1)}
                           : (TextSpan){.data = text, .size = 0};
    for (int t = 0; t <= BLEU_TOKENS_COMPOUND_SPLIT; ++t) {
        const Metric bleu = {.kind = METRIC_BLEU,
                             .tokenization = {.tokenizer = (BleuTokenizer)t, .lowercase = t % 2 == 0},
                             .bleu = {.value = -1, .effective_order = true}};
        check(&bleu, a, b);
    }
    Metric chrf = {.kind = METRIC_CHRF, .chrf = chrf_usual};
    chrf.chrf.lowercase = size % 2 == 0;
    chrf.chrf.words = (int)(size % 3);
    check(&chrf, a, b);
    for (int k = 0; k < 4; ++k) {
        const Metric ter = {
            .kind = METRIC_TER,
            .ter = {
                .case_sensitive = k == 1, .normalized = k > 1, .no_punctuation = k % 2 == 1, .asian = k > 0}};
        check(&ter, a, b);
    }
    return 0;
}
