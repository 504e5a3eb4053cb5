#include "launch/sweep/sweep_slots.h"

#include "comm/processors.h"
#include "engine/base/memory.h"
#include "engine/device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the GPUs of the sweep ---- */

enum { MOST_GPUS = 256, GPU_NAME = 64 };

/* By what CUDA_VISIBLE_DEVICES names them. */
typedef struct {
    char name[MOST_GPUS][GPU_NAME];
    int count;
} Gpus;

/* The entries of a list; false: not all are numbers below `limit`. Slurm may write ranges. */
static bool read_numbers(const char *list, int limit, Gpus *gpus)
{
    gpus->count = 0;
    for (const char *at = list; *at != '\0';) {
        char *end;
        const long first = strtol(at, &end, 10);
        long last = first;
        if (end == at) return false;
        if (*end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
            if (end == at) return false;
        }
        if (first < 0 || last < first || last >= limit || (*end != ',' && *end != '\0')) return false;
        for (long number = first; number <= last && gpus->count < MOST_GPUS; ++number)
            (void)snprintf(gpus->name[gpus->count++], GPU_NAME, "%ld", number);
        at = *end == ',' ? end + 1 : end;
    }
    return gpus->count > 0;
}

/* The first entries are the GPUs that the driver shows, in their order: numbers, UUIDs or the beginnings of such. */
static void read_visible(const char *list, int visible, Gpus *gpus)
{
    gpus->count = 0;
    while (gpus->count < visible && *list != '\0') {
        list += strspn(list, " ");
        const size_t length = strcspn(list, ",");
        (void)snprintf(gpus->name[gpus->count++], GPU_NAME, "%.*s", (int)length, list);
        list += length + (list[length] == ',');
    }
}

static void find_gpus(Gpus *gpus)
{
    static const char *const of_slurm[] = {"SLURM_STEP_GPUS", "SLURM_JOB_GPUS"};
    const int seen = device_visible(DEVICE_CUDA), visible = seen < MOST_GPUS ? seen : MOST_GPUS;
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    gpus->count = 0;
    if (list != NULL) {
        read_visible(list, visible, gpus);
        return;
    }
    /* Slurm numbers the GPUs of the node; one that confines jobs shows the driver no others. */
    for (size_t i = 0; i < sizeof of_slurm / sizeof *of_slurm; ++i) {
        list = getenv(of_slurm[i]);
        if (list != NULL && read_numbers(list, visible, gpus) && gpus->count < visible) return;
    }
    gpus->count = 0;
    for (; gpus->count < visible; ++gpus->count)
        (void)snprintf(gpus->name[gpus->count], GPU_NAME, "%d", gpus->count);
}

/* A run with more ranks than there are GPUs has all of them; slots that are too many for the GPUs share some. */
static void give_gpus(const Gpus *gpus, int ranks, int slots, int number, Slot *slot)
{
    const int wanted = ranks < gpus->count ? ranks : gpus->count;
    const bool enough = (int64_t)slots * ranks <= gpus->count;
    const int64_t first = enough ? (int64_t)number * (gpus->count / slots) : (int64_t)number * wanted;
    size_t length = 0;
    for (int i = 0; i < wanted; ++i) {
        const char *name = gpus->name[(first + i) % gpus->count];
        if (length + strlen(name) + 2 > sizeof slot->gpus) return;
        length +=
            (size_t)snprintf(slot->gpus + length, sizeof slot->gpus - length, "%s%s", i > 0 ? "," : "", name);
    }
}

/* ---- the processors of the sweep ---- */

static int share(int64_t processors, int64_t ranks)
{
    return processors > ranks ? (int)(processors / ranks) : 1;
}

static void give_processors(const cpu_set_t *all, int ranks, int slots, int number, Slot *slot)
{
    processors_slice(all, number, slots, &slot->processors);
    const int quota = processors_quota() / slots, mine = CPU_COUNT(&slot->processors);
    slot->threads = share(mine < quota ? mine : quota, ranks);
    slot->bound = true;
}

static void describe(Slot *slot)
{
    char processors[SLOT_TEXT / 2];
    processors_text(&slot->processors, processors, sizeof processors);
    const bool on_gpus = slot->gpus[0] != '\0', by_uuid = strchr(slot->gpus, '-') != NULL;
    if (!on_gpus && !slot->bound) return;
    (void)snprintf(slot->text, sizeof slot->text, " on %s%.100s%s%s%s", on_gpus && !by_uuid ? "GPU " : "",
                   slot->gpus, on_gpus && slot->bound ? ", " : "", slot->bound ? "processors " : "",
                   slot->bound ? processors : "");
}

Status sweep_slots_make(const SlotOptions *options, Slot **slots, int *count)
{
    Gpus *gpus;
    cpu_set_t all;
    TRY(memory_new(&gpus, 1, sizeof *gpus, "the GPUs of the sweep"));
    if (options->gpus && !options->elsewhere) find_gpus(gpus);
    int64_t number = options->slots;
    if (number == 0) {
        number = gpus->count / options->ranks;
        if (number > options->waiting) number = options->waiting;
        if (number < 1) number = 1;
    }
    *count = (int)number;
    const Status status = memory_new(slots, (size_t)number, sizeof **slots, "the slots of the sweep");
    const bool known = sched_getaffinity(0, sizeof all, &all) == 0 && CPU_COUNT(&all) > 0;
    for (int i = 0; status == OK && number > 1 && i < *count; ++i) {
        Slot *slot = &(*slots)[i];
        slot->threads = share(sysconf(_SC_NPROCESSORS_ONLN), options->ranks * number);
        if (options->elsewhere) continue;
        if (gpus->count > 0) give_gpus(gpus, options->ranks, *count, i, slot);
        if (known) give_processors(&all, options->ranks, *count, i, slot);
        describe(slot);
    }
    free(gpus);
    return status;
}

void sweep_slot_enter(const Slot *slot)
{
    if (slot->gpus[0] != '\0') (void)setenv("CUDA_VISIBLE_DEVICES", slot->gpus, 1);
    if (slot->threads > 0) {
        char threads[16];
        (void)snprintf(threads, sizeof threads, "%d", slot->threads);
        (void)setenv("OMP_NUM_THREADS", threads, 0);
        /* mpirun would bind the first ranks of every run to the same processors. */
        (void)setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 0);
        (void)setenv("PRTE_MCA_hwloc_default_binding_policy", "none", 0);
    }
    /* A refusal of the kernel costs speed, not correctness. */
    if (slot->bound) (void)sched_setaffinity(0, sizeof slot->processors, &slot->processors);
}
