/* The programs of a decoder: of which sizes they are, their graphs, and which one takes the sentences at hand. Internal to
 * launch/search/. */
#ifndef PLUMB_LAUNCH_SEARCH_DECODER_PROGRAMS_H
#define PLUMB_LAUNCH_SEARCH_DECODER_PROGRAMS_H

#include "launch/search/decoder.h"
#include "launch/search/planned_graph.h"

typedef enum { DECODER_ENCODES, DECODER_STEPS } DecoderProgramKind;

/* Encoding: sentences x length. A step: sentences of `each` rows. */
typedef struct {
    DecoderProgramKind kind;
    int64_t sentences, length, each;
    PlannedGraph planned;
    /* Inputs of encoding: */
    Value source, source_length, slot;
    /* Inputs of a step; source_length is of all slots: */
    Value token, position, table, sentence, temperature, forced, banned_start, banned;
    /* Results of a step: */
    BestTokens best;
    Value logits;
} DecoderProgram;

enum {
    DECODER_MOST_LENGTHS = 96, /* four for each doubling of the least padded length of a source */
    DECODER_MOST_SIZES = 80,
    DECODER_MOST_PROGRAMS = 3 * DECODER_MOST_LENGTHS + 2 * DECODER_MOST_SIZES
};
typedef struct {
    DecoderProgram program[DECODER_MOST_PROGRAMS];
    int count;
} DecoderPrograms;
/* All graphs; their plans are the caller's to make. On an error the caller still frees. */
CHECKED Status decoder_programs_build(const DecoderOptions *, DeviceKind, DecoderPrograms *);
void decoder_programs_free(Device *, DecoderPrograms *);

/* The program for the sentences that come next: of the shortest length that holds the first, the longest of them, and of the
 * fewest sentences that hold all that are left, or else of the most. */
DecoderProgram *decoder_choose_encoder(DecoderPrograms *, int longest, int count);
/* The program of the fewest sentences that hold all, or else of the most. each: rows of a sentence. */
DecoderProgram *decoder_choose_step(DecoderPrograms *, int64_t each, int count);

/* Rows of the states that hold the sources' keys and values. */
int decoder_memory_rows(const DecoderOptions *);

#endif
