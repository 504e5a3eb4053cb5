#include "launch/evaluate/ood_sets.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is asked for ---- */

Status ood_choice_check(const OodChoices *choices, int index)
{
    const char *name = choices->choice[index].name;
    if (name[0] == '\0' || strlen(name) >= sizeof((OodSet *)NULL)->name)
        return fail(STATUS_USAGE, "a set out of distribution has a name of 1 to %d letters",
                    (int)sizeof((OodSet *)NULL)->name - 1);
    for (int i = 0; i < index; ++i)
        if (strcmp(choices->choice[i].name, name) == 0)
            return fail(STATUS_USAGE, "the set %s is given twice", name);
    return OK;
}

Status ood_choices_parse(const char *const words[], int count, OodChoices *choices)
{
    size_t size = 1;
    *choices = (OodChoices){.count = 0};
    if (count > OOD_MOST_SETS)
        return fail(STATUS_USAGE, "--ood is given %d times; %d are too many", count, OOD_MOST_SETS);
    for (int i = 0; i < count; ++i)
        size += strlen(words[i]) + 1;
    TRY(memory_new(&choices->text, size, 1, "names of sets"));
    char *at = choices->text;
    for (int i = 0; i < count; ++i) {
        strcpy(at, words[i]);
        char *equals = strchr(at, '=');
        if (equals != NULL) *equals = '\0';
        choices->choice[i] = (OodChoice){at, equals != NULL ? equals + 1 : ""};
        at += strlen(words[i]) + 1;
        choices->count = i + 1;
        TRY(ood_choice_check(choices, i));
    }
    return OK;
}

void ood_choices_free(OodChoices *choices)
{
    free(choices->text);
    *choices = (OodChoices){.count = 0};
}

/* ---- measuring ---- */

void ood_result_free(OodResult *result)
{
    free(result->set);
    result->set = NULL;
    result->count = 0;
}

static int stages_of(const OodResult *result) { return result->has_temperature ? EVALUATE_STAGES : 1; }

Status ood_result_add(World *world, Collective *collective, int threads, const Logits *test,
                      const Logits *out, const char *what, bool made, OodResult *result)
{
    TRY(comm_agree(world, logits_check(out, threads)));
    OodSet *grown = realloc(result->set, ((size_t)result->count + 1) * sizeof *grown);
    if (grown != NULL) result->set = grown;
    TRY(comm_agree(world,
                   grown != NULL ? OK : fail(STATUS_MEMORY, "no memory for the sets out of distribution")));
    OodSet *set = &result->set[result->count];
    memset(set, 0, sizeof *set);
    (void)snprintf(set->name, sizeof set->name, "%s", out->name);
    (void)snprintf(set->what, sizeof set->what, "%s", what);
    set->made = made;
    set->samples = out->total;
    result->samples = test->total;
    for (int stage = 0; stage < stages_of(result); ++stage)
        TRY(ood_measure(collective, test, out, result->temperature[stage], threads, &set->measure[stage]));
    ++result->count;
    return OK;
}

/* ---- JSON ---- */

static const char *const stage_keys[EVALUATE_STAGES] = {"before", "after_ece", "after_nll"};

/* Six digits: a curve has some hundred points. */
static cJSON *rates(const double rate[], int count)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < count && list != NULL; ++i) {
        char text[32];
        (void)snprintf(text, sizeof text, "%.6g", rate[i]);
        cJSON *item = cJSON_CreateRaw(text);
        if (cJSON_AddItemToArray(list, item)) continue;
        cJSON_Delete(item);
        cJSON_Delete(list);
        return NULL;
    }
    return list;
}

static bool add_item(cJSON *object, const char *key, cJSON *item)
{
    if (cJSON_AddItemToObject(object, key, item)) return true;
    cJSON_Delete(item);
    return false;
}

static bool add_area(cJSON *object, cJSON *intervals, const char *key, const Auroc *auroc)
{
    const double ends[] = {auroc->lower, auroc->upper};
    cJSON *interval = isnan(auroc->lower) ? cJSON_CreateNull() : cJSON_CreateDoubleArray(ends, 2);
    const bool placed = add_item(intervals, key, interval);
    return cJSON_AddNumberToObject(object, key, auroc->area) != NULL && placed;
}

static bool add_curve(cJSON *object, const char *key, const RocCurve *curve)
{
    cJSON *item = cJSON_AddObjectToObject(object, key);
    return add_item(item, "false_positive_rate", rates(curve->false_positive, curve->count)) &&
           add_item(item, "true_positive_rate", rates(curve->true_positive, curve->count));
}

static bool add_stage(cJSON *object, const char *key, double temperature, const OodMeasure *measure)
{
    char text[32];
    cJSON *stage = cJSON_AddObjectToObject(object, key);
    (void)snprintf(text, sizeof text, "%.12g", temperature);
    bool ok = cJSON_AddRawToObject(stage, "temperature", text) != NULL;
    cJSON *intervals = cJSON_CreateObject();
    ok = ok && add_area(stage, intervals, "auroc_entropy", &measure->entropy) &&
         add_area(stage, intervals, "auroc_confidence", &measure->confidence);
    ok = add_item(stage, "interval", intervals) && ok;
    cJSON *curves = cJSON_AddObjectToObject(stage, "roc");
    return ok && add_curve(curves, "entropy", &measure->entropy_curve) &&
           add_curve(curves, "confidence", &measure->confidence_curve);
}

static cJSON *set_object(const OodResult *result, const OodSet *set)
{
    cJSON *object = cJSON_CreateObject();
    bool ok = cJSON_AddStringToObject(object, "name", set->name) != NULL &&
              cJSON_AddStringToObject(object, "what", set->what) != NULL &&
              cJSON_AddBoolToObject(object, "made", set->made) != NULL &&
              cJSON_AddNumberToObject(object, "samples", (double)set->samples) != NULL &&
              cJSON_AddNumberToObject(object, "samples_in_distribution", (double)result->samples) != NULL;
    for (int stage = 0; stage < EVALUATE_STAGES && ok; ++stage)
        ok = stage < stages_of(result)
                 ? add_stage(object, stage_keys[stage], result->temperature[stage], &set->measure[stage])
                 : cJSON_AddNullToObject(object, stage_keys[stage]) != NULL;
    if (ok) return object;
    cJSON_Delete(object);
    return NULL;
}

static Status no_memory(void)
{
    return fail(STATUS_MEMORY, "no memory for the sets out of distribution as JSON");
}

Status ood_result_list(const OodResult *result, cJSON **list)
{
    *list = cJSON_CreateArray();
    for (int i = 0; i < result->count && *list != NULL; ++i) {
        cJSON *object = set_object(result, &result->set[i]);
        if (object != NULL && cJSON_AddItemToArray(*list, object)) continue;
        cJSON_Delete(object);
        cJSON_Delete(*list);
        *list = NULL;
    }
    return *list != NULL ? OK : no_memory();
}

/* ---- the run's file ---- */

/* The sets that the file has already; an empty list if there is none, or one that cannot be read. */
static cJSON *earlier_sets(const char *path)
{
    enum { MOST = 1 << 26 };
    char *text;
    size_t size;
    cJSON *root = NULL, *sets = NULL;
    if (!file_exists(path)) return cJSON_CreateArray();
    Status status = file_read(path, MOST, &text, &size);
    if (status == OK) {
        root = cJSON_ParseWithLength(text, size);
        free(text);
        sets = cJSON_DetachItemFromObjectCaseSensitive(root, "sets");
        cJSON_Delete(root);
    }
    status_free(status);
    if (cJSON_IsArray(sets)) return sets;
    cJSON_Delete(sets);
    log_warning("%s is damaged, and is made anew", path);
    return cJSON_CreateArray();
}

static void remove_named(cJSON *sets, const char *name)
{
    for (int i = cJSON_GetArraySize(sets) - 1; i >= 0; --i) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(sets, i), "name");
        if (cJSON_IsString(item) && strcmp(item->valuestring, name) == 0) cJSON_DeleteItemFromArray(sets, i);
    }
}

/* Moves the new sets behind those that stay. */
static bool merge(cJSON *sets, cJSON *list, const char *checkpoint)
{
    cJSON *item;
    while ((item = cJSON_DetachItemFromArray(list, 0)) != NULL) {
        remove_named(sets, cJSON_GetObjectItemCaseSensitive(item, "name")->valuestring);
        if (cJSON_AddStringToObject(item, "checkpoint", checkpoint) == NULL ||
            !cJSON_AddItemToArray(sets, item)) {
            cJSON_Delete(item);
            return false;
        }
    }
    return true;
}

Status ood_result_write(const OodResult *result, const char *folder, const char *checkpoint)
{
    char path[PATH_MAX];
    cJSON *list;
    TRY(file_join(path, folder, "ood.json"));
    TRY(ood_result_list(result, &list));
    cJSON *root = cJSON_CreateObject(), *sets = earlier_sets(path);
    bool ok = merge(sets, list, checkpoint);
    cJSON_Delete(list);
    ok = add_item(root, "sets", sets) && ok;
    char *text = ok ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return no_memory();
    const Status status = file_write(path, text, strlen(text));
    cJSON_free(text);
    return status;
}

/* ---- the table ---- */

static void print_area(FILE *file, const Auroc *auroc)
{
    char text[64];
    int used = snprintf(text, sizeof text, "%.2f", 100 * auroc->area);
    if (!isnan(auroc->lower))
        (void)snprintf(text + used, sizeof text - (size_t)used, " [%.2f, %.2f]", 100 * auroc->lower,
                       100 * auroc->upper);
    (void)fprintf(file, "  %22s", text);
}

void ood_result_print(const OodResult *result, FILE *file)
{
    static const char *const stages[] = {"before", "T = %.4g by ECE", "T = %.4g by NLL"};
    if (result->count == 0) return;
    (void)fprintf(
        file, "\nout of distribution, AUROC %% [90%% intervals by DeLong's variance]\n%-22s  %22s  %22s\n",
        "", "by entropy", "by confidence");
    for (int i = 0; i < result->count; ++i) {
        const OodSet *set = &result->set[i];
        (void)fprintf(file, "%s: %lld samples; %s\n", set->name, (long long)set->samples, set->what);
        for (int stage = 0; stage < stages_of(result); ++stage) {
            char title[64];
            (void)snprintf(title, sizeof title, stages[stage], result->temperature[stage]);
            (void)fprintf(file, "  %-20s", title);
            print_area(file, &set->measure[stage].entropy);
            print_area(file, &set->measure[stage].confidence);
            (void)fputc('\n', file);
        }
    }
}
