#include "launch/predict/predict.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/predict/input_list.h"
#include "launch/train/progress.h"
#include "launch/translate/shared_lines.h"
#include "nlp/lines.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ROUND_BYTES = 1 << 25 /* of lines that are shared out at a time, for each rank */
};

typedef struct {
    const PredictOptions *options;
    World *world;
    Predictor *predictor;
    Collective *collective;
    InputList *list; /* rank 0's, as what follows */
    LineWriter *writer;
    int64_t written, failed;
} Prediction;

static bool is_calibrated(const PredictOptions *options)
{
    return options->predictor.calibrated || options->predictor.calibrator != NULL;
}

/* ---- opening ---- */

static Status open_ends(Prediction *p)
{
    const PredictOptions *options = p->options;
    const InputListOptions list = {.inputs = predictor_inputs(p->predictor),
                                   .word = options->word,
                                   .words = options->words,
                                   .lines = options->lines,
                                   .standard_input = options->input};
    TRY(input_list_open(&list, &p->list));
    return line_writer_open(options->output, "the standard output", isatty(options->output) == 1, &p->writer);
}

static Status open_all(Prediction *p)
{
    World *world = p->world;
    TRY(predictor_open(world, &p->options->predictor, &p->predictor));
    if (world->size > 1) TRY(comm_collective(world, predictor_timeout(p->predictor), &p->collective));
    return comm_agree(world, world->rank == 0 ? open_ends(p) : OK);
}

static void close_all(Prediction *p)
{
    line_writer_close(p->writer);
    input_list_close(p->list);
    collective_free(p->collective);
    predictor_close(p->predictor);
}

/* ---- a round ---- */

/* A line of the round is an input: `first` its file, `second` its text, or why there is none; `number` its line, or so: */
static int64_t number_of_problem(int64_t line) { return -1 - line; }

static InputPlace place_of(const SharedLine *line)
{
    return (InputPlace){.file = line->first, .line = line->number < 0 ? -1 - line->number : line->number};
}

static Status add_input(SharedLines *lines, const ListedInput *input)
{
    TextSpan second = {.data = input->text, .size = input->size};
    if (input->problem != NULL) second = text_span(input->problem);
    return shared_lines_add(lines, input->problem != NULL ? number_of_problem(input->line) : input->line,
                            text_span(input->file), second);
}

/* Rank 0: what is there, but for the first input, which is waited for. None after a while, so that the others know that it
 * lives. */
static Status read_round(void *of, SharedLines *lines)
{
    const Prediction *p = of;
    const size_t ranks = (size_t)p->world->size, ahead = (size_t)predictor_inputs(p->predictor)->ahead;
    const size_t most = (size_t)p->options->predictor.inputs.rows * ahead * ranks;
    const double began = progress_clock(), idle = shared_lines_idle_seconds(predictor_timeout(p->predictor));
    for (size_t bytes = 0;
         lines->count < most && bytes < ROUND_BYTES * ranks && !input_list_ended(p->list);) {
        ListedInput input;
        bool got;
        TRY(input_list_next(p->list, &input, &got));
        bytes += input.size;
        Status status = got ? add_input(lines, &input) : OK;
        listed_input_free(&input);
        TRY(status);
        if (got || input_list_ended(p->list)) continue;
        if (lines->count > 0 || progress_clock() - began > idle) return OK;
        TRY(input_list_wait(p->list, idle < 1 ? idle : 1));
    }
    return OK;
}

/* What a rank says of an input: this, then the line, or what is wrong. */
enum { DONE = '+', FAILED = '-' };

static Status set_result(SharedLine *line, char kind, const char *text, size_t size)
{
    TRY(memory_new(&line->result, size + 2, 1, "a prediction"));
    line->result[0] = kind;
    memcpy(line->result + 1, text, size);
    line->result_size = size + 1;
    return OK;
}

static Status set_prediction(const Prediction *p, const Predictions *all, int64_t row, SharedLine *line)
{
    char *text;
    size_t size;
    if (all->problem[row] != OK) {
        const char *message = status_message(all->problem[row]);
        return set_result(line, FAILED, message, strlen(message));
    }
    TRY(prediction_line(&p->options->form, p->predictor, place_of(line), all, row, &text, &size));
    Status status = set_result(line, DONE, text, size);
    free(text);
    return status;
}

/* This rank's inputs, but for those that have a problem already. */
static Status predict_share(void *of, SharedLines *lines, const int rank[])
{
    const Prediction *p = of;
    PredictorInput *inputs;
    Predictions all = {.count = 0};
    int64_t count = 0;
    Status status;
    TRY(memory_new(&inputs, lines->count + 1, sizeof *inputs, "inputs"));
    for (size_t i = 0; i < lines->count; ++i) {
        SharedLine *line = &lines->line[i];
        if (rank[i] != p->world->rank) continue;
        if (line->number < 0)
            TRY_ELSE(done, set_result(line, FAILED, line->second, line->second_size));
        else
            inputs[count++] = (PredictorInput){place_of(line), line->second, line->second_size};
    }
    TRY_ELSE(done, predictor_run(p->predictor, inputs, count, &all));
    for (size_t i = 0, row = 0; i < lines->count; ++i)
        if (rank[i] == p->world->rank && lines->line[i].number >= 0)
            TRY_ELSE(done, set_prediction(p, &all, (int64_t)row++, &lines->line[i]));
done:
    predictions_free(&all);
    free(inputs);
    return status;
}

static Status write_failure(Prediction *p, const SharedLine *line)
{
    char *message, *text;
    size_t size;
    TRY(text_format(&message, "%.*s", (int)line->result_size - 1, line->result + 1));
    ++p->failed;
    log_warning("%s", message);
    Status status = prediction_failed_line(&p->options->form, place_of(line), is_calibrated(p->options),
                                           message, &text, &size);
    free(message);
    TRY(status);
    status = line_writer_write(p->writer, text, size);
    free(text);
    return status;
}

static Status write_round(void *of, const SharedLines *lines)
{
    Prediction *p = of;
    for (size_t i = 0; i < lines->count; ++i, ++p->written) {
        const SharedLine *line = &lines->line[i];
        if (line->result == NULL)
            return fail(STATUS_INTERNAL, "no rank has predicted %s:%" PRId64, line->first, line->number);
        TRY(line->result[0] == FAILED
                ? write_failure(p, line)
                : line_writer_write(p->writer, line->result + 1, line->result_size - 1));
    }
    return line_writer_flush(p->writer);
}

static bool is_over(const void *of)
{
    const Prediction *p = of;
    return line_writer_closed(p->writer) || input_list_ended(p->list);
}

/* ---- all ---- */

static Status judge(const Prediction *p)
{
    const TaskInputs *inputs = predictor_inputs(p->predictor);
    if (p->failed == 0) return OK;
    return fail(STATUS_INPUT, "%" PRId64 " of %" PRId64 " %s could not be predicted", p->failed, p->written,
                p->written == 1 ? inputs->one : inputs->many);
}

Status predict(World *world, const PredictOptions *options)
{
    Prediction p = {.options = options, .world = world};
    const SharedWork work = {&p, read_round, predict_share, write_round, is_over};
    Status status;
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that has gone is an end, not an accident */
    TRY_ELSE(done, open_all(&p));
    for (bool ended = false; !ended;)
        TRY_ELSE(done, shared_lines_round(world, p.collective, &work, &ended));
    status = comm_agree(world, world->rank == 0 ? judge(&p) : OK);
done:
    close_all(&p);
    return status;
}
