/* Reports: the table on the terminal, the page, the command. Folders are made up here. */
#include "tests/listening.h"
#include "tests/made_runs.h"
#include "tests/report_text.h"
#include "tests/support.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "launch/report/html.h"
#include "launch/report/report.h"
#include "launch/runs/run_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the table ---- */

static void test_table(void **state)
{
    (void)state;
    complete_run(scratch, "ce", "cross_entropy", 0.1234, 0.0811, 0.0122);
    complete_run(scratch, "focal", "focal", 0.1111, 0.0222, 0.0133);
    put_metrics(new_run(scratch, "half", "focal"), 2);
    complete_run(scratch, "r\x1b[2J\xc2\x9b\xc3\xa9", "brier", 0.2, 0.3, 0.25);
    RunSummary *runs = load_runs(scratch, 4);
    char *text = table_of(runs, 4);
    size_t length, first_length;
    const char *line = line_of(text, "ce ", &first_length);
    assert_string_equal(line,
                        "ce 12.34 1.7 0.811 -> 0.122* 8.11 [7.30, 8.92] -> 1.22* [1.10, 1.34] 8.21 -> 1.32* "
                        "2.03 -> 0.30* 24.33 -> 3.66*");
    line = line_of(text, "focal ", &length);
    assert_string_equal(line,
                        "focal 11.11* 1.7 0.222* -> 0.133 2.22* [2.00, 2.44] -> 1.33 [1.20, 1.46] 2.32* -> "
                        "1.43 0.56* -> 0.33 6.66* -> 3.99 ");
    assert_int_equal(length, first_length); /* aligned */
    assert_has(line_of(text, "half ", &length), "unfinished: 2 of 4 epochs done");
    assert_has(line_of(text, "r?", &length), "r?[2J?\xc3\xa9 20.00 ");
    assert_int_equal(length, first_length + 1); /* two bytes, one place */
    for (const char *at = text; *at != '\0'; ++at)
        assert_true(*at == '\n' || (unsigned char)*at >= 0x20);
    free(text);
    /* One alone is not the best of anything. */
    text = table_of(runs, 1);
    assert_lacks(text, "*");
    free(text);
    run_summaries_free(runs, 4);
}

/* Runs on different data are not compared. */
static void test_best_of_each_data_set(void **state)
{
    (void)state;
    static const struct {
        const char *name, *dataset;
        double error;
    } made[] = {{"a", "cifar10", 0.05},
                {"b", "cifar10", 0.06},
                {"c", "sst", 0.12},
                {"d", "sst", 0.11},
                {"e", "alone", 0.01}};
    for (int i = 0; i < 5; ++i) {
        char config[120];
        complete_run(scratch, made[i].name, "focal", made[i].error, 0.02 * (i + 1), 0.0123);
        (void)snprintf(config, sizeof config, "resolved: true\nepochs: 4\ndataset.name: %s\n",
                       made[i].dataset);
        put_file(path_in(scratch, made[i].name), "config.yaml", config);
    }
    RunSummary *runs = load_runs(scratch, 5);
    char *text = table_of(runs, 5), *html = page_of(runs, 5, 0);
    static const char *const cells[] = {"a 5.00* ", "b 6.00 ", "c 12.00 ", "d 11.00* ", "e 1.00 "};
    size_t length;
    for (int i = 0; i < 5; ++i) {
        char start[8];
        (void)snprintf(start, sizeof start, "%s ", made[i].name);
        assert_has(line_of(text, start, &length), cells[i]);
    }
    assert_has(text, "* best of its column, of runs on one data set.");
    assert_has(html, "<strong>5.00</strong>");
    assert_has(html, "<strong>11.00</strong>");
    assert_lacks(html, "<strong>1.00</strong>");
    assert_has(html, "the best of its column, of runs on one data set");
    free(html);
    free(text);
    run_summaries_free(runs, 5);
}

static void test_table_of_nothing_measured(void **state)
{
    (void)state;
    put_metrics(new_run(scratch, "half", "focal"), 0);
    put_file(new_run(scratch, "over", "focal"), "failure.txt", "a\x1b[2Jname");
    put_file(scratch, "sweep.json", "{\"runs\":[\"half\",\"none\",\"over\"]}");
    RunSummary *runs = load_runs(scratch, 3);
    size_t length;
    char *text = table_of(runs, 3);
    assert_has(line_of(text, "over", &length), "failed: a?[2Jname");
    assert_has(line_of(text, "half", &length), "unfinished: 0 of 4");
    assert_has(line_of(text, "none", &length), "not begun");
    free(text);
    run_summaries_free(runs, 3);
}

static void test_table_into_a_full_disk(void **state)
{
    (void)state;
    complete_run(scratch, "ce", "cross_entropy", 0.1234, 0.0811, 0.0122);
    RunSummary *runs = load_runs(scratch, 1);
    FILE *full = fopen("/dev/full", "w");
    if (full != NULL) {
        assert_fails(run_table_print(runs, 1, full), STATUS_IO, "table");
        (void)fclose(full);
    }
    run_summaries_free(runs, 1);
}

/* ---- the page ---- */

static void test_page(void **state)
{
    (void)state;
    complete_run(scratch, "cross_entropy", "cross_entropy", 0.1234, 0.0811, 0.0122);
    complete_run(scratch, "flsd_53", "focal", 0.1111, 0.0222, 0.0333);
    RunSummary *runs = load_runs(scratch, 2);
    char *html = page_of(runs, 2, 0);
    assert_has(html, "<strong>2.22</strong><small>2.00&ndash;2.44</small>"); /* best before */
    assert_has(html, "<strong>1.22</strong><small>1.10&ndash;1.34</small>"); /* best after */
    assert_has(html, ">3.33<sup>&dagger;</sup>");                            /* scaling made it worse */
    assert_has(html, "Temperature scaling made the test ECE worse");
    assert_has(html, "from 2.22&nbsp;% (flsd_53) to 8.11&nbsp;% (cross_entropy)");
    assert_has(html, "10,000 test samples of 10 classes");
    assert_int_equal(count_of(html, "where nine of ten calibrated networks would lie"), 1);
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram before"), 2);
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram after"), 2);
    assert_int_equal(count_of(html, "<svg"), 4 + 6 + 2);
    assert_int_equal(count_of(html, "fill-opacity = '0.250000'"),
                     4); /* the bin of three samples, in each diagram */
    assert_int_equal(count_of(html, "aria-label=\"Expected calibration error of each run"), 2);
    assert_has(html, "<div class=\"if-wide\"><svg viewBox=\"0 0 760 ");
    assert_has(html, "<div class=\"if-narrow\"><svg viewBox=\"0 0 330 "); /* what a telephone has room for */
    assert_has(html, "NLL, misclassified samples");
    assert_has(html, "var(--run-0)");
    assert_has(html, "var(--run-1)");
    assert_lacks(html, "var(--run-2)'");
    assert_lacks(html, "rgb(");
    assert_has(html, "The runs differ in 1 setting;");
    assert_has(html, "<code>loss.name</code>");
    assert_has(html, "<td><code>focal</code></td>");
    assert_has(html, "schedule.epochs: [150, 250]"); /* the whole config */
    assert_has(html, "node-seven");
    assert_has(html, "gcc &lt;12&gt;");
    assert_int_equal(count_of(html, "node-seven"), 1); /* one machine, one column */
    assert_has(html, "2.0&nbsp;min");
    assert_has(html, ">Samples/s</th>");
    free(html);
    run_summaries_free(runs, 2);
}

static void test_speed_counts_what_runs_count(void **state)
{
    (void)state;
    put_file(new_run(scratch, "words", "focal"), "metrics.jsonl",
             "{\"epoch\":1,\"seconds\":2,\"tokens_per_second\":711}\n");
    RunSummary *runs = load_runs(scratch, 1);
    char *html = page_of(runs, 1, 0);
    assert_has(html, ">Tokens/s</th>");
    assert_has(html, ">711</td>");
    free(html);
    run_summaries_free(runs, 1);
    put_metrics(new_run(scratch, "images", "focal"), 1);
    runs = load_runs(scratch, 2);
    html = page_of(runs, 2, 0);
    assert_has(html, ">Samples or tokens/s</th>");
    free(html);
    run_summaries_free(runs, 2);
}

/* T = 1 scales nothing: what is different is rounding. */
static void test_no_scaling_hurts_nothing(void **state)
{
    (void)state;
    assert_true(evaluation_scaling_hurts(0.02, 0.03, 1.7));
    assert_false(evaluation_scaling_hurts(0.03, 0.02, 1.7));
    assert_false(evaluation_scaling_hurts(0.02, 0.02000001, 1.7));
    assert_false(evaluation_scaling_hurts(0.02, 0.03, 1));
    assert_false(evaluation_scaling_hurts(NAN, 0.03, 1.7));
}

static void test_page_of_one_run(void **state)
{
    (void)state;
    complete_run(scratch, "alone", "brier", 0.1, 0.02, -1);
    RunSummary *runs = load_runs(scratch, 1);
    char *html = page_of(runs, 1, 0);
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram"), 1);
    assert_lacks(html, "<strong>2.00</strong>"); /* no best of one */
    assert_lacks(html, "differ in");
    free(html);
    run_summaries_free(runs, 1);
}

static void test_page_of_unfinished_runs(void **state)
{
    (void)state;
    put_metrics(new_run(scratch, "half", "focal"), 1);
    put_file(new_run(scratch, "damaged", "focal"), "evaluation.json", "{");
    put_file(new_run(scratch, "broken", "focal"), "failure.txt", "no <data> in 'x'\nmore");
    put_file(scratch, "sweep.json", "{\"runs\":[\"half\",\"damaged\",\"never\",\"broken\"]}");
    RunSummary *runs = load_runs(scratch, 4);
    char *html = page_of(runs, 4, 0);
    assert_has(html, "failed: no &lt;data&gt; in &#39;x&#39;</td>");
    assert_has(html, "<td>failed</td>");
    assert_has(html, "unfinished: 1 of 4 epochs done; so far: test error 30.00 %, ECE 4.00 %");
    assert_has(html, "not begun");
    assert_has(html, "evaluation damaged");
    assert_has(html, "Files that could not be read");
    assert_has(html, "4 runs, 0 complete, 1 unfinished, 1 failed, 1 damaged, 1 not begun");
    assert_int_equal(count_of(html, "<svg"), 6); /* one epoch is a curve too */
    free(html);
    run_summaries_free(runs, 4);
}

static void test_hostile_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "<script>alert(1)<b>", "a&b\"c'd",     "'; system \"touch pwned\" #", "`touch pwned`",
        "@@x\\n{/:Bold y}_%d", "\xff\xfe\x01", "\xc3\xa9t\xc3\xa9\x1b[31m",   "-->]]>"};
    enum { NAMES = sizeof names / sizeof names[0] };
    char here[SCRATCH_SIZE];
    assert_non_null(getcwd(here, sizeof here));
    for (int i = 0; i < NAMES; ++i) {
        complete_run(scratch, names[i], "'<i>&x'", 0.1 + 0.01 * i, 0.02, 0.01);
        put_file(path_in(scratch, names[i]), "environment.json",
                 "{\"host\":\"<img src=x>\",\"a<b\":\"\\u0007\"}");
    }
    RunSummary *runs = load_runs(scratch, NAMES);
    assert_int_equal(chdir(scratch), 0);
    char *html = page_of(runs, NAMES, 0);
    assert_int_equal(access("pwned", F_OK), -1);
    assert_int_equal(chdir(here), 0);
    assert_has(html, "&lt;script&gt;alert(1)&lt;b&gt;");
    assert_has(html, "a&amp;b&quot;c&#39;d");
    assert_lacks(html, "<img");
    assert_lacks(html, "<i>");
    for (const char *at = html; *at != '\0'; ++at)
        assert_true(*at == '\n' || *at == '\t' || (unsigned char)*at >= 0x20);
    assert_lacks(html, "\xff");
    free(html);
    run_summaries_free(runs, NAMES);
}

static void test_many_runs(void **state)
{
    (void)state;
    enum { RUNS = 60 };
    char name[32];
    for (int i = 0; i < RUNS; ++i) {
        (void)snprintf(name, sizeof name, "run-%02d", i);
        complete_run(scratch, name, "brier", 0.1 + 0.001 * i, 0.02 + 0.001 * i, 0.01);
    }
    RunSummary *runs = load_runs(scratch, RUNS);
    char *html = page_of(runs, RUNS, 3);
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram"), 6);
    assert_has(html, "The figures show the first 3 of 60 runs");
    assert_has(html, "The first 40 of 60 runs.");
    assert_has(html, ">run-59<");
    /* The script is the last thing of the page, which is whole without it. */
    const char *script = strstr(html, "</footer>\n<script>\n");
    assert_non_null(script);
    assert_int_equal(count_of(html, "<script>"), 1);
    assert_string_equal(strstr(script, "</script>"), "</script>\n</body>\n</html>\n");
    free(html);
    html = page_of(runs, 20, 3);
    assert_lacks(html, "<script>");
    free(html);
    html = page_of(runs, 10, 10); /* more than there are colours */
    assert_int_equal(count_of(html, "aria-label=\"Reliability diagram"), 20);
    free(html);
    run_summaries_free(runs, RUNS);
}

/* Wherever a name stands a line may break within it. */
static void test_longest_name(void **state)
{
    (void)state;
    char name[256];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    complete_run(scratch, name, "brier", 0.1, 0.02, 0.01);
    complete_run(scratch, "short", "brier", 0.2, 0.02, 0.01);
    RunSummary *runs = load_runs(scratch, 2);
    char *html = page_of(runs, 2, 0);
    assert_has(html, name);
    static const char *const rules[] = {"body{overflow-wrap:break-word}",
                                        "td code,table.machines td,li{overflow-wrap:anywhere}",
                                        "tbody th{font-weight:500;overflow-wrap:anywhere"};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; ++i)
        assert_has(html, rules[i]);
    free(html);
    char *table = table_of(runs, 2);
    size_t length;
    (void)line_of(table, "nnn", &length);
    assert_true(length < 200);
    free(table);
    run_summaries_free(runs, 2);
}

static void test_without_gnuplot(void **state)
{
    (void)state;
    complete_run(scratch, "alone", "brier", 0.1, 0.02, 0.01);
    RunSummary *runs = load_runs(scratch, 1);
    const ReportOptions options = report_defaults();
    char *path = strdup(getenv("PATH")), *html;
    assert_non_null(path);
    assert_int_equal(setenv("PATH", scratch, 1), 0);
    assert_fails(report_html(runs, 1, &options, &html), STATUS_UNSUPPORTED, "gnuplot-nox");
    assert_null(html);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
    run_summaries_free(runs, 1);
}

static void test_text_of_html(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"<&>\"'", "&lt;&amp;&gt;&quot;&#39;"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* cut short */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xef\xbf\xbf", "\xef\xbf\xbd"},                         /* a noncharacter */
        {"a\x01\nb\x7f", "a\xef\xbf\xbd\nb\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        char *text;
        size_t size;
        FILE *stream = open_memstream(&text, &size);
        html_text(stream, cases[i][0]);
        assert_int_equal(fclose(stream), 0);
        assert_string_equal(text, cases[i][1]);
        free(text);
    }
}

static void test_strings_of_gnuplot(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int limit;
        const char *written;
    } cases[] = {{"plain", 5, "'plain'"},
                 {"", 5, "''"},
                 {"it's\n", 9, "'it\xe2\x80\x99s '"},
                 {"focal-seed10", 11, "'foca...ed10'"},
                 {"focal-seed10", 10, "'foca...d10'"},
                 {"focal-seed10", 3, "'...'"},
                 {"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa8", 5, "'\xc3\xa9...\xc3\xa8'"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        char *text;
        size_t size;
        FILE *stream = open_memstream(&text, &size);
        html_gnuplot_string(stream, cases[i].text, cases[i].limit);
        assert_int_equal(fclose(stream), 0);
        assert_string_equal(text, cases[i].written);
        free(text);
    }
}

/* ---- the command ---- */

static Status run_command(int argc, const char *const words[])
{
    World *world;
    char *argv[8];
    int none = 0;
    char **nothing = NULL;
    assert_ok(comm_start(&none, &nothing, &world));
    for (int i = 0; i < argc; ++i)
        argv[i] = (char *)(uintptr_t)words[i];
    log_set_quiet(true);
    Status status = command_report(world, argc, argv);
    comm_stop(world);
    return status;
}

/* Root may read everything: it becomes somebody else for a while. */
static uid_t lose_rights(void)
{
    enum { NOBODY = 65534 };
    const uid_t user = geteuid();
    assert_int_equal(chmod(scratch, 0777), 0);
    if (user == 0) assert_int_equal(setresuid(NOBODY, NOBODY, user), 0);
    return user;
}

static void test_folders_that_cannot_be_read(void **state)
{
    (void)state;
    complete_run(scratch, "folder/one", "brier", 0.1, 0.02, 0.01);
    complete_run(scratch, "folder/closed/two", "brier", 0.1, 0.02, 0.01);
    complete_run(scratch, "sweep/one", "brier", 0.1, 0.02, 0.01);
    complete_run(scratch, "sweep/closed", "brier", 0.1, 0.02, 0.01);
    put_file(path_in(scratch, "sweep"), "sweep.json", "{\"runs\":[\"one\",\"closed\"]}");
    assert_int_equal(chmod(path_in(scratch, "folder/closed"), 0), 0);
    assert_int_equal(chmod(path_in(scratch, "sweep/closed"), 0), 0);
    const uid_t user = lose_rights();
    start_listening();
    RunSummary *runs = NULL;
    int count = 0;
    const char *const folder[] = {path_in(scratch, "folder")};
    const Status status = run_summaries_load(folder, 1, &runs, &count);
    char *said = heard();
    assert_ok(status);
    assert_int_equal(count, 1);
    assert_string_equal(runs[0].name, "one");
    assert_has(said, "warning: ");
    assert_has(said, "/folder/closed: Permission denied; it is left out");
    assert_int_equal(lines_of(said), 1);
    free(said);
    run_summaries_free(runs, count);
    /* One that was named is an error. */
    const char *const closed[] = {path_in(scratch, "folder/closed")};
    assert_fails(run_summaries_load(closed, 1, &runs, &count), STATUS_IO,
                 "/folder/closed: Permission denied");
    /* A sweep's run has its row all the same. */
    runs = load_runs(path_in(scratch, "sweep"), 2);
    assert_int_equal(runs[0].state, RUN_COMPLETE);
    assert_int_equal(runs[1].state, RUN_MISSING);
    assert_has(runs[1].problem, "/sweep/closed cannot be read: Permission denied");
    run_summaries_free(runs, 2);
    assert_int_equal(setresuid(user, user, user), 0);
    assert_int_equal(chmod(path_in(scratch, "folder/closed"), 0700), 0);
    assert_int_equal(chmod(path_in(scratch, "sweep/closed"), 0700), 0);
}

static void test_command(void **state)
{
    (void)state;
    char output[SCRATCH_SIZE], *text;
    size_t size;
    complete_run(scratch, "sweep/alone", "brier", 0.1, 0.02, 0.01);
    char folder[SCRATCH_SIZE];
    assert_ok(file_join(output, scratch, "page.html"));
    assert_ok(file_join(folder, scratch, "sweep"));
    assert_ok(run_command(2, (const char *[]){"report", folder}));
    assert_ok(file_read(path_in(folder, "report.html"), 1 << 24, &text, &size));
    assert_has(text, "<title>Calibration of sweep</title>");
    free(text);
    assert_ok(run_command(6, (const char *[]){"report", "--title", "A <title>", folder, "--output", output}));
    assert_ok(file_read(output, 1 << 24, &text, &size));
    assert_has(text, "<title>A &lt;title&gt;</title>");
    assert_well_formed(text);
    free(text);
    /* A folder that is given twice is one folder: of its own title, and the page in it. */
    assert_int_equal(unlink(path_in(folder, "report.html")), 0);
    char again[SCRATCH_SIZE], link[SCRATCH_SIZE];
    assert_ok(file_join(again, folder, "../sweep/"));
    assert_ok(file_join(link, scratch, "link"));
    assert_int_equal(symlink("sweep", link), 0);
    start_listening();
    Status status = run_command(5, (const char *[]){"report", folder, again, folder, link});
    char *said = heard();
    assert_ok(status);
    assert_ok(file_read(path_in(folder, "report.html"), 1 << 24, &text, &size));
    assert_has(text, "<title>Calibration of sweep</title>");
    assert_has(text, "<p class=\"facts\">1 run ");
    free(text);
    assert_has(said, "warning: ");
    assert_has(said, "/../sweep/ is the same folder as ");
    assert_has(said, "/sweep was given twice and counts once");
    assert_has(said, "/link is the same folder as ");
    assert_int_equal(lines_of(said), 3);
    free(said);
    assert_fails(run_command(1, (const char *[]){"report"}), STATUS_USAGE, "needs the folder");
    assert_fails(run_command(3, (const char *[]){"report", folder, "--outptu"}), STATUS_USAGE, "--outptu");
    assert_fails(run_command(3, (const char *[]){"report", folder, "--output"}), STATUS_USAGE,
                 "--output needs");
    assert_fails(run_command(4, (const char *[]){"report", folder, "--figures", "3x"}), STATUS_USAGE, "3x");
    assert_fails(run_command(2, (const char *[]){"report", output}), STATUS_INPUT, "page.html");
    assert_fails(run_command(4, (const char *[]){"report", folder, "--output", "/proc/none/x.html"}),
                 STATUS_IO, "/proc/none");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_quiet_scratch, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_table),
        TEST(test_best_of_each_data_set),
        TEST(test_table_of_nothing_measured),
        TEST(test_table_into_a_full_disk),
        TEST(test_page),
        TEST(test_speed_counts_what_runs_count),
        TEST(test_no_scaling_hurts_nothing),
        TEST(test_page_of_one_run),
        TEST(test_page_of_unfinished_runs),
        TEST(test_hostile_names),
        TEST(test_many_runs),
        TEST(test_longest_name),
        TEST(test_without_gnuplot),
        TEST(test_text_of_html),
        TEST(test_strings_of_gnuplot),
        TEST(test_folders_that_cannot_be_read),
        TEST(test_command),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
