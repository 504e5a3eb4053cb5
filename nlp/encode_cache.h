/* A parallel corpus as ids: encoded once, kept in files, read by memory map.
 *
 * A cache is one file a block of the corpus (CORPUS_BLOCK lines), written atomically:
 *
 *     FOLDER/NAME-IDENTITY-00002-of-00069.ids
 *
 * IDENTITY is a hash of all that the ids depend on: the format's version, the subwords, the texts of both sides. Whoever
 * needs the cache encodes the blocks that are not there: ranks, threads and other runs share the work by locks, and one
 * that was killed leaves whole blocks behind. A file that is cut short or altered is told by its checksum, and is made
 * again. Every pair of lines is in the cache, long and empty ones too. */
#ifndef PLUMB_NLP_ENCODE_CACHE_H
#define PLUMB_NLP_ENCODE_CACHE_H

#include "engine/base/status.h"
#include "nlp/parallel_corpus.h"
#include "nlp/subwords.h"

#include <stdint.h>

typedef struct {
    const char *folder; /* made if it is not there */
    const char *name;   /* for people: "multi30k-train" */
    const Subwords *subwords;
    const ParallelCorpus *corpus;
    int first;   /* the block to begin with, so that ranks do not meet at the same: a rank's number */
    int threads; /* 0: as OpenMP says */
} EncodeOptions;

typedef struct EncodedBlock EncodedBlock;

typedef struct {
    int64_t pairs;
    int64_t tokens[SIDES];  /* without start and end */
    int64_t unknown[SIDES]; /* unknown ones among these */
    int64_t changed[SIDES]; /* lines that the normalisation changes */
    int64_t encoded;        /* blocks that this process has encoded now */
    int64_t blocks;
    EncodedBlock *block;
} EncodedCorpus;

/* Encodes what is missing, waits for what others encode, and maps all. Neither corpus nor subwords are needed any more. */
CHECKED Status encode_cache_open(const EncodeOptions *, EncodedCorpus *);
void encode_cache_close(EncodedCorpus *);

/* Ids of a side of pair i, without start and end. Thread-safe. */
int64_t encoded_length(const EncodedCorpus *, int side, int64_t pair);
void encoded_ids(const EncodedCorpus *, int side, int64_t pair, int32_t id[]);

/* One file's bytes. STATUS_INPUT for what is no such file, or damaged. identity: what it must be of. */
CHECKED Status encoded_block_check(const char *name, const void *bytes, size_t size, uint64_t identity);

#endif
