/* The suggestion of error messages: "did you mean ...?" */
#include "engine/base/config.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>

enum { MAX_NAME = 128 };

static int smaller(int a, int b) { return a < b ? a : b; }

/* Damerau-Levenshtein distance (insertions, deletions, substitutions and swaps of neighbours). */
static int distance(const char *a, const char *b)
{
    const int m = (int)strnlen(a, MAX_NAME + 1), n = (int)strnlen(b, MAX_NAME + 1);
    if (m > MAX_NAME || n > MAX_NAME) return 2 * MAX_NAME;
    int rows[3][MAX_NAME + 1];
    int *before = rows[0], *last = rows[1], *row = rows[2];
    for (int j = 0; j <= n; ++j) {
        before[j] = 0;
        last[j] = j;
    }
    for (int i = 1; i <= m; ++i) {
        row[0] = i;
        for (int j = 1; j <= n; ++j) {
            const int best = smaller(smaller(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            row[j] = swapped ? smaller(best, before[j - 2] + 1) : best;
        }
        int *reused = before;
        before = last;
        last = row;
        row = reused;
    }
    return last[n];
}

const char *config_nearest(const char *name, const char *const known[], int count)
{
    /* A third of the letters may be wrong. */
    const int limit = (int)(strnlen(name, MAX_NAME) + 2) / 3;
    int best = limit + 1;
    const char *nearest = NULL;
    for (int i = 0; i < count; ++i) {
        int far = distance(name, known[i]);
        /* Who left out the group ("learning_rate") is helped too. */
        const char *dot = strrchr(known[i], '.');
        if (dot != NULL && strchr(name, '.') == NULL) far = smaller(far, distance(name, dot + 1));
        if (far >= best) continue;
        best = far;
        nearest = known[i];
    }
    return nearest;
}

Status config_pattern_fits(const char *pattern, const char *const names[], int count)
{
    for (int i = 0; i < count; ++i)
        if (fnmatch(pattern, names[i], 0) == 0) return OK;
    const char *nearest = config_nearest(pattern, names, count);
    if (nearest != NULL)
        return fail(STATUS_INPUT, "%s fits no parameter of this network; the nearest is %s", pattern,
                    nearest);
    return fail(STATUS_INPUT, "%s fits no parameter of this network; the first is %s", pattern,
                count > 0 ? names[0] : "none");
}

Status config_choose(const Config *config, const char *setting, const char *what, const char *listing,
                     const char *const known[], int count, int *index)
{
    const char *name = config_text(config, setting);
    for (*index = 0; *index < count; ++*index)
        if (strcmp(known[*index], name) == 0) return OK;
    const char *nearest = config_nearest(name, known, count);
    if (nearest != NULL)
        return config_error(config, setting, "there is no %s '%s'; did you mean '%s'?", what, name, nearest);
    return config_error(config, setting, "there is no %s '%s'; see: %s", what, name, listing);
}
