/* exp and log in double precision, of vectors and of numbers: accuracy, equal bits, the ends of the range. */
#include "tests/support.h"

#include "engine/base/random.h"
#include "losses/vector_math.h"

#include <float.h>
#include <math.h>

/* Distance in units in the last place of the true value, which long double knows to 11 bits more. */
static double units_apart(double got, long double truth)
{
    return (double)(fabsl((long double)got - truth) / ldexpl(1, ilogbl(truth) - 52));
}

static bool same_bits(double a, double b) { return memcmp(&a, &b, sizeof a) == 0; }

/* A lane of doubles_exp; its neighbours hold what must not disturb it. */
static double lane_exp(double x, int lane, double others)
{
    double in[DOUBLES_LANES], out[DOUBLES_LANES];
    for (int i = 0; i < DOUBLES_LANES; ++i)
        in[i] = i == lane ? x : others;
    doubles_store(out, doubles_exp(doubles_load(in)));
    return out[lane];
}

static void exp_is_accurate_and_the_same_in_both_forms(void **state)
{
    (void)state;
    static const double ranges[] = {1e-3, 1, 40, 708};
    static const double neighbours[] = {0, -1.5, -1000, -INFINITY, NAN};
    RandomStream random = random_stream(1, RANDOM_TEST, 0);
    double worst = 0;
    for (int i = 0; i < 200000; ++i) {
        const double x = -ranges[i % 4] * random_uniform(&random);
        const double got = number_exp(x);
        worst = fmax(worst, units_apart(got, expl((long double)x)));
        assert_true(got <= 1);
        assert_true(same_bits(lane_exp(x, i % DOUBLES_LANES, neighbours[i % 5]), got));
    }
    assert_true(worst < 2);
    assert_true(number_exp(0) == 1 && lane_exp(0, 0, -1) == 1 && number_exp(-0.0) == 1);
}

static void exp_ends_at_zero(void **state)
{
    (void)state;
    const double last = number_exp(-708);
    assert_true(units_apart(last, expl(-708)) < 2 && last >= DBL_MIN);
    const double below = nextafter(-708, -INFINITY);
    assert_true(number_exp(below) == 0 && number_exp(-1e300) == 0 && number_exp(-INFINITY) == 0);
    static const double positive[] = {-708, -708.4, -720, -745.13};
    static const double zero[] = {-745.14, -746, -1e9, -DBL_MAX, -INFINITY};
    for (int lane = 0; lane < DOUBLES_LANES; ++lane) {
        for (size_t i = 0; i < sizeof positive / sizeof *positive; ++i) {
            assert_true(exp(positive[i]) > 0);
            assert_true(lane_exp(positive[i], lane, -1) == last);
        }
        for (size_t i = 0; i < sizeof zero / sizeof *zero; ++i) {
            assert_true(exp(zero[i]) == 0);
            assert_true(same_bits(lane_exp(zero[i], lane, -1), 0.0));
        }
    }
}

static void exp_of_nan_is_nan(void **state)
{
    (void)state;
    const double infinite = INFINITY;
    const double nans[] = {(double)NAN, -(double)NAN, infinite - infinite, (double)nanf("0x3fffff")};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; ++i) {
        assert_true(isnan(number_exp(nans[i])));
        for (int lane = 0; lane < DOUBLES_LANES; ++lane)
            assert_true(isnan(lane_exp(nans[i], lane, -1)));
    }
}

static void log_is_accurate(void **state)
{
    (void)state;
    RandomStream random = random_stream(2, RANDOM_TEST, 0);
    double worst = 0;
    for (int i = 0; i < 200000; ++i) {
        const double v = exp((i % 2 == 0 ? 1400 : 1) * (random_uniform(&random) - 0.5));
        if (v == 1) continue;
        const double relative = fabs(number_log(v) / (double)logl((long double)v) - 1);
        worst = fmax(worst, relative);
    }
    assert_true(worst < 1e-15);
    assert_true(number_log(1) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_accurate_and_the_same_in_both_forms),
        cmocka_unit_test(exp_ends_at_zero),
        cmocka_unit_test(exp_of_nan_is_nan),
        cmocka_unit_test(log_is_accurate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
