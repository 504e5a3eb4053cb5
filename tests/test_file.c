/* Files: read, mapped, written so that nobody finds half of one, appended to, locked. */
#include "tests/scratch.h"

#include "engine/base/file.h"
#include "engine/base/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

static int count_entries(const char *path)
{
    DIR *listing = opendir(path);
    assert_non_null(listing);
    int count = 0;
    while (readdir(listing) != NULL)
        ++count;
    closedir(listing);
    return count - 2; /* . and .. */
}

static void reads_whole_files(void **state)
{
    (void)state;
    char *data;
    size_t size;
    const char *path = in_scratch("f");
    write_plain(path, "a\0b", 3);
    assert_ok(file_read(path, 3, &data, &size));
    assert_int_equal(size, 3);
    assert_memory_equal(data, "a\0b\0", 4);
    free(data);
    assert_fails(file_read(path, 2, &data, &size), STATUS_INPUT, "larger than the 2 bytes");
    assert_null(data);
    write_plain(path, "", 0);
    assert_ok(file_read(path, 0, &data, &size));
    assert_int_equal(size, 0);
    assert_string_equal(data, "");
    free(data);
    assert_fails(file_read(in_scratch("absent"), 10, &data, &size), STATUS_IO, "absent: No such file");
    assert_fails(file_read(scratch, 10, &data, &size), STATUS_IO, "is a folder");
    /* A file whose size the system does not tell. */
    assert_ok(file_read("/proc/self/status", 1 << 20, &data, &size));
    assert_true(size > 100 && strlen(data) == size);
    free(data);
    assert_fails(file_read("/dev/zero", 100000, &data, &size), STATUS_INPUT, "larger than");
}

static void reads_gzip(void **state)
{
    (void)state;
    enum { COUNT = 3000000 };
    char *text = malloc(COUNT), *data;
    assert_non_null(text);
    RandomStream stream = random_stream(1, RANDOM_TEST, 1);
    for (int i = 0; i < COUNT; ++i)
        text[i] = (char)('a' + random_below(&stream, 4));
    const char *path = in_scratch("t.gz");
    gzFile file = gzopen(path, "wb");
    assert_int_equal(gzwrite(file, text, COUNT), COUNT);
    assert_int_equal(gzclose(file), Z_OK);
    size_t size;
    assert_ok(file_read(path, COUNT, &data, &size));
    assert_int_equal(size, COUNT);
    assert_memory_equal(data, text, COUNT);
    free(data);
    free(text);
    assert_fails(file_read(path, COUNT - 1, &data, &size), STATUS_INPUT, "larger than");

    FileMap map;
    assert_ok(file_map(path, &map));
    const char *broken = in_scratch("broken.gz");
    const size_t cuts[] = {0, 1, 5, 12, map.size / 2, map.size - 8, map.size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; ++i) {
        write_plain(broken, map.data, cuts[i]);
        assert_fails(file_read(broken, COUNT, &data, &size), STATUS_INPUT, "broken.gz");
        assert_null(data);
    }
    uint8_t *flipped = malloc(map.size);
    assert_non_null(flipped);
    memcpy(flipped, map.data, map.size);
    flipped[map.size / 2] ^= 4;
    write_plain(broken, flipped, map.size);
    assert_fails(file_read(broken, COUNT, &data, &size), STATUS_INPUT, "damaged");
    free(flipped);
    file_unmap(&map);
    write_plain(broken, "plain text, no gzip", 19);
    assert_fails(file_read(broken, COUNT, &data, &size), STATUS_INPUT, "not a gzip file");
}

static void maps_files(void **state)
{
    (void)state;
    FileMap map;
    const char *path = in_scratch("m");
    write_plain(path, "hello", 5);
    assert_ok(file_map(path, &map));
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "hello", 5);
    file_unmap(&map);
    assert_null(map.data);
    write_plain(path, "", 0);
    assert_ok(file_map(path, &map));
    assert_null(map.data);
    file_unmap(&map);
    assert_fails(file_map(scratch, &map), STATUS_IO, "is a folder");
    assert_fails(file_map("/dev/null", &map), STATUS_IO, "not a regular file");
}

static void writes_are_atomic(void **state)
{
    (void)state;
    const char *path = in_scratch("w");
    assert_ok(file_write(path, "old", 3));
    assert_holds(path, "old");
    FileWriter *writer;
    assert_ok(file_writer_open(path, &writer));
    char *large = malloc(200000);
    assert_non_null(large);
    memset(large, 'x', 200000);
    assert_ok(file_writer_write(writer, "new", 3));
    assert_ok(file_writer_write(writer, large, 200000));
    assert_holds(path, "old");
    file_writer_abandon(writer);
    file_writer_abandon(NULL);
    assert_holds(path, "old");
    assert_int_equal(count_entries(scratch), 1);

    /* Pieces of every size around the buffer's arrive in order. */
    assert_ok(file_writer_open(path, &writer));
    size_t total = 0;
    RandomStream stream = random_stream(1, RANDOM_TEST, 2);
    for (int i = 0; i < 50; ++i) {
        const size_t size = random_below(&stream, 100000);
        memset(large, 'a' + i % 26, size);
        assert_ok(file_writer_write(writer, large, size));
        total += size;
    }
    free(large);
    assert_ok(file_writer_commit(writer));
    char *data;
    size_t size;
    assert_ok(file_read(path, total, &data, &size));
    assert_int_equal(size, total);
    stream = random_stream(1, RANDOM_TEST, 2);
    size_t at = 0;
    for (int i = 0; i < 50; ++i)
        for (size_t end = at + random_below(&stream, 100000); at < end; ++at)
            assert_int_equal(data[at], 'a' + i % 26);
    free(data);
    assert_int_equal(count_entries(scratch), 1);
    assert_fails(file_write(in_scratch("no/such/f"), "x", 1), STATUS_IO, "no/such/f");
    assert_fails(file_write(scratch, "x", 1), STATUS_IO, "is a folder");
}

static void writes_report_a_full_disk(void **state)
{
    (void)state;
    assert_fails(file_write("/dev/full", "12345", 5), STATUS_IO, "cannot write 5 bytes to /dev/full");
    struct stat about;
    assert_int_equal(stat("/dev/full", &about), 0);
    assert_true(S_ISCHR(about.st_mode));
    assert_fails(file_append_line("/dev/full", "line"), STATUS_IO, "/dev/full: No space left");

    /* A limit on the file's size fails in the middle, as a full disk does. */
    const char *path = in_scratch("limited");
    assert_ok(file_write(path, "old", 3));
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = (struct rlimit){100000, before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    char *large = calloc(1, 300000);
    assert_non_null(large);
    assert_fails(file_write(path, large, 300000), STATUS_IO, "cannot write 200000 bytes to");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    free(large);
    assert_holds(path, "old");
    assert_int_equal(count_entries(scratch), 1);
}

static void killed_writers_leave_nothing_that_hurts(void **state)
{
    (void)state;
    const char *path = in_scratch("k");
    assert_ok(file_write(path, "old", 3));
    for (int i = 0; i < 3; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            FileWriter *writer;
            Status status = file_writer_open(path, &writer);
            if (status == OK) status = file_writer_write(writer, scratch, sizeof scratch);
            raise(status == OK ? SIGKILL : SIGABRT);
        }
        int result;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL);
        assert_holds(path, "old");
        assert_int_equal(count_entries(scratch), 2); /* each cleaned up after the one before */
    }
    /* A leftover that has our own name, as when process numbers come round again. */
    char host[256] = "", name[400];
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(name, sizeof name, ".k.%s.%ld.0.tmp", host, (long)getpid());
    write_plain(in_scratch(name), "stale", 5);
    assert_ok(file_write(path, "new", 3));
    assert_holds(path, "new");
    assert_int_equal(count_entries(scratch), 1);

    /* A living writer's temporary stays. */
    FileWriter *writer;
    assert_ok(file_writer_open(path, &writer));
    const pid_t child = fork();
    if (child == 0) _exit(file_write(path, "theirs", 6) == OK ? 0 : 1);
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_holds(path, "theirs");
    assert_ok(file_writer_write(writer, "ours", 4));
    assert_ok(file_writer_commit(writer));
    assert_holds(path, "ours");
    assert_int_equal(count_entries(scratch), 1);
}

static void links_and_devices_stay(void **state)
{
    (void)state;
    const char *path = in_scratch("target"), *link = in_scratch("link");
    assert_ok(file_write(path, "old", 3));
    assert_int_equal(symlink(path, link), 0);
    assert_ok(file_write(link, "new", 3));
    assert_holds(path, "new");
    struct stat about;
    assert_int_equal(lstat(link, &about), 0);
    assert_true(S_ISLNK(about.st_mode));
    assert_ok(file_write("/dev/null", "x", 1));
    assert_int_equal(stat("/dev/null", &about), 0);
    assert_true(S_ISCHR(about.st_mode));
}

static void appends_lines(void **state)
{
    (void)state;
    const char *path = in_scratch("lines");
    assert_ok(file_append_line(path, "one"));
    assert_ok(file_append_line(path, ""));
    assert_ok(file_append_line(path, "two"));
    assert_holds(path, "one\n\ntwo\n");
    write_plain(path, "one\n{\"torn", 10);
    assert_ok(file_append_line(path, "two"));
    assert_holds(path, "one\n{\"torn\ntwo\n");
    assert_fails(file_append_line(in_scratch("no/f"), "x"), STATUS_IO, "no/f");
}

static void makes_folders_and_joins(void **state)
{
    (void)state;
    assert_ok(file_make_folder(in_scratch("a/b/c")));
    assert_ok(file_make_folder(in_scratch("a/b//c/")));
    assert_true(file_exists(in_scratch("a/b/c")));
    assert_false(file_exists(in_scratch("a/b/d")));
    write_plain(in_scratch("a/file"), "", 0);
    assert_fails(file_make_folder(in_scratch("a/file")), STATUS_IO, "in the way");
    assert_fails(file_make_folder(in_scratch("a/file/x")), STATUS_IO, "a/file");
    assert_ok(file_make_folder("/"));
    char path[PATH_MAX];
    assert_ok(file_join(path, "a", "b"));
    assert_string_equal(path, "a/b");
    assert_ok(file_join(path, "a/", "b"));
    assert_string_equal(path, "a/b");
    assert_ok(file_join(path, "", "b"));
    assert_string_equal(path, "b");
    assert_ok(file_join(path, "a", "/b"));
    assert_string_equal(path, "/b");
    char *name = malloc(PATH_MAX + 1);
    assert_non_null(name);
    memset(name, 'n', PATH_MAX);
    name[PATH_MAX] = '\0';
    assert_fails(file_join(path, "a", name), STATUS_INPUT, "longer than");
    assert_fails(file_make_folder(name), STATUS_INPUT, "longer than");
    free(name);
}

static void locks_exclude_and_name_the_holder(void **state)
{
    (void)state;
    const char *path = in_scratch("lock");
    FileLock *lock, *second;
    assert_ok(file_lock(path, &lock));
    char holder[300], host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(holder, sizeof holder, "process %ld on %s", (long)getpid(), host);
    assert_fails(file_lock(path, &second), STATUS_BUSY, holder);
    assert_null(second);
    const pid_t child = fork();
    if (child == 0) {
        Status status = file_lock(path, &second);
        _exit(status != OK && status_code(status) == STATUS_BUSY ? 0 : 1);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    file_unlock(lock);
    file_unlock(NULL);
    assert_ok(file_lock(path, &lock));
    file_unlock(lock);

    /* The lock of a killed process is free, whatever it left in the file. */
    const pid_t killed = fork();
    if (killed == 0) raise(file_lock(path, &lock) == OK ? SIGKILL : SIGABRT);
    assert_int_equal(waitpid(killed, &result, 0), killed);
    assert_true(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL);
    assert_ok(file_lock(path, &lock));
    file_unlock(lock);
    assert_fails(file_lock(in_scratch("no/lock"), &lock), STATUS_IO, "no/lock");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH(reads_whole_files),
        SCRATCH(reads_gzip),
        SCRATCH(maps_files),
        SCRATCH(writes_are_atomic),
        SCRATCH(writes_report_a_full_disk),
        SCRATCH(killed_writers_leave_nothing_that_hurts),
        SCRATCH(links_and_devices_stay),
        SCRATCH(appends_lines),
        SCRATCH(makes_folders_and_joins),
        SCRATCH(locks_exclude_and_name_the_holder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
