#include "launch/report/gnuplot.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "launch/report/html.h"

#include <errno.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the child process ---- */

/* The user's environment, but numbers are written and read with a point. */
static Status make_environment(char ***environment)
{
    enum { EXTRA = 3 };
    static char numbers[] = "LC_ALL=C.UTF-8", no_pager[] = "PAGER=cat";
    size_t count = 0, used = 0;
    while (environ[count] != NULL)
        ++count;
    TRY(memory_new(environment, count + EXTRA, sizeof **environment, "environment of gnuplot"));
    for (size_t i = 0; i < count; ++i)
        if (strncmp(environ[i], "LC_", 3) != 0 && strncmp(environ[i], "GNUPLOT", 7) != 0)
            (*environment)[used++] = environ[i];
    (*environment)[used++] = numbers;
    (*environment)[used] = no_pager;
    return OK;
}

/* Files, not pipes: nothing can fill up and block while the other side is not reading. */
static Status run_gnuplot(FILE *script, FILE *output, FILE *errors, int *code)
{
    char program[] = "gnuplot", defaults[] = "-d"; /* -d: not the user's own settings */
    char *words[] = {program, defaults, NULL}, **environment;
    posix_spawn_file_actions_t actions;
    pid_t process;
    TRY(make_environment(&environment));
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure != 0) {
        free(environment);
        return fail(STATUS_MEMORY, "no memory to start gnuplot");
    }
    failure = posix_spawn_file_actions_adddup2(&actions, fileno(script), STDIN_FILENO);
    if (failure == 0) failure = posix_spawn_file_actions_adddup2(&actions, fileno(output), STDOUT_FILENO);
    if (failure == 0) failure = posix_spawn_file_actions_adddup2(&actions, fileno(errors), STDERR_FILENO);
    if (failure == 0) failure = posix_spawnp(&process, program, &actions, NULL, words, environment);
    (void)posix_spawn_file_actions_destroy(&actions);
    free(environment);
    if (failure == ENOENT)
        return fail(STATUS_UNSUPPORTED, "the report's figures need gnuplot, which is not installed: "
                                        "apt-get install gnuplot-nox");
    if (failure != 0) return fail(STATUS_IO, "cannot start gnuplot: %s", strerror(failure));
    while (waitpid(process, code, 0) < 0)
        if (errno != EINTR) return fail(STATUS_IO, "waiting for gnuplot: %s", strerror(errno));
    return OK;
}

static Status slurp(FILE *file, char **text)
{
    if (fseek(file, 0, SEEK_END) != 0) return fail(STATUS_IO, "temporary file: %s", strerror(errno));
    const long size = ftell(file);
    if (size < 0) return fail(STATUS_IO, "temporary file: %s", strerror(errno));
    rewind(file);
    TRY(memory_new(text, (size_t)size + 1, 1, "figure"));
    if (fread(*text, 1, (size_t)size, file) == (size_t)size) return OK;
    free(*text);
    return fail(STATUS_IO, "temporary file: cut short");
}

static Status draw(const char *script, int width, int height, char **svg)
{
    FILE *in = tmpfile(), *out = tmpfile(), *errors = tmpfile();
    char *words = NULL;
    int code = 0;
    Status status = OK;
    if (in == NULL || out == NULL || errors == NULL)
        TRY_ELSE(done, fail(STATUS_IO, "cannot make a temporary file for gnuplot: %s", strerror(errno)));
    (void)fprintf(in,
                  "set terminal svg size %d,%d dynamic noenhanced font 'sans-serif,11'\n"
                  "set encoding utf8\n%s",
                  width, height, script);
    if (fflush(in) != 0 || ferror(in) != 0 || lseek(fileno(in), 0, SEEK_SET) != 0)
        TRY_ELSE(done, fail(STATUS_IO, "cannot write a temporary file for gnuplot: %s", strerror(errno)));
    TRY_ELSE(done, run_gnuplot(in, out, errors, &code));
    if (code != 0) {
        TRY_ELSE(done, slurp(errors, &words));
        status = WIFEXITED(code) && WEXITSTATUS(code) == 127
                     ? fail(STATUS_UNSUPPORTED, "gnuplot could not be started: apt-get install gnuplot-nox")
                     : fail(STATUS_INTERNAL, "gnuplot does not draw the figure: %s", words);
        goto done;
    }
    TRY_ELSE(done, slurp(out, svg));
done:
    free(words);
    if (in != NULL) (void)fclose(in);
    if (out != NULL) (void)fclose(out);
    if (errors != NULL) (void)fclose(errors);
    return status;
}

/* ---- from gnuplot's file to a part of a page ---- */

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* rgb(  1,   0,   2) of the colours above. */
static const char *page_colour(int red, int green, int blue, char buffer[32])
{
    static const char *const name[] = {
        [1] = "ink", [2] = "muted", [3] = "grid", [4] = "over", [5] = "under", [6] = "page"};
    if (red != 1) return NULL;
    if (green == 0 && blue >= 1 && blue < (int)(sizeof name / sizeof name[0]))
        (void)snprintf(buffer, 32, "var(--%s)", name[blue]);
    else if (green == 1 && blue < GNUPLOT_RUNS)
        (void)snprintf(buffer, 32, "var(--run-%d)", blue);
    else
        return NULL;
    return buffer;
}

static const char *after_space(const char *at) { return at + strspn(at, " \t\r\n"); }

/* The end of an element at `at` that draws nothing: an empty group, the shapes of points that nobody uses.
 * Without these a figure is half as long. */
static const char *skip_idle(const char *at)
{
    if (begins(at, "<g ")) {
        const char *open = strchr(at, '>');
        if (open == NULL) return NULL;
        open = after_space(open + 1);
        return begins(open, "</g>") ? open + strlen("</g>") : NULL;
    }
    if (begins(at, "<defs>") && strstr(at, "id='gpDot'") != NULL) {
        const char *end = strstr(at, "</defs>");
        if (end == NULL || strstr(end, "#gp") != NULL) return NULL;
        return end + strlen("</defs>");
    }
    return NULL;
}

/* What stands at `at` and must not stay as it is: writes its replacement, returns the end of what it
 * replaces; NULL if it is to be copied. */
static const char *replace(FILE *page, const char *at, const char *id)
{
    static const char *const dropped[][2] = {
        {"<title>", "</title>"}, {"<desc>", "</desc>"}, {"<filter ", "</filter>"}};
    static const char *const references[] = {" id='", " id=\"", "href='#", "href=\"#", "url(#"};
    const char *idle = skip_idle(at);
    if (idle != NULL) return after_space(idle);
    for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; ++i) {
        if (!begins(at, dropped[i][0])) continue;
        const char *end = strstr(at, dropped[i][1]);
        return end != NULL ? end + strlen(dropped[i][1]) : NULL;
    }
    for (size_t i = 0; i < sizeof references / sizeof references[0]; ++i) {
        if (!begins(at, references[i])) continue;
        (void)fprintf(page, "%s%s-", references[i], id);
        return at + strlen(references[i]);
    }
    int red, green, blue, length = 0;
    char colour[32];
    if (begins(at, "rgb(") && sscanf(at, "rgb(%d,%d,%d)%n", &red, &green, &blue, &length) == 3 &&
        length > 0 && page_colour(red, green, blue, colour) != NULL) {
        (void)fputs(colour, page);
        return at + length;
    }
    return NULL;
}

static Status embed(const char *svg, int width, int height, const char *id, const char *label,
                    char **page_text)
{
    size_t size;
    const char *body = strstr(svg, "<svg");
    if (body != NULL) body = strchr(body, '>');
    if (body == NULL) return fail(STATUS_INTERNAL, "gnuplot drew nothing for %s", id);
    FILE *page = open_memstream(page_text, &size);
    if (page == NULL) return fail(STATUS_MEMORY, "no memory for a figure");
    (void)fprintf(page, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width, height);
    html_text(page, label);
    (void)fputs("\">", page);
    for (const char *at = body + 1; *at != '\0';) {
        const char *next = replace(page, at, id);
        if (next == NULL) {
            /* Indentation and empty lines are half of what gnuplot writes. */
            if (*at == '\n')
                while (at[1] == '\n' || at[1] == '\t' || at[1] == ' ')
                    ++at;
            (void)fputc(*at == '\t' ? ' ' : *at, page);
            next = at + 1;
        }
        at = next;
    }
    const bool whole = ferror(page) == 0;
    if (fclose(page) == 0 && whole) return OK;
    free(*page_text);
    return fail(STATUS_MEMORY, "no memory for a figure");
}

Status gnuplot_svg(const char *script, int width, int height, const char *id, const char *label, char **svg)
{
    char *drawn;
    TRY(draw(script, width, height, &drawn));
    Status status = embed(drawn, width, height, id, label, svg);
    free(drawn);
    return status;
}
