#include "launch/train/training_pass.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* What a part leaves on the host. Two of them: the device copies into one while the host reads the other. */
typedef struct {
    bool pending;
    Mark mark;
    int64_t rows;
    double *features, *logit_norms, *gradients; /* [most rows] */
    float *logits;                              /* [most rows, classes]; NULL: gradients are never wanted */
    int32_t *labels;                            /* [most rows] */
    float *weights;
} Slot;

enum { SLOTS = 2 };

struct TrainingPass {
    Session *session;
    CalibrationPass *reliability; /* NULL: never wanted */
    Slot slot[SLOTS];
    double *row; /* [threads, classes] */
    int threads;
    /* Of the measurement that is under way. */
    TrainingWishes wishes;
    int64_t epoch, parts;
    NormSums sums;
};

/* ---- when ---- */

static bool has_epoch(const EpochList *list, int64_t epoch)
{
    for (int i = 0; i < list->count; ++i)
        if (list->epoch[i] == epoch) return true;
    return false;
}

/* In the course of an epoch the epoch is 0, and with it only where every evaluation counts. */
static bool is_measured(const Experiment *experiment, int64_t epoch)
{
    const int64_t every = experiment->evaluate.train_every;
    if (!experiment->evaluate.train) return false;
    return every == 1 || (epoch > 0 && epoch % every == 0);
}

TrainingWishes training_wishes(const Experiment *experiment, bool evaluated, int64_t epoch)
{
    const bool measured = evaluated && is_measured(experiment, epoch);
    return (TrainingWishes){.calibration = measured,
                            .norms = measured && experiment->evaluate.norms,
                            .gradients = has_epoch(&experiment->evaluate.gradient_norms, epoch),
                            .reliability = has_epoch(&experiment->evaluate.train_reliability, epoch)};
}

bool training_wishes_any(const TrainingWishes *wishes)
{
    return wishes->calibration || wishes->norms || wishes->gradients || wishes->reliability;
}

/* Is one of these epochs to come to its end? */
static bool is_reached(const Experiment *experiment, const EpochList *list, int64_t steps_an_epoch)
{
    for (int i = 0; i < list->count; ++i)
        if (list->epoch[i] <= experiment->epochs && list->epoch[i] <= experiment->steps / steps_an_epoch)
            return true;
    return false;
}

bool training_wishes_ever(const Experiment *experiment, int64_t steps_an_epoch)
{
    return experiment->evaluate.train ||
           is_reached(experiment, &experiment->evaluate.gradient_norms, steps_an_epoch) ||
           is_reached(experiment, &experiment->evaluate.train_reliability, steps_an_epoch);
}

/* ---- memory ---- */

static Status open_slot(const Session *session, int64_t most_rows, Slot *slot)
{
    const size_t rows = (size_t)most_rows, classes = (size_t)session->data->classes;
    TRY(memory_new(&slot->features, rows, sizeof *slot->features, "norms of features"));
    TRY(memory_new(&slot->logit_norms, rows, sizeof *slot->logit_norms, "norms of logits"));
    if (session->experiment.evaluate.gradient_norms.count == 0) return OK;
    TRY(memory_new(&slot->gradients, rows, sizeof *slot->gradients, "norms of gradients"));
    return memory_new(&slot->logits, rows * classes, sizeof *slot->logits, "logits");
}

static Status open_slots(const Session *session, TrainingPass *pass)
{
    const int64_t rows = session_most_rows(session, SPLIT_TRAIN);
    for (int i = 0; i < SLOTS; ++i) {
        Slot *slot = &pass->slot[i];
        TRY(open_slot(session, rows, slot));
        TRY(memory_new(&slot->labels, (size_t)rows, sizeof *slot->labels, "labels"));
        TRY(memory_new(&slot->weights, (size_t)rows, sizeof *slot->weights, "weights"));
    }
    pass->threads = device_threads(session->device);
    return memory_new(&pass->row, (size_t)pass->threads * (size_t)session->data->classes, sizeof *pass->row,
                      "a row of logits");
}

Status training_pass_open(Session *session, TrainingPass **out)
{
    TrainingPass *pass;
    TRY(memory_new(&pass, 1, sizeof *pass, "measures of the training split"));
    *out = pass;
    pass->session = session;
    TRY(open_slots(session, pass));
    if (session->experiment.evaluate.train_reliability.count == 0) return OK;
    return session_open_calibration(session, SPLIT_TRAIN, TRAIN_RELIABILITY_BINS, &pass->reliability);
}

void training_pass_close(TrainingPass *pass)
{
    if (pass == NULL) return;
    calibration_pass_close(pass->reliability);
    for (int i = 0; i < SLOTS; ++i) {
        Slot *slot = &pass->slot[i];
        free(slot->features);
        free(slot->logit_norms);
        free(slot->gradients);
        free(slot->logits);
        free(slot->labels);
        free(slot->weights);
    }
    free(pass->row);
    free(pass);
}

/* ---- measuring ---- */

static bool wants_norms(const TrainingPass *pass) { return pass->wishes.norms || pass->wishes.gradients; }

/* Takes over what the device has left in the slot. */
static Status finish_slot(TrainingPass *pass, Slot *slot)
{
    const Session *session = pass->session;
    if (!slot->pending) return OK;
    slot->pending = false;
    TRY(device_wait(session->device, slot->mark));
    if (pass->wishes.norms) {
        norm_sums_add(&pass->sums, NORM_FEATURES, slot->features, slot->weights, slot->rows);
        norm_sums_add(&pass->sums, NORM_LOGITS, slot->logit_norms, slot->weights, slot->rows);
    }
    if (!pass->wishes.gradients) return OK;
    const GradientRows rows = {.logits = slot->logits,
                               .labels = slot->labels,
                               .weights = slot->weights,
                               .features = slot->features,
                               .rows = slot->rows,
                               .classes = session->data->classes};
    gradient_norms(&session->experiment.loss.head, pass->epoch, &rows, pass->threads, pass->row,
                   slot->gradients);
    norm_sums_add(&pass->sums, NORM_GRADIENT, slot->gradients, slot->weights, slot->rows);
    return OK;
}

/* The loader fills the part's fields anew while the device is busy: they are copied. */
static Status take_rows(void *taker, const LogitRows *rows, const BatchPart *part, const BatchShape *shape)
{
    TrainingPass *pass = taker;
    const Session *session = pass->session;
    const Program *program = &session->evaluate[SPLIT_TRAIN].program[part->shape];
    Device *device = session->device;
    const size_t count = (size_t)rows->rows;
    if (!wants_norms(pass)) return OK;
    Slot *slot = &pass->slot[pass->parts++ % SLOTS];
    TRY(finish_slot(pass, slot));
    slot->rows = rows->rows;
    memcpy(slot->labels, part->field[batch_shape_find(shape, "target")], count * sizeof *slot->labels);
    memcpy(slot->weights, part->field[batch_shape_find(shape, "weight")], count * sizeof *slot->weights);
    TRY(device_download(device, slot->features, plan_data(program->plan, program->feature_norms),
                        count * sizeof *slot->features));
    TRY(device_download(device, slot->logit_norms, plan_data(program->plan, program->logit_norms),
                        count * sizeof *slot->logit_norms));
    if (pass->wishes.gradients)
        TRY(device_download(device, slot->logits, rows->logits,
                            count * (size_t)session->data->classes * sizeof *slot->logits));
    slot->pending = true;
    return device_mark(device, &slot->mark);
}

static Status finish_slots(TrainingPass *pass)
{
    for (int i = 0; i < SLOTS; ++i)
        TRY(finish_slot(pass, &pass->slot[i]));
    return OK;
}

Status training_pass_measure(Session *session, const TrainingWishes *wishes, int64_t epoch,
                             TrainingMeasures *measures)
{
    TrainingPass *pass = session->training;
    SessionCalibration wanted[2];
    int count = 0;
    *measures = (TrainingMeasures){.has = *wishes};
    if (wishes->calibration)
        wanted[count++] =
            (SessionCalibration){session->evaluate[SPLIT_TRAIN].calibration, &measures->calibration};
    if (wishes->reliability)
        wanted[count++] = (SessionCalibration){pass->reliability, &measures->reliability};
    pass->wishes = *wishes;
    pass->epoch = epoch;
    pass->sums = (NormSums){.samples = {0}};
    Status status = session_calibrations(session, SPLIT_TRAIN, wanted, count, take_rows, pass);
    /* After an error, too: copies may be on their way into the slots. */
    Status finished = finish_slots(pass);
    if (status == OK)
        status = comm_agree(session->world, finished);
    else
        status_free(finished);
    TRY(status);
    measures->norms = pass->sums;
    return wants_norms(pass) ? norm_sums_reduce(session->host_collective, &measures->norms) : OK;
}
