/* What a sweep file stands for: names, order, settings, exclusions; and its mistakes, with file and line. */
#include "launch/sweep/sweep_plan.h"

#include "engine/base/file.h"
#include "tests/support.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char scratch[4096], sweep_path[PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    test_scratch_make(scratch);
    (void)snprintf(sweep_path, sizeof sweep_path, "%.4000s/sweep.yaml", scratch);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_scratch_remove(scratch);
    return 0;
}

static Status load(const char *text, SweepPlan *plan)
{
    assert_ok(file_write(sweep_path, text, strlen(text)));
    return sweep_plan_load(sweep_path, 0, NULL, plan);
}

static void assert_overrides(const SweepRun *run, const char *const wanted[])
{
    int count = 0;
    for (; wanted[count] != NULL; ++count)
        if (count < run->override_count) assert_string_equal(run->override[count].word, wanted[count]);
    assert_int_equal(run->override_count, count);
}

/* The path of a config beside the sweep file. */
static void assert_config(const SweepRun *run, const char *name)
{
    char wanted[PATH_MAX];
    (void)snprintf(wanted, sizeof wanted, "%.4000s/%s", scratch, name);
    assert_string_equal(run->config, wanted);
}

#define OVERRIDES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* An override is YAML once more: "data #1" alone would end at the comment. */
static void texts_keep_every_character(void **state)
{
    (void)state;
    SweepPlan plan;
    assert_ok(
        load("sweep: all\n"
             "base: base.yaml\n"
             "set: {dataset.folder: 'data #1', init: 'a: \"b\\', schedule.epochs: [1, '2, 3'],\n"
             "      optimizer: {groups: [{parameters: '*.bias', frozen: true}, {parameters: 'a, b: c'}]}}\n"
             "axes:\n"
             "  seed: [1]\n",
             &plan));
    assert_overrides(&plan.run[0], OVERRIDES("dataset.folder=\"data #1\"", "init=\"a: \\\"b\\\\\"",
                                             "schedule.epochs=[1, \"2, 3\"]",
                                             "optimizer.groups=[{parameters: \"*.bias\", frozen: true}, "
                                             "{parameters: \"a, b: c\"}]",
                                             "seed=1"));
    sweep_plan_free(&plan);
}

static void combinations_in_order(void **state)
{
    (void)state;
    SweepPlan plan;
    assert_ok(load("sweep: all\n"
                   "base: base.yaml\n"
                   "axes:\n"
                   "  data:\n"
                   "    a: {dataset.name: cifar10}\n"
                   "    b: {dataset: {name: cifar100, validation: 7}}\n"
                   "  loss:\n"
                   "    x: {}\n"
                   "    y: {loss.gammas: [5, 3]}\n"
                   "    z: {loss: {name: focal, policy: sample}}\n",
                   &plan));
    static const char *const names[] = {"a-x", "a-y", "a-z", "b-x", "b-y", "b-z"};
    assert_string_equal(plan.name, "all");
    assert_int_equal(plan.ranks, 1);
    assert_int_equal(plan.run_count, 6);
    for (int i = 0; i < plan.run_count; ++i) {
        assert_string_equal(plan.run[i].name, names[i]);
        assert_config(&plan.run[i], "base.yaml");
    }
    assert_overrides(&plan.run[0], OVERRIDES("dataset.name=cifar10"));
    assert_overrides(&plan.run[1], OVERRIDES("dataset.name=cifar10", "loss.gammas=[5, 3]"));
    assert_overrides(&plan.run[5], OVERRIDES("dataset.name=cifar100", "dataset.validation=7",
                                             "loss.name=focal", "loss.policy=sample"));
    sweep_plan_free(&plan);
    assert_null(plan.run);
}

static void an_axis_may_list_values(void **state)
{
    (void)state;
    SweepPlan plan;
    assert_ok(load("sweep: s\n"
                   "base: base.yaml\n"
                   "axes:\n"
                   "  loss: {x: {loss.name: brier}}\n"
                   "  seed: [1, 2]\n"
                   "  optimizer.learning_rate: [0.1, 5e-3]\n"
                   "exclude:\n"
                   "  - {seed: 1, optimizer.learning_rate: 5e-3}\n",
                   &plan));
    static const char *const names[] = {"x-seed1-learning_rate0.1", "x-seed2-learning_rate0.1",
                                        "x-seed2-learning_rate5e-3"};
    assert_int_equal(plan.run_count, 3);
    for (int i = 0; i < plan.run_count; ++i)
        assert_string_equal(plan.run[i].name, names[i]);
    assert_overrides(&plan.run[2], OVERRIDES("loss.name=brier", "seed=2", "optimizer.learning_rate=5e-3"));
    sweep_plan_free(&plan);
    assert_fails(sweep_plan_load(sweep_path, 1, OVERRIDES("seed=6"), &plan), STATUS_USAGE,
                 "seed is an axis of");
}

static void later_settings_win(void **state)
{
    (void)state;
    SweepPlan plan;
    static const char text[] = "sweep: s\n"
                               "base: base.yaml\n"
                               "ranks: 3\n"
                               "set: {epochs: 5, seed: 2}\n"
                               "axes:\n"
                               "  loss: {x: {seed: 3}, y: {seed: 4}}\n"
                               "adjust:\n"
                               "  - when: {loss: y}\n"
                               "    set: {seed: 5}\n"
                               "  - when: {loss: y}\n"
                               "    set: {optimizer: {learning_rate: 0.05}}\n";
    assert_ok(file_write(sweep_path, text, strlen(text)));
    assert_ok(sweep_plan_load(sweep_path, 2, OVERRIDES("seed=6", "epochs=1"), &plan));
    assert_int_equal(plan.ranks, 3);
    assert_int_equal(plan.run_count, 2);
    assert_overrides(&plan.run[0], OVERRIDES("seed=6", "epochs=1"));
    assert_overrides(&plan.run[1], OVERRIDES("optimizer.learning_rate=0.05", "seed=6", "epochs=1"));
    sweep_plan_free(&plan);
    assert_ok(sweep_plan_load(sweep_path, 0, NULL, &plan));
    assert_overrides(&plan.run[0], OVERRIDES("epochs=5", "seed=3"));
    assert_overrides(&plan.run[1], OVERRIDES("epochs=5", "seed=5", "optimizer.learning_rate=0.05"));
    sweep_plan_free(&plan);
    assert_ok(sweep_plan_load(sweep_path, 1, OVERRIDES("optimizer={learning_rate: 1, momentum: 0}"), &plan));
    assert_overrides(&plan.run[1],
                     OVERRIDES("epochs=5", "seed=5", "optimizer.learning_rate=1", "optimizer.momentum=0"));
    sweep_plan_free(&plan);
    assert_fails(sweep_plan_load(sweep_path, 2, OVERRIDES("seed=6", "seed=7"), &plan), STATUS_USAGE,
                 "command line: seed: is given twice, as seed=6 and as seed=7");
}

static void assert_origin(const SweepRun *run, int index, const char *word, int line)
{
    assert_string_equal(run->override[index].word, word);
    assert_int_equal(run->override[index].line, line);
    if (line > 0)
        assert_string_equal(run->override[index].file, sweep_path);
    else
        assert_null(run->override[index].file);
}

/* What errors about a setting name: the line that gave it last. */
static void settings_know_their_lines(void **state)
{
    (void)state;
    SweepPlan plan;
    static const char text[] = "sweep: s\n"
                               "base: base.yaml\n"
                               "set:\n"
                               "  epochs: 5\n"
                               "  loss:\n"
                               "    name: brier\n"
                               "axes:\n"
                               "  seed:\n"
                               "    - 1\n"
                               "    - 2\n"
                               "  of:\n"
                               "    x: {}\n"
                               "    y: {epochs: 6}\n"
                               "adjust:\n"
                               "  - when: {seed: 2}\n"
                               "    set: {loss.name: mmce}\n";
    assert_ok(file_write(sweep_path, text, strlen(text)));
    assert_ok(sweep_plan_load(sweep_path, 1, OVERRIDES("batch=7"), &plan));
    assert_string_equal(plan.path, sweep_path);
    assert_origin(&plan.run[0], 0, "epochs=5", 4);
    assert_origin(&plan.run[0], 1, "loss.name=brier", 6);
    assert_origin(&plan.run[0], 2, "seed=1", 9);
    assert_origin(&plan.run[0], 3, "batch=7", 0);
    assert_origin(&plan.run[3], 0, "seed=2", 10);
    assert_origin(&plan.run[3], 1, "epochs=6", 13);
    assert_origin(&plan.run[3], 2, "loss.name=mmce", 16);
    sweep_plan_free(&plan);
}

static void an_entry_may_name_the_config(void **state)
{
    (void)state;
    SweepPlan plan;
    assert_ok(load("sweep: s\n"
                   "base: base.yaml\n"
                   "axes:\n"
                   "  data: {a: {base: of_a.yaml, seed: 1}, b: {seed: 2}}\n"
                   "  more: {c: {}, d: {base: /of/d.yaml}}\n",
                   &plan));
    assert_config(&plan.run[0], "of_a.yaml");
    assert_string_equal(plan.run[1].config, "/of/d.yaml");
    assert_config(&plan.run[2], "base.yaml");
    assert_overrides(&plan.run[0], OVERRIDES("seed=1")); /* base is no setting */
    assert_int_equal(plan.run[2].override_count, 1);
    sweep_plan_free(&plan);
}

static void combinations_that_are_not_runs(void **state)
{
    (void)state;
    SweepPlan plan;
    assert_ok(load("sweep: s\n"
                   "base: base.yaml\n"
                   "axes:\n"
                   "  a: {1: {}, 2: {}, 3: {}}\n"
                   "  b: {x: {}, y: {}}\n"
                   "exclude:\n"
                   "  - {a: 1, b: y}\n"
                   "  - {a: 3}\n",
                   &plan));
    static const char *const names[] = {"1-x", "2-x", "2-y"};
    assert_int_equal(plan.run_count, 3);
    for (int i = 0; i < plan.run_count; ++i)
        assert_string_equal(plan.run[i].name, names[i]);
    sweep_plan_free(&plan);
}

typedef struct {
    const char *text, *message;
} Mistake;

static const Mistake mistakes[] = {
    {"", "sweep.yaml"},
    {"just words\n", "is not a sweep"},
    {"- a\n- b\n", "is not a sweep"},
    {"sweep: s\nbase: b.yaml\n", "has no axes"},
    {"sweep: s\nbase: b.yaml\naxes: {}\n", "sweep.yaml:3: axes is a map of axes"},
    {"sweep: s\nbase: b.yaml\naxes: [a]\n", "sweep.yaml:3: axes is a map of axes"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a: 3\n", "sweep.yaml:4: axis a is a map of entries"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a: []\n", "sweep.yaml:4: axis a is a map of entries"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a: [1, [2]]\n", "sweep.yaml:4: a list of values holds plain ones"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a:\n  - 1\n  - 2\n  - 1\n", "sweep.yaml:7: a has the value 1 twice"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a: [x/y]\n", "sweep.yaml:4: \"x/y\" cannot be part"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a: {}\n", "sweep.yaml:4: axis a is a map of entries"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a:\n    x: 3\n", "sweep.yaml:5: entry x needs its settings as a map"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a:\n    x: {}\n    x: {}\n", "sweep.yaml:6"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a:\n    ../x: {}\n", "sweep.yaml:5: \"../x\" cannot be part"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a:\n    x-y: {}\n", "sweep.yaml:5: \"x-y\" cannot be part"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a:\n    \"\": {}\n", "cannot be part"},
    {"sweep: a/b\nbase: b.yaml\naxes: {a: {x: {}}}\n", "sweep.yaml:1: \"a/b\" cannot be part"},
    {"sweep: [s]\nbase: b.yaml\naxes: {a: {x: {}}}\n", "needs sweep: NAME"},
    {"base: b.yaml\naxes: {a: {x: {}}}\n", "needs sweep: NAME"},
    {"sweep: s\naxes: {a: {x: {}}}\n", "names no base config"},
    {"sweep: s\naxes:\n  a: {x: {base: b.yaml}, y: {}}\n", "names no base config"},
    {"sweep: s\nbase: [b.yaml]\naxes: {a: {x: {}}}\n", "names no base config"},
    {"sweep: s\nbase: b.yaml\nepochs: 3\naxes: {a: {x: {}}}\n", "sweep.yaml:3: a sweep has no \"epochs\""},
    {"sweep: s\nsweep: t\nbase: b.yaml\naxes: {a: {x: {}}}\n", "sweep.yaml:2"},
    {"sweep: s\nbase: b.yaml\nranks: 0\naxes: {a: {x: {}}}\n", "sweep.yaml:3: ranks is a whole number"},
    {"sweep: s\nbase: b.yaml\nranks: 2x\naxes: {a: {x: {}}}\n", "sweep.yaml:3: ranks is a whole number"},
    {"sweep: s\nbase: b.yaml\nranks: \"\"\naxes: {a: {x: {}}}\n", "sweep.yaml:3: ranks is a whole number"},
    {"sweep: s\nbase: b.yaml\nranks: [1]\naxes: {a: {x: {}}}\n", "sweep.yaml:3: ranks is a whole number"},
    {"sweep: s\nbase: b.yaml\nset: 3\naxes: {a: {x: {}}}\n", "sweep.yaml:3: settings are a map"},
    {"sweep: s\nbase: b.yaml\naxes:\n  a:\n    x: {loss.gammas: [[1]]}\n",
     "sweep.yaml:5: a list of settings"},
    {"sweep: s\nbase: b.yaml\nset: {seed: 1}\naxes:\n  a:\n    x:\n      loss: {name: x}\n      loss.name: "
     "y\n",
     "sweep.yaml:8: loss.name: was already given in line 7"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nexclude: {a: x}\n", "sweep.yaml:4: exclude is a list"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nexclude:\n  - a\n", "sweep.yaml:5: a combination is a map"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nexclude:\n  - {b: x}\n",
     "sweep.yaml:5: there is no axis b"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nexclude:\n  - {a: y}\n",
     "sweep.yaml:5: axis a has no entry \"y\""},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nexclude:\n  - {a: [x]}\n",
     "sweep.yaml:5: axis a has no entry"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nexclude:\n  - {a: x}\n", "excludes every run"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nadjust: 3\n", "sweep.yaml:4: adjust is a list"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nadjust:\n  - set: {seed: 1}\n",
     "sweep.yaml:5: an adjustment has when: and set:"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nadjust:\n  - x\n",
     "sweep.yaml:5: an adjustment has when: and set:"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nadjust:\n  - {when: {a: z}, set: {seed: 1}}\n",
     "sweep.yaml:5: axis a has no entry \"z\""},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nadjust:\n  - {when: {}, set: {seed: 1}}\n",
     "sweep.yaml:5: a combination names at least one axis"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}}\nexclude:\n  - {}\n",
     "sweep.yaml:5: a combination names at least"},
    {"sweep: s\nbase: b.yaml\naxes: {a: {x: {}}\n", "sweep.yaml"}, /* not YAML */
};

static void mistakes_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; ++i) {
        SweepPlan plan;
        print_message("%s-> %s\n", mistakes[i].text, mistakes[i].message);
        assert_fails(load(mistakes[i].text, &plan), STATUS_INPUT, mistakes[i].message);
        assert_null(plan.run);
    }
    SweepPlan plan;
    assert_fails(sweep_plan_load("/nowhere/sweep.yaml", 0, NULL, &plan), STATUS_IO, "/nowhere/sweep.yaml");
}

/* Far more combinations than anybody means, and more axes than there may be. */
static void sizes_are_bounded(void **state)
{
    (void)state;
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    size_t used = (size_t)sprintf(text, "sweep: s\nbase: b.yaml\naxes:\n");
    for (int axis = 0; axis < 8; ++axis) {
        used += (size_t)sprintf(text + used, "  a%d:\n", axis);
        for (int entry = 0; entry < 200; ++entry)
            used += (size_t)sprintf(text + used, "    e%d: {}\n", entry);
    }
    SweepPlan plan;
    assert_fails(load(text, &plan), STATUS_INPUT, "stands for more than");
    used = (size_t)sprintf(text, "sweep: s\nbase: b.yaml\naxes:\n");
    for (int axis = 0; axis < 9; ++axis)
        used += (size_t)sprintf(text + used, "  a%d: {x: {}}\n", axis);
    assert_fails(load(text, &plan), STATUS_INPUT, "9 axes; at most 8");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_keep_every_character),   cmocka_unit_test(combinations_in_order),
        cmocka_unit_test(an_axis_may_list_values),      cmocka_unit_test(later_settings_win),
        cmocka_unit_test(an_entry_may_name_the_config), cmocka_unit_test(combinations_that_are_not_runs),
        cmocka_unit_test(mistakes_are_named),           cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(settings_know_their_lines),
    };
    return cmocka_run_group_tests_name("sweep_plan", tests, set_up, tear_down);
}
