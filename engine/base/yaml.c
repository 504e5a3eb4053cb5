#include "engine/base/yaml.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_DEPTH = 32, MAX_FILE = 16 << 20 };

typedef struct {
    yaml_parser_t parser;
    const char *name; /* for messages */
} Reader;

static int line_of(const yaml_event_t *event) { return (int)event->start_mark.line + 1; }

static Status at_line(const Reader *reader, int line, const char *what)
{
    return fail(STATUS_INPUT, "%s:%d: %s", reader->name, line, what);
}

/* The next event; the caller deletes it. */
static Status next(Reader *reader, yaml_event_t *event)
{
    if (yaml_parser_parse(&reader->parser, event)) return OK;
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be parsed";
    switch (parser->error) {
    case YAML_MEMORY_ERROR:
        return fail(STATUS_MEMORY, "%s: no memory to parse it", reader->name);
    case YAML_READER_ERROR: /* the bytes are no text; lines are not counted yet */
        return fail(STATUS_INPUT, "%s: %s (at byte %zu)", reader->name, problem, parser->problem_offset);
    default:
        break;
    }
    const int line = (int)parser->problem_mark.line + 1;
    if (parser->context == NULL) return at_line(reader, line, problem);
    return fail(STATUS_INPUT, "%s:%d: %s %s", reader->name, line, problem, parser->context);
}

static Status check_plain(const Reader *reader, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return at_line(reader, line_of(event), "aliases (*name) are not supported");
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor, tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor, tag = event->data.sequence_start.tag;
        break;
    default:
        anchor = event->data.mapping_start.anchor, tag = event->data.mapping_start.tag;
        break;
    }
    if (anchor != NULL) return at_line(reader, line_of(event), "anchors (&name) are not supported");
    if (tag != NULL) return at_line(reader, line_of(event), "tags (!name) are not supported");
    return OK;
}

static Status copy_scalar(const Reader *reader, const yaml_event_t *event, char **text)
{
    const char *value = (const char *)event->data.scalar.value;
    const size_t length = event->data.scalar.length;
    if (memchr(value, '\0', length) != NULL)
        return at_line(reader, line_of(event), "the character \\0 is not supported");
    return text_copy(value, text);
}

static Status read_node(Reader *reader, const yaml_event_t *event, int depth, YamlNode **out);

static Status read_list(Reader *reader, int depth, YamlNode *list)
{
    size_t capacity = 0;
    for (;;) {
        yaml_event_t event;
        TRY(next(reader, &event));
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return OK;
        }
        /* The slot is counted before it is filled: whoever releases the root finds all that was read. */
        Status status =
            memory_grow(&list->item, &capacity, (size_t)list->count + 1, sizeof(YamlNode *), "YAML list");
        if (status == OK) status = read_node(reader, &event, depth + 1, &list->item[list->count++]);
        yaml_event_delete(&event);
        TRY(status);
    }
}

static Status read_pair(Reader *reader, const yaml_event_t *key, int depth, YamlNode *map)
{
    if (key->type != YAML_SCALAR_EVENT) return at_line(reader, line_of(key), "a key must be a plain text");
    TRY(check_plain(reader, key));
    const int at = map->count++;
    map->key_line[at] = line_of(key);
    TRY(copy_scalar(reader, key, &map->key[at]));
    yaml_event_t value;
    TRY(next(reader, &value));
    Status status = read_node(reader, &value, depth + 1, &map->item[at]);
    yaml_event_delete(&value);
    return status;
}

static int compare_keys(const void *a, const void *b, void *context)
{
    const YamlNode *map = context;
    const int left = *(const int *)a, right = *(const int *)b;
    const int order = strcmp(map->key[left], map->key[right]);
    return order != 0 ? order : left - right;
}

/* By sorting: a hostile file may have very many keys. */
static Status check_duplicates(const Reader *reader, YamlNode *map)
{
    if (map->count < 2) return OK;
    int *order;
    TRY(memory_new(&order, (size_t)map->count, sizeof *order, "YAML keys"));
    for (int i = 0; i < map->count; ++i)
        order[i] = i;
    qsort_r(order, (size_t)map->count, sizeof *order, compare_keys, map);
    Status status = OK;
    for (int i = 1; i < map->count && status == OK; ++i)
        if (strcmp(map->key[order[i - 1]], map->key[order[i]]) == 0)
            status = fail(STATUS_INPUT, "%s:%d: '%s' was already given in line %d", reader->name,
                          map->key_line[order[i]], map->key[order[i]], map->key_line[order[i - 1]]);
    free(order);
    return status;
}

static Status read_map(Reader *reader, int depth, YamlNode *map)
{
    size_t key_capacity = 0, line_capacity = 0, item_capacity = 0;
    for (;;) {
        yaml_event_t event;
        TRY(next(reader, &event));
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return check_duplicates(reader, map);
        }
        const size_t needed = (size_t)map->count + 1;
        Status status = memory_grow(&map->key, &key_capacity, needed, sizeof(char *), "YAML map");
        if (status == OK)
            status = memory_grow(&map->key_line, &line_capacity, needed, sizeof(int), "YAML map");
        if (status == OK)
            status = memory_grow(&map->item, &item_capacity, needed, sizeof(YamlNode *), "YAML map");
        if (status == OK) status = read_pair(reader, &event, depth, map);
        yaml_event_delete(&event);
        TRY(status);
    }
}

static Status read_node(Reader *reader, const yaml_event_t *event, int depth, YamlNode **out)
{
    TRY(check_plain(reader, event));
    if (depth > MAX_DEPTH) return at_line(reader, line_of(event), "nested deeper than 32 levels");
    YamlNode *node;
    TRY(memory_new(&node, 1, sizeof *node, "YAML node"));
    *out = node;
    node->line = line_of(event);
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        node->kind = YAML_SCALAR;
        return copy_scalar(reader, event, &node->text);
    case YAML_SEQUENCE_START_EVENT:
        node->kind = YAML_LIST;
        return read_list(reader, depth, node);
    default:
        node->kind = YAML_MAP;
        return read_map(reader, depth, node);
    }
}

static bool is_nothing(const yaml_event_t *event)
{
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0 &&
           event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && event->data.scalar.tag == NULL &&
           event->data.scalar.anchor == NULL;
}

/* Events: stream start, [document start, node, document end], stream end. */
static Status read_stream(Reader *reader, YamlNode **root)
{
    yaml_event_t event;
    bool document = false;
    for (;;) {
        TRY(next(reader, &event));
        Status status = OK;
        const bool end = event.type == YAML_STREAM_END_EVENT;
        switch (event.type) {
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
        case YAML_STREAM_END_EVENT:
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (document)
                status = at_line(reader, line_of(&event), "more than one document is not supported");
            document = true;
            break;
        default:
            if (!is_nothing(&event)) status = read_node(reader, &event, 1, root);
            break;
        }
        yaml_event_delete(&event);
        TRY(status);
        if (end) break;
    }
    if (*root != NULL) return OK;
    TRY(memory_new(root, 1, sizeof **root, "YAML node"));
    (*root)->kind = YAML_MAP;
    (*root)->line = 1;
    return OK;
}

/* Editors on Windows offer this as "Unicode". */
static bool is_utf16(const char *text, size_t size)
{
    return size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0);
}

Status yaml_parse(const char *name, const char *text, size_t size, YamlNode **out)
{
    *out = NULL;
    if (is_utf16(text, size))
        return fail(STATUS_INPUT, "%s: the text is in UTF-16; save the file in UTF-8", name);
    const size_t mark = text_mark_bytes(text, size);
    text += mark, size -= mark;
    Reader reader = {.name = name};
    if (!yaml_parser_initialize(&reader.parser))
        return fail(STATUS_MEMORY, "%s: no memory to parse it", name);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
    YamlNode *root = NULL;
    Status status = read_stream(&reader, &root);
    yaml_parser_delete(&reader.parser);
    if (status != OK) {
        yaml_release(root);
        return status;
    }
    *out = root;
    return OK;
}

Status yaml_load(const char *path, YamlNode **out)
{
    *out = NULL;
    char *text;
    size_t size;
    TRY(file_read(path, MAX_FILE, &text, &size));
    Status status = yaml_parse(path, text, size, out);
    free(text);
    return status;
}

void yaml_release(YamlNode *node)
{
    if (node == NULL) return;
    for (int i = 0; i < node->count; ++i) {
        if (node->key != NULL) free(node->key[i]);
        yaml_release(node->item[i]);
    }
    free(node->text);
    free(node->key);
    free(node->key_line);
    free(node->item);
    free(node);
}

const YamlNode *yaml_find(const YamlNode *map, const char *key)
{
    if (map == NULL || map->kind != YAML_MAP) return NULL;
    for (int i = 0; i < map->count; ++i)
        if (strcmp(map->key[i], key) == 0) return map->item[i];
    return NULL;
}
