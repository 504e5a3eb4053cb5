#include "launch/report/paper_items.h"

#include "launch/report/paper_chart.h"
#include "launch/report/paper_figures.h"
#include "launch/report/paper_translation.h"

#include <stddef.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* ---- tables ---- */

static const int focal_losses[] = {PAPER_FOCAL_1,  PAPER_FOCAL_2, PAPER_FOCAL_3, PAPER_FLSC_531,
                                   PAPER_FLSC_532, PAPER_FLSD_52, PAPER_FLSD_53};

#define SUBJECT_ROW(subject)                                                                                 \
    {                                                                                                        \
        subject, "", NULL                                                                                    \
    }
static const PaperRow all_rows[] = {SUBJECT_ROW(PAPER_CIFAR100_RESNET50),
                                    SUBJECT_ROW(PAPER_CIFAR100_RESNET110),
                                    SUBJECT_ROW(PAPER_CIFAR100_WIDE_RESNET),
                                    SUBJECT_ROW(PAPER_CIFAR100_DENSENET),
                                    SUBJECT_ROW(PAPER_CIFAR10_RESNET50),
                                    SUBJECT_ROW(PAPER_CIFAR10_RESNET110),
                                    SUBJECT_ROW(PAPER_CIFAR10_WIDE_RESNET),
                                    SUBJECT_ROW(PAPER_CIFAR10_DENSENET),
                                    SUBJECT_ROW(PAPER_TINY_IMAGENET),
                                    SUBJECT_ROW(PAPER_NEWSGROUPS),
                                    SUBJECT_ROW(PAPER_SST)};
enum { CIFAR_ROWS = 8 }; /* of these, the first */

static const char *const svhn[] = {"svhn", NULL}, *const noise[] = {"cifar10_c", "gaussian_noise", NULL};
static const PaperRow ood_rows[] = {{PAPER_CIFAR10_RESNET110, "from SVHN", svhn},
                                    {PAPER_CIFAR10_RESNET110, "from CIFAR-10-C, Gaussian noise", noise},
                                    {PAPER_CIFAR10_WIDE_RESNET, "from SVHN", svhn},
                                    {PAPER_CIFAR10_WIDE_RESNET, "from CIFAR-10-C, Gaussian noise", noise}};

static const PaperRow early_rows[] = {{PAPER_CIFAR100_RESNET50, "last epoch", NULL},
                                      {PAPER_CIFAR100_RESNET50, "best validation error", "error"},
                                      {PAPER_CIFAR100_RESNET50, "best validation NLL", "nll"},
                                      {PAPER_CIFAR100_RESNET50, "best validation ECE", "ece"},
                                      {PAPER_CIFAR10_RESNET50, "last epoch", NULL},
                                      {PAPER_CIFAR10_RESNET50, "best validation error", "error"},
                                      {PAPER_CIFAR10_RESNET50, "best validation NLL", "nll"},
                                      {PAPER_CIFAR10_RESNET50, "best validation ECE", "ece"}};

static const PaperRow translation_rows[] = {SUBJECT_ROW(PAPER_WMT14)};

#define ONCE(measure)                                                                                        \
    {                                                                                                        \
        NULL, {{&paper_measure[measure], EVALUATE_BEFORE, ""}}, 1                                            \
    }
#define BEFORE_AFTER(measure)                                                                                \
    {                                                                                                        \
        NULL,                                                                                                \
            {{&paper_measure[measure], EVALUATE_BEFORE, "before"},                                           \
             {&paper_measure[measure], EVALUATE_AFTER_ECE, "after"}},                                        \
            2                                                                                                \
    }
#define TABLE_OF(rows_, count, losses_, block)                                                               \
    {                                                                                                        \
        rows_, count, losses_, COUNT(losses_), &(block), 1                                                   \
    }

static const PaperBlock ece_block = BEFORE_AFTER(MEASURE_ECE), error_block = ONCE(MEASURE_ERROR),
                        auroc_block = BEFORE_AFTER(MEASURE_AUROC),
                        ada_ece_block = BEFORE_AFTER(MEASURE_ADA_ECE),
                        classwise_block = BEFORE_AFTER(MEASURE_CLASSWISE_ECE),
                        nll_block = BEFORE_AFTER(MEASURE_NLL), mce_block = BEFORE_AFTER(MEASURE_MCE),
                        brier_block = BEFORE_AFTER(MEASURE_BRIER);
static const PaperBlock ece_by_nll_block = {NULL,
                                            {{&paper_measure[MEASURE_ECE], EVALUATE_AFTER_ECE, "T by ECE"},
                                             {&paper_measure[MEASURE_ECE], EVALUATE_AFTER_NLL, "T by NLL"}},
                                            2};
static const PaperBlock s99_blocks[] = {
    {"Before temperature scaling",
     {{&paper_measure[MEASURE_S99_SHARE], EVALUATE_BEFORE, "share"},
      {&paper_measure[MEASURE_S99_ACCURACY], EVALUATE_BEFORE, "accuracy"}},
     2},
    {"After temperature scaling",
     {{&paper_measure[MEASURE_S99_SHARE], EVALUATE_AFTER_ECE, "share"},
      {&paper_measure[MEASURE_S99_ACCURACY], EVALUATE_AFTER_ECE, "accuracy"}},
     2}};
static const PaperBlock early_blocks[] = {
    {"Test error, %", {{&paper_measure[MEASURE_EARLY_ERROR], EVALUATE_BEFORE, ""}}, 1},
    {"ECE, %, before and after temperature scaling",
     {{&paper_measure[MEASURE_EARLY_ECE], EVALUATE_BEFORE, "before"},
      {&paper_measure[MEASURE_EARLY_ECE], EVALUATE_AFTER_ECE, "after"}},
     2}};

static const PaperTable table_1 = TABLE_OF(all_rows, COUNT(all_rows), paper_main_loss, ece_block),
                        table_2 = TABLE_OF(all_rows, COUNT(all_rows), paper_main_loss, error_block),
                        table_3 = TABLE_OF(ood_rows, COUNT(ood_rows), paper_main_loss, auroc_block),
                        table_f1 = TABLE_OF(all_rows, COUNT(all_rows), paper_main_loss, ada_ece_block),
                        table_f2 = TABLE_OF(all_rows, COUNT(all_rows), paper_main_loss, classwise_block),
                        table_f3 = TABLE_OF(all_rows, COUNT(all_rows), paper_main_loss, nll_block),
                        table_f4 = TABLE_OF(all_rows, COUNT(all_rows), paper_main_loss, mce_block),
                        table_f5 = TABLE_OF(all_rows, COUNT(all_rows), paper_main_loss, brier_block),
                        table_f6 = TABLE_OF(all_rows, COUNT(all_rows), paper_main_loss, ece_by_nll_block),
                        table_f7 = TABLE_OF(all_rows, CIFAR_ROWS, focal_losses, error_block),
                        table_f8 = TABLE_OF(all_rows, CIFAR_ROWS, focal_losses, ece_block),
                        table_f9 = TABLE_OF(all_rows, CIFAR_ROWS, focal_losses, ada_ece_block),
                        table_f10 = TABLE_OF(all_rows, CIFAR_ROWS, focal_losses, classwise_block),
                        table_f11 = TABLE_OF(all_rows, CIFAR_ROWS, focal_losses, nll_block),
                        table_h1 = {all_rows,        COUNT(all_rows),
                                    paper_main_loss, COUNT(paper_main_loss),
                                    s99_blocks,      2},
                        table_j1 = {early_rows,      COUNT(early_rows),
                                    paper_main_loss, COUNT(paper_main_loss),
                                    early_blocks,    2};

static const PaperBlock bleu_block = {
    NULL,
    {{&paper_measure[MEASURE_BLEU], EVALUATE_BEFORE, "<var>T</var>&nbsp;=&nbsp;1"},
     {&paper_measure[MEASURE_BEST_BLEU], EVALUATE_BEFORE, "best"},
     {&paper_measure[MEASURE_BEST_BLEU_TEMPERATURE], EVALUATE_BEFORE, "at <var>T</var>"}},
    3};
static const PaperTable table_k1 =
    TABLE_OF(translation_rows, COUNT(translation_rows), paper_translation_loss, bleu_block);

/* ---- curves ---- */

static double test_error(const RunEpoch *epoch) { return epoch->split[SPLIT_TEST].error; }
static double test_nll(const RunEpoch *epoch) { return epoch->split[SPLIT_TEST].nll; }
static double test_ece(const RunEpoch *epoch) { return epoch->split[SPLIT_TEST].ece; }
static double test_nll_right(const RunEpoch *epoch) { return epoch->split[SPLIT_TEST].nll_correct; }
static double test_nll_wrong(const RunEpoch *epoch) { return epoch->split[SPLIT_TEST].nll_misclassified; }
static double test_entropy_right(const RunEpoch *epoch) { return epoch->split[SPLIT_TEST].entropy_correct; }
static double test_entropy_wrong(const RunEpoch *epoch)
{
    return epoch->split[SPLIT_TEST].entropy_misclassified;
}
static double train_error(const RunEpoch *epoch) { return epoch->split[SPLIT_TRAIN].error; }
static double train_nll(const RunEpoch *epoch) { return epoch->split[SPLIT_TRAIN].nll; }
static double train_nll_right(const RunEpoch *epoch) { return epoch->split[SPLIT_TRAIN].nll_correct; }
static double train_nll_wrong(const RunEpoch *epoch) { return epoch->split[SPLIT_TRAIN].nll_misclassified; }
static double train_entropy_right(const RunEpoch *epoch) { return epoch->split[SPLIT_TRAIN].entropy_correct; }
static double train_entropy_wrong(const RunEpoch *epoch)
{
    return epoch->split[SPLIT_TRAIN].entropy_misclassified;
}
static double weight_norm(const RunEpoch *epoch) { return epoch->weight_norm; }
static double feature_norm(const RunEpoch *epoch) { return epoch->feature_norm; }
static double logit_norm(const RunEpoch *epoch) { return epoch->logit_norm; }

static const PaperCurve training_curves[] = {
    {"NLL", "", "nats", 1, false, test_nll, train_nll},
    {"NLL, correct samples", "", "nats", 1, false, test_nll_right, train_nll_right},
    {"NLL, misclassified samples", "", "nats", 1, false, test_nll_wrong, train_nll_wrong},
    {"Entropy, correct samples", "", "nats", 1, false, test_entropy_right, train_entropy_right},
    {"Entropy, misclassified samples", "", "nats", 1, false, test_entropy_wrong, train_entropy_wrong},
    {"Error", "", "%", 100, false, test_error, train_error}};
static const PaperCurve loss_curves[] = {
    {"NLL", "test", "nats", 1, false, test_nll, NULL},
    {"ECE", "test", "%", 100, false, test_ece, NULL},
    {"NLL, correct samples", "test", "nats", 1, false, test_nll_right, NULL},
    {"NLL, misclassified samples", "test", "nats", 1, false, test_nll_wrong, NULL},
    {"Entropy, misclassified samples", "test", "nats", 1, false, test_entropy_wrong, NULL},
    {"Norm of the last layer's weights", "", "|W|", 1, false, weight_norm, NULL}};
static const PaperCurve norm_curves[] = {
    {"Weights of the last linear layer", "", "|W|", 1, false, weight_norm, NULL},
    {"Features that it reads", "mean over training samples", "|features|", 1, false, feature_norm, NULL},
    {"Logits", "mean over training samples", "|logits|", 1, false, logit_norm, NULL}};

static const int plain_loss[] = {PAPER_CROSS_ENTROPY},
                 gamma_losses[] = {PAPER_CROSS_ENTROPY, PAPER_FOCAL_1, PAPER_FOCAL_2, PAPER_FOCAL_3};
static const PaperCurves figure_1 = {PAPER_CIFAR10_RESNET50, plain_loss, COUNT(plain_loss), training_curves,
                                     COUNT(training_curves)},
                         figure_2 = {PAPER_CIFAR10_RESNET50, gamma_losses, COUNT(gamma_losses), loss_curves,
                                     COUNT(loss_curves)},
                         figure_i1 = {PAPER_CIFAR10_RESNET50, gamma_losses, COUNT(gamma_losses), norm_curves,
                                      COUNT(norm_curves)};

static const PaperBars figure_4 = {{PAPER_CIFAR10_RESNET50, PAPER_CIFAR10_RESNET110}, 2},
                       figure_g1 = {{PAPER_CIFAR10_WIDE_RESNET, PAPER_CIFAR10_DENSENET}, 2},
                       figure_g2 = {{PAPER_CIFAR100_RESNET50, PAPER_CIFAR100_RESNET110}, 2},
                       figure_g3 = {{PAPER_CIFAR100_WIDE_RESNET, PAPER_CIFAR100_DENSENET}, 2},
                       figure_g4 = {{PAPER_TINY_IMAGENET, PAPER_NEWSGROUPS, PAPER_SST}, 3};

/* ---- all ---- */

#define TRAIN_SPLIT "their config says <code>evaluate.train: true</code>"
#define FOCAL_ORDER                                                                                          \
    "Which table of appendix F has which measure is this page's order: the paper's is not at hand."
#define BLEU_NEEDS "<code>plumb evaluate RUN --temperatures 0.5:2:0.1 --bleu</code> measures them"
#define GROUPED "Which networks share a figure is this page's order."
#define BARS                                                                                                 \
    "Bars: before; pale: after temperature scaling. Whiskers: 90&nbsp;% intervals; of several seeds, of "    \
    "where one run more would lie."

static const char *const gallery_columns[] = {"test_image",       "label", "loss", "prediction", "confidence",
                                              "confidence_after", "seed"};

#define TABLE(id, name, title, note, sweep, needs, context)                                                  \
    {                                                                                                        \
        id, name, title, note, sweep, needs, paper_table_columns, PAPER_TABLE_COLUMNS, paper_table,          \
            &(context)                                                                                       \
    }
#define FIGURE(id, name, title, note, needs, make, context)                                                  \
    {                                                                                                        \
        id, name, title, note, NULL, needs, chart_columns, CHART_COLUMNS, make, context                      \
    }

/* clang-format off */
static const PaperItem items[] = {
    FIGURE("figure_1", "Figure 1", "ResNet-50 on CIFAR-10 with cross-entropy, while it trains", "Solid: test; dashed: training samples.",
           TRAIN_SPLIT, paper_curves, &figure_1),
    FIGURE("figure_2", "Figure 2", "ResNet-50 on CIFAR-10, cross-entropy and focal loss, while they train", "", NULL, paper_curves, &figure_2),
    FIGURE("figure_3", "Figure 3", "The factor g, and the norms of gradients, of ResNet-50 on CIFAR-10",
           "(a) needs no run. (b) to (d): the norm of the gradient of each training sample's loss at the last linear layer.",
           "they record <code>evaluate.gradient_norms: [10, 100, 200]</code>", paper_figure_3, NULL),
    TABLE("table_1", "Table 1", "ECE, %, before and after temperature scaling", "15 bins; (<var>T</var>): chosen by ECE on the validation split.",
          NULL, NULL, table_1),
    TABLE("table_2", "Table 2", "Test error, %", "Intervals: Clopper and Pearson.", NULL, NULL, table_2),
    TABLE("table_3", "Table 3", "AUROC, %, of telling CIFAR-10 from other images, by entropy, before and after temperature scaling",
          "Intervals: DeLong. Noise is read from CIFAR-10-C where a run was measured on it, else made of the test images by its formula, severity 5.",
          "configs/paper_ood.yaml",
          "<code>plumb evaluate RUN --ood svhn=FOLDER --ood gaussian_noise</code> measures them", table_3),
    {"figure_roc", "ROC curves", "of Table 3", "", "configs/paper_ood.yaml",
     "<code>plumb evaluate RUN --ood svhn=FOLDER --ood gaussian_noise</code> measures them", chart_columns, CHART_COLUMNS, paper_roc, NULL},
    FIGURE("figure_4", "Figure 4", "ResNet-50 and ResNet-110 on CIFAR-10: calibration errors with 90&nbsp;% intervals", BARS, NULL, paper_bars, &figure_4),
    FIGURE("figure_a1", "Figure A.1", "Reliability of the training samples of ResNet-50 on CIFAR-10 with cross-entropy, at some epochs",
           "25 bins; below each diagram the share of the samples.",
           "they record <code>evaluate.train_reliability: [100, 200, 300, 350]</code>", paper_figure_a1, NULL),
    FIGURE("figure_b1", "Figure B.1", "The probability that minimises the expected focal loss", "Needs no run.", NULL, paper_figure_b1, NULL),
    FIGURE("figure_c1", "Figure C.1", "A linear classifier: norms of weights and logits", "Needs no run; the recipe is that of <code>plumb theory</code>.", NULL, paper_figure_c1, NULL),
    FIGURE("figure_c2", "Figure C.2", "A linear classifier: confidence of misclassified points, decision boundaries",
           "Needs no run; the recipe is that of <code>plumb theory</code>.", NULL, paper_figure_c2, NULL),
    TABLE("table_f1", "Table F.1", "AdaECE, %, before and after temperature scaling", FOCAL_ORDER, NULL, NULL, table_f1),
    TABLE("table_f2", "Table F.2", "Classwise-ECE, %, before and after temperature scaling", FOCAL_ORDER, NULL, NULL, table_f2),
    TABLE("table_f3", "Table F.3", "NLL before and after temperature scaling", FOCAL_ORDER, NULL, NULL, table_f3),
    TABLE("table_f4", "Table F.4", "MCE, %, before and after temperature scaling", FOCAL_ORDER, NULL, NULL, table_f4),
    TABLE("table_f5", "Table F.5", "Brier score before and after temperature scaling", FOCAL_ORDER, NULL, NULL, table_f5),
    TABLE("table_f6", "Table F.6", "ECE, %, after scaling by the <var>T</var> of the best validation ECE and of the best validation NLL", FOCAL_ORDER, NULL, NULL, table_f6),
    TABLE("table_f7", "Table F.7", "Focal losses compared: test error, %", FOCAL_ORDER, NULL, NULL, table_f7),
    TABLE("table_f8", "Table F.8", "Focal losses compared: ECE, %", FOCAL_ORDER, NULL, NULL, table_f8),
    TABLE("table_f9", "Table F.9", "Focal losses compared: AdaECE, %", FOCAL_ORDER, NULL, NULL, table_f9),
    TABLE("table_f10", "Table F.10", "Focal losses compared: Classwise-ECE, %", FOCAL_ORDER, NULL, NULL, table_f10),
    TABLE("table_f11", "Table F.11", "Focal losses compared: NLL", FOCAL_ORDER, NULL, NULL, table_f11),
    FIGURE("figure_g1", "Figure G.1", "Wide-ResNet-26-10 and DenseNet-121 on CIFAR-10: calibration errors", BARS " " GROUPED, NULL, paper_bars, &figure_g1),
    FIGURE("figure_g2", "Figure G.2", "ResNet-50 and ResNet-110 on CIFAR-100: calibration errors", BARS " " GROUPED, NULL, paper_bars, &figure_g2),
    FIGURE("figure_g3", "Figure G.3", "Wide-ResNet-26-10 and DenseNet-121 on CIFAR-100: calibration errors", BARS " " GROUPED, NULL, paper_bars, &figure_g3),
    FIGURE("figure_g4", "Figure G.4", "Tiny-ImageNet, 20 Newsgroups, SST: calibration errors", BARS " " GROUPED, NULL, paper_bars, &figure_g4),
    TABLE("table_h1", "Table H.1", "Test samples with a confidence of 0.99 or more, %, and the accuracy among them, %", "", NULL, NULL, table_h1),
    {"figure_h1", "Figure H.1", "CIFAR-10 test images that all losses get right, and that all get wrong, ResNet-50",
     "The first four of either kind; confidence in % as trained and after temperature scaling.", NULL,
     "they keep <code>test.logits.npy</code>", gallery_columns, COUNT(gallery_columns), paper_figure_h1, NULL},
    FIGURE("figure_i1", "Figure I.1", "Norms at the last linear layer of ResNet-50 on CIFAR-10, while it trains", "", TRAIN_SPLIT, paper_curves, &figure_i1),
    TABLE("table_j1", "Table J.1", "Early stopping in hindsight: ResNet-50", "Which networks the paper's table has is not at hand; <var>T</var> is fitted with each model.", NULL,
          "their config says <code>checkpoint.best: [error, nll, ece]</code>", table_j1),
    TABLE("table_k1", "Table K.1", "Test BLEU of translation over temperatures", "A Transformer on WMT14, English to German. BLEU has no interval of one run.", NULL,
          BLEU_NEEDS, table_k1),
    FIGURE("figure_k1", "Figure K.1", "Test BLEU and ECE of translation against temperature", "", BLEU_NEEDS, paper_figure_k1, NULL),
};
/* clang-format on */

const PaperItem *paper_items(int *count)
{
    *count = COUNT(items);
    return items;
}
