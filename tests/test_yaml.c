/* YAML as trees with lines. */
#include "tests/support.h"

#include "engine/base/yaml.h"

#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yaml_gives_a_tree_with_lines),
        cmocka_unit_test(yaml_of_nothing_is_an_empty_map),
        cmocka_unit_test(yaml_names_file_and_line_of_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
