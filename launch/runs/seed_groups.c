#include "launch/runs/seed_groups.h"

#include "engine/base/memory.h"
#include "launch/runs/run_folder.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- which runs are alike ---- */

static bool is_compared(const char *setting)
{
    if (strcmp(setting, "seed") == 0) return false;
    return !run_setting_is_harmless(setting) || strcmp(setting, "evaluate.bins") == 0;
}

static const RunFact *next_compared(const RunFacts *settings, int *at)
{
    while (*at < settings->count) {
        const RunFact *fact = &settings->fact[(*at)++];
        if (is_compared(fact->name)) return fact;
    }
    return NULL;
}

/* Resolved configs have their settings in the order of the table. */
static bool set_alike(const RunSummary *a, const RunSummary *b)
{
    int at_a = 0, at_b = 0;
    for (;;) {
        const RunFact *left = next_compared(&a->setting, &at_a), *right = next_compared(&b->setting, &at_b);
        if (left == NULL || right == NULL) return left == right;
        if (strcmp(left->name, right->name) != 0 || strcmp(left->value, right->value) != 0) return false;
    }
}

/* Batch norm's statistics over the samples of a rank make the number of ranks a part of the experiment. */
static bool normalised_alike(const RunSummary *a, const RunSummary *b)
{
    const char *shared = run_facts_find(&a->setting, "model.sync_batch_norm");
    if (shared != NULL && strcmp(shared, "true") == 0) return true;
    const char *left = run_facts_find(&a->environment, "ranks"),
               *right = run_facts_find(&b->environment, "ranks");
    return left == NULL || right == NULL ? left == right : strcmp(left, right) == 0;
}

static const char *seed_of(const RunSummary *run) { return run_facts_find(&run->setting, "seed"); }

/* first[i]: the first run that is like run i; -1 where its seed is not known. */
static void find_alike(const RunSummary runs[], int count, int first[])
{
    for (int i = 0; i < count; ++i) {
        first[i] = seed_of(&runs[i]) == NULL ? -1 : i;
        for (int k = 0; k < i && first[i] == i; ++k)
            if (first[k] == k && set_alike(&runs[i], &runs[k]) && normalised_alike(&runs[i], &runs[k]))
                first[i] = k;
    }
}

/* ---- groups ---- */

static bool has_seed(const SeedGroup *group, const RunSummary runs[], const char *seed)
{
    for (int i = 0; i < group->count; ++i)
        if (strcmp(seed_of(&runs[group->member[i]]), seed) == 0) return true;
    return false;
}

static Status collect_members(SeedGroup *group, const RunSummary runs[], const int first[], int count,
                              int leader)
{
    size_t capacity = 0;
    for (int i = leader; i < count; ++i) {
        if (first[i] != leader) continue;
        if (run_summary_before(&runs[i]) == NULL) {
            ++group->incomplete;
        } else if (has_seed(group, runs, seed_of(&runs[i]))) {
            ++group->repeated;
        } else {
            TRY(memory_grow(&group->member, &capacity, (size_t)group->count + 1, sizeof *group->member,
                            "seeds"));
            group->member[group->count++] = i;
        }
    }
    return OK;
}

/* ---- names ---- */

static bool is_continuation(char byte) { return ((unsigned char)byte & 0xC0) == 0x80; }

/* How many bytes all names of the group begin with: no part of a number or of a character. */
static size_t common_start(const SeedGroup *group, const RunSummary runs[])
{
    const char *name = runs[group->member[0]].name;
    size_t start = strlen(name);
    for (int i = 1; i < group->count; ++i) {
        const char *other = runs[group->member[i]].name;
        size_t same = 0;
        while (same < start && other[same] == name[same])
            ++same;
        start = same;
    }
    while (start > 0 && (isdigit((unsigned char)name[start - 1]) || is_continuation(name[start])))
        --start;
    return start;
}

/* The same of their ends, behind `start`. */
static size_t common_end(const SeedGroup *group, const RunSummary runs[], size_t start)
{
    const char *name = runs[group->member[0]].name;
    const size_t length = strlen(name);
    size_t end = length - start;
    for (int i = 1; i < group->count; ++i) {
        const char *other = runs[group->member[i]].name;
        const size_t other_length = strlen(other);
        size_t same = 0;
        while (same < end && same < other_length - start &&
               other[other_length - 1 - same] == name[length - 1 - same])
            ++same;
        end = same;
    }
    while (end > 0 && (isdigit((unsigned char)name[length - end]) || is_continuation(name[length - end])))
        --end;
    return end;
}

static Status join_names(const SeedGroup *group, const RunSummary runs[], char **joined)
{
    char *text = NULL;
    for (int i = 0; i < group->count; ++i) {
        char *longer;
        Status status = text_format(&longer, "%s%s%s", text != NULL ? text : "", i > 0 ? ", " : "",
                                    runs[group->member[i]].name);
        free(text);
        TRY(status);
        text = longer;
    }
    *joined = text;
    return OK;
}

static Status name_group(SeedGroup *group, const RunSummary runs[])
{
    const char *name = runs[group->member[0]].name;
    const size_t start = common_start(group, runs), end = common_end(group, runs, start);
    if (start + end == 0) return join_names(group, runs, &group->name);
    return text_format(&group->name, "%.*s*%s", (int)start, name, name + strlen(name) - end);
}

/* Names that do not tell groups apart are replaced by those of all their runs. */
static Status tell_apart(SeedGroup group[], int count, const RunSummary runs[])
{
    for (int i = 0; i < count; ++i) {
        bool shared = false;
        for (int k = i + 1; k < count; ++k) {
            if (strcmp(group[i].name, group[k].name) != 0) continue;
            shared = true;
            free(group[k].name);
            group[k].name = NULL;
            TRY(join_names(&group[k], runs, &group[k].name));
        }
        if (!shared) continue;
        free(group[i].name);
        group[i].name = NULL;
        TRY(join_names(&group[i], runs, &group[i].name));
    }
    return OK;
}

/* ---- numbers ---- */

/* Two passes: the deviations of seeds are small beside their mean, and a difference of sums of squares would
 * lose them. */
SeedStatistic seed_statistic(const double value[], int count)
{
    SeedStatistic statistic = {.mean = NAN, .deviation = NAN};
    double sum = 0, squares = 0;
    for (int i = 0; i < count; ++i) {
        if (isnan(value[i])) continue;
        sum += value[i];
        ++statistic.count;
    }
    if (statistic.count == 0) return statistic;
    statistic.mean = sum / statistic.count;
    for (int i = 0; i < count; ++i)
        if (!isnan(value[i])) squares += (value[i] - statistic.mean) * (value[i] - statistic.mean);
    if (statistic.count > 1) statistic.deviation = sqrt(squares / (statistic.count - 1));
    return statistic;
}

static SeedStatistic measure_column(const SeedGroup *group, const RunSummary runs[], const RunColumn *column,
                                    bool after, double value[])
{
    for (int i = 0; i < group->count; ++i) {
        const RunSummary *run = &runs[group->member[i]];
        const RunMeasure *measure = after ? run_summary_after(run) : run_summary_before(run);
        value[i] = measure != NULL ? column->value(measure) : NAN;
    }
    return seed_statistic(value, group->count);
}

static Status measure_group(SeedGroup *group, const RunSummary runs[])
{
    double *value;
    const RunColumn *columns = run_published_columns();
    TRY(memory_new(&value, (size_t)group->count, sizeof *value, "seeds"));
    for (int i = 0; i < RUN_PUBLISHED_COLUMNS; ++i) {
        group->before[i] = measure_column(group, runs, &columns[i], false, value);
        group->after[i] = measure_column(group, runs, &columns[i], true, value);
    }
    for (int i = 0; i < group->count; ++i) {
        const RunSummary *run = &runs[group->member[i]];
        value[i] = run_summary_after(run) != NULL ? run->temperature_ece : NAN;
    }
    group->temperature = seed_statistic(value, group->count);
    free(value);
    return OK;
}

/* ---- all groups ---- */

static void release(SeedGroup *group)
{
    free(group->name);
    free(group->member);
}

void seed_groups_free(SeedGroup *groups, int count)
{
    for (int i = 0; groups != NULL && i < count; ++i)
        release(&groups[i]);
    free(groups);
}

Status seed_groups_find(const RunSummary runs[], int count, SeedGroup **groups, int *group_count)
{
    int *first = NULL, found = 0;
    SeedGroup *group = NULL;
    Status status;
    *groups = NULL;
    *group_count = 0;
    TRY_ELSE(done, memory_new(&first, (size_t)count + 1, sizeof *first, "seeds"));
    TRY_ELSE(done, memory_new(&group, (size_t)count + 1, sizeof *group, "seeds"));
    find_alike(runs, count, first);
    for (int i = 0; i < count; ++i) {
        if (first[i] != i) continue;
        SeedGroup *next = &group[found++];
        TRY_ELSE(done, collect_members(next, runs, first, count, i));
        if (next->count >= 2) {
            TRY_ELSE(done, name_group(next, runs));
            TRY_ELSE(done, measure_group(next, runs));
        } else {
            release(next);
            group[--found] = (SeedGroup){.name = NULL};
        }
    }
    TRY_ELSE(done, tell_apart(group, found, runs));
    *groups = group;
    *group_count = found;
    group = NULL;
done:
    seed_groups_free(group, found);
    free(first);
    return status;
}
