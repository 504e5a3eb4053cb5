/* CIFAR's Python version, in the very opcodes that Python 2's cPickle wrote: the same data set as from the binary version, and
 * nothing else is read. */
#include "engine/data/images/cifar.h"
#include "engine/data/images/pickle.h"
#include "tests/data_files.h"

#include <stdio.h>

enum { PER_FILE = 20, COLUMNS = CIFAR_PIXEL_BYTES };

/* ---- A writer of pickles ---- */

typedef struct {
    uint8_t *bytes;
    size_t size;
    int memo; /* cPickle numbers from 1 */
} Writer;

static void *allocate(size_t size)
{
    void *memory = calloc(size, 1);
    assert_non_null(memory);
    return memory;
}

static Writer writer_new(void) { return (Writer){.bytes = allocate((size_t)1 << 20), .memo = 1}; }

static void put(Writer *writer, const void *bytes, size_t size)
{
    memcpy(writer->bytes + writer->size, bytes, size);
    writer->size += size;
}
static void put_text(Writer *writer, const char *text) { put(writer, text, strlen(text)); }
static void put_byte(Writer *writer, int byte) { put(writer, &(uint8_t){(uint8_t)byte}, 1); }

static void put_memo(Writer *writer)
{
    const int number = writer->memo++;
    if (number < 256) {
        put_byte(writer, 'q');
        put_byte(writer, number);
    } else {
        put_byte(writer, 'r');
        put(writer, &number, 4);
    }
}

static void put_integer(Writer *writer, int64_t value)
{
    const bool one = value >= 0 && value < 256, two = value >= 0 && value < 65536;
    put_byte(writer, one ? 'K' : two ? 'M' : 'J');
    put(writer, &value, one ? 1 : two ? 2 : 4); /* little-endian */
}

static void put_short(Writer *writer, const char *text, bool memo)
{
    put_byte(writer, 'U');
    put_byte(writer, (int)strlen(text));
    put_text(writer, text);
    if (memo) put_memo(writer);
}

/* Lists are written in parts of at most 1000 items; one item alone is appended. */
static void put_list(Writer *writer, const int64_t values[], int count)
{
    enum { PART = 1000 };
    put_byte(writer, ']');
    put_memo(writer);
    for (int first = 0; first < count; first += PART) {
        const int part = count - first < PART ? count - first : PART;
        if (part > 1) put_byte(writer, '(');
        for (int i = 0; i < part; ++i)
            put_integer(writer, values[first + i]);
        put_byte(writer, part > 1 ? 'e' : 'a');
    }
}

static void put_names(Writer *writer, int count)
{
    put_byte(writer, ']');
    put_memo(writer);
    put_byte(writer, '(');
    for (int i = 0; i < count; ++i)
        put_short(writer, "leptodactylus_pentadactylus_s_000004.png", true);
    put_byte(writer, 'e');
}

static void put_array(Writer *writer, const uint8_t *data, int rows, int columns, bool columns_first)
{
    const int size = rows * columns;
    put_text(writer, "cnumpy.core.multiarray\n_reconstruct\n");
    put_memo(writer);
    put_text(writer, "cnumpy\nndarray\n");
    put_memo(writer);
    put(writer, "K\0\x85U\1b\x87R", 8);
    put_memo(writer);
    put_text(writer, "(K\1");
    put_integer(writer, rows);
    put_integer(writer, columns);
    put_text(writer, "\x86"
                     "cnumpy\ndtype\n");
    put_memo(writer);
    put(writer, "U\2u1K\0K\1\x87R", 10);
    put_memo(writer);
    put(writer, "(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb", 23);
    put_byte(writer, columns_first ? 0x88 : 0x89);
    put_byte(writer, 'T');
    put(writer, &size, 4);
    put(writer, data, (size_t)size);
    put_text(writer, "tb");
}

static uint8_t pixel(int row, int at) { return (uint8_t)(row * 13 + at * 7 + at / 1024); }

/* Images first_row ... of CIFAR-10, or of CIFAR-100. */
static Writer batch(bool fine, int first_row, int count, bool columns_first)
{
    uint8_t *data = allocate((size_t)count * COLUMNS);
    int64_t *label = allocate((size_t)count * sizeof *label);
    for (int i = 0; i < count; ++i)
        for (int k = 0; k < COLUMNS; ++k)
            data[columns_first ? k * count + i : i * COLUMNS + k] = pixel(first_row + i, k);
    Writer writer = writer_new();
    put_text(&writer, "\x80\2}");
    put_memo(&writer);
    put_byte(&writer, '(');
    put_short(&writer, "batch_label", true);
    put_short(&writer, "training batch 1 of 5", true);
    if (fine) {
        put_short(&writer, "coarse_labels", true);
        for (int i = 0; i < count; ++i)
            label[i] = (first_row + i) % 20;
        put_list(&writer, label, count);
    }
    put_short(&writer, fine ? "fine_labels" : "labels", true);
    for (int i = 0; i < count; ++i)
        label[i] = (first_row + i) % (fine ? 100 : 10);
    put_list(&writer, label, count);
    put_short(&writer, "data", true);
    put_array(&writer, data, count, COLUMNS, columns_first);
    put_short(&writer, "filenames", true);
    put_names(&writer, count);
    put_text(&writer, "u.");
    free(data);
    free(label);
    return writer;
}

static void put_batch(const char *folder, const char *name, bool fine, int first_row, int count,
                      bool columns_first)
{
    Writer writer = batch(fine, first_row, count, columns_first);
    put_file(folder, name, writer.bytes, writer.size);
    free(writer.bytes);
}

/* ---- Reading ---- */

static void check(const char *name, const char *folder, int classes)
{
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = -1};
    assert_ok(dataset_open(name, &options, &dataset));
    assert_int_equal(dataset->classes, classes);
    static const int64_t counts[SPLIT_COUNT] = {90, 10, PER_FILE};
    for (int s = 0; s < SPLIT_COUNT; ++s) {
        const DataSplit *split = &dataset->split[s];
        assert_int_equal(split->count, counts[s]);
        for (int64_t i = 0; i < split->count; ++i) {
            const int row = (int)split->row[i];
            assert_int_equal(split->label[i], row % classes);
            for (int at = 0; at < 1024; ++at)
                for (int channel = 0; channel < 3; ++channel)
                    assert_int_equal(split->table[(row * 1024 + at) * 3 + channel],
                                     pixel(row, channel * 1024 + at));
        }
    }
    dataset_close(dataset);
}

static void the_python_version_is_read(void **state)
{
    (void)state;
    char folder[4096], inside[PATH_MAX];
    test_scratch_make(folder);
    make_folder(folder, "cifar-10-batches-py");
    path_of(inside, folder, "cifar-10-batches-py");
    for (int i = 0; i < 5; ++i) {
        char name[32];
        (void)snprintf(name, sizeof name, "data_batch_%d", i + 1);
        put_batch(inside, name, false, i * PER_FILE, PER_FILE, i == 2);
    }
    put_batch(inside, "test_batch", false, 5 * PER_FILE, PER_FILE, false);
    make_folder(folder, "cifar-100-python");
    check("cifar10", folder, 10);
    check("cifar10", inside, 10);
    path_of(inside, folder, "cifar-100-python");
    put_batch(inside, "train", true, 0, 5 * PER_FILE, false);
    put_batch(inside, "test", true, 5 * PER_FILE, PER_FILE, false);
    check("cifar100", folder, 100);
    static const Spoiled spoiled[] = {
        {"train", CUT, 1, 0, "the pickle is cut short at byte"},
        {"train", CUT, 100, 0, "SHORT_BINSTRING: the file is cut short"},
        {"train", SET, 1, 4, "PROTO: CIFAR's files are of protocol 2"},
        {"train", SET, 0, 'x', "not a pickle"},
        {"test", REMOVE, 0, 0, "is missing from"},
    };
    for (size_t i = 0; i < sizeof spoiled / sizeof *spoiled; ++i) {
        put_batch(inside, "train", true, 0, 5 * PER_FILE, false);
        spoil(inside, &spoiled[i]);
        assert_spoiled("cifar100", folder, &spoiled[i]);
    }
    put_batch(inside, "train", true, 0, 5 * PER_FILE, false);
    put_batch(inside, "test", true, 0, PER_FILE - 1, false);
    const Spoiled too_few = {"train", SET, 0, 0x80, "it should be 5 times as many"};
    assert_spoiled("cifar100", folder, &too_few);
    test_scratch_remove(folder);
}

static void long_lists_are_read_whole(void **state)
{
    (void)state;
    enum { COUNT = 2501 };
    Writer writer = writer_new();
    int64_t label[COUNT], *values, count;
    for (int i = 0; i < COUNT; ++i)
        label[i] = i * 37 % 70000 - 3;
    put_text(&writer, "\x80\2}");
    put_memo(&writer);
    put_short(&writer, "labels", true);
    put_list(&writer, label, COUNT);
    put_text(&writer, "s.");
    Pickle *pickle;
    assert_ok(pickle_parse("labels", writer.bytes, writer.size, &pickle));
    assert_ok(pickle_integers(pickle, "labels", &values, &count));
    assert_int_equal(count, COUNT);
    for (int i = 0; i < COUNT; ++i)
        assert_int_equal(values[i], label[i]);
    free(values);
    PickleArray array;
    assert_fails(pickle_array(pickle, "labels", &array), STATUS_INPUT, "\"labels\" is a list, not an array");
    assert_fails(pickle_array(pickle, "data", &array), STATUS_INPUT, "the dictionary holds no \"data\"");
    pickle_free(pickle);
    free(writer.bytes);
}

/* ---- What is refused ---- */

static void refuse(const char *bytes, size_t size, const char *message)
{
    Pickle *pickle;
    assert_fails(pickle_parse("evil", (const uint8_t *)bytes, size, &pickle), STATUS_INPUT, message);
    assert_null(pickle);
}
#define REFUSE(text, message) refuse(text, sizeof text - 1, message)

static void other_pickles_are_refused_by_name(void **state)
{
    (void)state;
    REFUSE("\x80\2cposix\nsystem\nU\4true\x85R.",
           "the pickle names posix.system, which CIFAR's files do not");
    REFUSE("\x80\2cnumpy\nndarray\x00\nR.", "the pickle names numpy.ndarray");
    REFUSE("\x80\2(S'true'\nios\nsystem\n.",
           "STRING: CIFAR's files, as Python 2 wrote them, have no such opcode");
    REFUSE("\x80\2(ios\nsystem\n.", "INST:");
    REFUSE("\x80\2}\x81.", "byte 3, NEWOBJ:");
    REFUSE("\x80\2\x93.", "STACK_GLOBAL:");
    REFUSE("\x80\2P1\n.", "PERSID:");
    REFUSE("\x80\2\x82\1.", "EXT1:");
    REFUSE("\x80\2?.", "byte 2: 63 is no opcode");
    REFUSE("\x80\3}.", "protocol 2");
    REFUSE("", "not a pickle");
    REFUSE("(dp1\n.", "not a pickle of protocol 2");
    REFUSE("\x80\2", "cut short");
    REFUSE("\x80\2.", "STOP: there is no value");
    REFUSE("\x80\2}}.", "STOP: more than one value");
    REFUSE("\x80\2].", "the pickle is a list; CIFAR's are dictionaries");
    REFUSE("\x80\2}(K\1u.", "a key has no value");
    REFUSE("\x80\2}K\1u.", "SETITEMS: there is no mark");
    REFUSE("\x80\2K\1(K\1e.", "APPENDS: what it fills is something else");
    REFUSE("\x80\2(K\1s.", "there are too few values");
    REFUSE("\x80\2K\1s.", "there are too few values");
    REFUSE("\x80\2K\1K\1s.", "there is nothing to fill");
    REFUSE("\x80\2\x85.", "TUPLE1: there are too few values");
    REFUSE("\x80\2(\x85.", "TUPLE1: there are too few values");
    REFUSE("\x80\2h\1.", "BINGET: nothing was put there");
    REFUSE("\x80\2}j\xff\xff\xff\xff.", "LONG_BINGET: nothing was put there");
    REFUSE("\x80\2}r\xff\xff\xff\xff.", "LONG_BINPUT: the number is too large");
    REFUSE("\x80\2T\xff\xff\xff\xffxx", "BINSTRING: the file is cut short");
    REFUSE("\x80\2}K\1b.", "BUILD: only arrays and their types have a state");
    REFUSE("\x80\2cnumpy\ndtype\nK\1\x85R.", "REDUCE: this is not how numpy's arrays begin");
    REFUSE("\x80\2cnumpy\ndtype", "GLOBAL: the file is cut short");
}

/* A list may hold itself; an array may be used before its state is known. */
static void odd_structures_end_well(void **state)
{
    (void)state;
    static const char circle[] = "\x80\2}U\6labels]q\1h\1as.";
    static const char bare[] = "\x80\2}U\4datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85Rs.";
    Pickle *pickle;
    int64_t *values, count;
    assert_ok(pickle_parse("circle", (const uint8_t *)circle, sizeof circle - 1, &pickle));
    assert_fails(pickle_integers(pickle, "labels", &values, &count), STATUS_INPUT, "item 0 is a list");
    assert_null(values);
    pickle_free(pickle);
    PickleArray array;
    assert_ok(pickle_parse("bare", (const uint8_t *)bare, sizeof bare - 1, &pickle));
    assert_fails(pickle_array(pickle, "data", &array), STATUS_INPUT, "array without data");
    pickle_free(pickle);
}

/* rows and columns are what the array says; `size` bytes follow. */
static void refuse_array(int rows, int columns, const char *type, int labels, const char *message)
{
    static const uint8_t data[2 * COLUMNS];
    Writer writer = writer_new();
    const int64_t label[] = {1, 300, 3};
    put_text(&writer, "\x80\2}(");
    put_short(&writer, "labels", false);
    put_list(&writer, label, labels);
    put_short(&writer, "data", false);
    put_array(&writer, data, rows, columns, false);
    put_text(&writer, "u.");
    uint8_t *at = memmem(writer.bytes, writer.size, "U\2u1", 4);
    assert_non_null(at);
    memcpy(at + 2, type, 2);
    char *records;
    size_t size;
    assert_fails(cifar_records_of_pickle("odd", writer.bytes, writer.size, &cifar10_format, &records, &size),
                 STATUS_INPUT, message);
    assert_null(records);
    free(writer.bytes);
}

static void arrays_of_other_kinds_are_refused(void **state)
{
    (void)state;
    refuse_array(1, COLUMNS, "f4", 1, "the array is not of bytes (uint8)");
    refuse_array(0, COLUMNS, "u1", 1, "not as many as its shape says");
    refuse_array(2, COLUMNS / 2, "u1", 2, "\"data\" has 1536 columns; an image is 3072 bytes");
    refuse_array(1, COLUMNS, "u1", 2, "\"labels\" holds 2 labels, and \"data\" 1 images");
    refuse_array(2, COLUMNS, "u1", 2, "\"labels\", item 1: 300 is no label");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_python_version_is_read),        cmocka_unit_test(long_lists_are_read_whole),
        cmocka_unit_test(other_pickles_are_refused_by_name), cmocka_unit_test(odd_structures_end_well),
        cmocka_unit_test(arrays_of_other_kinds_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
