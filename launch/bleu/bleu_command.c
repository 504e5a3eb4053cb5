#include "launch/bleu/bleu_command.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/bleu/bleu_report.h"
#include "launch/bleu/bleu_texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char bleu_help[] =
    "usage: plumb bleu REFERENCE ... [OPTION ...] < HYPOTHESES\n"
    "       plumb bleu REFERENCE ... -i SYSTEM ... [OPTION ...]\n"
    "\n"
    "BLEU, chrF and TER of translations: the numbers, p-values and output of sacreBLEU 2.6.0, by sacreBLEU's "
    "options; only\n"
    "the version in the signature is another. Files are UTF-8, a segment a line; names in .gz are "
    "decompressed.\n"
    "Without -i the hypotheses come from the standard input: TABs between the systems, if there are "
    "several.\n"
    "\n"
    "  -i, --input FILE ...         systems, a file each\n"
    "  -nr, --num-refs N            references in one file, N a line, TABs between them; var: each line as "
    "many as it has\n"
    "  -m, --metrics M ...          bleu (default), chrf, ter\n"
    "  -sl, --sentence-level        a score a line (BLEU: of the orders that the line is long enough for)\n"
    "  -l, --language-pair XX-YY    the target language zh has its own tokeniser\n"
    "BLEU\n"
    "  -tok, --tokenize T           13a (default), none, char, zh, intl; spm, flores101, flores200, "
    "spBLEU-1K: pieces of the\n"
    "                               SentencePiece models that sacreBLEU keeps in $SACREBLEU/models or "
    "~/.sacrebleu/models\n"
    "  --spm-model FILE             pieces of this model (not sacreBLEU's option; the signature has "
    "tok:spm-HASH)\n"
    "  -lc, --lowercase             as Python's str.lower\n"
    "  -s, --smooth-method S        exp (default), floor, add-k, none\n"
    "  -sv, --smooth-value V        of floor (0.1) and add-k (1)\n"
    "  --force                      no warning of text that looks tokenised\n"
    "  --effective-order            leave out orders that the texts are too short for (not sacreBLEU's "
    "option; eff:yes)\n"
    "  --compound-split             for files that are tokenised already: words with a hyphen count as "
    "three, as in the\n"
    "                               numbers of Vaswani et al. (not sacreBLEU's option; named "
    "BLEU-compound-split, because\n"
    "                               the number is not comparable with BLEU's)\n"
    "chrF\n"
    "  -cc, --chrf-char-order N     n-grams of characters (6)\n"
    "  -cw, --chrf-word-order N     n-grams of words (0); 2: chrF++\n"
    "  --chrf-beta N                weight of recall (2)\n"
    "  --chrf-whitespace, --chrf-lowercase, --chrf-eps-smoothing\n"
    "TER\n"
    "  --ter-case-sensitive, --ter-asian-support, --ter-no-punct, --ter-normalized\n"
    "How sure\n"
    "  -ci, --confidence            95 % interval of one system by bootstrap\n"
    "  -cin, --confidence-n N       resamples (1000)\n"
    "  -pbs, --paired-bs            each system against the first: paired bootstrap\n"
    "  -pbsn, --paired-bs-n N       resamples (1000)\n"
    "  -par, --paired-ar            the same: paired approximate randomisation\n"
    "  -parn, --paired-ar-n N       trials (10000)\n"
    "  -j, --paired-jobs N          threads, for all of the work (1); 0: as many as there are processors\n"
    "Report\n"
    "  -f, --format F               json (default), text, latex (a table of several systems)\n"
    "  -w, --width N                decimals (1)\n"
    "  -b, --score-only             the score alone\n"
    "  -sh, --short                 short signatures\n"
    "  -q, --quiet                  no warnings\n"
    "  -nc, --no-color              no colours on a terminal\n"
    "\n"
    "SACREBLEU_SEED (12345; \"none\": another one each time) seeds the resamples, SACREBLEU_FORMAT overrides "
    "-f, NO_COLOR is -nc.\n"
    "Test sets (-t, --echo and the like) are sacreBLEU's alone: nothing is downloaded.\n";

/* What the signatures say of the version: that of sacreBLEU whose numbers these are, and the program that computed them. */
#define VERSION SACREBLEU_VERSION "+plumb." PLUMB_VERSION

typedef struct {
    const BleuArguments *arguments;
    const BleuTexts *texts;
    const char *seed_text; /* as the environment has it */
    NumpySeed seed;
    int threads;
} Work;

static bool is_paired(const BleuArguments *arguments)
{
    return arguments->paired_bootstrap || arguments->paired_randomisation;
}

/* ---- Signatures ---- */

/* Decimal digits of a seed. */
static Status seed_digits(const NumpySeed *seed, char **text)
{
    char digits[10 * NUMPY_SEED_WORDS + 1];
    size_t at = sizeof digits;
    NumpySeed left = *seed;
    digits[--at] = '\0';
    do {
        uint64_t rest = 0;
        for (int i = left.words - 1; i >= 0; --i) {
            rest = rest << 32 | left.word[i];
            left.word[i] = (uint32_t)(rest / 10);
            rest %= 10;
        }
        digits[--at] = (char)('0' + rest);
        while (left.words > 1 && left.word[left.words - 1] == 0)
            --left.words;
    } while (at > 0 && (left.words > 1 || left.word[0] != 0));
    return text_copy(digits + at, text);
}

/* sacreBLEU names the seed as the environment has it for -ci, and as a number for paired tests. */
static Status seed_name(const Work *work, char **name)
{
    if (is_paired(work->arguments) && work->seed.words > 0) return seed_digits(&work->seed, name);
    TRY(text_copy(work->seed_text, name));
    for (char *at = *name; *at != '\0'; ++at)
        if (*at >= 'A' && *at <= 'Z') *at = (char)(*at + ('a' - 'A'));
    return OK;
}

static int64_t paired_samples(const BleuArguments *arguments)
{
    if (arguments->paired_bootstrap)
        return arguments->bootstrap_samples > 0 ? arguments->bootstrap_samples : 1000;
    return arguments->randomisation_trials > 0 ? arguments->randomisation_trials : 10000;
}

/* brief: as --short. references: of this segment, or of all. */
static Status make_signature(const Work *work, const Metric *metric, int references, bool brief,
                             char **signature)
{
    const BleuArguments *arguments = work->arguments;
    SignatureFacts facts = {.references = references, .version = VERSION};
    char *seed = NULL;
    if (is_paired(arguments) || (arguments->confidence && arguments->confidence_samples > 1)) {
        TRY(seed_name(work, &seed));
        facts.seed = seed;
        if (arguments->confidence)
            facts.resamples = arguments->confidence_samples;
        else if (arguments->paired_bootstrap)
            facts.resamples = paired_samples(arguments);
        else
            facts.trials = paired_samples(arguments);
    }
    Status status = metric_signature(metric, &facts, brief, signature);
    free(seed);
    return status;
}

/* ---- Sentences ---- */

static Status print_sentence(const Work *work, const Metric *metric, const double row[], int references)
{
    Significance result = {.score = metric_score(metric, row, (Arithmetic){.kept = KEPT_IN_PYTHON}).value};
    BleuColumn column = {.result = &result};
    char *line = NULL;
    Status status = metric_name(metric, &column.name);
    if (status == OK)
        status = make_signature(work, metric, references, work->arguments->brief, &column.signature);
    if (status == OK) status = metric_details(metric, row, &column.details);
    if (status == OK) status = bleu_score_line(work->arguments, &column, false, &line);
    if (status == OK) (void)puts(line);
    free(line);
    free(column.name);
    free(column.signature);
    free(column.details);
    return status;
}

static Status print_sentences(const Work *work)
{
    const Metric *metric = &work->arguments->metric[0];
    const Segments *segments = &work->texts->segments;
    double *rows;
    TRY(metric_rows(metric, segments, work->threads, &rows));
    Status status = OK;
    for (int64_t i = 0; i < segments->count && status == OK; ++i)
        status = print_sentence(work, metric, rows + i * metric_width(metric), segments->references[i]);
    free(rows);
    return status;
}

/* ---- Corpora ---- */

/* BLEU is 0 where no hypothesis has four words: not a bad translation, but one that BLEU cannot judge. */
static void warn_of_short_texts(const Work *work, const Statistics *statistics, const double sum[])
{
    if (work->arguments->quiet || statistics->metric->kind != METRIC_BLEU || sum[0] == 0) return;
    for (int n = 0; n < BLEU_ORDER && !statistics->metric->bleu.effective_order; ++n)
        if (sum[2 + BLEU_ORDER + n] == 0) {
            log_warning("no hypothesis has %d words, so BLEU is 0 whatever they are: see --effective-order, "
                        "or use chrF",
                        n + 1);
            return;
        }
}

static Status single_details(const Work *work, const Statistics *statistics, BleuColumn *column)
{
    double sum[METRIC_WIDEST] = {0};
    const int width = metric_width(statistics->metric);
    for (int64_t i = 0; i < statistics->segments; ++i)
        for (int k = 0; k < width; ++k)
            sum[k] += statistics->rows[i * width + k];
    warn_of_short_texts(work, statistics, sum);
    return metric_details(statistics->metric, sum, &column->details);
}

/* sacreBLEU cannot write float32 as JSON, so beside NumPy 2 a paired bootstrap of chrF or TER has no JSON at all: what there is of
 * it is of NumPy 1. */
static Numpy numpy_of(const BleuArguments *arguments)
{
    if (!arguments->paired_bootstrap || arguments->format != BLEU_JSON) return NUMPY_2;
    for (int m = 0; m < arguments->metrics; ++m)
        if (arguments->metric[m].kind != METRIC_BLEU) return NUMPY_1;
    return NUMPY_2;
}

static Status measure(const Work *work, const Statistics *statistics, Significance result[])
{
    const BleuArguments *arguments = work->arguments;
    Resampling resampling = {.seed = work->seed, .numpy = numpy_of(arguments), .threads = work->threads};
    if (is_paired(arguments)) {
        resampling.samples = paired_samples(arguments);
        return arguments->paired_bootstrap ? significance_bootstrap(statistics, &resampling, result)
                                           : significance_randomisation(statistics, &resampling, result);
    }
    if (arguments->confidence && arguments->confidence_samples > 1) {
        resampling.samples = arguments->confidence_samples;
        return significance_interval(statistics, &resampling, result);
    }
    significance_scores(statistics, result);
    return OK;
}

static Status fill_column(const Work *work, const Metric *metric, BleuColumn *column)
{
    const BleuArguments *arguments = work->arguments;
    const Segments *segments = &work->texts->segments;
    const bool single = segments->systems == 1;
    const bool brief = arguments->brief && !(single && arguments->format == BLEU_JSON);
    TRY(memory_new(&column->result, (size_t)segments->systems, sizeof *column->result, "scores"));
    TRY(metric_name(metric, &column->name));
    TRY(make_signature(work, metric, work->texts->references, brief, &column->signature));
    double *rows;
    TRY(metric_rows(metric, segments, work->threads, &rows));
    const Statistics statistics = {
        .metric = metric, .rows = rows, .segments = segments->count, .systems = segments->systems};
    Status status = measure(work, &statistics, column->result);
    if (status == OK && single) status = single_details(work, &statistics, column);
    free(rows);
    return status;
}

/* Columns stand in the order of the metrics' names, but for paired tests: in that of the command line. */
static void order_metrics(BleuArguments *arguments)
{
    if (is_paired(arguments)) return;
    for (int m = 1; m < arguments->metrics; ++m)
        for (int k = m; k > 0 && arguments->metric[k].kind < arguments->metric[k - 1].kind; --k) {
            const Metric metric = arguments->metric[k];
            arguments->metric[k] = arguments->metric[k - 1];
            arguments->metric[k - 1] = metric;
        }
}

static Status print_corpora(const Work *work)
{
    const BleuArguments *arguments = work->arguments;
    const BleuTexts *texts = work->texts;
    BleuColumn column[METRIC_KINDS] = {{.name = NULL}};
    Status status = OK;
    for (int m = 0; m < arguments->metrics && status == OK; ++m)
        status = fill_column(work, &arguments->metric[m], &column[m]);
    if (status == OK)
        status = texts->segments.systems == 1
                     ? bleu_print_single(arguments, column, arguments->metrics)
                     : bleu_print_table(arguments, (const char *const *)texts->name, texts->segments.systems,
                                        column, arguments->metrics);
    if (status == OK && arguments->detail && texts->segments.systems == 1)
        (void)puts("No subset information found. Consider using --origlang argument.");
    for (int m = 0; m < arguments->metrics; ++m) {
        free(column[m].name);
        free(column[m].signature);
        free(column[m].details);
        free(column[m].result);
    }
    return status;
}

/* ---- The command ---- */

static Status start(BleuArguments *arguments, Work *work)
{
    work->seed_text = getenv("SACREBLEU_SEED");
    if (work->seed_text == NULL) work->seed_text = "12345";
    Status status = numpy_seed_parse(work->seed_text, &work->seed);
    if (status != OK) return status_context(status, "SACREBLEU_SEED");
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    work->threads = arguments->jobs > 0 ? (int)(arguments->jobs < 1024 ? arguments->jobs : 1024)
                                        : (int)(processors > 0 ? processors : 1);
    if (!arguments->sentences && arguments->detail && arguments->format == BLEU_JSON)
        arguments->format = BLEU_TEXT;
    order_metrics(arguments);
    return OK;
}

static Status run(BleuArguments *arguments)
{
    Work work = {.arguments = arguments};
    TRY(start(arguments, &work));
    BleuTexts texts;
    TRY(bleu_texts_read(arguments, &texts));
    work.texts = &texts;
    Status status = arguments->sentences ? print_sentences(&work) : print_corpora(&work);
    bleu_texts_free(&texts);
    bleu_print_end(arguments);
    return status;
}

Status command_bleu(World *world, int argc, char **argv)
{
    if (world->rank != 0) return OK;
    BleuArguments arguments;
    TRY(bleu_arguments_read(argc, argv, &arguments));
    Status status = OK;
    if (world->size > 1) arguments.colours = false; /* mpirun gives each rank a terminal of its own */
    if (arguments.version)
        (void)puts("plumb bleu " VERSION);
    else
        status = run(&arguments);
    bleu_arguments_free(&arguments);
    return status;
}
