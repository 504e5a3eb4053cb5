#include "nlp/bleu/metric.h"

#include "engine/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct MetricCounter {
    const Metric *metric;
    BleuCounter *bleu;
    ChrfCounter *chrf;
    TerCounter *ter;
};

/* Pieces of a signature. */
typedef struct {
    char text[512];
    size_t size;
    bool brief;
} Signature;

static void say(Signature *signature, const char *name, const char *brief, const char *value)
{
    const size_t room = sizeof signature->text - signature->size;
    const int made = snprintf(signature->text + signature->size, room, "%s%s:%s",
                              signature->size > 0 ? "|" : "", signature->brief ? brief : name, value);
    if (made > 0 && (size_t)made < room) signature->size += (size_t)made;
}

static void say_number(Signature *signature, const char *name, const char *brief, int64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", (long long)value);
    say(signature, name, brief, text);
}

static const char *yes(bool is) { return is ? "yes" : "no"; }

/* ---- BLEU ---- */

static int bleu_width(const Metric *metric)
{
    (void)metric;
    return BLEU_WIDTH;
}

static Status bleu_name(const Metric *metric, char **name)
{
    return text_copy(
        metric->tokenization.tokenizer == BLEU_TOKENS_COMPOUND_SPLIT ? "BLEU-compound-split" : "BLEU", name);
}

static void bleu_say(const Metric *metric, Signature *signature)
{
    static const char *const smoothings[] = {[BLEU_SMOOTH_EXP] = "exp",
                                             [BLEU_SMOOTH_NONE] = "none",
                                             [BLEU_SMOOTH_FLOOR] = "floor",
                                             [BLEU_SMOOTH_ADD_K] = "add-k"};
    const BleuOptions *options = &metric->bleu;
    char smoothing[64];
    (void)snprintf(smoothing, sizeof smoothing, "%s", smoothings[options->smoothing]);
    if (options->smoothing == BLEU_SMOOTH_FLOOR || options->smoothing == BLEU_SMOOTH_ADD_K)
        (void)snprintf(smoothing, sizeof smoothing, "%s[%.2f]", smoothings[options->smoothing],
                       bleu_smoothing_value(options));
    say(signature, "case", "c", metric->tokenization.lowercase ? "lc" : "mixed");
    say(signature, "eff", "e", yes(options->effective_order));
    say(signature, "tok", "tok", bleu_tokenization_name(&metric->tokenization));
    say(signature, "smooth", "s", smoothing);
}

static Status bleu_new(MetricCounter *counter)
{
    return bleu_counter_new(counter->metric->tokenization, &counter->bleu);
}

static Status bleu_references(MetricCounter *counter, const TextSpan reference[], int references)
{
    return bleu_counter_references(counter->bleu, reference, references);
}

static Status bleu_count(MetricCounter *counter, TextSpan hypothesis, double row[])
{
    BleuStatistics statistics;
    TRY(bleu_counter_count(counter->bleu, hypothesis, &statistics));
    bleu_row(&statistics, row);
    return OK;
}

static Number bleu_number(const Metric *metric, const double row[], Arithmetic arithmetic)
{
    return number_of(bleu_score_of(row, &metric->bleu, arithmetic).score);
}

/* "86.6/67.1/51.7/41.3 (BP = 0.976 ratio = 0.977 hyp_len = 1669 ref_len = 1709)" */
static Status bleu_details(const Metric *metric, const double row[], char **text)
{
    const BleuScore score = bleu_score_of(row, &metric->bleu, (Arithmetic){.kept = KEPT_IN_PYTHON});
    const double *precision = score.precision;
    return text_format(text, "%.1f/%.1f/%.1f/%.1f (BP = %.3f ratio = %.3f hyp_len = %.0f ref_len = %.0f)",
                       precision[0], precision[1], precision[2], precision[3], score.brevity_penalty,
                       row[1] > 0 ? row[0] / row[1] : 0, row[0], row[1]);
}

/* ---- chrF ---- */

static int chrf_row_width(const Metric *metric) { return chrf_width(&metric->chrf); }

static Status chrf_name(const Metric *metric, char **name)
{
    char plus[CHRF_MOST_ORDERS + 1];
    memset(plus, '+', sizeof plus);
    return text_format(name, "chrF%d%.*s", metric->chrf.beta, metric->chrf.words, plus);
}

static void chrf_say(const Metric *metric, Signature *signature)
{
    const ChrfOptions *options = &metric->chrf;
    say(signature, "case", "c", options->lowercase ? "lc" : "mixed");
    say(signature, "eff", "e", yes(!options->epsilon));
    say_number(signature, "nc", "nc", options->characters);
    say_number(signature, "nw", "nw", options->words);
    say(signature, "space", "s", yes(options->whitespace));
}

static Status chrf_new(MetricCounter *counter)
{
    return chrf_counter_new(&counter->metric->chrf, &counter->chrf);
}

static Status chrf_references(MetricCounter *counter, const TextSpan reference[], int references)
{
    return chrf_counter_references(counter->chrf, reference, references);
}

static Status chrf_count(MetricCounter *counter, TextSpan hypothesis, double row[])
{
    return chrf_counter_count(counter->chrf, hypothesis, row);
}

static Number chrf_number(const Metric *metric, const double row[], Arithmetic arithmetic)
{
    return chrf_score(row, &metric->chrf, arithmetic);
}

/* ---- TER ---- */

static int ter_width(const Metric *metric)
{
    (void)metric;
    return TER_WIDTH;
}

static Status ter_name(const Metric *metric, char **name)
{
    (void)metric;
    return text_copy("TER", name);
}

static void ter_say(const Metric *metric, Signature *signature)
{
    say(signature, "case", "c", metric->ter.case_sensitive ? "mixed" : "lc");
    say(signature, "tok", "t", "tercom");
    say(signature, "norm", "nr", yes(metric->ter.normalized));
    say(signature, "punct", "pn", yes(!metric->ter.no_punctuation));
    say(signature, "asian", "as", yes(metric->ter.asian));
}

static Status ter_new(MetricCounter *counter)
{
    return ter_counter_new(&counter->metric->ter, &counter->ter);
}

static Status ter_references(MetricCounter *counter, const TextSpan reference[], int references)
{
    return ter_counter_references(counter->ter, reference, references);
}

static Status ter_count(MetricCounter *counter, TextSpan hypothesis, double row[])
{
    return ter_counter_count(counter->ter, hypothesis, row);
}

static Number ter_number(const Metric *metric, const double row[], Arithmetic arithmetic)
{
    (void)metric;
    return ter_score(row, arithmetic);
}

/* ---- The table ---- */

static const struct {
    int (*width)(const Metric *);
    Status (*name)(const Metric *, char **);
    void (*say)(const Metric *, Signature *);
    Status (*start)(MetricCounter *);
    Status (*references)(MetricCounter *, const TextSpan[], int);
    Status (*count)(MetricCounter *, TextSpan, double[]);
    Number (*score)(const Metric *, const double[], Arithmetic);
    Status (*details)(const Metric *, const double[], char **); /* NULL: none */
} kinds[METRIC_KINDS] = {
    [METRIC_BLEU] = {bleu_width, bleu_name, bleu_say, bleu_new, bleu_references, bleu_count, bleu_number,
                     bleu_details},
    [METRIC_CHRF] = {chrf_row_width, chrf_name, chrf_say, chrf_new, chrf_references, chrf_count, chrf_number,
                     NULL},
    [METRIC_TER] = {ter_width, ter_name, ter_say, ter_new, ter_references, ter_count, ter_number, NULL},
};

int metric_width(const Metric *metric) { return kinds[metric->kind].width(metric); }

Status metric_name(const Metric *metric, char **name) { return kinds[metric->kind].name(metric, name); }

Status metric_signature(const Metric *metric, const SignatureFacts *facts, bool brief, char **out)
{
    Signature signature = {.brief = brief};
    if (facts->references < 0)
        say(&signature, "nrefs", "#", "var");
    else
        say_number(&signature, "nrefs", "#", facts->references);
    if (facts->resamples > 0) say_number(&signature, "bs", "bs", facts->resamples);
    if (facts->trials > 0) say_number(&signature, "ar", "ar", facts->trials);
    if (facts->seed != NULL) say(&signature, "seed", "rs", facts->seed);
    kinds[metric->kind].say(metric, &signature);
    say(&signature, "version", "v", facts->version);
    return text_copy(signature.text, out);
}

Status metric_counter_new(const Metric *metric, MetricCounter **out)
{
    *out = NULL;
    MetricCounter *counter;
    TRY(memory_new(&counter, 1, sizeof *counter, "a counter"));
    counter->metric = metric;
    Status status = kinds[metric->kind].start(counter);
    if (status != OK)
        metric_counter_free(counter);
    else
        *out = counter;
    return status;
}

void metric_counter_free(MetricCounter *counter)
{
    if (counter == NULL) return;
    bleu_counter_free(counter->bleu);
    chrf_counter_free(counter->chrf);
    ter_counter_free(counter->ter);
    free(counter);
}

Status metric_counter_references(MetricCounter *counter, const TextSpan reference[], int references)
{
    return kinds[counter->metric->kind].references(counter, reference, references);
}

Status metric_counter_count(MetricCounter *counter, TextSpan hypothesis, double row[])
{
    return kinds[counter->metric->kind].count(counter, hypothesis, row);
}

Number metric_score(const Metric *metric, const double row[], Arithmetic arithmetic)
{
    return kinds[metric->kind].score(metric, row, arithmetic);
}

Status metric_details(const Metric *metric, const double row[], char **text)
{
    *text = NULL;
    if (kinds[metric->kind].details == NULL) return OK;
    return kinds[metric->kind].details(metric, row, text);
}

static Status count_segments(MetricCounter *counter, const Segments *segments, int64_t from, int64_t to,
                             double *rows)
{
    const size_t width = (size_t)metric_width(counter->metric), systems = (size_t)segments->systems;
    const TextSpan *reference = segments->reference;
    for (int64_t i = 0; i < from; ++i)
        reference += segments->references[i];
    for (int64_t i = from; i < to; reference += segments->references[i++]) {
        TRY(metric_counter_references(counter, reference, segments->references[i]));
        for (size_t s = 0; s < systems; ++s)
            TRY(metric_counter_count(counter, segments->hypothesis[s][i],
                                     rows + ((size_t)i * systems + s) * width));
    }
    return OK;
}

Status metric_rows(const Metric *metric, const Segments *segments, int threads, double **rows)
{
    TRY(memory_new(rows, (size_t)segments->count * (size_t)segments->systems * (size_t)metric_width(metric),
                   sizeof **rows, "statistics of all segments"));
    Status first = OK;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; ++t) {
        MetricCounter *counter;
        Status status = metric_counter_new(metric, &counter);
        if (status == OK)
            status = count_segments(counter, segments, segments->count * t / threads,
                                    segments->count * (t + 1) / threads, *rows);
        metric_counter_free(counter);
#pragma omp critical
        {
            if (first == OK)
                first = status;
            else
                status_free(status);
        }
    }
    if (first != OK) {
        free(*rows);
        *rows = NULL;
    }
    return first;
}
