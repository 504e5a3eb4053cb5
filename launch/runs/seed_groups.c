#include "launch/runs/seed_groups.h"

#include "engine/base/memory.h"
#include "launch/runs/run_folder.h"
#include "launch/runs/text_index.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
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

static const char *seed_of(const RunSummary *run) { return run_facts_find(&run->setting, "seed"); }

/* All that runs of a group have in common, as text. Resolved configs have their settings in the order of the table.
 * Batch norm's statistics over the samples of a rank make the number of ranks a part of the experiment. */
static Status describe(const RunSummary *run, char **text)
{
    size_t size;
    const char *shared = run_facts_find(&run->setting, "model.sync_batch_norm");
    const char *ranks = run_facts_find(&run->environment, "ranks");
    FILE *stream = open_memstream(text, &size);
    if (stream == NULL) return fail(STATUS_MEMORY, "no memory for the groups of runs");
    int at = 0;
    for (const RunFact *fact; (fact = next_compared(&run->setting, &at)) != NULL;)
        (void)fprintf(stream, "%s=%s\n", fact->name, fact->value);
    if (shared == NULL || strcmp(shared, "true") != 0)
        (void)fprintf(stream, "%s\n", ranks != NULL ? ranks : "");
    if (fclose(stream) == 0) return OK;
    free(*text);
    *text = NULL;
    return fail(STATUS_MEMORY, "no memory for the groups of runs");
}

/* first[i]: the first run that is like run i; -1 where its seed is not known. */
static Status find_alike(const RunSummary runs[], int count, int first[])
{
    TextIndex index = {.entry = NULL};
    char **text;
    Status status = OK;
    TRY(memory_new(&text, (size_t)count + 1, sizeof *text, "seeds"));
    for (int i = 0; i < count; ++i) {
        first[i] = seed_of(&runs[i]) == NULL ? -1 : i;
        if (first[i] < 0) continue;
        TRY_ELSE(done, describe(&runs[i], &text[i]));
        TRY_ELSE(done, text_index_add(&index, text[i], &first[i]));
    }
done:
    text_index_free(&index);
    for (int i = 0; i < count; ++i)
        free(text[i]);
    free(text);
    return status;
}

/* ---- groups ---- */

/* A group for each run that is the first of its kind; group_of[i]: that of run i, -1 for none. */
static void number_groups(const int first[], int count, int group_of[], int *groups)
{
    *groups = 0;
    for (int i = 0; i < count; ++i)
        group_of[i] = first[i] < 0 ? -1 : first[i] == i ? (*groups)++ : group_of[first[i]];
}

/* Its members, incomplete runs and repeated seeds, each run once. */
static Status collect_members(SeedGroup groups[], size_t capacity[], const RunSummary runs[],
                              const int group_of[], int count)
{
    TextIndex index = {.entry = NULL};
    char **text;
    Status status = OK;
    TRY(memory_new(&text, (size_t)count + 1, sizeof *text, "seeds"));
    for (int i = 0; i < count; ++i) {
        if (group_of[i] < 0) continue;
        SeedGroup *group = &groups[group_of[i]];
        if (run_summary_before(&runs[i]) == NULL) {
            ++group->incomplete;
            continue;
        }
        int earlier = i;
        TRY_ELSE(done, text_format(&text[i], "%d %s", group_of[i], seed_of(&runs[i])));
        TRY_ELSE(done, text_index_add(&index, text[i], &earlier));
        if (earlier < i) {
            ++group->repeated;
            continue;
        }
        TRY_ELSE(done, memory_grow(&group->member, &capacity[group_of[i]], (size_t)group->count + 1,
                                   sizeof *group->member, "seeds"));
        group->member[group->count++] = i;
    }
done:
    text_index_free(&index);
    for (int i = 0; i < count; ++i)
        free(text[i]);
    free(text);
    return status;
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
    TextIndex index = {.entry = NULL};
    int *first = NULL, *sharers = NULL;
    Status status;
    TRY_ELSE(done, memory_new(&first, (size_t)count + 1, sizeof *first, "seeds"));
    TRY_ELSE(done, memory_new(&sharers, (size_t)count + 1, sizeof *sharers, "seeds"));
    for (int i = 0; i < count; ++i) {
        first[i] = i;
        TRY_ELSE(done, text_index_add(&index, group[i].name, &first[i]));
        ++sharers[first[i]];
    }
    text_index_free(&index); /* its texts go now */
    for (int i = 0; i < count; ++i) {
        if (sharers[first[i]] == 1) continue;
        free(group[i].name);
        group[i].name = NULL;
        TRY_ELSE(done, join_names(&group[i], runs, &group[i].name));
    }
done:
    text_index_free(&index);
    free(sharers);
    free(first);
    return status;
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

/* Only groups of two seeds or more stay, in their order. */
static Status finish_groups(SeedGroup groups[], int *count, const RunSummary runs[])
{
    int kept = 0;
    for (int i = 0; i < *count; ++i) {
        SeedGroup *group = &groups[kept];
        if (i != kept) {
            *group = groups[i];
            groups[i] = (SeedGroup){.name = NULL};
        }
        if (group->count < 2) {
            release(group);
            *group = (SeedGroup){.name = NULL};
            continue;
        }
        TRY(name_group(group, runs));
        TRY(measure_group(group, runs));
        ++kept;
    }
    *count = kept;
    return OK;
}

Status seed_groups_find(const RunSummary runs[], int count, SeedGroup **groups, int *group_count)
{
    int *first = NULL, *group_of = NULL, found = 0;
    size_t *capacity = NULL;
    SeedGroup *group = NULL;
    Status status;
    *groups = NULL;
    *group_count = 0;
    TRY_ELSE(done, memory_new(&first, (size_t)count + 1, sizeof *first, "seeds"));
    TRY_ELSE(done, memory_new(&group_of, (size_t)count + 1, sizeof *group_of, "seeds"));
    TRY_ELSE(done, memory_new(&capacity, (size_t)count + 1, sizeof *capacity, "seeds"));
    TRY_ELSE(done, memory_new(&group, (size_t)count + 1, sizeof *group, "seeds"));
    TRY_ELSE(done, find_alike(runs, count, first));
    number_groups(first, count, group_of, &found);
    TRY_ELSE(done, collect_members(group, capacity, runs, group_of, count));
    TRY_ELSE(done, finish_groups(group, &found, runs));
    TRY_ELSE(done, tell_apart(group, found, runs));
    *groups = group;
    *group_count = found;
    group = NULL;
done:
    seed_groups_free(group, group != NULL ? count : 0);
    free(capacity);
    free(group_of);
    free(first);
    return status;
}
