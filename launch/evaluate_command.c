#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "launch/evaluate/evaluate.h"
#include "launch/evaluate/evaluate_files.h"
#include "launch/options.h"
#include "launch/report/evaluation_page.h"
#include "launch/train/evaluate_run.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

const char evaluate_help[] =
    "usage: plumb evaluate RUN [dataset.folder=DIR] [dataset.cache=DIR] [--split test|validation]\n"
    "                      [--checkpoint NAME] [--ood SET ...] [OPTION ...]\n"
    "       plumb evaluate --logits F.npy --labels F.npy [--validation-logits F.npy --validation-labels "
    "F.npy]\n"
    "                      [--ood-logits F.npy] [OPTION ...]\n"
    "       plumb evaluate --probabilities F.npy --labels F.npy [--validation-probabilities F.npy ...]\n"
    "       plumb evaluate --confidence F.npy --correct F.npy [OPTION ...]\n"
    "\n"
    "Measures calibration: of a training run, or of logits, probabilities or confidences from anywhere. "
    "Logits "
    "and\n"
    "probabilities are float16, float32 or float64 [N,K], labels are integers [N], in NumPy's .npy format. A "
    "single\n"
    "column [N,1] is the logit or the probability of class 1 of two.\n"
    "Of a run of translation, whose logits are not kept, there are no --recalibrate, --calibrator, "
    "--all-measures and --ood.\n"
    "\n"
    "  dataset.folder=DIR         of a run: where its data are, if not where they were when it trained\n"
    "  dataset.cache=DIR          of a run of translation: a folder for its encoded corpora, if not the "
    "run's\n"
    "  --split NAME               of a run: test (default) or validation\n"
    "  --checkpoint NAME          of a run: best, last (default) or the number of an epoch that was kept;\n"
    "                             best-MEASURE (checkpoint.best), step:NUMBER (checkpoint.keep_steps), "
    "average\n"
    "                             (plumb average), or a file.safetensors of parameters of such a network\n"
    "  --device D                 of a run: auto, cpu or cuda (as in training)\n"
    "  --compute TYPE             of a run: float32 or bfloat16 (as in training)\n"
    "  --ood NAME[=WHERE]         of a run of images: AUROC of telling its test images from others; may come "
    "several times:\n"
    "                             svhn=FOLDER (test_32x32.mat), cifar10_c=FILE[:SEVERITY] (.npy; 5),\n"
    "                             gaussian_noise[=SEVERITY] (made of the test images; 5), NAME=FOLDER (any "
    "JPEG "
    "and PNG)\n"
    "  --logits, --labels F       the set to measure\n"
    "  --validation-logits F      a set to choose the temperature on, by ECE and by NLL\n"
    "  --validation-labels F      its labels\n"
    "  --ood-logits F             logits of inputs from elsewhere, to be told apart by confidence and "
    "entropy\n"
    "  --probabilities F          in place of --logits: each row sums to 1 within 0.001, and is divided by "
    "its "
    "sum; likewise\n"
    "                             --validation-probabilities and --ood-probabilities. Temperatures then "
    "divide ln p\n"
    "  --confidence, --correct F  confidences of the predictions [N], and 1 or 0 for right or wrong [N], "
    "where "
    "no more is\n"
    "                             known\n"
    "  --ignore-label L           of files: samples with this label are left out, and counted (-100)\n"
    "  --class-names FILE         a text file with the name of each class on a line, in the order of the "
    "labels\n"
    "  --recalibrate NAME,...     fits to the validation set, and measures on the test set: "
    "temperature_scaling,\n"
    "                             vector_scaling, matrix_scaling (lambda=1, mu=1), dirichlet (lambda=0, "
    "mu=0), beta "
    "(two\n"
    "                             classes), isotonic, histogram_binning (bins=15, scheme=equal_width); with "
    "settings "
    "as in\n"
    "                             matrix_scaling:lambda=10:mu=2,histogram_binning:scheme=equal_mass\n"
    "  --save-calibrator FILE     writes the one method of --recalibrate, as fitted, as JSON\n"
    "  --calibrator FILE          measures the test set after such a calibrator, too\n"
    "  --all-measures             more: SmoothECE with its curve and band, debiased errors, the kernel "
    "calibration error\n"
    "                             with its tests, parts of the Brier score, consistency bars, the worst "
    "classes\n"
    "  --smooth-ece D             continuous (default), or relplot: as that package has it\n"
    "  --kernel FORM[:WIDTH]      laplacian (default) or gaussian; the width is the median distance unless "
    "given\n"
    "  --kernel-samples N         at most so many samples, drawn at random, since its work grows with their "
    "square "
    "(1000)\n"
    "  --bins B                   bins of the calibration errors (15)\n"
    "  --bootstrap R              resamples for the 90% intervals (1000); 0 for none\n"
    "  --classwise-intervals W    yes, no, or auto (default): up to 2000 classes\n"
    "  --seed S                   of the bootstrap (1)\n"
    "  --temperature-grid F:L:S   temperatures to choose from: first, last and step (0.1:10:0.1)\n"
    "  --temperatures F:L:S       ECE and NLL of both sets at each of these temperatures, in a table of "
    "their own\n"
    "  --inference                of a run of translation: calibration of the tokens of its own translations "
    "(beam 4),\n"
    "                             which are right where TER's alignment with the reference has them\n"
    "  --bleu                     of a run of translation, with --temperatures: BLEU of the split as plumb "
    "translate\n"
    "                             translates it at each of them; kept in the run's temperatures.json, of "
    "which plumb\n"
    "                             report draws BLEU and ECE against temperature\n"
    "  --json FILE                writes the result as JSON, in fractions; - for the standard output, and "
    "then the\n"
    "                             table goes to the standard error\n"
    "  --html FILE                writes a page with the table, reliability diagrams and, with "
    "--all-measures, the "
    "curve of\n"
    "                             SmoothECE\n"
    "\n"
    "The result is the same to the bit for any number of ranks: mpirun -n R plumb evaluate ...\n";

/* --ignore-label is not given. */
#define NO_LABEL INT64_MIN

typedef struct {
    const char *run, *split, *checkpoint;
    const char *logits, *labels, *validation_logits, *validation_labels, *ood_logits;
    const char *probabilities, *validation_probabilities, *ood_probabilities;
    const char *confidence, *correct, *class_names;
    const char *recalibrate, *save_calibrator, *calibrator_file;
    bool all_measures, bleu, inference;
    const char *smooth_ece, *kernel, *html;
    MoreOptions more;
    Calibrator calibrator;
    int64_t ignore_label;
    ClassNames class_name;
    const char *json, *classwise, *grid, *temperatures;
    RunUse use;
    const char *data;  /* of a run: where its data are now, */
    const char *cache; /* and what is made of them */
    OodChoices ood;
    EvaluateOptions evaluate;
} Arguments;

static int64_t ignored_label(const Arguments *arguments)
{
    return arguments->ignore_label != NO_LABEL ? arguments->ignore_label : -100;
}

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

/* laplacian[:WIDTH] or gaussian[:WIDTH] */
static Status read_kernel(const char *text, MoreOptions *more)
{
    for (int form = 0; form < KERNELS; ++form) {
        const size_t length = strlen(kernel_names[form]);
        if (strncmp(text, kernel_names[form], length) != 0) continue;
        char *end = NULL;
        more->kernel = (KernelForm)form;
        if (text[length] == '\0') return OK;
        more->kernel_width = text[length] == ':' ? strtod(text + length + 1, &end) : 0;
        if (end != NULL && *end == '\0' && more->kernel_width > 0 && more->kernel_width < 1e9) return OK;
    }
    return fail(STATUS_USAGE, "--kernel takes laplacian or gaussian, with a width as in gaussian:0.2, not %s",
                text);
}

static Status read_more(Arguments *arguments)
{
    const bool asked =
        arguments->smooth_ece != NULL || arguments->kernel != NULL || arguments->more.kernel_samples != 0;
    if (asked && !arguments->all_measures)
        return fail(
            STATUS_USAGE,
            "--smooth-ece, --kernel and --kernel-samples are about measures that --all-measures makes");
    if (arguments->more.kernel_samples == 0) arguments->more.kernel_samples = 1000;
    if (arguments->smooth_ece != NULL) {
        arguments->more.relplot = strcmp(arguments->smooth_ece, "relplot") == 0;
        if (!arguments->more.relplot && strcmp(arguments->smooth_ece, "continuous") != 0)
            return fail(STATUS_USAGE, "--smooth-ece takes continuous or relplot, not %s",
                        arguments->smooth_ece);
    }
    if (arguments->kernel != NULL) TRY(read_kernel(arguments->kernel, &arguments->more));
    return OK;
}

static bool is_same(const CalibratorSettings *a, const CalibratorSettings *b)
{
    return a->method == b->method && a->on_log_probabilities == b->on_log_probabilities &&
           a->lambda == b->lambda && a->mu == b->mu && a->bins == b->bins && a->equal_mass == b->equal_mass;
}

/* NAME[:KEY=VALUE...][,NAME...] */
static Status read_recalibrations(const char *text, EvaluateOptions *options)
{
    char *copy, *place;
    TRY(text_copy(text, &copy));
    Status status = OK;
    for (char *name = strtok_r(copy, ",", &place); name != NULL && status == OK;
         name = strtok_r(NULL, ",", &place)) {
        if (options->recalibrations == EVALUATE_MOST_RECALIBRATIONS)
            status =
                fail(STATUS_USAGE, "--recalibrate takes at most %d methods", EVALUATE_MOST_RECALIBRATIONS);
        else
            status = calibrator_settings_parse(name, &options->recalibrate[options->recalibrations++]);
        for (int i = 0; i < options->recalibrations - 1 && status == OK; ++i)
            if (is_same(&options->recalibrate[i], &options->recalibrate[options->recalibrations - 1]))
                status = fail(STATUS_USAGE, "--recalibrate names %s twice, with the same settings",
                              calibrator_name(options->recalibrate[i].method));
    }
    free(copy);
    if (status == OK && options->recalibrations == 0)
        status = fail(STATUS_USAGE, "--recalibrate names no method");
    return status;
}

static Status read_options(int argc, char **argv, const char *words[], OptionList *ood, Arguments *arguments)
{
    int64_t bins = arguments->evaluate.bins, seed = (int64_t)arguments->evaluate.seed;
    const Option options[] = {
        {"split", "a split", .text = &arguments->split},
        {"checkpoint", "a checkpoint", .text = &arguments->checkpoint},
        {"device", "auto, cpu or cuda", .text = &arguments->use.device},
        {"compute", "float32 or bfloat16", .text = &arguments->use.compute},
        {"ood", "a set", .list = ood},
        {"logits", "a file", .text = &arguments->logits},
        {"labels", "a file", .text = &arguments->labels},
        {"validation-logits", "a file", .text = &arguments->validation_logits},
        {"validation-labels", "a file", .text = &arguments->validation_labels},
        {"ood-logits", "a file", .text = &arguments->ood_logits},
        {"probabilities", "a file", .text = &arguments->probabilities},
        {"validation-probabilities", "a file", .text = &arguments->validation_probabilities},
        {"ood-probabilities", "a file", .text = &arguments->ood_probabilities},
        {"confidence", "a file", .text = &arguments->confidence},
        {"correct", "a file", .text = &arguments->correct},
        {"class-names", "a file", .text = &arguments->class_names},
        {"recalibrate", "names of methods", .text = &arguments->recalibrate},
        {"html", "a file", .text = &arguments->html},
        {"all-measures", .flag = &arguments->all_measures},
        {"bleu", .flag = &arguments->bleu},
        {"inference", .flag = &arguments->inference},
        {"smooth-ece", "continuous or relplot", .text = &arguments->smooth_ece},
        {"kernel", "a kernel", .text = &arguments->kernel},
        {"kernel-samples", .number = &arguments->more.kernel_samples, .low = 2, .high = 20000},
        {"save-calibrator", "a file", .text = &arguments->save_calibrator},
        {"calibrator", "a file", .text = &arguments->calibrator_file},
        {"ignore-label", .number = &arguments->ignore_label, .low = NO_LABEL + 1, .high = INT64_MAX},
        {"json", "a file", .text = &arguments->json},
        {"classwise-intervals", "yes, no or auto", .text = &arguments->classwise},
        {"temperature-grid", "temperatures", .text = &arguments->grid},
        {"temperatures", "temperatures", .text = &arguments->temperatures},
        {"bins", .number = &bins, .low = 1, .high = CALIBRATION_MAX_BINS},
        {"bootstrap", .number = &arguments->evaluate.replicates, .low = 0, .high = 100000000},
        {"seed", .number = &seed, .low = 0, .high = INT64_MAX},
    };
    int count;
    TRY(options_parse(options, sizeof options / sizeof *options, argc, argv, words, &count));
    TRY(run_use_check(&arguments->use));
    TRY(ood_choices_parse(ood->value, ood->count, &arguments->ood));
    arguments->evaluate.bins = (int)bins;
    arguments->evaluate.seed = (uint64_t)seed;
    if (arguments->grid != NULL) TRY(temperature_grid_parse(arguments->grid, &arguments->evaluate.grid));
    if (arguments->temperatures != NULL) {
        TRY(temperature_grid_parse(arguments->temperatures, &arguments->evaluate.curve));
        arguments->evaluate.wants_curve = true;
    }
    if (arguments->classwise != NULL) TRY(read_choice(arguments->classwise, &arguments->evaluate.classwise));
    TRY(read_more(arguments));
    if (arguments->recalibrate != NULL)
        TRY(read_recalibrations(arguments->recalibrate, &arguments->evaluate));
    static const char folder[] = "dataset.folder=", cache[] = "dataset.cache=";
    for (int i = 0; i < count; ++i) {
        if (strncmp(words[i], folder, sizeof folder - 1) == 0)
            arguments->data = words[i] + sizeof folder - 1;
        else if (strncmp(words[i], cache, sizeof cache - 1) == 0)
            arguments->cache = words[i] + sizeof cache - 1;
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
    *arguments = (Arguments){.ignore_label = NO_LABEL, .evaluate = evaluate_defaults()};
    TRY(memory_new(&words, 2 * (size_t)argc, sizeof *words, "arguments"));
    OptionList ood = {.value = words + argc};
    Status status = read_options(argc, argv, words, &ood, arguments);
    free(words);
    return status;
}

/* One set's options go together: its values, of either kind, and its labels. */
static Status check_set(const char *prefix, const char *logits, const char *probabilities, const char *labels)
{
    if (logits != NULL && probabilities != NULL)
        return fail(STATUS_USAGE, "--%slogits and --%sprobabilities exclude each other", prefix, prefix);
    if ((logits != NULL || probabilities != NULL) == (labels != NULL)) return OK;
    if (labels == NULL && *prefix == '\0')
        return fail(STATUS_USAGE, "--%s needs --labels", logits != NULL ? "logits" : "probabilities");
    return fail(STATUS_USAGE, "--%s%s and --%slabels go together", prefix,
                probabilities != NULL ? "probabilities" : "logits", prefix);
}

static Status check_confidence_arguments(const Arguments *arguments, bool others)
{
    if (arguments->confidence == NULL || arguments->correct == NULL)
        return fail(STATUS_USAGE, "--confidence and --correct go together");
    if (arguments->ignore_label != NO_LABEL)
        return fail(STATUS_USAGE,
                    "--ignore-label is about labels, and --confidence and --correct have none: leave those "
                    "samples out of the files");
    if (others || arguments->grid != NULL || arguments->temperatures != NULL ||
        arguments->class_names != NULL || arguments->recalibrate != NULL ||
        arguments->calibrator_file != NULL)
        return fail(STATUS_USAGE,
                    "--confidence and --correct stand alone: without logits or probabilities of all classes "
                    "there is nothing to scale, and there are no classes");
    return OK;
}

/* Files need a validation set; whether a run has one is seen when it is opened. */
static Status check_recalibrations(const Arguments *arguments)
{
    if (arguments->save_calibrator != NULL && arguments->evaluate.recalibrations != 1)
        return fail(STATUS_USAGE, "--save-calibrator needs --recalibrate with one method");
    if (arguments->recalibrate != NULL && arguments->run == NULL && arguments->validation_labels == NULL)
        return fail(STATUS_USAGE, "--recalibrate is fitted to a validation set: give --validation-logits (or "
                                  "--validation-probabilities) and --validation-labels");
    return OK;
}

static Status check_arguments(const Arguments *arguments)
{
    const char *const of_files[] = {arguments->logits,
                                    arguments->labels,
                                    arguments->probabilities,
                                    arguments->validation_logits,
                                    arguments->validation_probabilities,
                                    arguments->validation_labels,
                                    arguments->ood_logits,
                                    arguments->ood_probabilities};
    bool files = false;
    for (size_t i = 0; i < sizeof of_files / sizeof *of_files; ++i)
        files = files || of_files[i] != NULL;
    const bool confidences = arguments->confidence != NULL || arguments->correct != NULL;
    if (confidences && arguments->run == NULL) TRY(check_confidence_arguments(arguments, files));
    TRY(check_recalibrations(arguments));
    if ((arguments->bleu || arguments->inference) && arguments->run == NULL)
        return fail(STATUS_USAGE, "--%s is for a run of translation: files hold no translations",
                    arguments->bleu ? "bleu" : "inference");
    if (arguments->bleu && arguments->temperatures == NULL)
        return fail(STATUS_USAGE,
                    "--bleu is measured at the temperatures of --temperatures, such as 0.5:2:0.1");
    if (arguments->run != NULL) {
        if (arguments->ignore_label != NO_LABEL)
            return fail(STATUS_USAGE, "--ignore-label is for files: a run (%s) says itself what counts",
                        arguments->run);
        if (files || confidences)
            return fail(STATUS_USAGE, "evaluate takes a run (%s) or files of logits, not both",
                        arguments->run);
        if (arguments->class_names != NULL)
            return fail(STATUS_USAGE, "--class-names is for files, not for a run");
        return OK;
    }
    if (arguments->data != NULL) return fail(STATUS_USAGE, "dataset.folder= is for a run");
    if (arguments->cache != NULL) return fail(STATUS_USAGE, "dataset.cache= is for a run");
    if (arguments->ood.count > 0)
        return fail(STATUS_USAGE,
                    "--ood is for a run; of files of logits, --ood-logits or --ood-probabilities");
    if (arguments->split != NULL || arguments->checkpoint != NULL)
        return fail(STATUS_USAGE, "--split and --checkpoint are for a run, not for files of logits");
    if (arguments->use.device != NULL || arguments->use.compute != NULL)
        return fail(STATUS_USAGE, "--device and --compute are for a run: of files no network is computed");
    if (confidences) return OK;
    if (arguments->logits == NULL && arguments->probabilities == NULL)
        return fail(STATUS_USAGE,
                    "evaluate needs a run, --logits, --probabilities or --confidence; see plumb "
                    "evaluate --help");
    TRY(check_set("", arguments->logits, arguments->probabilities, arguments->labels));
    TRY(check_set("validation-", arguments->validation_logits, arguments->validation_probabilities,
                  arguments->validation_labels));
    if (arguments->ood_logits != NULL && arguments->ood_probabilities != NULL)
        return fail(STATUS_USAGE, "--ood-logits and --ood-probabilities exclude each other");
    if (arguments->logits != NULL
            ? arguments->validation_probabilities != NULL || arguments->ood_probabilities != NULL
            : arguments->validation_logits != NULL || arguments->ood_logits != NULL)
        return fail(STATUS_USAGE, "all sets are logits, or all are probabilities");
    return OK;
}

/* ---- files ---- */

static Status open_set(const World *world, const Arguments *arguments, const char *logits,
                       const char *probabilities, const char *labels, FileSet *set)
{
    const SetFiles files = {.values = logits != NULL ? logits : probabilities,
                            .labels = labels,
                            .probabilities = logits == NULL,
                            .ignore_label = ignored_label(arguments)};
    return files.values != NULL ? file_set_open(world, &files, set) : OK;
}

static Status open_sets(const World *world, const Arguments *arguments, FileSet sets[EVALUATE_SETS])
{
    TRY(open_set(world, arguments, arguments->logits, arguments->probabilities, arguments->labels,
                 &sets[EVALUATE_TEST]));
    TRY(open_set(world, arguments, arguments->validation_logits, arguments->validation_probabilities,
                 arguments->validation_labels, &sets[EVALUATE_VALIDATION]));
    return open_set(world, arguments, arguments->ood_logits, arguments->ood_probabilities, NULL,
                    &sets[EVALUATE_OOD]);
}

static Status check_class_names(const Arguments *arguments, const FileSet *test)
{
    const ClassNames *names = &arguments->class_name;
    if (arguments->class_names != NULL && names->count != test->set.classes)
        return fail(STATUS_INPUT, "%s has %lld names, but %s has %lld classes", arguments->class_names,
                    (long long)names->count, test->set.name, (long long)test->set.classes);
    return OK;
}

static Status evaluate_files(World *world, const Arguments *arguments, EvaluationResult *result)
{
    FileSet sets[EVALUATE_SETS] = {{.ignored = 0}};
    Collective *collective = NULL;
    Status status = open_sets(world, arguments, sets);
    if (status == OK) status = check_class_names(arguments, &sets[EVALUATE_TEST]);
    if (status == OK && arguments->calibrator_file != NULL)
        status = calibrator_check_classes(&arguments->calibrator, arguments->calibrator_file,
                                          sets[EVALUATE_TEST].set.classes, sets[EVALUATE_TEST].set.name);
    TRY_ELSE(done, comm_agree(world, status));
    TRY_ELSE(done, comm_collective(world, 600, &collective));
    const Logits *of[EVALUATE_SETS];
    for (int i = 0; i < EVALUATE_SETS; ++i)
        of[i] = sets[i].set.name != NULL ? &sets[i].set : NULL;
    TRY_ELSE(done, evaluate_logits(world, collective, &arguments->evaluate, of[EVALUATE_TEST],
                                   of[EVALUATE_VALIDATION], of[EVALUATE_OOD], result));
    result->class_name = arguments->class_name.name;
    result->ignore_label = ignored_label(arguments);
    for (int i = 0; i < EVALUATE_SETS; ++i)
        result->ignored[i] = sets[i].ignored;
done:
    collective_free(collective);
    for (int i = 0; i < EVALUATE_SETS; ++i)
        file_set_close(&sets[i]);
    return status;
}

static Status evaluate_confidence_files(World *world, const Arguments *arguments, EvaluationResult *result)
{
    ConfidenceFiles files = {.total = 0};
    Collective *collective = NULL;
    Status status = confidence_files_open(world, arguments->confidence, arguments->correct, &files);
    TRY_ELSE(done, comm_agree(world, status));
    TRY_ELSE(done, comm_collective(world, 600, &collective));
    TRY_ELSE(done,
             evaluate_confidences(world, collective, &arguments->evaluate, &files.set, files.total, result));
done:
    collective_free(collective);
    confidence_files_close(&files);
    return status;
}

/* ---- the command ---- */

static bool to_output(const Arguments *arguments)
{
    return arguments->json != NULL && strcmp(arguments->json, "-") == 0;
}

/* Can the results be written? Better known before the work. What is there stays. */
static Status check_output(const Arguments *arguments)
{
    if (arguments->save_calibrator != NULL) TRY(file_check_writable(arguments->save_calibrator));
    if (arguments->html != NULL) TRY(file_check_writable(arguments->html));
    if (arguments->json == NULL || to_output(arguments)) return OK;
    return file_check_writable(arguments->json);
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

static const char *title_of(const Arguments *arguments)
{
    const char *const names[] = {arguments->run, arguments->logits, arguments->probabilities,
                                 arguments->confidence};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        if (names[i] != NULL) return names[i];
    return "an evaluation";
}

/* The table is printed whatever becomes of the files. */
static Status write_result(const Arguments *arguments, const EvaluationResult *result, const char *calibrator)
{
    Status status = OK;
    if (calibrator != NULL) status = file_write(arguments->save_calibrator, calibrator, strlen(calibrator));
    if (status == OK && arguments->json != NULL) status = write_json(arguments, result);
    if (status == OK && arguments->html != NULL)
        status = evaluation_page_write(arguments->html, title_of(arguments), result);
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

static Status evaluate_either(World *world, Arguments *arguments, OodResult *ood, EvaluationResult *result)
{
    arguments->evaluate.threads = comm_threads(world);
    arguments->evaluate.progress = true;
    if (arguments->all_measures) arguments->evaluate.more = &arguments->more;
    TRY(comm_agree(world, world->rank == 0 ? check_output(arguments) : OK));
    if (arguments->calibrator_file != NULL) {
        TRY(comm_agree(world, calibrator_read(arguments->calibrator_file, &arguments->calibrator)));
        arguments->evaluate.calibrator = &arguments->calibrator;
        arguments->evaluate.calibrator_file = arguments->calibrator_file;
    }
    if (arguments->confidence != NULL) return evaluate_confidence_files(world, arguments, result);
    if (arguments->class_names != NULL)
        TRY(comm_agree(world, class_names_read(arguments->class_names, &arguments->class_name)));
    if (arguments->run == NULL) return evaluate_files(world, arguments, result);
    EvaluateRunOptions options = {.run = arguments->run,
                                  .split = SPLIT_TEST,
                                  .checkpoint =
                                      arguments->checkpoint != NULL ? arguments->checkpoint : "last",
                                  .use = arguments->use,
                                  .data = arguments->data,
                                  .cache = arguments->cache,
                                  .options = arguments->evaluate,
                                  .ood = arguments->ood,
                                  .inference = arguments->inference,
                                  .bleu = arguments->bleu};
    if (arguments->split != NULL) {
        if (strcmp(arguments->split, "validation") == 0)
            options.split = SPLIT_VALIDATION;
        else if (strcmp(arguments->split, "test") != 0)
            return fail(STATUS_USAGE, "--split is test or validation, not %s", arguments->split);
    }
    TRY(comm_agree(world, check_run(arguments->run)));
    return evaluate_run(world, &options, ood, result);
}

static Status evaluate_and_tell(World *world, Arguments *arguments)
{
    EvaluationResult *result;
    OodResult ood = {.count = 0};
    char *calibrator = NULL; /* that was fitted, as a file's text */
    if (arguments->save_calibrator != NULL) arguments->evaluate.save = &calibrator;
    Status status = comm_agree(world, memory_new(&result, 1, sizeof *result, "evaluation"));
    if (status == OK) status = evaluate_either(world, arguments, &ood, result);
    if (status == OK)
        status = comm_agree(world, world->rank == 0 ? write_result(arguments, result, calibrator) : OK);
    free(calibrator);
    ood_result_free(&ood);
    evaluation_free(result);
    return status;
}

Status command_evaluate(World *world, int argc, char **argv)
{
    Arguments arguments;
    Status status = parse(argc, argv, &arguments);
    if (status == OK) status = check_arguments(&arguments);
    if (status == OK) status = evaluate_and_tell(world, &arguments);
    calibrator_free(&arguments.calibrator);
    class_names_free(&arguments.class_name);
    ood_choices_free(&arguments.ood);
    return status;
}
