#include "launch/options.h"

#include "engine/base/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 64 };

typedef struct {
    const Option *option;
    int count;
    const char *command;
    bool seen[MAX_OPTIONS];
} Parser;

/* name: without its dashes, `length` characters of what may go on with "=VALUE". */
static int find(const Parser *parser, const char *name, size_t length)
{
    for (int i = 0; i < parser->count; ++i)
        if (strncmp(parser->option[i].name, name, length) == 0 && parser->option[i].name[length] == '\0')
            return i;
    return -1;
}

static Status unknown(const Parser *parser, const char *word, size_t length)
{
    const char *known[MAX_OPTIONS];
    char name[64] = "";
    for (int i = 0; i < parser->count; ++i)
        known[i] = parser->option[i].name;
    const size_t dashes = strspn(word, "-");
    if (length > dashes && length - dashes < sizeof name) memcpy(name, word + dashes, length - dashes);
    const char *nearest = config_nearest(name, known, parser->count);
    if (nearest != NULL)
        return fail(STATUS_USAGE, "plumb %s does not know %.*s; did you mean --%s? (see plumb %s --help)",
                    parser->command, (int)length, word, nearest, parser->command);
    return fail(STATUS_USAGE, "plumb %s does not know %.*s (see plumb %s --help)", parser->command,
                (int)length, word, parser->command);
}

static Status read_number(const Option *option, const char *text)
{
    char *end;
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    if (*end == '\0' && errno == 0 && number >= option->low && number <= option->high) {
        *option->number = number;
        return OK;
    }
    if (option->high == INT64_MAX)
        return fail(STATUS_USAGE, "--%s takes a whole number from %lld, not '%s'", option->name,
                    (long long)option->low, text);
    return fail(STATUS_USAGE, "--%s takes a whole number from %lld to %lld, not '%s'", option->name,
                (long long)option->low, (long long)option->high, text);
}

/* value: behind "=", NULL if there is none; next: the word after, NULL if there is none. *took: the next word
 * is the value. */
static Status read_option(const Parser *parser, const Option *option, const char *value, const char *next,
                          bool *took)
{
    *took = false;
    if (option->flag != NULL) {
        if (value != NULL) return fail(STATUS_USAGE, "--%s takes no value, but has %s", option->name, value);
        *option->flag = true;
        return OK;
    }
    /* What looks like the next option is hardly meant as this one's value; behind "=" anything is. */
    if (value == NULL && next != NULL && strncmp(next, "--", 2) != 0) {
        value = next;
        *took = true;
    }
    if (value == NULL || value[0] == '\0')
        return fail(STATUS_USAGE, "--%s needs %s (see plumb %s --help)", option->name,
                    option->takes != NULL ? option->takes : "a number", parser->command);
    if (option->number != NULL) return read_number(option, value);
    if (option->list != NULL)
        option->list->value[option->list->count++] = value;
    else
        *option->text = value;
    return OK;
}

Status options_parse(const Option options[], int count, int argc, char **argv, const char *words[],
                     int *word_count)
{
    Parser parser = {.option = options, .count = count, .command = argv[0]};
    bool ended = false;
    *word_count = 0;
    if (count > MAX_OPTIONS) return fail(STATUS_INTERNAL, "plumb %s has too many options", argv[0]);
    for (int i = 1; i < argc; ++i) {
        const char *word = argv[i], *equals = strchr(word, '=');
        if (ended || word[0] != '-' || word[1] == '\0') {
            words[(*word_count)++] = word;
            continue;
        }
        ended = strcmp(word, "--") == 0;
        if (ended) continue;
        const size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
        const int index = length > 2 && word[1] == '-' ? find(&parser, word + 2, length - 2) : -1;
        if (index < 0) return unknown(&parser, word, length);
        if (parser.seen[index] && options[index].list == NULL)
            return fail(STATUS_USAGE, "--%s is given twice", options[index].name);
        parser.seen[index] = true;
        bool took;
        TRY(read_option(&parser, &options[index], equals != NULL ? equals + 1 : NULL,
                        i + 1 < argc ? argv[i + 1] : NULL, &took));
        i += took;
    }
    return OK;
}

Status options_file_and_settings(const char *command, const char *what, const char *words[], int *count,
                                 const char **file)
{
    int settings = 0;
    *file = NULL;
    for (int i = 0; i < *count; ++i) {
        if (strchr(words[i], '=') != NULL) {
            words[settings++] = words[i];
        } else if (*file == NULL) {
            *file = words[i];
        } else {
            return fail(STATUS_USAGE, "plumb %s takes one %s, not both %s and %s", command, what, *file,
                        words[i]);
        }
    }
    *count = settings;
    if (*file == NULL)
        return fail(STATUS_USAGE, "plumb %s needs a %s (see plumb %s --help)", command, what, command);
    return OK;
}
