/* plumb theory: the paper's propositions as numbers, tables and figures, in seconds on a CPU. */
#ifndef PLUMB_LAUNCH_THEORY_H
#define PLUMB_LAUNCH_THEORY_H

#include "comm/comm.h"
#include "launch/report/theory_network.h"
#include "losses/linear_experiment.h"

#include <stdio.h>

enum { THEORY_CURVES = 5, THEORY_POINTS = 201, THEORY_THRESHOLDS = 10, THEORY_LINEAR = 3 };

typedef struct {
    double gamma[THEORY_CURVES];
    double place[THEORY_POINTS];                    /* p, and q, from 0 to 1 */
    double factor[THEORY_CURVES][THEORY_POINTS];    /* Figure 3a: g(p, gamma) */
    double minimiser[THEORY_CURVES][THEORY_POINTS]; /* Figure B.1: the best p for q */
    struct {
        double p0, lambert, search;
    } threshold[THEORY_THRESHOLDS];     /* Proposition 2 */
    TheoryNetwork network;              /* Proposition 1 */
    LinearData data;                    /* appendix C */
    double linear_gamma[THEORY_LINEAR]; /* 0: cross-entropy */
    LinearResult linear[THEORY_LINEAR];
} Theory;

CHECKED Status theory_make(Theory *);
/* Of it what Figures 3a, B.1, C.1 and C.2 are made of; the rest is 0. */
void theory_figures(Theory *);
void theory_print(const Theory *, FILE *);
/* All of it as JSON text, and as one HTML page with the figures; released with free(). */
CHECKED Status theory_json(const Theory *, char **text);
CHECKED Status theory_html(const Theory *, char **html);

/* The command: see `plumb theory --help`. */
CHECKED Status command_theory(World *, int argc, char **argv);
extern const char theory_help[];

#endif
