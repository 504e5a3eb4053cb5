/* Batches by tokens: their shapes, the order of an epoch, and what ranks and parts are given. */
#include "tests/golden.h"
#include "tests/scratch.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "nlp/translation_source.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- shapes and epochs ---- */

/* Positions that hold no token, as a share of all, over an epoch's batches as they are given out: in shapes of whole
 * batches. */
static double padding_of(const TokenShapes *shapes, const TokenEpoch *epoch, const PairLength length[],
                         int64_t count)
{
    int64_t real = 0, all = 0;
    for (int64_t i = 0; i < count; ++i)
        real += length[i].source + length[i].target;
    for (int64_t b = 0; b < epoch->batches; ++b) {
        const TokenShape *shape = &shapes->shape[epoch->shape[b]];
        all += (shape->source + shape->target) * shape->pairs;
    }
    return 1 - (double)real / (double)all;
}

static int *shapes_of(const TokenShapes *shapes, const PairLength length[], int64_t count, int64_t pairs[])
{
    int *index = malloc((size_t)count * sizeof *index);
    assert_non_null(index);
    memset(pairs, 0, (size_t)shapes->count * sizeof *pairs);
    for (int64_t i = 0; i < count; ++i) {
        index[i] = token_shape_for(shapes, length[i]);
        assert_in_range(index[i], 0, shapes->count - 1);
        ++pairs[index[i]];
    }
    return index;
}

/* Every pair once, in a batch that takes it. */
static void check_epoch(const TokenShapes *shapes, const TokenEpoch *epoch, const PairLength length[],
                        int64_t count)
{
    char *seen = calloc((size_t)count, 1);
    assert_non_null(seen);
    assert_int_equal(epoch->first[0], 0);
    assert_int_equal(epoch->first[epoch->batches], count);
    for (int64_t b = 0; b < epoch->batches; ++b) {
        const TokenShape *shape = &shapes->shape[epoch->shape[b]];
        const int64_t pairs = epoch->first[b + 1] - epoch->first[b];
        assert_true(pairs >= 1 && pairs <= shape->pairs);
        assert_true(pairs == shape->pairs || epoch->shape[b] == 0); /* the last alone is ragged */
        for (int64_t i = epoch->first[b]; i < epoch->first[b + 1]; ++i) {
            const int64_t pair = epoch->order[i];
            assert_true(length[pair].source <= shape->source && length[pair].target <= shape->target);
            assert_int_equal(seen[pair]++, 0);
        }
    }
    free(seen);
}

static void check_shapes(const TokenShapes *shapes, int64_t tokens)
{
    for (int i = 0; i < shapes->count; ++i) {
        const TokenShape *shape = &shapes->shape[i];
        assert_true(shape->pairs >= 1 && shape->pairs * shape->source <= tokens &&
                    shape->pairs * shape->target <= tokens);
        assert_true(shape->parent < i && (shape->parent >= 0) == (i > 0));
        if (i == 0) continue;
        const TokenShape *parent = &shapes->shape[shape->parent];
        assert_true(parent->source >= shape->source && parent->target >= shape->target);
    }
}

/* Lengths like those of sentences: log-normal, the two sides of a pair alike. */
static PairLength *made_lengths(int64_t count, double mean, int32_t longest)
{
    PairLength *length = malloc((size_t)count * sizeof *length);
    assert_non_null(length);
    RandomStream random = random_stream(3, RANDOM_TEST, 1);
    for (int64_t i = 0; i < count;) {
        const double source = mean * exp(0.6 * random_normal(&random) - 0.18);
        const double target = source * exp(0.2 * random_normal(&random));
        const PairLength one = {.source = 1 + (int32_t)source, .target = 1 + (int32_t)target};
        if (one.source <= longest && one.target <= longest) length[i++] = one;
    }
    return length;
}

static void sentences_of_news_need_little_padding(void **state)
{
    (void)state;
    enum { COUNT = 2000000 };
    PairLength *length = made_lengths(COUNT, 28, 150);
    TokenShapes shapes;
    TokenEpoch epoch;
    int64_t pairs[BATCH_MAX_SHAPES];
    const TokenShapeOptions options = {.tokens = 25000, .most = BATCH_MAX_SHAPES, .padding = 0.04};
    assert_ok(token_shapes_choose(length, COUNT, &options, &shapes));
    check_shapes(&shapes, options.tokens);
    int *index = shapes_of(&shapes, length, COUNT, pairs);
    assert_ok(token_epoch_make(&shapes, index, COUNT, 1, 0, &epoch));
    check_epoch(&shapes, &epoch, length, COUNT);
    const double padding = padding_of(&shapes, &epoch, length, COUNT);
    print_message("news-like lengths: %d shapes, %.2f %% padding\n", shapes.count, 100 * padding);
    assert_true(padding < 0.05);
    token_epoch_free(&epoch);
    free(index);
    free(length);
}

static void long_pairs_are_set_apart(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    PairLength *length = made_lengths(COUNT, 12, 60);
    length[7] = (PairLength){.source = 2001, .target = 1800};
    length[8] = (PairLength){.source = 100, .target = 20};
    TokenShapes with, without;
    const TokenShapeOptions options = {.tokens = 400, .most = 16, .padding = 0.08, .longest = 64};
    assert_ok(token_shapes_choose(length, COUNT, &options, &with));
    assert_int_equal(token_shape_for(&with, length[7]), 0);
    assert_true(with.shape[0].source == 2001 && with.shape[0].pairs == 1);
    assert_int_equal(token_shape_for(&with, length[8]), 1);
    assert_true(with.shape[1].source == 100 && with.shape[1].pairs == 4);
    length[7] = length[8] = length[0];
    assert_ok(token_shapes_choose(length, COUNT, &options, &without));
    assert_int_equal(with.count, without.count + 2); /* the others are as they are without those */
    for (int i = 0; i < without.count; ++i) {
        const TokenShape *shape = &with.shape[i + 2], *other = &without.shape[i];
        assert_true(shape->source == other->source && shape->target == other->target &&
                    shape->pairs == other->pairs);
        assert_int_equal(shape->parent, other->parent < 0 ? -1 : other->parent + 2);
    }
    /* All are long, of ever other lengths: some shapes take them. */
    for (int i = 0; i < COUNT; ++i)
        length[i] = (PairLength){.source = 65 << (i / 3), .target = 3};
    assert_ok(token_shapes_choose(length, 45, &options, &with));
    for (int i = 0; i < 45; ++i)
        assert_true(token_shape_for(&with, length[i]) >= 0);
    assert_true(with.count == 8 && with.shape[0].source == 65 << 14);
    free(length);
}

static void an_epoch_is_a_function_of_seed_and_number(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    PairLength *length = made_lengths(COUNT, 15, 60);
    TokenShapes shapes;
    int64_t pairs[BATCH_MAX_SHAPES];
    const TokenShapeOptions options = {.tokens = 500, .most = 20, .padding = 0.01};
    assert_ok(token_shapes_choose(length, COUNT, &options, &shapes));
    assert_true(shapes.count > 10 && shapes.count <= 20);
    check_shapes(&shapes, options.tokens);
    int *index = shapes_of(&shapes, length, COUNT, pairs);
    const int64_t batches = token_epoch_batches(&shapes, pairs);
    TokenEpoch epoch[4];
    static const struct {
        uint64_t seed;
        int64_t number;
    } which[4] = {{1, 0}, {1, 0}, {1, 1}, {2, 0}};
    for (int e = 0; e < 4; ++e) {
        assert_ok(token_epoch_make(&shapes, index, COUNT, which[e].seed, which[e].number, &epoch[e]));
        assert_int_equal(epoch[e].batches, batches);
        check_epoch(&shapes, &epoch[e], length, COUNT);
    }
    assert_memory_equal(epoch[0].order, epoch[1].order, COUNT * sizeof *epoch->order);
    assert_memory_equal(epoch[0].first, epoch[1].first, (size_t)(batches + 1) * sizeof *epoch->first);
    for (int e = 2; e < 4; ++e) {
        assert_memory_not_equal(epoch[0].order, epoch[e].order, COUNT * sizeof *epoch->order);
        assert_memory_not_equal(epoch[0].shape, epoch[e].shape, (size_t)batches * sizeof *epoch->shape);
    }
    /* Lengths come in no order: about half of all batches are shorter than the one before. */
    int64_t falls = 0;
    for (int64_t b = 1; b < batches; ++b)
        falls += epoch[0].shape[b] > epoch[0].shape[b - 1];
    assert_in_range(falls, batches / 3, 2 * batches / 3);
    for (int e = 0; e < 4; ++e)
        token_epoch_free(&epoch[e]);
    free(index);
    free(length);
}

static void odd_sets_of_lengths_have_batches(void **state)
{
    (void)state;
    static const struct {
        int64_t count, tokens;
        PairLength length[6];
    } cases[] = {
        {1, 10, {{3, 4}}},
        {6, 10, {{3, 4}, {3, 4}, {3, 4}, {3, 4}, {3, 4}, {3, 4}}},
        {6, 12, {{1, 10}, {10, 1}, {1, 1}, {10, 10}, {2, 2}, {12, 12}}},
        {4, 100, {{1, 1}, {1, 2}, {2, 1}, {100, 1}}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; ++c) {
        const TokenShapeOptions options = {.tokens = cases[c].tokens, .most = 8, .padding = 0};
        TokenShapes shapes;
        TokenEpoch epoch;
        int64_t pairs[BATCH_MAX_SHAPES];
        assert_ok(token_shapes_choose(cases[c].length, cases[c].count, &options, &shapes));
        check_shapes(&shapes, options.tokens);
        int *index = shapes_of(&shapes, cases[c].length, cases[c].count, pairs);
        assert_ok(token_epoch_make(&shapes, index, cases[c].count, 1, 0, &epoch));
        check_epoch(&shapes, &epoch, cases[c].length, cases[c].count);
        assert_int_equal(epoch.batches, token_epoch_batches(&shapes, pairs));
        token_epoch_free(&epoch);
        free(index);
        const TokenShapeOptions small = {.tokens = 2, .most = 8};
        assert_fails(token_shapes_choose(cases[c].length, cases[c].count, &small, &shapes), STATUS_INPUT,
                     "is longer than a batch of 2");
        assert_fails(token_shapes_choose(cases[c].length, 0, &options, &shapes), STATUS_INPUT, "no sentence");
    }
}

/* ---- what the network is given ---- */

typedef struct {
    Subwords *subwords;
    ParallelCorpus text;
    EncodedCorpus corpus;
    int64_t *pair, count;
    PairLength *length;
} Made;

/* Sentences of lengths that differ, every word of which says where it stands: "w37" is word 37 of all. */
static void make(Made *made, int64_t count)
{
    static const char list[] = "<pad>\n<s>\n</s>\n<unk>\n";
    enum { WORDS = 300 };
    char *words = malloc(sizeof list + (size_t)WORDS * 8), *text[SIDES];
    size_t size[SIDES] = {0, 0}, used = sizeof list - 1;
    assert_non_null(words);
    memcpy(words, list, used);
    for (int i = 0; i < WORDS; ++i)
        used += (size_t)sprintf(words + used, "w%d\n", i);
    assert_ok(subwords_parse("words", SUBWORDS_WORDS, words, used, &made->subwords));
    free(words);
    RandomStream random = random_stream(9, RANDOM_TEST, 2);
    for (int side = 0; side < SIDES; ++side) {
        text[side] = malloc((size_t)count * 200);
        assert_non_null(text[side]);
        for (int64_t i = 0; i < count; ++i) {
            const int length = 1 + (int)random_below(&random, 20);
            for (int w = 0; w < length; ++w)
                size[side] +=
                    (size_t)sprintf(text[side] + size[side], "w%d ", (int)random_below(&random, WORDS));
            text[side][size[side] - 1] = '\n';
        }
    }
    assert_ok(parallel_corpus_of_texts((const char *const[]){"a", "b"}, text, size, &made->text));
    const EncodeOptions options = {.folder = in_scratch("cache"),
                                   .name = "made",
                                   .subwords = made->subwords,
                                   .corpus = &made->text,
                                   .threads = 1};
    assert_ok(encode_cache_open(&options, &made->corpus));
    made->count = count - 1; /* pair 0 is left out of the split */
    made->pair = malloc((size_t)count * sizeof *made->pair);
    made->length = malloc((size_t)count * sizeof *made->length);
    assert_non_null(made->pair);
    assert_non_null(made->length);
    for (int64_t i = 0; i < made->count; ++i) {
        made->pair[i] = i + 1;
        made->length[i] =
            (PairLength){.source = 1 + (int32_t)encoded_length(&made->corpus, SOURCE_SIDE, i + 1),
                         .target = 1 + (int32_t)encoded_length(&made->corpus, TARGET_SIDE, i + 1)};
    }
}

static void unmake(Made *made)
{
    free(made->pair);
    free(made->length);
    encode_cache_close(&made->corpus);
    parallel_corpus_close(&made->text);
    subwords_free(made->subwords);
}

static void open_batch(const Source *source, Batch *batch)
{
    *batch = (Batch){.part = calloc((size_t)source->parts, sizeof *batch->part)};
    assert_non_null(batch->part);
    for (int p = 0; p < source->parts; ++p)
        for (int f = 0; f < source->shape[0].field_count; ++f) {
            batch->part[p].field[f] = malloc(source_field_bytes(source, f) + 1);
            assert_non_null(batch->part[p].field[f]);
            memset(batch->part[p].field[f], 0x5A, source_field_bytes(source, f));
        }
}

static void close_batch(const Source *source, Batch *batch)
{
    for (int p = 0; p < source->parts; ++p)
        for (int f = 0; f < source->shape[0].field_count; ++f)
            free(batch->part[p].field[f]);
    free(batch->part);
}

static void *field_of(const Source *source, const BatchPart *part, const char *name)
{
    const int f = batch_shape_find(&source->shape[part->shape], name);
    assert_true(f >= 0);
    return part->field[f];
}

/* One row is what the definition says of its pair. */
static void check_row(const Made *made, const Source *source, const BatchPart *part, int64_t row)
{
    const BatchShape *shape = &source->shape[part->shape];
    const int64_t ls = shape->field[batch_shape_find(shape, "source")].shape.extent[1];
    const int64_t lt = shape->field[batch_shape_find(shape, "target_input")].shape.extent[1];
    const int32_t *in = (int32_t *)field_of(source, part, "source") + row * ls;
    const int32_t *given = (int32_t *)field_of(source, part, "target_input") + row * lt;
    const int32_t *wanted = (int32_t *)field_of(source, part, "target") + row * lt;
    const float *weight = (float *)field_of(source, part, "weight") + row * lt;
    const int32_t sources = ((int32_t *)field_of(source, part, "source_length"))[row];
    const int32_t targets = ((int32_t *)field_of(source, part, "target_length"))[row];
    const int64_t sample = ((int64_t *)field_of(source, part, "sample"))[row];
    assert_int_equal(shape->rows, shape->field[0].shape.extent[0] * lt);
    int32_t id[SIDES][64] = {{0}};
    if (sources > 0)
        for (int side = 0; side < SIDES; ++side)
            encoded_ids(&made->corpus, side, made->pair[sample], id[side]);
    if (sources > 0) {
        assert_int_equal(sources, made->length[sample].source);
        assert_int_equal(targets, made->length[sample].target);
    } else {
        assert_int_equal(targets, 0);
    }
    for (int64_t i = 0; i < ls; ++i)
        assert_int_equal(in[i], i < sources - 1 ? id[SOURCE_SIDE][i] : i == sources - 1 ? SUBWORD_END : 0);
    for (int64_t i = 0; i < lt; ++i) {
        const bool real = i < targets;
        assert_int_equal(given[i], !real ? 0 : i == 0 ? SUBWORD_START : id[TARGET_SIDE][i - 1]);
        assert_int_equal(wanted[i], !real ? 0 : i == targets - 1 ? SUBWORD_END : id[TARGET_SIDE][i]);
        assert_true(weight[i] == (real ? 1.0F : 0.0F));
    }
}

/* The pairs of a batch in the order of ranks, parts and rows; their number. */
static int64_t take_pairs(const Made *made, const Source *source, const Batch *batch, int64_t first,
                          int64_t taken[])
{
    int64_t count = 0;
    for (int p = 0; p < batch->parts; ++p) {
        const BatchPart *part = &batch->part[p];
        const int64_t rows = source->shape[part->shape].field[0].shape.extent[0];
        const int32_t *length = field_of(source, part, "source_length");
        const int64_t *sample = field_of(source, part, "sample");
        for (int64_t row = 0; row < rows; ++row) {
            check_row(made, source, part, row);
            if (length[row] == 0) continue;
            assert_int_equal(part->first + row, first + count); /* the place by which masks are drawn */
            taken[count++] = sample[row];
        }
    }
    return count;
}

/* The pairs of every batch of an epoch, batch after batch, and the batches' totals; over all ranks. */
static int64_t run_epoch(const Made *made, const TokenShapes *shapes, int ranks, int64_t part_tokens,
                         int64_t epoch, int64_t taken[], double totals[])
{
    Source *source[4] = {NULL};
    Batch batch[4];
    int64_t count = 0;
    for (int r = 0; r < ranks; ++r) {
        const TranslationSourceOptions options = {
            .share = {.rank = r, .ranks = ranks, .seed = 5, .training = true, .part_tokens = part_tokens},
            .shapes = shapes,
            .corpus = &made->corpus,
            .pair = made->pair,
            .count = made->count};
        assert_ok(translation_source_open(&options, &source[r]));
        assert_ok(source[r]->start(source[r], epoch));
        open_batch(source[r], &batch[r]);
    }
    const int64_t batches = source[0]->batches(source[0], epoch);
    for (int64_t b = 0; b < batches; ++b) {
        const int64_t first = count;
        int64_t tokens = 0;
        for (int r = 0; r < ranks; ++r) {
            assert_int_equal(source[r]->batches(source[r], epoch), batches);
            assert_ok(source[r]->fill(source[r], b, &batch[r]));
            assert_int_equal(batch[r].parts, batch[0].parts); /* every rank sums as often */
            count += take_pairs(made, source[r], &batch[r], count, taken + count);
            assert_true(batch[r].total == batch[0].total);
        }
        for (int64_t i = first; i < count; ++i)
            tokens += made->length[taken[i]].target;
        assert_true(batch[0].total == (double)tokens && batch[0].samples == tokens);
        totals[b] = batch[0].total;
    }
    for (int r = 0; r < ranks; ++r) {
        close_batch(source[r], &batch[r]);
        source_free(source[r]);
    }
    return count;
}

static void ranks_and_parts_share_the_same_batches(void **state)
{
    (void)state;
    enum { COUNT = 1200, TOKENS = 300 };
    Made made;
    TokenShapes shapes;
    make(&made, COUNT);
    const TokenShapeOptions options = {.tokens = TOKENS, .most = 6, .padding = 0.01};
    assert_ok(token_shapes_choose(made.length, made.count, &options, &shapes));
    assert_true(shapes.count >= 4);
    static int64_t alone[COUNT], shared[COUNT];
    static double totals[COUNT], shared_totals[COUNT];
    static const struct {
        int ranks;
        int64_t part_tokens;
    } cases[] = {{2, 10000}, {3, 10000}, {4, 10000}, {1, 100}, {2, 60}, {3, 1}};
    assert_int_equal(run_epoch(&made, &shapes, 1, 10000, 2, alone, totals), made.count);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; ++c) {
        memset(shared_totals, 0, sizeof shared_totals);
        assert_int_equal(
            run_epoch(&made, &shapes, cases[c].ranks, cases[c].part_tokens, 2, shared, shared_totals),
            made.count);
        assert_memory_equal(shared, alone, (size_t)made.count * sizeof *alone);
        assert_memory_equal(shared_totals, totals, sizeof totals);
    }
    unmake(&made);
}

/* A batch in the middle of an epoch is the same for a source that has given out others, and for a new one. */
static void an_epoch_goes_on_in_the_middle(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    Made made;
    TokenShapes shapes;
    make(&made, COUNT);
    const TokenShapeOptions options = {.tokens = 200, .most = 4, .padding = 0.01};
    assert_ok(token_shapes_choose(made.length, made.count, &options, &shapes));
    const TranslationSourceOptions source_options = {
        .share = {.ranks = 1, .seed = 5, .training = true, .part_tokens = 100},
        .shapes = &shapes,
        .corpus = &made.corpus,
        .pair = made.pair,
        .count = made.count};
    Source *through, *resumed;
    Batch one, other;
    assert_ok(translation_source_open(&source_options, &through));
    assert_ok(translation_source_open(&source_options, &resumed));
    open_batch(through, &one);
    open_batch(resumed, &other);
    assert_ok(through->start(through, 0));
    assert_ok(through->fill(through, 0, &one));
    assert_ok(through->start(through, 3));
    for (int64_t b = 0; b <= 5; ++b)
        assert_ok(through->fill(through, b, &one));
    assert_ok(resumed->start(resumed, 3));
    assert_ok(resumed->fill(resumed, 5, &other));
    assert_int_equal(one.parts, other.parts);
    assert_true(one.total == other.total);
    for (int p = 0; p < one.parts; ++p) {
        assert_int_equal(one.part[p].shape, other.part[p].shape);
        assert_int_equal(one.part[p].first, other.part[p].first);
        const BatchShape *shape = &through->shape[one.part[p].shape];
        for (int f = 0; f < shape->field_count; ++f)
            assert_memory_equal(one.part[p].field[f], other.part[p].field[f],
                                shape_bytes(shape->field[f].shape));
    }
    close_batch(through, &one);
    close_batch(resumed, &other);
    source_free(through);
    source_free(resumed);
    unmake(&made);
}

static void evaluation_meets_every_pair_once(void **state)
{
    (void)state;
    enum { COUNT = 101 };
    Made made;
    TokenShapes shapes;
    make(&made, COUNT);
    const TokenShapeOptions options = {.tokens = 120, .most = 5, .padding = 0.01};
    assert_ok(token_shapes_choose(made.length, made.count, &options, &shapes));
    for (int ranks = 1; ranks <= 3; ++ranks) {
        char seen[COUNT] = {0};
        for (int r = 0; r < ranks; ++r) {
            const TranslationSourceOptions source_options = {
                .share = {.rank = r, .ranks = ranks, .part_tokens = 80},
                .shapes = &shapes,
                .corpus = &made.corpus,
                .pair = made.pair,
                .count = made.count};
            Source *source;
            Batch batch;
            int64_t taken[COUNT], first = 0;
            assert_ok(translation_source_open(&source_options, &source));
            assert_int_equal(source->parts, 1);
            open_batch(source, &batch);
            assert_ok(source->start(source, 0));
            for (int64_t b = 0; b < source->batches(source, 0); ++b) {
                assert_ok(source->fill(source, b, &batch));
                const int64_t count = take_pairs(&made, source, &batch, first, taken);
                assert_true(count > 0);
                for (int64_t i = 0; i < count; ++i)
                    assert_int_equal(seen[taken[i]]++, 0);
                first += count;
            }
            close_batch(source, &batch);
            source_free(source);
        }
        for (int64_t i = 0; i < made.count; ++i)
            assert_int_equal(seen[i], 1);
    }
    unmake(&made);
}

/* ---- Multi30k ---- */

static void multi30k_needs_little_padding(void **state)
{
    (void)state;
    char source[4096], target[4096];
    (void)snprintf(source, sizeof source, "%s", test_data_or_skip("multi30k/train.en.gz"));
    (void)snprintf(target, sizeof target, "%s", test_data_or_skip("multi30k/train.de.gz"));
    const GoldenCase *golden = golden_need("text", "sentencepiece/multi30k_joint_8000");
    Subwords *subwords;
    ParallelCorpus text;
    EncodedCorpus corpus;
    assert_ok(subwords_read(golden_path(golden, "inputs/model"), SUBWORDS_PIECES, &subwords));
    assert_ok(parallel_corpus_open(source, target, &text));
    const EncodeOptions encode = {
        .folder = in_scratch("cache"), .name = "m", .subwords = subwords, .corpus = &text, .threads = 2};
    assert_ok(encode_cache_open(&encode, &corpus));
    PairLength *length = malloc((size_t)corpus.pairs * sizeof *length);
    assert_non_null(length);
    for (int64_t i = 0; i < corpus.pairs; ++i)
        length[i] = (PairLength){.source = 1 + (int32_t)encoded_length(&corpus, SOURCE_SIDE, i),
                                 .target = 1 + (int32_t)encoded_length(&corpus, TARGET_SIDE, i)};
    TokenShapes shapes;
    TokenEpoch epoch;
    int64_t pairs[BATCH_MAX_SHAPES];
    const TokenShapeOptions options = {.tokens = 2000, .most = BATCH_MAX_SHAPES, .padding = 0.03};
    assert_ok(token_shapes_choose(length, corpus.pairs, &options, &shapes));
    check_shapes(&shapes, options.tokens);
    int *index = shapes_of(&shapes, length, corpus.pairs, pairs);
    assert_ok(token_epoch_make(&shapes, index, corpus.pairs, 1, 0, &epoch));
    check_epoch(&shapes, &epoch, length, corpus.pairs);
    const double padding = padding_of(&shapes, &epoch, length, corpus.pairs);
    print_message("Multi30k: %d shapes, %lld batches, %.2f %% padding\n", shapes.count,
                  (long long)epoch.batches, 100 * padding);
    assert_true(padding < 0.05);
    token_epoch_free(&epoch);
    free(index);
    free(length);
    encode_cache_close(&corpus);
    parallel_corpus_close(&text);
    subwords_free(subwords);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentences_of_news_need_little_padding),
        cmocka_unit_test(long_pairs_are_set_apart),
        cmocka_unit_test(an_epoch_is_a_function_of_seed_and_number),
        cmocka_unit_test(odd_sets_of_lengths_have_batches),
        SCRATCH(ranks_and_parts_share_the_same_batches),
        SCRATCH(an_epoch_goes_on_in_the_middle),
        SCRATCH(evaluation_meets_every_pair_once),
        SCRATCH(multi30k_needs_little_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
