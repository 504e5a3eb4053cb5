#include "launch/predict/predictor.h"

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "launch/runs/run_temperature.h"
#include "launch/train/run_session.h"
#include "losses/calibration/calibrator.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Predictor {
    PredictorOptions options;
    RunFolder folder;
    Config *config;
    Session session;
    const TaskInputs *inputs;
    int64_t classes;   /* that are measured */
    int64_t *class_of; /* [classes] the network's class */
    double temperature;
    Calibrator calibrator;
    /* Of a part. */
    BatchShape shape[BATCH_MAX_SHAPES];
    int shapes;
    BatchPart part;
    float *logits; /* [most rows, the network's classes] */
};

/* ---- opening ---- */

static Status check_task(const Predictor *predictor)
{
    const Task *task;
    TRY(task_find(predictor->config, &task));
    const bool resize = predictor->options.inputs.resize;
    if (task->inputs == NULL)
        return fail(STATUS_INPUT, "%s predicts no classes: it is a run on %s (%s); %s is for it",
                    predictor->folder.path, task->name, config_text(predictor->config, "dataset.name"),
                    task->instead);
    if (resize && !task->inputs->resizes)
        return fail(STATUS_USAGE, "--resize scales images, but %s is a run on %s", predictor->folder.path,
                    task->name);
    return OK;
}

static Status open_run(const World *world, Predictor *predictor)
{
    const PredictorOptions *options = &predictor->options;
    TRY(run_folder_check(options->run));
    TRY(run_folder_attach(options->run, &predictor->folder));
    TRY(run_config_load(world, &predictor->folder, &options->use, NULL, NULL, &predictor->config));
    return check_task(predictor);
}

/* Memory for a part of any shape. */
static Status open_part(Predictor *predictor)
{
    const TaskData *data = predictor->session.data;
    int64_t rows = 0;
    predictor->shapes = predictor->inputs->shapes(data, predictor->shape);
    const Source all = {.shape_count = predictor->shapes, .shape = predictor->shape};
    for (int f = 0; f < predictor->shape[0].field_count; ++f)
        TRY(memory_new(&predictor->part.field[f], source_field_bytes(&all, f) + 1, 1, "a part of inputs"));
    for (int i = 0; i < predictor->shapes; ++i)
        if (predictor->shape[i].rows > rows) rows = predictor->shape[i].rows;
    return memory_new(&predictor->logits, (size_t)(rows * data->classes), sizeof *predictor->logits,
                      "logits");
}

static Status open_classes(Predictor *predictor)
{
    const TaskData *data = predictor->session.data;
    TRY(memory_new(&predictor->class_of, (size_t)data->classes, sizeof *predictor->class_of, "classes"));
    for (int64_t k = 0; k < data->classes; ++k)
        if (data->masked == NULL || data->masked[k] == 0) predictor->class_of[predictor->classes++] = k;
    return OK;
}

static Status open_calibration(Predictor *predictor, int64_t step)
{
    const PredictorOptions *options = &predictor->options;
    predictor->temperature = 1;
    if (options->calibrated)
        TRY(run_temperature(&predictor->folder, "--calibrated", options->checkpoint, step,
                            &predictor->temperature));
    if (options->calibrator == NULL) return OK;
    TRY(calibrator_read(options->calibrator, &predictor->calibrator));
    return calibrator_check_classes(&predictor->calibrator, options->calibrator, predictor->classes,
                                    predictor->folder.path);
}

static Status open_rest(Predictor *predictor, int64_t step)
{
    TRY(open_classes(predictor));
    TRY(open_part(predictor));
    return open_calibration(predictor, step);
}

Status predictor_open(World *world, const PredictorOptions *options, Predictor **out)
{
    Predictor *predictor;
    int64_t step = 0;
    Status status;
    *out = NULL;
    TRY(memory_new(&predictor, 1, sizeof *predictor, "a predictor"));
    predictor->options = *options;
    TRY_ELSE(failed, comm_agree(world, open_run(world, predictor)));
    TRY_ELSE(failed, session_open_inputs(world, predictor->config, predictor->folder.path, &options->inputs,
                                         &predictor->session));
    predictor->inputs = predictor->session.data->task->inputs;
    TRY_ELSE(failed,
             run_checkpoint_load(&predictor->session, &predictor->folder, options->checkpoint, &step));
    TRY_ELSE(failed, comm_agree(world, open_rest(predictor, step)));
    *out = predictor;
    return OK;
failed:
    predictor_close(predictor);
    return status;
}

void predictor_close(Predictor *predictor)
{
    if (predictor == NULL) return;
    for (int f = 0; f < BATCH_MAX_FIELDS; ++f)
        free(predictor->part.field[f]);
    free(predictor->logits);
    free(predictor->class_of);
    calibrator_free(&predictor->calibrator);
    if (predictor->session.world != NULL) session_close(&predictor->session);
    config_free(predictor->config);
    free(predictor);
}

/* ---- what it is ---- */

const TaskInputs *predictor_inputs(const Predictor *predictor) { return predictor->inputs; }

int64_t predictor_classes(const Predictor *predictor) { return predictor->classes; }

double predictor_timeout(const Predictor *predictor)
{
    return predictor->session.experiment.comm.timeout_seconds;
}

const char *predictor_label(const Predictor *predictor, int64_t class_index, char number[PREDICTOR_NUMBER])
{
    const char *const *name = predictor->session.data->class_name;
    if (name != NULL) return name[predictor->class_of[class_index]];
    (void)snprintf(number, PREDICTOR_NUMBER, "%" PRId64, predictor->class_of[class_index]);
    return number;
}

/* ---- predicting ---- */

/* The inputs of a call, as their task keeps them. */
typedef struct {
    int64_t count;
    InputSample *sample; /* [count]; content NULL: there is a problem */
    int64_t *order;      /* [taken] those without a problem, by falling size */
    const InputSample **sorted;
    int64_t taken;
} Samples;

static void samples_free(Samples *samples)
{
    for (int64_t i = 0; samples->sample != NULL && i < samples->count; ++i)
        free(samples->sample[i].content);
    free(samples->sample);
    free(samples->order);
    free(samples->sorted);
}

static Status read_input(const Predictor *predictor, const PredictorInput *input, InputSample *sample)
{
    const TaskData *data = predictor->session.data;
    char *bytes;
    size_t size;
    if (input->text != NULL)
        return predictor->inputs->read(data, input->place, input->text, input->size, sample);
    TRY(file_read(input->place.file, predictor->inputs->most_bytes, &bytes, &size));
    Status status = predictor->inputs->read(data, input->place, bytes, size, sample);
    free(bytes);
    return status;
}

typedef struct {
    int64_t size, place;
} Sized;

static int largest_first(const void *a, const void *b)
{
    const Sized *left = a, *right = b;
    if (left->size != right->size) return left->size > right->size ? -1 : 1;
    return left->place < right->place ? -1 : left->place > right->place;
}

static Status sort_samples(Samples *samples)
{
    Sized *sized;
    TRY(memory_new(&sized, (size_t)samples->count + 1, sizeof *sized, "inputs"));
    for (int64_t i = 0; i < samples->count; ++i)
        if (samples->sample[i].content != NULL) sized[samples->taken++] = (Sized){samples->sample[i].size, i};
    qsort(sized, (size_t)samples->taken, sizeof *sized, largest_first);
    for (int64_t i = 0; i < samples->taken; ++i) {
        samples->order[i] = sized[i].place;
        samples->sorted[i] = &samples->sample[sized[i].place];
    }
    free(sized);
    return OK;
}

/* Threads share the inputs: decoding images may take longer than the network does. */
static Status read_samples(const Predictor *predictor, const PredictorInput inputs[], int64_t count,
                           Samples *samples, Status problem[])
{
    *samples = (Samples){.count = count};
    TRY(memory_new(&samples->sample, (size_t)count + 1, sizeof *samples->sample, "inputs"));
    TRY(memory_new(&samples->order, (size_t)count + 1, sizeof *samples->order, "inputs"));
    TRY(memory_new(&samples->sorted, (size_t)count + 1, sizeof *samples->sorted, "inputs"));
#pragma omp parallel for schedule(dynamic) num_threads(device_threads(predictor->session.device))
    for (int64_t i = 0; i < count; ++i)
        problem[i] = read_input(predictor, &inputs[i], &samples->sample[i]);
    return sort_samples(samples);
}

/* The part's rows go to where their inputs are: those of measured classes. */
static Status take_rows(const Predictor *predictor, const Samples *samples, int64_t first,
                        const PredictorInput inputs[], Predictions *out)
{
    const BatchShape *shape = &predictor->shape[predictor->part.shape];
    const int64_t *sample = predictor->part.field[batch_shape_find(shape, "sample")];
    const float *weight = predictor->part.field[batch_shape_find(shape, "weight")];
    char name[INPUT_PLACE_TEXT];
    for (int64_t row = 0; row < shape->rows; ++row) {
        if (weight[row] == 0) continue;
        const int64_t place = samples->order[first + sample[row]];
        const float *from = predictor->logits + row * predictor->session.data->classes;
        float *to = out->logits + place * out->classes;
        bool finite = true;
        for (int64_t k = 0; k < out->classes; ++k) {
            to[k] = from[predictor->class_of[k]];
            finite &= isfinite(to[k]) != 0;
        }
        if (finite) continue;
        memset(to, 0, (size_t)out->classes * sizeof *to);
        out->problem[place] = fail(STATUS_NUMERIC, "%s: the network's outputs are not finite",
                                   input_place_text(inputs[place].place, name));
    }
    return OK;
}

static Status run_parts(Predictor *predictor, const Samples *samples, const PredictorInput inputs[],
                        Predictions *out)
{
    Session *session = &predictor->session;
    for (int64_t first = 0, taken; first < samples->taken; first += taken) {
        TRY(predictor->inputs->fill(session->data, predictor->shape, predictor->shapes,
                                    samples->sorted + first, samples->taken - first, &predictor->part,
                                    &taken));
        TRY(session_part_logits(session, &session->evaluate[SPLIT_TEST], &predictor->part,
                                predictor->logits));
        TRY(take_rows(predictor, samples, first, inputs, out));
    }
    return OK;
}

/* As evaluation has them. */
static Status find_probabilities(const Predictor *predictor, Predictions *out)
{
    const PredictorOptions *options = &predictor->options;
    const int threads = device_threads(predictor->session.device);
    const Logits set = {.name = "the predictions",
                        .type = FLOAT32,
                        .values = out->logits,
                        .count = out->count,
                        .total = out->count,
                        .classes = out->classes};
    const size_t values = (size_t)(out->count * out->classes) + 1;
    TRY(memory_new(&out->trained, values, sizeof *out->trained, "probabilities"));
    TRY(logits_probabilities(&set, 1, threads, out->trained));
    if (!options->calibrated && options->calibrator == NULL) return OK;
    TRY(memory_new(&out->calibrated, values, sizeof *out->calibrated, "probabilities"));
    return options->calibrator != NULL
               ? calibrator_apply(&predictor->calibrator, &set, threads, out->calibrated)
               : logits_probabilities(&set, predictor->temperature, threads, out->calibrated);
}

Status predictor_run(Predictor *predictor, const PredictorInput inputs[], int64_t count, Predictions *out)
{
    Samples samples = {.count = 0};
    Status status;
    *out = (Predictions){.count = count, .classes = predictor->classes};
    TRY(memory_new(&out->problem, (size_t)count + 1, sizeof *out->problem, "predictions"));
    TRY(memory_new(&out->logits, (size_t)(count * out->classes) + 1, sizeof *out->logits, "logits"));
    TRY_ELSE(done, read_samples(predictor, inputs, count, &samples, out->problem));
    TRY_ELSE(done, run_parts(predictor, &samples, inputs, out));
    if (count > 0) TRY_ELSE(done, find_probabilities(predictor, out));
done:
    samples_free(&samples);
    return status;
}

void predictions_free(Predictions *predictions)
{
    for (int64_t i = 0; predictions->problem != NULL && i < predictions->count; ++i)
        status_free(predictions->problem[i]);
    free(predictions->problem);
    free(predictions->logits);
    free(predictions->trained);
    free(predictions->calibrated);
    *predictions = (Predictions){.count = 0};
}
