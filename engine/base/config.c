/* Reading a config: its table, files with their bases, and overrides. */
#include "engine/base/config_internal.h"
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/yaml.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 256, MAX_BASES = 32, MAX_KEY = 512, OVERRIDES = 2 * MAX_FILES + 1 /* their layer */ };

/* ---- Names ---- */

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
    if (config_is_key_of_rows(name) && config_find(config, name) >= 0)
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
    const int index = config_is_key_of_rows(name) ? -1 : config_find(config, name);
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
    config->layer[index] = layer->number - (layer->resolved && !config_is_choice(name) ? 1 : 0);
    config->set[index] = !(layer->resolved && config_is_usual(config, index));
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
    /* A character that begins no plain text of YAML; the shell takes the outer quotes away. */
    const bool special = given->file == NULL && strchr("*&!%@`", value[0]) != NULL;
    Status made = special
                      ? text_format(&problem, "is not YAML: %s (quote it: %.*s'\"%s\"')",
                                    status_message(status), (int)(value - given->word), given->word, value)
                      : text_format(&problem, "is not YAML: %s (quote it?)", status_message(status));
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
