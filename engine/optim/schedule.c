#include "engine/optim/optimizer.h"

#include <math.h>
#include <string.h>

typedef double ScheduleRule(const Schedule *, int64_t epoch, int64_t step);

/* Linear warm-up over the first steps; its last step has the full rate. */
static double warm_up(const Schedule *schedule, int64_t step)
{
    return step < schedule->warmup_steps ? (double)step / (double)schedule->warmup_steps : 1;
}

static double constant(const Schedule *schedule, int64_t epoch, int64_t step)
{
    (void)epoch;
    return schedule->learning_rate * warm_up(schedule, step);
}

/* The published loop steps its scheduler before each epoch, so that torch 1.1 and newer drop one epoch early.
 */
static double steps(const Schedule *schedule, int64_t epoch, int64_t step)
{
    const int64_t place = epoch + (schedule->one_epoch_early ? 1 : 0);
    double rate = schedule->learning_rate;
    for (int i = 0; i < schedule->epoch_count; ++i)
        if (place >= schedule->epochs[i]) rate *= schedule->factor;
    return rate * warm_up(schedule, step);
}

/* The base up to the last part of training, then a straight line to final_rate after the last step. A warm-up that
 * reaches into that part ends where it meets the line. */
static double linear(const Schedule *schedule, int64_t epoch, int64_t step)
{
    (void)epoch;
    const double total = (double)schedule->total_steps, length = schedule->decay * total;
    const double done = (double)(step - 1) - (total - length);
    const double part = !(done > 0) ? 0 : done < length ? done / length : 1;
    const double height = schedule->learning_rate - schedule->final_rate;
    const double rate = schedule->learning_rate - height * part;
    return step < schedule->warmup_steps ? fmin(schedule->learning_rate * warm_up(schedule, step), rate)
                                         : rate;
}

/* Half a cosine from the base at the first step after the warm-up to final_rate after the last. */
static double cosine(const Schedule *schedule, int64_t epoch, int64_t step)
{
    (void)epoch;
    if (step <= schedule->warmup_steps) return schedule->learning_rate * warm_up(schedule, step);
    const double done = (double)(step - 1 - schedule->warmup_steps);
    const double total = (double)(schedule->total_steps - schedule->warmup_steps);
    const double part = done < total ? done / total : 1;
    const double height = schedule->learning_rate - schedule->final_rate;
    return schedule->final_rate + height * 0.5 * (1 + cos(3.14159265358979323846 * part));
}

/* d_model^-0.5 min(step^-0.5, step warmup^-1.5) */
static double inverse_square_root(const Schedule *schedule, int64_t epoch, int64_t step)
{
    (void)epoch;
    const double s = (double)step, warmup = (double)schedule->warmup_steps;
    double rate = 1 / sqrt(s);
    if (warmup > 0 && s < warmup) rate = s / (warmup * sqrt(warmup));
    return schedule->learning_rate * rate / sqrt((double)schedule->model_width);
}

typedef struct {
    const char *name;
    ScheduleRule *rule;
    unsigned takes;
} ScheduleRow;

static const ScheduleRow rows[] = {
    {"constant", constant, 0},
    {"steps", steps, SCHEDULE_TAKES_EPOCHS},
    {"linear", linear, SCHEDULE_TAKES_FINAL_RATE | SCHEDULE_TAKES_DECAY},
    {"cosine", cosine, SCHEDULE_TAKES_FINAL_RATE},
    {"inverse_square_root", inverse_square_root, SCHEDULE_TAKES_MODEL_WIDTH},
};

static const ScheduleRow *find_row(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; ++i)
        if (strcmp(name, rows[i].name) == 0) return &rows[i];
    return NULL;
}

unsigned schedule_takes(const char *name)
{
    const ScheduleRow *row = find_row(name);
    return row != NULL ? row->takes : 0;
}

double schedule_learning_rate(const Schedule *schedule, int64_t epoch, int64_t step)
{
    const ScheduleRow *row = find_row(schedule->name);
    return row != NULL ? row->rule(schedule, epoch, step) : NAN;
}
