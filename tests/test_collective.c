/* What every collective refuses, in one place: the implementation hears of no call that makes no sense. */
#include "engine/device/collective_methods.h"
#include "tests/support.h"

enum { RANKS = 4 };

static int calls;

static Status sum_counted(Collective *collective, Span span, Stream after)
{
    (void)collective, (void)span, (void)after;
    ++calls;
    return OK;
}

static Status gather_counted(Collective *collective, Span part, Span all, Stream after)
{
    (void)collective, (void)part, (void)all, (void)after;
    ++calls;
    return OK;
}

static Status broadcast_counted(Collective *collective, Span span, int root, Stream after)
{
    (void)collective, (void)span, (void)root, (void)after;
    ++calls;
    return OK;
}

static const CollectiveMethods methods = {
    .sum = sum_counted, .gather = gather_counted, .broadcast = broadcast_counted};

static void test_spans(void **state)
{
    (void)state;
    Collective collective = {.rank = 1, .size = RANKS, .methods = &methods};
    float values[8];
    const struct {
        Span span;
        const char *text;
    } bad[] = {
        {{values, -1, FLOAT32}, " of -1 elements at "},
        {{NULL, 3, FLOAT32}, " of 3 elements at (nil) of type 0"},
        {{values, 3, DTYPE_COUNT}, " of type 6"},
        {{values, 3, (DType)-1}, " of type -1"},
        {{values, INT64_MAX / 2, FLOAT32}, " of 4611686018427387903 elements at "},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        const Span span = bad[i].span, whole = {values, 8, FLOAT32};
        calls = 0;
        assert_fails(collective_sum(&collective, span, NULL), STATUS_INTERNAL, bad[i].text);
        assert_fails(collective_gather(&collective, span, whole, NULL), STATUS_INTERNAL, bad[i].text);
        assert_fails(collective_gather(&collective, whole, span, NULL), STATUS_INTERNAL, bad[i].text);
        assert_fails(collective_broadcast(&collective, span, 0, NULL), STATUS_INTERNAL, bad[i].text);
        assert_int_equal(calls, 0);
    }
    assert_ok(collective_sum(&collective, (Span){NULL, 0, FLOAT32}, NULL)); /* nobody else need hear of it */
    assert_int_equal(calls, 0);
    assert_ok(collective_sum(&collective, (Span){values, 8, FLOAT32}, NULL));
    assert_int_equal(calls, 1);
}

static void test_parts_of_a_gather(void **state)
{
    (void)state;
    Collective collective = {.rank = 1, .size = RANKS, .methods = &methods};
    float values[8];
    const Span part = {values, 2, FLOAT32};
    calls = 0;
    assert_fails(collective_gather(&collective, part, (Span){values, 7, FLOAT32}, NULL), STATUS_INTERNAL,
                 "gather of 2 float32 from each of 4 ranks into 7 float32");
    assert_fails(collective_gather(&collective, part, (Span){values, 9, FLOAT32}, NULL), STATUS_INTERNAL,
                 "into 9");
    assert_fails(collective_gather(&collective, part, (Span){values, 8, INT32}, NULL), STATUS_INTERNAL,
                 "into 8 int32");
    assert_int_equal(calls, 0);
    assert_ok(collective_gather(&collective, part, (Span){values, 8, FLOAT32}, NULL));
    assert_int_equal(calls, 1);
}

static void test_roots(void **state)
{
    (void)state;
    Collective collective = {.rank = 1, .size = RANKS, .methods = &methods};
    float value;
    const Span span = {&value, 1, FLOAT32};
    calls = 0;
    assert_fails(collective_broadcast(&collective, span, -1, NULL), STATUS_INTERNAL,
                 "broadcast from rank -1 of 4");
    assert_fails(collective_broadcast(&collective, span, RANKS, NULL), STATUS_INTERNAL,
                 "broadcast from rank 4 of 4");
    assert_int_equal(calls, 0);
    assert_ok(collective_broadcast(&collective, span, RANKS - 1, NULL));
    assert_int_equal(calls, 1);
}

static void test_rank_alone(void **state)
{
    (void)state;
    Collective *self;
    float from = 3, to = 0;
    assert_ok(collective_self(&self));
    assert_ok(collective_gather(self, (Span){&from, 1, FLOAT32}, (Span){&to, 1, FLOAT32}, NULL));
    assert_true(to == 3);
    assert_ok(collective_sum(self, (Span){&to, 1, FLOAT32}, NULL));
    assert_ok(collective_broadcast(self, (Span){&to, 1, FLOAT32}, 0, NULL));
    assert_ok(collective_join(self, NULL));
    assert_ok(collective_health(self));
    assert_true(to == 3);
    collective_free(self);
    collective_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_spans), cmocka_unit_test(test_parts_of_a_gather),
                                       cmocka_unit_test(test_roots), cmocka_unit_test(test_rank_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
