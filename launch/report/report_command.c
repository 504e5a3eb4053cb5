#include "launch/report/report.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/options.h"
#include "launch/report/paper_page.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char report_help[] =
    "usage: plumb report DIR ... [--output FILE.html] [--title TEXT] [--figures N]\n"
    "       plumb report DIR ... --paper [--output FILE.html] [--title TEXT]\n"
    "\n"
    "Writes one HTML page, which needs no other file, with the runs side by side: calibration before and "
    "after\n"
    "temperature scaling with confidence intervals, reliability diagrams, training curves, settings, "
    "machines.\n"
    "A DIR is a run's folder or a folder of runs, such as a sweep's. Runs that differ in nothing but their "
    "seed also get\n"
    "a row of means and standard deviations over the seeds.\n"
    "\n"
    "  --output FILE  where to write it; - is standard output. Default: report.html in DIR if there is one "
    "DIR, else here\n"
    "  --title TEXT   default: the names of the DIRs\n"
    "  --figures N    at most so many runs in the figures (default 8); the tables always have all\n"
    "  --paper        instead, every table and figure of the paper (Mukhoti et al., 2020) of the runs of "
    "configs/paper_*.yaml,\n"
    "                 beside the published numbers; what is not trained is shown as missing. Default: "
    "paper.html. The numbers of\n"
    "                 each table and figure go to FILE_data/ beside the page, as CSV and JSON (not with "
    "--output -)\n";

typedef struct {
    const char **folder;
    int folders;
    const char *output;
    bool paper;
    ReportOptions options;
} Arguments;

static Status parse(int argc, char **argv, Arguments *arguments)
{
    int64_t figures = arguments->options.figure_runs;
    const Option options[] = {{"output", "a file", .text = &arguments->output},
                              {"title", "a text", .text = &arguments->options.title},
                              {"paper", .flag = &arguments->paper},
                              {"figures", .number = &figures, .low = 1, .high = 100}};
    TRY(options_parse(options, sizeof options / sizeof *options, argc, argv, arguments->folder,
                      &arguments->folders));
    arguments->options.figure_runs = (int)figures;
    if (arguments->folders == 0)
        return fail(STATUS_USAGE,
                    "plumb report needs the folder of a run or of runs (see plumb report --help)");
    return OK;
}

static bool is_same_folder(const char *a, const char *b)
{
    struct stat left, right;
    return stat(a, &left) == 0 && stat(b, &right) == 0 && left.st_dev == right.st_dev &&
           left.st_ino == right.st_ino;
}

/* Neither the title nor the usual place of the page is that of several folders where one was given twice. */
static void drop_repeated(Arguments *arguments)
{
    int kept = 0;
    for (int i = 0; i < arguments->folders; ++i) {
        const char *folder = arguments->folder[i];
        int k = 0;
        while (k < kept && !is_same_folder(folder, arguments->folder[k]))
            ++k;
        if (k == kept)
            arguments->folder[kept++] = folder;
        else if (strcmp(folder, arguments->folder[k]) == 0)
            log_warning("%s was given twice and counts once", folder);
        else
            log_warning("%s is the same folder as %s and counts once", folder, arguments->folder[k]);
    }
    arguments->folders = kept;
}

/* The last names of the folders, as a person would call them. */
static Status title_of(const Arguments *arguments, char **title)
{
    char *text = NULL;
    TRY(text_copy("Calibration of ", &text));
    for (int i = 0; i < arguments->folders; ++i) {
        char *real = realpath(arguments->folder[i], NULL), *longer;
        const char *slash = real != NULL ? strrchr(real, '/') : NULL;
        Status status = text_format(&longer, "%s%s%s", text, i > 0 ? ", " : "",
                                    slash != NULL && slash[1] != '\0' ? slash + 1 : arguments->folder[i]);
        free(real);
        free(text);
        TRY(status);
        text = longer;
    }
    *title = text;
    return OK;
}

static bool is_standard_output(const Arguments *arguments)
{
    return arguments->output != NULL && strcmp(arguments->output, "-") == 0;
}

static Status output_path(const Arguments *arguments, char path[PATH_MAX])
{
    const char *usual = arguments->paper ? "paper.html" : "report.html";
    if (arguments->output != NULL) return file_join(path, ".", arguments->output);
    return file_join(path, arguments->folders == 1 ? arguments->folder[0] : "", usual);
}

/* Before the work. A folder of runs that is not there is a mistake of its own. */
static Status check_output(const Arguments *arguments)
{
    char path[PATH_MAX];
    struct stat about;
    if (is_standard_output(arguments)) return OK;
    const bool inside = arguments->output == NULL && arguments->folders == 1;
    if (inside && (stat(arguments->folder[0], &about) != 0 || !S_ISDIR(about.st_mode))) return OK;
    TRY(output_path(arguments, path));
    return file_check_writable(path);
}

static Status write_output(const Arguments *arguments, const char *html)
{
    char path[PATH_MAX];
    if (is_standard_output(arguments)) {
        if (fputs(html, stdout) >= 0 && fflush(stdout) == 0) return OK;
        return fail(STATUS_IO, "the report could not be written to standard output");
    }
    TRY(output_path(arguments, path));
    TRY(file_write(path, html, strlen(html)));
    log_info("%s", arguments->output != NULL ? arguments->output : path);
    return OK;
}

/* The folder of a page's numbers: "paper_data" beside "paper.html". */
static Status data_folder(const Arguments *arguments, char folder[PATH_MAX])
{
    static const char ending[] = ".html", more[] = "_data";
    TRY(output_path(arguments, folder));
    size_t length = strlen(folder);
    if (length > strlen(ending) && strcmp(folder + length - strlen(ending), ending) == 0)
        length -= strlen(ending);
    if (length + sizeof more > PATH_MAX) return fail(STATUS_INPUT, "%s: the name is too long", folder);
    memcpy(folder + length, more, sizeof more);
    return OK;
}

static Status make_paper(const Arguments *arguments, const RunSummary runs[], int count)
{
    char folder[PATH_MAX], *html;
    const bool streamed = is_standard_output(arguments);
    if (!streamed) TRY(data_folder(arguments, folder));
    TRY(paper_html(runs, count, arguments->options.title, streamed ? NULL : folder, &html));
    const Status status = write_output(arguments, html);
    free(html);
    return status;
}

static Status make_report(Arguments *arguments)
{
    RunSummary *runs = NULL;
    ReportOptions options = arguments->options;
    char *title = NULL, *html = NULL;
    int count = 0;
    Status status;
    drop_repeated(arguments);
    TRY_ELSE(done, check_output(arguments));
    TRY_ELSE(done, run_summaries_load(arguments->folder, arguments->folders, &runs, &count));
    for (int i = 0; i < count; ++i)
        if (runs[i].problem != NULL) log_warning("%s", runs[i].problem);
    if (arguments->paper) {
        status = make_paper(arguments, runs, count);
        goto done;
    }
    if (options.title == NULL) {
        TRY_ELSE(done, title_of(arguments, &title));
        options.title = title;
    }
    TRY_ELSE(done, report_html(runs, count, &options, &html));
    TRY_ELSE(done, write_output(arguments, html));
done:
    run_summaries_free(runs, count);
    free(title);
    free(html);
    return status;
}

Status command_report(World *world, int argc, char **argv)
{
    Arguments arguments = {.options = report_defaults()};
    TRY(memory_new(&arguments.folder, (size_t)argc, sizeof *arguments.folder, "arguments"));
    Status status = parse(argc, argv, &arguments);
    if (status == OK && world->rank == 0) status = make_report(&arguments);
    free(arguments.folder);
    return comm_agree(world, status);
}
