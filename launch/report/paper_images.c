/* Figure H.1: test images that all losses get right, and images that all get wrong, with the confidence of each. */
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/npy.h"
#include "engine/data/images/dataset.h"
#include "engine/data/images/png.h"
#include "launch/report/html.h"
#include "launch/report/paper_figures.h"
#include "launch/runs/run_folder.h"
#include "losses/calibration/top_label.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SUBJECT = PAPER_CIFAR10_RESNET50, OF_EACH = 4, CHOSEN = 2 * OF_EACH };

/* The predictions of one loss's run. */
typedef struct {
    const RunSummary *run;
    Npy logits;
    int loss;
} Predictions;

typedef struct {
    Predictions of[PAPER_MAIN_LOSSES];
    int count; /* losses that have predictions */
    Npy labels;
    int64_t samples, classes;
    int64_t chosen[CHOSEN]; /* first those that all get right */
    int right, wrong;
    Dataset *dataset;   /* NULL: the images are not at hand, */
    char *without_data; /* and why */
} Gallery;

/* ---- predictions ---- */

static bool is_logits(const Npy *logits, const Gallery *gallery)
{
    return logits->type == FLOAT32 && logits->rank == 2 && logits->extent[1] > 1 &&
           (gallery->count == 0 ||
            (logits->extent[0] == gallery->samples && logits->extent[1] == gallery->classes));
}

static Status open_labels(const RunSummary *run, int64_t samples, Npy *labels)
{
    char path[PATH_MAX];
    TRY(file_join(path, run->path, "test.labels.npy"));
    TRY(npy_open(path, labels));
    if ((labels->type == INT32 || labels->type == INT64) && labels->count == samples) return OK;
    npy_close(labels);
    return fail(STATUS_INPUT, "%s: not the labels of the run's test samples", path);
}

static Status add_predictions(PaperPart *part, Gallery *gallery, const RunSummary *run, int loss)
{
    char path[PATH_MAX];
    Npy logits;
    Status status = OK;
    TRY(file_join(path, run->path, "test.logits.npy"));
    if (!file_exists(path)) {
        ++part->lacking;
        return OK;
    }
    TRY(npy_open(path, &logits));
    if (!is_logits(&logits, gallery))
        status =
            fail(STATUS_INPUT, "%s: not logits of the same test samples as those of the other losses", path);
    if (status == OK && gallery->count == 0) status = open_labels(run, logits.extent[0], &gallery->labels);
    if (status != OK) {
        npy_close(&logits);
        return status;
    }
    gallery->samples = logits.extent[0];
    gallery->classes = logits.extent[1];
    gallery->of[gallery->count++] = (Predictions){run, logits, loss};
    return OK;
}

static int64_t label_of(const Gallery *gallery, int64_t sample)
{
    return gallery->labels.type == INT32 ? ((const int32_t *)gallery->labels.data)[sample]
                                         : ((const int64_t *)gallery->labels.data)[sample];
}

static int64_t predict(const Gallery *gallery, int loss, int64_t sample, double temperature,
                       double *confidence)
{
    const float *row = (const float *)gallery->of[loss].logits.data + sample * gallery->classes;
    return top_label(row, gallery->classes, temperature, confidence);
}

/* The first samples of either kind. */
static void choose(Gallery *gallery)
{
    double confidence;
    for (int64_t i = 0; i < gallery->samples && gallery->right + gallery->wrong < CHOSEN; ++i) {
        int right = 0;
        for (int l = 0; l < gallery->count; ++l)
            right += predict(gallery, l, i, 1, &confidence) == label_of(gallery, i);
        if (right == gallery->count && gallery->right < OF_EACH) gallery->chosen[gallery->right++] = i;
        if (right == 0 && gallery->wrong < OF_EACH) gallery->chosen[OF_EACH + gallery->wrong++] = i;
    }
}

/* ---- images ---- */

static Status open_images(Gallery *gallery)
{
    const RunSummary *run = gallery->of[0].run;
    const char *folder = run_facts_find(&run->setting, "dataset.folder"),
               *name = run_facts_find(&run->setting, "dataset.name");
    const char *limit = run_facts_find(&run->setting, "dataset.test_limit");
    char found[PATH_MAX];
    RunFolder of;
    TRY(run_folder_attach(run->path, &of));
    const bool known = run_folder_find_data(&of, folder != NULL ? folder : "", name, found);
    run_folder_close(&of);
    const DatasetOptions options = {.folder = known            ? found
                                              : folder != NULL ? folder
                                                               : "",
                                    .validation = -1,
                                    .test_limit = limit != NULL ? strtoll(limit, NULL, 10) : 0};
    TRY(dataset_open(name, &options, &gallery->dataset));
    if (gallery->dataset->split[SPLIT_TEST].count == gallery->samples) return OK;
    dataset_close(gallery->dataset);
    gallery->dataset = NULL;
    return fail(STATUS_INPUT, "the data set has other test images than the run predicted");
}

/* Images that are elsewhere are no error of the page. */
static Status find_images(Gallery *gallery)
{
    Status problem = open_images(gallery);
    if (problem == OK) return OK;
    Status status = text_copy(status_message(problem), &gallery->without_data);
    status_free(problem);
    return status;
}

static void write_base64(FILE *page, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        const uint32_t three = (uint32_t)bytes[i] << 16 | (i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0) |
                               (i + 2 < size ? bytes[i + 2] : 0);
        (void)fputc(digits[three >> 18], page);
        (void)fputc(digits[three >> 12 & 63], page);
        (void)fputc(i + 1 < size ? digits[three >> 6 & 63] : '=', page);
        (void)fputc(i + 2 < size ? digits[three & 63] : '=', page);
    }
}

/* As published, whether the files are at hand or not. */
static const char *class_name(int64_t class, char buffer[32])
{
    const DatasetKind *kind;
    Status status = dataset_find(paper_subject[SUBJECT].dataset, &kind);
    if (status == OK && kind->class_name != NULL && class >= 0 && class < kind->classes)
        return kind->class_name[class];
    status_free(status);
    (void)snprintf(buffer, 32, "class %lld", (long long)class);
    return buffer;
}

static Status write_image(Gallery *gallery, FILE *page, int64_t sample)
{
    Dataset *dataset = gallery->dataset;
    uint8_t *bytes;
    size_t size;
    if (dataset == NULL) return OK;
    if (dataset->prepare != NULL) TRY(dataset->prepare(dataset, SPLIT_TEST, &sample, 1));
    const DataSplit *test = &dataset->split[SPLIT_TEST];
    const int64_t image = dataset->height * dataset->width * dataset->channels;
    TRY(png_encode(test->table + test->row[sample] * image, dataset->height, dataset->width,
                   dataset->channels, &bytes, &size));
    (void)fprintf(page,
                  "<img alt=\"test image %lld\" width=\"96\" height=\"96\" src=\"data:image/png;base64,",
                  (long long)sample);
    write_base64(page, bytes, size);
    (void)fputs("\">\n", page);
    free(bytes);
    return OK;
}

/* ---- the figure ---- */

static void write_prediction(Gallery *gallery, PaperPart *part, int l, int64_t sample)
{
    const Predictions *of = &gallery->of[l];
    double before, after = NAN;
    char buffer[2][32];
    const int64_t label = label_of(gallery, sample), predicted = predict(gallery, l, sample, 1, &before);
    if (of->run->has_temperature) (void)predict(gallery, l, sample, of->run->temperature_ece, &after);
    (void)fprintf(part->page, "<tr><th scope=\"row\">%s</th><td>", paper_loss[of->loss].title);
    html_text(part->page, predicted == label ? "right" : class_name(predicted, buffer[0]));
    (void)fprintf(part->page, "</td><td class=\"number\">%.1f</td><td class=\"number\">", 100 * before);
    if (!isnan(after))
        (void)fprintf(part->page, "%.1f</td></tr>\n", 100 * after);
    else
        (void)fputs("&ndash;</td></tr>\n", part->page);
    paper_data_number(&part->data, (double)sample);
    paper_data_text(&part->data, class_name(label, buffer[0]));
    paper_data_text(&part->data, paper_loss[of->loss].key);
    paper_data_text(&part->data, class_name(predicted, buffer[1]));
    paper_data_number(&part->data, before);
    paper_data_number(&part->data, after);
    paper_data_text(&part->data, paper_seed(of->run));
}

static Status write_sample(Gallery *gallery, PaperPart *part, int64_t sample)
{
    char buffer[32];
    (void)fputs("<div class=\"shot\">\n", part->page);
    TRY(write_image(gallery, part->page, sample));
    (void)fputs("<p><strong>", part->page);
    html_text(part->page, class_name(label_of(gallery, sample), buffer));
    (void)fprintf(part->page,
                  "</strong> test image %lld</p>\n<table><thead><tr><th scope=\"col\">Loss</th><th "
                  "scope=\"col\">says</th><th "
                  "scope=\"col\" class=\"number\">%%</th><th scope=\"col\" "
                  "class=\"number\">after</th></tr></thead>\n<tbody>\n",
                  (long long)sample);
    for (int l = 0; l < gallery->count; ++l)
        write_prediction(gallery, part, l, sample);
    (void)fputs("</tbody></table></div>\n", part->page);
    ++part->have;
    return OK;
}

static Status write_gallery(Gallery *gallery, PaperPart *part)
{
    static const char *const heads[2] = {"Right by all losses", "Wrong by all losses"};
    if (gallery->without_data != NULL) {
        (void)fputs("<p class=\"missing\">The images are not shown: ", part->page);
        html_text(part->page, gallery->without_data);
        (void)fputs("</p>\n", part->page);
    }
    for (int kind = 0; kind < 2; ++kind) {
        const int count = kind == 0 ? gallery->right : gallery->wrong;
        (void)fprintf(part->page, "<p class=\"caption\">%s</p>\n<div class=\"shots\">\n", heads[kind]);
        if (count == 0) (void)fputs("<p>There is none.</p>\n", part->page);
        for (int i = 0; i < count; ++i)
            TRY(write_sample(gallery, part, gallery->chosen[kind * OF_EACH + i]));
        (void)fputs("</div>\n", part->page);
    }
    return OK;
}

/* A damaged file of one run is no error of the page. */
static Status warn(Status problem)
{
    if (problem == OK || status_code(problem) == STATUS_MEMORY) return problem;
    log_warning("%s", status_message(problem));
    status_free(problem);
    return OK;
}

static Status fill_gallery(const Paper *paper, PaperPart *part, Gallery *gallery)
{
    for (int l = 0; l < PAPER_MAIN_LOSSES; ++l) {
        const int before = gallery->count;
        PaperDrawn drawn = {.seed = NULL};
        const RunSummary *run =
            paper_first_seed(paper, SUBJECT, paper_main_loss[l], paper_is_complete, &drawn);
        if (run != NULL)
            TRY(warn(add_predictions(part, gallery, run, paper_main_loss[l])));
        else
            part->missing_run[SUBJECT][paper_main_loss[l]] = true;
        if (gallery->count > before) part->drawn[SUBJECT][paper_main_loss[l]] = drawn;
    }
    part->wants = CHOSEN;
    if (gallery->count == 0) return OK;
    choose(gallery);
    TRY(find_images(gallery));
    return write_gallery(gallery, part);
}

Status paper_figure_h1(Paper *paper, PaperPart *part)
{
    Gallery *gallery;
    TRY(memory_new(&gallery, 1, sizeof *gallery, "figures"));
    const Status status = fill_gallery(paper, part, gallery);
    for (int l = 0; l < gallery->count; ++l)
        npy_close(&gallery->of[l].logits);
    if (gallery->count > 0) npy_close(&gallery->labels);
    if (gallery->dataset != NULL) dataset_close(gallery->dataset);
    free(gallery->without_data);
    free(gallery);
    return status;
}
