#include "losses/linear_experiment.h"

#include "engine/base/random.h"
#include "losses/sample_loss.h"

#include <math.h>
#include <string.h>

static const double mean[2] = {1, 0.5}; /* of class 0; of class 1 the opposite */
static const double margin = 0.1, learning_rate = 0.5;

static LinearPoint draw(RandomStream *stream, int label)
{
    const double sign = label == 0 ? 1 : -1;
    LinearPoint point = {.label = label};
    for (int i = 0; i < 2; ++i)
        point.x[i] = sign * mean[i] + random_normal(stream);
    return point;
}

/* On its own side of the line between the classes, and not next to it? */
static bool is_clear(const LinearPoint *point)
{
    const double along =
        (point->x[0] * mean[0] + point->x[1] * mean[1]) / sqrt(mean[0] * mean[0] + mean[1] * mean[1]);
    return (point->label == 0 ? along : -along) >= margin;
}

void linear_data(LinearData *data)
{
    RandomStream train = random_stream(1, RANDOM_THEORY, 0), test = random_stream(1, RANDOM_THEORY, 1);
    for (int i = 0; i < LINEAR_TRAIN; ++i) {
        do
            data->train[i] = draw(&train, i % 2);
        while (!is_clear(&data->train[i]));
    }
    for (int i = 0; i < LINEAR_TEST; ++i)
        data->test[i] = draw(&test, i % 2);
}

static void logits_of(const LinearResult *model, const LinearPoint *point, double row[2])
{
    for (int k = 0; k < 2; ++k)
        row[k] = model->weight[k][0] * point->x[0] + model->weight[k][1] * point->x[1] + model->bias[k];
}

static void descend(const LinearData *data, const LossHead *head, LinearResult *model)
{
    double weight[2][2] = {{0}}, bias[2] = {0};
    for (int i = 0; i < LINEAR_TRAIN; ++i) {
        const LinearPoint *point = &data->train[i];
        double row[2];
        logits_of(model, point, row);
        const Sample sample = sample_softmax(row, 2, point->label);
        const SampleLoss loss = loss_head_sample(&sample, head, 0);
        sample_gradient(&sample, &loss, 1.0 / LINEAR_TRAIN, row);
        for (int k = 0; k < 2; ++k) {
            weight[k][0] += row[k] * point->x[0];
            weight[k][1] += row[k] * point->x[1];
            bias[k] += row[k];
        }
    }
    for (int k = 0; k < 2; ++k) {
        model->weight[k][0] -= learning_rate * weight[k][0];
        model->weight[k][1] -= learning_rate * weight[k][1];
        model->bias[k] -= learning_rate * bias[k];
    }
}

static void measure(const LinearData *data, int step, LinearResult *model)
{
    LinearRecord record = {.step = step};
    double squares = 0, row[2];
    int wrong = 0;
    for (int k = 0; k < 2; ++k)
        squares += model->weight[k][0] * model->weight[k][0] + model->weight[k][1] * model->weight[k][1];
    record.weight_norm = sqrt(squares);
    for (int i = 0; i < LINEAR_TRAIN; ++i) {
        logits_of(model, &data->train[i], row);
        record.logit_norm += hypot(row[0], row[1]) / LINEAR_TRAIN;
        record.train_error +=
            (sample_softmax(row, 2, data->train[i].label).correct ? 0.0 : 1.0) / LINEAR_TRAIN;
    }
    for (int i = 0; i < LINEAR_TEST; ++i) {
        logits_of(model, &data->test[i], row);
        const Sample sample = sample_softmax(row, 2, data->test[i].label);
        record.test_nll += sample.negative_log / LINEAR_TEST;
        if (sample.correct) continue;
        ++wrong;
        record.wrong_confidence += sample.confidence;
    }
    record.test_error = (double)wrong / LINEAR_TEST;
    record.wrong_confidence = wrong > 0 ? record.wrong_confidence / wrong : NAN;
    if (model->records < LINEAR_MOST_RECORDS) model->record[model->records++] = record;
}

void linear_train(const LinearData *data, const LossHead *head, LinearResult *model)
{
    int next = 1;
    memset(model, 0, sizeof *model);
    for (int step = 1; step <= LINEAR_STEPS; ++step) {
        descend(data, head, model);
        if (step < next && step < LINEAR_STEPS) continue;
        measure(data, step, model);
        next += next / 5 + 1;
    }
}
