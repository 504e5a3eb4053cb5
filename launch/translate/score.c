#include "launch/translate/score.h"

#include "engine/base/memory.h"
#include "launch/search/planned_graph.h"
#include "launch/train/progress.h"
#include "launch/translate/shared_lines.h"
#include "launch/translate/translation_run.h"
#include "nlp/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SHORTEST = 16,      /* the least padded length */
    PLACES = 1024,      /* padded tokens of a program */
    ROUND_LINES = 4096, /* for each rank: sorted together */
    MOST_PROGRAMS = 24  /* doublings of SHORTEST */
};

/* Teacher forcing for pairs of one padded length. */
typedef struct {
    int64_t pairs, length;
    PlannedGraph planned;
    Value source, source_length, target, forced, temperature, banned_start, banned;
    BestTokens best;
} ScoreProgram;

typedef struct {
    int32_t *source, *target; /* the target begins with the start token, and has the end token behind it */
    int64_t source_length, target_length; /* with the end token */
    SharedLine *line;
} Pair;

typedef struct {
    const ScoreOptions *options;
    World *world;
    double temperature;
    int64_t longest; /* tokens of a side, its end token among them */
    TranslationRun run;
    SubwordEncoder *encoder;
    TokenIds ids;
    Store *store;
    Arena *arena;
    Collective *self, *collective;
    ScoreProgram program[MOST_PROGRAMS]; /* the longest first */
    int programs;
    int32_t *ids_source, *ids_target, *forced, *length, *banned_start; /* what a program takes */
    float *logit, *scale;
    int file[2];
    LineReader *reader[2];
    char *held[2]; /* a line whose other side has not come yet */
    size_t held_size[2];
    int64_t read; /* pairs */
    LineWriter *writer;
} Scoring;

/* ---- programs ---- */

static Status build(const Scoring *s, ScoreProgram *program)
{
    const Transformer *network = &s->run.network;
    const int64_t pairs = program->pairs, length = program->length;
    TRY(graph_create(GRAPH_EVALUATE, s->run.experiment.compute, &program->planned.graph));
    Graph *graph = program->planned.graph;
    program->source = planned_integers(graph, "source", 2, pairs, length);
    program->source_length = planned_integers(graph, "source_length", 1, pairs, 0);
    program->target = planned_integers(graph, "target", 2, pairs, length);
    program->forced = planned_integers(graph, "forced", 1, pairs * length, 0);
    program->temperature = graph_input(graph, "temperature", shape_of(FLOAT32, 1, (int64_t[]){1}));
    program->banned_start = planned_integers(graph, "banned_start", 1, pairs * length + 1, 0);
    program->banned = planned_integers(graph, "banned", 1, 1, 0);
    const Value memory = transformer_encoder(graph, network, program->source, program->source_length);
    const Value hidden = transformer_decoder(graph, network, memory, program->source_length, program->target);
    program->best = best_tokens(graph, transformer_logits(graph, network, hidden),
                                (BestTokens){.count = 1,
                                             .temperature = program->temperature,
                                             .forced = program->forced,
                                             .banned_start = program->banned_start,
                                             .banned = program->banned});
    graph_keep(graph, program->best.logit);
    graph_keep(graph, program->best.scale);
    if (s->run.experiment.fuse) (void)graph_fuse(graph);
    return graph_finish(graph);
}

static Status make_programs(Scoring *s)
{
    const Graph *graph[MOST_PROGRAMS];
    for (int64_t length = s->longest;; length = (length + 1) / 2) {
        ScoreProgram *program = &s->program[s->programs];
        program->length = length;
        program->pairs = PLACES / length > 1 ? PLACES / length : 1;
        ++s->programs;
        TRY(build(s, program));
        graph[s->programs - 1] = program->planned.graph;
        if (length <= SHORTEST) break;
    }
    TRY(store_create(s->run.device, graph, s->programs, 0, &s->store));
    TRY(arena_create(s->run.device, &s->arena));
    TRY(collective_self(&s->self));
    for (int i = 0; i < s->programs; ++i)
        TRY(plan_create(s->program[i].planned.graph, s->store, s->arena, s->self, s->run.experiment.plan,
                        &s->program[i].planned.plan));
    const size_t places = (size_t)(s->longest > PLACES ? s->longest : PLACES);
    TRY(memory_new(&s->ids_source, places, sizeof *s->ids_source, "a batch"));
    TRY(memory_new(&s->ids_target, places, sizeof *s->ids_target, "a batch"));
    TRY(memory_new(&s->forced, places, sizeof *s->forced, "a batch"));
    TRY(memory_new(&s->length, places, sizeof *s->length, "a batch"));
    TRY(memory_new(&s->banned_start, places + 1, sizeof *s->banned_start, "a batch"));
    TRY(memory_new(&s->logit, places, sizeof *s->logit, "a batch"));
    return memory_new(&s->scale, 2 * places, sizeof *s->scale, "a batch");
}

/* ---- opening ---- */

static Status open_files(Scoring *s)
{
    const char *const name[] = {s->options->source, s->options->target};
    for (int i = 0; i < 2; ++i) {
        s->file[i] = open(name[i], O_RDONLY | O_CLOEXEC);
        if (s->file[i] < 0) return fail(STATUS_IO, "%s cannot be opened: %s", name[i], strerror(errno));
        TRY(line_reader_open(s->file[i], name[i], &s->reader[i]));
    }
    return line_writer_open(s->options->output, "the standard output", false, &s->writer);
}

static Status open_here(Scoring *s)
{
    const ScoreOptions *options = s->options;
    s->temperature = options->temperature;
    s->longest = translation_run_longest(&s->run, options->longest);
    if (options->calibrated) TRY(translation_run_temperature(&s->run, options->checkpoint, &s->temperature));
    TRY(subword_encoder_new(s->run.subwords, &s->encoder));
    return make_programs(s);
}

static Status open_all(Scoring *s)
{
    World *world = s->world;
    TRY(comm_agree(world, world->rank == 0 ? open_files(s) : OK));
    TRY(translation_run_open(world, s->options->run, &s->options->use, &s->run));
    TRY(comm_agree(world, open_here(s)));
    TRY(translation_run_load(&s->run, s->options->checkpoint, s->store));
    if (world->size == 1) return OK;
    return comm_collective(world, s->run.experiment.comm.timeout_seconds, &s->collective);
}

static void close_all(Scoring *s)
{
    for (int i = 0; i < s->programs; ++i)
        planned_free(s->run.device, &s->program[i].planned);
    collective_free(s->self);
    collective_free(s->collective);
    arena_free(s->arena);
    store_free(s->store);
    for (int i = 0; i < 2; ++i) {
        line_reader_close(s->reader[i]);
        free(s->held[i]);
        if (s->file[i] >= 0) (void)close(s->file[i]);
    }
    line_writer_close(s->writer);
    subword_encoder_free(s->encoder);
    token_ids_free(&s->ids);
    int32_t *const arrays[] = {s->ids_source, s->ids_target, s->forced, s->length, s->banned_start};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; ++i)
        free(arrays[i]);
    free(s->logit);
    free(s->scale);
    translation_run_close(&s->run);
}

/* ---- pairs ---- */

/* The next line of a side, as far as it is there, is held until its pair has both. */
static Status hold(Scoring *s, int side)
{
    Line line;
    bool got, changed;
    if (s->held[side] != NULL) return OK;
    TRY(line_reader_next(s->reader[side], false, &line, &got));
    if (!got) return OK;
    const char *name = side == 0 ? s->options->source : s->options->target;
    if (line.cut)
        return fail(STATUS_INPUT, "%s, line %" PRId64 " has more than %d bytes", name, s->read + 1,
                    LINE_MOST_BYTES);
    TRY(line_to_utf8(line.text, &s->held[side], &s->held_size[side], &changed));
    if (!changed) return OK;
    return fail(STATUS_INPUT, "%s, line %" PRId64 " is no valid UTF-8, or has a NUL", name, s->read + 1);
}

/* A side of which nothing has come yet, and something may; -1: both have ended. */
static int missing_side(const Scoring *s)
{
    for (int side = 0; side < 2; ++side)
        if (s->held[side] == NULL && !line_reader_ended(s->reader[side])) return side;
    return -1;
}

/* The next pair, if both of its lines are there. */
static Status read_pair(Scoring *s, SharedLines *lines, bool *got)
{
    *got = false;
    for (int side = 0; side < 2; ++side)
        TRY(hold(s, side));
    for (int side = 0; side < 2; ++side)
        if (s->held[side] != NULL && s->held[1 - side] == NULL && line_reader_ended(s->reader[1 - side]))
            return fail(STATUS_INPUT, "%s has %" PRId64 " line%s, and %s has more",
                        side == 0 ? s->options->target : s->options->source, s->read, s->read == 1 ? "" : "s",
                        side == 0 ? s->options->source : s->options->target);
    if (s->held[0] == NULL || s->held[1] == NULL) return OK;
    TRY(shared_lines_add(lines, s->read, (TextSpan){.data = s->held[0], .size = s->held_size[0]},
                         (TextSpan){.data = s->held[1], .size = s->held_size[1]}));
    for (int side = 0; side < 2; ++side) {
        free(s->held[side]);
        s->held[side] = NULL;
    }
    ++s->read;
    *got = true;
    return OK;
}

/* What is there, at least a pair: a slow pipe is answered line by line. Without any after a while, so that the other ranks know that
 * this one lives. */
static Status read_round(void *of, SharedLines *lines)
{
    Scoring *s = of;
    const int64_t most = (int64_t)ROUND_LINES * s->world->size;
    const double began = progress_clock(),
                 idle = shared_lines_idle_seconds(s->run.experiment.comm.timeout_seconds);
    while ((int64_t)lines->count < most) {
        bool got;
        TRY(read_pair(s, lines, &got));
        if (got) continue;
        const int missing = missing_side(s);
        if (missing < 0 || lines->count > 0 || progress_clock() - began > idle) return OK;
        TRY(line_reader_wait(s->reader[missing], idle < 1 ? idle : 1));
    }
    return OK;
}

/* The ids of a text, with the start token before them if wanted, and the end token behind them. */
static Status encode(Scoring *s, const char *text, size_t size, bool start, int64_t number, int32_t **ids,
                     int64_t *length)
{
    TRY(subword_encoder_encode(s->encoder, (TextSpan){.data = text, .size = size}, &s->ids, NULL));
    const size_t count = s->ids.count;
    if ((int64_t)count + 1 > s->longest)
        return fail(STATUS_INPUT,
                    "%s, line %" PRId64 " has %zu tokens, more than %" PRId64 ": --longest allows more",
                    start ? s->options->target : s->options->source, number + 1, count, s->longest - 1);
    TRY(memory_new(ids, count + 2, sizeof **ids, "a sentence"));
    if (start) (*ids)[0] = SUBWORD_START;
    if (count > 0) memcpy(*ids + (start ? 1 : 0), s->ids.id, count * sizeof **ids);
    (*ids)[count + (start ? 1 : 0)] = SUBWORD_END;
    *length = (int64_t)count + 1;
    return OK;
}

static int64_t longer_side(const Pair *pair)
{
    return pair->source_length > pair->target_length ? pair->source_length : pair->target_length;
}

static int longest_first(const void *a, const void *b)
{
    const Pair *left = a, *right = b;
    if (longer_side(left) != longer_side(right)) return longer_side(left) > longer_side(right) ? -1 : 1;
    return left->line->number < right->line->number ? -1 : left->line->number > right->line->number;
}

/* ---- running ---- */

static Status run_pairs(Scoring *s, ScoreProgram *program, const Pair pairs[], int64_t count)
{
    const int64_t length = program->length, places = program->pairs * length;
    const float temperature = (float)s->temperature;
    const int32_t nothing = 0;
    memset(s->ids_source, 0, (size_t)places * sizeof *s->ids_source);
    memset(s->ids_target, 0, (size_t)places * sizeof *s->ids_target);
    memset(s->forced, 0, (size_t)places * sizeof *s->forced);
    memset(s->length, 0, (size_t)program->pairs * sizeof *s->length);
    for (int64_t i = 0; i < count; ++i) {
        const Pair *pair = &pairs[i];
        s->length[i] = (int32_t)pair->source_length;
        memcpy(s->ids_source + i * length, pair->source, (size_t)pair->source_length * sizeof *s->ids_source);
        memcpy(s->ids_target + i * length, pair->target, (size_t)pair->target_length * sizeof *s->ids_target);
        memcpy(s->forced + i * length, pair->target + 1, (size_t)pair->target_length * sizeof *s->forced);
    }
    TRY(planned_upload(s->run.device, &program->planned, program->source, s->ids_source));
    TRY(planned_upload(s->run.device, &program->planned, program->source_length, s->length));
    TRY(planned_upload(s->run.device, &program->planned, program->target, s->ids_target));
    TRY(planned_upload(s->run.device, &program->planned, program->forced, s->forced));
    TRY(planned_upload(s->run.device, &program->planned, program->temperature, &temperature));
    TRY(planned_upload(s->run.device, &program->planned, program->banned_start,
                       s->banned_start)); /* zeros: nothing is banned */
    TRY(planned_upload(s->run.device, &program->planned, program->banned, &nothing));
    TRY(planned_run(s->run.device, &program->planned, "scoring", &s->run.experiment.record));
    TRY(planned_download(s->run.device, &program->planned, program->best.logit, s->logit, places));
    TRY(planned_download(s->run.device, &program->planned, program->best.scale, s->scale, places));
    return device_synchronize(s->run.device);
}

static Status append_number(SharedLine *line, size_t *capacity, double number)
{
    char text[LINE_NUMBER_BYTES];
    const size_t size = line_print_number(text, number), space = line->result_size > 0 ? 1 : 0;
    TRY(memory_grow(&line->result, capacity, line->result_size + space + size, 1, "a score"));
    if (space > 0) line->result[line->result_size] = ' ';
    memcpy(line->result + line->result_size + space, text, size);
    line->result_size += space + size;
    return OK;
}

/* What is written for pair `i` of the run. */
static Status write_pair(const Scoring *s, const ScoreProgram *program, const Pair *pair, int64_t i)
{
    SharedLine *line = pair->line;
    size_t capacity = 0;
    double sum = 0;
    for (int64_t k = 0; k < pair->target_length; ++k) {
        const int64_t row = i * program->length + k;
        const double greatest = (double)s->scale[2 * row], total = (double)s->scale[2 * row + 1];
        if (!(total > 0) || isinf(total))
            return fail(STATUS_NUMERIC, "line %" PRId64 ": the network's logits are no numbers",
                        line->number + 1);
        const double one = ((double)s->logit[row] - greatest) / s->temperature - log(total);
        sum += one;
        if (s->options->tokens) TRY(append_number(line, &capacity, one));
    }
    return s->options->tokens ? OK : append_number(line, &capacity, sum);
}

/* Pairs in the order of their length: of each run the shortest program that holds the first. */
static Status run_sorted(Scoring *s, const Pair pairs[], int64_t count)
{
    for (int64_t first = 0, together; first < count; first += together) {
        ScoreProgram *program = &s->program[0];
        for (int i = 1; i < s->programs && s->program[i].length >= longer_side(&pairs[first]); ++i)
            program = &s->program[i];
        together = count - first < program->pairs ? count - first : program->pairs;
        TRY(run_pairs(s, program, pairs + first, together));
        for (int64_t i = 0; i < together; ++i)
            TRY(write_pair(s, program, &pairs[first + i], i));
    }
    return OK;
}

static Status score_share(void *of, SharedLines *lines, const int rank[])
{
    Scoring *s = of;
    Pair *pair;
    int64_t count = 0;
    Status status = memory_new(&pair, lines->count + 1, sizeof *pair, "lines");
    for (size_t i = 0; i < lines->count && status == OK; ++i) {
        SharedLine *line = &lines->line[i];
        if (rank[i] != s->world->rank) continue;
        Pair *one = &pair[count++];
        one->line = line;
        status =
            encode(s, line->first, line->first_size, false, line->number, &one->source, &one->source_length);
        if (status == OK)
            status = encode(s, line->second, line->second_size, true, line->number, &one->target,
                            &one->target_length);
    }
    if (status == OK) {
        qsort(pair, (size_t)count, sizeof *pair, longest_first);
        status = run_sorted(s, pair, count);
    }
    for (int64_t i = 0; i < count; ++i) {
        free(pair[i].source);
        free(pair[i].target);
    }
    free(pair);
    return status;
}

static Status write_round(void *of, const SharedLines *lines)
{
    const Scoring *s = of;
    for (size_t i = 0; i < lines->count; ++i) {
        if (lines->line[i].result == NULL)
            return fail(STATUS_INTERNAL, "no rank has scored line %" PRId64, lines->line[i].number + 1);
        TRY(line_writer_write(s->writer, lines->line[i].result, lines->line[i].result_size));
    }
    return line_writer_flush(s->writer);
}

static bool is_over(const void *of)
{
    const Scoring *s = of;
    return line_writer_closed(s->writer) || missing_side(s) < 0;
}

Status score(World *world, const ScoreOptions *options)
{
    Scoring s = {.options = options, .world = world, .file = {-1, -1}};
    const SharedWork work = {&s, read_round, score_share, write_round, is_over};
    Status status;
    (void)signal(SIGPIPE, SIG_IGN);
    TRY_ELSE(done, open_all(&s));
    for (bool ended = false; !ended;)
        TRY_ELSE(done, shared_lines_round(world, s.collective, &work, &ended));
done:
    close_all(&s);
    return status;
}
