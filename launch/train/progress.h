/* What a person sees while a run goes on: on a terminal a bar that is redrawn, in a file plain lines, not too
 * many. */
#ifndef PLUMB_LAUNCH_TRAIN_PROGRESS_H
#define PLUMB_LAUNCH_TRAIN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    bool speaks, terminal;
    const char *unit;                /* of samples, for people: "images" */
    double started, drawn;           /* seconds on a steady clock */
    int64_t first_step, total_steps; /* of the whole run */
    int64_t samples;                 /* since it started */
} Progress;

double progress_clock(void);
/* speaks: is this rank 0? unit: of samples; a constant. first_step: steps done before (resume). */
void progress_start(Progress *, bool speaks, const char *unit, int64_t first_step, int64_t total_steps);
/* After a step: draws when it is time to. loss: mean over the epoch so far. */
void progress_step(Progress *, int64_t epoch, int64_t epochs, int64_t step, int64_t samples, double loss);
/* Before any other line is printed on a terminal: clears the bar. */
void progress_clear(Progress *);
double progress_rate(const Progress *); /* samples a second */

/* What the line of a terminal says. */
typedef struct {
    int64_t epoch, epochs; /* epoch from 1 */
    double done;           /* of all steps, 0 to 1 */
    double loss, rate;
    const char *unit, *left; /* "images", "3 min 10 s" */
} ProgressParts;
enum { PROGRESS_LINE = 256 };
/* The line in fewer than `width` columns: without its least useful parts where they find no room. */
void progress_line(const ProgressParts *, int width, char line[PROGRESS_LINE]);

#endif
