#include "launch/data_command.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/options.h"
#include "launch/settings.h"
#include "launch/tasks/translation_data.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char data_help[] = "usage: [mpirun -n RANKS] plumb data encode CONFIG [KEY=VALUE ...]\n"
                         "\n"
                         "Of a config for translation: makes the subwords and the encoded corpora, which the "
                         "first training would make, too,\n"
                         "and prints what is in them. They lie in dataset.cache, where the next run finds "
                         "them. Ranks, threads and other jobs\n"
                         "share the work; one that was stopped is gone on with.\n";

static const char *const sides[SIDES] = {"source", "target"};

static void print_side(const TranslationSplit *split, int side)
{
    const EncodedCorpus *corpus = &split->corpus;
    (void)printf("  %s: %" PRId64 " subwords, %.2f a line; %" PRId64
                 " unknown; normalisation changes %" PRId64 " lines\n",
                 sides[side], corpus->tokens[side], (double)corpus->tokens[side] / (double)corpus->pairs,
                 corpus->unknown[side], corpus->changed[side]);
}

static void print_split(const TranslationSplit *split, Split which)
{
    (void)printf("%s: %" PRId64 " pairs of lines, of which the split has %" PRId64 "\n", split_name(which),
                 split->corpus.pairs, split->count);
    for (int side = 0; side < SIDES; ++side)
        print_side(split, side);
    (void)printf("  longest line: %" PRId64 " subwords with its end", split->longest);
    if (which == SPLIT_TRAIN)
        (void)printf("; left out: %" PRId64 " pairs as too long, %" PRId64 " without text on a side",
                     split->too_long, split->empty);
    (void)printf("\n");
}

static void print_all(const TranslationData *data)
{
    (void)printf("%s: %" PRId64 " subwords, hash %016" PRIx64 "\n", data->dataset->name,
                 subwords_size(data->subwords), subwords_hash(data->subwords));
    int64_t encoded = 0;
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        if (data->split[split].count > 0) print_split(&data->split[split], (Split)split);
        encoded += data->split[split].corpus.encoded;
    }
    (void)printf("%s: %" PRId64 " files were written by this rank\n", data->cache, encoded);
}

static Status encode(World *world, const Config *config)
{
    TranslationData data;
    const TaskShare share = {.rank = world->rank, .ranks = world->size, .training = true};
    Status status = translation_data_read(config, share, &data);
    if (status == OK) status = translation_data_load(&data, config);
    status = comm_agree(world, status);
    if (status == OK && world->rank == 0) print_all(&data);
    translation_data_free(&data);
    return status;
}

static Status parse(int argc, char **argv, const char *words[], int *count, const char **file)
{
    TRY(options_parse(NULL, 0, argc, argv, words, count));
    if (*count == 0 || strcmp(words[0], "encode") != 0)
        return fail(STATUS_USAGE, "plumb data does one thing: plumb data encode CONFIG");
    memmove(words, words + 1, (size_t)(*count - 1) * sizeof *words);
    --*count;
    return options_file_and_settings("data encode", "CONFIG", words, count, file);
}

Status command_data(World *world, int argc, char **argv)
{
    const char **words, *file = NULL;
    int count = 0, settings;
    const Setting *table = settings_table(&settings);
    Config *config = NULL;
    TRY(memory_new(&words, (size_t)argc, sizeof *words, "arguments"));
    Status status = comm_agree(world, parse(argc, argv, words, &count, &file));
    if (status == OK) status = comm_agree(world, config_load(table, settings, file, count, words, &config));
    if (status == OK)
        status = comm_agree(world, config_require(config, (const char *const[]){"dataset.name", NULL}));
    if (status == OK) status = encode(world, config);
    config_free(config);
    free(words);
    return status;
}
