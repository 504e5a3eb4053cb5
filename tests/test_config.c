/* YAML trees and settings. */
#include "tests/scratch.h"

#include "engine/base/config.h"
#include "engine/base/file.h"
#include "engine/base/yaml.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Writes scratch/name and gives its path, valid until the eighth call from now. */
static const char *put(const char *name, const char *text)
{
    static char paths[8][PATH_MAX];
    static int next;
    char *path = paths[next++ % 8];
    assert_ok(file_join(path, scratch, name));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_ok(file_make_folder(path));
    *slash = '/';
    assert_ok(file_write(path, text, strlen(text)));
    return path;
}

/* ---- YAML ---- */

static Status parse(const char *text, YamlNode **node)
{
    return yaml_parse("t.yaml", text, strlen(text), node);
}

static void yaml_gives_a_tree_with_lines(void **state)
{
    (void)state;
    YamlNode *root;
    assert_ok(parse("a: 1\nb:\n  - x\n  - [y, 'z # z']\n\n# comment\nc: {d: \"q\\n\", e: }\n", &root));
    assert_int_equal(root->kind, YAML_MAP);
    assert_int_equal(root->count, 3);
    assert_string_equal(root->key[2], "c");
    assert_int_equal(root->key_line[2], 7);
    assert_string_equal(yaml_find(root, "a")->text, "1");
    const YamlNode *b = yaml_find(root, "b");
    assert_int_equal(b->kind, YAML_LIST);
    assert_int_equal(b->count, 2);
    assert_int_equal(b->item[1]->line, 4);
    assert_string_equal(b->item[1]->item[1]->text, "z # z");
    assert_string_equal(yaml_find(yaml_find(root, "c"), "d")->text, "q\n");
    assert_string_equal(yaml_find(yaml_find(root, "c"), "e")->text, "");
    assert_null(yaml_find(root, "x"));
    assert_null(yaml_find(b, "x"));
    yaml_release(root);
    yaml_release(NULL);
}

static void yaml_of_nothing_is_an_empty_map(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n\n", "# only a comment\n", "---\n", "{}", "---\n...\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        YamlNode *root;
        assert_ok(parse(texts[i], &root));
        assert_int_equal(root->kind, YAML_MAP);
        assert_int_equal(root->count, 0);
        yaml_release(root);
    }
}

static void yaml_names_file_and_line_of_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a: 1\nb: [1, 2\nc: 3\n", "t.yaml:"},
        {"a: 1\n  b: 2\n", "t.yaml:2:"},
        {"a: \"no end\n", "t.yaml:"},
        {"a: 1\nb: 2\na: 3\n", "t.yaml:3: 'a' was already given in line 1"},
        {"x:\n  b: 2\n  c: 1\n  b: 3\n", "t.yaml:4: 'b' was already given in line 2"},
        {"a: &x 1\n", "t.yaml:1: anchors"},
        {"a: 1\nb: *x\n", "t.yaml:2: aliases"},
        {"a: !!int 1\n", "t.yaml:1: tags"},
        {"&k a: 1\n", "t.yaml:1: anchors"},
        {"? [a, b]\n: 1\n", "t.yaml:1: a key must be"},
        {"a: 1\n---\nb: 2\n", "t.yaml:2: more than one document"},
        {"a: \"x\\0y\"\n", "t.yaml:1: the character \\0"},
        {"a: \xff\xfe\n", "t.yaml: "},
        {"a: \x01\n", "t.yaml: control characters"},
        {"\ta: 1\n", "t.yaml:1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        YamlNode *root;
        assert_fails(parse(cases[i].text, &root), STATUS_INPUT, cases[i].message);
        assert_null(root);
    }
    char deep[200];
    YamlNode *root;
    memset(deep, '[', 32);
    memset(deep + 32, ']', 32);
    deep[64] = '\0';
    assert_ok(parse(deep, &root));
    yaml_release(root);
    memset(deep, '[', 33);
    memset(deep + 33, ']', 33);
    deep[66] = '\0';
    assert_fails(parse(deep, &root), STATUS_INPUT, "nested deeper than 32");
    memset(deep, '[', 199);
    deep[199] = '\0';
    assert_fails(parse(deep, &root), STATUS_INPUT, "nested deeper than 32");
    assert_fails(yaml_load("/absent/file.yaml", &root), STATUS_IO, "/absent/file.yaml");
}

/* ---- Settings ---- */

static const Setting table[] = {
    {"seed", SETTING_INTEGER, "1", "0..", "seed"},
    {"epochs", SETTING_INTEGER, "350", "1..1000", "passes"},
    {"init", SETTING_TEXT, "", NULL, "weights"},
    {"loss.name", SETTING_TEXT, NULL, NULL, "loss"},
    {"loss.reduction", SETTING_TEXT, "sum", "sum|mean", "sum or mean"},
    {"loss.alpha", SETTING_REAL, "0.05", "[0..0.1]", "smoothing"},
    {"loss.thresholds", SETTING_REALS, "[0.2]", "(0..1)", "thresholds"},
    {"loss.width", SETTING_REAL, "0.4", "(0..", "width"},
    {"schedule.epochs", SETTING_INTEGERS, "[150, 250]", "0..", "epochs"},
    {"model.blocks", SETTING_INTEGERS, "[]", "1..", "blocks"},
    {"optimizer.learning_rate", SETTING_REAL, "0.1", "..10", "rate"},
    {"best", SETTING_TEXTS, "auto", "auto|error|nll|a, b", "one or several"},
    {"optimizer.nesterov", SETTING_FLAG, "false", NULL, "nesterov"},
    {"optimizer.groups", SETTING_ROWS, "[]", NULL, "groups"},
    {"optimizer.groups[].parameters", SETTING_TEXT, NULL, NULL, "which"},
    {"optimizer.groups[].rule", SETTING_TEXT, "", "|sgd|adam", "how"},
    {"optimizer.groups[].factor", SETTING_REAL, "1", "0..", "of the rate"},
    {"optimizer.groups[].frozen", SETTING_FLAG, "false", NULL, "no step"},
    {"optimizer.groups[].widths", SETTING_INTEGERS, "[]", "1..", "a list in a list"},
    {"free", SETTING_REAL, NULL, NULL, "any number"},
};
enum { COUNT = sizeof table / sizeof *table };

static Status load(const char *path, Config **config)
{
    return config_load(table, COUNT, path, 0, NULL, config);
}

static Status load_override(const char *word, Config **config)
{
    return config_load(table, COUNT, NULL, 1, &word, config);
}

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
        {"init=*x", "quote it"},
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
        cmocka_unit_test(yaml_gives_a_tree_with_lines),
        cmocka_unit_test(yaml_of_nothing_is_an_empty_map),
        cmocka_unit_test(yaml_names_file_and_line_of_errors),
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
        SCRATCH(resolved_configs_round_trip),
        SCRATCH(lists_of_maps_are_read),
        SCRATCH(wrong_lists_of_maps_name_the_place),
        SCRATCH(hashes_tell_configs_apart),
        SCRATCH(texts_of_other_editors_are_read),
        cmocka_unit_test(nearest_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
