/* The numbers of one table or figure as data: CSV (RFC 4180, with a head) and JSON. */
#ifndef PLUMB_LAUNCH_REPORT_PAPER_DATA_H
#define PLUMB_LAUNCH_REPORT_PAPER_DATA_H

#include "engine/base/status.h"

#include <cJSON.h>
#include <stdint.h>
#include <stdio.h>

/* Filled row by row, cell by cell. Errors of memory stick and come out at the end. */
typedef struct {
    const char *const *column;
    int columns, at; /* the next cell's column */
    int64_t rows;    /* whole ones */
    FILE *stream;    /* of the CSV */
    char *csv;       /* after paper_data_close */
    size_t csv_size;
    cJSON *row;  /* that is being filled */
    cJSON *root; /* {"id", "title", "columns", "rows": [{column: value}]} */
    cJSON *list; /* root's rows */
} PaperData;

/* column[] must outlive the data. */
CHECKED Status paper_data_open(PaperData *, const char *id, const char *title, const char *const column[],
                               int columns);
void paper_data_text(PaperData *, const char *); /* NULL: no value (an empty cell, null) */
void paper_data_number(PaperData *, double);     /* NaN, infinity: no value */
/* No cell comes any more. *json is released with free(), csv by paper_data_free. */
CHECKED Status paper_data_close(PaperData *, char **json);
void paper_data_free(PaperData *); /* a zeroed one is allowed */

#endif
