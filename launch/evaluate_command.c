#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/npy.h"
#include "launch/evaluate/evaluate.h"
#include "launch/options.h"
#include "launch/train/evaluate_run.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

const char evaluate_help[] =
    "usage: plumb evaluate RUN [dataset.folder=DIR] [--split test|validation] [--checkpoint "
    "best|last|EPOCH]\n"
    "                      [OPTION ...]\n"
    "       plumb evaluate --logits F.npy --labels F.npy [--validation-logits F.npy --validation-labels "
    "F.npy]\n"
    "                      [--ood-logits F.npy] [OPTION ...]\n"
    "\n"
    "Measures calibration: of a training run, or of logits from anywhere. Logits are float16, float32 or "
    "float64\n"
    "[N,K], labels are integers [N], in NumPy's .npy format.\n"
    "\n"
    "  dataset.folder=DIR         of a run: where its data are, if not where they were when it trained\n"
    "  --split NAME               of a run: test (default) or validation\n"
    "  --checkpoint NAME          of a run: best, last (default) or the number of an epoch that was kept\n"
    "  --logits, --labels F       the set to measure\n"
    "  --validation-logits F      a set to choose the temperature on, by ECE and by NLL\n"
    "  --validation-labels F      its labels\n"
    "  --ood-logits F             logits of inputs from elsewhere, to be told apart by confidence and "
    "entropy\n"
    "  --bins B                   bins of the calibration errors (15)\n"
    "  --bootstrap R              resamples for the 90% intervals (1000); 0 for none\n"
    "  --classwise-intervals W    yes, no, or auto (default): up to 2000 classes\n"
    "  --seed S                   of the bootstrap (1)\n"
    "  --temperature-grid F:L:S   temperatures to choose from: first, last and step (0.1:10:0.1)\n"
    "  --json FILE                writes the result as JSON, in fractions; - for the standard output, and "
    "then the\n"
    "                             table goes to the standard error\n"
    "\n"
    "The result is the same to the bit for any number of ranks: mpirun -n R plumb evaluate ...\n";

typedef struct {
    const char *run, *split, *checkpoint;
    const char *logits, *labels, *validation_logits, *validation_labels, *ood_logits;
    const char *json, *classwise, *grid;
    const char *data; /* of a run: where its data are now */
    EvaluateOptions evaluate;
} Arguments;

static Status read_choice(const char *text, BootstrapChoice *choice)
{
    static const char *const words[] = {
        [BOOTSTRAP_AS_FITS] = "auto", [BOOTSTRAP_NO] = "no", [BOOTSTRAP_YES] = "yes"};
    for (int i = 0; i < 3; ++i) {
        if (strcmp(text, words[i]) != 0) continue;
        *choice = (BootstrapChoice)i;
        return OK;
    }
    return fail(STATUS_USAGE, "--classwise-intervals takes yes, no or auto, not %s", text);
}

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
        {"classwise-intervals", "yes, no or auto", .text = &arguments->classwise},
        {"temperature-grid", "temperatures", .text = &arguments->grid},
        {"bins", .number = &bins, .low = 1, .high = CALIBRATION_MAX_BINS},
        {"bootstrap", .number = &arguments->evaluate.replicates, .low = 0, .high = 100000000},
        {"seed", .number = &seed, .low = 0, .high = INT64_MAX},
    };
    int count;
    TRY(options_parse(options, sizeof options / sizeof *options, argc, argv, words, &count));
    arguments->evaluate.bins = (int)bins;
    arguments->evaluate.seed = (uint64_t)seed;
    if (arguments->grid != NULL) TRY(temperature_grid_parse(arguments->grid, &arguments->evaluate.grid));
    if (arguments->classwise != NULL) TRY(read_choice(arguments->classwise, &arguments->evaluate.classwise));
    static const char folder[] = "dataset.folder=";
    for (int i = 0; i < count; ++i) {
        if (strncmp(words[i], folder, sizeof folder - 1) == 0)
            arguments->data = words[i] + sizeof folder - 1;
        else if (arguments->run == NULL)
            arguments->run = words[i];
        else
            return fail(STATUS_USAGE, "plumb evaluate takes one run, not also %s", words[i]);
    }
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
    if (arguments->data != NULL) return fail(STATUS_USAGE, "dataset.folder= is for a run");
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
                    values->stored);
    if (values->extent[0] < 1) return fail(STATUS_INPUT, "%s: there are no samples", logits);
    if (values->extent[1] == 1)
        return fail(
            STATUS_INPUT,
            "%s: one logit a sample; at least 2 classes are needed (of a binary model with the logit z save "
            "[0, z]: numpy.hstack([numpy.zeros_like(z), z]))",
            logits);
    if (values->extent[1] < 1) return fail(STATUS_INPUT, "%s: there are no classes", logits);
    if (labels == NULL) return OK;
    const Npy *targets = &files->labels;
    if (targets->type != UINT8 && targets->type != INT32 && targets->type != INT64)
        return fail(STATUS_INPUT, "%s: labels are integers, not %s", labels, targets->stored);
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
    share_of_rank(set->total, world->rank, world->size, &set->first, &set->count);
    set->values =
        (const char *)files->logits.data + (size_t)(set->first * set->classes) * dtype_size(set->type);
    if (labels != NULL)
        set->labels = (const char *)files->labels.data + (size_t)set->first * dtype_size(set->label_type);
    return OK;
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

static bool to_output(const Arguments *arguments)
{
    return arguments->json != NULL && strcmp(arguments->json, "-") == 0;
}

/* Can the result be written? Better known before the work. What is there stays. */
static Status check_output(const Arguments *arguments)
{
    FileWriter *writer;
    if (arguments->json == NULL || to_output(arguments)) return OK;
    TRY(file_writer_open(arguments->json, &writer));
    file_writer_abandon(writer);
    return OK;
}

static Status write_json(const Arguments *arguments, const EvaluationResult *result)
{
    char *text;
    TRY(evaluation_json(result, &text));
    Status status = OK;
    if (!to_output(arguments))
        status = file_write(arguments->json, text, strlen(text));
    else if (fputs(text, stdout) == EOF || fflush(stdout) != 0)
        status = fail(STATUS_IO, "the standard output: %s", strerror(errno));
    free(text);
    return status;
}

/* The table is printed whatever becomes of the JSON. */
static Status write_result(const Arguments *arguments, const EvaluationResult *result)
{
    const Status status = arguments->json != NULL ? write_json(arguments, result) : OK;
    evaluation_print(result, to_output(arguments) ? stderr : stdout);
    return status;
}

static Status check_run(const char *run)
{
    char config[PATH_MAX];
    const size_t length = strlen(run);
    if (length > 4 && strcmp(run + length - 4, ".npy") == 0)
        return fail(STATUS_USAGE,
                    "%s is a file, not a run: for logits from anywhere give --logits F.npy --labels F.npy",
                    run);
    if (!file_exists(run)) return fail(STATUS_IO, "there is no run %s", run);
    TRY(file_join(config, run, "config.yaml"));
    if (!file_exists(config))
        return fail(STATUS_INPUT, "%s is no run: a run is a folder that plumb train made, with a config.yaml",
                    run);
    return OK;
}

static Status evaluate_either(World *world, Arguments *arguments, EvaluationResult *result)
{
    arguments->evaluate.threads = comm_threads(world);
    arguments->evaluate.progress = true;
    TRY(comm_agree(world, world->rank == 0 ? check_output(arguments) : OK));
    if (arguments->run == NULL) return evaluate_files(world, arguments, result);
    EvaluateRunOptions options = {.run = arguments->run,
                                  .split = SPLIT_TEST,
                                  .checkpoint =
                                      arguments->checkpoint != NULL ? arguments->checkpoint : "last",
                                  .data = arguments->data,
                                  .options = arguments->evaluate};
    if (arguments->split != NULL) {
        if (strcmp(arguments->split, "validation") == 0)
            options.split = SPLIT_VALIDATION;
        else if (strcmp(arguments->split, "test") != 0)
            return fail(STATUS_USAGE, "--split is test or validation, not %s", arguments->split);
    }
    TRY(comm_agree(world, check_run(arguments->run)));
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
