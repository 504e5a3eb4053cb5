#include "launch/bleu/bleu_options.h"

#include "engine/base/config.h"
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "nlp/bleu/spm.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- The options ---- */

typedef enum { TAKES_NOTHING, TAKES_ONE, TAKES_ANY, TAKES_SOME } Takes;

/* What the words say, before it is checked as a whole. */
typedef struct {
    const char *test_set, *echo, *download, *origlang, *subset; /* sacreBLEU's alone */
    bool list, citation;
    const char *language_pair, *encoding, *num_refs;
    const char *smoothing, *tokenizer, *model, *format;
    double smoothing_value;
    bool has_smoothing_value, lowercase, effective_order, compound_split;
    int64_t chrf_characters, chrf_words, chrf_beta;
    ChrfOptions chrf;
    TerOptions ter;
    const char **metric;
    int metrics;
    bool no_colour;
} Words;

typedef struct {
    BleuArguments out;
    Words words;
} Reading;

typedef struct {
    const char *name, *brief; /* "--metrics", "-m"; brief may be NULL */
    Takes takes;
    /* Where it goes, by its offset in Reading; one of these types. */
    enum { TO_FLAG, TO_TEXT, TO_WHOLE, TO_REAL, TO_LIST } to;
    size_t at, count_at; /* count_at: of a list; of a real number, the flag that says it is there */
} Row;

#define OUT(field) offsetof(Reading, out.field)
#define WORD(field) offsetof(Reading, words.field)

static const Row rows[] = {
    {"--citation", "--cite", TAKES_NOTHING, TO_FLAG, WORD(citation), 0},
    {"--list", NULL, TAKES_NOTHING, TO_FLAG, WORD(list), 0},
    {"--test-set", "-t", TAKES_ONE, TO_TEXT, WORD(test_set), 0},
    {"--language-pair", "-l", TAKES_ONE, TO_TEXT, WORD(language_pair), 0},
    {"--origlang", "-ol", TAKES_ONE, TO_TEXT, WORD(origlang), 0},
    {"--subset", NULL, TAKES_ONE, TO_TEXT, WORD(subset), 0},
    {"--download", NULL, TAKES_ONE, TO_TEXT, WORD(download), 0},
    {"--echo", NULL, TAKES_ONE, TO_TEXT, WORD(echo), 0},
    {"--input", "-i", TAKES_ANY, TO_LIST, OUT(input), OUT(inputs)},
    {"--num-refs", "-nr", TAKES_ONE, TO_TEXT, WORD(num_refs), 0},
    {"--encoding", "-e", TAKES_ONE, TO_TEXT, WORD(encoding), 0},
    {"--metrics", "-m", TAKES_SOME, TO_LIST, WORD(metric), WORD(metrics)},
    {"--sentence-level", "-sl", TAKES_NOTHING, TO_FLAG, OUT(sentences), 0},
    {"--smooth-method", "-s", TAKES_ONE, TO_TEXT, WORD(smoothing), 0},
    {"--smooth-value", "-sv", TAKES_ONE, TO_REAL, WORD(smoothing_value), WORD(has_smoothing_value)},
    {"--tokenize", "-tok", TAKES_ONE, TO_TEXT, WORD(tokenizer), 0},
    {"--lowercase", "-lc", TAKES_NOTHING, TO_FLAG, WORD(lowercase), 0},
    {"--force", NULL, TAKES_NOTHING, TO_FLAG, OUT(force), 0},
    {"--chrf-char-order", "-cc", TAKES_ONE, TO_WHOLE, WORD(chrf_characters), 0},
    {"--chrf-word-order", "-cw", TAKES_ONE, TO_WHOLE, WORD(chrf_words), 0},
    {"--chrf-beta", NULL, TAKES_ONE, TO_WHOLE, WORD(chrf_beta), 0},
    {"--chrf-whitespace", NULL, TAKES_NOTHING, TO_FLAG, WORD(chrf.whitespace), 0},
    {"--chrf-lowercase", NULL, TAKES_NOTHING, TO_FLAG, WORD(chrf.lowercase), 0},
    {"--chrf-eps-smoothing", NULL, TAKES_NOTHING, TO_FLAG, WORD(chrf.epsilon), 0},
    {"--ter-case-sensitive", NULL, TAKES_NOTHING, TO_FLAG, WORD(ter.case_sensitive), 0},
    {"--ter-asian-support", NULL, TAKES_NOTHING, TO_FLAG, WORD(ter.asian), 0},
    {"--ter-no-punct", NULL, TAKES_NOTHING, TO_FLAG, WORD(ter.no_punctuation), 0},
    {"--ter-normalized", NULL, TAKES_NOTHING, TO_FLAG, WORD(ter.normalized), 0},
    {"--confidence", "-ci", TAKES_NOTHING, TO_FLAG, OUT(confidence), 0},
    {"--confidence-n", "-cin", TAKES_ONE, TO_WHOLE, OUT(confidence_samples), 0},
    {"--paired-ar", "-par", TAKES_NOTHING, TO_FLAG, OUT(paired_randomisation), 0},
    {"--paired-bs", "-pbs", TAKES_NOTHING, TO_FLAG, OUT(paired_bootstrap), 0},
    {"--paired-ar-n", "-parn", TAKES_ONE, TO_WHOLE, OUT(randomisation_trials), 0},
    {"--paired-bs-n", "-pbsn", TAKES_ONE, TO_WHOLE, OUT(bootstrap_samples), 0},
    {"--paired-jobs", "-j", TAKES_ONE, TO_WHOLE, OUT(jobs), 0},
    {"--quiet", "-q", TAKES_NOTHING, TO_FLAG, OUT(quiet), 0},
    {"--short", "-sh", TAKES_NOTHING, TO_FLAG, OUT(brief), 0},
    {"--score-only", "-b", TAKES_NOTHING, TO_FLAG, OUT(score_only), 0},
    {"--width", "-w", TAKES_ONE, TO_WHOLE, OUT(width), 0},
    {"--detail", "-d", TAKES_NOTHING, TO_FLAG, OUT(detail), 0},
    {"--no-color", "-nc", TAKES_NOTHING, TO_FLAG, WORD(no_colour), 0},
    {"--format", "-f", TAKES_ONE, TO_TEXT, WORD(format), 0},
    {"--version", "-V", TAKES_NOTHING, TO_FLAG, OUT(version), 0},
    /* Not sacreBLEU's. */
    {"--spm-model", NULL, TAKES_ONE, TO_TEXT, WORD(model), 0},
    {"--effective-order", NULL, TAKES_NOTHING, TO_FLAG, WORD(effective_order), 0},
    {"--compound-split", NULL, TAKES_NOTHING, TO_FLAG, WORD(compound_split), 0},
};
enum { ROWS = sizeof rows / sizeof *rows };

static void *place(Reading *reading, size_t at) { return (char *)reading + at; }

/* ---- Words: as argparse takes them apart ---- */

/* What a word is: 'A' an argument, 'O' an option, '-' the "--" behind which all are arguments. */
typedef struct {
    char is;
    int row;           /* of an option; -1: unknown */
    const char *value; /* what stands in the same word: "-w2", "--width=2"; NULL: nothing */
} Word;

typedef struct {
    char **argv;
    Word *word; /* [argc] */
    int argc;
} Line;

static bool is_name(int row, const char *text, size_t size)
{
    const char *const names[] = {rows[row].name, rows[row].brief};
    for (int i = 0; i < 2; ++i)
        if (names[i] != NULL && strlen(names[i]) == size && memcmp(names[i], text, size) == 0) return true;
    return false;
}

static int find_name(const char *text, size_t size)
{
    for (int r = 0; r < ROWS; ++r)
        if (is_name(r, text, size)) return r;
    return -1;
}

static bool begins(const char *name, const char *text, size_t size)
{
    return name != NULL && strncmp(name, text, size) == 0;
}

/* How many names a word may be short for, or hold with its value behind; the first into *word. */
static int find_abbreviated(const char *text, Word *word)
{
    const char *equals = strchr(text, '=');
    const bool two = text[1] == '-';
    const size_t size = two && equals != NULL ? (size_t)(equals - text) : strlen(text);
    int found = 0;
    for (int r = 0; r < ROWS; ++r) {
        const char *const names[] = {rows[r].name, rows[r].brief};
        for (int i = 0; i < 2; ++i) {
            const bool whole = !two && names[i] != NULL && strlen(names[i]) == 2 && names[i][1] == text[1];
            if (!whole && !begins(names[i], text, size)) continue;
            if (found++ > 0) continue;
            word->row = r;
            word->value = whole ? text + 2 : two && equals != NULL ? equals + 1 : NULL;
        }
    }
    return found;
}

static bool is_negative_number(const char *text)
{
    const size_t before = strspn(text + 1, "0123456789");
    if (text[1 + before] == '\0') return before > 0;
    const char *fraction = text + 2 + before;
    return text[1 + before] == '.' && fraction[0] != '\0' &&
           strspn(fraction, "0123456789") == strlen(fraction);
}

static Status classify(const char *text, Word *word)
{
    *word = (Word){.is = 'A', .row = -1};
    if (text[0] != '-' || text[1] == '\0') return OK;
    const char *equals = strchr(text, '=');
    word->row = find_name(text, strlen(text));
    if (word->row < 0 && equals != NULL) {
        word->row = find_name(text, (size_t)(equals - text));
        if (word->row >= 0) word->value = equals + 1;
    }
    if (word->row < 0) {
        const int found = find_abbreviated(text, word);
        if (found > 1)
            return fail(STATUS_USAGE, "plumb bleu: %s may be several options (see plumb bleu --help)", text);
        if (found == 0 && (is_negative_number(text) || strchr(text, ' ') != NULL)) return OK;
    }
    word->is = 'O';
    return OK;
}

static Status unknown(const char *text)
{
    const char *names[ROWS];
    for (int r = 0; r < ROWS; ++r)
        names[r] = rows[r].name + 2;
    const char *nearest = config_nearest(text + strspn(text, "-"), names, ROWS);
    if (nearest != NULL)
        return fail(STATUS_USAGE, "plumb bleu does not know %s; did you mean --%s? (see plumb bleu --help)",
                    text, nearest);
    return fail(STATUS_USAGE, "plumb bleu does not know %s (see plumb bleu --help)", text);
}

/* As Python's int() and float() read them, without underscores. */
static bool read_whole(const char *text, int64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return end != text && errno == 0 && end[strspn(end, " \t\n")] == '\0';
}

static bool read_real(const char *text, double *number)
{
    char *end;
    *number = strtod(text, &end);
    return end != text && strpbrk(text, "xX") == NULL && end[strspn(end, " \t\n")] == '\0';
}

static Status set_one(Reading *reading, const Row *row, const char *text)
{
    if (row->to == TO_TEXT)
        *(const char **)place(reading, row->at) = text;
    else if (row->to == TO_WHOLE && !read_whole(text, place(reading, row->at)))
        return fail(STATUS_USAGE, "plumb bleu: %s takes a whole number, not '%s'", row->name, text);
    else if (row->to == TO_REAL && !read_real(text, place(reading, row->at)))
        return fail(STATUS_USAGE, "plumb bleu: %s takes a number, not '%s'", row->name, text);
    if (row->to == TO_REAL) *(bool *)place(reading, row->count_at) = true;
    return OK;
}

/* The arguments from `at` on, into a list or one; *at goes behind them. */
static Status take_arguments(Reading *reading, const Row *row, const Line *line, int *at)
{
    int taken = 0;
    const char ***list = row->to == TO_LIST ? place(reading, row->at) : NULL;
    if (list != NULL) {
        free((void *)*list);
        TRY(memory_new(list, (size_t)line->argc + 1, sizeof **list, "command line"));
    }
    for (; *at < line->argc && line->word[*at].is != 'O'; ++*at) {
        if (line->word[*at].is == '-') continue;
        if (row->takes == TAKES_ONE && taken == 1) break;
        if (list != NULL)
            (*list)[taken] = line->argv[*at];
        else
            TRY(set_one(reading, row, line->argv[*at]));
        ++taken;
    }
    if (taken == 0 && row->takes != TAKES_ANY)
        return fail(STATUS_USAGE, "plumb bleu: %s needs a value (see plumb bleu --help)", row->name);
    if (list != NULL) *(int *)place(reading, row->count_at) = taken;
    return OK;
}

static Status set_from_word(Reading *reading, const Row *row, const char *value)
{
    if (row->to != TO_LIST) return set_one(reading, row, value);
    const char ***list = place(reading, row->at);
    free((void *)*list);
    TRY(memory_new(list, 1, sizeof **list, "command line"));
    (*list)[0] = value;
    *(int *)place(reading, row->count_at) = 1;
    return OK;
}

/* "-qb": flags in one word, the last of which may have its value there. Returns the row of the last; *value: what is left for it. */
static Status take_flags(Reading *reading, int *row, const char **value, const char *text)
{
    while (*value != NULL && rows[*row].takes == TAKES_NOTHING) {
        const char next[3] = {'-', (*value)[0], '\0'};
        const int found = text[1] == '-' ? -1 : find_name(next, strlen(next));
        if (found < 0 || next[1] == '\0')
            return fail(STATUS_USAGE, "plumb bleu: %s takes no value, but has '%s'", rows[*row].name, *value);
        *(bool *)place(reading, rows[*row].at) = true;
        *row = found;
        *value = (*value)[1] != '\0' ? *value + 1 : NULL;
    }
    return OK;
}

static Status take_option(Reading *reading, const Line *line, int *at)
{
    const char *text = line->argv[*at], *value = line->word[*at].value;
    int row = line->word[*at].row;
    ++*at;
    if (row < 0) return unknown(text);
    TRY(take_flags(reading, &row, &value, text));
    if (rows[row].to == TO_LIST && rows[row].at == OUT(input)) reading->out.has_input = true;
    if (value != NULL) return set_from_word(reading, &rows[row], value);
    if (rows[row].takes != TAKES_NOTHING) return take_arguments(reading, &rows[row], line, at);
    *(bool *)place(reading, rows[row].at) = true;
    return OK;
}

/* References are the first arguments that no option takes; they stand together. */
static Status take_all(Reading *reading, const Line *line)
{
    static const Row references = {"REFERENCE", NULL, TAKES_ANY, TO_LIST, OUT(reference), OUT(references)};
    bool taken = false;
    for (int at = 0; at < line->argc;) {
        if (line->word[at].is == 'O') {
            TRY(take_option(reading, line, &at));
        } else if (!taken) {
            TRY(take_arguments(reading, &references, line, &at));
            taken = true;
        } else {
            return fail(STATUS_USAGE, "plumb bleu: what is '%s'? References stand together, before --input",
                        line->argv[at]);
        }
    }
    return OK;
}

static Status read_words(int argc, char **argv, Reading *reading)
{
    Line line = {.argv = argv + 1, .argc = argc - 1};
    TRY(memory_new(&line.word, (size_t)argc, sizeof *line.word, "command line"));
    Status status = OK;
    bool ended = false;
    for (int i = 0; i < line.argc && status == OK; ++i) {
        if (ended)
            line.word[i] = (Word){.is = 'A', .row = -1};
        else if (strcmp(line.argv[i], "--") == 0)
            line.word[i] = (Word){.is = '-', .row = -1}, ended = true;
        else
            status = classify(line.argv[i], &line.word[i]);
    }
    if (status == OK) status = take_all(reading, &line);
    free(line.word);
    return status;
}

/* ---- What they mean ---- */

static Status choose(const char *option, const char *text, const char *const names[], int count, int *chosen)
{
    for (*chosen = 0; *chosen < count; ++*chosen)
        if (strcmp(text, names[*chosen]) == 0) return OK;
    char all[256] = "";
    for (int i = 0; i < count; ++i) {
        const size_t size = strlen(all);
        (void)snprintf(all + size, sizeof all - size, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    return fail(STATUS_USAGE, "plumb bleu: %s is one of %s, not '%s'", option, all, text);
}

static Status refuse_what_is_sacrebleus(const Words *words)
{
    if (words->test_set != NULL || words->echo != NULL || words->download != NULL || words->list ||
        words->citation)
        return fail(STATUS_UNSUPPORTED, "plumb bleu knows no test sets and downloads nothing: give the "
                                        "references as files, such as the one "
                                        "that \"sacrebleu -t wmt14/full -l en-de --echo ref > FILE\" writes");
    if (words->origlang != NULL || words->subset != NULL)
        return fail(STATUS_UNSUPPORTED,
                    "plumb bleu knows no test sets, so it has no --origlang and no --subset");
    const char *encoding = words->encoding;
    if (encoding != NULL && strcasecmp(encoding, "utf-8") != 0 && strcasecmp(encoding, "utf8") != 0 &&
        strcasecmp(encoding, "utf_8") != 0)
        return fail(STATUS_UNSUPPORTED,
                    "plumb bleu reads UTF-8 only, not %s: iconv -f %s -t utf-8 converts it", encoding,
                    encoding);
    return OK;
}

/* sacreBLEU's own models: it downloads them to a folder of its own, where they are found. */
static const struct {
    const char *tokenizer, *signature, *file;
} models[] = {{"spm", "flores101", "sacrebleu_tokenizer_spm.model"},
              {"flores101", "flores101", "sacrebleu_tokenizer_spm.model"},
              {"flores200", "flores200", "flores200sacrebleuspm"},
              {"spBLEU-1K", "spBLEU-1K", "spbleu-1k_tokenizer_spm.model"}};
enum { MODELS = sizeof models / sizeof *models };

static Status find_model(const char *file, char **path)
{
    const char *folder = getenv("SACREBLEU"), *home = getenv("HOME");
    if (folder != NULL) return text_format(path, "%s/models/%s", folder, file);
    return text_format(path, "%s/.sacrebleu/models/%s", home != NULL ? home : "", file);
}

/* A model of sacreBLEU's, by its name there; of none: *pieces stays NULL. */
static Status read_known_model(const char *tokenizer, BleuPieces **pieces)
{
    for (int m = 0; m < MODELS && tokenizer != NULL; ++m) {
        if (strcmp(models[m].tokenizer, tokenizer) != 0) continue;
        char *path;
        TRY(find_model(models[m].file, &path));
        Status status =
            file_exists(path)
                ? bleu_pieces_read(path, pieces)
                : fail(STATUS_INPUT,
                       "the model of the tokeniser %s is not in %s, where sacreBLEU puts it: have "
                       "sacreBLEU download it, or give another one by --spm-model FILE",
                       tokenizer, path);
        free(path);
        TRY(status);
        return bleu_pieces_label(*pieces, models[m].signature);
    }
    return OK;
}

static Status read_model(const Words *words, BleuPieces **pieces)
{
    if (words->model == NULL) return read_known_model(words->tokenizer, pieces);
    if (words->compound_split || (words->tokenizer != NULL && strcmp(words->tokenizer, "spm") != 0))
        return fail(STATUS_USAGE, "plumb bleu: --spm-model goes with --tokenize spm only, not with %s",
                    words->compound_split ? "--compound-split" : words->tokenizer);
    return bleu_pieces_read(words->model, pieces);
}

/* --tokenize, or what the target language asks for. */
static Status read_tokenizer(const Words *words, BleuTokenizer *tokenizer)
{
    const char *name = words->tokenizer, *language = NULL;
    *tokenizer = words->compound_split ? BLEU_TOKENS_COMPOUND_SPLIT : BLEU_TOKENS_13A;
    if (words->language_pair != NULL) {
        language = strchr(words->language_pair, '-');
        if (language++ == NULL)
            return fail(STATUS_USAGE, "plumb bleu: --language-pair is two codes such as en-de, not '%s'",
                        words->language_pair);
    }
    if (words->compound_split) {
        if (name != NULL && strcmp(name, "none") != 0)
            return fail(STATUS_USAGE,
                        "plumb bleu: --compound-split is for text that is tokenised, so it goes with "
                        "--tokenize none only, not with %s",
                        name);
        return OK;
    }
    if (name == NULL && language != NULL) {
        const size_t size = strcspn(language, "-");
        if (size == 2 && memcmp(language, "zh", 2) == 0) name = "zh";
        if (size == 2 && memcmp(language, "ja", 2) == 0) name = "ja-mecab";
        if (size == 2 && memcmp(language, "ko", 2) == 0) name = "ko-mecab";
    }
    if (name == NULL) return OK;
    if (strcmp(name, "ja-mecab") == 0 || strcmp(name, "ko-mecab") == 0)
        return fail(STATUS_UNSUPPORTED,
                    "plumb bleu has no tokeniser %s: tokenise the texts before, or use char", name);
    const char *names[BLEU_TOKENIZERS + MODELS];
    int count = 0, chosen;
    for (int t = 0; t < BLEU_TOKENS_COMPOUND_SPLIT; ++t)
        names[count++] = bleu_tokenizer_name((BleuTokenizer)t);
    for (int m = 0; m < MODELS; ++m)
        names[count++] = models[m].tokenizer;
    TRY(choose("--tokenize", name, names, count, &chosen));
    *tokenizer = (BleuTokenizer)chosen;
    return OK;
}

static Status read_bleu(const BleuArguments *out, const Words *words, Metric *metric)
{
    static const char *const smoothings[] = {"exp", "none", "floor", "add-k"};
    static const BleuSmoothing values[] = {BLEU_SMOOTH_EXP, BLEU_SMOOTH_NONE, BLEU_SMOOTH_FLOOR,
                                           BLEU_SMOOTH_ADD_K};
    int smoothing = 0;
    if (words->smoothing != NULL) TRY(choose("--smooth-method", words->smoothing, smoothings, 4, &smoothing));
    if (words->has_smoothing_value && words->smoothing_value < 0)
        return fail(STATUS_USAGE, "plumb bleu: --smooth-value is not negative, as %g is",
                    words->smoothing_value);
    metric->bleu = (BleuOptions){.smoothing = values[smoothing],
                                 .value = words->has_smoothing_value ? words->smoothing_value : -1,
                                 .effective_order = words->effective_order || out->sentences};
    metric->tokenization.lowercase = words->lowercase;
    metric->tokenization.pieces = out->pieces;
    if (out->pieces == NULL) return read_tokenizer(words, &metric->tokenization.tokenizer);
    metric->tokenization.tokenizer = BLEU_TOKENS_SPM;
    return OK;
}

static Status read_chrf(const Words *words, Metric *metric)
{
    if (words->chrf_characters < 0 || words->chrf_words < 0 ||
        words->chrf_characters + words->chrf_words > CHRF_MOST_ORDERS ||
        words->chrf_characters + words->chrf_words < 1)
        return fail(STATUS_USAGE, "plumb bleu: --chrf-char-order and --chrf-word-order are 1 to %d together",
                    CHRF_MOST_ORDERS);
    if (words->chrf_beta < 0 || words->chrf_beta > 1000000)
        return fail(STATUS_USAGE, "plumb bleu: --chrf-beta is from 0 to 1000000");
    metric->chrf = words->chrf;
    metric->chrf.characters = (int)words->chrf_characters;
    metric->chrf.words = (int)words->chrf_words;
    metric->chrf.beta = (int)words->chrf_beta;
    return OK;
}

static Status read_metrics(const Words *words, BleuArguments *out)
{
    static const char *const names[] = {[METRIC_BLEU] = "bleu", [METRIC_CHRF] = "chrf", [METRIC_TER] = "ter"};
    bool has[METRIC_KINDS] = {false};
    Metric metric = {.ter = words->ter};
    TRY(read_bleu(out, words, &metric));
    out->metrics_named = words->metrics > 0 ? words->metrics : 1;
    for (int m = 0; m < out->metrics_named; ++m) {
        int kind = METRIC_BLEU;
        if (words->metrics > 0) TRY(choose("--metrics", words->metric[m], names, METRIC_KINDS, &kind));
        if (has[kind]) continue;
        has[kind] = true;
        if (kind == METRIC_CHRF) TRY(read_chrf(words, &metric));
        metric.kind = (MetricKind)kind;
        out->metric[out->metrics++] = metric;
    }
    if (words->compound_split && !has[METRIC_BLEU])
        return fail(STATUS_USAGE, "plumb bleu: --compound-split is for BLEU");
    return OK;
}

static Status read_format(const Words *words, BleuArguments *out)
{
    static const char *const names[] = {[BLEU_JSON] = "json", [BLEU_TEXT] = "text", [BLEU_LATEX] = "latex"};
    int chosen = BLEU_JSON;
    if (words->format != NULL) TRY(choose("--format", words->format, names, 3, &chosen));
    const char *environment = getenv("SACREBLEU_FORMAT");
    for (int i = 0; i < 3 && environment != NULL; ++i)
        if (strcasecmp(environment, names[i]) == 0) chosen = i;
    out->format = (BleuFormat)chosen;
    if (out->width < 0 || out->width > 1000)
        return fail(STATUS_USAGE, "plumb bleu: --width is from 0 to 1000, not %lld", (long long)out->width);
    const char *plain = getenv("NO_COLOR");
    out->colours = !words->no_colour && (plain == NULL || plain[0] == '\0');
    return OK;
}

static Status read_reference_fields(const Words *words, BleuArguments *out)
{
    int64_t fields = 1;
    if (words->num_refs != NULL && strcmp(words->num_refs, "var") == 0)
        fields = 0;
    else if (words->num_refs != NULL &&
             (!read_whole(words->num_refs, &fields) || fields < 1 || fields > 1000000))
        return fail(STATUS_USAGE, "plumb bleu: --num-refs is a whole number from 1, or var, not '%s'",
                    words->num_refs);
    out->reference_fields = (int)fields;
    if (fields != 1 && out->references > 1)
        return fail(STATUS_USAGE,
                    "plumb bleu: --num-refs is for one file with TABs between the references of a line, not "
                    "for %d files",
                    out->references);
    return OK;
}

static Status read_modes(BleuArguments *out)
{
    if (out->paired_bootstrap && out->paired_randomisation)
        return fail(STATUS_USAGE, "plumb bleu: --paired-bs and --paired-ar exclude each other");
    if (out->sentences && out->metrics_named > 1)
        return fail(STATUS_USAGE, "plumb bleu: --sentence-level takes one metric, not %d",
                    out->metrics_named);
    if (out->sentences && (out->confidence || out->paired_bootstrap || out->paired_randomisation))
        return fail(STATUS_USAGE,
                    "plumb bleu: --sentence-level has no intervals and no tests of significance");
    if (out->confidence_samples > 100000000 || out->bootstrap_samples > 100000000 ||
        out->randomisation_trials > 100000000)
        return fail(STATUS_USAGE, "plumb bleu: at most 100000000 resamples or trials");
    if (out->references == 0)
        return fail(STATUS_USAGE,
                    "plumb bleu needs a file of references, before --input (see plumb bleu --help)");
    return OK;
}

static Status understand(Reading *reading)
{
    const Words *words = &reading->words;
    BleuArguments *out = &reading->out;
    if (out->version) return OK;
    TRY(refuse_what_is_sacrebleus(words));
    TRY(read_model(words, &out->pieces));
    TRY(read_metrics(words, out));
    TRY(read_format(words, out));
    TRY(read_reference_fields(words, out));
    return read_modes(out);
}

Status bleu_arguments_read(int argc, char **argv, BleuArguments *out)
{
    Reading reading = {.out = {.width = 1,
                               .confidence_samples = 1000,
                               .bootstrap_samples = 1000,
                               .randomisation_trials = 10000,
                               .jobs = 1},
                       .words = {.chrf_characters = chrf_usual.characters, .chrf_beta = chrf_usual.beta}};
    Status status = read_words(argc, argv, &reading);
    if (status == OK) status = understand(&reading);
    free((void *)reading.words.metric);
    *out = reading.out;
    if (status != OK) bleu_arguments_free(out);
    return status;
}

void bleu_arguments_free(BleuArguments *arguments)
{
    free((void *)arguments->reference);
    free((void *)arguments->input);
    bleu_pieces_free(arguments->pieces);
    *arguments = (BleuArguments){.references = 0};
}
