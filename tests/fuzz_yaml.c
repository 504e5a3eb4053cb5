/* libFuzzer: any bytes as a YAML file, as a config, and as an override; what a config accepts must come back
 * the same from its resolved text. */
#include "engine/base/config.h"
#include "engine/base/file.h"
#include "engine/base/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const Setting table[] = {
    {"a", SETTING_INTEGER, "1", "0..", ""},    {"b", SETTING_REAL, "0.5", "(0..1]", ""},
    {"c.d", SETTING_TEXT, "", NULL, ""},       {"c.e", SETTING_TEXT, "x", "x|y|zebra", ""},
    {"c.f.g", SETTING_FLAG, "true", NULL, ""}, {"l", SETTING_INTEGERS, "[]", "..9", ""},
    {"m", SETTING_REALS, "[1]", NULL, ""},     {"r", SETTING_ROWS, "[]", NULL, ""},
    {"r[].n", SETTING_REAL, NULL, "0..", ""},  {"r[].t", SETTING_TEXT, "", NULL, ""},
    {"r[].f", SETTING_FLAG, "true", NULL, ""}, {"r[].l", SETTING_INTEGERS, "[]", NULL, ""},
    {"x", SETTING_TEXTS, "u", NULL, ""},
};
enum { COUNT = sizeof table / sizeof *table };

/* The resolved text, or NULL for an error, which must be one of the user's. */
static char *resolve(const char *path, int override_count, const char *const overrides[])
{
    Config *config;
    char *text = NULL;
    Status status = config_load(table, COUNT, path, override_count, overrides, &config);
    if (status == OK) status = config_resolved(config, &text);
    if (status == OK) config_free(config);
    if (status != OK && status_code(status) != STATUS_INPUT && status_code(status) != STATUS_USAGE &&
        status_code(status) != STATUS_IO)
        abort();
    status_free(status);
    return text;
}

/* A file in memory that has a path. */
static void put(int descriptor, const void *data, size_t size)
{
    if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, data, size, 0) != (ssize_t)size) abort();
}

static void check(int descriptor, const char *path, char *text)
{
    if (text == NULL) return;
    put(descriptor, text, strlen(text));
    char *again = resolve(path, 0, NULL);
    if (again == NULL || strcmp(text, again) != 0) abort();
    free(again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    YamlNode *root;
    Status status = yaml_parse("fuzz", (const char *)data, size, &root);
    if (status != OK && status_code(status) != STATUS_INPUT) abort();
    status_free(status);
    yaml_release(root);

    static int descriptor = -1;
    static char path[64];
    if (descriptor < 0) {
        descriptor = memfd_create("fuzz", 0);
        if (descriptor < 0) abort();
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    }
    put(descriptor, data, size);
    check(descriptor, path, resolve(path, 0, NULL));

    char *word = malloc(size + 1);
    if (word == NULL) abort();
    memcpy(word, data, size);
    word[size] = '\0';
    const char *const overrides[1] = {word};
    check(descriptor, path, resolve(NULL, 1, overrides));
    free(word);
    return 0;
}
