#include "losses/calibration/kernel_error.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "losses/calibration/threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const kernel_names[KERNELS] = {"laplacian", "gaussian"};

static const double largest_term = 2; /* of |h| */

static double distance(const double *a, const double *b, int64_t classes)
{
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k)
        sum += (a[k] - b[k]) * (a[k] - b[k]);
    return sqrt(sum);
}

static int compare_numbers(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static Status median_distance(const ProbabilitySet *set, int threads, double *median)
{
    const int64_t count = set->count, pairs = count * (count - 1) / 2;
    double *all;
    TRY(memory_new(&all, (size_t)pairs, sizeof *all, "distances of samples"));
#pragma omp parallel for schedule(dynamic) num_threads(team_size(threads, count))
    for (int64_t i = 1; i < count; ++i)
        for (int64_t j = 0; j < i; ++j)
            all[i * (i - 1) / 2 + j] =
                distance(set->p + i * set->classes, set->p + j * set->classes, set->classes);
    qsort(all, (size_t)pairs, sizeof *all, compare_numbers);
    *median = pairs % 2 != 0 ? all[pairs / 2] : (all[pairs / 2 - 1] + all[pairs / 2]) / 2;
    free(all);
    return OK;
}

static double kernel_term(const ProbabilitySet *set, const KernelError *error, int64_t i, int64_t j)
{
    const double *p = set->p + i * set->classes, *q = set->p + j * set->classes;
    const double far = distance(p, q, set->classes) / error->width;
    double product = 0;
    for (int64_t k = 0; k < set->classes; ++k)
        product += p[k] * q[k];
    const double kernel = error->form == KERNEL_LAPLACIAN ? exp(-far) : exp(-far * far / 2);
    return kernel * ((set->label[i] == set->label[j]) - p[set->label[j]] - q[set->label[i]] + product);
}

/* terms [count, count] */
static void kernel_terms(const ProbabilitySet *set, const KernelError *error, int threads, double *terms)
{
    const int64_t count = set->count;
#pragma omp parallel for schedule(dynamic) num_threads(team_size(threads, count))
    for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j <= i; ++j)
            terms[i * count + j] = terms[j * count + i] = kernel_term(set, error, i, j);
}

static void kernel_means(const double *terms, KernelError *error)
{
    const int64_t count = error->samples;
    const double n = (double)count;
    double all = 0, diagonal = 0;
    for (int64_t i = 0; i < count; ++i) {
        double row = 0;
        for (int64_t j = 0; j < count; ++j)
            row += terms[i * count + j];
        all += row;
        diagonal += terms[i * count + i];
    }
    error->biased = all / (n * n);
    error->unbiased = (all - diagonal) / (n * (n - 1));
    error->statistic = n / (n - 1) * error->unbiased - error->biased;
    const double excess = fmax(0, sqrt(n * fmax(error->biased, 0) / largest_term) - 1);
    const double scaled = error->unbiased / largest_term;
    error->bound_biased = exp(-excess * excess / 2);
    error->bound_unbiased = error->unbiased > 0 ? exp(-floor(n / 2) * scaled * scaled / 2) : 1;
}

static void block_test(const double *terms, int64_t count, int64_t size, BlockTest *test)
{
    *test = (BlockTest){
        .size = size, .blocks = count / size, .estimate = NAN, .standard_error = NAN, .z = NAN, .p = NAN};
    if (test->blocks < 2) return;
    const double blocks = (double)test->blocks, pairs = (double)(size * (size - 1));
    double sum = 0, squares = 0;
    for (int pass = 0; pass < 2; ++pass) /* the mean, then the squares about it */
        for (int64_t block = 0; block < test->blocks; ++block) {
            double estimate = 0;
            for (int64_t i = block * size; i < (block + 1) * size; ++i)
                for (int64_t j = block * size; j < (block + 1) * size; ++j)
                    if (i != j) estimate += terms[i * count + j] / pairs;
            if (pass == 0)
                sum += estimate;
            else
                squares += (estimate - sum / blocks) * (estimate - sum / blocks);
        }
    test->estimate = sum / blocks;
    test->standard_error = sqrt(squares / (blocks - 1) / blocks);
    test->z = test->estimate / test->standard_error;
    test->p = erfc(test->z / sqrt(2.0)) / 2;
}

/* With counts c_i of a resample: sum over i < j of h_i*j* = (c' H c - sum_i c_i h_ii) / 2, and sum over i, j of h_i*j = c' H 1. */
static bool is_extreme(const double *terms, const double *rows, const KernelError *error, uint64_t seed,
                       int64_t replicate, int32_t *tally)
{
    const int64_t count = error->samples;
    const double n = (double)count;
    RandomStream stream =
        random_stream(seed ^ random_name_key("kernel"), RANDOM_BOOTSTRAP, (uint64_t)replicate);
    memset(tally, 0, (size_t)count * sizeof *tally);
    for (int64_t i = 0; i < count; ++i)
        tally[random_below(&stream, (uint64_t)count)] += 1;
    double pairs = 0, cross = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (tally[i] == 0) continue;
        double row = 0;
#pragma omp simd reduction(+ : row)
        for (int64_t j = 0; j < count; ++j)
            row += tally[j] * terms[i * count + j];
        pairs += tally[i] * (row - terms[i * count + i]);
        cross += tally[i] * rows[i];
    }
    return pairs / (n * (n - 1)) - 2 * cross / (n * n) >= error->statistic;
}

static Status asymptotic_test(const double *terms, const KernelOptions *options, int threads,
                              KernelError *error)
{
    const int64_t count = error->samples;
    const int team = team_size(threads, options->resamples);
    double *rows = NULL;
    int32_t *tally = NULL;
    int64_t extreme = 0;
    Status status;
    TRY_ELSE(done, memory_new(&rows, (size_t)count, sizeof *rows, "sums of rows"));
    TRY_ELSE(done, memory_new(&tally, (size_t)team * (size_t)count, sizeof *tally, "counts of samples"));
    for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < count; ++j)
            rows[i] += terms[i * count + j];
#pragma omp parallel for schedule(static) num_threads(team) reduction(+ : extreme)
    for (int64_t r = 0; r < options->resamples; ++r)
        extreme += is_extreme(terms, rows, error, options->seed, r, tally + omp_get_thread_num() * count);
    error->p = options->resamples > 0 ? (double)extreme / (double)options->resamples : NAN;
done:
    free(rows);
    free(tally);
    return status;
}

Status kernel_error(const ProbabilitySet *set, const KernelOptions *options, int threads, KernelError *error)
{
    static const int64_t block_size[KERNEL_BLOCK_TESTS] = {2, 10};
    double *terms = NULL;
    Status status;
    *error = (KernelError){.form = options->form, .samples = set->count, .resamples = options->resamples};
    if (set->count < 2) return fail(STATUS_INPUT, "the kernel calibration error needs two samples");
    TRY(median_distance(set, threads, &error->median_distance));
    error->width = options->width > 0 ? options->width : error->median_distance;
    if (!(error->width > 0))
        error->width = 1; /* all samples have the same probabilities: any width will do */
    TRY_ELSE(done, memory_new(&terms, (size_t)set->count, (size_t)set->count * sizeof *terms, "kernels"));
    kernel_terms(set, error, threads, terms);
    kernel_means(terms, error);
    for (int i = 0; i < KERNEL_BLOCK_TESTS; ++i)
        block_test(terms, set->count, block_size[i], &error->block[i]);
    TRY_ELSE(done, asymptotic_test(terms, options, threads, error));
done:
    free(terms);
    return status;
}
