/* plumb translate and plumb score: their words. */
#include "launch/translate_command.h"
#include "engine/base/memory.h"
#include "launch/options.h"
#include "launch/translate/score.h"
#include "launch/translate/translate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char translate_help[] =
    "usage: [mpirun -n RANKS] plumb translate RUN [OPTIONS] < INPUT > OUTPUT\n"
    "\n"
    "Translates lines: one line out for each line in, in order; a blank line stays empty. RUN is a folder "
    "that plumb train\n"
    "made.\n"
    "\n"
    "  --beam N             hypotheses of a sentence side by side, 1 to 64 (4)\n"
    "  --greedy             the best token at each step, which is not beam 1\n"
    "  --sample             tokens are drawn, --nbest N times (1); --top-k K: from the best K; --top-p P: "
    "then from the\n"
    "                       fewest that have the share P; --seed S (1): the same seed draws the same\n"
    "  --temperature T      logits are divided by it before they become probabilities (1); calibrated: by "
    "what the run's\n"
    "                       evaluation chose\n"
    "  --nbest N            the best N hypotheses, parted by TABs (1)\n"
    "  --scores             before each hypothesis its score and a TAB\n"
    "  --json               an object a line, with scores and tokens\n"
    "  --alpha A            of the length penalty (0.6); 0: none\n"
    "  --length-penalty W   wu: ((5 + length) / 6)^alpha; power: length^alpha; none; --count-end yes|no: the "
    "end token counts\n"
    "                       in the length (yes)\n"
    "  --rules R            plumb (default), tensor2tensor, fairseq or ctranslate2: what counts as a "
    "candidate, what ends a\n"
    "                       search and how length is penalised, as there\n"
    "                       (--ends, --stop, --limit, --length-penalty and --count-end change one of these "
    "alone)\n"
    "  --ends W             candidates that may end: anywhere among twice the beam (of plumb and "
    "tensor2tensor), or in_beam\n"
    "  --stop W             bound: when nothing better can come; finished: when as many as the beam are "
    "finished; first:\n"
    "                       when the best candidate of a step has ended, and --nbest are finished\n"
    "  --limit W            at the greatest length: forced_end, tensor2tensor or cut\n"
    "  --max-length A+Bx    the most tokens for a source of x tokens, each with its end token (50+x)\n"
    "  --min-length N       tokens before the end may come (0)\n"
    "  --no-repeat N        no N tokens in a row come twice\n"
    "  --prefix FILE        line for line, what translations begin with\n"
    "  --longest N          tokens of a source, its end token among them (as in training)\n"
    "  --long W             longer lines: cut (default), or split into parts\n"
    "  --checkpoint C       last (default), best, average, an epoch's number, step:NUMBER, or a "
    "file.safetensors\n"
    "  --batch N            sentences at a time (CPU 32, GPU 256); it changes no translation\n"
    "  --device D           auto, cpu or cuda (as in training)\n"
    "  --compute TYPE       float32 or bfloat16 (as in training); bfloat16 is about twice as fast where the "
    "processor has it,\n"
    "                       and now and then chooses another word\n"
    "  --deterministic      the same bits of scores, too, whatever is translated together\n"
    "  --progress S         where standard error is no terminal, as under mpirun: a line of progress, at "
    "most "
    "every S seconds\n"
    "                       (30; 0: none)\n"
    "  --stream             with several ranks: what is there is translated without waiting for more lines\n"
    "\n"
    "Several ranks share the lines. What was cut, split or no valid UTF-8 is reported at the end.\n";

const char score_help[] =
    "usage: [mpirun -n RANKS] plumb score RUN --source FILE --target FILE [OPTIONS] > OUTPUT\n"
    "\n"
    "For each pair of lines the natural logarithm of the probability that the run gives the target, its end "
    "token included.\n"
    "\n"
    "  --tokens             that of each token, parted by spaces\n"
    "  --temperature T      logits are divided by it (1); calibrated: by what the run's evaluation chose\n"
    "  --longest N          tokens of a line, its end token among them (as in training)\n"
    "  --checkpoint C       last (default), best, average, an epoch's number, step:NUMBER, or a "
    "file.safetensors\n"
    "  --device D           auto, cpu or cuda (as in training)\n"
    "  --compute TYPE       float32 or bfloat16 (as in training)\n";

enum { MOST_LONGEST = 1 << 20, MOST_BATCH = 1 << 16, MOST_SECONDS = 1 << 30 };

/* ---- words ---- */

static Status read_real(const char *option, const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    if (end != text && *end == '\0' && errno == 0 && isfinite(*value)) return OK;
    return fail(STATUS_USAGE, "--%s takes a number, not %s", option, text);
}

static Status read_choice(const char *option, const char *text, const char *const words[], int count,
                          int *choice)
{
    for (int i = 0; i < count; ++i) {
        if (strcmp(text, words[i]) != 0) continue;
        *choice = i;
        return OK;
    }
    return fail(STATUS_USAGE, "--%s takes %s%s%s%s%s, not %s", option, words[0], count > 2 ? ", " : " or ",
                words[1], count > 2 ? " or " : "", count > 2 ? words[2] : "", text);
}

static Status read_temperature(const char *text, double *temperature, bool *calibrated)
{
    *calibrated = strcmp(text, "calibrated") == 0;
    return *calibrated ? OK : read_real("temperature", text, temperature);
}

/* "A+Bx", "A", "Bx" or "x". */
static Status read_max_length(const char *text, TranslatorOptions *lines)
{
    const char *at = text;
    double number[2] = {0, 0};
    for (bool done = false; !done;) {
        char *end;
        double value = strtod(at, &end);
        const bool of_x = *end == 'x';
        if (end == at && of_x) value = 1;
        if ((end == at && !of_x) || !(value >= 0) || value > 1e6) break;
        number[of_x] += value;
        at = end + of_x;
        done = *at == '\0';
        if (!done && *at++ != '+') break;
        if (done) {
            lines->limit_constant = number[0];
            lines->limit_factor = number[1];
            return OK;
        }
    }
    return fail(STATUS_USAGE,
                "--max-length takes A+Bx with two numbers, such as 50+1x, or A or Bx alone, not %s", text);
}

static Status take_run(const char *command, const char *words[], int count, const char **run)
{
    if (count == 0) return fail(STATUS_USAGE, "plumb %s needs a run; see plumb %s --help", command, command);
    if (count > 1) return fail(STATUS_USAGE, "plumb %s takes one run, not also %s", command, words[1]);
    *run = words[0];
    return OK;
}

/* ---- translate ---- */

typedef struct {
    const char *temperature, *alpha, *penalty, *count_end, *rules, *ends, *stop, *limit, *max_length, *top_p,
        *long_lines;
    bool greedy, sample;
    int64_t beam, best, minimum, no_repeat, seed;
} SearchWords;

static Status read_search(const SearchWords *words, TranslateOptions *options)
{
    static const char *const penalties[] = {
        [LENGTH_WU] = "wu", [LENGTH_POWER] = "power", [LENGTH_NONE] = "none"};
    static const char *const stops[] = {
        [STOP_BOUND] = "bound", [STOP_FINISHED] = "finished", [STOP_FIRST] = "first"};
    static const char *const limits[] = {
        [LIMIT_FORCED_END] = "forced_end", [LIMIT_TENSOR2TENSOR] = "tensor2tensor", [LIMIT_CUT] = "cut"};
    static const char *const ends[] = {[ENDS_ANYWHERE] = "anywhere", [ENDS_IN_BEAM] = "in_beam"};
    SearchOptions *search = &options->lines.search;
    int choice;
    if (words->rules != NULL) {
        const SearchRules *rules = search_rules(words->rules);
        if (rules == NULL)
            return fail(STATUS_USAGE, "--rules takes plumb, tensor2tensor, fairseq or ctranslate2, not %s",
                        words->rules);
        search->rules = *rules;
    }
    if (words->penalty != NULL) {
        TRY(read_choice("length-penalty", words->penalty, penalties, 3, &choice));
        search->rules.penalty = (LengthPenalty)choice;
    }
    if (words->stop != NULL) {
        TRY(read_choice("stop", words->stop, stops, 3, &choice));
        search->rules.stop = search->rules.stop_without_penalty = (SearchStop)choice;
    }
    if (words->limit != NULL) {
        TRY(read_choice("limit", words->limit, limits, 3, &choice));
        search->rules.limit = (SearchLimit)choice;
    }
    if (words->ends != NULL) {
        TRY(read_choice("ends", words->ends, ends, 2, &choice));
        search->rules.ends = (SearchEnds)choice;
    }
    if (words->count_end != NULL) {
        TRY(read_choice("count-end", words->count_end, (const char *const[]){"no", "yes"}, 2, &choice));
        search->rules.count_end = choice == 1;
    }
    if (words->long_lines != NULL) {
        TRY(read_choice("long", words->long_lines, (const char *const[]){"cut", "split"}, 2, &choice));
        options->lines.long_lines = (LongLines)choice;
    }
    if (words->alpha != NULL) TRY(read_real("alpha", words->alpha, &search->alpha));
    if (words->top_p != NULL) TRY(read_real("top-p", words->top_p, &search->top_p));
    if (words->max_length != NULL) TRY(read_max_length(words->max_length, &options->lines));
    if (words->temperature != NULL)
        TRY(read_temperature(words->temperature, &search->temperature, &options->calibrated));
    return OK;
}

static Status set_method(const SearchWords *words, TranslateOptions *options)
{
    SearchOptions *search = &options->lines.search;
    if (words->greedy && words->sample)
        return fail(STATUS_USAGE, "--greedy and --sample are two ways to search: give one of them");
    if (!words->sample && (search->top_k > 0 || words->top_p != NULL))
        return fail(STATUS_USAGE, "--top-k and --top-p are for --sample");
    if ((words->greedy || words->sample) && words->beam > 0)
        return fail(STATUS_USAGE, "--beam is for beam search, not for %s",
                    words->greedy ? "--greedy" : "--sample");
    if (words->beam > 0) search->beam = (int)words->beam;
    search->best = (int)words->best;
    search->minimum = (int)words->minimum;
    search->no_repeat = (int)words->no_repeat;
    search->seed = (uint64_t)words->seed;
    if (words->greedy) {
        search->method = SEARCH_GREEDY;
        search->beam = 1;
    }
    if (words->sample) {
        search->method = SEARCH_SAMPLE;
        search->beam = search->best;
    }
    Status status = search_check(search);
    if (status == OK) return OK;
    Status usage = fail(STATUS_USAGE, "%s", status_message(status));
    status_free(status);
    return usage;
}

static Status parse_translate(int argc, char **argv, const char *words[], TranslateOptions *options)
{
    SearchWords given = {.best = 1, .seed = 1};
    SearchOptions *search = &options->lines.search;
    const Option table[] = {
        {"checkpoint", "a checkpoint", .text = &options->checkpoint},
        {"prefix", "a file", .text = &options->prefix},
        {"temperature", "a number or calibrated", .text = &given.temperature},
        {"alpha", "a number", .text = &given.alpha},
        {"length-penalty", "wu, power or none", .text = &given.penalty},
        {"count-end", "yes or no", .text = &given.count_end},
        {"rules", "a name", .text = &given.rules},
        {"ends", "anywhere or in_beam", .text = &given.ends},
        {"stop", "bound, finished or first", .text = &given.stop},
        {"limit", "forced_end, tensor2tensor or cut", .text = &given.limit},
        {"max-length", "A+Bx", .text = &given.max_length},
        {"top-p", "a share", .text = &given.top_p},
        {"long", "cut or split", .text = &given.long_lines},
        {"device", "auto, cpu or cuda", .text = &options->use.device},
        {"compute", "float32 or bfloat16", .text = &options->use.compute},
        {"greedy", .flag = &given.greedy},
        {"sample", .flag = &given.sample},
        {"scores", .flag = &options->lines.scores},
        {"json", .flag = &options->lines.json},
        {"deterministic", .flag = &options->deterministic},
        {"stream", .flag = &options->stream},
        {"beam", .number = &given.beam, .low = 1, .high = SEARCH_MOST_BEAM},
        {"nbest", .number = &given.best, .low = 1, .high = SEARCH_MOST_BEAM},
        {"min-length", .number = &given.minimum, .low = 0, .high = MOST_LONGEST},
        {"no-repeat", .number = &given.no_repeat, .low = 0, .high = MOST_LONGEST},
        {"top-k", .number = &search->top_k, .low = 1, .high = INT32_MAX},
        {"seed", .number = &given.seed, .low = 0, .high = INT64_MAX},
        {"batch", .number = &options->sentences, .low = 1, .high = MOST_BATCH},
        {"longest", .number = &options->longest, .low = 2, .high = MOST_LONGEST},
        {"progress", .number = &options->progress, .low = 0, .high = MOST_SECONDS},
    };
    int count;
    TRY(options_parse(table, sizeof table / sizeof *table, argc, argv, words, &count));
    TRY(run_use_check(&options->use));
    TRY(take_run("translate", words, count, &options->run));
    TRY(read_search(&given, options));
    if (options->lines.json && options->lines.scores)
        return fail(STATUS_USAGE, "--scores is for plain lines: the objects of --json have scores");
    return set_method(&given, options);
}

Status command_translate(World *world, int argc, char **argv)
{
    TranslateOptions options = {.checkpoint = "last",
                                .progress = 30,
                                .lines = translator_defaults(),
                                .input = STDIN_FILENO,
                                .output = STDOUT_FILENO};
    const char **words;
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "arguments"));
    const Status status = parse_translate(argc, argv, words, &options);
    free(words);
    return status == OK ? translate(world, &options) : status;
}

/* ---- score ---- */

static Status parse_score(int argc, char **argv, const char *words[], ScoreOptions *options)
{
    const char *temperature = NULL;
    const Option table[] = {
        {"checkpoint", "a checkpoint", .text = &options->checkpoint},
        {"device", "auto, cpu or cuda", .text = &options->use.device},
        {"compute", "float32 or bfloat16", .text = &options->use.compute},
        {"source", "a file", .text = &options->source},
        {"target", "a file", .text = &options->target},
        {"temperature", "a number or calibrated", .text = &temperature},
        {"tokens", .flag = &options->tokens},
        {"longest", .number = &options->longest, .low = 2, .high = MOST_LONGEST},
    };
    int count;
    TRY(options_parse(table, sizeof table / sizeof *table, argc, argv, words, &count));
    TRY(run_use_check(&options->use));
    TRY(take_run("score", words, count, &options->run));
    if (options->source == NULL || options->target == NULL)
        return fail(STATUS_USAGE, "plumb score needs --source FILE and --target FILE");
    if (temperature != NULL) TRY(read_temperature(temperature, &options->temperature, &options->calibrated));
    if (!(options->temperature >= 1e-3 && options->temperature <= 1e3))
        return fail(STATUS_USAGE, "a temperature is 0.001 to 1000, not %g", options->temperature);
    return OK;
}

Status command_score(World *world, int argc, char **argv)
{
    ScoreOptions options = {.checkpoint = "last", .temperature = 1, .output = STDOUT_FILENO};
    const char **words;
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "arguments"));
    const Status status = parse_score(argc, argv, words, &options);
    free(words);
    return status == OK ? score(world, &options) : status;
}
