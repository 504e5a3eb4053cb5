/* Status, memory, log, element types and random numbers. */
#include "tests/scratch.h"

#include "engine/base/dtype.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer)
#define SANITIZED_ADDRESSES
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) /* gcc */
#define SANITIZED_ADDRESSES
#endif

/* ---- Status ---- */

static Status inner(int value)
{
    if (value < 0) return fail(STATUS_INPUT, "%d is negative", value);
    return OK;
}

static Status middle(int value)
{
    TRY(inner(value));
    return OK;
}

static Status outer(int value, int *released)
{
    Status status = OK;
    TRY_ELSE(done, middle(value));
done:
    ++*released;
    return status;
}

static void status_carries_code_message_and_trail(void **state)
{
    (void)state;
    int released = 0;
    assert_true(outer(1, &released) == OK);
    Status status = outer(-3, &released);
    assert_int_equal(released, 2);
    assert_non_null(status);
    assert_int_equal(status_code(status), STATUS_INPUT);
    assert_string_equal(status_message(status), "-3 is negative");
    const char *first = strstr(status_trace(status), "middle (");
    const char *second = strstr(status_trace(status), "outer (");
    assert_non_null(first);
    assert_non_null(second);
    assert_true(first < second);
    status = status_context(status, "line %d", 7);
    assert_string_equal(status_message(status), "line 7: -3 is negative");
    assert_int_equal(status_code(status), STATUS_INPUT);
    status_free(status);
    status_free(OK);
    assert_true(status_context(OK, "nothing") == OK);
}

/* In a child whose address space is full: failures still come back as errors. */
static void status_survives_without_memory(void **state)
{
    (void)state;
#if defined(SANITIZED_ADDRESSES)
    skip(); /* the sanitizer's own memory ends first */
#else
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_AS, &none) != 0) _exit(2);
        for (size_t size = 1 << 16; size >= 16; size /= 2) {
            void **last = NULL; /* a list, so that nothing is lost from sight */
            for (void **block; (block = malloc(size)) != NULL; last = block)
                *block = last;
        }
        Status status = fail(STATUS_INPUT, "a message of more bytes than are left: %099d", 0);
        if (status == OK || status_code(status) != STATUS_MEMORY) _exit(3);
        status = status_context(status_trail(status, "f", "g", 1), "context");
        if (strcmp(status_message(status), "out of memory") != 0 || status_trace(status)[0] != '\0') _exit(4);
        status_free(status);
        void *memory;
        status = memory_new(&memory, 1, 64, "x");
        if (status == OK || status_code(status) != STATUS_MEMORY || memory != NULL) _exit(5);
        _exit(0);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
#endif
}

/* ---- Memory ---- */

static void memory_that_is_available_is_known(void **state)
{
    (void)state;
    assert_true(memory_available() > 1 << 20);
#if defined(__linux__)
    assert_true(memory_available() < (size_t)1 << 50);
#endif
}

static void memory_is_zeroed_aligned_and_checked(void **state)
{
    (void)state;
    for (size_t count = 0; count < 200; count += 13) {
        uint8_t *bytes;
        assert_ok(memory_new(&bytes, count, 3, "bytes"));
        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % MEMORY_ALIGNMENT, 0);
        for (size_t i = 0; i < 3 * count; ++i)
            assert_int_equal(bytes[i], 0);
        free(bytes);
    }
    void *nothing = &nothing;
    assert_fails(memory_new(&nothing, SIZE_MAX / 2, 3, "labels"), STATUS_MEMORY, "labels");
    assert_null(nothing);
    assert_fails(memory_new(&nothing, SIZE_MAX, 1, "labels"), STATUS_MEMORY, "labels");
#if !defined(SANITIZED_ADDRESSES) /* the sanitizer ends the program where malloc returns NULL */
    assert_fails(memory_new(&nothing, (size_t)1 << 61, 1, "logits"), STATUS_MEMORY, "logits");
#endif
}

static void memory_grows_and_keeps(void **state)
{
    (void)state;
    int *items = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; ++i) {
        assert_ok(memory_grow(&items, &capacity, (size_t)i + 1, sizeof *items, "items"));
        assert_int_equal(items[i], 0);
        items[i] = i;
    }
    for (int i = 0; i < 1000; ++i)
        assert_int_equal(items[i], i);
    assert_true(capacity >= 1000 && capacity < 4000);
    const size_t before = capacity;
    assert_fails(memory_grow(&items, &capacity, SIZE_MAX, sizeof *items, "items"), STATUS_MEMORY, "items");
    assert_int_equal(capacity, before);
    assert_int_equal(items[999], 999);
    free(items);
}

static void texts(void **state)
{
    (void)state;
    char *text;
    assert_ok(text_copy("plumb", &text));
    assert_string_equal(text, "plumb");
    free(text);
    assert_ok(text_format(&text, "%s/%03d", "run", 7));
    assert_string_equal(text, "run/007");
    free(text);
}

/* ---- Log ---- */

static void log_speaks_for_rank_zero_only(void **state)
{
    (void)state;
    const char *out = in_scratch("out"), *err = in_scratch("err");
    const pid_t child = fork();
    if (child == 0) {
        if (freopen(out, "w", stdout) == NULL || freopen(err, "w", stderr) == NULL) _exit(1);
        log_info("zero %d", 1);
        log_warning("careful");
        log_set_quiet(true);
        log_info("hidden");
        log_error("bad");
        log_set_quiet(false);
        log_set_rank(3, 4);
        log_info("hidden");
        log_warning("hidden");
        log_error("hidden");
        log_any_rank("here");
        _exit(0);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_holds(out, "zero 1\n");
    assert_holds(err, "warning: careful\nerror: bad\nrank 3: here\n");
}

/* What mpirun says itself can come between two writes. Each write to such a socket is received alone. */
static void log_writes_a_line_at_once(void **state)
{
    (void)state;
    char text[3000] = "";
    memset(text, 'x', sizeof text - 1);
    const char *const texts[] = {"", "step 20: bad image", text};
    enum { TEXTS = sizeof texts / sizeof *texts };
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        if (dup2(ends[1], STDERR_FILENO) < 0) _exit(1);
        log_set_rank(3, 4);
        for (int i = 0; i < TEXTS; ++i)
            log_any_rank("%s", texts[i]);
        _exit(0);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    for (int i = 0; i < TEXTS; ++i) {
        char want[2 * sizeof text], got[2 * sizeof text] = "";
        (void)snprintf(want, sizeof want, "rank 3: %s\n", texts[i]);
        assert_true(recv(ends[0], got, sizeof got - 1, MSG_DONTWAIT) > 0);
        assert_string_equal(got, want);
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* ---- Element types ---- */

static void dtypes_and_bfloat16(void **state)
{
    (void)state;
    const size_t sizes[DTYPE_COUNT] = {4, 2, 8, 4, 8, 1};
    for (int i = 0; i < DTYPE_COUNT; ++i)
        assert_int_equal(dtype_size((DType)i), sizes[i]);
    assert_string_equal(dtype_name(BFLOAT16), "bfloat16");
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float value = bfloat16_to_float((bfloat16)bits);
        const bfloat16 back = bfloat16_from_float(value);
        if (isnan(value))
            assert_true(isnan(bfloat16_to_float(back)));
        else
            assert_int_equal(back, bits);
    }
    assert_int_equal(bfloat16_from_float(0x1.01p0F), 0x3f80);       /* a tie goes to the even neighbour */
    assert_int_equal(bfloat16_from_float(0x1.03p0F), 0x3f82);       /* also upwards */
    assert_int_equal(bfloat16_from_float(0x1.010002p0F), 0x3f81);   /* past the tie */
    assert_int_equal(bfloat16_from_float(0x1.fffffep127F), 0x7f80); /* overflows to infinity */
}

/* ---- Random numbers ---- */

/* The known-answer vectors that Random123 publishes for philox4x32 with 10 rounds. */
static void philox_meets_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const RandomBlock block = random_philox(cases[i].key, cases[i].counter);
        assert_memory_equal(block.word, cases[i].answer, sizeof block.word);
    }
}

static void streams_are_pure_and_apart(void **state)
{
    (void)state;
    RandomStream a = random_stream(5, RANDOM_TEST, 9), b = random_stream(5, RANDOM_TEST, 9);
    for (uint64_t i = 0; i < 10; ++i) {
        const RandomBlock block = random_block(5, RANDOM_TEST, 9, i);
        for (int j = 0; j < 4; ++j) {
            const uint32_t word = random_bits(&a);
            assert_int_equal(word, block.word[j]);
            assert_int_equal(random_bits(&b), word);
        }
    }
    const RandomBlock block = random_block(5, RANDOM_TEST, 9, 0);
    const RandomBlock others[] = {
        random_block(6, RANDOM_TEST, 9, 0),          random_block(5, RANDOM_ORDER, 9, 0),
        random_block(5, RANDOM_TEST, 10, 0),         random_block(5, RANDOM_TEST, 9, 1),
        random_block(5, RANDOM_TEST, 9, 1ULL << 40), random_block(5, RANDOM_TEST, 9 + (1ULL << 40), 0)};
    for (size_t i = 0; i < sizeof others / sizeof *others; ++i)
        assert_memory_not_equal(&block, &others[i], sizeof block);
}

static void uniform_and_normal_have_their_moments(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    RandomStream stream = random_stream(1, RANDOM_TEST, 0);
    double sum = 0, squares = 0;
    for (int i = 0; i < COUNT; ++i) {
        const double u = random_uniform(&stream);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
    }
    /* Five standard errors of each mean. */
    assert_true(fabs(sum / COUNT - 0.5) < 5 * sqrt(1.0 / 12 / COUNT));
    assert_true(fabs(squares / COUNT - 1.0 / 3) < 5 * sqrt(4.0 / 45 / COUNT));
    double moment[5] = {0};
    for (int i = 0; i < COUNT; ++i) {
        const double x = random_normal(&stream);
        assert_true(isfinite(x));
        for (int k = 1; k <= 4; ++k)
            moment[k] += pow(x, k) / COUNT;
    }
    assert_true(fabs(moment[1]) < 5 * sqrt(1.0 / COUNT));
    assert_true(fabs(moment[2] - 1) < 5 * sqrt(2.0 / COUNT));
    assert_true(fabs(moment[3]) < 5 * sqrt(15.0 / COUNT));
    assert_true(fabs(moment[4] - 3) < 5 * sqrt(96.0 / COUNT));
    RandomStream a = random_stream(2, RANDOM_TEST, 0), b = a;
    for (int i = 0; i < 100; ++i)
        assert_true(random_normal(&a) == random_normal(&b));
}

static void below_is_unbiased(void **state)
{
    (void)state;
    RandomStream stream = random_stream(3, RANDOM_TEST, 0);
    for (int i = 0; i < 100; ++i)
        assert_int_equal(random_below(&stream, 1), 0);
    int counts[7] = {0};
    for (int i = 0; i < 70000; ++i) {
        const uint64_t draw = random_below(&stream, 7);
        assert_true(draw < 7);
        ++counts[draw];
    }
    double chi = 0;
    for (int i = 0; i < 7; ++i)
        chi += pow(counts[i] - 10000.0, 2) / 10000;
    assert_true(chi < 22.46); /* 6 degrees of freedom, p = 0.001 */
    /* Where bits % bound would favour the lower half two to one. */
    const uint64_t bound = 3ULL << 62;
    int low = 0;
    for (int i = 0; i < 10000; ++i) {
        const uint64_t draw = random_below(&stream, bound);
        assert_true(draw < bound);
        low += draw < bound / 3;
    }
    assert_true(fabs(low - 10000.0 / 3) < 5 * sqrt(10000 * 2.0 / 9));
}

static void shuffle_is_an_unbiased_permutation(void **state)
{
    (void)state;
    /* All 24 orders of four items, equally often over epochs. */
    int counts[256] = {0};
    int64_t items[1000];
    for (uint64_t epoch = 0; epoch < 24000; ++epoch) {
        random_shuffle(7, RANDOM_ORDER, epoch, items, 4);
        ++counts[items[0] << 6 | items[1] << 4 | items[2] << 2 | items[3]];
    }
    int orders = 0;
    double chi = 0;
    for (int i = 0; i < 256; ++i) {
        if (counts[i] == 0) continue;
        ++orders;
        chi += pow(counts[i] - 1000.0, 2) / 1000;
    }
    assert_int_equal(orders, 24);
    assert_true(chi < 49.73); /* 23 degrees of freedom, p = 0.001 */
    bool seen[1000] = {false};
    random_shuffle(7, RANDOM_ORDER, 1, items, 1000);
    for (int i = 0; i < 1000; ++i) {
        assert_in_range(items[i], 0, 999);
        assert_false(seen[items[i]]);
        seen[items[i]] = true;
    }
    random_shuffle(7, RANDOM_ORDER, 1, items, 0);
}

static void name_keys_are_fnv1a(void **state)
{
    (void)state;
    assert_true(random_name_key("") == 0xcbf29ce484222325U);
    assert_true(random_name_key("a") == 0xaf63dc4c8601ec8cU);
    assert_true(random_name_key("foobar") == 0x85944171f73967e8U);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_carries_code_message_and_trail),
        cmocka_unit_test(status_survives_without_memory),
        cmocka_unit_test(memory_that_is_available_is_known),
        cmocka_unit_test(memory_is_zeroed_aligned_and_checked),
        cmocka_unit_test(memory_grows_and_keeps),
        cmocka_unit_test(texts),
        SCRATCH(log_speaks_for_rank_zero_only),
        cmocka_unit_test(log_writes_a_line_at_once),
        cmocka_unit_test(dtypes_and_bfloat16),
        cmocka_unit_test(philox_meets_known_answers),
        cmocka_unit_test(streams_are_pure_and_apart),
        cmocka_unit_test(uniform_and_normal_have_their_moments),
        cmocka_unit_test(below_is_unbiased),
        cmocka_unit_test(shuffle_is_an_unbiased_permutation),
        cmocka_unit_test(name_keys_are_fnv1a),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
