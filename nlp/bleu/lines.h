/* Lines of hypotheses and references, as sacreBLEU reads them: white space at their end does not count, whatever character it is. */
#ifndef PLUMB_NLP_BLEU_LINES_H
#define PLUMB_NLP_BLEU_LINES_H

#include "nlp/vocabulary.h"

typedef struct {
    char *text;     /* where the lines stand */
    TextSpan *line; /* [count] */
    int64_t count;
} TextLines;
void text_lines_free(TextLines *);

typedef enum {
    LINES_END_IN_LF, /* of files: a CR, NEL or U+2028 is a character as any other */
    LINES_END_IN_ANY /* of the standard input: LF, CR LF or a CR alone */
} LineEnds;

/* Takes `text` of `size` bytes, also when it fails. STATUS_INPUT for what is not UTF-8 names `name`, line and column. */
CHECKED Status text_lines_split(const char *name, char *text, size_t size, LineEnds, TextLines *);
/* A file, decompressed where its name ends in .gz. */
CHECKED Status text_lines_read(const char *path, TextLines *);

/* Lines taken apart at TABs: cell[columns][count]. */
typedef struct {
    TextSpan *cell;
    int columns;
    int64_t count;
} TextColumns;
void text_columns_free(TextColumns *);

typedef enum {
    COLUMNS_OF_SYSTEMS, /* as many as the first line has, without white space at their end but for the first line's */
    COLUMNS_OF_REFERENCES, /* `count`, the last with all TABs that are left */
    COLUMNS_UP_TO,         /* at most as many as some line has; those missing are empty: data NULL */
} ColumnRule;
/* The cells stand in the lines' text. STATUS_INPUT for a line with another number, naming `name` and the line. */
CHECKED Status text_columns_split(const char *name, const TextLines *, ColumnRule, int count, TextColumns *);

#endif
