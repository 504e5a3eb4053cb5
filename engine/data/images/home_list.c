/* What is in a folder of images. */
#include "engine/base/file.h"
#include "engine/data/images/image_file.h"
#include "engine/data/images/reader.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEEPEST = 16 }; /* folders in folders: links may go round in circles */

typedef bool Wanted(const char *path, const char *name, const struct stat *);

/* Names in one folder of which `wanted` is true, as paths in `folder`. */
static Status list(const char *folder, const char *inside, Wanted *wanted, NameList *names)
{
    char path[PATH_MAX], inner[PATH_MAX];
    TRY(inside[0] != '\0' ? file_join(path, folder, inside) : file_join(path, "", folder));
    DIR *stream = opendir(path);
    if (stream == NULL) return fail(STATUS_INPUT, "cannot list the folder %s: %s", path, strerror(errno));
    Status status = OK;
    const struct dirent *entry;
    while (status == OK && (entry = readdir(stream)) != NULL) {
        struct stat about;
        if (entry->d_name[0] == '.') continue;
        const char *name = entry->d_name;
        if (inside[0] != '\0') {
            status = file_join(inner, inside, entry->d_name);
            name = inner;
        }
        if (status == OK) status = file_join(path, folder, name);
        if (status == OK && stat(path, &about) == 0 && wanted(path, entry->d_name, &about))
            status = name_list_append(names, name, strlen(name));
    }
    (void)closedir(stream);
    return status;
}

static bool is_folder(const char *path, const char *name, const struct stat *about)
{
    (void)path;
    (void)name;
    return S_ISDIR(about->st_mode);
}

static bool is_image(const char *path, const char *name, const struct stat *about)
{
    (void)path;
    return S_ISREG(about->st_mode) && image_file_name(name);
}

Status home_list_folders(const char *folder, const char *inside, NameList *names)
{
    NameList found = {.name = NULL};
    Status status = list(folder, inside, is_folder, &found);
    name_list_sort(&found);
    for (int64_t i = 0; i < found.count && status == OK; ++i)
        status = name_list_append(names, found.name[i], strlen(found.name[i]));
    name_list_free(&found);
    return status;
}

static Status walk(const char *folder, const char *inside, int depth, NameList *names)
{
    if (depth > DEEPEST)
        return fail(STATUS_INPUT, "%s/%s: more than %d folders in one another", folder, inside, DEEPEST);
    TRY(list(folder, inside, is_image, names));
    NameList folders = {.name = NULL};
    Status status = list(folder, inside, is_folder, &folders);
    for (int64_t i = 0; i < folders.count && status == OK; ++i)
        status = walk(folder, folders.name[i], depth + 1, names);
    name_list_free(&folders);
    return status;
}

Status home_list_images(const char *folder, const char *inside, NameList *names)
{
    NameList found = {.name = NULL};
    Status status = walk(folder, inside, 0, &found);
    name_list_sort(&found);
    for (int64_t i = 0; i < found.count && status == OK; ++i)
        status = name_list_append(names, found.name[i], strlen(found.name[i]));
    name_list_free(&found);
    return status;
}
