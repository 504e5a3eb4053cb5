#include "launch/predict_command.h"

#include "engine/base/memory.h"
#include "launch/options.h"
#include "launch/predict/predict.h"

#include <stdlib.h>
#include <unistd.h>

const char predict_help[] =
    "usage: [mpirun -n RANKS] plumb predict RUN [INPUT ...] [OPTIONS] > OUTPUT\n"
    "\n"
    "The label and the confidence that a run gives to each input, a line each, in order, as they are made. "
    "RUN is a folder that "
    "plumb\n"
    "train made; its data set is not needed. An INPUT is a file, a folder (the files in it and in its "
    "folders, by name) or -, the\n"
    "standard input, which is also read where there is no INPUT:\n"
    "\n"
    "  images       JPEG and PNG files; a line of the standard input is the path of one\n"
    "  documents    files: of one that begins with a header as messages do, what is behind it, as in "
    "training; a line of the\n"
    "               standard input is a document\n"
    "  trees        a tree a line, in brackets: (X (X It) (X works)); labels may be any. A plain sentence is "
    "refused, as the\n"
    "               network composes words along a tree\n"
    "\n"
    "A line is INPUT, LABEL and CONFIDENCE, parted by TABs; the input of a line is named FILE:LINE.\n"
    "\n"
    "  --calibrated         also the confidence after the temperature that the run's evaluation chose\n"
    "  --calibrator FILE    also the confidence after a calibrator of plumb evaluate --save-calibrator; some "
    "change the label, and\n"
    "                       the first confidence is then that of the new one\n"
    "  --top N              the N most probable classes, each with its confidences\n"
    "  --json               an object a line: input, class (its number), label, confidence, calibrated, top; "
    "or input and error\n"
    "  --logits             in JSON, the network's outputs: those that plumb evaluate measures\n"
    "  --lines              each line of a file is an input (of images: a path)\n"
    "  --resize             scales images of another size to the one that the network takes, whatever their "
    "proportions\n"
    "  --checkpoint C       last (default), best, average, an epoch's number, step:NUMBER, or a "
    "file.safetensors\n"
    "  --device D           auto, cpu or cuda (as in training)\n"
    "  --compute TYPE       float32 or bfloat16 (as in training)\n"
    "  --batch N            inputs at a time on each rank (128)\n"
    "  --deterministic      the same bits whatever is predicted together, and on whichever rank\n"
    "\n"
    "An input that cannot be predicted, such as a damaged image, one of another size, or a document without "
    "a known word, is "
    "reported\n"
    "by its name, its line has no label, and the others go on; the exit code is then 3. Several ranks share "
    "the inputs.\n";

enum { MOST_TOP = 1 << 20, MOST_BATCH = 1 << 16, USUAL_BATCH = 128 };

static Status parse(int argc, char **argv, const char *words[], PredictOptions *options)
{
    PredictorOptions *predictor = &options->predictor;
    const Option table[] = {
        {"checkpoint", "a checkpoint", .text = &predictor->checkpoint},
        {"device", "auto, cpu or cuda", .text = &predictor->use.device},
        {"compute", "float32 or bfloat16", .text = &predictor->use.compute},
        {"calibrator", "a file", .text = &predictor->calibrator},
        {"calibrated", .flag = &predictor->calibrated},
        {"json", .flag = &options->form.json},
        {"logits", .flag = &options->form.logits},
        {"lines", .flag = &options->lines},
        {"resize", .flag = &predictor->inputs.resize},
        {"deterministic", .flag = &predictor->inputs.deterministic},
        {"top", .number = &options->form.top, .low = 1, .high = MOST_TOP},
        {"batch", .number = &predictor->inputs.rows, .low = 1, .high = MOST_BATCH},
    };
    int count;
    TRY(options_parse(table, sizeof table / sizeof *table, argc, argv, words, &count));
    TRY(run_use_check(&predictor->use));
    if (count == 0) return fail(STATUS_USAGE, "plumb predict needs a run; see plumb predict --help");
    if (predictor->calibrated && predictor->calibrator != NULL)
        return fail(STATUS_USAGE,
                    "--calibrated and --calibrator are two ways to calibrate: give one of them");
    if (options->form.logits && !options->form.json) return fail(STATUS_USAGE, "--logits is for --json");
    predictor->run = words[0];
    options->word = words + 1;
    options->words = count - 1;
    return OK;
}

Status command_predict(World *world, int argc, char **argv)
{
    PredictOptions options = {.predictor = {.checkpoint = "last", .inputs = {.rows = USUAL_BATCH}},
                              .input = STDIN_FILENO,
                              .output = STDOUT_FILENO};
    const char **words;
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "arguments"));
    Status status = parse(argc, argv, words, &options);
    if (status == OK) status = predict(world, &options);
    free(words);
    return status;
}
