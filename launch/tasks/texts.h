/* What the tasks of texts share: a vocabulary, the vectors of its words, and the settings about both. */
#ifndef PLUMB_LAUNCH_TASKS_TEXTS_H
#define PLUMB_LAUNCH_TASKS_TEXTS_H

#include "engine/base/config.h"
#include "engine/data/source.h"
#include "engine/plan/store.h"
#include "launch/tasks/task.h"
#include "nlp/vocabulary.h"

typedef struct {
    const char *folder;         /* "": the usual place */
    const char *vectors;        /* file of word vectors; "": none */
    int64_t width;              /* of a word vector */
    int64_t limit[SPLIT_COUNT]; /* samples; 0: all */
    uint64_t split_seed;        /* of what is drawn at random, and of what a limit takes */
    bool starts;                /* training begins, with these vectors */
    Vocabulary *vocabulary;     /* NULL until loaded; owned */
} Texts;

/* Reads dataset.folder, its limits and split_seed, and vectors.file. STATUS_INPUT where word vectors shall stay as they
 * are and there are none. */
CHECKED Status texts_read(const Config *, TaskShare, const ModelOptions *, Texts *);
void texts_free(Texts *);

/* That the file of vectors is there, if training begins with one: before the long work, and by a sweep before its first run.
 * fetch: what launch/get_data.sh calls such a file. */
CHECKED Status texts_check_vectors(const Texts *, const Config *, const char *fetch);
/* The known words' rows of embedding.weight become their vectors; others keep what they hold, which `others` says
 * ("start at zero"). */
CHECKED Status texts_fill_vectors(const Texts *, Store *, const char *others);
/* vocabulary.txt */
CHECKED Status texts_write_files(const Texts *, const char *folder);
/* The vocabulary out of it again; special: its first entry. */
CHECKED Status texts_read_files(Texts *, const char *folder, const char *special);

/* Of `count` items of a split those that its limit leaves, drawn at random and in their order (texts lie class by class
 * in their files); *count becomes their number. */
CHECKED Status texts_limit(const Texts *, Split, int64_t item[], int64_t *count);

#endif
