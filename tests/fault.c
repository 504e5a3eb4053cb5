/* Preloaded into plumb (LD_PRELOAD), makes one file operation go wrong at an exact moment, which no timing of
 * signals could hit. The environment says what:
 *
 *     FAULT=ACTION:N         at the Nth operation that changes a file below FAULT_FOLDER
 *         kill:N             the process dies of SIGKILL before it
 *         tear:N             the same, but half of what a write was given is written first
 *         signal:N           the process gets SIGTERM before it, and goes on
 *         full:N             this and all later writes fail: no space left on the device
 *         count:0            nothing goes wrong; the number of operations is left in FAULT_COUNT
 *     FAULT=deny:0           files below FAULT_FOLDER cannot be opened
 *     FAULT=begun:0          the process gets SIGTERM when it has made another, and goes on
 *     FAULT=orphan:0         the parent of a process that asks for a signal at its parent's death dies before that
 *     FAULT_RANK=R           only in rank R
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    char action[16];
    long moment;
    const char *folder;
} Fault;

static const Fault *the_fault(void)
{
    static Fault fault;
    static bool read_already;
    if (read_already) return &fault;
    const char *text = getenv("FAULT"), *folder = getenv("FAULT_FOLDER"), *rank = getenv("FAULT_RANK");
    const char *ours = getenv("OMPI_COMM_WORLD_RANK");
    const char *program = program_invocation_short_name;
    const bool meant = rank == NULL || strcmp(rank, ours != NULL ? ours : "0") == 0;
    if (text != NULL && folder != NULL && meant && strcmp(program, "plumb") == 0 &&
        sscanf(text, "%15[a-z]:%ld", fault.action, &fault.moment) == 2)
        fault.folder = folder;
    read_already = true;
    return &fault;
}

static bool is_action(const char *action) { return strcmp(the_fault()->action, action) == 0; }

static bool is_below(const char *path)
{
    const char *folder = the_fault()->folder;
    return folder != NULL && path != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

static bool descriptor_is_below(int descriptor)
{
    char link[64], path[PATH_MAX];
    if (the_fault()->folder == NULL) return false;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return false;
    path[length] = '\0';
    return is_below(path);
}

static void count_operation(long operations)
{
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    if (file == NULL) return;
    (void)fprintf(file, "%ld\n", operations);
    (void)fclose(file);
}

/* Is this operation, on a file below the folder, the one? The files of a run are written by one thread. */
static bool is_the_moment(void)
{
    static long operations;
    ++operations;
    if (is_action("count")) count_operation(operations);
    const long moment = the_fault()->moment;
    return is_action("full") ? operations >= moment : operations == moment;
}

/* Before an operation that changes a file. */
static void before(void)
{
    if (!is_the_moment()) return;
    if (is_action("kill") || is_action("tear")) (void)raise(SIGKILL);
    if (is_action("signal")) (void)raise(SIGTERM);
}

#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void *data, size_t size)
{
    if (!descriptor_is_below(descriptor)) return REAL(write)(descriptor, data, size);
    if (is_the_moment()) {
        if (is_action("tear")) (void)REAL(write)(descriptor, data, size / 2);
        if (is_action("kill") || is_action("tear")) (void)raise(SIGKILL);
        if (is_action("signal")) (void)raise(SIGTERM);
        if (is_action("full")) {
            errno = ENOSPC;
            return -1;
        }
    }
    return REAL(write)(descriptor, data, size);
}

int fsync(int descriptor)
{
    if (descriptor_is_below(descriptor)) before();
    return REAL(fsync)(descriptor);
}

int ftruncate(int descriptor, off_t length)
{
    if (descriptor_is_below(descriptor)) before();
    return REAL(ftruncate)(descriptor, length);
}

int rename(const char *from, const char *to)
{
    if (is_below(to)) before();
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    if (is_below(path)) before();
    return REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags)
{
    if (descriptor_is_below(folder)) before();
    return REAL(unlinkat)(folder, path, flags);
}

pid_t fork(void)
{
    const pid_t process = REAL(fork)();
    if (process > 0 && is_action("begun")) (void)raise(SIGTERM);
    return process;
}

/* The kernel sends no signal for a parent that is gone already. */
int prctl(int option, ...)
{
    unsigned long argument[4];
    va_list arguments;
    va_start(arguments, option);
    for (int i = 0; i < 4; ++i)
        argument[i] = va_arg(arguments, unsigned long);
    va_end(arguments);
    const pid_t parent = getppid();
    if (option == PR_SET_PDEATHSIG && is_action("orphan") && kill(parent, SIGKILL) == 0)
        while (getppid() == parent)
            (void)usleep(1000);
    return REAL(prctl)(option, argument[0], argument[1], argument[2], argument[3]);
}

static bool may_open(const char *path, int flags)
{
    if (!is_below(path)) return true;
    if (is_action("deny")) {
        errno = EACCES;
        return false;
    }
    if ((flags & (O_CREAT | O_TRUNC)) != 0) before();
    return true;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return (flags & O_CREAT) != 0 ? (mode_t)va_arg(arguments, int) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return may_open(path, flags) ? REAL(open)(path, flags, mode) : -1;
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return may_open(path, flags) ? REAL(open64)(path, flags, mode) : -1;
}
