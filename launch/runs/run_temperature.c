#include "launch/runs/run_temperature.h"

#include "engine/base/log.h"
#include "launch/runs/json_file.h"

#include <stdio.h>
#include <string.h>

/* Evaluations of earlier versions do not say what was evaluated: it was the last checkpoint. */
static void check_evaluated(const RunFolder *run, const char *option, const char *checkpoint, int64_t step,
                            const cJSON *evaluation)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(evaluation, "step");
    const bool known = cJSON_IsNumber(number);
    if (!known && strcmp(checkpoint, "last") == 0) return;
    if (known && step == (int64_t)number->valuedouble) return;
    char of[64] = "";
    if (known) (void)snprintf(of, sizeof of, " (step %lld)", (long long)number->valuedouble);
    log_warning("%s: the temperature of %s/evaluation.json was chosen for the checkpoint that was the last "
                "then%s, not for %s; plumb evaluate %s --checkpoint %s chooses one for it",
                option, run->path, of, checkpoint, run->path, checkpoint);
}

Status run_temperature(const RunFolder *run, const char *option, const char *checkpoint, int64_t step,
                       double *temperature)
{
    char path[PATH_MAX];
    cJSON *document;
    TRY(file_join(path, run->path, "evaluation.json"));
    if (!file_exists(path))
        return fail(STATUS_INPUT, "%s has no evaluation yet, which would choose a temperature (%s)",
                    run->path, option);
    TRY(json_file_read(path, &document));
    const cJSON *chosen = cJSON_GetObjectItemCaseSensitive(document, "temperature");
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(chosen, "ece");
    Status status = OK;
    if (cJSON_IsNumber(number) && number->valuedouble > 0) {
        *temperature = number->valuedouble;
        check_evaluated(run, option, checkpoint, step, document);
    } else {
        status = fail(STATUS_INPUT, "%s: the evaluation chose no temperature: there was no validation split",
                      path);
    }
    cJSON_Delete(document);
    return status;
}
