/* A corpus of documents with classes, and how it is split. */
#ifndef PLUMB_NLP_DOCUMENTS_H
#define PLUMB_NLP_DOCUMENTS_H

#include "nlp/vocabulary.h"

/* What was met while reading, for the log. */
typedef struct {
    int64_t debris;    /* files and folders that archives and systems leave: .DS_Store, ._54473, __MACOSX */
    int64_t unnamed;   /* other files that are skipped because their names are not digits */
    int64_t no_header; /* documents without a blank line: taken whole */
    int64_t empty;     /* documents with nothing but white space after the header */
} DocumentsRead;

typedef struct {
    int64_t count, classes;
    int64_t
        given_train; /* the first so many were given as training part, the others as test part; -1: not given */
    char **class_name;   /* [classes], sorted by bytes: a class is its index */
    int32_t *label;      /* [count] */
    char *text;          /* UTF-8 */
    int64_t *text_start; /* [count+1] */
    char *name;          /* path of each within the corpus' folder, NUL-terminated */
    int64_t *name_start; /* [count] in name */
    DocumentsRead read;
} Documents;

void documents_free(Documents *); /* a zeroed struct is allowed */
TextSpan documents_text(const Documents *, int64_t document);
const char *documents_name(const Documents *, int64_t document);

/* ---- Splits ---- */

typedef enum {
    DOCUMENTS_BY_DATE,  /* test documents as given; validation at random out of the training part */
    DOCUMENTS_AT_RANDOM /* the published formula over all n documents: test int(0.2 n), validation, rest */
} DocumentsSplitRule;

typedef struct {
    DocumentsSplitRule rule;
    int64_t validation; /* documents; the published code has 900 */
    uint64_t
        seed; /* of the choice: Philox, purpose RANDOM_SPLIT. The published code shuffles by numpy without a
                           seed: its choice cannot be known */
} DocumentsSplitOptions;

typedef struct {
    int64_t *train, *validation, *test; /* indices of documents, rising */
    int64_t train_count, validation_count, test_count;
} DocumentsSplit;

/* STATUS_INPUT for parts that would be empty, and for the rule by date where no parts are given. */
CHECKED Status documents_split(const Documents *, const DocumentsSplitOptions *, DocumentsSplit *);
void documents_split_free(DocumentsSplit *);
/* How many of the documents `sample` have, byte for byte, the text of one among `other`; empty ones do not count. */
CHECKED Status documents_shared(const Documents *, const int64_t sample[], int64_t samples,
                                const int64_t other[], int64_t others, int64_t *shared);

#endif
