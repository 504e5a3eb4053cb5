#include "engine/base/file.h"
#include "engine/data/images/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PLACES = 8 };

static Status not_found(const Home *home, const char *folder, char places[][PATH_MAX], int place_count)
{
    char list[MOST_PLACES * 256];
    size_t used = 0;
    list[0] = '\0';
    for (int i = 0; i < place_count && used < sizeof list; ++i)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", places[i]);
    char package[128] = "";
    if (home->package != NULL)
        (void)snprintf(package, sizeof package, ", install the package %s", home->package);
    return fail(
        STATUS_INPUT,
        "%s: there is no %s in %s\nrun launch/get_data.sh %s%s%s%s, or set dataset.folder to where its "
        "files are",
        home->name, home->mark[0], list, home->name, folder[0] != '\0' ? " " : "", folder, package);
}

/* Adds `place` if there is room; the tables of homes are far smaller. */
static Status add_place(char places[][PATH_MAX], int *count, const char *folder, const char *inside)
{
    if (*count == MOST_PLACES) return fail(STATUS_INTERNAL, "more than %d places to look in", MOST_PLACES);
    if (inside == NULL) {
        const int length = snprintf(places[*count], PATH_MAX, "%s", folder);
        if (length < 0 || length >= PATH_MAX)
            return fail(STATUS_INPUT, "dataset.folder: longer than %d characters", PATH_MAX - 1);
    } else {
        TRY(file_join(places[*count], folder, inside));
    }
    ++*count;
    return OK;
}

/* A folder, then the folders inside it that the archive makes. */
static Status add_places(const Home *home, char places[][PATH_MAX], int *count, const char *folder)
{
    TRY(add_place(places, count, folder, NULL));
    for (const char *const *inside = home->inside; *inside != NULL; ++inside)
        TRY(add_place(places, count, folder, *inside));
    return OK;
}

Status home_find(const Home *home, const char *folder, char found[PATH_MAX])
{
    char places[MOST_PLACES][PATH_MAX];
    int count = 0;
    if (folder == NULL) folder = "";
    if (folder[0] != '\0') {
        TRY(add_places(home, places, &count, folder));
    } else {
        char usual[PATH_MAX];
        TRY(file_join(usual, "data", home->name));
        TRY(add_places(home, places, &count, usual));
        for (const char *const *other = home->distribution; *other != NULL; ++other)
            TRY(add_place(places, &count, *other, NULL));
    }
    for (int i = 0; i < count; ++i) {
        for (const char *const *mark = home->mark; *mark != NULL; ++mark) {
            char path[PATH_MAX];
            TRY(file_join(path, places[i], *mark));
            if (!file_exists(path)) continue;
            memcpy(found, places[i], PATH_MAX);
            return OK;
        }
    }
    return not_found(home, folder, places, count);
}

Status home_missing(const Home *home, const char *folder, const char *file)
{
    return fail(STATUS_INPUT, "%s: %s is missing from %s\nlaunch/get_data.sh %s fetches the whole set",
                home->name, file, folder, home->name);
}

Status home_read(const Home *home, const char *folder, const char *file, size_t limit, char path[PATH_MAX],
                 char **data, size_t *size)
{
    *data = NULL;
    *size = 0;
    TRY(file_join(path, folder, file));
    if (!file_exists(path)) return home_missing(home, folder, file);
    TRY(file_read(path, limit, data, size));
    if (*size > 0) return OK;
    free(*data);
    *data = NULL;
    return fail(STATUS_INPUT, "%s: the file is empty", path);
}
