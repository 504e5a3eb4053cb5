#include "launch/report/report_figures.h"

#include "launch/report/figure_script.h"
#include "launch/report/html.h"
#include "losses/calibration/binned_errors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- reliability ---- */

/* Pixels: the diagram is a square, the strip of shares stands below it on the same axis. */
enum {
    RELIABILITY_LEFT = 50,
    RELIABILITY_RIGHT = 8,
    RELIABILITY_TOP = 8,
    RELIABILITY_SIDE = 230,
    RELIABILITY_BETWEEN = 14,
    RELIABILITY_SHARE = 56,
    RELIABILITY_BOTTOM = 42,
    RELIABILITY_WIDTH = RELIABILITY_LEFT + RELIABILITY_SIDE + RELIABILITY_RIGHT,
    RELIABILITY_HEIGHT =
        RELIABILITY_TOP + RELIABILITY_SIDE + RELIABILITY_BETWEEN + RELIABILITY_SHARE + RELIABILITY_BOTTOM
};

typedef struct {
    double low, high;
} Extent;

static Extent bar_of(const CalibrationBin *bin, double total)
{
    (void)total;
    return (Extent){0, bin->accuracy};
}

static Extent over_of(const CalibrationBin *bin, double total)
{
    (void)total;
    return (Extent){bin->accuracy, bin->confidence};
}

static Extent under_of(const CalibrationBin *bin, double total)
{
    (void)total;
    return (Extent){bin->confidence, bin->accuracy};
}

static Extent share_of(const CalibrationBin *bin, double total)
{
    return (Extent){0, 100 * (double)bin->count / total};
}

/* A block of rectangles for `with boxxyerror`, of the bins with `least` to `most` samples: x y left right
 * bottom top. A block may not be empty. */
static void write_boxes(FILE *script, const char *name, const RunMeasure *measure, double total,
                        int64_t least, int64_t most, Extent (*extent_of)(const CalibrationBin *, double))
{
    (void)fprintf(script, "$%s << END\n", name);
    int written = 0;
    for (int i = 0; i < measure->bins; ++i) {
        const CalibrationBin *bin = &measure->bin[i];
        const Extent extent = extent_of(bin, total);
        if (bin->count < least || bin->count > most || !(extent.high > extent.low)) continue;
        const double inset = 0.03 * (bin->upper - bin->lower);
        (void)fprintf(script, "%.6f %.6f %.6f %.6f %.6f %.6f\n", (bin->lower + bin->upper) / 2, extent.high,
                      bin->lower + inset, bin->upper - inset, extent.low, extent.high);
        ++written;
    }
    if (written == 0) (void)fputs("-1 -1 -1 -1 -1 -1\n", script); /* outside the axes */
    (void)fputs("END\n", script);
}

/* Between which accuracies nine of ten resamples of a calibrated network would lie: x, low, high. */
static Status write_consistency(FILE *script, const RunMeasure *measure, double total)
{
    static const double levels[2] = {0.05, 0.95};
    (void)fputs("$consistency << END\n", script);
    int written = 0;
    for (int i = 0; i < measure->bins; ++i) {
        const CalibrationBin *bin = &measure->bin[i];
        double quantile[2];
        if (bin->count < FIGURE_FEW_SAMPLES) continue;
        TRY(consistency_quantiles((int64_t)total, bin->count, bin->confidence, 2, levels, quantile));
        (void)fprintf(script, "%.6f %.6f %.6f\n", bin->confidence, quantile[0], quantile[1]);
        ++written;
    }
    if (written == 0) (void)fputs("-1 -1 -1\n", script); /* outside the axes */
    (void)fputs("END\n", script);
    return OK;
}

static Status write_reliability(FILE *script, const RunMeasure *measure, int colour)
{
    char buffer[16];
    const char *run = figure_colour(colour, buffer);
    double total = 0;
    for (int i = 0; i < measure->bins; ++i)
        total += (double)measure->bin[i].count;
    /* The accuracy of a handful of samples says nothing: their bins are pale and show no gap. */
    write_boxes(script, "bars", measure, 1, FIGURE_FEW_SAMPLES, INT64_MAX, bar_of);
    write_boxes(script, "pale", measure, 1, 1, FIGURE_FEW_SAMPLES - 1, bar_of);
    write_boxes(script, "over", measure, 1, FIGURE_FEW_SAMPLES, INT64_MAX, over_of);
    write_boxes(script, "under", measure, 1, FIGURE_FEW_SAMPLES, INT64_MAX, under_of);
    write_boxes(script, "share", measure, fmax(total, 1), 1, INT64_MAX, share_of);
    TRY(write_consistency(script, measure, total));
    figure_style(script);
    (void)fputs("set multiplot\nset xrange [0:1]\nset xtics 0,0.2,1\n", script);

    figure_margins(script, RELIABILITY_WIDTH, RELIABILITY_HEIGHT, RELIABILITY_LEFT, RELIABILITY_RIGHT,
                   RELIABILITY_TOP, RELIABILITY_BOTTOM + RELIABILITY_SHARE + RELIABILITY_BETWEEN);
    (void)fputs("set yrange [0:1]\nset ytics 0,0.2,1 format '%.1f'\nset format x ''\n"
                "set ylabel 'accuracy' offset 1,0 textcolor rgb " GNUPLOT_MUTED "\n"
                "set arrow 1 from 0,0 to 1,1 nohead front lw 1 dt (8,5) lc rgb " GNUPLOT_INK "\n",
                script);
    (void)fprintf(
        script,
        "plot $bars using 1:2:3:4:5:6 with boxxyerror lc rgb %s fs solid 0.85 noborder,"
        " $pale using 1:2:3:4:5:6 with boxxyerror lc rgb %s fs transparent solid 0.25 noborder,"
        " $over using 1:2:3:4:5:6 with boxxyerror lc rgb " GNUPLOT_OVER " fs transparent solid 0.22 noborder,"
        " $over using 1:2:3:4:5:6 with boxxyerror lc rgb " GNUPLOT_OVER " fs transparent pattern 4 noborder,"
        " $under using 1:2:3:4:5:6 with boxxyerror lc rgb " GNUPLOT_UNDER
        " fs transparent pattern 5 noborder, "
        "$consistency using 1:2:(0):($3-$2) with vectors heads size screen 0.008,90 lw 1.1 lc "
        "rgb " GNUPLOT_INK "\n",
        run, run);

    figure_margins(script, RELIABILITY_WIDTH, RELIABILITY_HEIGHT, RELIABILITY_LEFT, RELIABILITY_RIGHT,
                   RELIABILITY_TOP + RELIABILITY_SIDE + RELIABILITY_BETWEEN, RELIABILITY_BOTTOM);
    (void)fputs("unset arrow 1\n"
                "set format x '%.1f'\nset xtics offset 0,0.3\nset xlabel 'confidence' offset 0,0.9 "
                "textcolor rgb " GNUPLOT_MUTED "\n"
                "set yrange [0:100]\nset ytics 0,50,100 format '%.0f%%'\nunset ylabel\n",
                script);
    if (!isnan(measure->mean_confidence))
        (void)fprintf(script,
                      "set arrow 2 from %.6f,0 to %.6f,100 nohead front lw 1.2 dt (6,4) lc rgb " GNUPLOT_INK
                      "\n",
                      measure->mean_confidence, measure->mean_confidence);
    /* Another width too: gnuplot 5.4 draws lines of one colour and width with the first one's dashes. */
    (void)fprintf(script,
                  "set arrow 3 from %.6f,0 to %.6f,100 nohead front lw 1.4 dt solid lc rgb " GNUPLOT_INK "\n",
                  1 - measure->error, 1 - measure->error);
    (void)fprintf(script, "plot $share using 1:2:3:4:5:6 with boxxyerror lc rgb %s fs solid 0.85 noborder\n",
                  run);
    return OK;
}

Status figure_reliability(const RunMeasure *measure, int colour, const char *id, const char *label,
                          char **svg)
{
    FigureScript script;
    TRY(figure_script_open(&script));
    const Status status = write_reliability(script.file, measure, colour);
    if (status == OK)
        return figure_script_draw(&script, RELIABILITY_WIDTH, RELIABILITY_HEIGHT, id, label, svg);
    (void)fclose(script.file);
    free(script.text);
    return status;
}

/* ---- intervals ---- */

enum { INTERVALS_TOP = 6, INTERVALS_BOTTOM = 44, LETTER = 7 /* the width of one, about */ };

/* A page shrinks its figures with their text to its own width: one is for wide screens, one for telephones. */
typedef struct {
    int width, row;        /* pixels; a row is a run's */
    int name_limit;        /* letters */
    bool above;            /* names stand above their bars; else left of the axis */
    double name, one, two; /* where the name, and the bars before and after, stand in a row of height 1 */
} IntervalLayout;

static const IntervalLayout interval_layout[] = {
    [FIGURE_WIDE] = {760, 26, 44, false, 0, -0.14, 0.14},
    [FIGURE_NARROW] = {330, 42, 42, true, -0.26, 0.06, 0.28},
};

/* One point with its bar: x y low high; the bar has no length where there is no interval. */
static void write_point(FILE *script, const RunMeasure *measure, double y)
{
    const Interval interval =
        measure->has_intervals ? measure->interval.ece : (Interval){measure->ece, measure->ece};
    (void)fprintf(script, "%.6f %.3f %.6f %.6f\n", 100 * measure->ece, y, 100 * interval.lower,
                  100 * interval.upper);
}

/* The right end of all bars. */
static double largest_interval(const RunSummary *const runs[], int count)
{
    double largest = 0;
    for (int i = 0; i < count; ++i) {
        for (int stage = 0; stage <= EVALUATE_AFTER_ECE; ++stage) {
            const RunMeasure *measure = &runs[i]->measure[stage];
            if (!runs[i]->has_measure[stage]) continue;
            largest = fmax(largest, measure->ece);
            if (measure->has_intervals) largest = fmax(largest, measure->interval.ece.upper);
        }
    }
    return largest;
}

/* Room for the names, left of the axis. */
static int interval_margin(const RunSummary *const runs[], int count, const IntervalLayout *layout)
{
    int longest = 0;
    if (layout->above) return LETTER;
    for (int i = 0; i < count; ++i) {
        const int length = html_length(runs[i]->name);
        if (length > longest) longest = length;
    }
    return 20 + LETTER * (longest < layout->name_limit ? longest : layout->name_limit);
}

static void write_intervals(FILE *script, const RunSummary *const runs[], const int colours[], int count,
                            const IntervalLayout *layout, int height)
{
    char buffer[16];
    const double largest = largest_interval(runs, count);
    figure_style(script);
    figure_margins(script, layout->width, height, interval_margin(runs, count, layout), 12, INTERVALS_TOP,
                   INTERVALS_BOTTOM);
    (void)fprintf(script,
                  "set xrange [0:%.6f]\nset yrange [%.1f:-0.5]\nset border 1\nunset ytics\nset grid noytics\n"
                  "set xtics offset 0,0.3\nset xlabel 'ECE, %%' offset 0,0.8 textcolor rgb " GNUPLOT_MUTED
                  "\nset bars 0\nset pointsize 0.7\n",
                  largest > 0 ? 105 * largest : 1.0, count - 0.5);
    for (int i = 0; i < count; ++i) {
        (void)fprintf(script, "set label %d ", i + 1);
        html_gnuplot_string(script, runs[i]->name, layout->name_limit);
        (void)fprintf(script,
                      " at graph 0, first %.2f %s offset character %d,0 font ',12' textcolor rgb " GNUPLOT_INK
                      "\n",
                      i + layout->name, layout->above ? "left" : "right", layout->above ? 0 : -1);
        (void)fprintf(script, "$before%d << END\n", i);
        write_point(script, &runs[i]->measure[EVALUATE_BEFORE], i + layout->one);
        (void)fprintf(script, "END\n$after%d << END\n", i);
        if (runs[i]->has_measure[EVALUATE_AFTER_ECE])
            write_point(script, &runs[i]->measure[EVALUATE_AFTER_ECE], i + layout->two);
        else
            (void)fputs("-1 -1 -1 -1\n", script);
        (void)fputs("END\n", script);
    }
    for (int i = 0; i < count; ++i) {
        const char *run = figure_colour(colours[i], buffer);
        (void)fprintf(script,
                      "%s $before%d using 1:2:3:4 with xerrorbars pt 7 lw 1.6 lc rgb %s,"
                      " $before%d using 1:2 with points pt 7 ps 0.45 lc rgb " GNUPLOT_PAGE ","
                      " $after%d using 1:2:3:4 with xerrorbars pt 7 lw 1.6 lc rgb %s",
                      i == 0 ? "plot" : ",", i, run, i, i, run);
    }
    (void)fputc('\n', script);
}

Status figure_intervals(const RunSummary *const runs[], const int colours[], int count, FigureWidth wide,
                        const char *id, char **svg)
{
    FigureScript script;
    const IntervalLayout *layout = &interval_layout[wide];
    const int height = INTERVALS_TOP + layout->row * count + INTERVALS_BOTTOM;
    TRY(figure_script_open(&script));
    write_intervals(script.file, runs, colours, count, layout, height);
    return figure_script_draw(&script, layout->width, height, id,
                              "Expected calibration error of each run before and after temperature scaling",
                              svg);
}

/* ---- curves over epochs ---- */

static double train_loss(const RunEpoch *epoch, Split split)
{
    (void)split;
    return epoch->train_loss;
}

static double train_error(const RunEpoch *epoch, Split split)
{
    (void)split;
    return epoch->train_error;
}

static double error_of(const RunEpoch *epoch, Split split) { return epoch->split[split].error; }
static double nll_of(const RunEpoch *epoch, Split split) { return epoch->split[split].nll; }
static double nll_correct(const RunEpoch *epoch, Split split) { return epoch->split[split].nll_correct; }
static double nll_misclassified(const RunEpoch *epoch, Split split)
{
    return epoch->split[split].nll_misclassified;
}
static double entropy_of(const RunEpoch *epoch, Split split) { return epoch->split[split].entropy; }
static double entropy_correct(const RunEpoch *epoch, Split split)
{
    return epoch->split[split].entropy_correct;
}
static double entropy_misclassified(const RunEpoch *epoch, Split split)
{
    return epoch->split[split].entropy_misclassified;
}
static double ece_of(const RunEpoch *epoch, Split split) { return epoch->split[split].ece; }

/* Of the training split, NaN where it was not evaluated. */
static double train_ece(const RunEpoch *epoch, Split split)
{
    return (void)split, ece_of(epoch, SPLIT_TRAIN);
}
static double train_nll(const RunEpoch *epoch, Split split)
{
    return (void)split, nll_of(epoch, SPLIT_TRAIN);
}
static double train_nll_correct(const RunEpoch *epoch, Split split)
{
    return (void)split, nll_correct(epoch, SPLIT_TRAIN);
}
static double train_nll_misclassified(const RunEpoch *epoch, Split split)
{
    return (void)split, nll_misclassified(epoch, SPLIT_TRAIN);
}
static double train_entropy(const RunEpoch *epoch, Split split)
{
    return (void)split, entropy_of(epoch, SPLIT_TRAIN);
}
static double train_entropy_correct(const RunEpoch *epoch, Split split)
{
    return (void)split, entropy_correct(epoch, SPLIT_TRAIN);
}
static double train_entropy_misclassified(const RunEpoch *epoch, Split split)
{
    return (void)split, entropy_misclassified(epoch, SPLIT_TRAIN);
}

static double weight_norm(const RunEpoch *epoch, Split split) { return (void)split, epoch->weight_norm; }
static double feature_norm(const RunEpoch *epoch, Split split) { return (void)split, epoch->feature_norm; }
static double logit_norm(const RunEpoch *epoch, Split split) { return (void)split, epoch->logit_norm; }
static double bleu_of(const RunEpoch *epoch, Split split) { return (void)split, epoch->bleu; }

static const Curve curves[] = {
    {"train-loss", "Training loss", "each run's own objective", false, train_loss, NULL},
    {"error", "Error, %", "dashed: on the training samples", true, error_of, train_error},
    {"ece", "ECE, %", "", true, ece_of, train_ece},
    {"nll", "NLL", "", false, nll_of, train_nll},
    {"nll-correct", "NLL, correct samples", "", false, nll_correct, train_nll_correct},
    {"nll-misclassified", "NLL, misclassified samples", "", false, nll_misclassified,
     train_nll_misclassified},
    {"entropy", "Entropy", "nats", false, entropy_of, train_entropy},
    {"entropy-correct", "Entropy, correct samples", "nats", false, entropy_correct, train_entropy_correct},
    {"entropy-misclassified", "Entropy, misclassified samples", "nats", false, entropy_misclassified,
     train_entropy_misclassified},
    {"bleu", "Validation BLEU", "as <code>evaluate.bleu</code> searches", false, bleu_of, NULL},
    {"weight-norm", "Weight norm, last layer", "", false, weight_norm, NULL},
    {"feature-norm", "Feature norm, last layer", "mean over the training samples", false, feature_norm, NULL},
    {"logit-norm", "Logit norm", "mean over the training samples", false, logit_norm, NULL},
};

const Curve *figure_curves(int *count)
{
    *count = sizeof curves / sizeof curves[0];
    return curves;
}

enum { CURVE_WIDTH = 380, CURVE_HEIGHT = 254, CURVE_FEW_EPOCHS = 40, CURVE_DECADE = 30 };

typedef struct {
    double low, high; /* of the values */
    double first_epoch, last_epoch;
    int most_epochs;
} CurveRange;

static void widen(CurveRange *range, double epoch, double value)
{
    range->low = fmin(range->low, value); /* of a number and NaN these give the number */
    range->high = fmax(range->high, value);
    range->first_epoch =
        fmin(range->first_epoch, epoch); /* with a value or not: the figures share this axis */
    range->last_epoch = fmax(range->last_epoch, epoch);
}

static CurveRange measure_curve(const Curve *curve, const RunSummary *const runs[], int count, Split split)
{
    CurveRange range = {INFINITY, -INFINITY, INFINITY, -INFINITY, 0};
    for (int i = 0; i < count; ++i) {
        if (runs[i]->epochs > range.most_epochs) range.most_epochs = runs[i]->epochs;
        for (int k = 0; k < runs[i]->epochs; ++k) {
            const RunEpoch *epoch = &runs[i]->epoch[k];
            widen(&range, epoch->epoch, curve->value(epoch, split));
            if (curve->beside != NULL) widen(&range, epoch->epoch, curve->beside(epoch, split));
        }
    }
    return range;
}

/* Returns whether there was anything to write. */
static bool write_series(FILE *script, const char *name, int number, const RunSummary *run,
                         const Curve *curve, double (*value_of)(const RunEpoch *, Split), Split split)
{
    int written = 0;
    for (int i = 0; i < run->epochs; ++i) {
        const double value = value_of(&run->epoch[i], split);
        if (isnan(value)) continue;
        if (written++ == 0) (void)fprintf(script, "$%s%d << END\n", name, number);
        (void)fprintf(script, "%.9g %.9g\n", run->epoch[i].epoch, curve->percent ? 100 * value : value);
    }
    if (written > 0) (void)fputs("END\n", script);
    return written > 0;
}

static void write_axes(FILE *script, const CurveRange *range, bool logarithmic)
{
    const bool one = range->first_epoch == range->last_epoch;
    figure_style(script);
    figure_margins(script, CURVE_WIDTH, CURVE_HEIGHT, 46, 10, 10, 44);
    (void)fprintf(script, "set xrange [%.9g:%.9g]\n", range->first_epoch - one, range->last_epoch + one);
    const double epochs = range->last_epoch - range->first_epoch;
    if (one || (epochs >= 1 && epochs <= 12)) (void)fputs("set xtics 1\n", script);
    (void)fputs("set xtics offset 0,0.3\nset xlabel 'epoch' offset 0,0.9 textcolor rgb " GNUPLOT_MUTED
                "\nset format y '%g'\n",
                script);
    if (logarithmic)
        (void)fprintf(script, "set logscale y\nset yrange [%.9g:*]\n", range->low / 1.3);
    else
        (void)fputs(range->low >= 0 ? "set yrange [0:*]\n" : "set yrange [*:*]\n", script);
}

static void write_curve(FILE *script, const Curve *curve, const RunSummary *const runs[], int count,
                        Split split, const CurveRange *range, bool logarithmic)
{
    const bool points = range->most_epochs <= CURVE_FEW_EPOCHS;
    const char *before = "plot";
    char buffer[16];
    CurveRange shown = *range;
    if (curve->percent) shown.low *= 100, shown.high *= 100;
    write_axes(script, &shown, logarithmic);
    /* All data first: a plot command names only what is there. */
    FILE *plot;
    char *command = NULL;
    size_t size;
    plot = open_memstream(&command, &size);
    if (plot == NULL) return; /* an empty script draws nothing, which is reported */
    for (int i = 0; i < count; ++i) {
        const char *run = figure_colour(i, buffer);
        const char *dash = i < GNUPLOT_RUNS ? "solid" : "(14,6)";
        if (curve->beside != NULL &&
            write_series(script, "beside", i, runs[i], curve, curve->beside, split)) {
            (void)fprintf(plot, "%s $beside%d using 1:2 with lines lw 1 dt (6,5) lc rgb %s", before, i, run);
            before = ",";
        }
        if (write_series(script, "run", i, runs[i], curve, curve->value, split)) {
            (void)fprintf(plot, "%s $run%d using 1:2 with %s lw 1.8 dt %s lc rgb %s", before, i,
                          points ? "linespoints pt 7 ps 0.35" : "lines", dash, run);
            before = ",";
        }
    }
    (void)fclose(plot);
    (void)fprintf(script, "%s\n", command);
    free(command);
}

Status figure_curve(const Curve *curve, const RunSummary *const runs[], int count, Split split,
                    const char *id, char **svg, bool *logarithmic)
{
    const CurveRange range = measure_curve(curve, runs, count, split);
    FigureScript script;
    *svg = NULL;
    *logarithmic = range.low > 0 && range.high > CURVE_DECADE * range.low && !curve->percent;
    if (!(range.high >= range.low)) return OK;
    TRY(figure_script_open(&script));
    write_curve(script.file, curve, runs, count, split, &range, *logarithmic);
    return figure_script_draw(&script, CURVE_WIDTH, CURVE_HEIGHT, id, curve->title, svg);
}
