#include "engine/ops/cudnn/engine_cache.h"

#include "engine/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static bool make_folder(const char *path) { return mkdir(path, 0777) == 0 || errno == EEXIST; }

static bool find_path(char path[4096])
{
    const char *own = getenv("PLUMB_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[4000];
    if (own != NULL && own[0] != '\0') {
        (void)snprintf(folder, sizeof folder, "%s", own);
    } else if (xdg != NULL && xdg[0] != '\0') {
        (void)snprintf(folder, sizeof folder, "%s/plumb", xdg);
    } else if (home != NULL && home[0] != '\0') {
        (void)snprintf(folder, sizeof folder, "%s/.cache", home);
        (void)make_folder(folder);
        (void)snprintf(folder, sizeof folder, "%.3900s/.cache/plumb", home);
    } else {
        return false;
    }
    (void)snprintf(path, 4096, "%s/convolutions.txt", folder);
    return make_folder(folder);
}

bool engine_cache_open(EngineCache *cache)
{
    static bool warned;
    cache->file = find_path(cache->path) ? fopen(cache->path, "a+e") : NULL;
    if (cache->file == NULL && !warned) {
        log_warning("no cache of convolutions (set PLUMB_CACHE to a folder): engines are timed anew");
        warned = true;
    }
    return cache->file != NULL;
}

void engine_cache_close(EngineCache *cache) { (void)fclose(cache->file); }

/* The index in "key<TAB>index\n", two digits, so that a torn line is none; -1: the line is not of that form. Ends
 * the key there. */
static int parse_line(char *line)
{
    char *tab = strrchr(line, '\t'), *end;
    if (tab == NULL || tab[1] < '0' || tab[1] > '9') return -1;
    const long index = strtol(tab + 1, &end, 10);
    *tab = '\0';
    return end == tab + 3 && *end == '\n' && end[1] == '\0' && index < ENGINE_MOST ? (int)index : -1;
}

int engine_cache_look_up(EngineCache *cache, const char *key)
{
    static bool warned;
    char line[ENGINE_KEY_BYTES + 32];
    int found = -1, number = 0;
    rewind(cache->file);
    while (fgets(line, sizeof line, cache->file) != NULL) {
        const bool whole = strchr(line, '\n') != NULL; /* else it may be on its way */
        const int index = parse_line(line);
        ++number;
        if (index >= 0 && strcmp(line, key) == 0) found = index;
        if (index >= 0 || !whole || warned) continue;
        log_warning("%s:%d: passed over: not a choice of an engine", cache->path, number);
        warned = true;
    }
    return found;
}

void engine_cache_lock(EngineCache *cache) { (void)flock(fileno(cache->file), LOCK_EX); }

void engine_cache_unlock(EngineCache *cache) { (void)flock(fileno(cache->file), LOCK_UN); }

/* A line of its own, also after a torn one. */
void engine_cache_note(EngineCache *cache, const char *key, int index)
{
    const bool torn = fseek(cache->file, -1, SEEK_END) == 0 && fgetc(cache->file) != '\n';
    (void)fseek(cache->file, 0, SEEK_END);
    (void)fprintf(cache->file, "%s%s\t%02d\n", torn ? "\n" : "", key, index);
    (void)fflush(cache->file);
}
