/* A Transformer as what a search asks (nlp/beam_search.h): programs that encode sentences, and programs that make one step of
 * all live hypotheses, over caches that stay on the device.
 *
 * A sentence has a slot. Its cross-attention keys and values are written to the slot's row of transient states once; `beam` rows
 * of the self-attention caches are the slot's too. A hypothesis keeps its place among the beams of its sentence; which beam
 * held each of its earlier positions is a table, so nothing in a cache ever moves. The first step of a sentence is one row.
 *
 * A search of the same sentences again, at other temperatures, needs no encoding again: then the memories have more rows than there
 * are slots, and a table says which one a slot's sentence has.
 *
 * Programs are of a few sizes, all planned before the first sentence, the largest first; each is recorded once where the
 * device can. */
#ifndef PLUMB_LAUNCH_SEARCH_DECODER_H
#define PLUMB_LAUNCH_SEARCH_DECODER_H

#include "engine/device/device.h"
#include "engine/plan/plan.h"
#include "models/transformer.h"
#include "nlp/beam_search.h"

typedef struct {
    Transformer network;
    DType compute;   /* parameters are FLOAT32 all the same; kernels may keep them in BFLOAT16 beside that */
    int slots, beam; /* sentences at a time, hypotheses of each */
    int kept;        /* sentences that are encoded before their searches (decoder_encode); 0: each as its
                                     search begins */
    int candidates;  /* of a row; 0: whole rows of logits are wanted */
    int most_source, most_target; /* tokens, the end token among them */
    int most_banned;              /* tokens of a row: search_most_banned */
    /* The same bits whatever the slots: the number of rows in every program is fixed, and which one encodes a
     * sentence depends on its length alone. */
    bool deterministic;
    bool record, fuse;
    PlanOptions plan;
} DecoderOptions;

/* Tokens of a translation, where nothing else limits them. */
enum { DECODER_MOST_TARGET = 1 << 24 };
/* Sentences at a time that keep such a device busy. */
int decoder_usual_sentences(const Device *);
/* What a search asks of a decoder: its beam, and candidates and banned tokens of a row. The rest is the caller's to fill in. */
DecoderOptions decoder_options_of(const SearchOptions *, int most_source, int most_target);

typedef struct Decoder Decoder;
/* Makes all programs and their store; the parameters have first values until a checkpoint is loaded into the store. The
 * device must outlive it. */
CHECKED Status decoder_create(const DecoderOptions *, Device *, Decoder **);
void decoder_free(Decoder *); /* NULL is allowed */
Store *decoder_store(Decoder *);
/* Copies the parameters of another store on the same device, which has those of the network: how a training measures by what it
 * translates. STATUS_INPUT names one that is absent there or has another shape. Enqueues. */
CHECKED Status decoder_take_parameters(Decoder *, const Store *from);

/* Of a decoder that keeps sentences: encodes these, the slot of each being its place among the `kept`. From then on any number of
 * searches, at any temperature, may have a sentence with that SearchInput.number, which costs no further encoding. Enqueues. */
CHECKED Status decoder_encode(Decoder *, const SearchStart[], int count);

/* Valid as long as the decoder. */
const SearchNetwork *decoder_network(const Decoder *);

typedef struct {
    int programs;
    size_t arena_bytes, cache_bytes, parameter_bytes, packed_bytes;
    int64_t encoded_tokens, encoded_places; /* of the sources: real ones, and with padding */
    int64_t step_rows, step_places; /* of the steps: live hypotheses, and with rows that were not used */
} DecoderReport;
DecoderReport decoder_report(const Decoder *);

#endif
