/* A calibrator's file: whatever is read is a map that gives probabilities. */
#include "losses/calibration/calibrator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    enum { MOST_CLASSES = 1000 };
    static double x[MOST_CLASSES], p[MOST_CLASSES];
    char *text = malloc(size + 1);
    if (text == NULL) return 0;
    memcpy(text, bytes, size);
    text[size] = '\0';
    Calibrator calibrator;
    Status status = calibrator_parse("fuzz", text, &calibrator);
    if (status == OK && calibrator.classes <= MOST_CLASSES) {
        const Logits set = {.name = "row",
                            .type = FLOAT64,
                            .values = x,
                            .probabilities = calibrator.map != NULL,
                            .count = 1,
                            .total = 1,
                            .classes = calibrator.classes};
        for (int64_t k = 0; k < calibrator.classes; ++k)
            x[k] = set.probabilities ? 1 / (double)calibrator.classes : (double)(k % 7) - 3;
        status = calibrator_apply(&calibrator, &set, 1, p);
        for (int64_t k = 0; status == OK && calibrator.map != NULL && k < calibrator.classes; ++k)
            if (!(p[k] >= 0 && p[k] <= 1 + 1e-9)) abort();
    }
    status_free(status);
    calibrator_free(&calibrator);
    free(text);
    return 0;
}
