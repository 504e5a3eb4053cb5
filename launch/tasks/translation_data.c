#include "launch/tasks/translation_data.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "nlp/lines.h"
#include "nlp/make_once.h"
#include "nlp/numbers.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static const TranslationDataset datasets[] = {
    {"parallel",
     "any two languages: files FOLDER/train.en, FOLDER/train.de, ..., a sentence a line (dataset.*_files)",
     NULL,
     {"train", "val", "test"}},
    {"numbers", "numbers from one to 999,999 in English and German words, made here", NULL, {NULL}},
    {"multi30k",
     "Multi30k: 29,000 + 1,014 + 1,000 captions of pictures, English and German",
     "data/multi30k",
     {"train", "val", "test_2016_flickr"}},
    {"iwslt14",
     "IWSLT14: some 170,000 lines of talks, every 23rd for validation; five test sets in one; German and "
     "English",
     "data/iwslt14",
     {"train", "val", "test"}},
    {"wmt14_en_de",
     "WMT14: 4.5 million sentences of Europarl, Common Crawl and News Commentary; newstest2013 and 2014",
     "data/wmt14",
     {"train", "newstest2013", "newstest2014"}},
};

const TranslationDataset *translation_dataset(int index)
{
    return index < (int)(sizeof datasets / sizeof *datasets) ? &datasets[index] : NULL;
}

static bool is_made(const TranslationDataset *dataset) { return dataset->file[SPLIT_TRAIN] == NULL; }

/* ---- settings ---- */

static const char *text_or(const Config *config, const char *name, const char *otherwise)
{
    const char *text = config_text(config, name);
    return text[0] != '\0' ? text : otherwise;
}

static Status read_files(const Config *config, TranslationData *data)
{
    static const char *const names[SPLIT_COUNT] = {"dataset.train_files", "dataset.validation_files",
                                                   "dataset.test_files"};
    data->language[SOURCE_SIDE] = text_or(config, "dataset.source", "en");
    data->language[TARGET_SIDE] = text_or(config, "dataset.target", "de");
    if (strcmp(data->language[SOURCE_SIDE], data->language[TARGET_SIDE]) == 0)
        return config_error(config, "dataset.target", "source and target are both %s",
                            data->language[SOURCE_SIDE]);
    for (int split = 0; split < SPLIT_COUNT; ++split)
        data->file[split] = text_or(config, names[split], data->dataset->file[split]);
    data->folder = config_text(config, "dataset.folder");
    if (data->folder[0] != '\0') return OK;
    if (data->dataset->folder == NULL)
        return config_error(config, "dataset.folder", "say where the files of the corpus are");
    data->folder = data->dataset->folder;
    return OK;
}

static Status read_subwords(const Config *config, TranslationData *data)
{
    const char *type = config_text(config, "subwords.type");
    data->kind = strcmp(type, "none") == 0 ? SUBWORDS_WORDS : SUBWORDS_PIECES;
    data->subwords_file = config_text(config, "subwords.file");
    if (data->subwords_file[0] != '\0') return OK;
    data->training = (SubwordsTraining){.kind = data->kind, .size = config_integer(config, "subwords.size")};
    data->sample = config_integer(config, "subwords.sample");
    if (data->kind == SUBWORDS_WORDS) return OK;
    data->training.type = type;
    data->training.normalisation = config_text(config, "subwords.normalisation");
    data->training.coverage = config_real(config, "subwords.coverage");
    return OK;
}

Status translation_data_read(const Config *config, TaskShare share, TranslationData *data)
{
    *data =
        (TranslationData){.first = share.rank,
                          .needs_training = share.training,
                          .cache = config_text(config, "dataset.cache"),
                          .split_seed = (uint64_t)config_integer(config, "dataset.split_seed"),
                          .longest = config_integer(config, "dataset.longest_sentence"),
                          .limit = {[SPLIT_TRAIN] = config_integer(config, "dataset.train_limit"),
                                    [SPLIT_VALIDATION] = config_integer(config, "dataset.validation_limit"),
                                    [SPLIT_TEST] = config_integer(config, "dataset.test_limit")}};
    const char *name = config_text(config, "dataset.name");
    for (int i = 0; translation_dataset(i) != NULL; ++i)
        if (strcmp(datasets[i].name, name) == 0) data->dataset = &datasets[i];
    if (data->dataset == NULL) return config_error(config, "dataset.name", "%s holds no translations", name);
    if (!is_made(data->dataset)) TRY(read_files(config, data));
    return read_subwords(config, data);
}

Status translation_data_identity(const TranslationData *data, char **text)
{
    char files[2 * PATH_MAX] = "";
    if (!is_made(data->dataset))
        (void)snprintf(files, sizeof files, "%s %s %s %s %s %s", data->folder, data->language[SOURCE_SIDE],
                       data->language[TARGET_SIDE], data->file[SPLIT_TRAIN], data->file[SPLIT_VALIDATION],
                       data->file[SPLIT_TEST]);
    const SubwordsTraining *training = &data->training;
    return text_format(text, "%s %s %s %d %s %s %lld %s %.17g %lld %lld %llu %lld %lld %lld",
                       data->dataset->name, files, data->cache, data->kind, data->subwords_file,
                       training->type != NULL ? training->type : "", (long long)training->size,
                       training->normalisation != NULL ? training->normalisation : "", training->coverage,
                       (long long)data->sample, (long long)data->longest,
                       (unsigned long long)data->split_seed, (long long)data->limit[SPLIT_TRAIN],
                       (long long)data->limit[SPLIT_VALIDATION], (long long)data->limit[SPLIT_TEST]);
}

/* ---- corpora ---- */

enum { NUMBERS_TRAIN = 30000, NUMBERS_VALIDATION = 500, NUMBERS_TEST = 1000 };

/* The numbers of a split: held-out ones are drawn first, so that they stay what they are if there are more to train on. */
static Status number_texts(const TranslationData *data, Split split, char *text[SIDES], size_t size[SIDES])
{
    static const int64_t first[] = {[SPLIT_VALIDATION] = 0,
                                    [SPLIT_TEST] = NUMBERS_VALIDATION,
                                    [SPLIT_TRAIN] = NUMBERS_VALIDATION + NUMBERS_TEST};
    static const int64_t count[] = {
        [SPLIT_VALIDATION] = NUMBERS_VALIDATION, [SPLIT_TEST] = NUMBERS_TEST, [SPLIT_TRAIN] = NUMBERS_TRAIN};
    int64_t *number;
    text[SOURCE_SIDE] = text[TARGET_SIDE] = NULL;
    TRY(numbers_draw(data->split_seed, first[split] + count[split], &number));
    Status status = numbers_text(number + first[split], count[split], number_english, &text[SOURCE_SIDE],
                                 &size[SOURCE_SIDE]);
    if (status == OK)
        status = numbers_text(number + first[split], count[split], number_german, &text[TARGET_SIDE],
                              &size[TARGET_SIDE]);
    free(number);
    return status;
}

static Status make_numbers(const TranslationData *data, Split split, ParallelCorpus *corpus)
{
    static const char *const names[SIDES] = {"numbers in English", "numbers in German"};
    char *text[SIDES];
    size_t size[SIDES];
    Status status = number_texts(data, split, text, size);
    if (status == OK) return parallel_corpus_of_texts(names, text, size, corpus);
    free(text[SOURCE_SIDE]);
    free(text[TARGET_SIDE]);
    return status;
}

/* FOLDER/STEM.LANGUAGE, or that file packed. */
static Status find_file(const TranslationData *data, Split split, int side, char path[PATH_MAX])
{
    static const char *const endings[] = {"", ".gz"};
    for (int i = 0; i < 2; ++i) {
        char *name;
        TRY(text_format(&name, "%s.%s%s", data->file[split], data->language[side], endings[i]));
        Status status = file_join(path, data->folder, name);
        free(name);
        if (status != OK) return status;
        if (file_exists(path)) return OK;
    }
    const bool named = data->dataset->folder != NULL;
    return fail(STATUS_INPUT, "%s has no file %s.%s, nor that with .gz behind its name%s%s%s", data->folder,
                data->file[split], data->language[side], named ? " (launch/get_data.sh " : "",
                named ? strrchr(data->dataset->folder, '/') + 1 : "", named ? " fetches the data set)" : "");
}

static bool is_absent(const TranslationData *data, Split split)
{
    return !is_made(data->dataset) && strcmp(data->file[split], "none") == 0;
}

Status translation_data_open_split(const TranslationData *data, Split split, ParallelCorpus *corpus)
{
    if (is_made(data->dataset)) return make_numbers(data, split, corpus);
    char source[PATH_MAX], target[PATH_MAX];
    TRY(find_file(data, split, SOURCE_SIDE, source));
    TRY(find_file(data, split, TARGET_SIDE, target));
    return parallel_corpus_open(source, target, corpus);
}

/* ---- subwords ---- */

/* Lines of both sides, every so many pairs. */
typedef struct {
    const ParallelCorpus *corpus;
    CorpusPlace place;
    TextSpan pair[SIDES];
    int64_t every, wanted;
    int side; /* the next of the pair; SIDES: a new pair */
} SampledLines;

static bool next_sampled(void *context, TextSpan *line)
{
    SampledLines *lines = context;
    if (lines->side == SIDES) {
        do
            if (!parallel_corpus_next(lines->corpus, &lines->place, lines->pair)) return false;
        while ((lines->place.line - 1) % lines->every != 0);
        lines->side = 0;
    }
    *line = lines->pair[lines->side++];
    return true;
}

typedef struct {
    const TranslationData *data;
    const ParallelCorpus *corpus;
    Subwords *subwords; /* what is_made has read; owned by whoever takes it */
} MakeSubwords;

static Status train_subwords(const MakeSubwords *work, Subwords **subwords)
{
    const TranslationData *data = work->data;
    const ParallelCorpus *corpus = work->corpus;
    SampledLines lines = {.corpus = corpus, .every = 1, .side = SIDES};
    if (data->sample > 0) lines.every = (corpus->lines + data->sample - 1) / data->sample;
    if (lines.every > 1)
        log_info("subwords are made of every %" PRId64 "th sentence (subwords.sample)", lines.every);
    SubwordsTraining training = data->training;
    SampledLines count = lines;
    for (TextSpan line; next_sampled(&count, &line);)
        if (line.size > training.longest) training.longest = line.size;
    Status status = subwords_train(&training, next_sampled, &lines, subwords);
    return status == OK ? OK : status_context(status, "subwords.size");
}

static Status make_file(void *context, const char *path)
{
    const MakeSubwords *work = context;
    Subwords *subwords;
    TRY(train_subwords(work, &subwords));
    Status status = subwords_write(subwords, path);
    subwords_free(subwords);
    return status;
}

static bool file_is_made(void *context, const char *path)
{
    MakeSubwords *work = context;
    if (work->subwords != NULL) return true;
    if (!file_exists(path)) return false;
    status_free(subwords_read(path, work->data->kind, &work->subwords)); /* a damaged file is made again */
    return work->subwords != NULL;
}

/* In the cache, under a name that says what they are made of. */
static Status make_subwords(TranslationData *data, const ParallelCorpus *corpus)
{
    const SubwordsTraining *training = &data->training;
    char *settings, *path;
    TRY(text_format(&settings, "2 %d %s %lld %s %.17g %lld %016" PRIx64 " %016" PRIx64, data->kind,
                    training->type != NULL ? training->type : "", (long long)training->size,
                    training->normalisation != NULL ? training->normalisation : "", training->coverage,
                    (long long)data->sample, corpus->hash[SOURCE_SIDE], corpus->hash[TARGET_SIDE]));
    const uint64_t identity = XXH3_64bits(settings, strlen(settings));
    free(settings);
    TRY(file_make_folder(data->cache));
    TRY(text_format(&path, "%s/%s-%016" PRIx64 "-%s", data->cache, data->dataset->name, identity,
                    subwords_file_name(data->kind)));
    MakeSubwords work = {.data = data, .corpus = corpus};
    const MakeOnce once = {.is_made = file_is_made, .make = make_file, .context = &work};
    Status status = make_once(path, &once);
    if (status == OK && work.subwords == NULL) status = subwords_read(path, data->kind, &work.subwords);
    data->subwords = work.subwords;
    free(path);
    return status;
}

static Status open_subwords(TranslationData *data, const Config *config)
{
    if (!file_exists(data->subwords_file))
        return config_error(config, "subwords.file", "there is no file %s", data->subwords_file);
    return subwords_read(data->subwords_file, data->kind, &data->subwords);
}

/* Has each side a line to learn from? */
static Status check_text(const ParallelCorpus *corpus)
{
    CorpusPlace place = {.line = 0};
    TextSpan pair[SIDES];
    bool has_text[SIDES] = {false, false};
    while (!(has_text[SOURCE_SIDE] && has_text[TARGET_SIDE]) && parallel_corpus_next(corpus, &place, pair))
        for (int side = 0; side < SIDES; ++side)
            has_text[side] = has_text[side] || !line_is_blank(pair[side]);
    for (int side = 0; side < SIDES; ++side)
        if (!has_text[side]) return fail(STATUS_INPUT, "no line of %s has text", corpus->name[side]);
    return OK;
}

static Status load_subwords(TranslationData *data, const Config *config, const ParallelCorpus *corpus)
{
    TRY(check_text(corpus));
    return data->subwords_file[0] == '\0' ? make_subwords(data, corpus) : open_subwords(data, config);
}

/* ---- splits ---- */

int64_t translation_longer_side(PairLength length)
{
    return length.source > length.target ? length.source : length.target;
}

/* A limit takes pairs at random, in their order. */
static Status apply_limit(const TranslationData *data, Split which, TranslationSplit *split)
{
    const int64_t limit = data->limit[which];
    if (limit == 0 || limit >= split->count) return OK;
    int64_t *order;
    char *taken = NULL;
    TRY(memory_new(&order, (size_t)split->count, sizeof *order, "a limited split"));
    Status status = memory_new(&taken, (size_t)split->count, 1, "a limited split");
    if (status == OK) {
        random_shuffle(data->split_seed, RANDOM_SPLIT, 1 + (uint64_t)which, order, split->count);
        for (int64_t i = 0; i < limit; ++i)
            taken[order[i]] = 1;
        int64_t kept = 0;
        for (int64_t i = 0; i < split->count; ++i) {
            if (!taken[i]) continue;
            split->pair[kept] = split->pair[i];
            split->length[kept++] = split->length[i];
        }
        split->count = kept;
    }
    free(taken);
    free(order);
    return status;
}

/* Training leaves out pairs that are too long, and those that have no text on a side; evaluation has all. */
static Status take_pairs(const TranslationData *data, Split which, TranslationSplit *split)
{
    const EncodedCorpus *corpus = &split->corpus;
    TRY(memory_new(&split->pair, (size_t)corpus->pairs, sizeof *split->pair, "sentences"));
    TRY(memory_new(&split->length, (size_t)corpus->pairs, sizeof *split->length, "sentences"));
    for (int64_t i = 0; i < corpus->pairs; ++i) {
        const int64_t source = 1 + encoded_length(corpus, SOURCE_SIDE, i);
        const int64_t target = 1 + encoded_length(corpus, TARGET_SIDE, i);
        const PairLength length = {.source = (int32_t)source, .target = (int32_t)target};
        const int64_t longer = translation_longer_side(length);
        const bool empty = source == 1 || target == 1, too_long = longer > data->longest;
        if (longer > split->longest) split->longest = longer;
        if (which == SPLIT_TRAIN) {
            split->empty += empty;
            split->too_long += too_long;
            if (empty || too_long) continue;
        }
        split->pair[split->count] = i;
        split->length[split->count++] = length;
    }
    return apply_limit(data, which, split);
}

/* Of the split's pairs, those that the network cannot take, and those that make an evaluation slow. */
static Status check_lengths(const TranslationData *data, Split which, const ParallelCorpus *corpus,
                            const TranslationSplit *split)
{
    int64_t longest = 0, at = 0, too_long = 0;
    for (int64_t i = 0; i < split->count; ++i) {
        const int64_t longer = translation_longer_side(split->length[i]);
        too_long += longer > data->longest;
        if (longer <= longest) continue;
        longest = longer;
        at = i;
    }
    if (split->count == 0) return OK;
    const int side = split->length[at].source == longest ? SOURCE_SIDE : TARGET_SIDE;
    const long long line = (long long)split->pair[at] + 1;
    if (data->positions > 0 && longest > data->positions)
        return fail(STATUS_INPUT,
                    "%s:%lld: %lld subwords with the end token; model.max_positions is %lld (learned "
                    "positions): give the network more of them, or leave the sentence out%s",
                    corpus->name[side], line, (long long)longest, (long long)data->positions,
                    which == SPLIT_TRAIN ? " (dataset.longest_sentence)" : "");
    if (too_long > 0) /* training has left them out */
        log_warning(
            "%s:%lld: %lld subwords with the end token, the most of %lld sentence pairs that are longer "
            "than dataset.longest_sentence, %lld: training leaves such pairs out, but evaluation takes "
            "them, a few at once, which takes time and memory",
            corpus->name[side], line, (long long)longest, (long long)too_long, (long long)data->longest);
    return OK;
}

static Status tell(const TranslationData *data, Split which, const TranslationSplit *split)
{
    const EncodedCorpus *corpus = &split->corpus;
    const double pairs = (double)corpus->pairs;
    log_info("%s, %s: %" PRId64 " sentences, %.1f and %.1f subwords in the mean; %" PRId64 " and %" PRId64
             " are unknown",
             data->dataset->name, split_name(which), split->count,
             (double)corpus->tokens[SOURCE_SIDE] / pairs, (double)corpus->tokens[TARGET_SIDE] / pairs,
             corpus->unknown[SOURCE_SIDE], corpus->unknown[TARGET_SIDE]);
    if (split->too_long > 0)
        log_warning("%s, %s: %" PRId64
                    " pairs are left out: a side is longer than dataset.longest_sentence, %" PRId64
                    " subwords with the end token (the longest has %" PRId64 ")",
                    data->dataset->name, split_name(which), split->too_long, data->longest, split->longest);
    if (split->empty > 0)
        log_warning("%s, %s: %" PRId64 " pairs are left out: a side has no text", data->dataset->name,
                    split_name(which), split->empty);
    if (split->count == 0)
        return fail(STATUS_INPUT, "%s: the %s split has no sentence", data->dataset->name, split_name(which));
    return OK;
}

static Status load_split(TranslationData *data, Split which, const ParallelCorpus *corpus)
{
    TranslationSplit *split = &data->split[which];
    char *name;
    TRY(text_format(&name, "%s-%s", data->dataset->name, split_name(which)));
    for (int side = 0; side < SIDES; ++side)
        split->hash[side] = corpus->hash[side];
    const EncodeOptions options = {.folder = data->cache,
                                   .name = name,
                                   .subwords = data->subwords,
                                   .corpus = corpus,
                                   .first = data->first};
    Status status = encode_cache_open(&options, &split->corpus);
    free(name);
    for (int side = 0; side < SIDES && status == OK; ++side)
        status = text_copy(corpus->name[side], &split->file[side]);
    if (status == OK) status = take_pairs(data, which, split);
    if (status == OK) status = check_lengths(data, which, corpus, split);
    return status == OK ? tell(data, which, split) : status;
}

Status translation_data_load(TranslationData *data, const Config *config)
{
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        const bool for_subwords = split == SPLIT_TRAIN && data->subwords_file[0] == '\0';
        if (split == SPLIT_TRAIN && !data->needs_training && !for_subwords) {
            TRY(open_subwords(data, config));
            continue;
        }
        if (is_absent(data, (Split)split) && split != SPLIT_TRAIN) continue;
        ParallelCorpus corpus;
        TRY(translation_data_open_split(data, (Split)split, &corpus));
        Status status = split == SPLIT_TRAIN ? load_subwords(data, config, &corpus) : OK;
        if (status == OK && (split != SPLIT_TRAIN || data->needs_training))
            status = load_split(data, (Split)split, &corpus);
        parallel_corpus_close(&corpus);
        if (status != OK) return status;
    }
    return OK;
}

void translation_data_free(TranslationData *data)
{
    for (int split = 0; split < SPLIT_COUNT; ++split) {
        encode_cache_close(&data->split[split].corpus);
        free(data->split[split].pair);
        free(data->split[split].length);
        for (int side = 0; side < SIDES; ++side)
            free(data->split[split].file[side]);
    }
    subwords_free(data->subwords);
}

/* ---- the run's files ---- */

static Status write_numbers(const TranslationData *data, const char *folder)
{
    static const char *const names[SIDES] = {"test.en", "test.de"};
    char *text[SIDES], path[PATH_MAX];
    size_t size[SIDES];
    Status status = number_texts(data, SPLIT_TEST, text, size);
    for (int side = 0; side < SIDES && status == OK; ++side) {
        status = file_join(path, folder, names[side]);
        if (status == OK) status = file_write(path, text[side], size[side]);
    }
    free(text[SOURCE_SIDE]);
    free(text[TARGET_SIDE]);
    return status;
}

Status translation_data_write(const TranslationData *data, const char *folder)
{
    char path[PATH_MAX];
    TRY(file_join(path, folder, subwords_file_name(data->kind)));
    TRY(subwords_write(data->subwords, path));
    return is_made(data->dataset) ? write_numbers(data, folder) : OK;
}
