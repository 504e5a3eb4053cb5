#include "launch/train/train_command.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "launch/options.h"
#include "launch/settings.h"
#include "launch/train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char train_help[] =
    "usage: [mpirun -n RANKS] plumb train CONFIG [KEY=VALUE ...] [--run DIR] [--log-view] [--quiet]\n"
    "\n"
    "Trains the network that CONFIG describes; KEY=VALUE overrides a setting (plumb list settings).\n"
    "Every rank takes an equal part of each batch. Started again with the same command it goes on from the "
    "newest\n"
    "checkpoint in DIR, and ends with the same bits as if it had never stopped.\n"
    "\n"
    "  --run DIR     where everything is written; default runs/NAME for CONFIG .../NAME.yaml\n"
    "  --log-view    at the end, print where the time went: each op's time, flop/s and bytes/s\n"
    "  --quiet       no progress and no table\n"
    "\n"
    "With a larger epochs=N a run goes on from its end; other settings that touch the result must stay.\n"
    "\n"
    "SIGTERM, SIGUSR1, SIGINT or SIGHUP (unless ignored, as by nohup): the step is finished and saved, and "
    "the\n"
    "exit code is 75. Send mpirun a SIGUSR1, which it passes on: after a SIGTERM or SIGINT it kills its "
    "ranks\n"
    "within a second.\n";

typedef struct {
    const char *config, *run;
    const char **overrides;
    int override_count;
    bool log_view, quiet;
} Arguments;

static Status parse(int argc, char **argv, Arguments *arguments)
{
    const Option options[] = {{"run", "a directory", .text = &arguments->run},
                              {"log-view", .flag = &arguments->log_view},
                              {"quiet", .flag = &arguments->quiet}};
    TRY(options_parse(options, sizeof options / sizeof *options, argc, argv, arguments->overrides,
                      &arguments->override_count));
    return options_file_and_settings(argv[0], "CONFIG", arguments->overrides, &arguments->override_count,
                                     &arguments->config);
}

/* runs/NAME for configs/NAME.yaml */
static Status default_run(const char *config, char **run)
{
    const char *slash = strrchr(config, '/');
    const char *name = slash != NULL ? slash + 1 : config;
    const char *dot = strrchr(name, '.');
    const int length = dot != NULL && dot != name ? (int)(dot - name) : (int)strlen(name);
    return text_format(run, "runs/%.*s", length, name);
}

static Status report_plan(const Session *session)
{
    static const double mega = 1e6;
    const PlanReport report = plan_report(session->train.program[0].plan);
    log_info("%s on %s, %s: %d rank%s, %lld parameters, batch %lld", session->experiment.model.model->name,
             session->data->dataset, device_name(session->device), session->world->size,
             session->world->size == 1 ? "" : "s", (long long)store_parameter_count(session->store),
             (long long)session->data->batch);
    log_info("step: %.2f Gflop, arena %.0f MB for tensors of %.0f MB, %d nodes (%d chains fused, %d in "
             "place, %d views)",
             report.flops / 1e9, (double)report.arena_bytes / mega, (double)report.tensor_bytes / mega,
             report.nodes, session->train.program[0].fused, report.in_place, report.views);
    return OK;
}

/* Who gives other settings than the run was made with expects something of them. Rank 0. */
static Status report_complete(const RunFolder *run, const Config *config)
{
    char *settings;
    TRY(run_folder_too_late(run, config, &settings));
    if (settings[0] != '\0')
        log_warning("%s is complete and stays as it is; settings that come too late: %s", run->path,
                    settings);
    free(settings);
    log_info("%s is complete (plumb evaluate %s measures it again)", run->path, run->path);
    return OK;
}

/* What rank 0 sees counts. */
static Status find_checkpoint(World *world, const RunFolder *run, bool *found)
{
    char stem[64] = "";
    TRY(comm_agree(world, world->rank == 0 ? run_folder_latest(run, stem) : OK));
    return comm_any(world, stem[0] != '\0', found);
}

static Status train_in(World *world, const Config *config, const char *run_path, const Arguments *arguments)
{
    RunFolder run;
    Session session = {.world = NULL};
    Status status =
        world->rank == 0 ? run_folder_open(run_path, config, world, &run) : run_folder_attach(run_path, &run);
    TRY(comm_agree(world, status));
    bool complete = run_folder_is_complete(&run), goes_on = false;
    TRY_ELSE(done, comm_any(world, complete && world->rank == 0, &complete));
    if (complete) {
        status = comm_agree(world, world->rank == 0 ? report_complete(&run, config) : OK);
        goto done;
    }
    TRY_ELSE(done, find_checkpoint(world, &run, &goes_on));
    TRY_ELSE(done, session_open(world, config, goes_on ? SESSION_GOES_ON : SESSION_TRAINS,
                                arguments->log_view, &session));
    TRY_ELSE(done, report_plan(&session));
    const TrainerOptions options = {.log_view = arguments->log_view, .quiet = arguments->quiet};
    TRY_ELSE(done, trainer_run(&session, &run, options));
done:
    /* At once: another rank may end all of them soon. */
    if (world->rank == 0 && status != OK && status_code(status) != STATUS_INTERRUPTED)
        run_folder_note_failure(&run, status_message(status));
    if (session.world != NULL) session_close(&session);
    if (world->rank == 0) run_folder_close(&run);
    return status;
}

Status command_train(World *world, int argc, char **argv)
{
    Arguments arguments = {.config = NULL};
    Config *config = NULL;
    char *run = NULL;
    int settings;
    const Setting *table = settings_table(&settings);
    Status status;
    trainer_catch_signals(); /* early: one that comes while the data is read is heeded after the first step */
    TRY(memory_new(&arguments.overrides, (size_t)argc, sizeof *arguments.overrides, "arguments"));
    TRY_ELSE(done, comm_agree(world, parse(argc, argv, &arguments)));
    log_set_quiet(arguments.quiet);
    TRY_ELSE(done, comm_agree(world, config_load(table, settings, arguments.config, arguments.override_count,
                                                 arguments.overrides, &config)));
    char *resolved;
    TRY_ELSE(done, config_resolved(config, &resolved));
    status = comm_check_equal(world, resolved, strlen(resolved), "config");
    free(resolved);
    TRY_ELSE(done, status);
    TRY_ELSE(done, comm_agree(world, session_check_config(config, world->size)));
    if (arguments.run == NULL) TRY_ELSE(done, default_run(arguments.config, &run));
    TRY_ELSE(done, train_in(world, config, arguments.run != NULL ? arguments.run : run, &arguments));
done:
    config_free(config);
    free(run);
    free(arguments.overrides);
    return status;
}
