#include "launch/report/paper_runs.h"

#include "engine/base/memory.h"
#include "launch/settings.h"
#include "losses/calibration/intervals.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CIFAR "configs/paper_cifar.yaml"

const PaperSubject paper_subject[PAPER_SUBJECTS] = {
    [PAPER_CIFAR100_RESNET50] = {"cifar100", "CIFAR-100", "resnet50", "ResNet-50", CIFAR},
    [PAPER_CIFAR100_RESNET110] = {"cifar100", "CIFAR-100", "resnet110", "ResNet-110", CIFAR},
    [PAPER_CIFAR100_WIDE_RESNET] = {"cifar100", "CIFAR-100", "wide_resnet", "Wide-ResNet-26-10", CIFAR},
    [PAPER_CIFAR100_DENSENET] = {"cifar100", "CIFAR-100", "densenet121", "DenseNet-121", CIFAR},
    [PAPER_CIFAR10_RESNET50] = {"cifar10", "CIFAR-10", "resnet50", "ResNet-50", CIFAR},
    [PAPER_CIFAR10_RESNET110] = {"cifar10", "CIFAR-10", "resnet110", "ResNet-110", CIFAR},
    [PAPER_CIFAR10_WIDE_RESNET] = {"cifar10", "CIFAR-10", "wide_resnet", "Wide-ResNet-26-10", CIFAR},
    [PAPER_CIFAR10_DENSENET] = {"cifar10", "CIFAR-10", "densenet121", "DenseNet-121", CIFAR},
    [PAPER_TINY_IMAGENET] = {"tiny_imagenet", "Tiny-ImageNet", "tiny_imagenet_resnet50", "ResNet-50",
                             "configs/paper_tiny_imagenet.yaml"},
    [PAPER_NEWSGROUPS] = {"newsgroups", "20 Newsgroups", "global_pooling_cnn", "Global-Pooling CNN",
                          "configs/paper_newsgroups.yaml"},
    [PAPER_SST] = {"sst", "SST Binary", "tree_lstm", "Tree-LSTM", "configs/paper_sst.yaml"},
    [PAPER_WMT14] = {"wmt14_en_de", "WMT14 en-de", "transformer_base", "Transformer",
                     "configs/paper_wmt14.yaml"},
};

/* ---- losses ---- */

const PaperLoss paper_loss[PAPER_LOSSES] = {
    [PAPER_CROSS_ENTROPY] = {"cross_entropy", "Cross-Entropy", 0, false},
    [PAPER_BRIER] = {"brier", "Brier Loss", 1, false},
    [PAPER_MMCE] = {"mmce", "MMCE", 2, false},
    [PAPER_LABEL_SMOOTHING] = {"label_smoothing_0.05", "LS-0.05", 3, false},
    [PAPER_FOCAL_1] = {"focal_1", "FL-1", 5, true},
    [PAPER_FOCAL_2] = {"focal_2", "FL-2", 6, true},
    [PAPER_FOCAL_3] = {"focal_3", "FL-3", 4, false},
    [PAPER_FLSC_531] = {"flsc_531", "FLSc-531", 5, false},
    [PAPER_FLSC_532] = {"flsc_532", "FLSc-532", 6, true},
    [PAPER_FLSD_52] = {"flsd_52", "FLSD-52", 3, true},
    [PAPER_FLSD_53] = {"flsd_53", "FLSD-53", 7, false},
    [PAPER_LABEL_SMOOTHING_10] = {"label_smoothing_0.1", "LS-0.1", 3, false},
};

const int paper_main_loss[PAPER_MAIN_LOSSES] = {PAPER_CROSS_ENTROPY,   PAPER_BRIER,   PAPER_MMCE,
                                                PAPER_LABEL_SMOOTHING, PAPER_FOCAL_3, PAPER_FLSD_53};

typedef struct {
    const char *setting, *value;
} Pair;

enum { LOSS_PAIRS = 4 };

/* What makes a run's loss one of the paper's. When a scheduled gamma changes depends on the length of training, and so on the data set. */
static const Pair loss_pair[PAPER_LOSSES][LOSS_PAIRS] = {
    [PAPER_CROSS_ENTROPY] = {{"loss.name", "cross_entropy"}},
    [PAPER_BRIER] = {{"loss.name", "brier"}},
    [PAPER_MMCE] = {{"loss.name", "mmce_weighted"}, {"loss.lambda", "2"}},
    [PAPER_LABEL_SMOOTHING] = {{"loss.name", "label_smoothing"}, {"loss.alpha", "0.05"}},
    [PAPER_FOCAL_1] = {{"loss.name", "focal"}, {"loss.policy", "fixed"}, {"loss.gamma", "1"}},
    [PAPER_FOCAL_2] = {{"loss.name", "focal"}, {"loss.policy", "fixed"}, {"loss.gamma", "2"}},
    [PAPER_FOCAL_3] = {{"loss.name", "focal"}, {"loss.policy", "fixed"}, {"loss.gamma", "3"}},
    [PAPER_FLSC_531] = {{"loss.name", "focal"}, {"loss.policy", "schedule"}, {"loss.gammas", "[5, 3, 1]"}},
    [PAPER_FLSC_532] = {{"loss.name", "focal"}, {"loss.policy", "schedule"}, {"loss.gammas", "[5, 3, 2]"}},
    [PAPER_FLSD_52] = {{"loss.name", "focal"},
                       {"loss.policy", "sample"},
                       {"loss.gammas", "[5, 2]"},
                       {"loss.thresholds", "[0.2]"}},
    [PAPER_FLSD_53] = {{"loss.name", "focal"},
                       {"loss.policy", "sample"},
                       {"loss.gammas", "[5, 3]"},
                       {"loss.thresholds", "[0.2]"}},
    [PAPER_LABEL_SMOOTHING_10] = {{"loss.name", "label_smoothing"}, {"loss.alpha", "0.1"}},
};

/* ---- how the paper trains ---- */

/* Of runs on one data set, or of one experiment; a later row that fits holds instead of an earlier one. */
typedef struct {
    const char *dataset; /* NULL: any */
    int subject, loss;   /* negative: any */
    const char *setting, *value;
} Recipe;

static const Recipe recipes[] = {
    {NULL, -1, -1, "steps", "0"},
    {NULL, -1, -1, "dataset.train_limit", "0"},
    {NULL, -1, -1, "dataset.validation_limit", "0"},
    {NULL, -1, -1, "dataset.test_limit", "0"},
    {NULL, -1, -1, "model.width", "0"},
    {NULL, -1, -1, "model.blocks", "[]"},
    {NULL, -1, -1, "evaluate.bins", "15"},
    {NULL, -1, PAPER_FLSC_531, "loss.gamma_epochs", "[100, 250]"},
    {NULL, -1, PAPER_FLSC_532, "loss.gamma_epochs", "[100, 250]"},
    {"cifar10", -1, -1, "epochs", "350"},
    {"cifar100", -1, -1, "epochs", "350"},
    {"cifar10", -1, -1, "batch", "128"},
    {"cifar100", -1, -1, "batch", "128"},
    {"cifar10", -1, -1, "optimizer.learning_rate", "0.1"},
    {"cifar100", -1, -1, "optimizer.learning_rate", "0.1"},
    {"cifar10", -1, -1, "optimizer.weight_decay", "0.0005"},
    {"cifar100", -1, -1, "optimizer.weight_decay", "0.0005"},
    {NULL, PAPER_CIFAR10_WIDE_RESNET, PAPER_BRIER, "epochs", "550"}, /* the published scripts' */
    {NULL, PAPER_CIFAR100_RESNET110, PAPER_BRIER, "epochs", "430"},
    {NULL, PAPER_CIFAR10_WIDE_RESNET, -1, "model.depth", "26"},
    {NULL, PAPER_CIFAR10_WIDE_RESNET, -1, "model.widen", "10"},
    {NULL, PAPER_CIFAR100_WIDE_RESNET, -1, "model.depth", "26"},
    {NULL, PAPER_CIFAR100_WIDE_RESNET, -1, "model.widen", "10"},
    {"tiny_imagenet", -1, -1, "epochs", "100"},
    {"tiny_imagenet", -1, -1, "batch", "64"},
    {"tiny_imagenet", -1, -1, "optimizer.learning_rate", "0.1"},
    {NULL, PAPER_TINY_IMAGENET, PAPER_BRIER, "optimizer.learning_rate", "0.035"},
    {NULL, PAPER_TINY_IMAGENET, PAPER_FLSC_531, "loss.gamma_epochs", "[30, 70]"},
    {NULL, PAPER_TINY_IMAGENET, PAPER_FLSC_532, "loss.gamma_epochs", "[30, 70]"},
    {"newsgroups", -1, -1, "epochs", "50"},
    {"newsgroups", -1, -1, "batch", "128"},
    {"newsgroups", -1, -1, "optimizer.learning_rate", "0.001"},
    {"wmt14_en_de", -1, -1, "steps", "100000"},
    {"sst", -1, -1, "epochs", "25"},
    {"sst", -1, -1, "batch", "25"},
    {"sst", -1, -1, "optimizer.learning_rate", "0.05"},
};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

/* ---- values of settings ---- */

/* What the run's config says, or what the setting is where it says nothing; never NULL. */
static const char *value_of(const RunSummary *run, const char *name)
{
    const char *value = run_facts_find(&run->setting, name);
    int count;
    const Setting *table = settings_table(&count);
    for (int i = 0; i < count && value == NULL; ++i)
        if (strcmp(table[i].name, name) == 0) value = table[i].default_value;
    return value != NULL ? value : "";
}

static const char *past_punctuation(const char *text) { return text + strspn(text, "[], "); }

/* "[5, 3]" is "[5,3]", and 0.0005 is 5e-4. */
static bool is_same(const char *a, const char *b)
{
    for (a = past_punctuation(a), b = past_punctuation(b); *a != '\0' && *b != '\0';
         a = past_punctuation(a), b = past_punctuation(b)) {
        char *a_end, *b_end;
        const double x = strtod(a, &a_end), y = strtod(b, &b_end);
        if (a_end == a || b_end == b) return strcmp(a, b) == 0;
        if (fabs(x - y) > 1e-9 * fabs(y)) return false;
        a = a_end;
        b = b_end;
    }
    return *a == *b;
}

/* ---- what a run is ---- */

static int find_subject(const RunSummary *run)
{
    for (int i = 0; i < PAPER_SUBJECTS; ++i)
        if (strcmp(value_of(run, "dataset.name"), paper_subject[i].dataset) == 0 &&
            strcmp(value_of(run, "model.name"), paper_subject[i].model) == 0)
            return i;
    return -1;
}

static bool has_loss(const RunSummary *run, int loss)
{
    for (int i = 0; i < LOSS_PAIRS && loss_pair[loss][i].setting != NULL; ++i)
        if (!is_same(value_of(run, loss_pair[loss][i].setting), loss_pair[loss][i].value)) return false;
    return true;
}

static int find_loss(const RunSummary *run)
{
    for (int i = 0; i < PAPER_LOSSES; ++i)
        if (has_loss(run, i)) return i;
    return -1;
}

static Status explain(const RunSummary *run, PaperPlace *place)
{
    if (run->setting.count == 0)
        return text_copy("its config.yaml is missing or cannot be read", &place->why_not);
    if (place->subject < 0)
        return text_format(&place->why_not, "dataset.name %s with model.name %s is no pair of the paper's",
                           value_of(run, "dataset.name"), value_of(run, "model.name"));
    return text_format(&place->why_not, "loss.name %s with its settings is no loss of the paper's",
                       value_of(run, "loss.name"));
}

static bool fits(const Recipe *recipe, const PaperPlace *place)
{
    return (recipe->dataset == NULL || strcmp(recipe->dataset, paper_subject[place->subject].dataset) == 0) &&
           (recipe->subject < 0 || recipe->subject == place->subject) &&
           (recipe->loss < 0 || recipe->loss == place->loss);
}

/* Does a later row say what this setting is to be? */
static bool is_overruled(int row, const PaperPlace *place)
{
    for (int i = row + 1; i < RECIPES; ++i)
        if (fits(&recipes[i], place) && strcmp(recipes[i].setting, recipes[row].setting) == 0) return true;
    return false;
}

static Status find_differences(const RunSummary *run, PaperPlace *place)
{
    for (int i = 0; i < RECIPES; ++i) {
        if (!fits(&recipes[i], place) || is_overruled(i, place)) continue;
        const char *value = value_of(run, recipes[i].setting);
        if (is_same(value, recipes[i].value)) continue;
        char *longer;
        TRY(text_format(&longer, "%s%s%s %s (%s)", place->differences != NULL ? place->differences : "",
                        place->differences != NULL ? ", " : "", recipes[i].setting, value, recipes[i].value));
        free(place->differences);
        place->differences = longer;
    }
    return OK;
}

static Status place_run(const RunSummary *run, PaperPlace *place)
{
    *place = (PaperPlace){.subject = find_subject(run), .loss = find_loss(run)};
    if (place->subject >= 0 && place->loss >= 0) return find_differences(run, place);
    TRY(explain(run, place));
    place->subject = place->loss = -1;
    return OK;
}

/* ---- groups ---- */

static bool are_alike(const PaperPlace *a, const PaperPlace *b)
{
    if (a->subject != b->subject || a->loss != b->loss) return false;
    if (a->differences == NULL || b->differences == NULL) return a->differences == b->differences;
    return strcmp(a->differences, b->differences) == 0;
}

/* Trained as the paper says first, then those of which most are complete, then the first. */
static bool is_better(const PaperRuns *paper, int run, int complete, const PaperGroup *than)
{
    if (than->count == 0) return true;
    const bool plain = paper->place[run].differences == NULL, other = than->differences == NULL;
    if ((complete > 0) != (than->complete > 0)) return complete > 0;
    if (plain != other) return plain;
    return complete > than->complete;
}

static Status take_group(PaperRuns *paper, int first)
{
    PaperPlace *place = &paper->place[first];
    PaperGroup *group = &paper->group[place->subject][place->loss];
    int complete = 0;
    for (int i = first; i < paper->count; ++i)
        complete += are_alike(place, &paper->place[i]) && run_summary_before(&paper->run[i]) != NULL;
    if (!is_better(paper, first, complete, group)) return OK;
    free(group->run);
    *group = (PaperGroup){.complete = complete, .differences = place->differences};
    TRY(memory_new(&group->run, (size_t)paper->count, sizeof *group->run, "runs of the paper"));
    for (int i = first; i < paper->count; ++i)
        if (are_alike(place, &paper->place[i])) group->run[group->count++] = i;
    return OK;
}

static Status make_groups(PaperRuns *paper)
{
    for (int i = 0; i < paper->count; ++i) {
        if (paper->place[i].subject < 0) continue;
        ++paper->known;
        bool first = true;
        for (int k = 0; k < i && first; ++k)
            first = !are_alike(&paper->place[i], &paper->place[k]);
        if (first) TRY(take_group(paper, i));
    }
    for (int s = 0; s < PAPER_SUBJECTS; ++s)
        for (int l = 0; l < PAPER_LOSSES; ++l)
            for (int i = 0; i < paper->group[s][l].count; ++i)
                paper->place[paper->group[s][l].run[i]].in_tables = true;
    return OK;
}

Status paper_runs_find(const RunSummary runs[], int count, PaperRuns *paper)
{
    *paper = (PaperRuns){.run = runs, .count = count};
    Status status = memory_new(&paper->place, (size_t)count + 1, sizeof *paper->place, "runs of the paper");
    for (int i = 0; i < count && status == OK; ++i)
        status = place_run(&runs[i], &paper->place[i]);
    if (status == OK) status = make_groups(paper);
    if (status != OK) paper_runs_free(paper);
    return status;
}

void paper_runs_free(PaperRuns *paper)
{
    for (int i = 0; i < paper->count && paper->place != NULL; ++i) {
        free(paper->place[i].why_not);
        free(paper->place[i].differences);
    }
    free(paper->place);
    for (int s = 0; s < PAPER_SUBJECTS; ++s)
        for (int l = 0; l < PAPER_LOSSES; ++l)
            free(paper->group[s][l].run);
    *paper = (PaperRuns){.run = NULL};
}

/* ---- numbers ---- */

const char *paper_seed(const RunSummary *run) { return value_of(run, "seed"); }

/* Is the seed that of one of the runs before? A run that was repeated is no new sample. */
static bool is_repeated(const RunSummary *const run[], int count, const RunSummary *of)
{
    for (int i = 0; i < count; ++i)
        if (strcmp(paper_seed(run[i]), paper_seed(of)) == 0) return true;
    return false;
}

bool paper_is_complete(const RunSummary *run) { return run_summary_before(run) != NULL; }
bool paper_has_epochs(const RunSummary *run) { return run->epochs > 0; }

int paper_seeds(const PaperRuns *paper, int subject, int loss, bool (*has)(const RunSummary *),
                const RunSummary *run[], int most)
{
    const PaperGroup *group = &paper->group[subject][loss];
    int count = 0;
    for (int i = 0; i < group->count && count < most; ++i) {
        const RunSummary *of = &paper->run[group->run[i]];
        if (has(of) && !is_repeated(run, count, of)) run[count++] = of;
    }
    return count;
}

/* Of several runs: where one more, of another seed, would lie with 90 % probability, by Student's t. No measure is negative. */
static Interval interval_of_seeds(const SeedStatistic *over)
{
    const double reach = interval_next_reach(over->deviation, over->count, PAPER_LEVEL);
    const double lower = over->mean - reach;
    return (Interval){lower < 0 ? 0 : lower, over->mean + reach}; /* NaN stays */
}

Status paper_number(const PaperRuns *paper, int subject, int loss, PaperValue value_of_run, int stage,
                    const void *context, PaperNumber *number)
{
    const PaperGroup *group = &paper->group[subject][loss];
    const RunSummary **run = NULL;
    double *value = NULL, *temperature = NULL;
    int count = 0;
    Status status;
    Interval interval = {NAN, NAN};
    *number = (PaperNumber){.over = seed_statistic(NULL, 0), .interval = interval, .temperature = NAN};
    if (group->count == 0) return OK;
    TRY_ELSE(done, memory_new(&run, (size_t)group->count, sizeof *run, "numbers of the paper"));
    TRY_ELSE(done, memory_new(&value, (size_t)group->count, sizeof *value, "numbers of the paper"));
    TRY_ELSE(done,
             memory_new(&temperature, (size_t)group->count, sizeof *temperature, "numbers of the paper"));
    for (int i = 0; i < group->count; ++i) {
        const RunSummary *of = &paper->run[group->run[i]];
        if (run_summary_before(of) == NULL || is_repeated(run, count, of)) continue;
        Interval found = {NAN, NAN};
        value[count] = value_of_run(of, stage, context, &found);
        if (isnan(value[count])) continue;
        temperature[count] = stage == EVALUATE_BEFORE      ? NAN
                             : stage == EVALUATE_AFTER_NLL ? of->temperature_nll
                                                           : of->temperature_ece;
        interval = found;
        run[count++] = of;
    }
    number->over = seed_statistic(value, count);
    number->temperature = seed_statistic(temperature, count).mean;
    number->interval = count > 1 ? interval_of_seeds(&number->over) : interval;
done:
    free(run);
    free(value);
    free(temperature);
    return status;
}
