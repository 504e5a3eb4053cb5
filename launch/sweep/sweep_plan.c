#include "launch/sweep/sweep_plan.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/yaml.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_AXES = 8, MAX_RUNS = 100000 };

typedef struct {
    const char *path;
    const YamlNode *root;
    int axis_count;
    const char *axis_name[MAX_AXES];
    const YamlNode *axis[MAX_AXES];
} Reader;

/* ---- settings as overrides ---- */

/* Settings that are given together: in one map of the file, or on the command line. Those of a later layer win,
 * but one layer gives a setting once. */
typedef struct {
    const Reader *reader;
    SweepRun *run;
    const char *path; /* NULL: the command line */
    int count;        /* of the layer so far: the run's last ones */
} Layer;

static Status given_twice(const Layer *layer, const char *key, const ConfigOverride *earlier,
                          const ConfigOverride *later)
{
    if (layer->path == NULL)
        return fail(STATUS_USAGE, "command line: %s: is given twice, as %s and as %s", key, earlier->word,
                    later->word);
    return fail(STATUS_INPUT, "%s:%d: %s: was already given in line %d", layer->path, later->line, key,
                earlier->line);
}

/* Takes away what an earlier layer says of the setting. */
static Status displace(const Layer *layer, const char *key, const ConfigOverride *by)
{
    SweepRun *run = layer->run;
    const size_t length = strlen(key);
    for (int i = 0; i < run->override_count; ++i) {
        ConfigOverride *earlier = &run->override[i];
        if (strncmp(earlier->word, key, length) != 0 || earlier->word[length] != '=') continue;
        if (i >= run->override_count - layer->count) return given_twice(layer, key, earlier, by);
        free((char *)(uintptr_t)earlier->word);
        memmove(earlier, earlier + 1, (size_t)(run->override_count - i - 1) * sizeof *earlier);
        --run->override_count;
        return OK;
    }
    return OK;
}

static Status check_axes(const Layer *layer, const char *key, const char *word)
{
    const Reader *reader = layer->reader;
    for (int a = 0; a < reader->axis_count && layer->path == NULL; ++a)
        if (reader->axis[a]->kind == YAML_LIST && strcmp(key, reader->axis_name[a]) == 0)
            return fail(STATUS_USAGE, "%s: %s is an axis of %s, whose runs would all be alike", word, key,
                        reader->path);
    return OK;
}

static Status give(Layer *layer, const char *key, const char *value, int line)
{
    SweepRun *run = layer->run;
    size_t capacity = (size_t)run->override_count;
    char *word;
    TRY(text_format(&word, "%s=%s", key, value));
    const ConfigOverride override = {word, layer->path, line};
    Status status = check_axes(layer, key, word);
    if (status == OK) status = displace(layer, key, &override);
    if (status == OK)
        status = memory_grow(&run->override, &capacity, capacity + 1, sizeof *run->override, "sweep");
    if (status != OK) {
        free(word);
        return status;
    }
    run->override[run->override_count++] = override;
    ++layer->count;
    return OK;
}

/* A value as an override says it: the override is YAML again, which would cut "data #1" short. */
static Status value_text(const char *value, char **text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
    if (value[0] != '\0' && value[strspn(value, plain)] == '\0') return text_copy(value, text);
    TRY(memory_new(text, strlen(value) + 1, 4, "sweep")); /* \xNN at most for a byte */
    char *end = *text;
    *end++ = '"';
    for (const char *c = value; *c != '\0'; ++c) {
        if ((unsigned char)*c < ' ') {
            end += sprintf(end, "\\x%02x", (unsigned)*c);
            continue;
        }
        if (*c == '"' || *c == '\\') *end++ = '\\';
        *end++ = *c;
    }
    *end++ = '"';
    return OK;
}

/* A list or a map as an override says it: "[1, 2]", "[{parameters: a, frozen: true}]". */
static Status node_text(const Layer *layer, const YamlNode *node, char **text)
{
    if (node->kind == YAML_SCALAR) return value_text(node->text, text);
    const bool is_map = node->kind == YAML_MAP;
    char *so_far;
    TRY(text_copy(is_map ? "{" : "[", &so_far));
    for (int i = 0; i < node->count; ++i) {
        char *next, *key = NULL, *item = NULL;
        Status status = is_map ? value_text(node->key[i], &key) : OK;
        if (status == OK && !is_map && node->item[i]->kind == YAML_LIST)
            status = fail(STATUS_INPUT, "%s:%d: a list of settings holds plain values or maps, no lists",
                          layer->path != NULL ? layer->path : "command line", node->item[i]->line);
        if (status == OK) status = node_text(layer, node->item[i], &item);
        if (status == OK)
            status = text_format(&next, "%s%s%s%s%s", so_far, i > 0 ? ", " : "", is_map ? key : "",
                                 is_map ? ": " : "", item);
        free(key);
        free(item);
        free(so_far);
        TRY(status);
        so_far = next;
    }
    Status status = text_format(text, "%s%s", so_far, is_map ? "}" : "]");
    free(so_far);
    return status;
}

static Status give_node(Layer *layer, const char *key, const YamlNode *value, int line);

/* {loss: {name: focal}, optimizer.learning_rate: 0.1} as "loss.name=focal", "optimizer.learning_rate=0.1". */
static Status give_map(Layer *layer, const char *prefix, const YamlNode *map)
{
    for (int i = 0; i < map->count; ++i) {
        char *key;
        if (prefix[0] == '\0' && strcmp(map->key[i], "base") == 0) continue;
        TRY(text_format(&key, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", map->key[i]));
        Status status = give_node(layer, key, map->item[i], map->key_line[i]);
        free(key);
        TRY(status);
    }
    return OK;
}

static Status give_node(Layer *layer, const char *key, const YamlNode *value, int line)
{
    char *text;
    if (value->kind == YAML_MAP) return give_map(layer, key, value);
    TRY(node_text(layer, value, &text));
    Status status = give(layer, key, text, line);
    free(text);
    return status;
}

static Status give_settings(const Reader *reader, SweepRun *run, const YamlNode *map)
{
    Layer layer = {.reader = reader, .run = run, .path = reader->path};
    if (map->kind != YAML_MAP)
        return fail(STATUS_INPUT, "%s:%d: settings are a map of keys and values", reader->path, map->line);
    return give_map(&layer, "", map);
}

/* A word is kept as it is, for what is wrong with it to be shown as it was typed; of "loss={name: focal}" each
 * setting is one, since it overrides no other of the group. */
static Status give_word(Layer *layer, const char *word)
{
    const size_t length = strcspn(word, "=");
    YamlNode *node = NULL;
    char *key;
    TRY(text_format(&key, "%.*s", (int)length, word));
    const char *value = word + length + 1;
    Status status = yaml_parse("value", value, strlen(value), &node);
    status_free(status); /* whoever loads the config says so better */
    const bool is_map = node != NULL && node->kind == YAML_MAP && node->count > 0;
    status = is_map ? give_map(layer, key, node) : give(layer, key, value, 0);
    yaml_release(node);
    free(key);
    return status;
}

/* ---- axes ---- */

/* A name becomes part of a path. "-" stands between names; it may be in numbers. */
static Status check_name(const Reader *reader, const char *name, int line)
{
    char *end;
    (void)strtod(name, &end);
    bool good = name[0] != '\0' && name[0] != '.';
    for (const char *c = name; *c != '\0'; ++c)
        good = good && (isalnum((unsigned char)*c) || strchr(*end == '\0' ? "._+-" : "._+", *c) != NULL);
    if (good) return OK;
    return fail(STATUS_INPUT,
                "%s:%d: \"%s\" cannot be part of a run's name: use letters, digits, \".\", \"_\" and \"+\"",
                reader->path, line, name);
}

/* Of an axis that is a list of values the entries are called as they are written. */
static const char *entry_name(const YamlNode *axis, int entry)
{
    return axis->kind == YAML_LIST ? axis->item[entry]->text : axis->key[entry];
}

static Status read_axes(Reader *reader)
{
    const YamlNode *axes = yaml_find(reader->root, "axes");
    if (axes == NULL)
        return fail(STATUS_INPUT, "%s has no axes: give at least one, with one entry a run", reader->path);
    if (axes->kind != YAML_MAP || axes->count == 0)
        return fail(STATUS_INPUT, "%s:%d: axes is a map of axes", reader->path, axes->line);
    if (axes->count > MAX_AXES)
        return fail(STATUS_INPUT, "%s:%d: %d axes; at most %d", reader->path, axes->line, axes->count,
                    MAX_AXES);
    for (int i = 0; i < axes->count; ++i) {
        const YamlNode *axis = axes->item[i];
        if (axis->kind == YAML_SCALAR || axis->count == 0)
            return fail(
                STATUS_INPUT,
                "%s:%d: axis %s is a map of entries, each with its settings, or, named after a setting, "
                "the list of its values",
                reader->path, axes->key_line[i], axes->key[i]);
        for (int k = 0; k < axis->count; ++k) {
            const YamlNode *item = axis->item[k];
            if (axis->kind == YAML_LIST && item->kind != YAML_SCALAR)
                return fail(
                    STATUS_INPUT,
                    "%s:%d: a list of values holds plain ones; for others give %s a map of entries, each "
                    "with its settings",
                    reader->path, item->line, axes->key[i]);
            if (axis->kind == YAML_MAP && item->kind != YAML_MAP)
                return fail(STATUS_INPUT, "%s:%d: entry %s needs its settings as a map", reader->path,
                            axis->key_line[k], axis->key[k]);
            TRY(check_name(reader, entry_name(axis, k),
                           axis->kind == YAML_LIST ? item->line : axis->key_line[k]));
            for (int before = 0; before < k; ++before)
                if (strcmp(entry_name(axis, before), entry_name(axis, k)) == 0)
                    return fail(STATUS_INPUT, "%s:%d: %s has the value %s twice", reader->path, item->line,
                                axes->key[i], entry_name(axis, k));
        }
        reader->axis_name[reader->axis_count] = axes->key[i];
        reader->axis[reader->axis_count++] = axis;
    }
    return OK;
}

/* Does the combination have all the entries that `when` asks for? Unknown axes and entries are errors. */
static Status matches(const Reader *reader, const YamlNode *when, const int choice[], bool *match)
{
    *match = false;
    if (when == NULL || when->kind != YAML_MAP)
        return fail(STATUS_INPUT, "%s:%d: a combination is a map of axis and entry", reader->path,
                    when != NULL ? when->line : 0);
    if (when->count == 0)
        return fail(STATUS_INPUT, "%s:%d: a combination names at least one axis", reader->path, when->line);
    bool all = true;
    for (int i = 0; i < when->count; ++i) {
        int axis = 0, entry = 0;
        while (axis < reader->axis_count && strcmp(reader->axis_name[axis], when->key[i]) != 0)
            ++axis;
        if (axis == reader->axis_count)
            return fail(STATUS_INPUT, "%s:%d: there is no axis %s", reader->path, when->key_line[i],
                        when->key[i]);
        const char *wanted = when->item[i]->kind == YAML_SCALAR ? when->item[i]->text : "";
        while (entry < reader->axis[axis]->count &&
               strcmp(entry_name(reader->axis[axis], entry), wanted) != 0)
            ++entry;
        if (entry == reader->axis[axis]->count)
            return fail(STATUS_INPUT, "%s:%d: axis %s has no entry \"%s\"", reader->path, when->key_line[i],
                        when->key[i], wanted);
        all = all && choice[axis] == entry;
    }
    *match = all;
    return OK;
}

static Status is_excluded(const Reader *reader, const int choice[], bool *excluded)
{
    const YamlNode *list = yaml_find(reader->root, "exclude");
    *excluded = false;
    if (list != NULL && list->kind != YAML_LIST)
        return fail(STATUS_INPUT, "%s:%d: exclude is a list of combinations", reader->path, list->line);
    for (int i = 0; list != NULL && i < list->count; ++i) {
        bool match;
        TRY(matches(reader, list->item[i], choice, &match));
        *excluded = *excluded || match;
    }
    return OK;
}

static Status adjust(const Reader *reader, const int choice[], SweepRun *run)
{
    const YamlNode *list = yaml_find(reader->root, "adjust");
    if (list != NULL && list->kind != YAML_LIST)
        return fail(STATUS_INPUT, "%s:%d: adjust is a list", reader->path, list->line);
    for (int i = 0; list != NULL && i < list->count; ++i) {
        const YamlNode *when = yaml_find(list->item[i], "when"), *set = yaml_find(list->item[i], "set");
        if (when == NULL || set == NULL || list->item[i]->count != 2)
            return fail(STATUS_INPUT, "%s:%d: an adjustment has when: and set:", reader->path,
                        list->item[i]->line);
        bool match;
        TRY(matches(reader, when, choice, &match));
        if (match) TRY(give_settings(reader, run, set));
    }
    return OK;
}

/* The config to start from: of the last axis that names one, else the sweep's. */
static Status find_base(const Reader *reader, const int choice[], char **config)
{
    const YamlNode *base = yaml_find(reader->root, "base");
    for (int a = 0; a < reader->axis_count; ++a) {
        if (reader->axis[a]->kind != YAML_MAP) continue;
        const YamlNode *of_entry = yaml_find(reader->axis[a]->item[choice[a]], "base");
        if (of_entry != NULL) base = of_entry;
    }
    if (base == NULL || base->kind != YAML_SCALAR)
        return fail(STATUS_INPUT,
                    "%s names no base config for some runs: set base: FILE at the top or in an axis",
                    reader->path);
    const char *slash = strrchr(reader->path, '/');
    if (base->text[0] == '/' || slash == NULL) return text_copy(base->text, config);
    return text_format(config, "%.*s/%s", (int)(slash - reader->path), reader->path, base->text);
}

static Status make_run(const Reader *reader, const int choice[], int override_count,
                       const char *const overrides[], SweepRun *run)
{
    const YamlNode *set = yaml_find(reader->root, "set");
    TRY(find_base(reader, choice, &run->config));
    if (set != NULL) TRY(give_settings(reader, run, set));
    for (int a = 0; a < reader->axis_count; ++a) {
        const YamlNode *axis = reader->axis[a];
        const char *name = entry_name(axis, choice[a]), *setting = "";
        if (axis->kind == YAML_LIST) { /* a value says little without the last part of its setting's name */
            const char *dot = strrchr(reader->axis_name[a], '.');
            setting = dot != NULL ? dot + 1 : reader->axis_name[a];
        }
        char *longer;
        TRY(text_format(&longer, "%s%s%s%s", run->name != NULL ? run->name : "", run->name != NULL ? "-" : "",
                        setting, name));
        free(run->name);
        run->name = longer;
        if (axis->kind == YAML_LIST) {
            Layer layer = {.reader = reader, .run = run, .path = reader->path};
            TRY(give(&layer, reader->axis_name[a], name, axis->item[choice[a]]->line));
        } else {
            TRY(give_settings(reader, run, axis->item[choice[a]]));
        }
    }
    TRY(adjust(reader, choice, run));
    Layer words = {.reader = reader, .run = run};
    for (int i = 0; i < override_count; ++i)
        TRY(give_word(&words, overrides[i]));
    return OK;
}

static Status check_keys(const Reader *reader)
{
    static const char *const known[] = {"sweep", "base", "ranks", "set", "axes", "adjust", "exclude"};
    for (int i = 0; i < reader->root->count; ++i) {
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; ++k)
            found = found || strcmp(reader->root->key[i], known[k]) == 0;
        if (!found)
            return fail(STATUS_INPUT,
                        "%s:%d: a sweep has no \"%s\"; it has sweep, base, ranks, set, axes, adjust and "
                        "exclude (settings go under set:)",
                        reader->path, reader->root->key_line[i], reader->root->key[i]);
    }
    return OK;
}

static Status read_plan(Reader *reader, int override_count, const char *const overrides[], SweepPlan *plan)
{
    if (reader->root->kind != YAML_MAP) return fail(STATUS_INPUT, "%s is not a sweep", reader->path);
    TRY(check_keys(reader));
    TRY(read_axes(reader));
    const YamlNode *name = yaml_find(reader->root, "sweep"), *ranks = yaml_find(reader->root, "ranks");
    if (name == NULL || name->kind != YAML_SCALAR)
        return fail(STATUS_INPUT, "%s needs sweep: NAME", reader->path);
    TRY(check_name(reader, name->text, name->line));
    TRY(text_copy(name->text, &plan->name));
    plan->ranks = 1;
    if (ranks != NULL) {
        char *end = NULL;
        const long count = ranks->kind == YAML_SCALAR ? strtol(ranks->text, &end, 10) : 0;
        if (count < 1 || count > INT_MAX || *end != '\0')
            return fail(STATUS_INPUT, "%s:%d: ranks is a whole number from 1", reader->path, ranks->line);
        plan->ranks = (int)count;
    }
    int64_t combinations = 1;
    for (int a = 0; a < reader->axis_count; ++a) {
        combinations *= reader->axis[a]->count;
        if (combinations > MAX_RUNS)
            return fail(STATUS_INPUT, "%s stands for more than %d runs", reader->path, MAX_RUNS);
    }
    TRY(memory_new(&plan->run, (size_t)combinations, sizeof *plan->run, "sweep"));
    for (int64_t combination = 0; combination < combinations; ++combination) {
        int choice[MAX_AXES];
        int64_t rest = combination; /* the last axis turns fastest */
        for (int a = reader->axis_count - 1; a >= 0; --a) {
            choice[a] = (int)(rest % reader->axis[a]->count);
            rest /= reader->axis[a]->count;
        }
        bool excluded;
        TRY(is_excluded(reader, choice, &excluded));
        if (!excluded)
            TRY(make_run(reader, choice, override_count, overrides, &plan->run[plan->run_count++]));
    }
    if (plan->run_count == 0) return fail(STATUS_INPUT, "%s excludes every run", reader->path);
    return OK;
}

Status sweep_plan_load(const char *path, int override_count, const char *const overrides[], SweepPlan *plan)
{
    *plan = (SweepPlan){.name = NULL};
    YamlNode *root;
    TRY(yaml_load(path, &root));
    Status status = text_copy(path, &plan->path);
    Reader reader = {.path = plan->path, .root = root};
    if (status == OK) status = read_plan(&reader, override_count, overrides, plan);
    yaml_release(root);
    if (status != OK) sweep_plan_free(plan);
    return status;
}

void sweep_plan_free(SweepPlan *plan)
{
    for (int i = 0; i < plan->run_count; ++i) {
        for (int k = 0; k < plan->run[i].override_count; ++k)
            free((char *)(uintptr_t)plan->run[i].override[k].word);
        free(plan->run[i].override);
        free(plan->run[i].name);
        free(plan->run[i].config);
    }
    free(plan->run);
    free(plan->name);
    free(plan->path);
    *plan = (SweepPlan){.name = NULL};
}
