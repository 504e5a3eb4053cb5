#include "launch/sweep/sweep.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/options.h"
#include "launch/runs/run_folder.h"
#include "launch/runs/run_search.h"
#include "launch/runs/run_summary.h"
#include "launch/runs/run_table.h"
#include "launch/sweep/sweep_check.h"
#include "launch/sweep/sweep_plan.h"
#include "launch/sweep/sweep_slots.h"
#include "launch/train/progress.h"

#include <cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char sweep_help[] =
    "usage: plumb sweep SWEEP.yaml [--ranks R] [--slots S] [--folder DIR] [KEY=VALUE ...]\n"
    "\n"
    "Trains every run of SWEEP.yaml, each as `mpirun -n R plumb train` with its own folder DIR/RUN and log "
    "DIR/RUN/log.txt.\n"
    "Before the first run starts all of them are checked: settings, networks, losses, and that the data are "
    "there.\n"
    "Started again, it goes on with what is not complete. One failed run does not stop the others.\n"
    "\n"
    "  --ranks R     MPI ranks a run; default: the file's ranks, else 1\n"
    "  --slots S     runs at a time, or auto (the default): as many as there are GPUs for, one a rank, else "
    "1. Each has "
    "its own\n"
    "                share of the GPUs (CUDA_VISIBLE_DEVICES) and processors. Sweeps on several machines may "
    "share DIR: "
    "each takes\n"
    "                runs that nobody works on\n"
    "  --folder DIR  default runs/NAME, NAME being the file's sweep:\n"
    "  KEY=VALUE     a setting of every run (plumb list settings)\n"
    "\n"
    "SIGTERM, SIGUSR1, SIGINT or SIGHUP: the runs finish their step and save, and the exit code is 75.\n"
    "The words of PLUMB_MPIRUN replace `mpirun -n R` (for example \"srun -n 4\"); runs are then where these "
    "put them.\n";

typedef struct {
    const char *file, *folder;
    const char *slots_text;
    int64_t ranks, slots; /* 0: as the file says; auto */
    const char **overrides;
    int override_count;
} Arguments;

typedef enum { WAITING, RUNNING, COMPLETE, FAILED, BUSY, STOPPED } State;
static const char *const state_name[] = {"waiting", "running", "complete", "failed", "in progress elsewhere",
                                         "stopped"};

typedef struct {
    State state;
    pid_t process;
    double started;
    int code, slot;
    off_t log_start; /* where this attempt begins in its log */
} Job;

enum { MAX_LAUNCHER = 64 };

typedef struct {
    SweepPlan plan;
    Arguments arguments;
    char folder[PATH_MAX], program[PATH_MAX];
    char launcher_text[1024], *launcher[MAX_LAUNCHER]; /* PLUMB_MPIRUN, and its words */
    int launcher_count;
    Slot *slot;
    int slots;
    Job *job;
    sigset_t usual_signals; /* those blocked before the sweep heeds any; of its runs too */
    bool stopping;
} Sweep;

/* ---- arguments ---- */

static Status parse_slots(const char *text, int64_t *slots)
{
    enum { MOST = 1024 };
    *slots = 0;
    if (text == NULL || strcmp(text, "auto") == 0) return OK;
    char *end;
    *slots = strtol(text, &end, 10);
    if (end != text && *end == '\0' && *slots >= 1 && *slots <= MOST) return OK;
    return fail(STATUS_USAGE, "--slots takes a whole number from 1 to %d, or auto, not '%s'", MOST, text);
}

static Status parse(int argc, char **argv, Arguments *arguments)
{
    enum { MOST = 1000000 };
    const Option options[] = {{"ranks", .number = &arguments->ranks, .low = 1, .high = MOST},
                              {"slots", "a number or auto", .text = &arguments->slots_text},
                              {"folder", "a directory", .text = &arguments->folder}};
    TRY(options_parse(options, sizeof options / sizeof *options, argc, argv, arguments->overrides,
                      &arguments->override_count));
    TRY(parse_slots(arguments->slots_text, &arguments->slots));
    return options_file_and_settings(argv[0], "SWEEP.yaml", arguments->overrides, &arguments->override_count,
                                     &arguments->file);
}

/* sweep.json: which runs belong to this folder, in order; what `plumb report` shows first. */
static Status write_list(const Sweep *sweep)
{
    char path[PATH_MAX];
    TRY(file_join(path, sweep->folder, "sweep.json"));
    cJSON *object = cJSON_CreateObject(), *runs = cJSON_AddArrayToObject(object, "runs");
    cJSON_AddStringToObject(object, "sweep", sweep->plan.name);
    cJSON_AddNumberToObject(object, "format", SWEEP_LIST_FORMAT);
    for (int i = 0; i < sweep->plan.run_count; ++i)
        cJSON_AddItemToArray(runs, cJSON_CreateString(sweep->plan.run[i].name));
    char *text = cJSON_Print(object);
    cJSON_Delete(object);
    if (text == NULL) return fail(STATUS_MEMORY, "no memory for %s", path);
    Status status = file_write(path, text, strlen(text));
    cJSON_free(text);
    return status;
}

/* ---- one run ---- */

/* The command of a run: [mpirun -n R] plumb train CONFIG KEY=VALUE ... --run DIR. The array is released with
 * free(), its words belong to others or live until exec. */
static Status make_command(const Sweep *sweep, const SweepRun *run, char *folder, char **words[])
{
    enum { FIXED = 8 };
    char **word;
    int count = 0;
    TRY(memory_new(&word, (size_t)(run->override_count + sweep->launcher_count + FIXED), sizeof *word,
                   "sweep"));
    if (sweep->launcher_count > 0) {
        for (int i = 0; i < sweep->launcher_count; ++i)
            word[count++] = sweep->launcher[i];
    } else if (sweep->plan.ranks > 1) {
        static char ranks[16];
        (void)snprintf(ranks, sizeof ranks, "%d", sweep->plan.ranks);
        word[count++] = "mpirun";
        word[count++] = "-n";
        word[count++] = ranks;
    }
    word[count++] = (char *)(uintptr_t)sweep->program;
    word[count++] = "train";
    word[count++] = run->config;
    for (int i = 0; i < run->override_count; ++i)
        word[count++] = (char *)(uintptr_t)run->override[i].word;
    word[count++] = "--run";
    word[count++] = folder;
    *words = word;
    return OK;
}

/* In the child: output to the log, a parent's death ends it, and Open MPI allowed to do what is meant here.
 */
static void become(char *const words[], const char *log, const Slot *slot, const sigset_t *signals,
                   pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG,
                SIGUSR1); /* which mpirun passes on; it would not wait long after a SIGTERM */
    if (getppid() != parent) _exit(STATUS_INTERRUPTED); /* the parent died before the kernel was asked */
    const int descriptor = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor < 0 || dup2(descriptor, STDOUT_FILENO) < 0 || dup2(descriptor, STDERR_FILENO) < 0)
        _exit(STATUS_IO);
    (void)setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
    (void)setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    (void)setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 0);
    (void)setenv("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe", 0); /* of Open MPI 5 */
    /* mpirun ends a job soon after one of its hosts vanished from the network, not minutes later. */
    (void)setenv("OMPI_MCA_oob_tcp_keepalive_time", "10", 0);
    (void)setenv("OMPI_MCA_oob_tcp_keepalive_intvl", "5", 0);
    (void)setenv("OMPI_MCA_oob_tcp_keepalive_probes", "3", 0);
    sweep_slot_enter(slot);
    (void)sigprocmask(SIG_SETMASK, signals, NULL);
    (void)execvp(words[0], words);
    (void)fprintf(stderr, "cannot start %s: %s\n", words[0], strerror(errno));
    _exit(127);
}

static Status start(Sweep *sweep, int index)
{
    const SweepRun *run = &sweep->plan.run[index];
    Job *job = &sweep->job[index];
    char folder[PATH_MAX], log[PATH_MAX], **words;
    RunFolder earlier_run;
    TRY(file_join(folder, sweep->folder, run->name));
    TRY(file_make_folder(folder));
    TRY(file_join(log, folder, "log.txt"));
    TRY(run_folder_attach(folder, &earlier_run));
    run_folder_forget_failure(&earlier_run);
    struct stat earlier;
    job->log_start = stat(log, &earlier) == 0 ? earlier.st_size : 0;
    TRY(make_command(sweep, run, folder, &words));
    (void)fflush(NULL);
    const pid_t parent = getpid();
    job->process = fork();
    if (job->process == 0) become(words, log, &sweep->slot[job->slot], &sweep->usual_signals, parent);
    free(words);
    if (job->process < 0)
        return fail(STATUS_IO, "cannot start a process for %s: %s", run->name, strerror(errno));
    job->state = RUNNING;
    job->started = progress_clock();
    log_info("[%d/%d] %s starts%s", index + 1, sweep->plan.run_count, run->name, sweep->slot[job->slot].text);
    return OK;
}

/* What a failed run's log says of the cause, for those who will not open it: the errors of this attempt (launchers
 * have much to say after them), else its last lines. */
static void show_log_end(const Sweep *sweep, const SweepRun *run, off_t attempt)
{
    enum { TAIL = 600, MOST = 5 };
    char folder[PATH_MAX], log[PATH_MAX], tail[TAIL + 1], *line = NULL;
    size_t room = 0;
    int errors = 0;
    Status status = file_join(folder, sweep->folder, run->name);
    if (status == OK) status = file_join(log, folder, "log.txt");
    if (status != OK) {
        status_free(status);
        return;
    }
    FILE *file = fopen(log, "r");
    if (file == NULL) return;
    (void)fseeko(file, attempt, SEEK_SET);
    for (ssize_t length; errors < MOST && (length = getline(&line, &room, file)) > 0;) {
        if (strncmp(line, "error: ", 7) != 0) continue;
        if (line[length - 1] == '\n') line[length - 1] = '\0';
        log_info("    %s", line);
        ++errors;
    }
    free(line);
    if (errors == 0) {
        if (fseek(file, -TAIL, SEEK_END) != 0) (void)fseek(file, 0, SEEK_SET);
        const size_t length = fread(tail, 1, TAIL, file);
        tail[length] = '\0';
        const char *first = strchr(tail, '\n');
        log_info("    ...%s", first != NULL && length == TAIL ? first : tail);
    }
    log_info("    (all of it: %s)", log);
    (void)fclose(file);
}

/* The first error of this attempt in a run's log; of ranks that end each for itself "rank R: ...". */
static bool find_error(const char *log, off_t attempt, char *error, size_t size)
{
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    FILE *file = fopen(log, "r");
    if (file == NULL) return false;
    (void)fseeko(file, attempt, SEEK_SET);
    while (!found && getline(&line, &room, file) > 0) {
        int rank, text = 0;
        if (strncmp(line, "error: ", 7) == 0)
            text = 7;
        else
            (void)sscanf(line, "rank %d: %n", &rank, &text);
        if (text == 0) continue;
        (void)snprintf(error, size, "%.*s", (int)strcspn(line + text, "\n"), line + text);
        found = true;
    }
    free(line);
    (void)fclose(file);
    return found;
}

/* A run that was killed, or whose launcher is missing, has left no word of it in its folder. */
static void note_failure(const Sweep *sweep, const SweepRun *run, const Job *job, int wait_status)
{
    char folder[PATH_MAX], log[PATH_MAX], cause[1024];
    RunFolder failed;
    Status status = file_join(folder, sweep->folder, run->name);
    if (status == OK) status = file_join(log, folder, "log.txt");
    if (status == OK) status = run_folder_attach(folder, &failed);
    if (status == OK) {
        if (!find_error(log, job->log_start, cause, sizeof cause))
            (void)snprintf(cause, sizeof cause, "%s %d; see log.txt",
                           WIFSIGNALED(wait_status) ? "killed by signal" : "ended with exit code",
                           WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : job->code);
        run_folder_note_failure(&failed, cause);
    }
    status_free(status);
}

static void finish(Sweep *sweep, int index, int wait_status, int done)
{
    Job *job = &sweep->job[index];
    const SweepRun *run = &sweep->plan.run[index];
    job->code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
    job->process = 0;
    /* One that had only begun does not yet heed the signal that stops it. */
    const bool cut_off = sweep->stopping && WIFSIGNALED(wait_status);
    job->state = job->code == 0                               ? COMPLETE
                 : job->code == STATUS_BUSY                   ? BUSY
                 : job->code == STATUS_INTERRUPTED || cut_off ? STOPPED
                                                              : FAILED;
    log_info("[%d/%d] %s: %s after %.0f s%s", done, sweep->plan.run_count, run->name, state_name[job->state],
             progress_clock() - job->started, sweep->slot[job->slot].text);
    if (job->state != FAILED) return;
    show_log_end(sweep, run, job->log_start);
    note_failure(sweep, run, job, wait_status);
}

/* ---- all runs ---- */

/* The signals that a sweep heeds are blocked all the time and taken here: one that came between a look at a
 * handler's mark and waitpid would be noticed only when the next run ends. */
static sigset_t heeded_signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    struct sigaction hangup; /* nohup has it ignored */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) (void)sigaddset(&set, SIGHUP);
    return set;
}

/* Until a run ends or somebody asks to stop (0). */
static pid_t wait_for_event(Sweep *sweep, int *wait_status)
{
    const sigset_t heeded = heeded_signals();
    for (;;) {
        const pid_t process = waitpid(-1, wait_status, WNOHANG);
        if (process != 0) return process;
        const int number = sigwaitinfo(&heeded, NULL);
        if (number <= 0 || number == SIGCHLD) continue;
        sweep->stopping = true;
        return 0;
    }
}

/* Has somebody asked to stop? */
static bool is_stopping(Sweep *sweep)
{
    sigset_t asks = heeded_signals();
    (void)sigdelset(&asks, SIGCHLD);
    const struct timespec now = {0};
    if (sigtimedwait(&asks, NULL, &now) > 0) sweep->stopping = true;
    return sweep->stopping;
}

static int count_state(const Sweep *sweep, State state)
{
    int count = 0;
    for (int i = 0; i < sweep->plan.run_count; ++i)
        count += sweep->job[i].state == state;
    return count;
}

/* The first slot without a run; -1: all have one. */
static int free_slot(const Sweep *sweep)
{
    for (int slot = 0; slot < sweep->slots; ++slot) {
        bool taken = false;
        for (int i = 0; i < sweep->plan.run_count && !taken; ++i)
            taken = sweep->job[i].state == RUNNING && sweep->job[i].slot == slot;
        if (!taken) return slot;
    }
    return -1;
}

static void mark_complete(Sweep *sweep)
{
    for (int i = 0; i < sweep->plan.run_count; ++i) {
        char folder[PATH_MAX];
        RunFolder run;
        Status status = file_join(folder, sweep->folder, sweep->plan.run[i].name);
        if (status == OK) status = run_folder_attach(folder, &run);
        if (status == OK && run_folder_is_complete(&run)) sweep->job[i].state = COMPLETE;
        status_free(status);
    }
}

static Status run_all(Sweep *sweep)
{
    const int total = sweep->plan.run_count;
    int next = 0, forwarded = 0;
    for (;;) {
        for (int slot; !is_stopping(sweep) && next < total && (slot = free_slot(sweep)) >= 0; ++next) {
            if (sweep->job[next].state != WAITING) continue;
            sweep->job[next].slot = slot;
            TRY(start(sweep, next));
        }
        if (count_state(sweep, RUNNING) == 0) return OK;
        if (sweep->stopping && !forwarded) {
            forwarded = 1;
            log_info("stopping: the runs finish their step and save");
            /* mpirun passes SIGUSR1 on to its ranks. */
            for (int i = 0; i < total; ++i)
                if (sweep->job[i].state == RUNNING) (void)kill(sweep->job[i].process, SIGUSR1);
        }
        int wait_status;
        const pid_t process = wait_for_event(sweep, &wait_status);
        if (process < 0) return fail(STATUS_IO, "waiting for the runs: %s", strerror(errno));
        for (int i = 0; i < total && process > 0; ++i)
            if (sweep->job[i].state == RUNNING && sweep->job[i].process == process)
                finish(sweep, i, wait_status, i + 1);
    }
}

static Status print_table(const Sweep *sweep)
{
    RunSummary *summary = NULL;
    int count = 0;
    const char *const folders[] = {sweep->folder};
    TRY(run_summaries_load(folders, 1, &summary, &count));
    Status status = run_table_print(summary, count, stdout);
    run_summaries_free(summary, count);
    return status;
}

/* The launcher's words, if the user gave his own. */
static Status read_launcher(Sweep *sweep)
{
    const char *text = getenv("PLUMB_MPIRUN");
    if (text == NULL) return OK;
    if (strlen(text) >= sizeof sweep->launcher_text) return fail(STATUS_USAGE, "PLUMB_MPIRUN is too long");
    memcpy(sweep->launcher_text, text, strlen(text) + 1);
    char *rest = NULL;
    for (char *part = strtok_r(sweep->launcher_text, " ", &rest); part != NULL;
         part = strtok_r(NULL, " ", &rest)) {
        if (sweep->launcher_count == MAX_LAUNCHER)
            return fail(STATUS_USAGE, "PLUMB_MPIRUN has more than %d words", MAX_LAUNCHER);
        sweep->launcher[sweep->launcher_count++] = part;
    }
    return OK;
}

/* This program; a script that starts it in some way of its own (bin/plumb of a bundle) names itself. */
static Status find_program(Sweep *sweep)
{
    const char *starter = getenv("PLUMB_PROGRAM");
    if (starter != NULL) {
        if (strlen(starter) >= sizeof sweep->program) return fail(STATUS_USAGE, "PLUMB_PROGRAM is too long");
        memcpy(sweep->program, starter, strlen(starter) + 1);
        return OK;
    }
    const ssize_t length = readlink("/proc/self/exe", sweep->program, sizeof sweep->program - 1);
    if (length < 0) return fail(STATUS_IO, "cannot find the program itself: %s", strerror(errno));
    sweep->program[length] = '\0';
    return OK;
}

static Status run_sweep(Sweep *sweep)
{
    Arguments *arguments = &sweep->arguments;
    TRY(sweep_plan_load(arguments->file, arguments->override_count, arguments->overrides, &sweep->plan));
    if (arguments->ranks > 0) sweep->plan.ranks = (int)arguments->ranks;
    (void)snprintf(sweep->folder, sizeof sweep->folder, "%s%s", arguments->folder != NULL ? "" : "runs/",
                   arguments->folder != NULL ? arguments->folder : sweep->plan.name);
    TRY(read_launcher(sweep));
    TRY(run_search_check_format(sweep->folder));
    /* A mistake in the last run must not be found after a week. */
    bool gpus;
    TRY(sweep_check(&sweep->plan, sweep->folder, sweep->launcher_count > 0, &gpus));
    TRY(file_make_folder(sweep->folder));
    TRY(write_list(sweep));
    TRY(find_program(sweep));
    TRY(memory_new(&sweep->job, (size_t)sweep->plan.run_count, sizeof *sweep->job, "sweep"));
    mark_complete(sweep);
    const SlotOptions slots = {.slots = arguments->slots,
                               .ranks = sweep->plan.ranks,
                               .waiting = count_state(sweep, WAITING),
                               .gpus = gpus,
                               .elsewhere = sweep->launcher_count > 0};
    TRY(sweep_slots_make(&slots, &sweep->slot, &sweep->slots));
    const sigset_t heeded = heeded_signals();
    (void)signal(SIGCHLD, SIG_DFL);
    (void)sigprocmask(SIG_BLOCK, &heeded, &sweep->usual_signals);
    log_info("%s: %d runs, %d rank%s each, %d at a time; %d complete already", sweep->plan.name,
             sweep->plan.run_count, sweep->plan.ranks, sweep->plan.ranks == 1 ? "" : "s", sweep->slots,
             count_state(sweep, COMPLETE));
    TRY(run_all(sweep));
    TRY(print_table(sweep));
    if (sweep->stopping)
        return fail(STATUS_INTERRUPTED, "the sweep was stopped by a signal; the same command goes on");
    const int failed = count_state(sweep, FAILED);
    if (failed > 0)
        return fail(
            STATUS_INPUT,
            "%d of %d runs failed; see log.txt in their folders under %s. The same command tries them again",
            failed, sweep->plan.run_count, sweep->folder);
    return OK;
}

Status command_sweep(World *world, int argc, char **argv)
{
    if (world->size > 1)
        return fail(STATUS_USAGE, "plumb sweep starts mpirun itself: run it without mpirun and give --ranks");
    Sweep *sweep;
    TRY(memory_new(&sweep, 1, sizeof *sweep, "sweep"));
    Status status;
    TRY_ELSE(done, memory_new(&sweep->arguments.overrides, (size_t)argc, sizeof *sweep->arguments.overrides,
                              "arguments"));
    TRY_ELSE(done, parse(argc, argv, &sweep->arguments));
    TRY_ELSE(done, run_sweep(sweep));
done:
    sweep_plan_free(&sweep->plan);
    free(sweep->arguments.overrides);
    free(sweep->job);
    free(sweep->slot);
    free(sweep);
    return status;
}
