/* The ROC curves behind Table 3. */
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "launch/report/paper_figures.h"
#include "launch/runs/json_file.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const cJSON *item_of(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool has_sets(const RunSummary *run)
{
    char path[PATH_MAX];
    Status status = file_join(path, run->path, "ood.json");
    const bool found = status == OK && file_exists(path);
    status_free(status);
    return found;
}

static const cJSON *find_set(const cJSON *root, const char *name)
{
    const cJSON *set;
    cJSON_ArrayForEach(set, item_of(root, "sets"))
    {
        const char *text = cJSON_GetStringValue(item_of(set, "name"));
        if (text != NULL && strcmp(text, name) == 0) return set;
    }
    return NULL;
}

static Status add_curve(ChartSeries *series, const cJSON *stage)
{
    const cJSON *curve = item_of(item_of(stage, "roc"), "entropy"),
                *right = item_of(curve, "false_positive_rate"), *up = item_of(curve, "true_positive_rate");
    const cJSON *x = right != NULL ? right->child : NULL, *y = up != NULL ? up->child : NULL;
    for (; x != NULL && y != NULL; x = x->next, y = y->next)
        TRY(chart_point(series, (ChartPoint){x->valuedouble, y->valuedouble, NAN, NAN}));
    return OK;
}

/* Of the first seed that was measured. */
static Status add_loss(const Paper *paper, PaperPart *part, int subject, int loss, const char *const names[],
                       Chart *chart)
{
    const RunSummary *run;
    char path[PATH_MAX], after[64];
    cJSON *root;
    if (paper_seeds(paper->runs, subject, loss, has_sets, &run, 1) == 0) {
        if (paper->runs->group[subject][loss].complete == 0)
            part->missing_run[subject][loss] = true;
        else
            ++part->lacking;
        return OK;
    }
    TRY(file_join(path, run->path, "ood.json"));
    Status status = json_file_read(path, &root);
    if (status != OK) {
        log_warning("%s", status_message(status));
        status_free(status);
        return OK;
    }
    const cJSON *set = NULL;
    for (int i = 0; names[i] != NULL && set == NULL; ++i)
        set = find_set(root, names[i]);
    const PaperLoss *of = &paper_loss[loss];
    (void)snprintf(after, sizeof after, "%s after T", of->title);
    status = add_curve(chart_series(chart, of->title, of->colour, false), item_of(set, "before"));
    if (status == OK)
        status = add_curve(chart_series(chart, after, of->colour, true), item_of(set, "after_ece"));
    cJSON_Delete(root);
    return status;
}

Status paper_roc(Paper *paper, PaperPart *part)
{
    static const int subjects[] = {PAPER_CIFAR10_RESNET110, PAPER_CIFAR10_WIDE_RESNET};
    static const char *const sets[2][3] = {{"svhn", NULL}, {"cifar10_c", "gaussian_noise", NULL}};
    static const char *const titles[2] = {"SVHN", "Gaussian noise"};
    Chart chart[4];
    char title[4][64];
    for (int c = 0; c < 4; ++c) {
        (void)snprintf(title[c], sizeof title[c], "%s: %s", paper_subject[subjects[c / 2]].model_title,
                       titles[c % 2]);
        chart[c] = (Chart){.title = title[c],
                           .note = "by entropy; dashed: after T",
                           .across = "test samples taken for foreign",
                           .up = "foreign samples found",
                           .is_diagram = true,
                           .short_legend = true};
        for (int l = 0; l < PAPER_MAIN_LOSSES; ++l)
            TRY(add_loss(paper, part, subjects[c / 2], paper_main_loss[l], sets[c % 2], &chart[c]));
    }
    return paper_charts(chart, 4, part);
}
