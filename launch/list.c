#include "launch/list.h"

#include "launch/settings.h"
#include "launch/tasks/task.h"
#include "losses/loss.h"
#include "models/model.h"

#include <stdio.h>
#include <string.h>

const char list_help[] = "usage: plumb list models|losses|datasets|settings\n"
                         "\n"
                         "Prints what there is, with one line of help each.\n";

static void list_models(void)
{
    int count;
    const Model *model = models_table(&count);
    for (int i = 0; i < count; ++i)
        (void)printf("%-24s %s\n", model[i].name, model[i].help);
}

static void list_losses(void)
{
    int count;
    const Loss *loss = losses_table(&count);
    for (int i = 0; i < count; ++i)
        (void)printf("%-24s %s\n", loss[i].name, loss[i].help);
}

static void list_datasets(void)
{
    int count;
    const Task *const *tasks = tasks_table(&count);
    for (int t = 0; t < count; ++t) {
        TaskDataset dataset;
        for (int i = 0; tasks[t]->dataset(i, &dataset); ++i)
            (void)printf("%-24s %s\n", dataset.name, dataset.help);
    }
}

static void list_settings(void)
{
    static const char *const types[] = {
        [SETTING_FLAG] = "true|false", [SETTING_INTEGER] = "integer",   [SETTING_REAL] = "real",
        [SETTING_TEXT] = "text",       [SETTING_INTEGERS] = "integers", [SETTING_REALS] = "reals",
        [SETTING_TEXTS] = "texts",     [SETTING_ROWS] = "list of maps"};
    int count;
    const Setting *setting = settings_table(&count);
    for (int i = 0; i < count; ++i) {
        const Setting *s = &setting[i];
        const char *value = s->default_value == NULL      ? "(must be set)"
                            : s->default_value[0] == '\0' ? "\"\""
                                                          : s->default_value;
        (void)printf("%-39s %-14s %s", s->name, value, s->help);
        /* The choices of a text say more than its type. */
        if (s->check != NULL && (s->type == SETTING_TEXT || s->type == SETTING_TEXTS))
            (void)printf(" [%s]\n", s->check);
        else if (s->check != NULL)
            (void)printf(" [%s %s]\n", types[s->type], s->check);
        else
            (void)printf(" [%s]\n", types[s->type]);
    }
}

typedef struct {
    const char *name;
    void (*print)(void);
} Listing;

static const Listing listings[] = {{"models", list_models},
                                   {"losses", list_losses},
                                   {"datasets", list_datasets},
                                   {"settings", list_settings}};

Status command_list(World *world, int argc, char **argv)
{
    for (size_t i = 0; i < sizeof listings / sizeof listings[0]; ++i) {
        if (argc != 2 || strcmp(argv[1], listings[i].name) != 0) continue;
        if (world->rank == 0) listings[i].print();
        return OK;
    }
    return fail(STATUS_USAGE, "plumb list takes one of models, losses, datasets and settings");
}
