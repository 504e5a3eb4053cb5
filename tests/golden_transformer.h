/* Golden Transformers as ours: sizes of a case, and its weights under our names. */
#ifndef PLUMB_TESTS_GOLDEN_TRANSFORMER_H
#define PLUMB_TESTS_GOLDEN_TRANSFORMER_H

#include "engine/plan/store.h"
#include "models/transformer.h"
#include "tests/golden.h"

/* Without dropout. */
Transformer golden_transformer(const GoldenCase *);
/* Fills every parameter of the store from inputs/weights and inputs/index. */
void golden_transformer_fill(const GoldenCase *, Store *);

#endif
