/* Two files of text, line by line translations of one another.
 *
 * LF or CR LF ends a line: another CR, a TAB, U+2028 or a NUL within one is part of it. Files are mapped, so that a corpus of
 * gigabytes takes no memory; those ending in .gz are unpacked into memory. Opening looks at every byte once: is it UTF-8,
 * have both sides the same number of lines, and what are their checksums. */
#ifndef PLUMB_NLP_PARALLEL_CORPUS_H
#define PLUMB_NLP_PARALLEL_CORPUS_H

#include "engine/base/file.h"
#include "engine/base/status.h"
#include "nlp/vocabulary.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SOURCE_SIDE, TARGET_SIDE, SIDES };

/* Lines of a corpus from here on. */
typedef struct {
    int64_t line; /* from 0 */
    size_t at[SIDES];
} CorpusPlace;

enum { CORPUS_BLOCK = 1 << 16 /* lines */ };

typedef struct {
    char *name[SIDES]; /* of the files */
    TextSpan text[SIDES];
    uint64_t hash[SIDES]; /* XXH3 of the text */
    int64_t lines;        /* of either side; at least 1 */
    int64_t blocks;       /* of CORPUS_BLOCK lines, the last one shorter */
    CorpusPlace *block;   /* [blocks] where each begins */

    FileMap map[SIDES];
    char *owned[SIDES];
} ParallelCorpus;

/* STATUS_INPUT names the file, and the line and column of what is not UTF-8; of sides with different numbers of lines both
 * numbers and the last line that both have. */
CHECKED Status parallel_corpus_open(const char *source, const char *target, ParallelCorpus *);
/* The same of texts in memory, which the corpus takes over (release with free()), also after an error. */
CHECKED Status parallel_corpus_of_texts(const char *const name[SIDES], char *text[SIDES],
                                        const size_t size[SIDES], ParallelCorpus *);
void parallel_corpus_close(ParallelCorpus *);

/* The pair of lines at the place, without their ends; the place goes on to the next. false after the last pair. */
bool parallel_corpus_next(const ParallelCorpus *, CorpusPlace *, TextSpan pair[SIDES]);

#endif
