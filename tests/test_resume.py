"""A run survives: killed or stopped at any moment and started again, it ends with the same bits."""

import json
import os
import random
import signal
import time

from jobs import (BUSY, EVERY_STEP, INTERRUPTED, Job, Suite, checkpoint, main, plumb, results, safetensors,
                  soon, wait_for)

# How many times random jobs are killed; more for a long look.
KILLS = int(os.environ.get("PLUMB_TEST_KILLS", "4"))


class Killed(Suite):
    """Killed at any moment and started again, a run ends with the bits of an undisturbed one."""

    def assertSame(self, run, undisturbed, what):
        self.assertSameResults(results(run), results(undisturbed), what)

    def test_checkpoints_carry_nothing_of_their_moment(self):
        run = self.train(self.resnet)
        _, metadata = safetensors(checkpoint(run))
        self.assertEqual(metadata["step"], "10")
        self.assertEqual(metadata["epoch"], "2")
        for path in os.listdir(f"{run}/checkpoints"):
            self.assertTrue(path.endswith(".safetensors"), path)

    def test_during_every_operation_on_files(self):
        settings = ("epochs=1", "batch=80", "evaluate_batch=48", EVERY_STEP)
        undisturbed = self.train(self.linear, *settings)
        counter = f"{self.scratch}/operations"
        self.train(self.linear, *settings, fault=self.fault("count:0", FAULT_COUNT=counter))
        with open(counter) as file:
            operations = int(file.read())
        self.assertGreater(operations, 40)
        for moment in range(1, operations + 1):
            run = self.folder()
            self.train(self.linear, *settings, run=run, code=-9, fault=self.fault(f"tear:{moment}", run))
            self.train(self.linear, *settings, run=run)
            self.assertSame(run, undisturbed, f"killed at operation {moment} of {operations}")

    def test_again_and_again(self):
        """A run that dies after every few operations still comes to its end."""
        undisturbed = self.train(self.resnet, EVERY_STEP)
        for operations in (43, 53):
            run, deaths = self.folder(), 0
            fault = self.fault(f"tear:{operations}", run)
            while (job := plumb("train", self.resnet, EVERY_STEP, "--run", run, fault=fault)).code != 0:
                self.assertEnds(job, -9)
                deaths += 1
                self.assertLess(deaths, 30, "no progress")
            self.assertGreater(deaths, 2)
            self.assertSame(run, undisturbed, f"killed after every {operations} operations")

    def fault(self, action, run="", **more):
        return dict(FAULT=action, FAULT_FOLDER=run or self.scratch + "/run-", **more)

    def kill_at_random(self, config, settings, ranks, targets, kills, least):
        """Kills so often, and until more than `least` of the jobs were not over before."""
        duration = -time.monotonic()
        undisturbed = self.train(config, *settings, ranks=ranks)
        duration += time.monotonic()
        seed = random.randrange(1 << 30)
        chance = random.Random(seed)
        run, killed, in_time = self.folder(), 0, 0
        while killed < kills or in_time <= least and killed < 20 * kills:
            job = Job(["train", config, *settings, "--run", run], ranks)
            time.sleep(chance.uniform(0, duration))
            target = chance.choice(targets)
            found = job.signal(target, signal.SIGKILL)
            job.wait()
            killed += 1
            in_time += job.code not in (0, BUSY)
            if found and target == "" or job.code == BUSY:
                time.sleep(1)  # ranks notice that mpirun is gone
            if job.code == 0:
                self.assertSame(run, undisturbed, f"seed {seed}, {killed} kills")
                run = self.folder()
                duration *= 0.8  # the machine has become less busy
        self.train(config, *settings, run=run, ranks=ranks)
        self.assertSame(run, undisturbed, f"seed {seed}, {killed} kills")
        self.assertGreater(in_time, least)

    def test_alone_at_random_moments(self):
        self.kill_at_random(self.resnet, ("epochs=3", EVERY_STEP), 0, ("",), 5 * KILLS, KILLS)

    def test_a_rank_or_mpirun_at_random_moments(self):
        self.kill_at_random(self.resnet, ("epochs=12", EVERY_STEP), 2, ("0", "1", ""), KILLS, 0)

    def test_a_rank_that_dies_ends_the_job(self):
        for rank in ("0", "1"):
            with self.subTest(rank=rank):
                run = self.folder()
                job = Job(["train", self.resnet, "epochs=100000", "--run", run], 2)
                wait_for(f"{run}/checkpoints/best.model.safetensors", job)
                killed = time.monotonic()
                self.assertTrue(job.signal(rank, signal.SIGKILL))
                job.wait()
                self.assertLess(time.monotonic() - killed, soon())
                self.assertNotIn(job.code, (0, None))
                self.assertEqual(job.leftovers, [])


class Stopped(Suite):
    """SIGTERM, SIGUSR1, SIGINT: the step is finished, everything is saved, and the code says so."""

    SETTINGS = ("epochs=40", "checkpoint.minutes=0")

    def stop(self, ranks, target, number):
        for _ in range(10):  # one that has ended before it was signalled is no test
            run = self.folder()
            job = Job(["train", self.resnet, *self.SETTINGS, "--run", run], ranks)
            wait_for(f"{run}/checkpoints/best.model.safetensors", job)
            sent = time.monotonic()
            found = job.signal(target, number)
            if job.wait().code != 0:
                break
        self.assertTrue(found)
        self.assertEqual(job.leftovers, [])
        self.assertLess(time.monotonic() - sent, soon())
        return run, job

    def assertContinues(self, run, ranks):
        before = int(safetensors(checkpoint(run))[1]["step"])
        self.assertGreater(before, 0)
        self.assertLessEqual(before, 200)
        self.train(self.resnet, *self.SETTINGS, run=run, ranks=ranks)
        self.assertIn(f"going on after step {before} ", self.job.output)
        undisturbed = self.undisturbed(self.resnet, *self.SETTINGS, ranks=ranks)
        self.assertSameResults(results(run), results(undisturbed))

    def test_alone(self):
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            with self.subTest(signal=number):
                run, job = self.stop(0, "", number)
                self.assertEnds(job, INTERRUPTED)
                self.assertEqual(len(job.messages()), 1, self.said(job))
                self.assertIn("stopped by a signal after step", job.errors)
                self.assertIn("The same command goes on from there", job.errors)
                self.assertContinues(run, 0)

    def test_other_numbers_of_ranks(self):
        """Who goes on with more or fewer ranks is told once what that does; who does not, nothing."""
        run = self.folder()
        for ranks, before in ((2, None), (0, 2), (0, None), (3, 1)):
            fault = dict(FAULT="signal:1", FAULT_FOLDER=run, FAULT_RANK="0")
            self.train(self.linear, "evaluate.every=0", run=run, ranks=ranks, fault=fault, code=INTERRUPTED)
            told = [line for line in self.job.output.splitlines() if "order of summation" in line]
            self.assertEqual(len(told), before is not None, self.said(self.job))
            if before is not None:
                self.assertIn(f"the number of ranks was {before} and is now {max(ranks, 1)}:", told[0])
        self.train(self.linear, "evaluate.every=0", run=run)
        self.assertSameCurve(run, self.undisturbed(self.linear, "evaluate.every=0"), 1e-5)

    def test_one_rank(self):
        for number, rank in ((signal.SIGTERM, "1"), (signal.SIGUSR1, "0")):
            with self.subTest(signal=number, rank=rank):
                run, job = self.stop(2, rank, number)
                self.assertEnds(job, INTERRUPTED)
                self.assertEqual(len(job.messages()), 1, self.said(job))
                self.assertContinues(run, 2)

    def test_mpirun(self):
        """mpirun passes SIGUSR1 on. A SIGTERM too, but it ends the ranks a second later, whatever they have saved or
        said by then: what is certain is that it fails, leaves nobody behind, and that the same command brings the run to its end, be it that every step was done."""
        run, job = self.stop(2, "", signal.SIGUSR1)
        self.assertEnds(job, INTERRUPTED)
        self.assertContinues(run, 2)
        run, job = self.stop(2, "", signal.SIGTERM)
        self.assertNotEqual(job.code, 0)
        self.train(self.resnet, *self.SETTINGS, run=run, ranks=2)
        self.assertSameResults(results(run), results(self.undisturbed(self.resnet, *self.SETTINGS, ranks=2)))

    def test_before_the_first_step(self):
        """A signal that comes while the data is read is not lost."""
        run = self.folder()
        fault = dict(FAULT="signal:1", FAULT_FOLDER=run)
        self.train(self.resnet, run=run, fault=fault, code=INTERRUPTED)
        self.assertEqual(safetensors(checkpoint(run))[1]["step"], "1")

    def test_speed_is_that_of_the_job_that_measured_it(self):
        """An epoch begun by another job: its images are not counted as if this one had trained on them."""
        run = self.folder()
        fault = dict(FAULT="signal:1", FAULT_FOLDER=run)
        self.train(self.linear, "epochs=1", run=run, fault=fault, code=INTERRUPTED)  # after 48 of 240 images
        self.train(self.linear, "epochs=1", run=run)
        with open(f"{run}/metrics.jsonl") as file:
            entry = json.loads(file.readline())
        self.assertAlmostEqual(entry["seconds"] * entry["samples_per_second"], 192, places=6)

    def test_during_a_checkpoint(self):
        settings = ("epochs=1", "batch=80", "evaluate_batch=48", EVERY_STEP)
        undisturbed = self.train(self.linear, *settings)
        for moment in range(14, 30, 3):
            with self.subTest(moment=moment):
                run = self.folder()
                fault = dict(FAULT=f"signal:{moment}", FAULT_FOLDER=run)
                self.train(self.linear, *settings, run=run, fault=fault, code=INTERRUPTED)
                self.train(self.linear, *settings, run=run)
                self.assertSameResults(results(run), results(undisturbed))


if __name__ == "__main__":
    main()
