#include "engine/base/config.h"

#include "engine/base/config_value.h"
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/yaml.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { MAX_FILES = 256, MAX_BASES = 32, MAX_KEY = 512, OVERRIDES = 2 * MAX_FILES + 1 /* their layer */ };

struct Config {
    const Setting *table;
    const char **names; /* of the table's rows; in a map of a list of maps the keys */
    int count;
    const char *list; /* whose map this is ("optimizer.groups"); NULL: none, but all settings */
    Origin place;     /* of that map */
    ConfigValue *values;
    ConfigValue *defaults;
    bool *set;  /* by a file or an override */
    int *layer; /* by which: higher ones override lower ones */
    int layers;
    bool *read;   /* asked for; written through a const Config */
    char **files; /* names that origins point to */
    int file_count;
};

/* ---- Names ---- */

static int find(const Config *config, const char *name)
{
    for (int i = 0; i < config->count; ++i)
        if (strcmp(config->names[i], name) == 0) return i;
    return -1;
}

/* "optimizer.groups[].frozen" is a key of the maps of "optimizer.groups", no setting. */
static bool is_key_of_rows(const char *name) { return strstr(name, "[].") != NULL; }

/* The first setting of the group `name`, or -1: "loss" has "loss.name". */
static int find_in_group(const Config *config, const char *name)
{
    const size_t length = strlen(name);
    for (int i = 0; i < config->count; ++i)
        if (strncmp(config->names[i], name, length) == 0 && config->names[i][length] == '.') return i;
    return -1;
}

static Status unknown_key(const Config *config, Origin origin, const char *key)
{
    const char *nearest = config_nearest(key, config->names, config->count);
    if (nearest == NULL)
        return config_value_error(origin, config->list,
                                  "'%s' is no key of its maps (`plumb list settings` shows all)", key);
    return config_value_error(origin, config->list, "'%s' is no key of its maps; did you mean '%s'?", key,
                              nearest);
}

static Status unknown(const Config *config, Origin origin, const char *name)
{
    if (config->list != NULL) return unknown_key(config, origin, name);
    if (is_key_of_rows(name) && find(config, name) >= 0)
        return config_value_error(
            origin, name, "can only be given in a map of the list, as %.*s: [{%s: ...}]",
            (int)(strstr(name, "[].") - name), name, strstr(name, "[].") + strlen("[]."));
    if (strcmp(name, "base") == 0)
        return config_value_error(origin, name, "only a file can name the files that it inherits");
    if (strcmp(name, "sweep") == 0)
        return config_value_error(origin, name, "this describes a sweep; run it with plumb sweep");
    const int member = find_in_group(config, name);
    if (member >= 0)
        return config_value_error(origin, name, "is a group of settings, not one; did you mean '%s'?",
                                  config->names[member]);
    const char *nearest = config_nearest(name, config->names, config->count);
    if (nearest == NULL)
        return config_value_error(origin, name, "unknown setting (`plumb list settings` shows all)");
    return config_value_error(origin, name, "unknown setting; did you mean '%s'?", nearest);
}

/* ---- Applying a tree ---- */

/* What applying one file or override needs to know. */
typedef struct {
    Config *config;
    const char *file;   /* NULL: the command line */
    int *lines;         /* each setting's line in this file, 0: not yet */
    const char **words; /* each setting's word of the command line, NULL: not yet */
    const char *word;   /* of the command line, the one that is applied */
    bool resolved;      /* the file is a resolved config: its defaults are not deliberate */
    int number;
} Layer;

/* "model.name", on which depends what of "model." has a meaning. */
static bool is_choice(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && strcmp(dot, ".name") == 0;
}

/* Has it its default value? */
static bool is_usual(const Config *config, int index)
{
    const ConfigValue *usual = &config->defaults[index];
    return usual->present && strcmp(usual->yaml, config->values[index].yaml) == 0;
}

static Status apply(Layer *layer, const char *name, const YamlNode *node, int line);

static Status apply_map(Layer *layer, const char *prefix, const YamlNode *map, int line)
{
    const bool top = prefix[0] == '\0', whole_file = top && layer->config->list == NULL;
    for (int i = 0; i < map->count; ++i) {
        if (whole_file && (strcmp(map->key[i], "base") == 0 || strcmp(map->key[i], "resolved") == 0))
            continue;
        char name[MAX_KEY];
        /* An override's own lines count from 1; what matters is where it stands. */
        const Origin origin = {layer->file, layer->lines != NULL ? map->key_line[i] : line};
        const int length = snprintf(name, sizeof name, "%s%s%s", prefix, top ? "" : ".", map->key[i]);
        if (length < 0 || length >= MAX_KEY) return unknown(layer->config, origin, name);
        TRY(apply(layer, name, map->item[i], origin.line));
    }
    return OK;
}

/* A setting that one layer gives twice, of which the user means one. */
static Status check_once(const Layer *layer, int index, const char *name, Origin origin)
{
    /* YAML finds a key given twice in one map; this finds `loss: {name: x}` beside `loss.name: y`. */
    if (layer->lines != NULL && layer->lines[index] != 0)
        return config_value_error(origin, name, "was already given in line %d", layer->lines[index]);
    if (layer->words != NULL && layer->words[index] != NULL)
        return config_value_error(origin, name, "is given twice, as %s and as %s", layer->words[index],
                                  layer->word);
    return OK;
}

/* ---- Lists of maps ---- */

/* Whose lines a tree has: those of the file that its origin names, or, in an override, its own, from 1. */
typedef enum { LINES_OF_FILE, LINES_OF_OVERRIDE } TreeLines;

static Status start(Config *config, const Setting table[], int count, size_t prefix);

/* How many rows of the table behind `index` describe the keys of its maps. */
static int count_keys(const Config *config, int index)
{
    const char *list = config->table[index].name;
    const size_t length = strlen(list);
    int count = 0;
    for (int i = index + 1; i < config->count; ++i, ++count)
        if (strncmp(config->table[i].name, list, length) != 0 ||
            strncmp(config->table[i].name + length, "[].", strlen("[].")) != 0)
            break;
    return count;
}

static Status read_row(const Config *config, int index, const YamlNode *map, Origin origin, TreeLines tree,
                       Config **out)
{
    const Setting *setting = &config->table[index];
    const int keys = count_keys(config, index);
    if (map->kind != YAML_MAP)
        return config_value_error(origin, setting->name, "each item of the list is a map, as {key: value}");
    TRY(memory_new(out, 1, sizeof **out, "config"));
    (*out)->list = setting->name;
    (*out)->place = origin;
    TRY(start(*out, setting + 1, keys, strlen(setting->name) + strlen("[].")));
    int *lines = NULL;
    if (tree == LINES_OF_FILE) TRY(memory_new(&lines, (size_t)keys + 1, sizeof *lines, "config"));
    Layer layer = {.config = *out, .file = origin.file, .lines = lines};
    Status status = apply_map(&layer, "", map, origin.line);
    free(lines);
    return status;
}

/* "[{parameters: x, frozen: true}, {parameters: y}]": what is set, in the table's order. */
static Status print_rows(ConfigValue *value)
{
    size_t size = 3;
    for (int r = 0; r < value->count; ++r) {
        const Config *row = value->rows[r];
        size += 4;
        for (int i = 0; i < row->count; ++i)
            if (row->set[i]) size += strlen(row->names[i]) + strlen(row->values[i].yaml) + 4;
    }
    TRY(memory_new(&value->yaml, size, 1, "list of settings"));
    char *end = stpcpy(value->yaml, "[");
    for (int r = 0; r < value->count; ++r) {
        const Config *row = value->rows[r];
        const char *between = "";
        end = stpcpy(end, r > 0 ? ", {" : "{");
        for (int i = 0; i < row->count; ++i) {
            if (!row->set[i]) continue;
            end += sprintf(end, "%s%s: %s", between, row->names[i], row->values[i].yaml);
            between = ", ";
        }
        end = stpcpy(end, "}");
    }
    (void)stpcpy(end, "]");
    return OK;
}

/* As config_value_read, for a list of maps. */
static Status read_rows(const Config *config, int index, const YamlNode *node, Origin origin, TreeLines tree,
                        ConfigValue *value)
{
    ConfigValue read = {.present = true, .origin = origin};
    TRY(config_value_check_kind(&config->table[index], origin, node));
    Status status;
    TRY_ELSE(failed, memory_new(&read.rows, (size_t)node->count + 1, sizeof(Config *), "list of settings"));
    for (; read.count < node->count;) {
        const YamlNode *item = node->item[read.count];
        const Origin at = {origin.file, tree == LINES_OF_FILE ? item->line : origin.line};
        TRY_ELSE(failed, read_row(config, index, item, at, tree, &read.rows[read.count++]));
    }
    TRY_ELSE(failed, print_rows(&read));
    config_value_clear(value);
    *value = read;
    return OK;
failed:
    config_value_clear(&read);
    return status;
}

static Status read_setting(const Config *config, int index, const YamlNode *node, Origin origin,
                           TreeLines tree, ConfigValue *value)
{
    if (config->table[index].type == SETTING_ROWS) return read_rows(config, index, node, origin, tree, value);
    return config_value_read(&config->table[index], node, origin, value);
}

static Status apply(Layer *layer, const char *name, const YamlNode *node, int line)
{
    Config *config = layer->config;
    const Origin origin = {layer->file, line};
    const int index = is_key_of_rows(name) ? -1 : find(config, name);
    if (index < 0) {
        if (node->kind == YAML_MAP && (node->count > 0 || find_in_group(config, name) >= 0))
            return apply_map(layer, name, node, line);
        return unknown(config, origin, name);
    }
    TRY(check_once(layer, index, name, origin));
    if (layer->lines != NULL) layer->lines[index] = line;
    if (layer->words != NULL) layer->words[index] = layer->word;
    ConfigValue *value = &config->values[index];
    const TreeLines tree = layer->lines != NULL ? LINES_OF_FILE : LINES_OF_OVERRIDE;
    TRY(read_setting(config, index, node, origin, tree, value));
    /* What a resolved config says of choices that were overridden had passed the check when it was written. */
    config->layer[index] = layer->number - (layer->resolved && !is_choice(name) ? 1 : 0);
    config->set[index] = !(layer->resolved && is_usual(config, index));
    return OK;
}

/* ---- Files and their bases ---- */

/* The files being read, innermost first. */
typedef struct Chain {
    const char *path;    /* as the user knows it */
    char real[PATH_MAX]; /* to tell cycles whatever the spelling */
    const struct Chain *parent;
    int depth;
} Chain;

static Status load_file(Config *config, const char *path, const Chain *parent);

static Status cycle_error(Origin origin, const Chain *from, const Chain *to, const char *again)
{
    char *text = NULL;
    TRY(text_copy(again, &text));
    for (const Chain *link = from;; link = link->parent) {
        char *longer;
        Status status = text_format(&longer, "%s -> %s", link->path, text);
        free(text);
        TRY(status);
        text = longer;
        if (link == to) break;
    }
    Status status =
        config_value_error(origin, "base", "the files inherit from each other in a circle: %s", text);
    free(text);
    return status;
}

static Status load_base(Config *config, const YamlNode *node, const Chain *chain)
{
    const Origin origin = {chain->path, node->line};
    if (node->kind != YAML_SCALAR || node->text[0] == '\0')
        return config_value_error(origin, "base", "must be the name of a file or a list of such names");
    char folder[PATH_MAX], path[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(chain->path, '/');
    (void)snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - chain->path) + 1 : 0,
                   chain->path);
    TRY(file_join(path, folder, node->text));
    if (realpath(path, real) == NULL)
        return config_value_error(origin, "base", "cannot open %s: %s", path, strerror(errno));
    for (const Chain *link = chain; link != NULL; link = link->parent)
        if (strcmp(link->real, real) == 0) return cycle_error(origin, chain, link, path);
    if (chain->depth == MAX_BASES)
        return config_value_error(origin, "base", "more than %d files deep", MAX_BASES);
    return load_file(config, path, chain);
}

static Status load_bases(Config *config, const YamlNode *root, const Chain *chain)
{
    const YamlNode *base = yaml_find(root, "base");
    if (base == NULL) return OK;
    if (base->kind != YAML_LIST) return load_base(config, base, chain);
    for (int i = 0; i < base->count; ++i)
        TRY(load_base(config, base->item[i], chain));
    return OK;
}

static Status apply_file(Config *config, const YamlNode *root, const Chain *chain)
{
    if (root->kind != YAML_MAP)
        return fail(STATUS_INPUT, "%s:%d: a config is a map of settings (`name: value` lines)", chain->path,
                    root->line);
    TRY(load_bases(config, root, chain));
    Layer layer = {.config = config, .file = chain->path, .number = config->layers += 2};
    const YamlNode *resolved = yaml_find(root, "resolved");
    if (resolved != NULL) {
        bool is_resolved = false;
        if (resolved->kind != YAML_SCALAR || !config_value_is_flag(resolved->text, &is_resolved) ||
            !is_resolved)
            return config_value_error((Origin){chain->path, resolved->line}, "resolved",
                                      "is a mark of resolved configs; it can only be true");
        layer.resolved = true;
    }
    TRY(memory_new(&layer.lines, (size_t)config->count, sizeof *layer.lines, "config"));
    Status status = apply_map(&layer, "", root, root->line);
    free(layer.lines);
    return status;
}

static Status load_file(Config *config, const char *path, const Chain *parent)
{
    if (config->file_count == MAX_FILES)
        return fail(STATUS_INPUT, "%s: more than %d files are inherited", path, MAX_FILES);
    TRY(text_copy(path, &config->files[config->file_count]));
    Chain *chain;
    TRY(memory_new(&chain, 1, sizeof *chain, "config"));
    chain->path = config->files[config->file_count++];
    chain->parent = parent;
    chain->depth = parent != NULL ? parent->depth + 1 : 0;
    YamlNode *root = NULL;
    Status status = yaml_load(path, &root);
    /* A pipe such as the shell's <(...) has no real path, and cannot be inherited in a circle either. */
    if (status == OK && realpath(path, chain->real) == NULL) chain->real[0] = '\0';
    if (status == OK) status = apply_file(config, root, chain);
    yaml_release(root);
    free(chain);
    return status;
}

/* ---- Overrides and defaults ---- */

/* The value of an override or default as a tree. What YAML sees no value in ("", "# 1") is a text. */
static Status parse_value(const char *text, YamlNode **node)
{
    TRY(yaml_parse("value", text, strlen(text), node));
    if ((*node)->kind != YAML_MAP || (*node)->count > 0 || text[strspn(text, " ")] == '{') return OK;
    (*node)->kind = YAML_SCALAR;
    return text_copy(text, &(*node)->text);
}

/* Where a mistake in an override's form is. */
static Status form_error(const ConfigOverride *given, const char *problem)
{
    if (given->file != NULL)
        return fail(STATUS_INPUT, "%s:%d: %s %s", given->file, given->line, given->word, problem);
    return fail(STATUS_USAGE, "command line: '%s' %s", given->word, problem);
}

static Status read_override(const ConfigOverride *given, const char *value, YamlNode **node)
{
    Status status = parse_value(value, node);
    if (status == OK || status_code(status) != STATUS_INPUT) return status;
    char *problem;
    Status made = text_format(&problem, "is not YAML: %s (quote it?)", status_message(status));
    status_free(status);
    TRY(made);
    status = form_error(given, problem);
    free(problem);
    return status;
}

/* words: of the command line so far, each setting's. */
static Status apply_override(Config *config, const ConfigOverride *given, const char **words)
{
    const char *equals = strchr(given->word, '=');
    if (equals == NULL || equals == given->word) return form_error(given, "is not key=value");
    char name[MAX_KEY];
    const Origin origin = {given->file, given->file != NULL ? given->line : 0};
    const int length = snprintf(name, sizeof name, "%.*s", (int)(equals - given->word), given->word);
    if (length < 0 || length >= MAX_KEY) return unknown(config, origin, name);
    Layer layer = {.config = config,
                   .file = given->file,
                   .words = given->file == NULL ? words : NULL,
                   .word = given->word,
                   .number = OVERRIDES};
    YamlNode *node = NULL;
    Status status = read_override(given, equals + 1, &node);
    if (status == OK) status = apply(&layer, name, node, origin.line);
    yaml_release(node);
    return status;
}

static Status apply_overrides(Config *config, int count, const ConfigOverride overrides[])
{
    const char **words;
    TRY(memory_new(&words, (size_t)config->count, sizeof *words, "config"));
    Status status = OK;
    for (int i = 0; i < count && status == OK; ++i)
        status = apply_override(config, &overrides[i], words);
    free(words);
    return status;
}

static Status read_default(Config *config, int index)
{
    const Setting *setting = &config->table[index];
    if (setting->default_value == NULL) return OK;
    YamlNode *node = NULL;
    Status status = parse_value(setting->default_value, &node);
    const Origin origin = {NULL, -1};
    if (status == OK)
        status = read_setting(config, index, node, origin, LINES_OF_OVERRIDE, &config->defaults[index]);
    if (status == OK)
        status = read_setting(config, index, node, origin, LINES_OF_OVERRIDE, &config->values[index]);
    yaml_release(node);
    return status;
}

/* Everything at its default. prefix: of the table's names, that keys do not have. */
static Status start(Config *config, const Setting table[], int rows, size_t prefix)
{
    const size_t count = (size_t)rows;
    config->table = table;
    config->count = rows;
    TRY(memory_new(&config->names, count, sizeof *config->names, "config"));
    TRY(memory_new(&config->values, count, sizeof *config->values, "config"));
    TRY(memory_new(&config->defaults, count, sizeof *config->defaults, "config"));
    TRY(memory_new(&config->set, count, sizeof *config->set, "config"));
    TRY(memory_new(&config->layer, count, sizeof *config->layer, "config"));
    TRY(memory_new(&config->read, count, sizeof *config->read, "config"));
    for (int i = 0; i < config->count; ++i)
        config->names[i] = config->table[i].name + prefix;
    for (int i = 0; i < config->count; ++i)
        TRY(read_default(config, i));
    return OK;
}

static Status load(Config *config, const Setting table[], int count, const char *path, int override_count,
                   const ConfigOverride overrides[])
{
    TRY(start(config, table, count, 0));
    TRY(memory_new(&config->files, MAX_FILES, sizeof *config->files, "config"));
    if (path != NULL) TRY(load_file(config, path, NULL));
    return apply_overrides(config, override_count, overrides);
}

Status config_load(const Setting table[], int count, const char *path, int override_count,
                   const char *const overrides[], Config **out)
{
    ConfigOverride *given;
    *out = NULL;
    TRY(memory_new(&given, (size_t)override_count, sizeof *given, "config"));
    for (int i = 0; i < override_count; ++i)
        given[i].word = overrides[i];
    Status status = config_load_with(table, count, path, override_count, given, out);
    free(given);
    return status;
}

Status config_load_with(const Setting table[], int count, const char *path, int override_count,
                        const ConfigOverride overrides[], Config **out)
{
    *out = NULL;
    Config *config;
    TRY(memory_new(&config, 1, sizeof *config, "config"));
    Status status = load(config, table, count, path, override_count, overrides);
    if (status != OK) {
        config_free(config);
        return status;
    }
    *out = config;
    return OK;
}

void config_free(Config *config)
{
    if (config == NULL) return;
    for (int i = 0; i < config->count; ++i) {
        if (config->values != NULL) config_value_clear(&config->values[i]);
        if (config->defaults != NULL) config_value_clear(&config->defaults[i]);
    }
    for (int i = 0; i < config->file_count; ++i)
        free(config->files[i]);
    free(config->names);
    free(config->values);
    free(config->defaults);
    free(config->set);
    free(config->layer);
    free(config->read);
    free(config->files);
    free(config);
}

/* ---- Asking ---- */

static int find_or_abort(const Config *config, const char *name)
{
    const int index = find(config, name);
    if (index >= 0) return index;
    (void)fprintf(stderr, "defect: the setting %s is not in the table\n", name);
    abort();
}

static const ConfigValue *value_of(const Config *config, const char *name, SettingType type)
{
    const int index = find_or_abort(config, name);
    const char *defect = NULL;
    if (config->table[index].type != type)
        defect = "was asked for as another type";
    else if (!config->values[index].present)
        defect = "has no value and was not required";
    if (defect != NULL) {
        (void)fprintf(stderr, "defect: the setting %s %s\n", name, defect);
        abort();
    }
    config->read[index] = true;
    return &config->values[index];
}

bool config_flag(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_FLAG)->flag;
}

int64_t config_integer(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_INTEGER)->integers[0];
}

double config_real(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_REAL)->reals[0];
}

const char *config_text(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_TEXT)->text;
}

int config_integers(const Config *config, const char *name, const int64_t **values)
{
    const ConfigValue *value = value_of(config, name, SETTING_INTEGERS);
    *values = value->integers;
    return value->count;
}

int config_reals(const Config *config, const char *name, const double **values)
{
    const ConfigValue *value = value_of(config, name, SETTING_REALS);
    *values = value->reals;
    return value->count;
}

int config_rows(const Config *config, const char *name)
{
    return value_of(config, name, SETTING_ROWS)->count;
}

const Config *config_row(const Config *config, const char *name, int row)
{
    return value_of(config, name, SETTING_ROWS)->rows[row];
}

bool config_is_set(const Config *config, const char *name)
{
    const int index = find_or_abort(config, name);
    config->read[index] = true;
    return config->set[index];
}

Status config_require(const Config *config, const char *const names[])
{
    for (int i = 0; names[i] != NULL; ++i) {
        const int index = find_or_abort(config, names[i]);
        if (config->values[index].present) continue;
        if (config->list != NULL)
            return config_error(config, names[i], "must be given (%s)", config->table[index].help);
        return fail(STATUS_INPUT,
                    "%s has no value: write `%s: ...` into %s or add %s=... to the command line (%s)",
                    names[i], names[i], config->file_count > 0 ? config->files[0] : "a config file", names[i],
                    config->table[index].help);
    }
    return OK;
}

Status config_error(const Config *config, const char *name, const char *format, ...)
{
    char *message;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&message, format, arguments);
    va_end(arguments);
    if (length < 0) return fail(STATUS_MEMORY, "no memory for a message about %s", name);
    const int index = find_or_abort(config, name);
    const char *full = config->table[index].name;
    const bool is_default = config->list != NULL && !config->set[index];
    const Origin origin = is_default ? config->place : config->values[index].origin;
    Status status;
    if (origin.file != NULL)
        status = fail(STATUS_INPUT, "%s:%d: %s: %s", origin.file, origin.line, full, message);
    else
        status = fail(STATUS_INPUT, "%s%s: %s", full, origin.line < 0 ? " (its default)" : " (command line)",
                      message);
    free(message);
    return status;
}

/* Was the choice that it belongs to ("model.name" of "model.width") made by a later layer, for which this one
 * could not know? */
static bool is_of_choice_before(const Config *config, int index)
{
    const char *name = config->names[index], *dot = strrchr(name, '.');
    for (int i = 0; dot != NULL && i < config->count; ++i)
        if (is_choice(config->names[i]) && strncmp(config->names[i], name, (size_t)(dot - name) + 1) == 0)
            return config->layer[i] > config->layer[index];
    return false;
}

Status config_check_all_read(const Config *config)
{
    for (int i = 0; i < config->count; ++i)
        if (config->set[i] && !config->read[i] && !is_of_choice_before(config, i))
            return config_error(config, config->names[i],
                                "is set, but nothing uses it in this configuration");
    for (int i = 0; i < config->count; ++i)
        for (int r = 0; r < config->values[i].count && config->values[i].rows != NULL; ++r)
            TRY(config_check_all_read(config->values[i].rows[r]));
    return OK;
}

/* ---- Writing ---- */

static bool among(const char *name, const char *const names[])
{
    for (int i = 0; names != NULL && names[i] != NULL; ++i)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

/* Numbers as they were hashed before they had a point before their exponent: checkpoints hold such hashes. */
static char *copy_for_hash(char *to, const char *yaml, SettingType type)
{
    const bool numbers = type == SETTING_REAL || type == SETTING_REALS;
    for (; *yaml != '\0'; ++yaml) {
        if (numbers && strncmp(yaml, ".0e", 3) == 0) yaml += 2;
        *to++ = *yaml;
    }
    return to;
}

/* for_hash: without what is usual. */
static Status write_resolved(const Config *config, const char *const except[], bool for_hash, char **yaml)
{
    static const char mark[] = "resolved: true\n";
    size_t size = sizeof mark;
    for (int i = 0; i < config->count; ++i)
        if (config->values[i].present) size += strlen(config->names[i]) + strlen(config->values[i].yaml) + 3;
    char *text;
    TRY(memory_new(&text, size, 1, "resolved config"));
    char *end = stpcpy(text, mark);
    for (int i = 0; i < config->count; ++i)
        if (config->values[i].present && !is_key_of_rows(config->names[i]) &&
            !among(config->names[i], except) && !(for_hash && is_usual(config, i))) {
            end += sprintf(end, "%s: ", config->names[i]);
            end = for_hash ? copy_for_hash(end, config->values[i].yaml, config->table[i].type)
                           : stpcpy(end, config->values[i].yaml);
            end = stpcpy(end, "\n");
        }
    *yaml = text;
    return OK;
}

Status config_resolved(const Config *config, char **yaml)
{
    *yaml = NULL;
    return write_resolved(config, NULL, false, yaml);
}

Status config_hash(const Config *config, const char *const except[], uint64_t *hash)
{
    char *text;
    TRY(write_resolved(config, except, true, &text));
    *hash = XXH3_64bits(text, strlen(text));
    free(text);
    return OK;
}
