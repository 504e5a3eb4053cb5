#include "launch/train/session_device.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Which GPU is this rank's: that of its place on the host. A launcher may instead show each rank its own
 * only. */
static Status open_gpu(const World *world, int threads, Device **device)
{
    Status why;
    const int count = device_count(DEVICE_CUDA, &why);
    if (count == 0) return why;
    return device_open(DEVICE_CUDA, world->local_rank % count, threads, device);
}

/* How a user has the CPU instead: training by its config, a run by an option. */
static const char *cpu_words(const Experiment *experiment)
{
    return experiment->trains ? "device=cpu" : "--device cpu";
}

/* A GPU or an error, as PyTorch has it: a run of days should not begin on the CPU unnoticed. */
static Status open_wished_gpu(const World *world, const Experiment *experiment, int threads, Device **device)
{
    Status why = open_gpu(world, threads, device);
    if (why == OK || status_code(why) != STATUS_UNSUPPORTED) return why;
    Status status = fail(STATUS_UNSUPPORTED, "device: cuda asks for a GPU, but %s; with %s the CPU computes",
                         status_message(why), cpu_words(experiment));
    status_free(why);
    return status;
}

static Status open_chosen(const World *world, const Experiment *experiment, Device **device)
{
    const DeviceWish wish = experiment->device;
    const int threads = experiment->threads != 0 ? experiment->threads : comm_threads(world);
    if (wish == DEVICE_WISH_CUDA) return open_wished_gpu(world, experiment, threads, device);
    if (wish == DEVICE_WISH_AUTO) {
        Status why;
        if (device_count(DEVICE_CUDA, &why) > 0) return open_gpu(world, threads, device);
        /* Where there is a driver somebody expects it to be used. */
        if (device_has_driver(DEVICE_CUDA) || access("/dev/nvidiactl", F_OK) == 0)
            log_warning("running on the CPU: %s", status_message(why));
        status_free(why);
    }
    return device_open(DEVICE_CPU, 0, threads, device);
}

Status session_open_device(const World *world, const Experiment *experiment, Device **device)
{
    *device = NULL;
    TRY(open_chosen(world, experiment, device));
    device_set_numerics(*device, experiment->numerics);
    return OK;
}

/* All ranks on the same kind of device, each on its own GPU. */
static Status check_all(World *world, Device *device, const Experiment *experiment)
{
    typedef struct {
        char host[sizeof world->host], name[256], identity[64];
        int64_t kind;
    } RankDevice;
    if (world->size == 1) return OK;
    RankDevice mine = {.kind = device_kind(device)}, *all;
    (void)snprintf(mine.host, sizeof mine.host, "%s", world->host);
    (void)snprintf(mine.name, sizeof mine.name, "%s", device_name(device));
    (void)snprintf(mine.identity, sizeof mine.identity, "%s", device_identity(device));
    TRY(memory_new(&all, (size_t)world->size, sizeof *all, "the ranks' devices"));
    Status status = comm_gather(world, &mine, sizeof mine, all, "the ranks' devices");
    for (int i = 1; i < world->size && status == OK; ++i) {
        if (all[i].kind != all[0].kind) {
            status = fail(STATUS_INPUT,
                          "rank 0 on host %s runs on %s, but rank %d on host %s on %s: give "
                          "each rank a GPU, or none by %s",
                          all[0].host, all[0].name, i, all[i].host, all[i].name, cpu_words(experiment));
            break;
        }
        for (int j = 0; j < i && status == OK && !experiment->share_gpus && all[i].identity[0] != '\0'; ++j)
            if (strcmp(all[i].identity, all[j].identity) == 0 && strcmp(all[i].host, all[j].host) == 0)
                status = fail(STATUS_INPUT,
                              "ranks %d and %d share one GPU of host %s (%s): start no more ranks there than "
                              "it has GPUs, or "
                              "set share_gpus: true for a test",
                              j, i, all[i].host, all[i].name);
    }
    free(all);
    return status;
}

Status session_check_devices(World *world, Device *device, const Experiment *experiment)
{
    return comm_agree(world, check_all(world, device, experiment));
}
