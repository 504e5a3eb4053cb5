/* temperatures.json of a run: whatever is read can be drawn. */
#include "launch/runs/bleu_curves.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    BleuCurves *curves;
    Status status = bleu_curves_parse((const char *)bytes, size, &curves);
    if (status == OK) {
        if (curves->count < 1 || curves->count > TEMPERATURE_MOST) abort();
        for (int i = 0; i < curves->count; ++i)
            if (!isfinite(curves->temperature[i]) || !(curves->temperature[i] > 0)) abort();
        const int best = bleu_curves_best(curves), near = bleu_curves_near(curves, curves->chosen_ece);
        if (best >= curves->count || near >= curves->count) abort();
        free(curves);
    }
    status_free(status);
    return 0;
}
