/* Resolved configs: what is written of one gives it again; lists of maps; hashes. */
#include "tests/config_settings.h"

#include <stdlib.h>
#include <string.h>

/* Of `a` and `b` the settings of the table's rows from `first`, whose names there begin with `prefix`. */
static void assert_same_rows(const Config *a, const Config *b, int first, int last, const char *prefix)
{
    for (int i = first; i < last; ++i) {
        const char *name = table[i].name + strlen(prefix);
        if (strstr(name, "[].") != NULL) continue; /* compared with the list that they belong to */
        if (table[i].default_value == NULL && !config_is_set(a, name)) {
            assert_false(config_is_set(b, name));
            continue;
        }
        const double *reals_a, *reals_b;
        const int64_t *integers_a, *integers_b;
        switch (table[i].type) {
        case SETTING_FLAG:
            assert_int_equal(config_flag(a, name), config_flag(b, name));
            break;
        case SETTING_INTEGER:
            assert_int_equal(config_integer(a, name), config_integer(b, name));
            break;
        case SETTING_TEXT:
            assert_string_equal(config_text(a, name), config_text(b, name));
            break;
        case SETTING_REAL: {
            const double x = config_real(a, name), y = config_real(b, name);
            assert_memory_equal(&x, &y, sizeof x);
            break;
        }
        case SETTING_INTEGERS:
            assert_int_equal(config_integers(a, name, &integers_a), config_integers(b, name, &integers_b));
            assert_memory_equal(integers_a, integers_b, (size_t)config_integers(a, name, &integers_a) * 8);
            break;
        case SETTING_REALS:
            assert_int_equal(config_reals(a, name, &reals_a), config_reals(b, name, &reals_b));
            assert_memory_equal(reals_a, reals_b, (size_t)config_reals(a, name, &reals_a) * 8);
            break;
        case SETTING_TEXTS: {
            const char *const *texts_a, *const *texts_b;
            assert_int_equal(config_texts(a, name, &texts_a), config_texts(b, name, &texts_b));
            for (int t = 0; t < config_texts(a, name, &texts_a); ++t)
                assert_string_equal(texts_a[t], texts_b[t]);
            break;
        }
        case SETTING_ROWS:
            assert_int_equal(config_rows(a, name), config_rows(b, name));
            for (int r = 0; r < config_rows(a, name); ++r)
                assert_same_rows(config_row(a, name, r), config_row(b, name, r), i + 1, i + 6,
                                 "optimizer.groups[].");
            break;
        }
    }
}

static void assert_same_values(const Config *a, const Config *b) { assert_same_rows(a, b, 0, COUNT, ""); }

static void resolved_configs_round_trip(void **state)
{
    (void)state;
    /* Texts that YAML would bend and reals that decimal would. */
    static const char *const texts[] = {"init=\"a: b # c\"",
                                        "init='- [x]'",
                                        "init=\"q\\\"uo\\\\te\\n\\tend \"",
                                        "init=gr\xc3\xbc\xc3\x9f \xe2\x82\xac",
                                        "init=\"\\u2028\\x85\\x7f\\ufeff\\U0001F600\"",
                                        "init=~",
                                        "init=true",
                                        "init=\" \"",
                                        "init=-x"};
    static const char *const reals[] = {"free=0.1",
                                        "free=3e-320",
                                        "free=-0",
                                        "free=1.7976931348623157e308",
                                        "free=0.30000000000000004",
                                        "free=123456789.123456789",
                                        "free=5e-324",
                                        "free=100000"};
    enum { TEXTS = sizeof texts / sizeof *texts, REALS = sizeof reals / sizeof *reals };
    for (int i = 0; i < TEXTS + REALS; ++i) {
        const char *const overrides[] = {texts[i < TEXTS ? i : 0],
                                         reals[i < TEXTS ? 0 : i - TEXTS],
                                         "loss.name=a/b-c.d",
                                         "loss.thresholds=[0.1, 0.7000000000000001, 1e-17]",
                                         "model.blocks=[3, 4, 26]",
                                         "optimizer.groups=[{parameters: '*.\"b\": {x}, [y]', factor: "
                                         "1e-17}, {frozen: true, widths: [1, 2]}, {}]"};
        Config *config, *again;
        assert_ok(config_load(table, COUNT, NULL, 6, overrides, &config));
        char *yaml, *yaml_again;
        assert_ok(config_resolved(config, &yaml));
        assert_ok(load(put("resolved.yaml", yaml), &again));
        assert_same_values(config, again);
        assert_ok(config_resolved(again, &yaml_again));
        assert_string_equal(yaml, yaml_again);
        free(yaml);
        free(yaml_again);
        config_free(config);
        config_free(again);
    }
    /* YAML 1.1 takes 1e-17 for a text, and so does PyYAML: a number has a point, also before its exponent. */
    const char *const tiny[] = {"loss.thresholds=[0.1, 1e-17, 2.5e-9]", "free=1e-08"};
    Config *small;
    char *numbers;
    assert_ok(config_load(table, COUNT, NULL, 2, tiny, &small));
    assert_ok(config_resolved(small, &numbers));
    assert_non_null(strstr(numbers, "loss.thresholds: [0.1, 1.0e-17, 2.5e-09]\n"));
    assert_non_null(strstr(numbers, "free: 1.0e-08\n"));
    uint64_t hash; /* is what it was before numbers had that point: checkpoints hold it */
    assert_ok(config_hash(small, NULL, &hash));
    assert_true(hash == UINT64_C(0xe943680cfdf299a4));
    free(numbers);
    config_free(small);
    /* What was not set before counts as not set after; what was set still counts. */
    Config *config, *again;
    assert_ok(load_override("seed=9", &config));
    char *yaml;
    assert_ok(config_resolved(config, &yaml));
    assert_non_null(strstr(yaml, "\nseed: 9\n"));
    assert_non_null(strstr(yaml, "\nschedule.epochs: [150, 250]\n"));
    assert_null(strstr(yaml, "loss.name"));
    assert_ok(load(put("resolved.yaml", yaml), &again));
    free(yaml);
    assert_fails(config_check_all_read(again), STATUS_INPUT, "seed: is set, but nothing uses it");
    assert_int_equal(config_integer(again, "seed"), 9);
    assert_ok(config_check_all_read(again));
    config_free(config);
    config_free(again);
}

static void lists_of_maps_are_read(void **state)
{
    (void)state;
    Config *config;
    assert_ok(load(NULL, &config));
    assert_int_equal(config_rows(config, "optimizer.groups"), 0);
    config_free(config);
    put("base.yaml", "optimizer:\n"
                     "  groups:\n"
                     "    - parameters: '*.bias'\n"
                     "      factor: 1e-8\n"
                     "    - {parameters: a.b, frozen: true, rule: sgd, widths: [3, 4]}\n");
    assert_ok(load(put("groups.yaml", "base: base.yaml\nseed: 3\n"), &config));
    (void)config_integer(config, "seed");
    assert_int_equal(config_rows(config, "optimizer.groups"), 2);
    const Config *first = config_row(config, "optimizer.groups", 0);
    const Config *second = config_row(config, "optimizer.groups", 1);
    assert_string_equal(config_text(first, "parameters"), "*.bias");
    assert_true(config_real(first, "factor") == 1e-8);
    assert_true(config_real(second, "factor") == 1);
    assert_false(config_flag(first, "frozen"));
    assert_true(config_is_set(first, "factor"));
    assert_false(config_is_set(second, "factor"));
    /* Each key of each map must be read, and the place is that of the key, or else of its map. */
    assert_string_equal(config_text(second, "parameters"), "a.b");
    assert_true(config_flag(second, "frozen"));
    assert_string_equal(config_text(second, "rule"), "sgd");
    assert_fails(config_check_all_read(config), STATUS_INPUT,
                 "base.yaml:5: optimizer.groups[].widths: is set, but nothing uses it");
    const int64_t *widths;
    assert_int_equal(config_integers(second, "widths", &widths), 2);
    assert_int_equal(widths[1], 4);
    assert_ok(config_check_all_read(config));
    assert_fails(config_error(first, "factor", "odd"), STATUS_INPUT,
                 "base.yaml:4: optimizer.groups[].factor: odd");
    assert_fails(config_error(second, "factor", "odd"), STATUS_INPUT,
                 "base.yaml:5: optimizer.groups[].factor: odd");
    char *yaml; /* PyYAML takes 1e-08 for a text */
    assert_ok(config_resolved(config, &yaml));
    assert_non_null(strstr(yaml, "\noptimizer.groups: [{parameters: \"*.bias\", factor: 1.0e-08}, "
                                 "{parameters: a.b, rule: sgd, frozen: true, widths: [3, 4]}]\n"));
    assert_null(strstr(yaml, "[]."));
    free(yaml);
    config_free(config);
    /* A later list takes the place of the whole list. */
    const char *const word = "optimizer.groups=[{factor: 2}]";
    assert_ok(config_load(table, COUNT, put("again.yaml", "base: base.yaml\n"), 1, &word, &config));
    assert_int_equal(config_rows(config, "optimizer.groups"), 1);
    first = config_row(config, "optimizer.groups", 0);
    assert_true(config_real(first, "factor") == 2);
    assert_fails(config_require(first, (const char *const[]){"factor", "parameters", NULL}), STATUS_INPUT,
                 "optimizer.groups[].parameters (command line): must be given (which)");
    config_free(config);
    assert_ok(load(put("none.yaml", "optimizer.groups:\n  - factor: 2\n"), &config));
    assert_fails(
        config_require(config_row(config, "optimizer.groups", 0), (const char *const[]){"parameters", NULL}),
        STATUS_INPUT, "none.yaml:2: optimizer.groups[].parameters: must be given (which)");
    config_free(config);
}

static void wrong_lists_of_maps_name_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"optimizer:\n  groups:\n    - parameters: a\n      frozn: true\n",
         "w.yaml:4: optimizer.groups: 'frozn' is no key of its maps; did you mean 'frozen'?"},
        {"optimizer.groups: [{parameters: a},\n {base: x.yaml}]\n",
         "w.yaml:2: optimizer.groups: 'base' is no key of its maps"},
        {"optimizer.groups: [{resolved: true}]\n",
         "w.yaml:1: optimizer.groups: 'resolved' is no key of its maps"},
        {"optimizer.groups: [{parameters: a,\n factor: -1}]\n",
         "w.yaml:2: optimizer.groups[].factor: -1 is outside its range 0.."},
        {"optimizer.groups: [{rule: sdg}]\n",
         "w.yaml:1: optimizer.groups[].rule: 'sdg' is not one of |sgd|adam; did you mean 'sgd'?"},
        {"optimizer.groups: [{frozen: [true]}]\n",
         "w.yaml:1: optimizer.groups[].frozen: must be true or false, but a list was given"},
        {"optimizer.groups: {parameters: a}\n",
         "w.yaml:1: optimizer.groups: must be a list of maps, as [{key: value}], but a map was given"},
        {"optimizer.groups:\n  - {parameters: a}\n  - b\n",
         "w.yaml:3: optimizer.groups: each item of the list is a map, as {key: value}"},
        {"optimizer.groups[].frozen: true\n", "w.yaml:1: optimizer.groups[].frozen: can only be given in a "
                                              "map of the list, as optimizer.groups: [{frozen: "},
        {"optimizer.groups: [{parameters: {a: 1}}]\n",
         "w.yaml:1: optimizer.groups[].parameters: must be a text, but a map was given"},
        {"optimizer.group: []\n",
         "w.yaml:1: optimizer.group: unknown setting; did you mean 'optimizer.groups'?"},
    };
    Config *config;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        assert_fails(load(put("w.yaml", cases[i].text), &config), STATUS_INPUT, cases[i].message);
    assert_fails(load_override("optimizer.groups=[{frozn: 1}]", &config), STATUS_USAGE,
                 "command line: optimizer.groups: 'frozn' is no key of its maps; did you mean 'frozen'?");
    /* The lines of an override's value are not those of the file that it stands in. */
    const ConfigOverride given = {"optimizer.groups=[{frozen: maybe}]", "sweep.yaml", 7};
    assert_fails(config_load_with(table, COUNT, NULL, 1, &given, &config), STATUS_INPUT,
                 "sweep.yaml:7: optimizer.groups[].frozen: 'maybe' is neither true nor false");
    const ConfigOverride no_map = {"optimizer.groups=[a]", "sweep.yaml", 8};
    assert_fails(config_load_with(table, COUNT, NULL, 1, &no_map, &config), STATUS_INPUT,
                 "sweep.yaml:8: optimizer.groups: each item");
}

static void hashes_tell_configs_apart(void **state)
{
    (void)state;
    enum { WORDS = 7 };
    static const char *const words[WORDS] = {"seed=1",
                                             "seed=2",
                                             "loss.alpha=0.06",
                                             "epochs=10",
                                             "optimizer.groups=[{parameters: a}]",
                                             "optimizer.groups=[{parameters: a}, {parameters: a}]",
                                             "optimizer.groups=[{parameters: a, frozen: true}]"};
    uint64_t all[WORDS], without_seed[WORDS];
    for (int i = 0; i < WORDS; ++i) {
        Config *config;
        assert_ok(load_override(words[i], &config));
        assert_ok(config_hash(config, NULL, &all[i]));
        assert_ok(config_hash(config, (const char *const[]){"seed", "init", NULL}, &without_seed[i]));
        config_free(config);
    }
    for (int i = 0; i < WORDS; ++i)
        for (int j = 0; j < i; ++j) {
            assert_true(all[i] != all[j]);
            assert_int_equal(without_seed[i] == without_seed[j], i == 1 && j == 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH(resolved_configs_round_trip),
        SCRATCH(lists_of_maps_are_read),
        SCRATCH(wrong_lists_of_maps_name_the_place),
        SCRATCH(hashes_tell_configs_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
