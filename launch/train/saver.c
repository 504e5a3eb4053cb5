#include "launch/train/saver.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/runs/kept_models.h"
#include "launch/runs/run_extension.h"
#include "launch/train/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

/* A checkpoint's metadata: texts beside their keys. */
enum { ROWS_MOST = 16 + MEASURES_MOST };
typedef struct {
    SafeMetadata row[ROWS_MOST];
    char key[ROWS_MOST][64], text[ROWS_MOST][40];
    int count;
} Rows;

static __attribute__((format(printf, 3, 4))) void add_row(Rows *rows, const char *key, const char *format,
                                                          ...)
{
    va_list arguments;
    const int at = rows->count++;
    (void)snprintf(rows->key[at], sizeof rows->key[at], "%s", key);
    va_start(arguments, format);
    (void)vsnprintf(rows->text[at], sizeof rows->text[at], format, arguments);
    va_end(arguments);
    rows->row[at] = (SafeMetadata){rows->key[at], rows->text[at]};
}

/* A model for evaluation ("best", "epoch-0010"), which was what it is at that position. measure: by which it is the best; NULL:
 * that is not why it is kept. Rank 0. */
static Status write_model(const Saver *saver, HostCopy *model, const Position *position, const char *stem,
                          const Measure *measure)
{
    char vocabulary[VOCABULARY_TEXT];
    Rows rows = {.count = 0};
    task_vocabulary_text(saver->session->data, vocabulary);
    add_row(&rows, "step", "%" PRId64, position->step);
    add_row(&rows, "epoch", "%" PRId64, position->epoch + 1);
    if (measure != NULL) add_row(&rows, "measure", "%s", measure->name);
    if (vocabulary[0] != '\0') add_row(&rows, "vocabulary", "%s", vocabulary);
    return checkpoint_write_model(model, saver->run->checkpoints, stem, rows.row, rows.count);
}

static void best_key(const Measure *measure, char key[64])
{
    (void)snprintf(key, 64, "best_%s", measure->name);
}

/* Rank 0. */
static Status write_checkpoint(const Saver *saver, const Position *position)
{
    static const char *const sums[LOSS_SUMS] = {"loss_sum", "weight_sum", "correct_sum"};
    const Experiment *experiment = &saver->session->experiment;
    char stem[64], key[64], vocabulary[VOCABULARY_TEXT];
    Rows rows = {.count = 0};
    task_vocabulary_text(saver->session->data, vocabulary);
    (void)snprintf(stem, sizeof stem, "step-%010" PRId64, position->step);
    add_row(&rows, "step", "%" PRId64, position->step);
    add_row(&rows, "epoch", "%" PRId64, position->epoch);
    add_row(&rows, "batch", "%" PRId64, position->batch);
    add_row(&rows, "config", "%016" PRIx64, saver->config_hash);
    for (int i = 0; i < experiment->checkpoint.best_count; ++i) {
        best_key(experiment->checkpoint.best[i], key);
        add_row(&rows, key, "%a", position->best[i]);
    }
    for (int i = 0; i < LOSS_SUMS; ++i)
        add_row(&rows, sums[i], "%a", position->sums[i]);
    add_row(&rows, "ranks", "%d", saver->session->world->size);
    if (experiment->early_stop.patience > 0) {
        add_row(&rows, "early_stop_best", "%a", position->stop_best);
        add_row(&rows, "early_stop_waited", "%" PRId64, position->stop_waited);
    }
    if (vocabulary[0] != '\0') add_row(&rows, "vocabulary", "%s", vocabulary);
    TRY(checkpoint_save(saver->session->store, saver->run->checkpoints, stem, rows.row, rows.count));
    return run_folder_prune(saver->run, stem);
}

void saver_best_stem(const Experiment *experiment, int index, char stem[64])
{
    const Measure *measure = experiment->checkpoint.best[index];
    (void)snprintf(stem, 64, index == 0 ? "best" : "best-%s", measure->name);
}

/* A copy goes with the last that refers to it. */
static void drop_best(Saver *saver, int index)
{
    BestModel *model = &saver->best[index];
    bool shared = false;
    for (int i = 0; i < MEASURES_MOST; ++i)
        shared = shared || (i != index && saver->best[i].copy == model->copy);
    if (!shared) host_copy_free(model->copy);
    *model = (BestModel){.copy = NULL};
}

static void drop_all_best(Saver *saver)
{
    for (int i = 0; i < MEASURES_MOST; ++i)
        drop_best(saver, i);
}

/* Rank 0. */
static Status write_best(const Saver *saver)
{
    for (int i = 0; i < MEASURES_MOST; ++i) {
        const BestModel *model = &saver->best[i];
        char stem[64];
        if (model->copy == NULL) continue;
        const Experiment *experiment = &saver->session->experiment;
        saver_best_stem(experiment, i, stem);
        TRY(write_model(saver, model->copy, &model->position, stem, experiment->checkpoint.best[i]));
    }
    return OK;
}

/* The best model first: of what the checkpoint says was found there is always a file. */
Status saver_save(Saver *saver, const Position *position)
{
    const double started = progress_clock();
    Status status = write_best(saver);
    drop_all_best(saver);
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

Status saver_keep_best(Saver *saver, const Position *position, const bool by[MEASURES_MOST])
{
    Session *session = saver->session;
    HostCopy *copy = NULL;
    Status status = OK;
    for (int i = 0; i < MEASURES_MOST; ++i)
        if (by[i]) drop_best(saver, i);
    if (session->world->rank == 0) status = checkpoint_copy_model(session->store, &copy);
    for (int i = 0; i < MEASURES_MOST && copy != NULL; ++i)
        if (by[i]) saver->best[i] = (BestModel){.copy = copy, .position = *position};
    return comm_agree(session->world, status);
}

static Status keep_model(Saver *saver, const Position *position, const char *stem, KeptKind kind)
{
    Session *session = saver->session;
    Status status = OK;
    if (session->world->rank == 0) {
        HostCopy *model;
        status = checkpoint_copy_model(session->store, &model);
        if (status == OK) status = write_model(saver, model, position, stem, NULL);
        host_copy_free(model);
        const int64_t last = session->experiment.checkpoint.keep_last;
        if (status == OK && last > 0) status = kept_models_prune(saver->run, kind, last);
    }
    return comm_agree(session->world, status);
}

Status saver_keep_epoch(Saver *saver, const Position *position)
{
    char stem[64];
    kept_model_stem(KEPT_EPOCH, position->epoch + 1, stem);
    return keep_model(saver, position, stem, KEPT_EPOCH);
}

Status saver_keep_step(Saver *saver, const Position *position)
{
    char stem[64];
    kept_model_stem(KEPT_STEP, position->step, stem);
    return keep_model(saver, position, stem, KEPT_STEP);
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
    const Experiment *experiment = &saver->session->experiment;
    TRY(metadata_integer(file, "step", &position->step));
    TRY(metadata_integer(file, "epoch", &position->epoch));
    TRY(metadata_integer(file, "batch", &position->batch));
    TRY(metadata_real(file, "loss_sum", &position->sums[LOSS_SUM]));
    TRY(metadata_real(file, "weight_sum", &position->sums[LOSS_WEIGHT]));
    TRY(metadata_real(file, "correct_sum", &position->sums[LOSS_CORRECT]));
    const char *config = safetensors_metadata(file, "config");
    bool is_config = false;
    if (config != NULL) TRY(run_extension_is_config(saver->run, experiment->config, config, &is_config));
    if (!is_config) return fail(STATUS_INPUT, "the checkpoint was written with another config");
    for (int i = 0; i < experiment->checkpoint.best_count; ++i) {
        char key[64];
        best_key(experiment->checkpoint.best[i], key);
        TRY(metadata_real(file, key, &position->best[i]));
    }
    if (experiment->early_stop.patience == 0) return OK;
    TRY(metadata_real(file, "early_stop_best", &position->stop_best));
    return metadata_integer(file, "early_stop_waited", &position->stop_waited);
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
    const Task *task = session->data->task;
    TRY(comm_agree(session->world, run_folder_latest(saver->run, saver->restored)));
    if (saver->restored[0] != '\0' && task->check_resumed != NULL)
        TRY(comm_agree(session->world, task->check_resumed(session->data, saver->run->path)));
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
    const Experiment *experiment = &session->experiment;
    *position = (Position){.step = 0};
    for (int i = 0; i < experiment->checkpoint.best_count; ++i)
        position->best[i] = measure_worst(experiment->checkpoint.best[i]);
    if (experiment->early_stop.measure != NULL)
        position->stop_best = measure_worst(experiment->early_stop.measure);
    TRY(run_config_hash(session->experiment.config, &saver->config_hash));
    TRY(restore(saver, position));
    TRY(share_parameters(session));
    Status status = OK;
    if (session->world->rank == 0) {
        const TaskData *data = session->data;
        if (data->task->write_files != NULL) status = data->task->write_files(data, run->path);
        if (status == OK) status = run_folder_rewind(run, position->step);
        /* A job that was killed as it saved may have left the checkpoint before, or half of the next. */
        if (status == OK) status = run_folder_prune(run, saver->restored);
    }
    saver->step = position->step;
    saver->last = progress_clock();
    return comm_agree(session->world, status);
}

void saver_close(Saver *saver)
{
    if (saver->session != NULL) status_free(write_best(saver));
    drop_all_best(saver);
}
