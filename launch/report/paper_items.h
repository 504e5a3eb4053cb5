/* The paper's tables and figures, one row each: what the page shows and what it needs. */
#ifndef PLUMB_LAUNCH_REPORT_PAPER_ITEMS_H
#define PLUMB_LAUNCH_REPORT_PAPER_ITEMS_H

#include "launch/report/paper_data.h"
#include "launch/report/paper_runs.h"
#include "launch/report/theory.h"

#include <stdio.h>

/* Rows of paper_measure (paper_measures.c). */
enum {
    MEASURE_ERROR,
    MEASURE_ECE,
    MEASURE_ADA_ECE,
    MEASURE_CLASSWISE_ECE,
    MEASURE_NLL,
    MEASURE_MCE,
    MEASURE_BRIER,
    MEASURE_S99_SHARE,
    MEASURE_S99_ACCURACY,
    MEASURE_AUROC, /* context: names of sets, of which the first that the run has counts; NULL behind the last */
    MEASURE_EARLY_ERROR, /* context: by which measure of the validation split the model was chosen: "nll"; NULL: the last model */
    MEASURE_EARLY_ECE,
    MEASURE_BLEU, /* of translation, at temperature 1 */
    MEASURE_BEST_BLEU,
    MEASURE_BEST_BLEU_TEMPERATURE,
    PAPER_MEASURES
};

/* What the items of a page share. */
typedef struct {
    const PaperRuns *runs;
    Theory *theory;  /* NULL until the first item that asks for it: paper_theory */
    int compared;    /* published numbers beside which one of ours stands, each once, */
    int inside;      /* of these, those inside its 90 % interval, */
    int no_interval; /* and those where it has none */
    bool counted[PAPER_MEASURES][PAPER_SUBJECTS][PAPER_LOSSES][EVALUATE_STAGES];
} Paper;

typedef struct PaperItem PaperItem;

/* The one run that is drawn of `of` with different seeds. */
typedef struct {
    const char *seed; /* NULL: none */
    int of;
} PaperDrawn;

/* What an item is made into. */
typedef struct {
    const PaperItem *item;
    FILE *page;      /* its part of the page: HTML below the heading */
    PaperData data;  /* opened with the item's columns; the item fills it */
    int have, wants; /* numbers, or curves, that are there, of those that the paper has */
    bool missing_run[PAPER_SUBJECTS][PAPER_LOSSES]; /* experiments that are wanted and not complete, */
    int lacking;                                    /* and numbers that complete ones lack */
    PaperDrawn drawn[PAPER_SUBJECTS][PAPER_LOSSES]; /* by what has no mean over seeds */
} PaperPart;

struct PaperItem {
    const char *id;    /* "table_1": of the part in the page, and of its files */
    const char *name;  /* "Table 1" */
    const char *title; /* what it shows; HTML */
    const char *note;  /* how to read it; HTML; "" */
    const char *sweep; /* the file whose runs it needs; NULL: those of its subjects */
    const char *needs; /* what else its runs need, in words; HTML; NULL: nothing */
    const char *const *column;
    int columns; /* of its data */
    Status (*make)(Paper *, PaperPart *);
    const void *context; /* for `make` */
};
const PaperItem *paper_items(int *count);

/* The theory's numbers, made once a page. */
CHECKED Status paper_theory(Paper *, const Theory **);

/* ---- what makes items ---- */

typedef struct PaperMeasure {
    const char *key, *title; /* "ece", "ECE" */
    bool percent;
    int decimals;
    int better; /* -1: smaller, 1: larger, 0: neither */
    PaperValue value;
    double (*published)(int subject, int loss, int stage); /* NULL: not at hand */
} PaperMeasure;
extern const PaperMeasure paper_measure[PAPER_MEASURES];

/* A column of a table below each loss. */
typedef struct {
    const PaperMeasure *measure;
    int stage;
    const char *title; /* "before" */
} PaperColumn;

enum { PAPER_MOST_COLUMNS = 3, PAPER_MOST_BLOCKS = 2 };
typedef struct {
    const char *caption; /* NULL: none */
    PaperColumn column[PAPER_MOST_COLUMNS];
    int columns;
} PaperBlock;

typedef struct {
    int subject;
    const char *title;   /* behind the network's name; "": none */
    const void *context; /* for the measures' functions */
} PaperRow;

/* Rows by losses; each block is a table of the same rows. */
typedef struct {
    const PaperRow *row;
    int rows;
    const int *loss;
    int losses;
    const PaperBlock *block;
    int blocks;
} PaperTable;
CHECKED Status paper_table(Paper *, PaperPart *); /* context: PaperTable */
enum { PAPER_TABLE_COLUMNS = 17 };
extern const char *const paper_table_columns[PAPER_TABLE_COLUMNS];

#endif
