#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/npy.h"
#include "launch/evaluate/evaluate.h"
#include "launch/evaluate/evaluate_run.h"
#include "launch/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char evaluate_help[] =
    "usage: plumb evaluate RUN [--split test|validation] [--checkpoint best|last|EPOCH] [OPTION ...]\n"
    "       plumb evaluate --logits F.npy --labels F.npy [--validation-logits F.npy --validation-labels "
    "F.npy]\n"
    "                      [--ood-logits F.npy] [OPTION ...]\n"
    "\n"
    "Measures calibration: of a training run, or of logits from anywhere. Logits are float16, float32 or "
    "float64\n"
    "[N,K], labels are integers [N], in NumPy's .npy format.\n"
    "\n"
    "  --split NAME               of a run: test (default) or validation\n"
    "  --checkpoint NAME          of a run: best, last (default) or the number of an epoch that was kept\n"
    "  --logits, --labels F       the set to measure\n"
    "  --validation-logits F      a set to choose the temperature on, by ECE and by NLL\n"
    "  --validation-labels F      its labels\n"
    "  --ood-logits F             logits of inputs from elsewhere, to be told apart by confidence and "
    "entropy\n"
    "  --bins B                   bins of the calibration errors (15)\n"
    "  --bootstrap R              resamples for the 90% intervals (1000); 0 for none\n"
    "  --seed S                   of the bootstrap (1)\n"
    "  --json FILE                writes the result as JSON, in fractions; - for the standard output, and "
    "then the\n"
    "                             table goes to the standard error\n"
    "\n"
    "The result is the same to the bit for any number of ranks: mpirun -n R plumb evaluate ...\n";

typedef struct {
    const char *run, *split, *checkpoint;
    const char *logits, *labels, *validation_logits, *validation_labels, *ood_logits;
    const char *json;
    EvaluateOptions evaluate;
} Arguments;

static Status read_options(int argc, char **argv, const char *words[], Arguments *arguments)
{
    int64_t bins = arguments->evaluate.bins, seed = (int64_t)arguments->evaluate.seed;
    const Option options[] = {
        {"split", "a split", .text = &arguments->split},
        {"checkpoint", "a checkpoint", .text = &arguments->checkpoint},
        {"logits", "a file", .text = &arguments->logits},
        {"labels", "a file", .text = &arguments->labels},
        {"validation-logits", "a file", .text = &arguments->validation_logits},
        {"validation-labels", "a file", .text = &arguments->validation_labels},
        {"ood-logits", "a file", .text = &arguments->ood_logits},
        {"json", "a file", .text = &arguments->json},
        {"bins", .number = &bins, .low = 1, .high = CALIBRATION_MAX_BINS},
        {"bootstrap", .number = &arguments->evaluate.replicates, .low = 0, .high = 100000000},
        {"seed", .number = &seed, .low = 0, .high = INT64_MAX},
    };
    int count;
    TRY(options_parse(options, sizeof options / sizeof *options, argc, argv, words, &count));
    arguments->evaluate.bins = (int)bins;
    arguments->evaluate.seed = (uint64_t)seed;
    if (count > 0) arguments->run = words[0];
    if (count > 1) return fail(STATUS_USAGE, "plumb evaluate takes one run, not also %s", words[1]);
    return OK;
}

static Status parse(int argc, char **argv, Arguments *arguments)
{
    const char **words;
    *arguments = (Arguments){.evaluate = evaluate_defaults()};
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "arguments"));
    Status status = read_options(argc, argv, words, arguments);
    free(words);
    return status;
}

static Status check_arguments(const Arguments *arguments)
{
    const char *const of_files[] = {arguments->labels, arguments->validation_logits,
                                    arguments->validation_labels, arguments->ood_logits};
    if (arguments->run != NULL) {
        bool files = arguments->logits != NULL;
        for (int i = 0; i < 4; ++i)
            files = files || of_files[i] != NULL;
        if (files)
            return fail(STATUS_USAGE, "evaluate takes a run (%s) or files of logits, not both",
                        arguments->run);
        return OK;
    }
    if (arguments->logits == NULL)
        return fail(STATUS_USAGE, "evaluate needs a run or --logits; see plumb evaluate --help");
    if (arguments->labels == NULL) return fail(STATUS_USAGE, "--logits needs --labels");
    if ((arguments->validation_logits == NULL) != (arguments->validation_labels == NULL))
        return fail(STATUS_USAGE, "--validation-logits and --validation-labels go together");
    if (arguments->split != NULL || arguments->checkpoint != NULL)
        return fail(STATUS_USAGE, "--split and --checkpoint are for a run, not for files of logits");
    return OK;
}

/* ---- files of logits ---- */

typedef struct {
    Npy logits, labels;
    Logits set; /* this rank's share */
} Files;

static void close_files(Files *files)
{
    npy_close(&files->logits);
    npy_close(&files->labels);
}

static Status check_shapes(const char *logits, const char *labels, const Files *files)
{
    const Npy *values = &files->logits;
    if (values->rank != 2)
        return fail(STATUS_INPUT, "%s: logits have 2 dimensions, samples and classes; this array has %d",
                    logits, values->rank);
    if (values->type != FLOAT32 && values->type != FLOAT64)
        return fail(STATUS_INPUT, "%s: logits are float16, float32 or float64, not %s", logits,
                    dtype_name(values->type));
    if (values->extent[0] < 1) return fail(STATUS_INPUT, "%s: there are no samples", logits);
    if (values->extent[1] < 2)
        return fail(STATUS_INPUT, "%s: %lld classes; at least 2 are needed", logits,
                    (long long)values->extent[1]);
    if (labels == NULL) return OK;
    const Npy *targets = &files->labels;
    if (targets->type != UINT8 && targets->type != INT32 && targets->type != INT64)
        return fail(STATUS_INPUT, "%s: labels are integers, not %s", labels, dtype_name(targets->type));
    if (targets->rank != 1)
        return fail(STATUS_INPUT, "%s: labels have 1 dimension; this array has %d", labels, targets->rank);
    if (targets->extent[0] != values->extent[0])
        return fail(STATUS_INPUT, "%s has %lld labels, but %s has %lld rows of logits", labels,
                    (long long)targets->extent[0], logits, (long long)values->extent[0]);
    return OK;
}

/* labels: NULL for a set without. */
static Status open_files(const World *world, const char *logits, const char *labels, Files *files)
{
    TRY(npy_open(logits, &files->logits));
    if (labels != NULL) TRY(npy_open(labels, &files->labels));
    TRY(check_shapes(logits, labels, files));
    Logits *set = &files->set;
    *set = (Logits){.name = logits,
                    .label_name = labels,
                    .type = files->logits.type,
                    .label_type = files->labels.type,
                    .total = files->logits.extent[0],
                    .classes = files->logits.extent[1]};
    logits_share(set->total, world->rank, world->size, &set->first, &set->count);
    set->values =
        (const char *)files->logits.data + (size_t)(set->first * set->classes) * dtype_size(set->type);
    if (labels != NULL)
        set->labels = (const char *)files->labels.data + (size_t)set->first * dtype_size(set->label_type);
    return OK;
}

/* Do the first rows hold what softmax gives? Their ECE would be that of another network. */
static bool are_probabilities(const Logits *set)
{
    enum { LOOKED_AT = 100 };
    for (int64_t row = 0; row < set->count && row < LOOKED_AT; ++row) {
        double sum = 0;
        for (int64_t k = 0; k < set->classes; ++k) {
            const int64_t at = row * set->classes + k;
            const double value = set->type == FLOAT32 ? (double)((const float *)set->values)[at]
                                                      : ((const double *)set->values)[at];
            if (!(value >= 0)) return false;
            sum += value;
        }
        if (!(sum > 0.999 && sum < 1.001)) return false;
    }
    return set->count > 0;
}

static void warn_of_probabilities(const Logits *set)
{
    if (are_probabilities(set))
        log_warning(
            "%s: its rows look like probabilities; what is wanted is what softmax takes: logits, or the "
            "probabilities' logarithms",
            set->name);
}

static Status evaluate_files(World *world, const Arguments *arguments, EvaluationResult *result)
{
    Files test = {.set = {.name = NULL}}, validation = {.set = {.name = NULL}}, ood = {.set = {.name = NULL}};
    Collective *collective = NULL;
    Status status = open_files(world, arguments->logits, arguments->labels, &test);
    if (status == OK && arguments->validation_logits != NULL)
        status = open_files(world, arguments->validation_logits, arguments->validation_labels, &validation);
    if (status == OK && arguments->ood_logits != NULL)
        status = open_files(world, arguments->ood_logits, NULL, &ood);
    TRY_ELSE(done, comm_agree(world, status));
    warn_of_probabilities(&test.set);
    if (arguments->validation_logits != NULL) warn_of_probabilities(&validation.set);
    if (arguments->ood_logits != NULL) warn_of_probabilities(&ood.set);
    TRY_ELSE(done, comm_collective(world, 600, &collective));
    TRY_ELSE(done, evaluate_logits(world, collective, &arguments->evaluate, &test.set,
                                   arguments->validation_logits != NULL ? &validation.set : NULL,
                                   arguments->ood_logits != NULL ? &ood.set : NULL, result));
done:
    collective_free(collective);
    close_files(&test);
    close_files(&validation);
    close_files(&ood);
    return status;
}

/* ---- the command ---- */

static Status write_result(const Arguments *arguments, const EvaluationResult *result)
{
    const bool to_output = arguments->json != NULL && strcmp(arguments->json, "-") == 0;
    if (arguments->json != NULL) {
        char *text;
        TRY(evaluation_json(result, &text));
        Status status = OK;
        if (!to_output)
            status = file_write(arguments->json, text, strlen(text));
        else if (fputs(text, stdout) == EOF || fflush(stdout) != 0)
            status = fail(STATUS_IO, "the standard output: %s", strerror(errno));
        free(text);
        TRY(status);
    }
    evaluation_print(result, to_output ? stderr : stdout);
    return OK;
}

static Status evaluate_either(World *world, Arguments *arguments, EvaluationResult *result)
{
    arguments->evaluate.threads = comm_threads(world);
    if (arguments->run == NULL) return evaluate_files(world, arguments, result);
    EvaluateRunOptions options = {.run = arguments->run,
                                  .split = SPLIT_TEST,
                                  .checkpoint =
                                      arguments->checkpoint != NULL ? arguments->checkpoint : "last",
                                  .options = arguments->evaluate};
    if (arguments->split != NULL) {
        if (strcmp(arguments->split, "validation") == 0)
            options.split = SPLIT_VALIDATION;
        else if (strcmp(arguments->split, "test") != 0)
            return fail(STATUS_USAGE, "--split is test or validation, not %s", arguments->split);
    }
    return evaluate_run(world, &options, result);
}

Status command_evaluate(World *world, int argc, char **argv)
{
    Arguments arguments;
    TRY(parse(argc, argv, &arguments));
    TRY(check_arguments(&arguments));
    EvaluationResult *result;
    TRY(memory_new(&result, 1, sizeof *result, "evaluation"));
    Status status = evaluate_either(world, &arguments, result);
    if (status == OK) status = comm_agree(world, world->rank == 0 ? write_result(&arguments, result) : OK);
    free(result);
    return status;
}
