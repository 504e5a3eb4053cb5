#include "launch/average_command.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/plan/checkpoint_average.h"
#include "launch/options.h"
#include "launch/runs/kept_models.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char average_help[] =
    "usage: plumb average RUN [--last N] [--output FILE]\n"
    "\n"
    "Writes the mean of the last N models that a run has kept (checkpoint.keep_steps or checkpoint.keep), as "
    "a model file\n"
    "like theirs, for plumb evaluate and plumb translate (--checkpoint average) and for init: FILE.\n"
    "\n"
    "  --last N       how many (5); of models of steps, if the run has kept any, else of models of epochs\n"
    "  --output FILE  default: average.model.safetensors in the run's checkpoints\n"
    "\n"
    "Parameters are averaged, and so are the statistics of batch norm, which are then only about those of "
    "the averaged\n"
    "network; counters are those of the newest model.\n";

typedef struct {
    const char *run, *output;
    int64_t last;
} Arguments;

static bool is_model_name(const char *name)
{
    static const char ending[] = ".safetensors";
    const size_t length = strlen(name), tail = sizeof ending - 1;
    return length > tail && strcmp(name + length - tail, ending) == 0;
}

static Status parse(int argc, char **argv, Arguments *arguments)
{
    *arguments = (Arguments){.last = 5};
    const Option options[] = {
        {"output", "a file", .text = &arguments->output},
        {"last", .number = &arguments->last, .low = 1, .high = 100000},
    };
    const char **words;
    int count;
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "arguments"));
    Status status = options_parse(options, sizeof options / sizeof *options, argc, argv, words, &count);
    if (status == OK && count != 1)
        status = fail(STATUS_USAGE, "plumb average takes one run; see plumb average --help");
    if (status == OK) arguments->run = words[0];
    if (status == OK && arguments->output != NULL && !is_model_name(arguments->output))
        status = fail(STATUS_USAGE, "--output %s: the name of a model file ends in .safetensors",
                      arguments->output);
    free(words);
    return status;
}

/* The paths of the last models; release each, and the array, with free(). */
static Status find_paths(const RunFolder *run, int64_t last, char **paths[])
{
    KeptKind kind = KEPT_STEP;
    int64_t *numbers;
    int count;
    TRY(kept_models_list(run, kind, &numbers, &count));
    if (count == 0) {
        free(numbers);
        kind = KEPT_EPOCH;
        TRY(kept_models_list(run, kind, &numbers, &count));
    }
    Status status = OK;
    if (count == 0)
        status = fail(
            STATUS_INPUT,
            "%s has kept no models: checkpoint.keep_steps or checkpoint.keep must be set before training",
            run->path);
    else if (count < last)
        status = fail(STATUS_INPUT, "%s has kept %d model%s, not %" PRId64 ": --last %d takes %s", run->path,
                      count, count == 1 ? "" : "s", last, count, count == 1 ? "it" : "them all");
    if (status == OK) status = memory_new(paths, (size_t)last, sizeof **paths, "paths");
    for (int64_t i = 0; i < last && status == OK; ++i) {
        char stem[64];
        kept_model_stem(kind, numbers[count - last + i], stem);
        status = text_format(&(*paths)[i], "%s/%s.model.safetensors", run->checkpoints, stem);
    }
    free(numbers);
    return status;
}

static Status average(const Arguments *arguments)
{
    RunFolder run;
    char config[PATH_MAX], output[PATH_MAX];
    char **paths = NULL;
    TRY(run_folder_attach(arguments->run, &run));
    TRY(file_join(config, run.path, "config.yaml"));
    if (!file_exists(config))
        return fail(STATUS_INPUT, "%s is no run: a run is a folder that plumb train made, with a config.yaml",
                    run.path);
    TRY(file_join(output, run.checkpoints, "average.model.safetensors"));
    const char *to = arguments->output != NULL ? arguments->output : output;
    Status status = find_paths(&run, arguments->last, &paths);
    if (status == OK) status = checkpoint_average((const char *const *)paths, (int)arguments->last, to);
    if (status == OK) log_info("the mean of %" PRId64 " models is %s", arguments->last, to);
    for (int64_t i = 0; i < arguments->last && paths != NULL; ++i)
        free(paths[i]);
    free(paths);
    return status;
}

/* Rank 0 does it; the others hear how it went. */
Status command_average(World *world, int argc, char **argv)
{
    Arguments arguments;
    TRY(parse(argc, argv, &arguments));
    return comm_agree(world, world->rank == 0 ? average(&arguments) : OK);
}
