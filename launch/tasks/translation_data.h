/* The data of translation: which files, their subwords, the ids of all splits. The task and `plumb data` share this. */
#ifndef PLUMB_LAUNCH_TASKS_TRANSLATION_DATA_H
#define PLUMB_LAUNCH_TASKS_TRANSLATION_DATA_H

#include "engine/base/config.h"
#include "engine/data/source.h"
#include "launch/tasks/task.h"
#include "nlp/encode_cache.h"
#include "nlp/subwords.h"
#include "nlp/token_batches.h"

typedef struct {
    const char *name; /* "multi30k" */
    const char *help;
    const char *folder; /* the usual place; NULL: dataset.folder must say it */
    const char
        *file[SPLIT_COUNT]; /* names without the language; NULL: there are no files, the corpus is made */
} TranslationDataset;

/* index 0, 1, ...; NULL after the last. */
const TranslationDataset *translation_dataset(int index);

/* A split, as loaded. */
typedef struct {
    char *file[SIDES];    /* their names */
    uint64_t hash[SIDES]; /* XXH3 of their texts */
    EncodedCorpus corpus; /* every pair of the files */
    int64_t *pair;        /* [count] those that the split has */
    PairLength *length;   /* [count] */
    int64_t count;
    int64_t empty, too_long; /* of training: pairs that are left out */
    int64_t longest;         /* tokens of the longest sentence in the files, with its end token */
} TranslationSplit;

typedef struct {
    const TranslationDataset *dataset;
    const char *folder, *cache;
    const char *language[SIDES];
    const char *file[SPLIT_COUNT];
    SubwordsKind kind;
    const char *subwords_file; /* "": made of the training split */
    SubwordsTraining training; /* of subwords that are made */
    int64_t sample;            /* lines of a side to make them of */
    int64_t longest;           /* tokens of a sentence in training */
    int64_t positions;         /* the most tokens that the network takes; 0: any number */
    int64_t limit[SPLIT_COUNT];
    uint64_t split_seed;
    int first; /* block to begin encoding with: this rank's number */
    bool needs_training;

    Subwords *subwords; /* NULL until loaded */
    TranslationSplit split[SPLIT_COUNT];
} TranslationData;

/* Tokens of the longer side. */
int64_t translation_longer_side(PairLength);
/* Reads the settings of the data and the subwords. */
CHECKED Status translation_data_read(const Config *, TaskShare, TranslationData *);
/* Loads subwords and splits: makes what is missing in the cache. Not collective: ranks share the work by locks. */
CHECKED Status translation_data_load(TranslationData *, const Config *);
void translation_data_free(TranslationData *);
/* The texts of a split that is not "none", as they are now; release with parallel_corpus_close. */
CHECKED Status translation_data_open_split(const TranslationData *, Split, ParallelCorpus *);
/* What is behind the data of a task that translates; NULL: it does not. */
const TranslationData *translation_data_of(const TaskData *);
/* All that loading depends on, as text; release with free(). */
CHECKED Status translation_data_identity(const TranslationData *, char **text);
/* The subwords; of a corpus that is made, the files of its test split too. */
CHECKED Status translation_data_write(const TranslationData *, const char *folder);

#endif
