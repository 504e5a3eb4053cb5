"""A run survives: killed or stopped at any moment and started again, it ends with the same bits."""

import json
import os
import random
import signal
import time

from jobs import (BUSY, EVERY_STEP, INTERRUPTED, PLUMB, Job, Suite, checkpoint, main, older_checkpoints, plumb, results, safetensors,
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
        for operations in (52, 60):
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
    """SIGTERM, SIGUSR1, SIGINT, SIGHUP: the step is finished, everything is saved, and the code says so."""

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
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
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

    def test_ignored_hangup(self):
        """Under nohup a connection may drop: the run goes on."""
        run = self.folder()
        command = ["sh", "-c", 'trap "" HUP; exec "$@"', "-", PLUMB, "train", self.resnet, "epochs=12", "--run", run]
        job = Job((), command=command)
        wait_for(f"{run}/checkpoints/best.model.safetensors", job)
        job.signal("", signal.SIGHUP)
        self.assertEqual(job.wait().code, 0, job.said())

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


class Extended(Suite):
    """A larger number of epochs goes on from the end of a run."""

    def test_more_epochs(self):
        whole = self.undisturbed(self.resnet, "epochs=4")
        for ranks in (0, 2):
            run = self.train(self.resnet, "epochs=2", ranks=ranks)
            self.train(self.resnet, "epochs=4", run=run, ranks=ranks)
            self.assertIn(f"{run} had 2 epochs and goes on to 4", self.job.output)
            self.assertIn("going on after step 10 (epoch 3)", self.job.output)
            with open(f"{run}/extensions.jsonl") as file:
                record = [json.loads(line) for line in file]
            self.assertEqual([(entry["from"], entry["to"]) for entry in record], [(2, 4)])
            self.assertSameResults(results(run), results(whole if ranks == 0 else self.undisturbed(self.resnet, "epochs=4", ranks=2)))

    def test_killed_on_the_way(self):
        """At any operation on files; the same command goes on, and so does one with even more epochs."""
        settings = (self.linear, "batch=80", "evaluate_batch=48")
        whole = self.train(*settings, "epochs=3")
        for moment in range(1, 30):
            run = self.train(*settings, "epochs=1")
            job = plumb("train", *settings, "epochs=2", "--run", run, fault=dict(FAULT=f"kill:{moment}", FAULT_FOLDER=run))
            with self.subTest(moment=moment):
                self.train(*settings, "epochs=2", run=run)
                self.train(*settings, "epochs=3", run=run)
                self.assertSameResults(results(run), results(whole))
            if job.code == 0:
                break

    def test_other_changes_stay_refused(self):
        run = self.train(self.linear, "epochs=2")
        for settings, text in ((("epochs=1",), "epochs: 1"), (("epochs=3", "seed=5"), "seed: 5"),
                               (("epochs=3", "optimizer.learning_rate=0.03"), "optimizer.learning_rate: 0.03")):
            job = plumb("train", self.linear, *settings, "--run", run)
            self.assertEqual(job.code, 3, job.said())
            self.assertIn("was begun with another config", job.errors)
            self.assertIn(text, job.errors)
            self.assertTrue(os.path.exists(f"{run}/evaluation.json"))
            self.assertFalse(os.path.exists(f"{run}/extensions.jsonl"))


class FallsBack(Suite):
    """Two checkpoints are kept; if the newest is damaged, the one before is used."""

    SETTINGS = ("epochs=2", EVERY_STEP)

    def test_damaged(self):
        whole = self.undisturbed(self.linear, *self.SETTINGS)
        for ranks, part in ((0, "model"), (0, "optimizer"), (2, "model")):
            with self.subTest(ranks=ranks, part=part):
                run = self.train(self.linear, *self.SETTINGS)
                self.assertEqual(len(older_checkpoints(run)), 2, os.listdir(f"{run}/checkpoints"))
                os.remove(f"{run}/evaluation.json")
                path = checkpoint(run, part)
                with open(path, "r+b") as file:
                    file.seek(-5, 2)
                    file.write(b"\xa5")
                job = plumb("train", self.linear, *self.SETTINGS, "--run", run, ranks=ranks)
                self.assertEqual(job.code, 0, job.said())
                self.assertIn(f"warning: cannot go on from", job.errors)
                self.assertIn(path, job.errors)
                self.assertIn("going on from the checkpoint before, step-", job.errors)
                if ranks == 0:
                    self.assertSameResults(results(run), results(whole))

    def test_both_damaged(self):
        run = self.train(self.linear, *self.SETTINGS)
        os.remove(f"{run}/evaluation.json")
        newest = checkpoint(run)
        for name in os.listdir(f"{run}/checkpoints"):
            os.truncate(f"{run}/checkpoints/{name}", 100)
        job = plumb("train", self.linear, *self.SETTINGS, "--run", run)
        self.assertEqual(job.code, 3, job.said())
        self.assertIn(newest, job.errors)
        self.assertIn("remove its files to start anew", job.errors)


if __name__ == "__main__":
    main()
