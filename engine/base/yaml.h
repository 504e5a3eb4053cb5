/* A YAML document as a tree that remembers its lines (libyaml parses; we keep what configs need). */
#ifndef PLUMB_ENGINE_BASE_YAML_H
#define PLUMB_ENGINE_BASE_YAML_H

#include "engine/base/status.h"

typedef enum { YAML_SCALAR, YAML_LIST, YAML_MAP } YamlKind;

typedef struct YamlNode {
    YamlKind kind;
    int line;   /* from 1 */
    char *text; /* scalar: its text; else NULL */
    int count;  /* items of a list, pairs of a map */
    char **key; /* map: count keys */
    int *key_line;
    struct YamlNode **item; /* list: items; map: values */
} YamlNode;

/* A byte order mark of UTF-8 is skipped. STATUS_INPUT names file and line: syntax, anchors, aliases and tags (not supported), nesting deeper than
 * 32, duplicate keys (both lines), more than one document. An empty document is an empty map. */
CHECKED Status yaml_load(const char *path, YamlNode **);
CHECKED Status yaml_parse(const char *name, const char *text, size_t size, YamlNode **);
/* NULL is allowed. (Not yaml_free: libyaml exports a function of that name for its own use.) */
void yaml_release(YamlNode *);
const YamlNode *yaml_find(const YamlNode *map, const char *key); /* NULL if absent or not a map */

#endif
