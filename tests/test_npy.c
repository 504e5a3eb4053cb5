/* .npy: NumPy's bytes, its other spellings and types, and what is none. */
#include "tests/scratch.h"

#include "engine/base/dtype.h"
#include "engine/base/file.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void npy_round_trips(void **state)
{
    (void)state;
    static const DType types[] = {FLOAT32, FLOAT64, INT32, INT64, UINT8};
    const int64_t extent[NPY_MAX_RANK] = {2, 3, 1, 2, 1, 1, 1, 2};
    uint8_t data[24 * 8];
    for (size_t i = 0; i < sizeof data; ++i)
        data[i] = (uint8_t)(i * 37 + 1);
    for (size_t t = 0; t < sizeof types / sizeof *types; ++t) {
        for (int rank = 0; rank <= NPY_MAX_RANK; ++rank) {
            int64_t count = 1;
            for (int i = 0; i < rank; ++i)
                count *= extent[i];
            const char *path = in_scratch("a.npy");
            assert_ok(npy_write(path, types[t], rank, extent, data));
            Npy npy;
            assert_ok(npy_open(path, &npy));
            assert_int_equal(npy.type, types[t]);
            assert_int_equal(npy.rank, rank);
            assert_int_equal(npy.count, count);
            assert_memory_equal(npy.extent, extent, (size_t)rank * sizeof *extent);
            assert_memory_equal(npy.data, data, (size_t)count * dtype_size(types[t]));
            assert_int_equal((uintptr_t)npy.data % 64, 0);
            npy_close(&npy);
            assert_null(npy.data);
        }
    }
    const int64_t empty[2] = {0, 5};
    Npy npy;
    assert_ok(npy_write(in_scratch("e.npy"), FLOAT32, 2, empty, NULL));
    assert_ok(npy_open(in_scratch("e.npy"), &npy));
    assert_int_equal(npy.count, 0);
    assert_int_equal(npy.extent[1], 5);
    npy_close(&npy);
    assert_fails(npy_write(in_scratch("b.npy"), BFLOAT16, 1, extent, data), STATUS_UNSUPPORTED, "bfloat16");
}

/* The very bytes of numpy.save(numpy.arange(3, dtype="<i4")). */
static void npy_writes_numpys_bytes(void **state)
{
    (void)state;
    const int32_t values[3] = {0, 1, 2};
    const int64_t extent[1] = {3};
    assert_ok(npy_write(in_scratch("n.npy"), INT32, 1, extent, values));
    char expected[140];
    memset(expected, ' ', 128);
    static const char header[] =
        "\x93NUMPY\x01\x00\x76\x00{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }";
    memcpy(expected, header, sizeof header - 1);
    expected[127] = '\n';
    memcpy(expected + 128, values, 12);
    FileMap map;
    assert_ok(file_map(in_scratch("n.npy"), &map));
    assert_int_equal(map.size, 140);
    assert_memory_equal(map.data, expected, 140);
    file_unmap(&map);
}

/* A .npy of the given version and dict (as is, no padding) and data bytes of zeros. */
static size_t make_npy(uint8_t *bytes, int version, const char *dict, size_t data_bytes)
{
    const size_t length = strlen(dict), start = version == 1 ? 10 : 12;
    memset(bytes, 0, start + length + data_bytes);
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (uint8_t)version;
    bytes[8] = (uint8_t)length;
    bytes[9] = (uint8_t)(length >> 8);
    memcpy(bytes + start, dict, length);
    return start + length + data_bytes;
}

static void npy_reads_other_spellings(void **state)
{
    (void)state;
    uint8_t bytes[512];
    Npy npy;
    static const char *const dicts[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
        "{\"shape\":(2L,3L),\"descr\":\"<f4\",\"fortran_order\":False}",
        "  {  'fortran_order' : False , 'shape' : ( 2 , 3 , ) , 'descr' : '<f4' }  \n\n",
    };
    for (size_t i = 0; i < sizeof dicts / sizeof *dicts; ++i) {
        for (int version = 1; version <= 3; ++version) {
            const size_t size = make_npy(bytes, version, dicts[i], 24);
            /* Wherever the bytes lie, the data come out aligned. */
            for (size_t shift = 0; shift < 4; ++shift) {
                uint8_t moved[516];
                memcpy(moved + shift, bytes, size);
                assert_ok(npy_parse("mem", moved + shift, size, &npy));
                assert_int_equal(npy.rank, 2);
                assert_int_equal(npy.extent[0], 2);
                assert_int_equal(npy.extent[1], 3);
                assert_int_equal(npy.count, 6);
                assert_int_equal((uintptr_t)npy.data % 4, 0);
                assert_true(((const float *)npy.data)[5] == 0);
                npy_close(&npy);
            }
        }
    }
}

static void npy_widens_other_integers(void **state)
{
    (void)state;
    static const struct {
        const char *descr;
        size_t item;
        uint64_t bits;
        int64_t value;
    } cases[] = {
        {"|i1", 1, 0x85, -123},           {"<i2", 2, 0x8001, -32767},
        {"<u2", 2, 0xfffe, 65534},        {"<u4", 4, 0xfffffffe, 4294967294},
        {"<u8", 8, INT64_MAX, INT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        uint8_t bytes[512];
        char dict[128];
        (void)snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': (3,), }",
                       cases[i].descr);
        const size_t size = make_npy(bytes, 1, dict, 3 * cases[i].item);
        memset(bytes + size - 3 * cases[i].item, 0, 3 * cases[i].item);
        memcpy(bytes + size - cases[i].item, &cases[i].bits, cases[i].item);
        Npy npy;
        assert_ok(npy_parse("mem", bytes, size, &npy));
        assert_int_equal(npy.type, INT64);
        assert_true(((const int64_t *)npy.data)[1] == 0);
        assert_true(((const int64_t *)npy.data)[2] == cases[i].value);
        npy_close(&npy);
        bytes[size - 1] |= 0x80;
        if (cases[i].item == 8) /* no 64-bit signed integer has this value */
            assert_fails(npy_parse("mem", bytes, size, &npy), STATUS_INPUT, "element 2 is");
    }
}

/* All of them, by the formula: (-1)^sign 2^(exponent - 15) 1.fraction, and 2^-14 0.fraction for exponent 0. */
static void npy_reads_every_half_exactly(void **state)
{
    (void)state;
    enum { HALVES = 1 << 16 };
    uint8_t *bytes = calloc(1, 2 * HALVES + 512);
    assert_non_null(bytes);
    const size_t size =
        make_npy(bytes, 1, "{'descr': '<f2', 'fortran_order': False, 'shape': (65536,), }", 2 * HALVES);
    for (size_t i = 0; i < HALVES; ++i) {
        bytes[size - 2 * HALVES + 2 * i] = (uint8_t)i;
        bytes[size - 2 * HALVES + 2 * i + 1] = (uint8_t)(i >> 8);
    }
    Npy npy;
    assert_ok(npy_parse("mem", bytes, size, &npy));
    assert_int_equal(npy.type, FLOAT32);
    const float *value = npy.data;
    for (int i = 0; i < HALVES; ++i) {
        const int exponent = i >> 10 & 31, fraction = i & 1023;
        const double size_of = exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                               : exponent > 0 ? ldexp(1024 + fraction, exponent - 25)
                                              : ldexp(fraction, -24);
        if (isnan(size_of))
            assert_true(isnan(value[i]));
        else
            assert_true((double)value[i] == (i >> 15 ? -size_of : size_of));
        assert_int_equal(signbit(value[i]) != 0, i >> 15);
    }
    npy_close(&npy);
    free(bytes);
}

/* Element [row, column] of the array is row * columns + column + 1, wherever it lies in the file. */
static void npy_transposes_fortran_order(void **state)
{
    (void)state;
    static const struct {
        const char *descr;
        size_t item;
        DType type;
        uint16_t half[6]; /* of float16: 1 to 6 */
    } cases[] = {
        {"<f4", 4, FLOAT32, {0}},
        {"<f8", 8, FLOAT64, {0}},
        {"|u1", 1, UINT8, {0}},
        {"<i2", 2, INT64, {0}},
        {"<f2", 2, FLOAT32, {0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        uint8_t bytes[512];
        char dict[128];
        (void)snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': True, 'shape': (2, 3), }",
                       cases[i].descr);
        const size_t item = cases[i].item, size = make_npy(bytes, 1, dict, 6 * item);
        for (int at = 0; at < 6; ++at) { /* the row runs fastest */
            const int number = at % 2 * 3 + at / 2 + 1;
            const float single = (float)number;
            const double real = number;
            const void *from = item == 8                  ? (const void *)&real
                               : item == 4                ? (const void *)&single
                               : cases[i].type == FLOAT32 ? (const void *)&cases[i].half[number - 1]
                                                          : (const void *)&number;
            memcpy(bytes + size - (size_t)(6 - at) * item, from, item);
        }
        Npy npy;
        assert_ok(npy_parse("mem", bytes, size, &npy));
        assert_int_equal(npy.type, cases[i].type);
        assert_int_equal(npy.extent[0], 2);
        assert_int_equal(npy.extent[1], 3);
        for (int at = 0; at < 6; ++at) {
            const double found = npy.type == FLOAT32   ? (double)((const float *)npy.data)[at]
                                 : npy.type == FLOAT64 ? ((const double *)npy.data)[at]
                                 : npy.type == UINT8   ? (double)((const uint8_t *)npy.data)[at]
                                                       : (double)((const int64_t *)npy.data)[at];
            assert_true(found == at + 1);
        }
        npy_close(&npy);
    }
}

/* More rows and columns than are copied at a time, in a file; and shapes that both orders have alike. */
static void npy_transposes_large_arrays(void **state)
{
    (void)state;
    enum { ROWS = 77, COLUMNS = 45 };
    uint8_t *bytes = calloc(1, 4 * ROWS * COLUMNS + 512);
    assert_non_null(bytes);
    size_t size = make_npy(bytes, 1, "{'descr': '<i4', 'fortran_order': True, 'shape': (77, 45), }",
                           sizeof(int32_t) * ROWS * COLUMNS);
    for (int32_t column = 0; column < COLUMNS; ++column)
        for (int32_t row = 0; row < ROWS; ++row) {
            const int32_t number = 1000 * row + column;
            memcpy(bytes + size - sizeof(int32_t) * (size_t)(ROWS * COLUMNS - column * ROWS - row), &number,
                   sizeof number);
        }
    write_plain(in_scratch("f.npy"), bytes, size);
    Npy npy;
    assert_ok(npy_open(in_scratch("f.npy"), &npy));
    for (int32_t row = 0; row < ROWS; ++row)
        for (int32_t column = 0; column < COLUMNS; ++column)
            assert_int_equal(((const int32_t *)npy.data)[row * COLUMNS + column], 1000 * row + column);
    npy_close(&npy);
    static const struct {
        const char *shape;
        size_t count;
    } alike[] = {{"()", 1}, {"(3,)", 3}, {"(0, 3)", 0}, {"(3, 0)", 0}, {"(1, 3)", 3}, {"(3, 1)", 3}};
    for (size_t i = 0; i < sizeof alike / sizeof *alike; ++i) {
        char dict[128];
        (void)snprintf(dict, sizeof dict, "{'descr': '|u1', 'fortran_order': True, 'shape': %s, }",
                       alike[i].shape);
        size = make_npy(bytes, 1, dict, alike[i].count);
        for (size_t k = 0; k < alike[i].count; ++k)
            bytes[size - alike[i].count + k] = (uint8_t)(k + 1);
        assert_ok(npy_parse("mem", bytes, size, &npy));
        assert_int_equal(npy.count, alike[i].count);
        for (size_t k = 0; k < alike[i].count; ++k)
            assert_int_equal(((const uint8_t *)npy.data)[k], k + 1);
        npy_close(&npy);
    }
    free(bytes);
}

static void npy_refuses_what_is_not(void **state)
{
    (void)state;
    static const struct {
        const char *dict;
        size_t data_bytes;
        const char *message;
    } cases[] = {
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }", 8, "needs 4 bytes of data"},
        {"{'descr': '<f3', 'fortran_order': False, 'shape': (2,), }", 6, "'<f3' is not supported"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8,
         "big-endian, which is not supported (save array.astype('<f4'))"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }", 16, "'<c8' is not supported"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8,
         "records are not supported"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2, 1), }", 16,
         "3 dimensions in Fortran order is not supported (save numpy.ascontiguousarray"},
        {"{'shape': (1, 2, 2), 'fortran_order': True, 'descr': '<f4', }", 16, "Fortran order"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", 12, "(it is cut short)"},
        {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2, 2), }", 16, "neither True nor False"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 11, "(it is cut short)"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 13,
         "needs 12 bytes of data, but the file holds 13"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3), }", 12, "not a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 3, }", 12, "not a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", 12, "not a tuple of counts"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3 4), }", 48, "separated by commas"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,), }", 0, "too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0, "too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,), }", 0, "too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }", 0, "too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 4,
         "more than 8 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, }", 4, "it lacks 'shape'"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 4, "repeated key"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4, "unknown or a repeated key"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } 'x'", 4, "something follows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1", 4, "separated by commas"},
        {"{'descr': '<f4", 4, "does not end"},
        {"", 4, "does not begin with {"},
    };
    uint8_t bytes[512];
    Npy npy;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        for (int version = 1; version <= 3; ++version) {
            const size_t size = make_npy(bytes, version, cases[i].dict, cases[i].data_bytes);
            assert_fails(npy_parse("some.npy", bytes, size, &npy), STATUS_INPUT, cases[i].message);
            Status status = npy_parse("some.npy", bytes, size, &npy);
            assert_non_null(strstr(status_message(status), "some.npy"));
            status_free(status);
        }
    }
    /* Every proper prefix of a good file is refused, and so is a wrong magic byte or version. */
    const size_t size = make_npy(bytes, 2, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 12);
    for (size_t cut = 0; cut < size; ++cut) {
        uint8_t *exact = malloc(cut + 1); /* a heap block of that size, so that a sanitizer sees overruns */
        memcpy(exact + 1, bytes, cut);
        assert_fails(npy_parse("cut", exact + 1, cut, &npy), STATUS_INPUT, "cut");
        free(exact);
    }
    for (int i = 0; i < 7; ++i) {
        bytes[i] ^= 0x40;
        assert_fails(npy_parse("bad", bytes, size, &npy), STATUS_INPUT, i < 6 ? "wrong magic" : "version");
        bytes[i] ^= 0x40;
    }
    static const uint8_t torch[] =
        "PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl";
    assert_fails(npy_parse("net.pt", torch, sizeof torch, &npy), STATUS_INPUT,
                 "net.pt: a file of torch.save, not a .npy file: save it as one");
    bytes[11] = 0x80; /* a header length of 2 GB */
    assert_fails(npy_parse("long", bytes, size, &npy), STATUS_INPUT, "header of 21");
    assert_fails(npy_open(in_scratch("absent.npy"), &npy), STATUS_IO, "absent.npy");
    write_plain(in_scratch("empty.npy"), "", 0);
    assert_fails(npy_open(in_scratch("empty.npy"), &npy), STATUS_INPUT, "it is empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH(npy_round_trips),
        SCRATCH(npy_writes_numpys_bytes),
        SCRATCH(npy_reads_other_spellings),
        SCRATCH(npy_widens_other_integers),
        SCRATCH(npy_reads_every_half_exactly),
        SCRATCH(npy_transposes_fortran_order),
        SCRATCH(npy_transposes_large_arrays),
        SCRATCH(npy_refuses_what_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
