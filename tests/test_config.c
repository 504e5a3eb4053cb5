/* Settings out of files, bases and the command line, and what is said of wrong ones. */
#include "tests/config_settings.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void config_of_nothing_has_the_defaults(void **state)
{
    (void)state;
    Config *config;
    assert_ok(load(NULL, &config));
    assert_int_equal(config_integer(config, "seed"), 1);
    assert_string_equal(config_text(config, "init"), "");
    assert_true(config_real(config, "loss.alpha") == 0.05);
    assert_false(config_flag(config, "optimizer.nesterov"));
    const int64_t *epochs, *blocks;
    assert_int_equal(config_integers(config, "schedule.epochs", &epochs), 2);
    assert_int_equal(epochs[1], 250);
    assert_int_equal(config_integers(config, "model.blocks", &blocks), 0);
    const double *thresholds;
    assert_int_equal(config_reals(config, "loss.thresholds", &thresholds), 1);
    assert_true(thresholds[0] == 0.2);
    assert_false(config_is_set(config, "seed"));
    assert_ok(config_check_all_read(config));
    const char *const names[] = {"seed", "loss.name", NULL};
    assert_fails(config_require(config, names), STATUS_INPUT, "loss.name");
    config_free(config);
    config_free(NULL);
}

static void files_bases_and_overrides_apply_in_order(void **state)
{
    (void)state;
    put("deep/root.yaml",
        "seed: 2\nepochs: 20\nloss: {name: brier, reduction: mean}\nschedule.epochs: [1]\n");
    put("middle.yaml", "base: deep/root.yaml\nepochs: 30\n");
    put("other.yaml", "optimizer:\n  nesterov: true\n");
    const char *path =
        put("top.yaml", "base: [middle.yaml, other.yaml]\nloss:\n  reduction: sum\n  alpha: 0.1\n");
    const char *const overrides[] = {"epochs=41", "loss.thresholds=[0.25, 0.5]", "loss.name=focal",
                                     "loss={alpha: 0.01}", "init=runs/a b.safetensors"};
    Config *config;
    assert_ok(config_load(table, COUNT, path, 5, overrides, &config));
    assert_int_equal(config_integer(config, "seed"), 2);
    assert_int_equal(config_integer(config, "epochs"), 41);
    assert_string_equal(config_text(config, "loss.name"), "focal");
    assert_string_equal(config_text(config, "loss.reduction"), "sum");
    assert_string_equal(config_text(config, "init"), "runs/a b.safetensors");
    assert_true(config_real(config, "loss.alpha") == 0.01);
    assert_true(config_flag(config, "optimizer.nesterov"));
    const int64_t *epochs;
    assert_int_equal(config_integers(config, "schedule.epochs", &epochs), 1);
    assert_int_equal(epochs[0], 1);
    const double *thresholds;
    assert_int_equal(config_reals(config, "loss.thresholds", &thresholds), 2);
    assert_true(thresholds[1] == 0.5);
    assert_true(config_is_set(config, "seed"));
    assert_false(config_is_set(config, "loss.width"));
    assert_ok(config_check_all_read(config));
    config_free(config);
}

static void wrong_settings_name_file_line_and_nearest(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"sed: 1\n", "c.yaml:1: sed: unknown setting; did you mean 'seed'?"},
        {"seed: 1\nloss:\n  naem: focal\n",
         "c.yaml:3: loss.naem: unknown setting; did you mean 'loss.name'?"},
        {"learning_rate: 1\n", "did you mean 'optimizer.learning_rate'?"},
        {"leraning_rate: 1\n", "did you mean 'optimizer.learning_rate'?"},
        {"optimzer:\n  learning_rate: 1\n",
         "c.yaml:2: optimzer.learning_rate: unknown setting; did you mean 'opt"},
        {"zzzzzzzzzzz: 1\n", "c.yaml:1: zzzzzzzzzzz: unknown setting (`plumb list settings` shows all)"},
        {"sweep: runs/x\n", "c.yaml:1: sweep: this describes a sweep; run it with plumb sweep"},
        {"los: {}\n", "c.yaml:1: los: unknown setting"},
        {"loss: focal\n", "c.yaml:1: loss: is a group of settings, not one; did you mean 'loss.name'?"},
        {"seed: {a: 1}\n", "c.yaml:1: seed: must be a whole number, but a map was given"},
        {"seed: 1\nseed: 2\n", "c.yaml:2: 'seed' was already given in line 1"},
        {"loss: {name: x}\nloss.name: y\n", "c.yaml:2: loss.name: was already given in line 1"},
        {"seed: x\n", "c.yaml:1: seed: 'x' is not a whole number"},
        {"seed: 1.5\n", "'1.5' is not a whole number"},
        {"seed: 1e3\n", "'1e3' is not a whole number"},
        {"seed: ' 1'\n", "is not a whole number"},
        {"seed:\n", "'' is not a whole number"},
        {"seed: +\n", "'+' is not a whole number"},
        {"seed: 9223372036854775808\n", "9223372036854775808 is too large"},
        {"seed: -1\n", "c.yaml:1: seed: -1 is outside its range 0.."},
        {"epochs: 0\n", "outside its range 1..1000"},
        {"epochs: 1001\n", "outside its range 1..1000"},
        {"seed: [1]\n", "must be a whole number, but a list was given"},
        {"loss: {alpha: 0.10000000000000002}\n", "outside its range [0..0.1]"},
        {"loss: {alpha: 0x1p-4}\n", "is not a number"},
        {"loss: {alpha: nan}\n", "is not a number"},
        {"loss: {alpha: 1.2.3}\n", "is not a number"},
        {"loss: {alpha: e}\n", "is not a number"},
        {"free: .inf\n", "is not a number"},
        {"free: 1e999\n", "1e999 is too large"},
        {"loss: {width: 0}\n", "outside its range (0.."},
        {"loss:\n  thresholds: [0.5, 1]\n", "c.yaml:2: loss.thresholds: 1 is outside its range (0..1)"},
        {"loss:\n  thresholds: 0.5\n", "must be a list of numbers, as [0.2, 0.5], but one value was given"},
        {"loss:\n  thresholds: [[0.5]]\n", "item 1 of the list is not a number"},
        {"optimizer: {learning_rate: 11}\n", "outside its range ..10"},
        {"optimizer: {nesterov: yes}\n", "'yes' is neither true nor false; write true"},
        {"optimizer: {nesterov: Off}\n", "'Off' is neither true nor false; write false"},
        {"optimizer: {nesterov: tRue}\n", "'tRue' is neither true nor false"},
        {"optimizer: {nesterov: unlikely}\n", "'unlikely' is neither true nor false"},
        {"loss: {reduction: meen}\n", "'meen' is not one of sum|mean; did you mean 'mean'?"},
        {"loss: {reduction: average}\n", "'average' is not one of sum|mean"},
        {"- seed\n", "c.yaml:1: a config is a map of settings"},
        {"seed\n", "c.yaml:1: a config is a map of settings"},
        {"base: absent.yaml\n", "c.yaml:1: base: cannot open"},
        {"base: {a: 1}\n", "c.yaml:1: base: must be the name of a file"},
        {"base:\n", "c.yaml:1: base: must be the name of a file"},
        {"resolved: no\n", "c.yaml:1: resolved:"},
        {"loss: {base: x}\n", "c.yaml:1: loss.base: unknown setting"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Config *config;
        const char *path = put("c.yaml", cases[i].text);
        assert_fails(load(path, &config), STATUS_INPUT, cases[i].message);
        assert_null(config);
    }
    Config *config;
    assert_fails(load("/absent.yaml", &config), STATUS_IO, "/absent.yaml");
    assert_ok(load(put("c.yaml", "loss: {alpha: 0.1}\nfree: -1e-300\n"), &config)); /* at the bound; tiny */
    assert_ok(config_require(config, (const char *const[]){"free", NULL}));
    assert_true(config_real(config, "free") == -1e-300);
    config_free(config);
}

static void texts_of_other_editors_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        bool flag;
    } flags[] = {{"true", true},   {"True", true},   {"TRUE", true},
                 {"false", false}, {"False", false}, {"FALSE", false}};
    Config *config;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; ++i) {
        char text[80];
        (void)snprintf(text, sizeof text, "optimizer: {nesterov: %s}\nseed: 3\n", flags[i].word);
        assert_ok(load(put("c.yaml", text), &config));
        assert_ok(config_require(config, (const char *const[]){"seed", "optimizer.nesterov", NULL}));
        assert_int_equal(config_flag(config, "optimizer.nesterov"), flags[i].flag);
        config_free(config);
    }
    (void)put("base.yaml", "\xef\xbb\xbfseed: 5\n");
    assert_ok(load(put("c.yaml", "\xef\xbb\xbf# a comment\r\nbase: base.yaml\r\n"), &config));
    assert_ok(config_require(config, (const char *const[]){"seed", NULL}));
    assert_int_equal(config_integer(config, "seed"), 5);
    config_free(config);
    assert_fails(load(put("c.yaml", "\xef\xbb\xbfseed: 5\nepoch: 1\n"), &config), STATUS_INPUT,
                 "c.yaml:2: epoch: unknown setting");
    assert_fails(load(put("c.yaml", "\xff\xfes"), &config), STATUS_INPUT, "save the file in UTF-8");
    assert_ok(load(put("c.yaml", "\xef\xbb\xbf"), &config)); /* nothing but the mark */
    config_free(config);
}

static void wrong_overrides_are_usage_errors(void **state)
{
    (void)state;
    static const struct {
        const char *word, *message;
    } cases[] = {
        {"seed", "'seed' is not key=value"},
        {"=1", "'=1' is not key=value"},
        {"sede=1", "sede: unknown setting; did you mean 'seed'?"},
        {"seed=one", "command line: seed: 'one' is not a whole number"},
        {"seed=", "command line: seed: '' is not a whole number"},
        {"epochs=0", "command line: epochs: 0 is outside its range 1..1000"},
        {"schedule.epochs=[1, 2", "schedule.epochs=[1, 2"},
        {"loss=focal", "is a group of settings"},
        {"loss={naem: focal}", "loss.naem: unknown setting"},
        {"base=x.yaml", "base: only a file can"},
        {"init=*x", "(quote it: init='\"*x\"')"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Config *config;
        assert_fails(load_override(cases[i].word, &config), STATUS_USAGE, cases[i].message);
    }
    Config *config;
    assert_ok(load_override("init=#1", &config));
    assert_string_equal(config_text(config, "init"), "#1");
    config_free(config);
    assert_ok(load_override("init='*x'", &config));
    assert_string_equal(config_text(config, "init"), "*x");
    config_free(config);
}

/* One text is a list of one, and is written as one: runs that were begun when the setting took one text go on. */
static void texts_are_one_or_several(void **state)
{
    (void)state;
    static const struct {
        const char *word, *yaml;
        int count;
        const char *last;
    } cases[] = {
        {NULL, "\nbest: auto\n", 1, "auto"},
        {"best=nll", "\nbest: nll\n", 1, "nll"},
        {"best=[nll]", "\nbest: nll\n", 1, "nll"},
        {"best=[error, nll]", "\nbest: [error, nll]\n", 2, "nll"},
        {"best=[nll, 'a, b']", "\nbest: [nll, \"a, b\"]\n", 2, "a, b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Config *config;
        const char *const *texts;
        char *yaml;
        assert_ok(config_load(table, COUNT, NULL, cases[i].word != NULL, &cases[i].word, &config));
        assert_int_equal(config_texts(config, "best", &texts), cases[i].count);
        assert_string_equal(texts[cases[i].count - 1], cases[i].last);
        assert_ok(config_resolved(config, &yaml));
        assert_non_null(strstr(yaml, cases[i].yaml));
        free(yaml);
        config_free(config);
    }
    Config *config;
    assert_fails(load(put("c.yaml", "best: [nll, eror]\n"), &config), STATUS_INPUT, "c.yaml:1: best: ");
    assert_fails(load(put("c.yaml", "best: {a: b}\n"), &config), STATUS_INPUT,
                 "a text or a list of texts, as [a, b], but a map");
    assert_fails(load(put("c.yaml", "best: [[nll]]\n"), &config), STATUS_INPUT,
                 "item 1 of the list is not a text");
}

/* Nobody means both; which of them wins is not to be guessed. */
static void a_setting_twice_on_the_command_line_is_an_error(void **state)
{
    (void)state;
    static const struct {
        const char *words[3], *message;
    } cases[] = {
        {{"seed=1", "epochs=2", "seed=2"}, "command line: seed: is given twice, as seed=1 and as seed=2"},
        {{"seed=1", "seed=1"}, "as seed=1 and as seed=1"},
        {{"loss.name=x", "loss={name: y}"},
         "command line: loss.name: is given twice, as loss.name=x and as loss={name: y}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        Config *config;
        const int count = cases[i].words[2] != NULL ? 3 : 2;
        assert_fails(config_load(table, COUNT, NULL, count, cases[i].words, &config), STATUS_USAGE,
                     cases[i].message);
    }
}

/* As a sweep gives them: its later settings override earlier ones, and errors name its lines. */
static void overrides_out_of_a_file_name_it(void **state)
{
    (void)state;
    static const struct {
        const char *word, *message;
    } cases[] = {
        {"sede=1", "s.yaml:7: sede: unknown setting; did you mean 'seed'?"},
        {"seed=x", "s.yaml:7: seed: 'x' is not a whole number"},
        {"loss={naem: x}", "s.yaml:7: loss.naem: unknown setting"},
        {"seed", "s.yaml:7: seed is not key=value"},
        {"init=*x", "s.yaml:7: init=*x is not YAML: value:1: aliases (*name) are not supported (quote it?)"},
    };
    Config *config;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const ConfigOverride wrong = {cases[i].word, "s.yaml", 7};
        assert_fails(config_load_with(table, COUNT, NULL, 1, &wrong, &config), STATUS_INPUT,
                     cases[i].message);
    }
    const ConfigOverride overrides[] = {
        {"seed=1", "s.yaml", 1}, {"seed=2", "s.yaml", 9}, {.word = "epochs=3"}, {"epochs=4", "s.yaml", 5}};
    assert_ok(config_load_with(table, COUNT, NULL, 4, overrides, &config));
    assert_int_equal(config_integer(config, "epochs"), 4);
    assert_fails(config_check_all_read(config), STATUS_INPUT, "s.yaml:9: seed: is set, but nothing uses it");
    config_free(config);
}

static void circles_of_bases_are_named(void **state)
{
    (void)state;
    put("a.yaml", "base: sub/b.yaml\n");
    put("sub/b.yaml", "seed: 1\nbase: ../c.yaml\n");
    put("c.yaml", "base: ./a.yaml\n");
    Config *config;
    char path[PATH_MAX];
    assert_ok(file_join(path, scratch, "a.yaml"));
    Status status = load(path, &config);
    assert_non_null(status);
    assert_int_equal(status_code(status), STATUS_INPUT);
    const char *message = status_message(status);
    const char *const parts[] = {"c.yaml:1: base:", "in a circle:", "a.yaml -> ",
                                 "sub/b.yaml -> ",  "c.yaml -> ",   "./a.yaml"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; ++i) {
        message = strstr(message, parts[i]);
        assert_non_null(message);
    }
    status_free(status);
    assert_fails(load(put("self.yaml", "base: self.yaml\n"), &config), STATUS_INPUT, "self.yaml -> ");

    /* The same base twice is no circle; too long a chain is an error too. */
    put("root.yaml", "seed: 5\n");
    put("left.yaml", "base: root.yaml\n");
    put("right.yaml", "base: root.yaml\n");
    assert_ok(load(put("diamond.yaml", "base: [left.yaml, right.yaml]\n"), &config));
    assert_int_equal(config_integer(config, "seed"), 5);
    config_free(config);
    for (int i = 0; i < 40; ++i) {
        char name[32], text[32];
        (void)snprintf(name, sizeof name, "%d.yaml", i);
        (void)snprintf(text, sizeof text, "base: %d.yaml\n", i + 1);
        put(name, text);
    }
    assert_fails(load(put("long.yaml", "base: 0.yaml\n"), &config), STATUS_INPUT, "more than 32 files deep");
    /* Doubling at each level would read 2^20 files. */
    for (int i = 0; i < 20; ++i) {
        char name[32], text[64];
        (void)snprintf(name, sizeof name, "d%d.yaml", i);
        (void)snprintf(text, sizeof text, i < 19 ? "base: [d%d.yaml, d%d.yaml]\n" : "seed: 1\n", i + 1,
                       i + 1);
        put(name, text);
    }
    assert_ok(file_join(path, scratch, "d0.yaml"));
    assert_fails(load(path, &config), STATUS_INPUT, "more than 256 files");
}

static void settings_in_vain_are_errors(void **state)
{
    (void)state;
    Config *config;
    assert_ok(load(put("v.yaml", "seed: 1\nloss:\n  alpha: 0.05\n"), &config));
    assert_fails(config_check_all_read(config), STATUS_INPUT, "v.yaml:1: seed: is set, but nothing uses it");
    (void)config_integer(config, "seed");
    assert_fails(config_check_all_read(config), STATUS_INPUT,
                 "v.yaml:3: loss.alpha: is set, but nothing uses it");
    assert_fails(config_error(config, "loss.alpha", "needs %d classes", 2), STATUS_INPUT,
                 "v.yaml:3: loss.alpha: needs 2 classes");
    assert_true(config_is_set(config, "loss.alpha"));
    assert_ok(config_check_all_read(config));
    config_free(config);
    assert_ok(load_override("epochs=3", &config));
    assert_fails(config_check_all_read(config), STATUS_INPUT,
                 "epochs (command line): is set, but nothing uses it");
    assert_fails(config_error(config, "seed", "odd"), STATUS_INPUT, "seed (its default): odd");
    config_free(config);
}

/* model.width of a file is no mistake where model.name is overridden; what the later one says itself is. */
static void settings_of_an_overridden_choice_may_be_in_vain(void **state)
{
    (void)state;
    static const char *const overrides[] = {"loss.name=other"};
    Config *config;
    char *yaml;
    put("v.yaml", "loss: {name: one, alpha: 0.05}\n");
    assert_ok(config_load(table, COUNT, put("u.yaml", "base: v.yaml\n"), 1, overrides, &config));
    (void)config_text(config, "loss.name");
    assert_ok(config_check_all_read(config));
    assert_ok(config_resolved(config, &yaml)); /* nor when it is read again */
    config_free(config);
    assert_ok(load(put("resolved.yaml", yaml), &config));
    free(yaml);
    (void)config_text(config, "loss.name");
    assert_ok(config_check_all_read(config));
    config_free(config);
    assert_ok(load(put("w.yaml", "base: v.yaml\nloss: {name: other}\n"), &config));
    (void)config_text(config, "loss.name");
    assert_ok(config_check_all_read(config));
    config_free(config);
    assert_ok(load(put("x.yaml", "base: v.yaml\nloss: {name: other, alpha: 0.1}\n"), &config));
    (void)config_text(config, "loss.name");
    assert_fails(config_check_all_read(config), STATUS_INPUT, "x.yaml:2: loss.alpha: is set");
    config_free(config);
    assert_ok(load(put("y.yaml", "base: v.yaml\nloss.alpha: 0.1\n"), &config));
    (void)config_text(config, "loss.name");
    assert_fails(config_check_all_read(config), STATUS_INPUT, "y.yaml:2: loss.alpha: is set");
    config_free(config);
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = {"train", "evaluate", "sweep", "report", "list"};
    assert_string_equal(config_nearest("trian", names, 5), "train");
    assert_string_equal(config_nearest("evalute", names, 5), "evaluate");
    assert_string_equal(config_nearest("lsit", names, 5), "list");
    assert_string_equal(config_nearest("sweeep", names, 5), "sweep");
    assert_null(config_nearest("dance", names, 5));
    assert_null(config_nearest("x", names, 5));
    char name[2000];
    memset(name, 't', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_null(config_nearest(name, names, 5));
    assert_null(config_nearest("", names, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_of_nothing_has_the_defaults),
        SCRATCH(files_bases_and_overrides_apply_in_order),
        SCRATCH(wrong_settings_name_file_line_and_nearest),
        SCRATCH(wrong_overrides_are_usage_errors),
        SCRATCH(texts_are_one_or_several),
        cmocka_unit_test(a_setting_twice_on_the_command_line_is_an_error),
        cmocka_unit_test(overrides_out_of_a_file_name_it),
        SCRATCH(circles_of_bases_are_named),
        SCRATCH(settings_in_vain_are_errors),
        SCRATCH(settings_of_an_overridden_choice_may_be_in_vain),
        SCRATCH(texts_of_other_editors_are_read),
        cmocka_unit_test(nearest_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
