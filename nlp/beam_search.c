#include "nlp/beam_search.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "nlp/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rules ---- */

static const SearchRules rules_table[] = {
    {"plumb", LENGTH_WU, true, ENDS_ANYWHERE, STOP_BOUND, STOP_BOUND, LIMIT_FORCED_END, KEEP_BEST},
    {"tensor2tensor", LENGTH_WU, true, ENDS_ANYWHERE, STOP_BOUND, STOP_BOUND, LIMIT_TENSOR2TENSOR, KEEP_BEST},
    {"fairseq", LENGTH_POWER, true, ENDS_IN_BEAM, STOP_FINISHED, STOP_FINISHED, LIMIT_FORCED_END, KEEP_FIRST},
    {"ctranslate2", LENGTH_POWER, true, ENDS_IN_BEAM, STOP_FINISHED, STOP_FIRST, LIMIT_CUT, KEEP_ALL},
};
enum { RULES = sizeof rules_table / sizeof rules_table[0] };

const SearchRules *search_rules_table(int *count)
{
    *count = RULES;
    return rules_table;
}

const SearchRules *search_rules(const char *name)
{
    for (int i = 0; i < RULES; ++i)
        if (strcmp(rules_table[i].name, name) == 0) return &rules_table[i];
    return NULL;
}

SearchOptions search_defaults(int32_t padding, int32_t start, int32_t end)
{
    return (SearchOptions){.rules = rules_table[0],
                           .beam = 4,
                           .best = 1,
                           .alpha = 0.6,
                           .temperature = 1,
                           .top_p = 1,
                           .start = start,
                           .end = end,
                           .never = {padding, start}};
}

Status search_check(const SearchOptions *options)
{
    if (options->beam < 1 || options->beam > SEARCH_MOST_BEAM)
        return fail(STATUS_INPUT, "a beam is 1 to %d, not %d", SEARCH_MOST_BEAM, options->beam);
    if (options->best < 1 || options->best > options->beam)
        return fail(STATUS_INPUT, "the best %d hypotheses of a sentence: a beam of %d has 1 to %d",
                    options->best, options->beam, options->beam);
    if (options->method == SEARCH_GREEDY && options->beam != 1)
        return fail(STATUS_INPUT, "greedy search has one hypothesis, not %d", options->beam);
    if (!(options->temperature >= 1e-3 && options->temperature <= 1e3))
        return fail(STATUS_INPUT, "a temperature is 0.001 to 1000, not %g", options->temperature);
    if (!(options->alpha >= 0 && options->alpha <= 10))
        return fail(STATUS_INPUT, "alpha of the length penalty is 0 to 10, not %g", options->alpha);
    if (options->minimum < 0) return fail(STATUS_INPUT, "the least length is %d", options->minimum);
    if (options->no_repeat < 0)
        return fail(STATUS_INPUT, "no sequence of %d tokens comes twice: that is no length",
                    options->no_repeat);
    if (options->top_k < 0)
        return fail(STATUS_INPUT,
                    "samples are drawn from the best %lld tokens: at least 1 is needed, or 0 for all",
                    (long long)options->top_k);
    if (!(options->top_p > 0 && options->top_p <= 1))
        return fail(STATUS_INPUT, "top-p is more than 0 and at most 1, not %g", options->top_p);
    return OK;
}

double search_penalty(const SearchOptions *options, int tokens, bool ended)
{
    double length = options->rules.count_end || !ended ? tokens : tokens - 1;
    switch (options->rules.penalty) {
    case LENGTH_WU:
        return pow((5 + length) / 6, options->alpha);
    case LENGTH_POWER:
        if (length < 1) length = 1; /* of the end token alone */
        return pow(length, options->alpha);
    default:
        return 1;
    }
}

static SearchStop stop_of(const SearchOptions *options)
{
    const bool penalty = options->rules.penalty != LENGTH_NONE && options->alpha > 0;
    return penalty ? options->rules.stop : options->rules.stop_without_penalty;
}

int search_most_banned(const SearchOptions *options, int most_target)
{
    return 3 + (options->no_repeat > 0 ? most_target : 0);
}

/* ---- state ---- */

/* Hypotheses are paths in a tree: what they share is there once. */
typedef struct {
    int32_t parent, token; /* -1: of the first token */
    double log_probability;
} Link;

typedef struct {
    int32_t link;   /* its last token; -1: nothing yet */
    int32_t parent; /* row of the step before */
    int32_t sample; /* sampling: which sample */
    int32_t length;
    double log_probability;
} Live;

typedef struct {
    int32_t link, sample;
    int length;
    bool ended;
    double log_probability, score;
} Finished;

typedef struct {
    int row; /* of the sentence */
    int32_t token;
    double total, log_probability;
} Candidate;

/* A sentence: in the queue, then in a slot. */
typedef struct Sentence {
    struct Sentence *next;
    SearchInput input; /* source and prefix are its own */
    int slot, position, steps;
    Link *link;
    size_t links, link_capacity;
    Live live[SEARCH_MOST_BEAM];
    int live_count;
    Finished finished[2 * SEARCH_MOST_BEAM];
    int finished_count;
    bool done;
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
    Candidate *candidate; /* [2 * beam] */
    Taken *taken, **taken_last;
    SearchCounts counts;
};

static void free_sentence(Sentence *sentence)
{
    if (sentence == NULL) return;
    free((void *)sentence->input.source);
    free((void *)sentence->input.prefix);
    free(sentence->link);
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
    sentence->live[0] = (Live){.link = -1};
    sentence->live_count = 1;
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
        search->in_slot[slot] = sentence;
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
static Status ban_repetitions(Search *search, const Sentence *sentence, const Live *live, SearchRow *row)
{
    const int length = live->length, size = search->options.no_repeat;
    if (length < size) return OK;
    int32_t *token;
    TRY(memory_new(&token, (size_t)length, sizeof *token, "a hypothesis"));
    int32_t link = live->link;
    for (int i = length; i-- > 0; link = sentence->link[link].parent)
        token[i] = sentence->link[link].token;
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
    const Live *live = &sentence->live[beam];
    SearchRow *row = &search->row[search->step.rows++];
    *row = (SearchRow){.slot = sentence->slot,
                       .beam = beam,
                       .parent = live->parent,
                       .position = sentence->position,
                       .token = live->link < 0 ? options->start : sentence->link[live->link].token,
                       .forced = -1,
                       .banned = search->step.banned_count};
    if (sentence->position < sentence->input.prefix_length) {
        row->forced = sentence->input.prefix[sentence->position];
        return OK;
    }
    if (sentence->position + 1 == sentence->input.limit && options->rules.limit == LIMIT_FORCED_END) {
        row->forced = options->end;
        return OK;
    }
    for (int i = 0; i < 2; ++i)
        if (options->never[i] >= 0) TRY(ban(search, row, options->never[i]));
    if (live->length < options->minimum) TRY(ban(search, row, options->end));
    return options->no_repeat > 0 ? ban_repetitions(search, sentence, live, row) : OK;
}

/* ---- what becomes of a step ---- */

static Status grow(Sentence *sentence, int32_t parent, int32_t token, double log_probability, int32_t *link)
{
    TRY(memory_grow(&sentence->link, &sentence->link_capacity, sentence->links + 1, sizeof *sentence->link,
                    "hypotheses"));
    sentence->link[sentence->links] =
        (Link){.parent = parent, .token = token, .log_probability = log_probability};
    *link = (int32_t)sentence->links++;
    return OK;
}

/* Puts a hypothesis into the finished list, behind those of the same score. */
static void finish(const SearchOptions *options, Sentence *sentence, const Live *live, bool ended)
{
    const SearchKeep keep = options->rules.keep;
    if (keep == KEEP_FIRST && sentence->finished_count == options->beam) return;
    const Finished one = {.link = live->link,
                          .sample = live->sample,
                          .length = live->length,
                          .ended = ended,
                          .log_probability = live->log_probability,
                          .score = live->log_probability / search_penalty(options, live->length, ended)};
    int place = sentence->finished_count;
    if (options->method == SEARCH_SAMPLE)
        while (place > 0 && sentence->finished[place - 1].sample > one.sample)
            --place;
    else
        while (place > 0 && sentence->finished[place - 1].score < one.score)
            --place;
    const int most = keep == KEEP_ALL ? 2 * options->beam : options->beam;
    if (place >= most) return;
    if (sentence->finished_count < most) ++sentence->finished_count;
    memmove(sentence->finished + place + 1, sentence->finished + place,
            (size_t)(sentence->finished_count - 1 - place) * sizeof one);
    sentence->finished[place] = one;
}

static bool comes_before(const Candidate *a, const Candidate *b)
{
    if (a->total != b->total) return a->total > b->total;
    if (a->token != b->token) return a->token < b->token;
    return a->row < b->row;
}

/* The best candidates of a sentence, whose rows begin at `first`: each row has its own in order. */
static Status merge(Search *search, const Sentence *sentence, int first, int *count)
{
    const int width = search->step.candidates, most = candidates_of(&search->options);
    int next[SEARCH_MOST_BEAM] = {0};
    for (*count = 0; *count < most; ++*count) {
        Candidate best = {.row = -1};
        for (int row = 0; row < sentence->live_count; ++row) {
            if (next[row] == width) continue;
            const size_t at = (size_t)(first + row) * (size_t)width + (size_t)next[row];
            const double log_probability = search->step.log_probability[at];
            if (search->step.token[at] < 0 || log_probability == -INFINITY) continue;
            if (isnan(log_probability) || log_probability == INFINITY)
                return fail(STATUS_NUMERIC, "the network gives the log-probability %g at position %d",
                            log_probability, sentence->position);
            const Candidate one = {.row = row,
                                   .token = search->step.token[at],
                                   .total = sentence->live[row].log_probability + log_probability,
                                   .log_probability = log_probability};
            if (best.row < 0 || comes_before(&one, &best)) best = one;
        }
        if (best.row < 0) break;
        ++next[best.row];
        search->candidate[*count] = best;
    }
    return OK;
}

/* `one` of the live hypotheses with a further token. */
static Status extend(Sentence *sentence, const Candidate *one, Live *longer)
{
    const Live *live = &sentence->live[one->row];
    *longer = (Live){.parent = one->row,
                     .sample = live->sample,
                     .length = live->length + 1,
                     .log_probability = one->total};
    return grow(sentence, live->link, one->token, one->log_probability, &longer->link);
}

/* Can no live hypothesis come before those that are finished any more? A score only falls by further tokens, but for what the
 * penalty of the greatest length forgives. */
static bool is_beyond_reach(const SearchOptions *options, const Sentence *sentence)
{
    if (sentence->finished_count < options->beam) return false;
    const double reach =
        sentence->live[0].log_probability / search_penalty(options, sentence->input.limit, true);
    return sentence->finished[options->beam - 1].score >= reach;
}

/* The live hypotheses of a search that is at its limit. */
static void end_at_limit(const SearchOptions *options, Sentence *sentence)
{
    const bool wanted = options->rules.limit == LIMIT_TENSOR2TENSOR ? sentence->finished_count == 0 : true;
    for (int i = 0; i < sentence->live_count && wanted; ++i)
        finish(options, sentence, &sentence->live[i], false);
    sentence->live_count = 0;
}

static bool is_done(const SearchOptions *options, const Sentence *sentence, bool best_ended)
{
    if (sentence->live_count == 0) return true;
    switch (stop_of(options)) {
    case STOP_FIRST:
        return best_ended || sentence->finished_count >= options->beam;
    case STOP_FINISHED:
        return sentence->finished_count >= options->beam;
    default:
        return is_beyond_reach(options, sentence);
    }
}

static Status advance(Search *search, Sentence *sentence, int first)
{
    const SearchOptions *options = &search->options;
    const bool greedy = options->method == SEARCH_GREEDY;
    const bool at_limit = sentence->position + 1 == sentence->input.limit;
    const bool in_beam = !greedy && options->rules.ends == ENDS_IN_BEAM;
    const bool cut = at_limit && !greedy && options->rules.limit == LIMIT_CUT;
    int count, live_count = 0;
    Live live[SEARCH_MOST_BEAM] = {{0}};
    TRY(merge(search, sentence, first, &count));
    if (cut && count > options->beam) count = options->beam;
    for (int i = 0; i < count; ++i) {
        const Candidate *one = &search->candidate[i];
        Live longer;
        if (one->token == options->end) {
            if (in_beam && i >= options->beam) continue;
            TRY(extend(sentence, one, &longer));
            finish(options, sentence, &longer, true);
        } else if (live_count < options->beam) {
            TRY(extend(sentence, one, &live[live_count]));
            ++live_count;
        }
    }
    const bool best_ended = count > 0 && search->candidate[0].token == options->end;
    memcpy(sentence->live, live, (size_t)live_count * sizeof *live);
    sentence->live_count = live_count;
    ++sentence->position;
    if (at_limit) end_at_limit(options, sentence);
    sentence->done = is_done(options, sentence, best_ended);
    return OK;
}

/* Draws the next token of each sample; at position 0 all samples are drawn from the one row that there is. */
static Status draw(Search *search, Sentence *sentence, int first)
{
    const SearchOptions *options = &search->options;
    const bool at_limit = sentence->position + 1 == sentence->input.limit, begins = sentence->position == 0;
    const int samples = begins ? options->beam : sentence->live_count;
    int live_count = 0;
    Live live[SEARCH_MOST_BEAM] = {{0}};
    for (int i = 0; i < samples; ++i) {
        const int of = begins ? 0 : i;
        const SearchRow *row = &search->row[first + of];
        const float *logits =
            search->step.logits + (size_t)(first + of) * (size_t)search->network->vocabulary;
        Candidate one = {.row = of};
        const int32_t sample = begins ? i : sentence->live[i].sample;
        if (row->forced >= 0) {
            one.token = row->forced;
            TRY(sampler_take(search->sampler, logits, one.token, &one.log_probability));
        } else {
            RandomStream stream =
                random_stream(options->seed, RANDOM_SAMPLING, (uint64_t)sentence->input.number);
            stream.index = (uint64_t)sentence->position * SEARCH_MOST_BEAM + (uint64_t)sample;
            const int32_t *banned = row->banned_count > 0 ? search->banned + row->banned : NULL;
            TRY(sampler_draw(search->sampler, logits, banned, row->banned_count, random_uniform(&stream),
                             &one.token, &one.log_probability));
            if (one.token < 0) continue; /* everything is banned: the sample has no end */
        }
        one.total = sentence->live[of].log_probability + one.log_probability;
        Live longer;
        TRY(extend(sentence, &one, &longer));
        longer.sample = sample;
        if (one.token == options->end)
            finish(options, sentence, &longer, true);
        else if (at_limit)
            finish(options, sentence, &longer, false);
        else
            live[live_count++] = longer;
    }
    memcpy(sentence->live, live, (size_t)live_count * sizeof *live);
    sentence->live_count = live_count;
    ++sentence->position;
    sentence->done = live_count == 0;
    return OK;
}

/* ---- results ---- */

static Status write_hypothesis(const Sentence *sentence, const Finished *finished, Hypothesis *out)
{
    const size_t length = (size_t)finished->length;
    *out = (Hypothesis){.length = finished->length,
                        .ended = finished->ended,
                        .log_probability = finished->log_probability,
                        .score = finished->score};
    TRY(memory_new(&out->token, length + 1, sizeof *out->token, "a hypothesis"));
    TRY(memory_new(&out->token_log_probability, length + 1, sizeof *out->token_log_probability,
                   "a hypothesis"));
    int32_t link = finished->link;
    for (int i = finished->length; i-- > 0; link = sentence->link[link].parent) {
        out->token[i] = sentence->link[link].token;
        out->token_log_probability[i] = sentence->link[link].log_probability;
    }
    return OK;
}

static Status give_back(Search *search, const Sentence *sentence)
{
    Taken *taken;
    TRY(memory_new(&taken, 1, sizeof *taken, "a result of a search"));
    *search->taken_last = taken; /* from here on the search frees it */
    search->taken_last = &taken->next;
    SearchResult *result = &taken->result;
    *result = (SearchResult){
        .number = sentence->input.number, .owner = sentence->input.owner, .steps = sentence->steps};
    const int count =
        sentence->finished_count < search->options.best ? sentence->finished_count : search->options.best;
    if (count == 0) return OK;
    TRY(memory_new(&result->list, (size_t)count, sizeof *result->list, "a result of a search"));
    for (int i = 0; i < count; ++i) {
        ++result->count;
        TRY(write_hypothesis(sentence, &sentence->finished[i], &result->list[i]));
        search->counts.tokens += sentence->finished[i].length;
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
        for (int beam = 0; sentence != NULL && beam < sentence->live_count; ++beam)
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
        end += sentence != NULL ? sentence->live_count : 0;
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
        const int rows = sentence->live_count;
        ++sentence->steps;
        TRY(about(search->sampler != NULL ? draw(search, sentence, row) : advance(search, sentence, row),
                  &sentence->input));
        row += rows;
        if (!sentence->done) continue;
        search->in_slot[slot] = NULL;
        --search->active;
        const Status status = give_back(search, sentence);
        free_sentence(sentence);
        TRY(status);
    }
    return OK;
}
