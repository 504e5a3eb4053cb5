#include "launch/train/log_view.h"

#include "engine/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name, *phase;
    int nodes;
    double seconds, flops, bytes; /* of this rank */
    double maximum, minimum;      /* seconds, over ranks */
} Row;

static int slowest_first(const void *a, const void *b)
{
    const Row *left = a, *right = b;
    if (left->maximum != right->maximum) return left->maximum > right->maximum ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* Every rank runs the same graph, so row i is the same op everywhere. */
static Status compare_ranks(Session *session, Row row[], int count)
{
    const int size = session->world->size;
    double *mine, *all = NULL;
    Status status;
    TRY(memory_new(&mine, (size_t)count, sizeof *mine, "profile"));
    TRY_ELSE(done, memory_new(&all, (size_t)count * (size_t)size, sizeof *all, "profile"));
    for (int i = 0; i < count; ++i)
        mine[i] = row[i].seconds;
    TRY_ELSE(done, collective_gather(session->host_collective, (Span){mine, count, FLOAT64},
                                     (Span){all, (int64_t)count * size, FLOAT64}, NULL));
    TRY_ELSE(done, collective_join(session->host_collective, NULL));
    for (int i = 0; i < count; ++i) {
        row[i].maximum = row[i].minimum = all[i];
        for (int rank = 1; rank < size; ++rank) {
            const double seconds = all[(size_t)rank * (size_t)count + (size_t)i];
            if (seconds > row[i].maximum) row[i].maximum = seconds;
            if (seconds < row[i].minimum) row[i].minimum = seconds;
        }
    }
done:
    free(mine);
    free(all);
    return status;
}

static void print_plan(const Session *session)
{
    static const double mega = 1e6;
    const Program *program = &session->train.program[0];
    const PlanReport report = plan_report(program->plan);
    (void)printf("\nPlan of one training step on rank 0 (%lld samples, %s)\n", (long long)program->shape.rows,
                 device_name(session->device));
    (void)printf("  arena %.1f MB for tensors of %.1f MB in all (%.0f %%); largest scratch %.1f MB\n",
                 (double)report.arena_bytes / mega, (double)report.tensor_bytes / mega,
                 report.tensor_bytes > 0 ? 100.0 * (double)report.arena_bytes / (double)report.tensor_bytes
                                         : 0,
                 (double)report.scratch_bytes / mega);
    (void)printf("  parameters %.1f MB, gradients %.1f MB in %d buckets, states %.1f MB\n",
                 (double)report.parameter_bytes / mega, (double)report.gradient_bytes / mega, report.buckets,
                 (double)report.state_bytes / mega);
    (void)printf(
        "  %d nodes, %d chains fused, %d results in place, %d views; %.2f Gflop and %.2f GB a step\n",
        report.nodes, program->fused, report.in_place, report.views, report.flops / 1e9, report.bytes / 1e9);
}

static void print_rows(const Row row[], int count, const DevicePeaks *peaks)
{
    /* A GPU's layers are matrix products. */
    const bool matrix = peaks->matrix_flops_per_second > 0;
    const double flops = matrix ? peaks->matrix_flops_per_second : peaks->flops_per_second;
    double total = 0;
    for (int i = 0; i < count; ++i)
        total += row[i].maximum;
    (void)printf("\n%-32s %-9s %6s %9s %6s %6s %10s %6s %9s %6s\n", "op", "phase", "nodes", "seconds",
                 "share", "ratio", "Gflop/s", "peak", "GB/s", "peak");
    for (int i = 0; i < count; ++i) {
        const Row *r = &row[i];
        (void)printf("%-32s %-9s %6d %9.3f %5.1f%% %6.2f", r->name, r->phase, r->nodes, r->maximum,
                     total > 0 ? 100 * r->maximum / total : 0,
                     r->minimum > 0 ? r->maximum / r->minimum : 1.0);
        if (r->seconds > 0 && r->flops > 0)
            (void)printf(" %10.1f %5.1f%%", r->flops / r->seconds / 1e9, 100 * r->flops / r->seconds / flops);
        else
            (void)printf(" %10s %6s", "", "");
        if (r->seconds > 0 && r->bytes > 0)
            (void)printf(" %9.2f %5.1f%%", r->bytes / r->seconds / 1e9,
                         100 * r->bytes / r->seconds / peaks->bytes_per_second);
        (void)printf("\n");
    }
    (void)printf("%-32s %-9s %6s %9.3f\n", "total", "", "", total);
    (void)printf(
        "measured peaks of rank 0: %.1f Gflop/s (%s), %.2f GB/s (copy); ratio: slowest to fastest rank\n",
        flops / 1e9, matrix ? "bfloat16 matrix product" : "float32 multiply-add",
        peaks->bytes_per_second / 1e9);
}

Status log_view_print(const LogView *view, Session *session)
{
    const ProfileRow *profile;
    const int ops = plan_profile(session->train.program[0].plan, &profile);
    DevicePeaks peaks;
    Row *row;
    int count = 0;
    Status status = OK;
    TRY(memory_new(&row, (size_t)ops + 4, sizeof *row, "profile"));
    for (int i = 0; i < ops; ++i)
        row[count++] = (Row){.name = profile[i].op,
                             .phase = profile[i].phase == PHASE_FORWARD ? "forward" : "backward",
                             .nodes = profile[i].nodes,
                             .seconds = profile[i].seconds,
                             .flops = profile[i].flops,
                             .bytes = profile[i].bytes};
    row[count++] = (Row){.name = "optimizer", .phase = "step", .seconds = view->optimizer_seconds};
    row[count++] = (Row){.name = "waiting for data", .phase = "step", .seconds = view->data_seconds};
    row[count++] = (Row){.name = "waiting for other ranks",
                         .phase = "step",
                         .seconds = plan_join_seconds(session->train.program[0].plan)};
    TRY_ELSE(done, compare_ranks(session, row, count));
    TRY_ELSE(done, device_measure_peaks(session->device, &peaks));
    qsort(row, (size_t)count, sizeof *row, slowest_first);
    if (session->world->rank == 0) {
        print_plan(session);
        print_rows(row, count, &peaks);
    }
done:
    free(row);
    return status;
}
