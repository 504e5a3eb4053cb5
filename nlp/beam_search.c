#include "nlp/beam_search.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "nlp/hypotheses.h"
#include "nlp/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- state ---- */

/* A sentence: in the queue, where there may be many, then in a slot. */
typedef struct Sentence {
    struct Sentence *next;
    SearchInput input; /* source and prefix are its own */
    int slot, steps;
    Hypotheses hypotheses; /* from its start on */
} Sentence;

typedef struct Taken {
    struct Taken *next;
    SearchResult result;
} Taken;

struct Search {
    SearchOptions options;
    const SearchNetwork *network;
    Sampler *sampler;
    Sentence *first, **last; /* the queue */
    int waiting, active;
    Sentence **in_slot; /* [slots] NULL: free */
    SearchStart *start; /* [slots] */
    /* Of a step: */
    SearchStep step;
    SearchRow *row; /* [slots * beam] */
    int32_t *banned;
    size_t banned_capacity;
    SearchCandidate *candidate; /* [2 * beam] */
    Taken *taken, **taken_last;
    SearchCounts counts;
};

static void free_sentence(Sentence *sentence)
{
    if (sentence == NULL) return;
    free((void *)sentence->input.source);
    free((void *)sentence->input.prefix);
    hypotheses_free(&sentence->hypotheses);
    free(sentence);
}

void search_result_free(SearchResult *result)
{
    for (int i = 0; i < result->count; ++i) {
        free(result->list[i].token);
        free(result->list[i].token_log_probability);
    }
    free(result->list);
    *result = (SearchResult){.list = NULL};
}

/* Candidates that a row gives: with 2 * beam of each, the best 2 * beam of a sentence are among them. */
static int candidates_of(const SearchOptions *options)
{
    return options->method == SEARCH_GREEDY ? 1 : 2 * options->beam;
}

static Status make_room(Search *search)
{
    const size_t slots = (size_t)search->network->slots, rows = slots * (size_t)search->options.beam;
    const size_t candidates = rows * (size_t)candidates_of(&search->options);
    TRY(memory_new(&search->in_slot, slots, sizeof *search->in_slot, "sentences of a search"));
    TRY(memory_new(&search->start, slots, sizeof *search->start, "sentences of a search"));
    TRY(memory_new(&search->row, rows, sizeof *search->row, "rows of a search"));
    TRY(memory_new(&search->candidate, 2 * (size_t)search->options.beam, sizeof *search->candidate,
                   "candidates of a search"));
    TRY(memory_new(&search->step.token, candidates, sizeof *search->step.token, "candidates of a search"));
    TRY(memory_new(&search->step.log_probability, candidates, sizeof *search->step.log_probability,
                   "candidates of a search"));
    if (search->options.method != SEARCH_SAMPLE) return OK;
    TRY(memory_new(&search->step.logits, rows * (size_t)search->network->vocabulary,
                   sizeof *search->step.logits, "logits of a search"));
    const SamplingOptions sampling = {.vocabulary = search->network->vocabulary,
                                      .temperature = search->options.temperature,
                                      .top_k = search->options.top_k,
                                      .top_p = search->options.top_p};
    return sampler_create(&sampling, &search->sampler);
}

Status search_create(const SearchOptions *options, const SearchNetwork *network, Search **out)
{
    *out = NULL;
    TRY(search_check(options));
    Search *search;
    TRY(memory_new(&search, 1, sizeof *search, "a search"));
    search->options = *options;
    search->network = network;
    search->last = &search->first;
    search->taken_last = &search->taken;
    const Status status = make_room(search);
    if (status != OK) {
        search_free(search);
        return status;
    }
    search->step.row = search->row;
    search->step.candidates = candidates_of(options);
    search->step.temperature = options->temperature;
    *out = search;
    return OK;
}

void search_free(Search *search)
{
    if (search == NULL) return;
    for (Sentence *sentence = search->first, *next; sentence != NULL; sentence = next) {
        next = sentence->next;
        free_sentence(sentence);
    }
    for (int i = 0; search->in_slot != NULL && i < search->network->slots; ++i)
        free_sentence(search->in_slot[i]);
    for (Taken *taken = search->taken, *next; taken != NULL; taken = next) {
        next = taken->next;
        search_result_free(&taken->result);
        free(taken);
    }
    sampler_free(search->sampler);
    free(search->in_slot);
    free(search->start);
    free(search->row);
    free(search->candidate);
    free(search->banned);
    free(search->step.token);
    free(search->step.log_probability);
    free(search->step.logits);
    free(search);
}

int search_waiting(const Search *search) { return search->waiting; }
int search_active(const Search *search) { return search->active; }
SearchCounts search_counts(const Search *search) { return search->counts; }

/* ---- the queue ---- */

static Status copy_ids(const int32_t ids[], int count, const int32_t **out)
{
    int32_t *copy;
    TRY(memory_new(&copy, (size_t)count + 1, sizeof *copy, "a sentence"));
    if (count > 0) memcpy(copy, ids, (size_t)count * sizeof *copy);
    *out = copy;
    return OK;
}

/* The error, if it is one, with the name of the sentence. */
static Status about(Status status, const SearchInput *input)
{
    if (status == OK) return OK;
    if (input->line > 0) return status_context(status, "line %lld", (long long)input->line);
    return status_context(status, "sentence %lld", (long long)input->number);
}

static Status check_input(const SearchNetwork *network, const SearchInput *input)
{
    if (input->length < 1) return fail(STATUS_INPUT, "it has no tokens");
    if (input->length > network->most_source)
        return fail(STATUS_INPUT, "it has %d tokens; the network has room for %d", input->length,
                    network->most_source);
    if (input->limit < 1 || input->limit > network->most_target)
        return fail(STATUS_INPUT, "its limit is %d tokens; the network has room for 1 to %d", input->limit,
                    network->most_target);
    if (input->prefix_length >= input->limit)
        return fail(STATUS_INPUT, "its prefix has %d tokens, and its translation may have %d",
                    input->prefix_length, input->limit);
    for (int i = 0; i < input->prefix_length; ++i)
        if (input->prefix[i] < 0 || input->prefix[i] >= network->vocabulary)
            return fail(STATUS_INPUT, "its prefix has the token %d, of %lld", input->prefix[i],
                        (long long)network->vocabulary);
    return OK;
}

Status search_add(Search *search, const SearchInput *input)
{
    TRY(about(check_input(search->network, input), input));
    Sentence *sentence;
    TRY(memory_new(&sentence, 1, sizeof *sentence, "a sentence"));
    sentence->input = *input;
    sentence->input.source = sentence->input.prefix = NULL;
    Status status = copy_ids(input->source, input->length, &sentence->input.source);
    if (status == OK) status = copy_ids(input->prefix, input->prefix_length, &sentence->input.prefix);
    if (status != OK) {
        free_sentence(sentence);
        return status;
    }
    *search->last = sentence;
    search->last = &sentence->next;
    ++search->waiting;
    return OK;
}

/* Fills free slots once a quarter of them is free, so that sentences are encoded together, or when all that wait fit. */
static Status start_waiting(Search *search)
{
    const int slots = search->network->slots, free_slots = slots - search->active;
    const int few = slots / 4 > 1 ? slots / 4 : 1;
    if (search->waiting == 0 || free_slots < (search->waiting < few ? search->waiting : few)) return OK;
    int count = 0;
    for (int slot = 0; slot < slots && search->first != NULL; ++slot) {
        if (search->in_slot[slot] != NULL) continue;
        Sentence *sentence = search->first;
        search->first = sentence->next;
        if (search->first == NULL) search->last = &search->first;
        --search->waiting;
        ++search->active;
        sentence->slot = slot;
        search->in_slot[slot] = sentence; /* which frees it from here on */
        TRY(hypotheses_begin(&search->options, &sentence->hypotheses));
        search->start[count++] = (SearchStart){.slot = slot,
                                               .number = sentence->input.number,
                                               .source = sentence->input.source,
                                               .length = sentence->input.length};
    }
    return search->network->start(search->network->context, search->start, count);
}

/* ---- what the network is asked ---- */

/* Each token once in a row. */
static Status ban(Search *search, SearchRow *row, int32_t token)
{
    const size_t count = (size_t)search->step.banned_count;
    for (size_t i = (size_t)row->banned; i < count; ++i)
        if (search->banned[i] == token) return OK;
    TRY(memory_grow(&search->banned, &search->banned_capacity, count + 1, sizeof *search->banned,
                    "banned tokens"));
    search->banned[count] = token;
    ++search->step.banned_count;
    ++row->banned_count;
    return OK;
}

/* Bans what would make the last tokens a sequence that the hypothesis has already. */
static Status ban_repetitions(Search *search, const Sentence *sentence, const LiveHypothesis *live,
                              SearchRow *row)
{
    const int length = live->length, size = search->options.no_repeat;
    if (length < size) return OK;
    int32_t *token;
    TRY(memory_new(&token, (size_t)length, sizeof *token, "a hypothesis"));
    hypotheses_tokens(&sentence->hypotheses, live, token);
    const int32_t *tail = token + length - (size - 1);
    Status status = OK;
    for (int i = 0; i + size <= length && status == OK; ++i)
        if (memcmp(token + i, tail, (size_t)(size - 1) * sizeof *token) == 0)
            status = ban(search, row, token[i + size - 1]);
    free(token);
    return status;
}

static Status add_row(Search *search, const Sentence *sentence, int beam)
{
    const SearchOptions *options = &search->options;
    const Hypotheses *all = &sentence->hypotheses;
    const LiveHypothesis *live = &all->live[beam];
    SearchRow *row = &search->row[search->step.rows++];
    *row = (SearchRow){.slot = sentence->slot,
                       .beam = beam,
                       .parent = live->parent,
                       .position = all->position,
                       .token = hypotheses_last(options, all, live),
                       .forced = -1,
                       .banned = search->step.banned_count};
    if (all->position < sentence->input.prefix_length) {
        row->forced = sentence->input.prefix[all->position];
        return OK;
    }
    if (all->position + 1 == sentence->input.limit && options->rules.limit == LIMIT_FORCED_END) {
        row->forced = options->end;
        return OK;
    }
    for (int i = 0; i < 2; ++i)
        if (options->never[i] >= 0) TRY(ban(search, row, options->never[i]));
    if (live->length < options->minimum) TRY(ban(search, row, options->end));
    return options->no_repeat > 0 ? ban_repetitions(search, sentence, live, row) : OK;
}

/* ---- what becomes of a step ---- */

static bool comes_before(const SearchCandidate *a, const SearchCandidate *b)
{
    if (a->total != b->total) return a->total > b->total;
    if (a->token != b->token) return a->token < b->token;
    return a->row < b->row;
}

/* The best candidates of a sentence, whose rows begin at `first`: each row has its own in order. */
static Status merge(Search *search, const Hypotheses *all, int first, int *count)
{
    const int width = search->step.candidates, most = candidates_of(&search->options);
    int next[SEARCH_MOST_BEAM] = {0};
    for (*count = 0; *count < most; ++*count) {
        SearchCandidate best = {.row = -1};
        for (int row = 0; row < all->live_count; ++row) {
            if (next[row] == width) continue;
            const size_t at = (size_t)(first + row) * (size_t)width + (size_t)next[row];
            const double log_probability = search->step.log_probability[at];
            if (search->step.token[at] < 0 || log_probability == -INFINITY) continue;
            if (isnan(log_probability) || log_probability == INFINITY)
                return fail(STATUS_NUMERIC, "the network gives the log-probability %g at position %d",
                            log_probability, all->position);
            const SearchCandidate one = {.row = row,
                                         .token = search->step.token[at],
                                         .total = all->live[row].log_probability + log_probability,
                                         .log_probability = log_probability};
            if (best.row < 0 || comes_before(&one, &best)) best = one;
        }
        if (best.row < 0) break;
        ++next[best.row];
        search->candidate[*count] = best;
    }
    return OK;
}

/* Draws the next token of each sample; at position 0 all samples are drawn from the one row that there is. */
static Status draw(Search *search, const Sentence *sentence, int first, int *count)
{
    const SearchOptions *options = &search->options;
    const Hypotheses *all = &sentence->hypotheses;
    const bool begins = all->position == 0;
    const int samples = begins ? options->beam : all->live_count;
    *count = 0;
    for (int i = 0; i < samples; ++i) {
        const int of = begins ? 0 : i;
        const SearchRow *row = &search->row[first + of];
        const float *logits =
            search->step.logits + (size_t)(first + of) * (size_t)search->network->vocabulary;
        SearchCandidate one = {.row = of, .sample = begins ? i : all->live[i].sample};
        if (row->forced >= 0) {
            one.token = row->forced;
            TRY(sampler_take(search->sampler, logits, one.token, &one.log_probability));
        } else {
            RandomStream stream =
                random_stream(options->seed, RANDOM_SAMPLING, (uint64_t)sentence->input.number);
            stream.index = (uint64_t)all->position * SEARCH_MOST_BEAM + (uint64_t)one.sample;
            const int32_t *banned = row->banned_count > 0 ? search->banned + row->banned : NULL;
            TRY(sampler_draw(search->sampler, logits, banned, row->banned_count, random_uniform(&stream),
                             &one.token, &one.log_probability));
            if (one.token < 0) continue; /* everything is banned: the sample has no end */
        }
        one.total = all->live[of].log_probability + one.log_probability;
        search->candidate[(*count)++] = one;
    }
    return OK;
}

static Status advance(Search *search, Sentence *sentence, int first)
{
    const SearchOptions *options = &search->options;
    const int limit = sentence->input.limit;
    int count;
    if (search->sampler != NULL) {
        TRY(draw(search, sentence, first, &count));
        return hypotheses_sample(options, limit, search->candidate, count, &sentence->hypotheses);
    }
    TRY(merge(search, &sentence->hypotheses, first, &count));
    return hypotheses_advance(options, limit, search->candidate, count, &sentence->hypotheses);
}

/* ---- results ---- */

static Status give_back(Search *search, const Sentence *sentence)
{
    Taken *taken;
    TRY(memory_new(&taken, 1, sizeof *taken, "a result of a search"));
    *search->taken_last = taken; /* from here on the search frees it */
    search->taken_last = &taken->next;
    SearchResult *result = &taken->result;
    *result = (SearchResult){
        .number = sentence->input.number, .owner = sentence->input.owner, .steps = sentence->steps};
    const Hypotheses *all = &sentence->hypotheses;
    const int count = all->finished_count < search->options.best ? all->finished_count : search->options.best;
    if (count == 0) return OK;
    TRY(memory_new(&result->list, (size_t)count, sizeof *result->list, "a result of a search"));
    for (int i = 0; i < count; ++i) {
        ++result->count;
        TRY(hypotheses_write(all, i, &result->list[i]));
        search->counts.tokens += result->list[i].length;
    }
    return OK;
}

bool search_take(Search *search, SearchResult *result)
{
    Taken *taken = search->taken;
    if (taken == NULL) return false;
    search->taken = taken->next;
    if (search->taken == NULL) search->taken_last = &search->taken;
    *result = taken->result;
    free(taken);
    return true;
}

/* ---- a step ---- */

static Status collect_rows(Search *search)
{
    search->step.rows = 0;
    search->step.banned_count = 0;
    for (int slot = 0; slot < search->network->slots; ++slot) {
        const Sentence *sentence = search->in_slot[slot];
        for (int beam = 0; sentence != NULL && beam < sentence->hypotheses.live_count; ++beam)
            TRY(add_row(search, sentence, beam));
    }
    search->step.banned = search->banned;
    return OK;
}

/* The error of a step, if it is one, with the name of the sentence that it is about. */
static Status about_row(const Search *search, Status status)
{
    int end = 0;
    if (status == OK || search->step.failed < 0) return status;
    for (int slot = 0; slot < search->network->slots; ++slot) {
        const Sentence *sentence = search->in_slot[slot];
        end += sentence != NULL ? sentence->hypotheses.live_count : 0;
        if (search->step.failed < end) return about(status, &sentence->input);
    }
    return status;
}

Status search_step(Search *search)
{
    TRY(start_waiting(search));
    if (search->active == 0) return OK;
    TRY(collect_rows(search));
    search->step.failed = -1;
    TRY(about_row(search, search->network->step(search->network->context, &search->step)));
    ++search->counts.steps;
    search->counts.rows += search->step.rows;
    int row = 0;
    for (int slot = 0; slot < search->network->slots; ++slot) {
        Sentence *sentence = search->in_slot[slot];
        if (sentence == NULL) continue;
        const int rows = sentence->hypotheses.live_count;
        ++sentence->steps;
        TRY(about(advance(search, sentence, row), &sentence->input));
        row += rows;
        if (!sentence->hypotheses.done) continue;
        search->in_slot[slot] = NULL;
        --search->active;
        const Status status = give_back(search, sentence);
        free_sentence(sentence);
        TRY(status);
    }
    return OK;
}
