#include "launch/train/run_use.h"

#include <string.h>

typedef struct {
    const char *value, *word;
} Choice;

static const Choice devices[] = {{"auto", "device=auto"}, {"cpu", "device=cpu"}, {"cuda", "device=cuda"}};
static const Choice types[] = {{"float32", "compute=float32"}, {"bfloat16", "compute=bfloat16"}};
enum { DEVICES = sizeof devices / sizeof *devices, TYPES = sizeof types / sizeof *types };

/* NULL: there is no such one. */
static const char *find(const Choice choices[], int count, const char *value)
{
    for (int i = 0; i < count; ++i)
        if (strcmp(choices[i].value, value) == 0) return choices[i].word;
    return NULL;
}

Status run_use_check(const RunUse *use)
{
    if (use->device != NULL && find(devices, DEVICES, use->device) == NULL)
        return fail(STATUS_USAGE, "--device takes auto, cpu or cuda, not %s", use->device);
    if (use->compute != NULL && find(types, TYPES, use->compute) == NULL)
        return fail(STATUS_USAGE, "--compute takes float32 or bfloat16, not %s", use->compute);
    return OK;
}

int run_use_words(const RunUse *use, const char *words[RUN_USE_WORDS])
{
    int count = 0;
    if (use->device != NULL) {
        words[count++] = find(devices, DEVICES, use->device);
        words[count++] = "collective=auto"; /* the run's may be for another device */
    }
    if (use->compute != NULL) words[count++] = find(types, TYPES, use->compute);
    return count;
}
