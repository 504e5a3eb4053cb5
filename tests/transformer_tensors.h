/* Tensors of golden Transformers under PyTorch's names, and a machine's parameters from and to them. */
#ifndef PLUMB_TESTS_TRANSFORMER_TENSORS_H
#define PLUMB_TESTS_TRANSFORMER_TENSORS_H

#include "tests/golden.h"
#include "tests/machine.h"

/* A tensor of the golden case. */
typedef struct {
    char name[160];
    int64_t count;
    const double *values;
    double *got; /* gradients or values of ours */
} Named;
typedef struct {
    int count;
    Named tensor[96];
} NamedTensors;

/* in_decoder: our names are those of a layer alone, one of the decoder. */
void load_parameters(const Machine *, NamedTensors *, bool in_decoder);
/* Into `got`; all of every tensor must come. */
void collect_parameters(const Machine *, NamedTensors *, bool in_decoder, bool gradients);

/* Compares with expected_files/ROLE, and releases what was got. */
void check_role(const GoldenCase *, const char *role, double *got, int64_t count);

#endif
