"""Training whose ranks connect without MPI: started by hand, or as srun does it, they find one another through a
file. The same curve; and a rank that dies, stops or fails ends the others soon, with a cause."""

import os
import signal
import time

from jobs import (COMMUNICATION, INTERRUPTED, IO, NUMERIC, SHORT, SLOWNESS, USAGE, Job, Suite, main, metrics, soon,
                  wait_for)

STAND_IN = os.environ.get("PLUMB_NCCL_STAND_IN", "")
LOADED = {"LD_LIBRARY_PATH": STAND_IN}


def by_hand(file):
    """The environment of a rank, as torchrun or a script gives it."""
    return lambda rank, size: {"PLUMB_RENDEZVOUS": file, "RANK": str(rank), "WORLD_SIZE": str(size)}


def by_slurm(rank, size):
    return {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank),
            "SLURM_STEP_NUM_TASKS": str(size), "SLURM_NTASKS": str(size)}


class Ranks(Suite):
    def start(self, *arguments, ranks, launcher=None, environment=None, folder=None):
        """A job a rank."""
        launcher = launcher or by_hand(f"{self.folder()}.rendezvous")
        back = os.getcwd()
        if folder:
            os.chdir(folder)
        jobs = [Job(arguments, environment=dict(environment or {}, **launcher(rank, ranks))) for rank in range(ranks)]
        os.chdir(back)
        return jobs

    def all_end(self, jobs, code):
        for job in jobs:
            self.assertEnds(job.wait(), code)

    def start_training(self, *settings, ranks, config=None, run=None, **more):
        run = run or self.folder()
        return run, self.start("train", config or self.linear, *settings, "--run", run, ranks=ranks, **more)

    # ---- what is right ----

    def test_same_curve(self):
        smooth = ("model.sync_batch_norm=true", "optimizer.learning_rate=0.001")
        for config, settings, tolerance in ((self.linear, (), 1e-5), (self.linear, ("loss.name=mmce",), 1e-5),
                                            (self.resnet, smooth, 1e-3)):
            alone = self.train(config, *settings)
            for ranks in (2, 3):
                with self.subTest(config=config, settings=settings, ranks=ranks):
                    run, jobs = self.start_training(*settings, ranks=ranks, config=config)
                    self.all_end(jobs, 0)
                    self.assertIn(f"{ranks} ranks", jobs[0].output)
                    self.assertEqual("".join(job.output for job in jobs[1:]), "")
                    self.assertSameCurve(alone, run, tolerance)

    def test_same_curve_over_nccl(self):
        if not STAND_IN:
            self.skipTest("built without NCCL's header")
        alone = self.train(self.linear)
        run, jobs = self.start_training("collective=nccl", ranks=3, environment=LOADED)
        self.all_end(jobs, 0)
        self.assertIn("connects 3 ranks", jobs[0].output)
        self.assertSameCurve(alone, run, 1e-5)

    def test_tasks_of_slurm(self):
        """Without PLUMB_RENDEZVOUS the file is in the working folder, and not left there."""
        folder = self.folder()
        os.makedirs(folder)
        run, jobs = self.start_training(ranks=2, launcher=by_slurm, folder=folder)
        self.all_end(jobs, 0)
        self.assertEqual(os.listdir(folder), [])
        self.assertEqual(metrics(run), metrics(self.undisturbed_pair()))

    def undisturbed_pair(self):
        if "pair" not in self.trained:
            self.trained["pair"], jobs = self.start_training(ranks=2)
            self.all_end(jobs, 0)
        return self.trained["pair"]

    def test_file_of_an_earlier_job(self):
        file = f"{self.folder()}.rendezvous"
        self.write_class(os.path.relpath(file, self.scratch), "plumb-rendezvous-1 12 34 1\n127.0.0.1\nend\n")
        run = self.folder()
        arguments = ["train", self.linear, "--run", run]
        second = Job(arguments, environment=by_hand(file)(1, 2))
        time.sleep(0.5)  # finds that nobody answers there
        first = Job(arguments, environment=by_hand(file)(0, 2))
        self.all_end([first, second], 0)
        self.assertFalse(os.path.exists(file))

    # ---- what is wrong ----

    def test_file_that_cannot_be(self):
        jobs = self.start("list", ranks=1, launcher=lambda rank, size: by_hand("/proc/no/file")(0, 2))
        self.all_end(jobs, IO)
        self.assertIn("/proc/no/file", jobs[0].errors)

    def test_one_rank_that_fails(self):
        """It alone cannot read its config; and it alone does not know the command."""
        config = f"{self.scratch}/linear.yaml"
        for second, code, text in ((["train", f"{config}.absent"], IO, "linear.yaml.absent"),
                                   (["no-such-command"], USAGE, "no-such-command")):
            with self.subTest(text=text):
                launcher = by_hand(f"{self.folder()}.rendezvous")
                jobs = [Job(arguments, environment=launcher(rank, 2))
                        for rank, arguments in enumerate((["train", config, "--run", self.folder()], second))]
                self.all_end(jobs, code)
                self.assertIn(text, "".join(job.errors for job in jobs))
                for job in jobs:
                    self.assertLess(job.seconds, soon())

    def test_nan(self):
        settings = ("optimizer.learning_rate=1e30", "optimizer.clip_norm=0")
        _, jobs = self.start_training(*settings, ranks=2)
        self.all_end(jobs, NUMERIC)
        self.assertEqual("".join(job.errors for job in jobs).count("error: step"), 1)  # rank 0 speaks for all

    def test_rank_killed(self):
        for settings, environment in self.ways():
            for which in (0, 1):
                with self.subTest(settings=settings, which=which):
                    run, jobs = self.start_training("epochs=1000000", *settings, ranks=3, environment=environment)
                    wait_for(f"{run}/checkpoints/best.model.safetensors", *jobs)
                    jobs[which].signal("", signal.SIGKILL)
                    killed = time.monotonic()
                    others = [job for rank, job in enumerate(jobs) if rank != which]
                    self.all_end(others, COMMUNICATION)
                    self.assertLess(time.monotonic() - killed, soon())
                    for job in others:
                        self.assertRegex(job.errors, f"rank {which} on host .* is lost: its connection ended")
                    self.all_end([jobs[which]], -signal.SIGKILL)

    def test_rank_stopped(self):
        for settings, environment in self.ways():
            for which in (0, 1):
                with self.subTest(settings=settings, which=which):
                    run, jobs = self.start_training("epochs=1000000", f"comm.timeout_seconds={SHORT}", *settings, ranks=3,
                                                    environment=environment)
                    wait_for(f"{run}/checkpoints/best.model.safetensors", *jobs)
                    jobs[which].signal("", signal.SIGSTOP)
                    stopped = time.monotonic()
                    others = [job for rank, job in enumerate(jobs) if rank != which]
                    self.all_end(others, COMMUNICATION)
                    self.assertLess(time.monotonic() - stopped, SHORT + 3 + soon())
                    for job in others:
                        self.assertRegex(job.errors, f"rank {which} on host .* does not answer")
                    jobs[which].signal("", signal.SIGCONT)  # it finds itself alone
                    self.all_end([jobs[which]], COMMUNICATION)

    def test_all_ranks_stopped_for_a_while(self):
        patience = 10 * SLOWNESS
        run, jobs = self.start_training("epochs=1000000", f"comm.timeout_seconds={patience}", ranks=2)
        wait_for(f"{run}/checkpoints/best.model.safetensors", *jobs)
        jobs[0].signal("", signal.SIGSTOP)
        time.sleep(0.5)  # the other comes to wait for it
        jobs[1].signal("", signal.SIGSTOP)
        time.sleep(patience + 3)
        for job in reversed(jobs):
            job.signal("", signal.SIGCONT)
        time.sleep(patience + 3)
        jobs[1].signal("", signal.SIGTERM)
        self.all_end(jobs, INTERRUPTED)

    def ways(self):
        yield (), None
        if STAND_IN:
            yield ("collective=nccl", f"comm.step_seconds={SHORT}"), LOADED


if __name__ == "__main__":
    main()
