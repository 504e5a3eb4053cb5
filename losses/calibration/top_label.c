#include "losses/calibration/top_label.h"

#include <math.h>

int64_t top_label(const float row[], int64_t classes, double temperature, double *confidence)
{
    int64_t top = 0;
    double sum = 0;
    for (int64_t k = 1; k < classes; ++k)
        if (row[k] > row[top]) top = k;
    for (int64_t k = 0; k < classes; ++k)
        sum += exp(((double)row[k] - (double)row[top]) / temperature);
    *confidence = 1 / sum;
    return top;
}
