#include "launch/train/saver.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/runs/run_extension.h"
#include "launch/train/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

/* A model for evaluation ("best", "epoch-0010"), which was what it is at that position. Rank 0. */
static Status write_model(const Saver *saver, HostCopy *model, const Position *position, const char *stem)
{
    char step[32], epoch[32], vocabulary[VOCABULARY_TEXT];
    task_vocabulary_text(saver->session->data, vocabulary);
    (void)snprintf(step, sizeof step, "%" PRId64, position->step);
    (void)snprintf(epoch, sizeof epoch, "%" PRId64, position->epoch + 1);
    const SafeMetadata metadata[] = {{"step", step}, {"epoch", epoch}, {"vocabulary", vocabulary}};
    return checkpoint_write_model(model, saver->run->checkpoints, stem, metadata,
                                  vocabulary[0] != '\0' ? 3 : 2);
}

/* Rank 0. */
static Status write_checkpoint(const Saver *saver, const Position *position)
{
    const char *best = saver->session->experiment.checkpoint.best->name;
    char stem[64], ranks[16], best_key[64], vocabulary[VOCABULARY_TEXT], text[5 + LOSS_SUMS][40];
    task_vocabulary_text(saver->session->data, vocabulary);
    (void)snprintf(ranks, sizeof ranks, "%d", saver->session->world->size);
    (void)snprintf(stem, sizeof stem, "step-%010" PRId64, position->step);
    (void)snprintf(best_key, sizeof best_key, "best_%s", best);
    (void)snprintf(text[0], sizeof text[0], "%" PRId64, position->step);
    (void)snprintf(text[1], sizeof text[1], "%" PRId64, position->epoch);
    (void)snprintf(text[2], sizeof text[2], "%" PRId64, position->batch);
    (void)snprintf(text[3], sizeof text[3], "%016" PRIx64, saver->config_hash);
    (void)snprintf(text[4], sizeof text[4], "%a", position->best);
    for (int i = 0; i < LOSS_SUMS; ++i)
        (void)snprintf(text[5 + i], sizeof text[5 + i], "%a", position->sums[i]);
    const SafeMetadata metadata[] = {
        {"step", text[0]},   {"epoch", text[1]},        {"batch", text[2]},      {"config", text[3]},
        {best_key, text[4]}, {"loss_sum", text[5]},     {"weight_sum", text[6]}, {"correct_sum", text[7]},
        {"ranks", ranks},    {"vocabulary", vocabulary}};
    const int rows = (int)(sizeof metadata / sizeof metadata[0]) - (vocabulary[0] == '\0' ? 1 : 0);
    TRY(checkpoint_save(saver->session->store, saver->run->checkpoints, stem, metadata, rows));
    return run_folder_prune(saver->run, stem);
}

/* The best model first: of what the checkpoint says was found there is always a file. */
Status saver_save(Saver *saver, const Position *position)
{
    const double started = progress_clock();
    Status status = OK;
    if (saver->best != NULL) status = write_model(saver, saver->best, &saver->best_position, "best");
    host_copy_free(saver->best);
    saver->best = NULL;
    if (status == OK && saver->session->world->rank == 0) status = write_checkpoint(saver, position);
    saver->step = position->step;
    saver->last = progress_clock();
    saver->needed = saver->last - started;
    return comm_agree(saver->session->world, status);
}

Status saver_save_if_worth_it(Saver *saver, const Position *position)
{
    static const double share = 0.02;
    const double since = progress_clock() - saver->last;
    bool worth_it = saver->session->world->rank == 0 && saver->needed <= share * since;
    TRY(comm_any(saver->session->world, worth_it, &worth_it));
    return worth_it ? saver_save(saver, position) : OK;
}

bool saver_is_overdue(const Saver *saver, double minutes)
{
    return saver->session->world->rank == 0 && minutes > 0 && progress_clock() - saver->last > 60 * minutes;
}

Status saver_keep_best(Saver *saver, const Position *position)
{
    Session *session = saver->session;
    Status status = OK;
    host_copy_free(saver->best);
    saver->best = NULL;
    saver->best_position = *position;
    if (session->world->rank == 0) status = checkpoint_copy_model(session->store, &saver->best);
    return comm_agree(session->world, status);
}

Status saver_keep_epoch(Saver *saver, const Position *position)
{
    Session *session = saver->session;
    char stem[64];
    (void)snprintf(stem, sizeof stem, "epoch-%04" PRId64, position->epoch + 1);
    Status status = OK;
    if (session->world->rank == 0) {
        HostCopy *model;
        status = checkpoint_copy_model(session->store, &model);
        if (status == OK) status = write_model(saver, model, position, stem);
        host_copy_free(model);
    }
    return comm_agree(session->world, status);
}

/* ---- reading ---- */

static Status metadata_integer(const SafeFile *file, const char *key, int64_t *value)
{
    const char *text = safetensors_metadata(file, key);
    char *end = NULL;
    if (text != NULL) *value = strtoll(text, &end, 10);
    if (text == NULL || end == text || *end != '\0')
        return fail(STATUS_INPUT, "the checkpoint has no usable \"%s\"", key);
    return OK;
}

static Status metadata_real(const SafeFile *file, const char *key, double *value)
{
    const char *text = safetensors_metadata(file, key);
    char *end = NULL;
    if (text != NULL) *value = strtod(text, &end);
    if (text == NULL || end == text || *end != '\0')
        return fail(STATUS_INPUT, "the checkpoint has no usable \"%s\"", key);
    return OK;
}

static Status read_position(const SafeFile *file, const Saver *saver, Position *position)
{
    char best[64];
    TRY(metadata_integer(file, "step", &position->step));
    TRY(metadata_integer(file, "epoch", &position->epoch));
    TRY(metadata_integer(file, "batch", &position->batch));
    (void)snprintf(best, sizeof best, "best_%s", saver->session->experiment.checkpoint.best->name);
    TRY(metadata_real(file, "loss_sum", &position->sums[LOSS_SUM]));
    TRY(metadata_real(file, "weight_sum", &position->sums[LOSS_WEIGHT]));
    TRY(metadata_real(file, "correct_sum", &position->sums[LOSS_CORRECT]));
    const char *config = safetensors_metadata(file, "config");
    bool is_config = false;
    if (config != NULL)
        TRY(run_extension_is_config(saver->run, saver->session->experiment.config, config, &is_config));
    if (!is_config) return fail(STATUS_INPUT, "the checkpoint was written with another config");
    return metadata_real(file, best, &position->best);
}

/* All ranks start from the same parameters: equal seeds and files, but a rank on another host may have other
 * files. */
static Status check_parameters_equal(Session *session)
{
    const size_t bytes = (size_t)store_flat_count(session->store) * sizeof(float);
    float *host;
    TRY(memory_new(&host, bytes > 0 ? bytes : 1, 1, "parameters"));
    Status status = device_download(session->device, host, store_parameters(session->store), bytes);
    if (status == OK) status = device_synchronize(session->device);
    status = comm_agree(session->world, status);
    if (status == OK) status = comm_check_equal(session->world, host, bytes, "the starting parameters");
    free(host);
    return status;
}

/* The first check finds a rank that started from other files. Then rank 0's values go where the gradients
 * will go, before anything relies on that way; and the second finds out what has arrived. */
static Status share_parameters(Session *session)
{
    TRY(check_parameters_equal(session));
    if (session->world->size == 1) return OK;
    const Span parameters = {store_parameters(session->store), store_flat_count(session->store), FLOAT32};
    Collective *collective = session->collective;
    TRY(collective_broadcast(collective, parameters, 0, device_stream(session->device)));
    TRY(collective_join(collective, device_stream(session->device)));
    TRY(collective_wait(collective, session->device, EVERYTHING));
    return check_parameters_equal(session);
}

/* Checkpoints of older versions do not say how many ranks wrote them. */
static void tell_of_other_ranks(const SafeFile *file, int ranks)
{
    const char *before = safetensors_metadata(file, "ranks");
    if (before != NULL && strtol(before, NULL, 10) != ranks)
        log_info("the number of ranks was %s and is now %d: results are the same up to the order of "
                 "summation and, without model.sync_batch_norm, to batch norm's statistics, which are each "
                 "rank's own",
                 before, ranks);
}

/* The vocabulary first: tables of another number of words would be called those of another network. */
Status saver_load(Session *session, const char *folder, const char *stem, SafeFile **file)
{
    char name[128], path[PATH_MAX];
    *file = NULL;
    (void)snprintf(name, sizeof name, "%s.model.safetensors", stem);
    TRY(file_join(path, folder, name));
    if (session->data->vocabulary_hash != 0 && file_exists(path)) {
        SafeFile *header;
        TRY(safetensors_open(path, &header));
        Status status = task_check_vocabulary(session->data, header);
        safetensors_close(header);
        if (status != OK) return status_context(status, "%s", path);
    }
    return checkpoint_load(session->store, folder, stem, file);
}

/* Every rank reads the files itself: a rank that cannot is found out here, not later. */
static Status restore_from(Saver *saver, const char *stem, Position *position)
{
    Session *session = saver->session;
    SafeFile *file = NULL;
    const Position start = *position;
    Status status = saver_load(session, saver->run->checkpoints, stem, &file);
    if (status == OK) status = read_position(file, saver, position);
    if (status == OK) tell_of_other_ranks(file, session->world->size);
    safetensors_close(file);
    if (status != OK)
        status = status_context(status, "cannot go on from %s/%s (remove its files to start anew)",
                                saver->run->checkpoints, stem);
    status = comm_agree(session->world, status);
    if (status != OK) *position = start;
    return status;
}

/* From the newest checkpoint or, where that is damaged, from the one before, which is kept for this. */
static Status restore(Saver *saver, Position *position)
{
    Session *session = saver->session;
    char older[64] = "";
    TRY(comm_agree(session->world, run_folder_latest(saver->run, saver->restored)));
    if (saver->restored[0] != '\0') {
        Status status = restore_from(saver, saver->restored, position);
        if (status != OK && status_code(status) != STATUS_COMMUNICATION) {
            const Status found = run_folder_before(saver->run, saver->restored, older);
            status_free(found);
            Status second = older[0] != '\0' ? restore_from(saver, older, position) : OK;
            if (older[0] != '\0' && second == OK) {
                log_warning("%s", status_message(status));
                log_warning("going on from the checkpoint before, %s", older);
                status_free(status);
                status = OK;
                memcpy(saver->restored, older, sizeof older);
            }
            status_free(second);
        }
        TRY(status);
    }
    return comm_check_equal(session->world, position, sizeof *position, "the checkpoint's place in training");
}

Status saver_open(Saver *saver, Session *session, RunFolder *run, Position *position)
{
    *saver = (Saver){.session = session, .run = run};
    *position = (Position){.best = measure_worst(session->experiment.checkpoint.best)};
    TRY(run_config_hash(session->experiment.config, &saver->config_hash));
    TRY(restore(saver, position));
    TRY(share_parameters(session));
    Status status = OK;
    if (session->world->rank == 0) {
        const TaskData *data = session->data;
        if (data->task->write_files != NULL) status = data->task->write_files(data, run->path);
        if (status == OK) status = run_folder_rewind_metrics(run, position->step);
        /* A job that was killed as it saved may have left the checkpoint before, or half of the next. */
        if (status == OK) status = run_folder_prune(run, saver->restored);
    }
    saver->step = position->step;
    saver->last = progress_clock();
    return comm_agree(session->world, status);
}

void saver_close(Saver *saver)
{
    if (saver->best != NULL) status_free(write_model(saver, saver->best, &saver->best_position, "best"));
    host_copy_free(saver->best);
}
