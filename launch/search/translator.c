#include "launch/search/translator.h"

#include "engine/base/memory.h"
#include "nlp/lines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

typedef struct Job Job;
typedef struct {
    Job *job;
    int32_t *id; /* source, with the end token */
    int length;
    bool done;
    SearchResult result;
} Part;

struct Job {
    Job *next;
    int64_t number;
    char *source; /* for JSON */
    Part *part;
    int parts, done;
    int32_t *prefix;
    int prefix_length;
};

struct Translator {
    TranslatorOptions options;
    const Subwords *subwords;
    const SearchNetwork *network;
    SubwordEncoder *encoder;
    Search *search;
    TokenIds ids;
    Job *first, **last; /* lines that were not given back, in order */
    Job *fresh;         /* the first that the search has not got */
    TranslatorCounts counts;
};

TranslatorOptions translator_defaults(void)
{
    return (TranslatorOptions){.search = search_defaults(SUBWORD_PADDING, SUBWORD_START, SUBWORD_END),
                               .limit_constant = 50,
                               .limit_factor = 1};
}

int translator_limit(const TranslatorOptions *options, int tokens, int most)
{
    const double limit = floor(options->limit_constant + options->limit_factor * tokens);
    if (limit < 1) return 1;
    return limit < most ? (int)limit : most;
}

Status translator_create(const TranslatorOptions *options, const Subwords *subwords,
                         const SearchNetwork *network, Translator **out)
{
    *out = NULL;
    Translator *translator;
    TRY(memory_new(&translator, 1, sizeof *translator, "a translator"));
    translator->options = *options;
    translator->subwords = subwords;
    translator->network = network;
    translator->last = &translator->first;
    translator->counts.first_long = translator->counts.first_stuck = -1;
    Status status = subword_encoder_new(subwords, &translator->encoder);
    if (status == OK) status = search_create(&options->search, network, &translator->search);
    if (status != OK) {
        translator_free(translator);
        return status;
    }
    *out = translator;
    return OK;
}

static void free_job(Job *job)
{
    for (int i = 0; i < job->parts; ++i) {
        free(job->part[i].id);
        search_result_free(&job->part[i].result);
    }
    free(job->part);
    free(job->prefix);
    free(job->source);
    free(job);
}

void translator_free(Translator *translator)
{
    if (translator == NULL) return;
    for (Job *job = translator->first, *next; job != NULL; job = next) {
        next = job->next;
        free_job(job);
    }
    search_free(translator->search);
    subword_encoder_free(translator->encoder);
    token_ids_free(&translator->ids);
    free(translator);
}

int translator_waiting(const Translator *translator) { return search_waiting(translator->search); }
int translator_active(const Translator *translator) { return search_active(translator->search); }
TranslatorCounts translator_counts(const Translator *translator) { return translator->counts; }

/* ---- in ---- */

/* Does a word begin with this subword? Every one does where subwords are words. */
static bool begins_word(const Subwords *subwords, int32_t id)
{
    if (subwords_kind(subwords) == SUBWORDS_WORDS || id < SUBWORD_SPECIALS) return true;
    const TextSpan piece = subwords_piece(subwords, id);
    return piece.size >= 3 && memcmp(piece.data, "\xE2\x96\x81", 3) == 0; /* U+2581 */
}

/* The end of a part that begins at `first` and has at most `most` of the `count` tokens: where a word begins, if there is such
 * a place in its second half. */
static size_t end_of_part(const Translator *translator, size_t first, size_t count, size_t most)
{
    const size_t wanted = first + most;
    if (wanted >= count) return count;
    for (size_t end = wanted; end > first + most / 2; --end)
        if (begins_word(translator->subwords, translator->ids.id[end])) return end;
    return wanted;
}

static Status add_part(Translator *translator, Job *job, size_t *capacity, size_t first, size_t count)
{
    TRY(memory_grow(&job->part, capacity, (size_t)job->parts + 1, sizeof *job->part, "parts of a line"));
    Part *part = &job->part[job->parts++];
    TRY(memory_new(&part->id, count + 1, sizeof *part->id, "a sentence"));
    memcpy(part->id, translator->ids.id + first, count * sizeof *part->id);
    part->id[count] = translator->options.search.end;
    part->length = (int)count + 1;
    translator->counts.source_tokens += part->length;
    return OK;
}

static Status make_parts(Translator *translator, Job *job)
{
    const size_t most = (size_t)translator->network->most_source - 1;
    size_t count = translator->ids.count, capacity = 0;
    if (count > most) {
        TranslatorCounts *counts = &translator->counts;
        const bool split = translator->options.long_lines == LONG_SPLIT;
        ++*(split ? &counts->split : &counts->cut);
        if (counts->first_long < 0) {
            counts->first_long = job->number;
            counts->longest = (int64_t)count;
        }
        if (!split) count = most;
    }
    size_t first = 0;
    while (first < count && job->parts < TRANSLATOR_MOST_PARTS) {
        const size_t end = end_of_part(translator, first, count, most);
        TRY(add_part(translator, job, &capacity, first, end - first));
        first = end;
    }
    translator->counts.beyond += first < count;
    for (int i = 0; i < job->parts; ++i)
        job->part[i].job = job;
    return OK;
}

static Status encode(Translator *translator, Job *job, TextSpan line, TextSpan prefix)
{
    if (translator->options.json) {
        TRY(memory_new(&job->source, line.size + 1, 1, "a line"));
        memcpy(job->source, line.data, line.size);
    }
    if (line_is_blank(line)) {
        ++translator->counts.blank;
        return OK;
    }
    if (prefix.size > 0) {
        TRY(subword_encoder_encode(translator->encoder, prefix, &translator->ids, NULL));
        job->prefix_length = (int)translator->ids.count;
        TRY(memory_new(&job->prefix, translator->ids.count + 1, sizeof *job->prefix, "a prefix"));
        if (job->prefix_length > 0)
            memcpy(job->prefix, translator->ids.id, translator->ids.count * sizeof *job->prefix);
    }
    TRY(subword_encoder_encode(translator->encoder, line, &translator->ids, NULL));
    return make_parts(translator, job); /* none where normalisation leaves nothing of the line */
}

Status translator_add(Translator *translator, int64_t number, TextSpan line, TextSpan prefix)
{
    Job *job;
    TRY(memory_new(&job, 1, sizeof *job, "a line"));
    job->number = number;
    *translator->last = job; /* from here on the translator frees it */
    translator->last = &job->next;
    if (translator->fresh == NULL) translator->fresh = job;
    ++translator->counts.lines;
    return encode(translator, job, line, prefix);
}

static int longest_first(const void *a, const void *b)
{
    const Part *const *left = a, *const *right = b;
    if ((*left)->length != (*right)->length) return (*left)->length > (*right)->length ? -1 : 1;
    const int64_t x = (*left)->job->number, y = (*right)->job->number;
    if (x != y) return x < y ? -1 : 1;
    return *left < *right ? -1 : *left > *right; /* of one line: in order */
}

static Status give_to_search(Translator *translator, Part *part)
{
    const Job *job = part->job;
    const int64_t place = part - job->part;
    const SearchInput input = {
        .number = job->number * TRANSLATOR_MOST_PARTS + place, /* sampling tells the parts of lines apart */
        .line = job->number + 1,
        .owner = part,
        .source = part->id,
        .length = part->length,
        .prefix = job->prefix,
        .prefix_length = place == 0 ? job->prefix_length : 0,
        .limit = translator_limit(&translator->options, part->length, translator->network->most_target)};
    return search_add(translator->search, &input);
}

Status translator_begin(Translator *translator)
{
    size_t count = 0;
    for (Job *job = translator->fresh; job != NULL; job = job->next)
        count += (size_t)job->parts;
    Part **sorted;
    TRY(memory_new(&sorted, count + 1, sizeof *sorted, "sentences"));
    count = 0;
    for (Job *job = translator->fresh; job != NULL; job = job->next)
        for (int i = 0; i < job->parts; ++i)
            sorted[count++] = &job->part[i];
    translator->fresh = NULL;
    qsort(sorted, count, sizeof *sorted, longest_first);
    Status status = OK;
    for (size_t i = 0; i < count && status == OK; ++i)
        status = give_to_search(translator, sorted[i]);
    free(sorted);
    return status;
}

Status translator_step(Translator *translator)
{
    SearchResult result;
    TRY(search_step(translator->search));
    while (search_take(translator->search, &result)) {
        Part *part = result.owner;
        part->result = result;
        part->done = true;
        ++part->job->done;
    }
    return OK;
}

/* ---- out ---- */

/* A growing text. */
typedef struct {
    char *data;
    size_t size, capacity;
} Text;

static Status append(Text *text, const char *data, size_t size)
{
    TRY(memory_grow(&text->data, &text->capacity, text->size + size + 1, 1, "a translation"));
    memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
    return OK;
}

/* Hypothesis `rank` of a part; a part that has fewer gives its last. */
static const Hypothesis *hypothesis_of(const Part *part, int rank)
{
    return &part->result.list[rank < part->result.count ? rank : part->result.count - 1];
}

/* The text of hypothesis `rank` of a line, appended: the parts one after the other. */
static Status append_text(const Translator *translator, const Job *job, int rank, Text *text)
{
    for (int i = 0; i < job->parts; ++i) {
        const Hypothesis *one = hypothesis_of(&job->part[i], rank);
        char *piece;
        size_t size;
        TRY(subwords_decode(translator->subwords, one->token, (size_t)(one->length - (one->ended ? 1 : 0)),
                            &piece, &size));
        for (size_t k = 0; k < size; ++k)
            if (piece[k] == '\t' || piece[k] == '\n' || piece[k] == '\r') piece[k] = ' ';
        Status status = i > 0 && size > 0 && text->size > 0 && text->data[text->size - 1] != '\t'
                            ? append(text, " ", 1)
                            : OK;
        if (status == OK) status = append(text, piece, size);
        free(piece);
        TRY(status);
    }
    return OK;
}

static double score_of(const Job *job, int rank)
{
    double sum = 0;
    for (int i = 0; i < job->parts; ++i)
        sum += hypothesis_of(&job->part[i], rank)->score;
    return sum;
}

/* None where a part has none. */
static int hypotheses_of(const Job *job)
{
    int most = 0;
    for (int i = 0; i < job->parts; ++i)
        if (job->part[i].result.count == 0)
            return 0;
        else if (job->part[i].result.count > most)
            most = job->part[i].result.count;
    return most;
}

static Status write_plain(const Translator *translator, const Job *job, Text *text)
{
    TRY(append(text, "", 0));
    for (int rank = 0; rank < hypotheses_of(job); ++rank) {
        if (rank > 0) TRY(append(text, "\t", 1));
        if (translator->options.scores) {
            char number[LINE_NUMBER_BYTES];
            const size_t size = line_print_number(number, score_of(job, rank));
            TRY(append(text, number, size));
            TRY(append(text, "\t", 1));
        }
        TRY(append_text(translator, job, rank, text));
    }
    return OK;
}

static bool add_tokens(const Translator *translator, const Job *job, int rank, cJSON *object)
{
    cJSON *tokens = cJSON_AddArrayToObject(object, "tokens");
    cJSON *logarithms = cJSON_AddArrayToObject(object, "token_log_probabilities");
    bool ok = tokens != NULL && logarithms != NULL;
    for (int i = 0; i < job->parts; ++i) {
        const Hypothesis *one = hypothesis_of(&job->part[i], rank);
        for (int k = 0; k < one->length && ok; ++k) {
            const TextSpan piece = subwords_piece(translator->subwords, one->token[k]);
            char *copy = NULL;
            Status status = text_format(&copy, "%.*s", (int)piece.size, piece.data);
            ok = status == OK && cJSON_AddItemToArray(tokens, cJSON_CreateString(copy)) &&
                 cJSON_AddItemToArray(logarithms, cJSON_CreateNumber(one->token_log_probability[k]));
            status_free(status);
            free(copy);
        }
    }
    return ok;
}

static Status add_hypothesis(const Translator *translator, const Job *job, int rank, cJSON *list)
{
    Text text = {.data = NULL};
    double log_probability = 0;
    bool ended = true;
    for (int i = 0; i < job->parts; ++i) {
        log_probability += hypothesis_of(&job->part[i], rank)->log_probability;
        ended = ended && hypothesis_of(&job->part[i], rank)->ended;
    }
    Status status = append(&text, "", 0);
    if (status == OK) status = append_text(translator, job, rank, &text);
    cJSON *object = status == OK ? cJSON_CreateObject() : NULL;
    if (status == OK &&
        !(cJSON_AddItemToArray(list, object) && cJSON_AddStringToObject(object, "text", text.data) &&
          cJSON_AddNumberToObject(object, "score", score_of(job, rank)) &&
          cJSON_AddNumberToObject(object, "log_probability", log_probability) &&
          cJSON_AddBoolToObject(object, "ended", ended) && add_tokens(translator, job, rank, object)))
        status = fail(STATUS_MEMORY, "no memory for the JSON of line %lld", (long long)job->number + 1);
    free(text.data);
    return status;
}

/* {"line": 1, "source": "...", "hypotheses": [{"text": ..., "score": ..., "log_probability": ..., "ended": ..., "tokens":
 * [...], "token_log_probabilities": [...]}, ...]}; of a blank line, and of one that bans leave
 * nothing to, no hypotheses. */
static Status write_json(const Translator *translator, const Job *job, Text *text)
{
    cJSON *root = cJSON_CreateObject(), *list = NULL;
    Status status = OK;
    bool ok = root != NULL && cJSON_AddNumberToObject(root, "line", (double)job->number + 1) &&
              cJSON_AddStringToObject(root, "source", job->source) &&
              (list = cJSON_AddArrayToObject(root, "hypotheses")) != NULL;
    for (int rank = 0; ok && status == OK && rank < hypotheses_of(job); ++rank)
        status = add_hypothesis(translator, job, rank, list);
    char *line = ok && status == OK ? cJSON_PrintUnformatted(root) : NULL;
    if (status == OK)
        status = line != NULL
                     ? append(text, line, strlen(line))
                     : fail(STATUS_MEMORY, "no memory for the JSON of line %lld", (long long)job->number + 1);
    cJSON_free(line);
    cJSON_Delete(root);
    return status;
}

static void count(Translator *translator, const Job *job)
{
    bool at_limit = false, stuck = false;
    for (int i = 0; i < job->parts; ++i) {
        const Part *part = &job->part[i];
        for (int k = 0; k < part->result.count; ++k)
            translator->counts.tokens += part->result.list[k].length;
        stuck = stuck || part->result.count == 0;
        at_limit =
            at_limit || (part->result.count > 0 &&
                         part->result.list[0].length >= translator_limit(&translator->options, part->length,
                                                                         translator->network->most_target));
    }
    translator->counts.at_limit += at_limit;
    if (stuck && translator->counts.stuck++ == 0) translator->counts.first_stuck = job->number;
}

Status translator_next(Translator *translator, bool *got, char **out, size_t *size)
{
    Job *job = translator->first;
    Text text = {.data = NULL};
    *got = job != NULL && job != translator->fresh && job->done == job->parts;
    *out = NULL;
    if (!*got) return OK;
    count(translator, job);
    const Status status =
        translator->options.json ? write_json(translator, job, &text) : write_plain(translator, job, &text);
    translator->first = job->next;
    if (translator->first == NULL) translator->last = &translator->first;
    free_job(job);
    if (status != OK) {
        free(text.data);
        return status;
    }
    *out = text.data;
    *size = text.size;
    return OK;
}
