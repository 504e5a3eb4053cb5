/* safetensors: our files, files from elsewhere, and damage of every kind. */
#include "tests/scratch.h"

#include "engine/base/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float weights[6] = {1, -2, 3.5F, 0, 5, 6};
static const uint8_t mask[3] = {1, 0, 1};
static const int64_t step = 1234567890123;
static const double rate = 0.1;
static const uint16_t halves[2] = {0x3f80, 0x4000};
static const int32_t numbers[2] = {7, -7};

/* Odd sizes first, so that the order of the data must differ from the order of the names. */
static const SafeTensor tensors[] = {
    {"mask", UINT8, 1, {3}, mask, 3},          {"layer1.0.conv1.weight", FLOAT32, 2, {2, 3}, weights, 24},
    {"step", INT64, 0, {0}, &step, 8},         {"rate \"quoted\" \xc3\xbc\n", FLOAT64, 1, {1}, &rate, 8},
    {"empty", FLOAT32, 2, {0, 5}, weights, 0}, {"halves", BFLOAT16, 2, {1, 2}, halves, 4},
    {"numbers", INT32, 1, {2}, numbers, 8},
};
enum { COUNT = sizeof tensors / sizeof *tensors };
static const SafeMetadata metadata[] = {{"epoch", "12"}, {"note", "a \"b\" \\ c"}};

static void assert_same(const SafeFile *file)
{
    assert_int_equal(safetensors_count(file), COUNT);
    for (int i = 0; i < COUNT; ++i) {
        const SafeTensor *tensor = safetensors_at(file, i);
        assert_string_equal(tensor->name, tensors[i].name);
        assert_int_equal(tensor->type, tensors[i].type);
        assert_int_equal(tensor->rank, tensors[i].rank);
        for (int j = 0; j < tensor->rank; ++j)
            assert_int_equal(tensor->extent[j], tensors[i].extent[j]);
        assert_int_equal(tensor->bytes, tensors[i].bytes);
        assert_memory_equal(tensor->data, tensors[i].data, tensors[i].bytes);
        assert_int_equal((uintptr_t)tensor->data % dtype_size(tensor->type), 0);
        assert_ptr_equal(safetensors_find(file, tensor->name), tensor);
    }
    assert_null(safetensors_find(file, "absent"));
    assert_null(safetensors_find(file, ""));
    assert_null(safetensors_find(file, "zzz"));
    assert_string_equal(safetensors_metadata(file, "epoch"), "12");
    assert_string_equal(safetensors_metadata(file, "note"), "a \"b\" \\ c");
    assert_int_equal(strlen(safetensors_metadata(file, "checksum")), 32);
    assert_null(safetensors_metadata(file, "absent"));
}

static void files_round_trip(void **state)
{
    (void)state;
    const char *path = in_scratch("a.safetensors");
    SafeFile *file;
    assert_ok(safetensors_write(path, tensors, COUNT, metadata, 2));
    assert_ok(safetensors_open(path, &file));
    assert_same(file);
    safetensors_close(file);
    safetensors_close(NULL);
    assert_ok(safetensors_write(path, NULL, 0, NULL, 0));
    assert_ok(safetensors_open(path, &file));
    assert_int_equal(safetensors_count(file), 0);
    assert_null(safetensors_find(file, "x"));
    safetensors_close(file);
    assert_fails(safetensors_open(in_scratch("absent"), &file), STATUS_IO, "absent");
}

static void unreadable_files_are_not_written(void **state)
{
    (void)state;
    const char *path = in_scratch("b.safetensors");
    const SafeTensor twice[2] = {tensors[0], tensors[0]};
    assert_fails(safetensors_write(path, twice, 2, NULL, 0), STATUS_INTERNAL,
                 "'mask' would be written twice");
    const SafeMetadata reserved = {"checksum", "x"};
    assert_fails(safetensors_write(path, tensors, 1, &reserved, 1), STATUS_INTERNAL, "checksum");
    SafeTensor wrong = tensors[0];
    wrong.bytes = 4;
    assert_fails(safetensors_write(path, &wrong, 1, NULL, 0), STATUS_INTERNAL, "does not fit");
    wrong.name = "__metadata__";
    wrong.bytes = 3;
    assert_fails(safetensors_write(path, &wrong, 1, NULL, 0), STATUS_INTERNAL, "__metadata__");
    assert_false(file_exists(path));
}

static void every_damaged_byte_is_found(void **state)
{
    (void)state;
    const char *path = in_scratch("c.safetensors");
    assert_ok(safetensors_write(path, tensors, COUNT, metadata, 2));
    FileMap map;
    assert_ok(file_map(path, &map));
    uint8_t *bytes = malloc(map.size + 1);
    assert_non_null(bytes);
    memcpy(bytes, map.data, map.size);
    SafeFile *file;
    int undetected = 0;
    for (size_t i = 0; i < map.size; ++i) {
        for (int change = 1; change < 256; ++change) {
            bytes[i] = (uint8_t)(map.data[i] ^ change);
            Status status = safetensors_parse("flipped", bytes, map.size, &file);
            if (status == OK) {
                print_error("byte %zu: %02x for %02x was not found\n", i, bytes[i], map.data[i]);
                safetensors_close(file);
                ++undetected;
            } else if (status_code(status) != STATUS_INPUT ||
                       strstr(status_message(status), "flipped") == NULL) {
                print_error("byte %zu: %s\n", i, status_message(status));
                ++undetected;
            }
            status_free(status);
        }
        bytes[i] = map.data[i];
    }
    assert_int_equal(undetected, 0);
    /* Cut to every length, in memory of just that size; and one byte too long. */
    for (size_t size = 0; size < map.size; ++size) {
        uint8_t *cut = malloc(size > 0 ? size : 1);
        assert_non_null(cut);
        memcpy(cut, map.data, size);
        assert_fails(safetensors_parse("cut", cut, size, &file), STATUS_INPUT, "cut");
        free(cut);
    }
    bytes[map.size] = 0;
    assert_fails(safetensors_parse("long", bytes, map.size + 1, &file), STATUS_INPUT, "long");
    free(bytes);
    file_unmap(&map);
}

/* A file with the given header and data_size bytes 0, 1, 2, ..., somewhere in a buffer. */
static size_t make_file(uint8_t *bytes, const char *header, size_t data_size)
{
    const size_t length = strlen(header);
    memset(bytes, 0, 8);
    bytes[0] = (uint8_t)length;
    bytes[1] = (uint8_t)(length >> 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_size; ++i)
        bytes[8 + length + i] = (uint8_t)i;
    return 8 + length + data_size;
}

static void files_from_elsewhere_are_read(void **state)
{
    (void)state;
    uint8_t bytes[600];
    SafeFile *file;
    /* As huggingface's library writes it, without a checksum; at every alignment. */
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                                 "\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[3,11]},"
                                 "\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[11,19]}}   ";
    for (size_t shift = 0; shift < 8; ++shift) {
        const size_t size = make_file(bytes + shift, header, 19);
        assert_ok(safetensors_parse("hf", bytes + shift, size, &file));
        assert_int_equal(safetensors_count(file), 3);
        assert_string_equal(safetensors_metadata(file, "format"), "pt");
        const SafeTensor *b = safetensors_find(file, "b"), *c = safetensors_find(file, "c");
        assert_int_equal(b->rank, 2);
        assert_int_equal((uintptr_t)b->data % 4, 0);
        assert_int_equal(((const uint8_t *)b->data)[0], 3);
        assert_int_equal(c->rank, 0);
        assert_true(*(const int64_t *)c->data == 0x1211100f0e0d0c0b);
        safetensors_close(file);
    }
    const size_t size = make_file(bytes, "{}", 0);
    assert_ok(safetensors_parse("none", bytes, size, &file));
    assert_null(safetensors_metadata(file, "format"));
    safetensors_close(file);
}

/* Wherever they lie: 1, the smallest above 0, -infinity and NaN. */
static void halves_are_read_as_float32(void **state)
{
    (void)state;
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                                 "\"h\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[3,11]}}";
    static const uint16_t bits[4] = {0x3c00, 0x0001, 0xfc00, 0x7e00};
    uint8_t bytes[512];
    SafeFile *file;
    const size_t size = make_file(bytes, header, 11);
    memcpy(bytes + size - sizeof bits, bits, sizeof bits);
    assert_ok(safetensors_parse("halves", bytes, size, &file));
    const SafeTensor *h = safetensors_find(file, "h");
    assert_int_equal(h->type, FLOAT32);
    assert_int_equal(h->bytes, 16);
    const float *values = h->data;
    assert_true(values[0] == 1.0F && values[1] == 0x1p-24F && values[2] == -INFINITY && isnan(values[3]));
    safetensors_close(file);
}

static void files_of_torch_save_are_told_apart(void **state)
{
    (void)state;
    SafeFile *file;
    static const char zip[] = "PK\3\4\0\0\0\0\0\0\0\0", pickle[] = "\x80\2\x8a\nl\xfc\x9c\x46\xf9 jP\x0e.";
    assert_fails(safetensors_parse("net.pt", (const uint8_t *)zip, sizeof zip - 1, &file), STATUS_INPUT,
                 "net.pt: a file of torch.save, not safetensors; convert it");
    assert_fails(safetensors_parse("net.pth", (const uint8_t *)pickle, sizeof pickle - 1, &file),
                 STATUS_INPUT, "net.pth: a file of torch.save, not safetensors; convert it");
}

static void malformed_files_are_named(void **state)
{
    (void)state;
#define TENSOR(dtype, shape, offsets)                                                                        \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    static const struct {
        const char *header;
        size_t data_size;
        const char *message;
    } cases[] = {
        {TENSOR("\"F16\"", "[2]", "[0,8]"), 8, "tensor a: its shape does not fit its 8 bytes"},
        {TENSOR("\"F16\"", "[2]", "[0,3]"), 3, "tensor a: its shape does not fit its 3 bytes"},
        {TENSOR("\"F8_E4M3\"", "[2]", "[0,2]"), 2, "tensor a: element type F8_E4M3 is not supported"},
        {TENSOR("\"BOOL\"", "[2]", "[0,2]"), 2, "element type BOOL is not supported"},
        {TENSOR("5", "[2]", "[0,2]"), 2, "no dtype"},
        {TENSOR("\"F32\"", "2", "[0,8]"), 8, "no shape"},
        {TENSOR("\"F32\"", "[-2]", "[0,8]"), 8, "not a list of counts"},
        {TENSOR("\"F32\"", "[1.5]", "[0,6]"), 6, "not a list of counts"},
        {TENSOR("\"F32\"", "[1e300]", "[0,8]"), 8, "not a list of counts"},
        {TENSOR("\"F32\"", "[\"2\"]", "[0,8]"), 8, "not a list of counts"},
        {TENSOR("\"F32\"", "[3]", "[0,8]"), 8, "does not fit its 8 bytes"},
        {TENSOR("\"F32\"", "[4503599627370496,4503599627370496]", "[0,0]"), 0, "does not fit"},
        {TENSOR("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "more than 8 dimensions"},
        {TENSOR("\"F32\"", "[2]", "[0]"), 8, "no pair of data_offsets"},
        {TENSOR("\"F32\"", "[2]", "[8,0]"), 8, "lies at bytes 8 to 0"},
        {TENSOR("\"F32\"", "[2]", "[0,8]"), 7, "outside the 7 bytes"},
        {TENSOR("\"F32\"", "[2]", "[0,8]"), 9, "have 8 bytes, but the file holds 9"},
        {TENSOR("\"F32\"", "[2]", "[1,9]"), 9, "begins at byte 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "tensor b begins at byte 1 of the data, but the one before ends at 2"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
         4, "tensor a is there twice"},
        {"{\"a\":3}", 0, "entry a is not a tensor"},
        {"{\"__metadata__\":3}", 0, "metadata is malformed"},
        {"{\"__metadata__\":{\"x\":3}}", 0, "metadata x is not a text"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "metadata twice"},
        {"{\"__metadata__\":{\"checksum\":\"00000000000000000000000000000000\"}}", 0,
         "checksum is malformed"},
        {"{\"__metadata__\":{\"checksum_kind\":\"xxh3-128\"}}", 0, "checksum is malformed"},
        {"{\"__metadata__\":{\"checksum\":\"00000000000000000000000000000000\",\"checksum_kind\":\"xxh3-"
         "128\"}}",
         0, "checksum does not match"},
        {"{\"a\":{}", 0, "not JSON"},
        {"[]{}", 0, "not a safetensors file"},
        {"{} {}", 0, "something follows"},
    };
    uint8_t bytes[600];
    SafeFile *file;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const size_t size = make_file(bytes, cases[i].header, cases[i].data_size);
        assert_fails(safetensors_parse("bad.safetensors", bytes, size, &file), STATUS_INPUT,
                     cases[i].message);
        assert_null(file);
        assert_fails(safetensors_parse("bad.safetensors", bytes, size, &file), STATUS_INPUT,
                     "bad.safetensors");
    }
    const size_t size = make_file(bytes, "{}", 0);
    for (int i = 1; i < 8; ++i) {
        bytes[i] = 0x80;
        assert_fails(safetensors_parse("huge", bytes, size, &file), STATUS_INPUT, "cut short in its header");
        bytes[i] = 0;
    }
    assert_fails(safetensors_parse("empty", NULL, 0, &file), STATUS_INPUT, "it has 0 bytes");
    /* A header that nests without end is an error, not a crash. */
    char *deep = malloc(60001);
    uint8_t *large = malloc(70000);
    assert_non_null(deep);
    assert_non_null(large);
    memset(deep, '[', 60000);
    memcpy(deep, "{\"a\":", 5);
    deep[60000] = '\0';
    assert_fails(safetensors_parse("deep", large, make_file(large, deep, 0), &file), STATUS_INPUT,
                 "not JSON");
    free(deep);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH(files_round_trip),
        SCRATCH(unreadable_files_are_not_written),
        SCRATCH(every_damaged_byte_is_found),
        cmocka_unit_test(files_from_elsewhere_are_read),
        cmocka_unit_test(halves_are_read_as_float32),
        cmocka_unit_test(files_of_torch_save_are_told_apart),
        cmocka_unit_test(malformed_files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
