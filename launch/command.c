#include "launch/command.h"

#include "engine/base/log.h"
#include "launch/average_command.h"
#include "launch/bleu/bleu_command.h"
#include "launch/data_command.h"
#include "launch/doctor.h"
#include "launch/evaluate/evaluate.h"
#include "launch/list.h"
#include "launch/predict_command.h"
#include "launch/report/report.h"
#include "launch/report/theory.h"
#include "launch/sweep/sweep.h"
#include "launch/train/train_command.h"
#include "launch/translate_command.h"

#include <stdio.h>
#include <string.h>

static const Command commands[] = {
    {"train", "train a network, or go on with a run", train_help, command_train},
    {"evaluate", "measure calibration, of a run or of any logits", evaluate_help, command_evaluate},
    {"predict", "labels and confidences of images, documents and trees", predict_help, command_predict},
    {"average", "the mean of the last models that a run has kept", average_help, command_average},
    {"data", "make ready what a training reads, and say what is in it", data_help, command_data},
    {"translate", "translate lines by a run", translate_help, command_translate},
    {"score", "how probable a run finds given translations", score_help, command_score},
    {"sweep", "train every run of a sweep file", sweep_help, command_sweep},
    {"report", "one HTML page of runs side by side", report_help, command_report},
    {"bleu", "BLEU, chrF and TER of translations, as sacreBLEU has them", bleu_help, command_bleu},
    {"theory", "the paper's propositions as numbers and figures", theory_help, command_theory},
    {"doctor", "what the ranks run on, how fast it is, what is wrong with it", doctor_help, command_doctor},
    {"list", "models, losses, data sets and settings", list_help, command_list},
};

const Command *command_table(int *count)
{
    *count = (int)(sizeof commands / sizeof commands[0]);
    return commands;
}

static void print_help(void)
{
    (void)printf("plumb %s: distributed training of networks whose confidence can be trusted\n\n"
                 "usage: [mpirun -n RANKS] plumb COMMAND ...\n\n",
                 PLUMB_VERSION);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; ++i)
        (void)printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    (void)printf("\nplumb COMMAND --help tells more; plumb --version prints the version.\n"
                 "An option's value is the next word or, as in --run=DIR, behind an equals sign.\n");
}

Status command_run(World *world, int argc, char **argv)
{
    const bool speaks = world->rank == 0;
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        if (speaks) print_help();
        return argc > 1 ? OK : fail(STATUS_USAGE, "plumb needs a command");
    }
    if (strcmp(name, "--version") == 0) {
        if (speaks) (void)printf("plumb %s\n", PLUMB_VERSION);
        return OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; ++i) {
        if (strcmp(name, commands[i].name) != 0) continue;
        for (int k = 2; k < argc; ++k) {
            if (strcmp(argv[k], "--help") != 0 && strcmp(argv[k], "-h") != 0) continue;
            if (speaks) (void)fputs(commands[i].help, stdout);
            return OK;
        }
        return commands[i].run(world, argc - 1, argv + 1);
    }
    return fail(STATUS_USAGE, "there is no command \"%s\" (see plumb --help)", name);
}
