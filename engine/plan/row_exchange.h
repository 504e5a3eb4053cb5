/* The gradients of tables that are trained by rows, on their way through the other ranks. Private to engine/plan/. */
#ifndef PLUMB_ENGINE_PLAN_ROW_EXCHANGE_H
#define PLUMB_ENGINE_PLAN_ROW_EXCHANGE_H

#include "engine/device/collective.h"
#include "engine/plan/store.h"

typedef struct RowExchange RowExchange;

/* *out is NULL if the store has no such tables. What is passed must outlive it. */
CHECKED Status row_exchange_create(Store *, Collective *, RowExchange **out);
void row_exchange_free(RowExchange *); /* NULL is allowed */

/* Starts to gather every rank's rows, after backward; a table that the graph does not train contributes none.
 * Collective: the order is the store's. */
CHECKED Status row_exchange_start(RowExchange *, const Graph *);
/* After the collective was joined: all_rows of each table holds the sums, added in the order of the ranks. */
CHECKED Status row_exchange_finish(RowExchange *);

#endif
