#include "comm/star/rendezvous.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_HOSTS = sizeof((StarAddress *)NULL)->host / sizeof((StarAddress *)NULL)->host[0] };

static Status failed(const char *what, const char *path)
{
    return fail(STATUS_IO,
                "%s, through which the ranks find one another (PLUMB_RENDEZVOUS), cannot be %s: %s", path,
                what, strerror(errno));
}

Status rendezvous_write(const char *path, const StarAddress *address)
{
    char temporary[PATH_MAX], text[2048];
    int length = snprintf(text, sizeof text, "plumb-rendezvous-1 %016" PRIx64 " %016" PRIx64 " %" PRId32 "\n",
                          address->secret[0], address->secret[1], address->port);
    for (int i = 0; i < address->hosts; ++i)
        length += snprintf(text + length, sizeof text - (size_t)length, "%s\n", address->host[i]);
    length += snprintf(text + length, sizeof text - (size_t)length, "end\n");
    if (snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid()) >= (int)sizeof temporary)
        return fail(STATUS_USAGE, "the path %s is too long", path);
    const int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return failed("written", temporary);
    const bool written = write(file, text, (size_t)length) == length && fsync(file) == 0;
    if (close(file) != 0 || !written || rename(temporary, path) != 0) {
        const Status status = failed("written", path);
        (void)unlink(temporary);
        return status;
    }
    return OK;
}

/* A file system over the network may remember for a while that a file was not there, until its folder is
 * read. */
static void refresh(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    (void)snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - path) + 1 : 1,
                   slash != NULL ? path : ".");
    DIR *entries = opendir(folder);
    if (entries == NULL) return;
    while (readdir(entries) != NULL)
        continue;
    (void)closedir(entries);
}

static bool parse(char *text, StarAddress *address)
{
    char *rest = NULL, *line = strtok_r(text, "\n", &rest);
    if (line == NULL ||
        sscanf(line, "plumb-rendezvous-1 %16" SCNx64 " %16" SCNx64 " %" SCNd32, &address->secret[0],
               &address->secret[1], &address->port) != 3 ||
        address->port <= 0 || address->port > 65535)
        return false;
    while ((line = strtok_r(NULL, "\n", &rest)) != NULL) {
        if (strcmp(line, "end") == 0) return address->hosts > 0;
        if (address->hosts == MOST_HOSTS || strlen(line) >= sizeof address->host[0]) return false;
        memcpy(address->host[address->hosts++], line, strlen(line) + 1);
    }
    return false;
}

Status rendezvous_read(const char *path, StarAddress *address)
{
    char text[4096];
    *address = (StarAddress){.port = 0};
    refresh(path);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return failed("read", path);
    const ssize_t length = read(file, text, sizeof text - 1);
    (void)close(file);
    text[length > 0 ? length : 0] = '\0';
    if (!parse(text, address))
        return fail(STATUS_INPUT, "%s, through which the ranks find one another, is not rank 0's", path);
    return OK;
}

void rendezvous_remove(const char *path) { (void)unlink(path); }
