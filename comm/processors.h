/* Shares of the host's processors. Linux; knows no MPI. */
#ifndef PLUMB_COMM_PROCESSORS_H
#define PLUMB_COMM_PROCESSORS_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

/* What the ranks of a host tell each other before they divide it. */
typedef struct {
    cpu_set_t allowed; /* processors that this rank may use */
    bool known;        /* false where the kernel would not say */
    bool chosen;       /* the user chose the binding (mpirun --bind-to, srun): leave it alone */
} Processors;

/* What this process may use: its own mask, or, when the launcher narrowed that by default only (Open MPI
 * binds each rank of a small job to one core), the launcher's. */
Processors processors_find(void);

/* Part `index` of `parts` equal slices of `all`; neighbours in a slice share a package and a core where they
 * can. With more parts than processors, parts share them. `all` must not be empty. */
void processors_slice(const cpu_set_t *all, int index, int parts, cpu_set_t *slice);

/* "0-3,8" */
void processors_text(const cpu_set_t *, char *text, size_t size);

/* Whole processors that the control group grants per unit of time (containers), at least 1; INT_MAX if it
 * sets no limit. */
int processors_quota(void);

/* Chooses the number of threads of the rank with `all[index]`, where all[0 .. count) are the ranks of the
 * host, and sets the affinity of the calling thread if nobody else chose it. To be called before OpenMP
 * starts threads, because they inherit it; also tells OpenMP the number. */
int processors_take(const Processors *all, int index, int count);

#endif
