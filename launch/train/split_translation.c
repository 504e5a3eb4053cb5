#include "launch/train/split_translation.h"

#include "engine/base/memory.h"
#include "launch/search/decoder.h"
#include "launch/tasks/translation_data.h"
#include "launch/train/progress.h"
#include "losses/calibration/exact_sum.h"
#include "nlp/bleu/metric.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEPT_BYTES = 1 << 29 /* of sentences that are encoded once for all temperatures */
};

struct SplitTranslation {
    Session *session;
    const TranslationData *data;
    SplitTranslationOptions options;
    Split split;
    ParallelCorpus corpus;   /* the references' texts */
    SplitSentence *sentence; /* [count] this rank's, the longest first */
    int64_t count;
    int most_source, most_target, most_kept;
    Decoder *decoder;
    /* Of a run: */
    TakeTranslation *take;
    void *taker;
    int64_t taken, wanted; /* sentences at all temperatures */
    double drawn;          /* when progress was shown last */
};

SplitTranslationOptions split_translation_defaults(void)
{
    return (SplitTranslationOptions){.lines = translator_defaults()};
}

void split_translation_search_text(const SplitTranslationOptions *options, char text[SEARCH_TEXT])
{
    const SearchOptions *search = &options->lines.search;
    if (search->method == SEARCH_GREEDY)
        (void)snprintf(text, SEARCH_TEXT, "greedy search");
    else
        (void)snprintf(text, SEARCH_TEXT, "beam %d, alpha %.4g", search->beam, search->alpha);
}

/* ---- sentences ---- */

static const TranslationSplit *split_of(const SplitTranslation *t) { return &t->data->split[t->split]; }

typedef struct {
    int64_t number;
    int32_t length;
} ByLength;

static int longest_first(const void *a, const void *b)
{
    const ByLength *left = a, *right = b;
    if (left->length != right->length) return left->length > right->length ? -1 : 1;
    return left->number < right->number ? -1 : left->number > right->number;
}

/* The most tokens of a source, as plumb translate has them: longer ones are cut. */
static int64_t longest_source(const TranslationData *data)
{
    return data->positions > 0 && data->positions < data->longest ? data->positions : data->longest;
}

static Status copy_ids(const SplitTranslation *t, int side, int64_t pair, int64_t most, int32_t **id,
                       int *length)
{
    const EncodedCorpus *corpus = &split_of(t)->corpus;
    int64_t count = encoded_length(corpus, side, pair);
    TRY(memory_new(id, (size_t)count + 1, sizeof **id, "a sentence"));
    encoded_ids(corpus, side, pair, *id);
    if (count > most - 1) count = most - 1;
    (*id)[count] = SUBWORD_END;
    *length = (int)count + 1;
    return OK;
}

static Status take_sentence(SplitTranslation *t, int64_t number, SplitSentence *sentence)
{
    const int64_t pair = split_of(t)->pair[number];
    sentence->number = number;
    TRY(copy_ids(t, SOURCE_SIDE, pair, longest_source(t->data), &sentence->source, &sentence->length));
    if (sentence->length > t->most_source) t->most_source = sentence->length;
    return copy_ids(t, TARGET_SIDE, pair, INT32_MAX, &sentence->target, &sentence->target_length);
}

/* The longest are dealt first, so that all ranks have as much to do. */
static Status deal_sentences(SplitTranslation *t)
{
    const TranslationSplit *split = split_of(t);
    const World *world = t->session->world;
    ByLength *order;
    TRY(memory_new(&order, (size_t)split->count + 1, sizeof *order, "sentences of a split"));
    for (int64_t i = 0; i < split->count; ++i)
        order[i] = (ByLength){.number = i, .length = split->length[i].source};
    qsort(order, (size_t)split->count, sizeof *order, longest_first);
    Status status = memory_new(&t->sentence, (size_t)split->count / (size_t)world->size + 1,
                               sizeof *t->sentence, "sentences of a split");
    for (int64_t i = world->rank; i < split->count && status == OK; i += world->size)
        status = take_sentence(t, order[i].number, &t->sentence[t->count++]);
    free(order);
    return status;
}

/* The references' texts: their ids do not say what normalisation has changed. */
static Status find_references(SplitTranslation *t)
{
    const TranslationSplit *split = split_of(t);
    TextSpan pair[SIDES], *target;
    CorpusPlace place = {.line = 0};
    TRY(translation_data_open_split(t->data, t->split, &t->corpus));
    for (int side = 0; side < SIDES; ++side)
        if (t->corpus.hash[side] != split->hash[side])
            return fail(STATUS_INPUT, "%s has changed since this command has begun", t->corpus.name[side]);
    TRY(memory_new(&target, (size_t)t->corpus.lines, sizeof *target, "references"));
    for (int64_t line = 0; parallel_corpus_next(&t->corpus, &place, pair); ++line)
        target[line] = pair[TARGET_SIDE];
    for (int64_t i = 0; i < t->count; ++i)
        t->sentence[i].reference = target[split->pair[t->sentence[i].number]];
    free(target);
    return OK;
}

/* ---- opening ---- */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* How many sentences' memories there is room for; at least as many as are searched at a time. */
static int64_t count_kept(const SplitTranslation *t, const Transformer *network, int64_t slots)
{
    const DType compute = t->session->experiment.compute;
    const int64_t bytes =
        t->most_source * 2 * network->width * network->layers * (int64_t)dtype_size(compute);
    const int64_t fit = KEPT_BYTES / bytes;
    return smaller(t->count, fit > slots ? fit : slots);
}

static Status open_decoder(SplitTranslation *t)
{
    const Session *session = t->session;
    const SplitTranslationOptions *options = &t->options;
    Transformer network = session->experiment.model.transformer;
    network.vocabulary = session->data->classes;
    const int64_t wished =
        options->sentences > 0 ? options->sentences : decoder_usual_sentences(session->device);
    const int64_t slots = smaller(wished, t->count);
    const int most = t->data->positions > 0 ? (int)t->data->positions : DECODER_MOST_TARGET;
    t->most_target = translator_limit(&options->lines, t->most_source, most);
    t->most_kept = options->keeps ? (int)count_kept(t, &network, slots) : 0;
    DecoderOptions decoder = decoder_options_of(&options->lines.search, t->most_source, t->most_target);
    decoder.network = network;
    decoder.compute = session->experiment.compute;
    decoder.slots = (int)slots;
    decoder.kept = t->most_kept;
    decoder.record = session->experiment.record;
    decoder.fuse = session->experiment.fuse;
    decoder.plan = session->experiment.plan;
    return decoder_create(&decoder, session->device, &t->decoder);
}

static Status open_here(SplitTranslation *t)
{
    t->data = translation_data_of(t->session->data);
    if (t->data == NULL)
        return fail(STATUS_UNSUPPORTED, "%s translates nothing: there is no BLEU of %s",
                    t->session->data->dataset, t->session->data->task->unit);
    if (split_of(t)->count == 0)
        return fail(STATUS_INPUT, "the %s split of %s is empty", split_name(t->split),
                    t->session->data->dataset);
    TRY(search_check(&t->options.lines.search));
    TRY(deal_sentences(t));
    TRY(find_references(t));
    return t->count > 0 ? open_decoder(t) : OK; /* there may be more ranks than sentences */
}

Status split_translation_open(Session *session, Split split, const SplitTranslationOptions *options,
                              SplitTranslation **out)
{
    SplitTranslation *t;
    *out = NULL;
    Status status = memory_new(&t, 1, sizeof *t, "a split that is translated");
    if (status == OK) {
        *t = (SplitTranslation){.session = session, .split = split, .options = *options, .most_source = 1};
        status = open_here(t);
    }
    status = comm_agree(session->world, status);
    if (status != OK) {
        split_translation_close(t);
        return status;
    }
    *out = t;
    return OK;
}

void split_translation_close(SplitTranslation *t)
{
    if (t == NULL) return;
    decoder_free(t->decoder);
    for (int64_t i = 0; i < t->count; ++i) {
        free(t->sentence[i].source);
        free(t->sentence[i].target);
    }
    free(t->sentence);
    parallel_corpus_close(&t->corpus);
    free(t);
}

Session *split_translation_session(const SplitTranslation *t) { return t->session; }

/* ---- searching ---- */

typedef struct {
    SplitSentence *sentence;
    int64_t count;
} Chunk;

static Status encode_chunk(const SplitTranslation *t, const Chunk *chunk)
{
    SearchStart *start;
    int count = 0;
    TRY(memory_new(&start, (size_t)chunk->count, sizeof *start, "sentences to encode"));
    for (int64_t i = 0; i < chunk->count; ++i)
        if (chunk->sentence[i].length > 1)
            start[count++] = (SearchStart){
                .slot = (int)i, .source = chunk->sentence[i].source, .length = chunk->sentence[i].length};
    const Status status = decoder_encode(t->decoder, start, count);
    free(start);
    return status;
}

/* On a terminal a line that is drawn again and again; else, as under mpirun, a new line now and then. */
static void show_progress(SplitTranslation *t)
{
    if (!t->options.progress || t->session->world->rank != 0) return;
    const bool terminal = isatty(STDERR_FILENO) == 1;
    const double now = progress_clock(), often = terminal ? 0.5 : 30; /* seconds */
    if (t->taken == t->wanted) {
        if (terminal) (void)fputs("\r\033[K", stderr);
        return;
    }
    if (now - t->drawn < often) return;
    (void)fprintf(stderr, "%stranslating: %" PRId64 " of %" PRId64 " sentences%s", terminal ? "\r\033[K" : "",
                  t->taken, t->wanted, terminal ? "" : "\n");
    t->drawn = now;
}

static Status give(SplitTranslation *t, int pass, const SplitSentence *sentence, const Hypothesis *one)
{
    ++t->taken;
    show_progress(t);
    return t->take(t->taker, pass, sentence, one);
}

static Status add_sentences(SplitTranslation *t, const Chunk *chunk, Search *search, int pass)
{
    for (int64_t i = 0; i < chunk->count; ++i) {
        SplitSentence *sentence = &chunk->sentence[i];
        const SearchInput input = {.number = t->most_kept > 0 ? i : sentence->number,
                                   .line = split_of(t)->pair[sentence->number] + 1,
                                   .owner = sentence,
                                   .source = sentence->source,
                                   .length = sentence->length,
                                   .limit =
                                       translator_limit(&t->options.lines, sentence->length, t->most_target)};
        TRY(sentence->length > 1 ? search_add(search, &input) : give(t, pass, sentence, NULL));
    }
    return OK;
}

static Status search_chunk(SplitTranslation *t, const Chunk *chunk, double temperature, int pass)
{
    SearchOptions options = t->options.lines.search;
    options.temperature = temperature;
    Search *search;
    TRY(search_create(&options, decoder_network(t->decoder), &search));
    Status status = add_sentences(t, chunk, search, pass);
    while (status == OK && search_waiting(search) + search_active(search) > 0) {
        SearchResult result;
        status = search_step(search);
        while (status == OK && search_take(search, &result)) {
            status = give(t, pass, result.owner, result.count > 0 ? &result.list[0] : NULL);
            search_result_free(&result);
        }
    }
    search_free(search);
    return status;
}

Status split_translation_run(SplitTranslation *t, const double temperature[], int count,
                             TakeTranslation *take, void *taker)
{
    if (t->count == 0) return OK;
    t->take = take;
    t->taker = taker;
    t->taken = 0;
    t->wanted = t->count * count;
    t->drawn = progress_clock();
    TRY(decoder_take_parameters(t->decoder, t->session->store));
    const int64_t together = t->most_kept > 0 ? t->most_kept : t->count;
    for (int64_t first = 0; first < t->count; first += together) {
        const Chunk chunk = {t->sentence + first, smaller(together, t->count - first)};
        if (t->most_kept > 0) TRY(encode_chunk(t, &chunk));
        for (int pass = 0; pass < count; ++pass)
            TRY(search_chunk(t, &chunk, temperature[pass], pass));
    }
    return OK;
}

/* ---- BLEU ---- */

typedef struct {
    const Subwords *subwords;
    BleuCounter *counter;
    BleuStatistics *sum; /* [temperatures] */
} Scores;

static const BleuTokenization tokenization = {.tokenizer = BLEU_TOKENS_13A};

static Status count_translation(void *taker, int pass, const SplitSentence *sentence, const Hypothesis *one)
{
    Scores *scores = taker;
    BleuStatistics part;
    char *text = NULL;
    size_t size = 0;
    if (one != NULL)
        TRY(subwords_decode(scores->subwords, one->token, (size_t)(one->length - (one->ended ? 1 : 0)), &text,
                            &size));
    Status status = bleu_counter_references(scores->counter, &sentence->reference, 1);
    if (status == OK)
        status = bleu_counter_count(scores->counter, (TextSpan){text != NULL ? text : "", size}, &part);
    if (status == OK) bleu_add(&scores->sum[pass], &part);
    free(text);
    return status;
}

/* Of all ranks, on all of them. */
static Status sum_statistics(Session *session, BleuStatistics *sum)
{
    int64_t counts[2 * BLEU_ORDER + 2];
    memcpy(counts, sum->correct, sizeof sum->correct);
    memcpy(counts + BLEU_ORDER, sum->total, sizeof sum->total);
    counts[2 * BLEU_ORDER] = sum->hypothesis;
    counts[2 * BLEU_ORDER + 1] = sum->reference;
    TRY(counts_reduce(session->host_collective, counts, 2 * BLEU_ORDER + 2));
    memcpy(sum->correct, counts, sizeof sum->correct);
    memcpy(sum->total, counts + BLEU_ORDER, sizeof sum->total);
    sum->hypothesis = counts[2 * BLEU_ORDER];
    sum->reference = counts[2 * BLEU_ORDER + 1];
    return OK;
}

Status split_translation_bleu(SplitTranslation *t, const double temperature[], int count, double bleu[])
{
    Scores scores = {.subwords = t->data->subwords};
    const BleuOptions options = {.smoothing = BLEU_SMOOTH_EXP, .value = -1};
    Status status = memory_new(&scores.sum, (size_t)count, sizeof *scores.sum, "counts of n-grams");
    if (status == OK) status = bleu_counter_new(tokenization, &scores.counter);
    if (status == OK) status = split_translation_run(t, temperature, count, count_translation, &scores);
    status = comm_agree(t->session->world, status);
    for (int pass = 0; pass < count && status == OK; ++pass) {
        status = sum_statistics(t->session, &scores.sum[pass]);
        if (status == OK) bleu[pass] = bleu_score(&scores.sum[pass], &options).score;
    }
    bleu_counter_free(scores.counter);
    free(scores.sum);
    return status;
}

Status split_translation_signature(char **text)
{
    const Metric metric = {.kind = METRIC_BLEU,
                           .tokenization = tokenization,
                           .bleu = {.smoothing = BLEU_SMOOTH_EXP, .value = -1}};
    const SignatureFacts facts = {.references = 1, .version = SACREBLEU_VERSION "+plumb." PLUMB_VERSION};
    return metric_signature(&metric, &facts, false, text);
}
