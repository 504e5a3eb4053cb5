/* What a session measures of its network while training. */
#include "launch/train/session.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>

/* ---- calibration ---- */

typedef struct {
    const SessionCalibration *wanted;
    int count;
    TakeRows *take; /* NULL: nobody else */
    void *taker;
} Calibrations;

static Status take_calibrations(void *taker, const LogitRows *rows, const BatchPart *part,
                                const BatchShape *shape)
{
    const Calibrations *all = taker;
    for (int i = 0; i < all->count; ++i)
        TRY(calibration_pass_add(all->wanted[i].pass, rows));
    return all->take != NULL ? all->take(all->taker, rows, part, shape) : OK;
}

static Status begin_calibrations(const Calibrations *all)
{
    for (int i = 0; i < all->count; ++i)
        TRY(calibration_pass_begin(all->wanted[i].pass));
    return OK;
}

static Status collect_calibrations(const Calibrations *all)
{
    for (int i = 0; i < all->count; ++i)
        TRY(calibration_pass_collect(all->wanted[i].pass));
    return OK;
}

/* Classwise measures are means over classes; one that is masked is none of them. */
static void leave_out_masked(const TaskData *data, Calibration *result)
{
    const double all = (double)data->classes / (double)task_measured_class(data->masked, data->classes);
    const double labelled =
        (double)result->label_classes / (double)task_measured_class(data->masked, result->label_classes);
    result->classwise_ece *= labelled;
    result->classwise_ece_all *= all;
}

Status session_calibrations(Session *session, Split split, const SessionCalibration wanted[], int count,
                            TakeRows *take, void *taker)
{
    Calibrations all = {.wanted = wanted, .count = count, .take = take, .taker = taker};
    Status status = comm_agree(session->world, begin_calibrations(&all));
    if (status != OK) return status;
    status = session_stream(session, split, take_calibrations, &all);
    if (status == OK) status = collect_calibrations(&all);
    TRY(comm_agree(session->world, status));
    for (int i = 0; i < count; ++i) {
        TRY(calibration_pass_measure(wanted[i].pass, session->host_collective, wanted[i].result));
        leave_out_masked(session->data, wanted[i].result);
    }
    return OK;
}

Status session_calibration(Session *session, Split split, Calibration *result)
{
    const SessionCalibration wanted = {session->evaluate[split].calibration, result};
    return session_calibrations(session, split, &wanted, 1, NULL, NULL);
}

/* ---- the last layer ---- */

static Status weight_norm(const Session *session, const StoreEntry *weight, double *norm)
{
    const size_t count = (size_t)shape_count(weight->shape);
    float *values;
    double squares = 0;
    TRY(memory_new(&values, count, sizeof *values, "the last layer's weights"));
    Status status = device_download(session->device, values, weight->data, count * sizeof *values);
    if (status == OK) status = device_synchronize(session->device);
    for (size_t i = 0; i < count && status == OK; ++i)
        squares += (double)values[i] * (double)values[i];
    free(values);
    *norm = sqrt(squares);
    return status;
}

Status session_weight_norm(Session *session, double *norm)
{
    const Program *program = &session->train.program[0];
    *norm = NAN;
    if (!value_exists(program->last_weight)) return OK;
    const char *name = graph_name(program->graph, program->last_weight);
    return comm_agree(session->world, weight_norm(session, store_find(session->store, name), norm));
}
