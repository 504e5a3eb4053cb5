/* The texts that `plumb bleu` compares. */
#ifndef PLUMB_LAUNCH_BLEU_BLEU_TEXTS_H
#define PLUMB_LAUNCH_BLEU_BLEU_TEXTS_H

#include "launch/bleu/bleu_options.h"
#include "nlp/bleu/lines.h"

typedef struct {
    Segments segments;
    int references; /* of each segment; -1: not the same for all */
    char **name;    /* [segments.systems] */
    /* What the segments stand in. */
    TextLines *file;
    int files;
    TextColumns reference_columns, system_columns;
    TextSpan *reference;
    int *reference_count;
    const TextSpan **hypothesis;
} BleuTexts;

/* Reads them, and warns of what looks wrong unless --quiet. STATUS_INPUT names both counts where lengths differ. */
CHECKED Status bleu_texts_read(const BleuArguments *, BleuTexts *);
void bleu_texts_free(BleuTexts *);

#endif
