/* dynamics.jsonl and best_models.json of a run: whatever is read can be drawn. */
#include "launch/runs/run_dynamics.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_dynamics(const RunDynamics *dynamics)
{
    double end = 0;
    if (isnan(dynamics->epoch) && (dynamics->gradient_bins > 0 || dynamics->reliability.bins > 0)) abort();
    if (dynamics->gradient_bins > 0 && !(dynamics->gradient_samples > 0)) abort();
    for (int i = 0; i < dynamics->gradient_bins; ++i) {
        const RunNormBin *bin = &dynamics->gradient_bin[i];
        if (!(bin->lower >= end && bin->upper > bin->lower && bin->count >= 0)) abort();
        end = bin->upper;
    }
    for (int i = 0; i < dynamics->reliability.bins; ++i) {
        const CalibrationBin *bin = &dynamics->reliability.bin[i];
        if (!(bin->lower < bin->upper && bin->upper <= 1 && bin->count >= 0)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    RunRecords records = {.dynamics = NULL};
    status_free(run_records_parse_dynamics(&records, "dynamics.jsonl", (const char *)bytes, size));
    status_free(run_records_parse_best_models(&records, "best_models.json", (const char *)bytes, size));
    for (int i = 0; i < records.dynamics_count; ++i)
        check_dynamics(&records.dynamics[i]);
    for (int i = 0; i < records.best_count; ++i)
        (void)run_summary_before(&records.best[i].evaluated);
    run_records_free(&records);
    return 0;
}
