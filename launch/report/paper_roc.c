/* The ROC curves behind Table 3. */
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/report/paper_figures.h"
#include "launch/runs/json_file.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ---- the curves of one run ---- */

enum { STAGES = 2 };
static const char *const stage_key[STAGES] = {"before", "after_ece"};

static const cJSON *read_list(const cJSON *stage, const char *key)
{
    return item_of(item_of(item_of(stage, "roc"), "entropy"), key);
}

/* No points where the file has none. Released with free(curve->x). */
static Status read_curve(const cJSON *stage, SeedCurve *curve)
{
    const cJSON *right = read_list(stage, "false_positive_rate"),
                *up = read_list(stage, "true_positive_rate");
    const int most = cJSON_GetArraySize(right);
    TRY(memory_new(&curve->x, 2 * (size_t)most + 1, sizeof *curve->x, "a figure"));
    curve->y = curve->x + most;
    const cJSON *x = right != NULL ? right->child : NULL, *y = up != NULL ? up->child : NULL;
    for (; x != NULL && y != NULL; x = x->next, y = y->next) {
        curve->x[curve->count] = x->valuedouble;
        curve->y[curve->count++] = y->valuedouble;
    }
    return OK;
}

/* What the run has of the first of the sets that it was measured on. A damaged file is no error of the page. */
static Status read_run(const RunSummary *run, const char *const names[], SeedCurve curve[STAGES])
{
    char path[PATH_MAX];
    cJSON *root;
    const cJSON *set = NULL;
    TRY(file_join(path, run->path, "ood.json"));
    Status status = json_file_read(path, &root);
    if (status != OK) {
        log_warning("%s", status_message(status));
        status_free(status);
        return OK;
    }
    for (int i = 0; names[i] != NULL && set == NULL; ++i)
        set = find_set(root, names[i]);
    for (int stage = 0; stage < STAGES && status == OK; ++stage)
        status = read_curve(item_of(set, stage_key[stage]), &curve[stage]);
    cJSON_Delete(root);
    return status;
}

/* ---- several runs ---- */

/* How high the curve is at x; where it rises straight up, its upper end. */
static double height_at(const SeedCurve *curve, double x)
{
    int i = curve->count - 1;
    while (i > 0 && curve->x[i] > x)
        --i;
    if (i + 1 >= curve->count) return curve->y[i];
    const double share = (x - curve->x[i]) / (curve->x[i + 1] - curve->x[i]);
    return curve->y[i] + share * (curve->y[i + 1] - curve->y[i]);
}

/* The curve at 0, 0.01, ... 1, instead of its own points: those of several runs have a mean there. */
static Status resample(SeedCurve *curve)
{
    enum { PARTS = 100 };
    SeedCurve even = {.count = PARTS + 1};
    TRY(memory_new(&even.x, 2 * (size_t)even.count, sizeof *even.x, "a figure"));
    even.y = even.x + even.count;
    for (int i = 0; i <= PARTS; ++i) {
        even.x[i] = (double)i / PARTS;
        even.y[i] = height_at(curve, even.x[i]);
    }
    free(curve->x);
    *curve = even;
    return OK;
}

/* The runs' curves of one stage, of those that have one. */
static Status add_stage(ChartSeries *series, SeedCurve curve[][STAGES], int runs, int stage)
{
    SeedCurve of[PAPER_MOST_SEEDS];
    int count = 0;
    for (int r = 0; r < runs; ++r)
        count += curve[r][stage].count > 0;
    const bool several = count > 1;
    count = 0;
    for (int r = 0; r < runs; ++r) {
        if (curve[r][stage].count == 0) continue;
        if (several) TRY(resample(&curve[r][stage]));
        of[count++] = curve[r][stage];
    }
    if (several) return chart_mean(series, of, count);
    for (int i = 0; count == 1 && i < of[0].count; ++i) /* all points of steep parts */
        TRY(chart_point(series, chart_at(of[0].x[i], of[0].y[i], 1)));
    return OK;
}

static Status add_loss(const Paper *paper, PaperPart *part, int subject, int loss, const char *const names[],
                       Chart *chart)
{
    const RunSummary *run[PAPER_MOST_SEEDS];
    SeedCurve curve[PAPER_MOST_SEEDS][STAGES] = {{{.count = 0}}};
    const PaperLoss *of = &paper_loss[loss];
    char after[64];
    Status status = OK;
    const int runs = paper_seeds(paper->runs, subject, loss, has_sets, run, PAPER_MOST_SEEDS);
    if (runs == 0 && paper->runs->group[subject][loss].complete == 0)
        part->missing_run[subject][loss] = true;
    else if (runs == 0)
        ++part->lacking;
    for (int r = 0; r < runs && status == OK; ++r)
        status = read_run(run[r], names, curve[r]);
    (void)snprintf(after, sizeof after, "%s after T", of->title);
    if (status == OK && runs > 0)
        status = add_stage(chart_series(chart, of->title, of->colour, false), curve, runs, 0);
    if (status == OK && runs > 0)
        status = add_stage(chart_series(chart, after, of->colour, true), curve, runs, 1);
    for (int r = 0; r < runs; ++r)
        for (int stage = 0; stage < STAGES; ++stage)
            free(curve[r][stage].x);
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
