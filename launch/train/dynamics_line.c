#include "launch/train/dynamics_line.h"

#include "launch/runs/json_file.h"

#include <math.h>

bool dynamics_line_is_due(const TrainingMeasures *measures)
{
    return measures->has.gradients || measures->has.reliability;
}

static void add_gradient_bin(cJSON *bins, int bin, int64_t count)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(bins, object);
    json_add_number(object, "lower", bin == 0 ? 0 : gradient_norm_bin_start(bin));
    json_add_number(object, "upper", bin == NORM_BINS - 1 ? NAN : gradient_norm_bin_start(bin + 1));
    json_add_number(object, "count", (double)count);
}

static void add_gradient_norms(cJSON *line, const NormSums *norms, const char *loss)
{
    cJSON *object = cJSON_AddObjectToObject(line, "gradient_norms");
    cJSON_AddStringToObject(object, "loss", loss);
    json_add_number(object, "samples", (double)norms->samples[NORM_GRADIENT]);
    json_add_number(object, "mean", norm_sums_mean(norms, NORM_GRADIENT));
    cJSON *bins = cJSON_AddArrayToObject(object, "bins");
    int first = 0, last = NORM_BINS - 1;
    while (first <= last && norms->bin[first] == 0)
        ++first;
    while (last >= first && norms->bin[last] == 0)
        --last;
    for (int bin = first; bin <= last; ++bin)
        add_gradient_bin(bins, bin, norms->bin[bin]);
}

static void add_reliability(cJSON *line, const Calibration *measured)
{
    cJSON *object = cJSON_AddObjectToObject(line, "train_reliability");
    json_add_number(object, "samples", (double)measured->samples);
    json_add_number(object, "error", measured->error);
    json_add_number(object, "ece", measured->ece);
    cJSON *bins = cJSON_AddArrayToObject(object, "bins");
    for (int i = 0; i < measured->bins; ++i) {
        const CalibrationBin *bin = &measured->bin[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToArray(bins, item);
        json_add_number(item, "lower", bin->lower);
        json_add_number(item, "upper", bin->upper);
        json_add_number(item, "count", (double)bin->count);
        json_add_number(item, "share", (double)bin->count / (double)measured->samples);
        json_add_number(item, "confidence", bin->confidence);
        json_add_number(item, "accuracy", bin->accuracy);
    }
}

Status dynamics_line(const TrainingMeasures *measures, double epoch, int64_t step, const char *loss,
                     char **line)
{
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "epoch", epoch);
    json_add_number(object, "step", (double)step);
    if (measures->has.gradients) add_gradient_norms(object, &measures->norms, loss);
    if (measures->has.reliability) add_reliability(object, &measures->reliability);
    return json_line(object, "a line of dynamics.jsonl", line);
}
