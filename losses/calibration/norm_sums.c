#include "losses/calibration/norm_sums.h"

#include "losses/calibration/threads.h"

#include <math.h>

void norm_sums_add(NormSums *sums, int kind, const double norm[], const float weight[], int64_t rows)
{
    for (int64_t row = 0; row < rows; ++row) {
        if (weight[row] == 0) continue;
        ++sums->samples[kind];
        if (norm[row] <= EXACT_SUM_LARGEST) /* not NaN */
            exact_sum_add(&sums->sum[kind], norm[row]);
        else
            ++sums->beyond[kind];
        if (kind == NORM_GRADIENT && !isnan(norm[row])) ++sums->bin[gradient_norm_bin(norm[row])];
    }
}

Status norm_sums_reduce(Collective *collective, NormSums *sums)
{
    TRY(exact_sum_reduce(collective, sums->sum, NORM_KINDS));
    TRY(counts_reduce(collective, sums->samples, NORM_KINDS));
    TRY(counts_reduce(collective, sums->beyond, NORM_KINDS));
    return counts_reduce(collective, sums->bin, NORM_BINS);
}

double norm_sums_mean(const NormSums *sums, int kind)
{
    if (sums->samples[kind] == 0 || sums->beyond[kind] > 0) return NAN;
    return exact_sum_value(sums->sum[kind]) / (double)sums->samples[kind];
}

void gradient_norms(const LossHead *head, int64_t epoch, const GradientRows *rows, int threads, double *row,
                    double *norm)
{
#pragma omp parallel for num_threads(team_size(threads, rows->rows)) schedule(static)
    for (int64_t i = 0; i < rows->rows; ++i) {
        double *mine = row + omp_get_thread_num() * rows->classes;
        norm[i] = 0;
        if (rows->weights[i] == 0) continue;
        for (int64_t k = 0; k < rows->classes; ++k)
            mine[k] = (double)rows->logits[i * rows->classes + k];
        norm[i] = gradient_norm_of_logits(head, epoch, mine, rows->classes, rows->labels[i]) *
                  hypot(rows->features[i], 1);
    }
}
