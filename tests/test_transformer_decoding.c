/* Decoding step by step against the decoder over whole sentences. */
#include "tests/golden.h"
#include "tests/machine.h"

#include "engine/base/random.h"
#include "models/transformer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SENTENCES = 3,
    SOURCE = 6,
    TARGET = 5,
    BEAM = 2,
    HYPOTHESES = SENTENCES * BEAM,
    ROOM = 7,
    SLOTS = 9,
    WIDTH = 24,
    IDS = 11
};

/* The slot of a hypothesis changes from position to position, as after reordering. */
static int slot_of(int hypothesis, int position) { return (hypothesis * 2 + position * 5) % SLOTS; }

typedef struct {
    Value source, length, target, logits, memory[2];
} Whole;
typedef struct {
    Value token, position, table, sentence, length, memory[2], cache[2], logits;
} Step;

static Graph *build_whole(const Transformer *t, Whole *w)
{
    Graph *graph;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    w->source = graph_input(graph, "source", shape_of(INT32, 2, (int64_t[]){SENTENCES, SOURCE}));
    w->length = graph_input(graph, "source_length", shape_of(INT32, 1, (int64_t[]){SENTENCES}));
    w->target = graph_input(graph, "target_input", shape_of(INT32, 2, (int64_t[]){SENTENCES, TARGET}));
    const Value memory = transformer_encoder(graph, t, w->source, w->length);
    w->logits = transformer_logits(graph, t, transformer_decoder(graph, t, memory, w->length, w->target));
    graph_keep(graph, w->logits);
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        w->memory[layer] = transformer_memory(graph, t, layer, memory, w->length);
        graph_keep(graph, w->memory[layer]);
    }
    return graph;
}

/* Row i of the memories is sentence SENTENCES - i of a larger array, in which one row is of no use. */
enum { MEMORIES = SENTENCES + 1 };

static Graph *build_step(const Transformer *t, Step *s)
{
    Graph *graph;
    assert_ok(graph_create(GRAPH_EVALUATE, FLOAT32, &graph));
    s->token = graph_input(graph, "token", shape_of(INT32, 1, (int64_t[]){HYPOTHESES}));
    s->position = graph_input(graph, "position", shape_of(INT32, 1, (int64_t[]){HYPOTHESES}));
    s->table = graph_input(graph, "table", shape_of(INT32, 2, (int64_t[]){HYPOTHESES, ROOM}));
    s->sentence = graph_input(graph, "sentence", shape_of(INT32, 1, (int64_t[]){SENTENCES}));
    s->length = graph_input(graph, "source_length", shape_of(INT32, 1, (int64_t[]){MEMORIES}));
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        char name[32];
        (void)snprintf(name, sizeof name, "memory%lld", (long long)layer);
        s->memory[layer] =
            graph_input(graph, name, shape_of(FLOAT32, 3, (int64_t[]){MEMORIES, SOURCE, 2 * t->width}));
        (void)snprintf(name, sizeof name, "cache%lld", (long long)layer);
        s->cache[layer] =
            graph_transient_state(graph, name, shape_of(FLOAT32, 3, (int64_t[]){SLOTS, ROOM, 2 * t->width}),
                                  (Init){.kind = INIT_ZEROS});
    }
    const TransformerStep step = {.token = s->token,
                                  .position = s->position,
                                  .table = s->table,
                                  .sentence = s->sentence,
                                  .source_length = s->length,
                                  .memory = s->memory,
                                  .cache = s->cache};
    s->logits = transformer_logits(graph, t, transformer_step(graph, t, &step));
    graph_keep(graph, s->logits);
    return graph;
}

static void check_decoding(const Transformer *t)
{
    static const double source[SENTENCES * SOURCE] = {5, 9, 3, 7, 4, 2, 8, 2, 0, 0, 0, 0, 6, 3, 10, 2, 0, 0};
    static const double length[SENTENCES] = {6, 2, 4};
    static const double target[SENTENCES * TARGET] = {1, 4, 9, 9, 3, 1, 6, 5, 10, 7, 1, 8, 3, 4, 4};
    Machine m = {.count = 2};
    Whole whole;
    Step step;
    m.graph[0] = build_whole(t, &whole);
    m.graph[1] = build_step(t, &step);
    machine_open(&m, 1);
    machine_put_input(&m, 0, whole.source, source);
    machine_put_input(&m, 0, whole.length, length);
    machine_put_input(&m, 0, whole.target, target);
    machine_run(&m, 0);
    double *want = machine_get_result(&m, 0, whole.logits), *memory[2];
    const int64_t row = SOURCE * 2 * t->width;
    for (int64_t layer = 0; layer < t->layers; ++layer) {
        double *made = machine_get_result(&m, 0, whole.memory[layer]);
        memory[layer] = new_items(MEMORIES * row, sizeof *memory[layer]);
        for (int i = 0; i < SENTENCES; ++i)
            memcpy(memory[layer] + (SENTENCES - i) * row, made + i * row, (size_t)row * sizeof *made);
        for (int64_t e = 0; e < row; ++e)
            memory[layer][e] = (double)NAN;
        free(made);
    }
    for (int place = 0; place < TARGET; ++place) {
        double token[HYPOTHESES], position[HYPOTHESES], table[HYPOTHESES * ROOM], sentence[SENTENCES],
            lengths[MEMORIES] = {SOURCE};
        for (int r = 0; r < HYPOTHESES; ++r) {
            token[r] = target[r / BEAM * TARGET + place];
            position[r] = place;
            for (int p = 0; p < ROOM; ++p)
                table[r * ROOM + p] = p <= place ? slot_of(r, p) : -7;
        }
        for (int i = 0; i < SENTENCES; ++i) {
            sentence[i] = SENTENCES - i;
            lengths[SENTENCES - i] = length[i];
        }
        machine_put_input(&m, 1, step.token, token);
        machine_put_input(&m, 1, step.position, position);
        machine_put_input(&m, 1, step.table, table);
        machine_put_input(&m, 1, step.sentence, sentence);
        machine_put_input(&m, 1, step.length, lengths);
        for (int64_t layer = 0; layer < t->layers; ++layer)
            machine_put_input(&m, 1, step.memory[layer], memory[layer]);
        machine_run(&m, 1);
        double *got = machine_get_result(&m, 1, step.logits);
        for (int r = 0; r < HYPOTHESES; ++r)
            for (int k = 0; k < IDS; ++k)
                assert_true(golden_is_close(got[r * IDS + k], want[(r / BEAM * TARGET + place) * IDS + k],
                                            (GoldenTolerance){.relative = 1e-4, .absolute = 1e-5}));
        free(got);
    }
    free(want);
    for (int64_t layer = 0; layer < t->layers; ++layer)
        free(memory[layer]);
    machine_close(&m);
}

static void test_decoding(void **state)
{
    (void)state;
    for (int form = 0; form < 3; ++form) {
        const Transformer t = {.vocabulary = IDS,
                               .width = WIDTH,
                               .feed_forward_width = 32,
                               .heads = 3,
                               .layers = 2,
                               .pre_norm = form == 1,
                               .attention_bias = form != 2,
                               .positions = {.kind = form == 2 ? POSITIONS_LEARNED : POSITIONS_INTERLEAVED,
                                             .most = form == 2 ? 9 : 0}};
        check_decoding(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
