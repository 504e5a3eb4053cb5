/* A libcuda.so.1 for tests. Without more it is an NVIDIA driver that is older than the toolkit: CUDA's runtime asks it
 * for nothing else then. PLUMB_TEST_GPUS=N makes it one with N GPUs, of which CUDA_VISIBLE_DEVICES hides some as it
 * does with NVIDIA's: by number, or by the first letters of "GPU-" and a UUID (here the number in eight digits and
 * zeros); what follows an entry that names no GPU is hidden too. The runtime can open none of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NO_DEVICE = 100, MOST = 64 };

int cuDriverGetVersion(int *version);
int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);

static int made(void)
{
    const char *text = getenv("PLUMB_TEST_GPUS");
    const int gpus = text != NULL ? atoi(text) : 0;
    return gpus < MOST ? gpus : MOST;
}

int cuDriverGetVersion(int *version)
{
    *version = made() > 0 ? 99000 : 11080;
    return SUCCESS;
}

/* The GPU that an entry of the list names; -1: none. */
static int named(const char *entry)
{
    char uuid[64], *end;
    const long number = strtol(entry, &end, 10);
    if (end != entry && *end == '\0') return number >= 0 && number < made() ? (int)number : -1;
    int found = -1;
    for (int gpu = 0; gpu < made(); ++gpu) {
        (void)snprintf(uuid, sizeof uuid, "GPU-%08d-0000-0000-0000-000000000000", gpu);
        if (strlen(entry) <= 4 || strncmp(uuid, entry, strlen(entry)) != 0) continue;
        if (found >= 0) return -1; /* of several */
        found = gpu;
    }
    return found;
}

int cuDeviceGetCount(int *count)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    char text[4096], *rest = NULL;
    *count = visible == NULL ? made() : 0;
    if (visible == NULL) return SUCCESS;
    (void)snprintf(text, sizeof text, "%s", visible);
    for (const char *entry = strtok_r(text, ",", &rest); entry != NULL && named(entry) >= 0;
         entry = strtok_r(NULL, ",", &rest))
        ++*count;
    return SUCCESS;
}

int cuInit(unsigned flags)
{
    int count = 0;
    (void)flags;
    return cuDeviceGetCount(&count) == SUCCESS && count > 0 ? SUCCESS : NO_DEVICE;
}
