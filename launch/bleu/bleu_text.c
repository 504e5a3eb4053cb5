#include "launch/bleu/bleu_text.h"

#include "engine/base/memory.h"
#include "nlp/bleu/characters.h"
#include "nlp/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Texts that grow ---- */

Status report_put(ReportText *text, const char *data, size_t size)
{
    TRY(memory_grow(&text->data, &text->room, text->size + size + 1, 1, "a report"));
    if (size > 0) memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
    return OK;
}

Status report_say(ReportText *text, const char *what) { return report_put(text, what, strlen(what)); }

Status report_repeat(ReportText *text, const char *what, size_t times)
{
    for (size_t i = 0; i < times; ++i)
        TRY(report_say(text, what));
    return OK;
}

Status report_say_and_free(ReportText *text, char *what)
{
    Status status = report_say(text, what);
    free(what);
    return status;
}

/* ---- Python's ways to write ---- */

void python_repr(double value, char text[40])
{
    if (!isfinite(value)) {
        (void)snprintf(text, 40, "%s", isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
        return;
    }
    int digits = 1;
    for (; digits <= 17; ++digits) {
        (void)snprintf(text, 40, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value) break;
    }
    const char *e = strchr(text, 'e');
    const int exponent = e != NULL ? atoi(e + 1) : 0;
    if (exponent < -4 || exponent >= 16) return; /* %e has at least two digits there, as repr */
    const int decimals = digits - 1 - exponent;
    (void)snprintf(text, 40, "%.*f", decimals > 1 ? decimals : 1, value);
}

Status report_say_json(ReportText *text, const char *what, bool ascii)
{
    const char *end = what + strlen(what);
    size_t bytes;
    TRY(report_say(text, "\""));
    for (const char *at = what; at < end; at += bytes) {
        uint32_t code = character_at(at, end, &bytes);
        char escaped[16] = "";
        static const char named[] = "\"\\\n\r\t\b\f", names[] = "\"\\nrtbf";
        const char *name = code < 0x80 ? strchr(named, (int)code) : NULL;
        if (bytes == 1 && code >= 0x80) code = 0xDC00 + code; /* no UTF-8: as Python has such a file's name */
        if (name != NULL)
            (void)snprintf(escaped, sizeof escaped, "\\%c", names[name - named]);
        else if (code < 0x20 || (ascii && code >= 0x7F && code < 0x10000))
            (void)snprintf(escaped, sizeof escaped, "\\u%04x", code);
        else if (ascii && code >= 0x10000)
            (void)snprintf(escaped, sizeof escaped, "\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10),
                           0xDC00 + ((code - 0x10000) & 0x3FF));
        TRY(escaped[0] != '\0' ? report_say(text, escaped) : report_put(text, at, bytes));
    }
    return report_say(text, "\"");
}

/* ---- Colours, on a terminal only ---- */

bool report_has_colours(const BleuArguments *arguments)
{
    return arguments->colours && isatty(STDOUT_FILENO);
}

Status report_coloured(const BleuArguments *arguments, Colour colour, const char *text, char **out)
{
    if (!report_has_colours(arguments)) return text_copy(text, out);
    return text_format(out, "\033[%dm%s\033[0m", (int)colour, text);
}

size_t report_seen_width(const char *text, size_t size)
{
    size_t width = 0;
    for (size_t i = 0; i < size;) {
        if (text[i] == '\033') {
            while (i < size && text[i++] != 'm') {}
            continue;
        }
        width += utf8_characters(text + i++, 1);
    }
    return width;
}
