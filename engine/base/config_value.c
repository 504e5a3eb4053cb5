#include "engine/base/config_value.h"

#include "engine/base/memory.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Status config_value_error(Origin origin, const char *name, const char *format, ...)
{
    char *message;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&message, format, arguments);
    va_end(arguments);
    if (length < 0) return fail(STATUS_MEMORY, "no memory for a message about %s", name);
    Status status;
    if (origin.file != NULL)
        status = fail(STATUS_INPUT, "%s:%d: %s: %s", origin.file, origin.line, name, message);
    else if (origin.line >= 0)
        status = fail(STATUS_USAGE, "command line: %s: %s", name, message);
    else
        status = fail(STATUS_INTERNAL, "default of %s: %s", name, message);
    free(message);
    return status;
}

void config_value_clear(ConfigValue *value)
{
    free(value->yaml);
    free(value->text);
    free(value->integers);
    free(value->reals);
    for (int i = 0; i < value->count && value->rows != NULL; ++i)
        config_free(value->rows[i]);
    free(value->rows);
    for (int i = 0; i < value->count && value->texts != NULL; ++i)
        free(value->texts[i]);
    free(value->texts);
    memset(value, 0, sizeof *value);
}

/* ---- Checks ---- */

/* A bound of a range is compared in the value's own type, so that 0.1 equals 0.1. */
typedef struct {
    bool is_real;
    int64_t integer;
    double real;
} Number;

/* The sign of value - bound; *end is set behind the bound. */
static int compare(Number value, const char *bound, char **end)
{
    if (value.is_real) {
        const double limit = strtod(bound, end);
        return (value.real > limit) - (value.real < limit);
    }
    const long long limit = strtoll(bound, end, 10);
    return (value.integer > limit) - (value.integer < limit);
}

/* The range syntax of Setting.check. *good is false if the table's text is not of it. */
static bool in_range(const char *check, Number value, bool *good)
{
    const char *at = check;
    bool open = *at == '(', inside = true;
    if (*at == '(' || *at == '[') ++at;
    const char *dots = strstr(at, "..");
    *good = dots != NULL;
    if (!*good) return false;
    char *end;
    if (dots != at) {
        char low[64]; /* "1..5" alone would be read as 1. */
        (void)snprintf(low, sizeof low, "%.*s", (int)(dots - at), at);
        const int order = compare(value, low, &end);
        *good = *end == '\0';
        inside = open ? order > 0 : order >= 0;
    }
    at = dots + 2;
    const size_t length = strlen(at);
    open = length > 0 && at[length - 1] == ')';
    const bool closed = length > 0 && at[length - 1] == ']';
    if (length > (size_t)(open || closed)) {
        const int order = compare(value, at, &end);
        *good = *good && end == at + length - (open || closed);
        inside = inside && (open ? order < 0 : order <= 0);
    }
    return inside;
}

static Status check_number(const Setting *setting, Origin origin, const char *text, Number value)
{
    if (setting->check == NULL) return OK;
    bool good;
    if (in_range(setting->check, value, &good)) return OK;
    if (!good)
        return fail(STATUS_INTERNAL, "the range '%s' of %s is malformed", setting->check, setting->name);
    return config_value_error(origin, setting->name, "%s is outside its range %s", text, setting->check);
}

static Status check_choice(const Setting *setting, Origin origin, const char *text)
{
    if (setting->check == NULL) return OK;
    char copy[1024];
    if ((size_t)snprintf(copy, sizeof copy, "%s", setting->check) >= sizeof copy)
        return fail(STATUS_INTERNAL, "the choices of %s are too many", setting->name);
    enum { MAX_CHOICES = 64 };
    const char *choices[MAX_CHOICES];
    int count = 0;
    char *rest = copy;
    for (const char *choice; count < MAX_CHOICES && (choice = strsep(&rest, "|")) != NULL;) {
        if (strcmp(choice, text) == 0) return OK;
        choices[count++] = choice;
    }
    const char *nearest = config_nearest(text, choices, count);
    if (nearest == NULL)
        return config_value_error(origin, setting->name, "'%s' is not one of %s", text, setting->check);
    return config_value_error(origin, setting->name, "'%s' is not one of %s; did you mean '%s'?", text,
                              setting->check, nearest);
}

/* ---- Reading ---- */

static Status read_integer(const Setting *setting, Origin origin, const char *text, int64_t *value)
{
    const char *digits = text + (*text == '-' || *text == '+');
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return config_value_error(origin, setting->name, "'%s' is not a whole number", text);
    if (errno == ERANGE) return config_value_error(origin, setting->name, "%s is too large", text);
    return check_number(setting, origin, text, (Number){.is_real = false, .integer = *value});
}

static Status read_real(const Setting *setting, Origin origin, const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    /* strtod would also take hexadecimal, "inf" and "nan"; a setting that is not finite is never meant. */
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0' || *end != '\0')
        return config_value_error(origin, setting->name, "'%s' is not a number", text);
    if (!isfinite(*value)) return config_value_error(origin, setting->name, "%s is too large", text);
    return check_number(setting, origin, text, (Number){.is_real = true, .real = *value});
}

/* Is the word one of the spellings, of which there are `count`? */
static bool is_one_of(const char *word, const char *const spellings[], size_t count)
{
    for (size_t i = 0; i < count; ++i)
        if (strcmp(word, spellings[i]) == 0) return true;
    return false;
}

bool config_value_is_flag(const char *text, bool *value)
{
    static const char *const yes[] = {"true", "True", "TRUE"}, *const no[] = {"false", "False", "FALSE"};
    *value = is_one_of(text, yes, 3);
    return *value || is_one_of(text, no, 3);
}

/* Words that YAML 1.1 took for flags and YAML 1.2 takes for texts: who writes one should see which flag is meant. */
static const char *flag_of_yaml_1_1(const char *text)
{
    static const char *const yes[] = {"yes", "on", "y", "1"}, *const no[] = {"no", "off", "n", "0"};
    char word[8];
    size_t length = 0;
    for (; text[length] != '\0'; ++length) {
        if (length + 1 == sizeof word) return NULL;
        word[length] = (char)tolower((unsigned char)text[length]);
    }
    word[length] = '\0';
    if (is_one_of(word, yes, 4)) return "true";
    return is_one_of(word, no, 4) ? "false" : NULL;
}

static Status read_flag(const Setting *setting, Origin origin, const char *text, bool *value)
{
    if (config_value_is_flag(text, value)) return OK;
    const char *meant = flag_of_yaml_1_1(text);
    if (meant == NULL)
        return config_value_error(origin, setting->name, "'%s' is neither true nor false", text);
    return config_value_error(origin, setting->name, "'%s' is neither true nor false; write %s", text, meant);
}

static bool is_list(SettingType type)
{
    return type == SETTING_INTEGERS || type == SETTING_REALS || type == SETTING_ROWS;
}

Status config_value_check_kind(const Setting *setting, Origin origin, const YamlNode *node)
{
    static const char *const kinds[] = {
        [YAML_SCALAR] = "one value", [YAML_LIST] = "a list", [YAML_MAP] = "a map"};
    static const char *const types[] = {
        [SETTING_FLAG] = "true or false",
        [SETTING_INTEGER] = "a whole number",
        [SETTING_REAL] = "a number",
        [SETTING_TEXT] = "a text",
        [SETTING_INTEGERS] = "a list of whole numbers, as [150, 250]",
        [SETTING_REALS] = "a list of numbers, as [0.2, 0.5]",
        [SETTING_TEXTS] = "a text or a list of texts, as [a, b]",
        [SETTING_ROWS] = "a list of maps, as [{key: value}]",
    };
    if (setting->type == SETTING_TEXTS && node->kind != YAML_MAP) return OK;
    if (node->kind == (is_list(setting->type) ? YAML_LIST : YAML_SCALAR)) return OK;
    return config_value_error(origin, setting->name, "must be %s, but %s was given", types[setting->type],
                              kinds[node->kind]);
}

/* ---- Writing ---- */

/* YAML 1.1, as PyYAML reads it, takes 1e-08 for a text: a number with an exponent needs a point. */
static void add_point(char text[32])
{
    char *exponent = strchr(text, 'e');
    if (exponent == NULL || strchr(text, '.') != NULL) return; /* one digit: there is room */
    memmove(exponent + 2, exponent, strlen(exponent) + 1);
    memcpy(exponent, ".0", 2);
}

/* The shortest decimal that reads back to the same bits; whole numbers without an exponent. */
static void print_real(char text[32], double value)
{
    const double all_whole = 1e15; /* and below them %.0f shows no digit that is not there */
    if (value != 0 && fabs(value) < all_whole && value == floor(value)) {
        (void)snprintf(text, 32, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= 17; ++digits) {
        const int length = snprintf(text, 32, "%.*g", digits, value);
        if (length < 32 && strtod(text, NULL) == value) break;
    }
    add_point(text);
}

/* The next code point of valid UTF-8 (libyaml has checked it) and its length. */
static uint32_t code_point(const unsigned char *at, int *length)
{
    *length = at[0] < 0x80 ? 1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    uint32_t point = *length == 1 ? at[0] : at[0] & (0xffU >> (*length + 1));
    for (int i = 1; i < *length; ++i) {
        if ((at[i] & 0xc0U) != 0x80U) { /* not UTF-8 after all: byte by byte, and never past the end */
            *length = 1;
            return at[0];
        }
        point = point << 6 | (at[i] & 0x3fU);
    }
    return point;
}

/* What stands for itself between double quotes: neither controls nor what YAML takes for line ends. */
static bool stands_for_itself(uint32_t point)
{
    if (point == '"' || point == '\\') return false;
    if (point < 0xa0) return point >= ' ' && point <= '~';
    return point != 0x2028 && point != 0x2029 && point != 0xfeff && point != 0xfffe && point != 0xffff;
}

static Status quote(const char *text, char **out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
    if (text[0] != '\0' && strchr(".+-", text[0]) == NULL && text[strspn(text, plain)] == '\0')
        return text_copy(text, out);
    char *quoted;
    TRY(memory_new(&quoted, strlen(text) + 1, 10, "quoted text")); /* \UXXXXXXXX at most for each byte */
    char *end = quoted;
    *end++ = '"';
    int length;
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at += length) {
        const uint32_t point = code_point(at, &length);
        if (stands_for_itself(point)) {
            memcpy(end, at, (size_t)length);
            end += length;
        } else {
            end += sprintf(end, "\\U%08X", point);
        }
    }
    *end++ = '"';
    *end = '\0';
    *out = quoted;
    return OK;
}

static Status print_list(const ConfigValue *value, char **out)
{
    char *text;
    TRY(memory_new(&text, (size_t)value->count + 1, 34, "list of settings"));
    char *end = text;
    *end++ = '[';
    for (int i = 0; i < value->count; ++i) {
        if (i > 0) end = stpcpy(end, ", ");
        char number[32];
        if (value->reals != NULL)
            print_real(number, value->reals[i]);
        else
            (void)snprintf(number, sizeof number, "%lld", (long long)value->integers[i]);
        end = stpcpy(end, number);
    }
    *end++ = ']';
    *end = '\0';
    *out = text;
    return OK;
}

/* A list of one as the text alone. */
static Status print_texts(const ConfigValue *value, char **out)
{
    if (value->count == 1) return quote(value->texts[0], out);
    TRY(text_copy("[", out));
    for (int i = 0; i < value->count; ++i) {
        char *quoted, *longer = NULL;
        Status status = quote(value->texts[i], &quoted);
        if (status == OK) {
            status = text_format(&longer, "%s%s%s", *out, i > 0 ? ", " : "", quoted);
            free(quoted);
        }
        free(*out);
        *out = longer;
        TRY(status);
    }
    char *open = *out;
    const Status status = text_format(out, "%s]", open);
    free(open);
    return status;
}

static Status print_value(SettingType type, ConfigValue *value)
{
    char real[32];
    switch (type) {
    case SETTING_FLAG:
        return text_copy(value->flag ? "true" : "false", &value->yaml);
    case SETTING_INTEGER:
        return text_format(&value->yaml, "%lld", (long long)value->integers[0]);
    case SETTING_REAL:
        print_real(real, value->reals[0]);
        return text_copy(real, &value->yaml);
    case SETTING_TEXT:
        return quote(value->text, &value->yaml);
    case SETTING_TEXTS:
        return print_texts(value, &value->yaml);
    default:
        return print_list(value, &value->yaml);
    }
}

static Status read_items(const Setting *setting, const YamlNode *node, Origin origin, ConfigValue *value)
{
    const bool whole = setting->type == SETTING_INTEGER || setting->type == SETTING_INTEGERS;
    const YamlNode *const one[1] = {node};
    const YamlNode *const *items = one;
    value->count = 1;
    if (is_list(setting->type)) {
        value->count = node->count;
        items = (const YamlNode *const *)node->item;
    }
    if (whole)
        TRY(memory_new(&value->integers, (size_t)value->count, sizeof(int64_t), setting->name));
    else
        TRY(memory_new(&value->reals, (size_t)value->count, sizeof(double), setting->name));
    for (int i = 0; i < value->count; ++i) {
        if (items[i]->kind != YAML_SCALAR)
            return config_value_error(origin, setting->name, "item %d of the list is not a number", i + 1);
        if (whole)
            TRY(read_integer(setting, origin, items[i]->text, &value->integers[i]));
        else
            TRY(read_real(setting, origin, items[i]->text, &value->reals[i]));
    }
    return OK;
}

static Status read_texts(const Setting *setting, const YamlNode *node, Origin origin, ConfigValue *value)
{
    const YamlNode *const one[1] = {node};
    const bool list = node->kind == YAML_LIST;
    const YamlNode *const *items = list ? (const YamlNode *const *)node->item : one;
    const int count = list ? node->count : 1;
    TRY(memory_new(&value->texts, (size_t)count, sizeof *value->texts, setting->name));
    value->count = count;
    for (int i = 0; i < count; ++i) {
        if (items[i]->kind != YAML_SCALAR)
            return config_value_error(origin, setting->name, "item %d of the list is not a text", i + 1);
        TRY(check_choice(setting, origin, items[i]->text));
        TRY(text_copy(items[i]->text, &value->texts[i]));
    }
    return OK;
}

static Status read_value(const Setting *setting, const YamlNode *node, Origin origin, ConfigValue *value)
{
    TRY(config_value_check_kind(setting, origin, node));
    switch (setting->type) {
    case SETTING_FLAG:
        TRY(read_flag(setting, origin, node->text, &value->flag));
        break;
    case SETTING_TEXT:
        TRY(check_choice(setting, origin, node->text));
        TRY(text_copy(node->text, &value->text));
        break;
    case SETTING_TEXTS:
        TRY(read_texts(setting, node, origin, value));
        break;
    default:
        TRY(read_items(setting, node, origin, value));
        break;
    }
    return print_value(setting->type, value);
}

Status config_value_read(const Setting *setting, const YamlNode *node, Origin origin, ConfigValue *value)
{
    ConfigValue read = {.present = true, .origin = origin};
    Status status = read_value(setting, node, origin, &read);
    if (status != OK) {
        config_value_clear(&read);
        return status;
    }
    config_value_clear(value);
    *value = read;
    return OK;
}
