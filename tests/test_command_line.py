"""Help, version and lists; and sweeps, whose runs may fail without stopping the others."""

import json
import os
import shutil
import signal
import unittest

from jobs import (INPUT, INTERRUPTED, IO, PLUMB, UNSUPPORTED, USAGE, Job, Suite, checkpoint, main, plumb, results, soon,
                  wait_for, write_safetensors)

DRIVER = os.environ.get("PLUMB_DRIVER_STAND_IN", "")  # folder of a libcuda.so.1 that reports PLUMB_TEST_GPUS
COMMANDS = ("train", "bleu", "evaluate", "sweep", "report", "list")


class Help(Suite):
    def test_help(self):
        for word in ("--help", "-h", "help"):
            job = plumb(word)
            self.assertEnds(job, 0)
            self.assertEqual(job.errors, "")
            for command in COMMANDS:
                self.assertIn(f"  {command} ", job.output)
        self.assertIn("usage: ", plumb().output)

    def test_help_of_commands(self):
        for command in COMMANDS:
            for word in ("--help", "-h"):
                job = plumb(command, word)
                self.assertEnds(job, 0)
                self.assertTrue(job.output.startswith("usage: "), self.said(job))
                self.assertIn(f"plumb {command}", job.output.splitlines()[0])
                self.assertEqual(job.errors, "")

    def test_values_behind_an_equals_sign(self):
        """All commands read options alike."""
        run = self.folder()
        self.assertEnds(plumb("train", self.linear, "--quiet", f"--run={run}"), 0)
        self.assertEnds(plumb("evaluate", run, "--checkpoint=last", "--bootstrap=0", f"--json={run}/again.json"), 0)
        self.assertTrue(os.path.exists(f"{run}/again.json"))
        job = plumb("report", run, f"--output={run}/page.html", "--title=A = B", "--figures=3")
        if job.code != UNSUPPORTED:  # without gnuplot
            self.assertEnds(job, 0)
            with open(f"{run}/page.html", encoding="utf-8") as file:
                self.assertIn("A = B", file.read())
        self.assertIn("--figures takes a whole number from 1 to 100, not '0'", plumb("report", run, "--figures=0").errors)
        sweep = self.write("equals.yaml", "sweep: s\nbase: linear.yaml\naxes: {seed: [1]}\n")
        self.assertEnds(plumb("sweep", sweep, f"--folder={run}-sweep", "--ranks=2", "--slots=1"), 0)
        with open(f"{run}-sweep/seed1/environment.json", encoding="utf-8") as file:
            self.assertEqual(json.load(file)["ranks"], 2)

    def test_version(self):
        job = plumb("--version")
        self.assertEnds(job, 0)
        self.assertRegex(job.output, r"^plumb \d+\.\d+\.\d+\n$")

    def test_lists(self):
        wanted = {"models": ("linear", "resnet8", "resnet110", "densenet121", "wide_resnet"),
                  "losses": ("cross_entropy", "label_smoothing", "brier", "mmce", "focal"),
                  "datasets": ("fashion_mnist", "cifar10", "cifar100", "tiny_imagenet"),
                  "settings": ("seed", "batch", "loss.name", "optimizer.learning_rate")}
        for what, names in wanted.items():
            job = plumb("list", what)
            self.assertEnds(job, 0)
            rows = [line.split(maxsplit=1) for line in job.output.splitlines()]
            self.assertTrue(all(len(row) == 2 for row in rows), self.said(job))
            for name in names:
                self.assertIn(name, [row[0] for row in rows])

    def test_one_rank_speaks(self):
        for arguments in (["--version"], ["list", "models"], ["train", "--help"]):
            alone, together = plumb(*arguments), plumb(*arguments, ranks=2)
            self.assertEnds(together, 0)
            self.assertEqual(together.output, alone.output)


class Sweep(Suite):
    TEXT = """sweep: small
base: linear.yaml
axes:
  loss:
    cross_entropy: {loss.name: cross_entropy}
    brier: {loss.name: brier}
  seed:
    one: {seed: 1}
    two: {seed: 2}
exclude:
  - {loss: brier, seed: two}
"""

    def sweep(self, text, *words):
        """Starts a sweep in a folder of its own."""
        path = self.write(f"sweep-{len(os.listdir(self.scratch))}.yaml", text)
        folder = self.folder()
        return Job(["sweep", path, "--folder", folder, *words]), path, folder

    def test_runs_are_those_of_plain_training(self):
        for slots in ("1", "2"):
            job, path, folder = self.sweep(self.TEXT, "--slots", slots)
            self.assertEnds(job.wait(), 0)
            with open(f"{folder}/sweep.json", encoding="utf-8") as file:
                runs = json.load(file)["runs"]
            self.assertEqual(runs, ["cross_entropy-one", "cross_entropy-two", "brier-one"])
            plain = self.train(self.linear, "loss.name=brier", "seed=1")
            mine = results(f"{folder}/brier-one")
            self.assertIn("brier-one: complete", job.output)
            del mine["log.txt"]
            self.assertSameResults(mine, results(plain))
        again = plumb("sweep", path, "--folder", folder)
        self.assertEnds(again, 0)
        self.assertIn("3 complete already", again.output)
        os.remove(f"{folder}/brier-one/evaluation.json")
        again = plumb("sweep", path, "--folder", folder)
        self.assertIn("2 complete already", again.output)
        self.assertTrue(os.path.exists(f"{folder}/brier-one/evaluation.json"))

    def test_ranks(self):
        job, _, folder = self.sweep(self.TEXT, "--ranks", "2")
        self.assertEnds(job.wait(), 0)
        with open(f"{folder}/brier-one/environment.json", encoding="utf-8") as file:
            self.assertEqual(json.load(file)["ranks"], 2)

    def test_a_failed_run_does_not_stop_the_others(self):
        broken = f"{self.scratch}/other-weights"
        write_safetensors(broken, {"other": (("F32", [1]), bytes(4))})
        text = self.TEXT.replace("one: {seed: 1}", f"one: {{seed: 1, init: {broken}}}")
        job, path, folder = self.sweep(text, "--ranks", "2")
        job.wait()
        self.assertNotIn(job.code, (0, None))
        self.assertIn("2 of 3 runs failed", job.errors)
        self.assertIn("cross_entropy-one: failed", job.output)
        self.assertRegex(job.output, f"    error: .*{broken}")  # of its log the cause, not the launcher's words about it
        self.assertNotIn("mpirun", job.output)
        self.assertTrue(os.path.exists(f"{folder}/cross_entropy-two/evaluation.json"))
        self.assertRegex(job.output, f"cross_entropy-one +failed: .*{broken}")  # and in the table
        page = plumb("report", folder, "--output", "-").output
        self.assertIn("3 runs, 1 complete, 2 failed", page)
        self.assertRegex(page, f">failed: [^<]*{broken}")
        shutil.copy(checkpoint(f"{folder}/cross_entropy-two"), broken)
        self.assertEnds(plumb("sweep", path, "--folder", folder), 0)
        self.assertFalse(os.path.exists(f"{folder}/cross_entropy-one/failure.txt"))

    def test_a_run_that_cannot_speak_for_itself_failed_too(self):
        for script, said in (("kill -KILL $$", "killed by signal 9"), ("exit 7", "ended with exit code 7"),
                             ("echo 'rank 1: the node is gone'; exit 7", "the node is gone")):
            launcher = self.write("launcher.sh", f"#!/bin/sh\n{script}\n")
            os.chmod(launcher, 0o755)
            path = self.write("sweep-killed.yaml", self.TEXT)
            folder = self.folder()
            job = Job(["sweep", path, "--folder", folder], environment={"PLUMB_MPIRUN": launcher}).wait()
            self.assertNotIn(job.code, (0, None))
            self.assertRegex(job.output, f"brier-one +failed: {said}")

    def test_stopped(self):
        text = self.TEXT + "set: {epochs: 60}\n"
        for _ in range(10):  # the first run may be complete before it hears of the signal
            job, path, folder = self.sweep(text)
            wait_for(f"{folder}/cross_entropy-one/checkpoints/best.model.safetensors", job)
            job.signal("", signal.SIGTERM)
            self.assertEnds(job.wait(), INTERRUPTED)
            if not os.path.exists(f"{folder}/cross_entropy-one/evaluation.json"):
                break
        self.assertRegex(job.output, "cross_entropy-one +unfinished: ")  # not failed
        self.assertFalse(os.path.exists(f"{folder}/brier-one"))
        self.assertEnds(plumb("sweep", path, "--folder", folder), 0)
        mine = results(f"{folder}/cross_entropy-one")
        del mine["log.txt"]
        self.assertSameResults(mine, results(self.train(self.linear, "loss.name=cross_entropy", "seed=1", "epochs=60")))

    def test_stopped_just_as_a_run_begins(self):
        """Then nothing else wakes the sweep until the run ends."""
        path = self.write("long.yaml", self.TEXT + "set: {epochs: 1000000, evaluate.every: 0}\n")
        program = self.write("plumb.sh", '#!/bin/sh\nunset LD_PRELOAD FAULT\nexec "$PLUMB" "$@"\n')
        os.chmod(program, 0o755)
        environment = {"PLUMB": os.path.abspath(PLUMB), "PLUMB_PROGRAM": program}
        fault = {"FAULT": "begun:0", "FAULT_FOLDER": self.scratch}
        job = Job(["sweep", path, "--folder", self.folder()], environment=environment, fault=fault)
        self.assertEnds(job.wait(3 * soon()), INTERRUPTED)

    def test_killed_just_as_a_run_begins(self):
        """The run's process then has no parent whose death would end it."""
        path, folder = self.write("long.yaml", self.TEXT + "set: {epochs: 1000000, evaluate.every: 0}\n"), self.folder()
        job = Job(["sweep", path, "--folder", folder], fault={"FAULT": "orphan:0", "FAULT_FOLDER": self.scratch}).wait(soon())
        self.assertEqual(job.code, -signal.SIGKILL, job.said())
        self.assertEqual(job.leftovers, [])
        self.assertEqual(os.listdir(f"{folder}/cross_entropy-one"), [])

    def test_other_settings_than_those_of_complete_runs(self):
        """Never the old results under the new settings."""
        job, path, folder = self.sweep(self.TEXT)
        self.assertEnds(job.wait(), 0)
        again = plumb("sweep", path, "--folder", folder, "optimizer.learning_rate=0.05")
        self.assertEnds(again, INPUT)
        self.assertIn("run cross_entropy-one: ", again.errors)
        self.assertIn("learning_rate: 0.05", again.errors)
        again = plumb("sweep", path, "--folder", folder, "evaluate.bootstrap=10")  # touches no result of training
        self.assertEnds(again, 0)
        self.assertEqual(again.messages(), ["warning: 3 runs are complete and stay as they are; settings that come too "
                                            "late: evaluate.bootstrap: 10 (it has 50)"])

    def test_mistakes_are_found_before_the_first_run(self):
        job, _, folder = self.sweep(self.TEXT.replace("seed: 2", "sede: 2"))
        self.assertNotIn(job.wait().code, (0, None))
        self.assertIn("run cross_entropy-two: ", job.errors)
        self.assertRegex(job.errors, r"sweep-\d+\.yaml:9: sede: unknown setting; did you mean 'seed'")
        self.assertFalse(os.path.exists(folder), self.said(job))
        for wrong, text in (("loss.name: brir", "brir"), ("model.name: linera", "linera"), ("batch: 7", "batch")):
            job, _, folder = self.sweep(self.TEXT.replace("loss.name: brier", wrong), "--ranks", "2")
            self.assertNotIn(job.wait().code, (0, None))
            self.assertIn("run brier-one: ", job.errors)
            self.assertIn(text, job.errors)
            self.assertFalse(os.path.exists(folder), self.said(job))
        for wrong, origin in (("loss: {name: brier, gamma: 2}", ":6: loss.gamma: is set, but nothing uses it"),
                              ("schedule: {name: steps, epochs: [2, 1]}", ":6: schedule.epochs: must rise"),
                              ("dataset.folder: /nowhere", ":6: dataset.folder: there is no folder /nowhere"),
                              (f"dataset.folder: {self.scratch}", "no train-images-idx3-ubyte"),
                              ("dataset.validation: 320", "320 samples held out")):
            job, path, folder = self.sweep(self.TEXT.replace("loss.name: brier", wrong))
            self.assertEnds(job.wait(), INPUT)
            self.assertRegex(job.errors, "error: run brier-one: " + (path if origin[0] == ":" else "") + f".*{origin}")
            self.assertFalse(os.path.exists(folder), self.said(job))
        job, path, folder = self.sweep(self.TEXT, "loss.gamma=2")
        self.assertEnds(job.wait(), INPUT)
        self.assertIn("run cross_entropy-one: loss.gamma (command line): is set", job.errors)
        job, path, _ = self.sweep(self.TEXT.replace("exclude:", "exlude:"))
        self.assertEnds(job.wait(), INPUT)
        self.assertIn(f'{path}:10: a sweep has no "exlude"', job.errors)
        for words in (("--slots", "0"), ("--ranks", "x"), ("--bad",), ("--folder",)):
            self.assertEnds(plumb("sweep", path, *words), USAGE)
        path = self.write("twice.yaml", self.TEXT)
        self.assertEnds(plumb("sweep", path, "--folder", self.folder(), "epochs=1", "epochs=2"), USAGE)
        self.assertEnds(plumb("sweep"), USAGE)
        self.assertEnds(plumb("sweep", path, ranks=2), USAGE)


    def test_data_of_complete_runs_may_be_gone(self):
        data = f"{self.scratch}/counted"
        shutil.copytree(self.data, data)
        text = self.TEXT.replace("exclude:", f"set: {{dataset.folder: {data}}}\nexclude:")
        path, folder = self.write("counted.yaml", text), self.folder()
        self.assertEnds(plumb("sweep", path, "--folder", folder), 0)
        shutil.rmtree(data)
        again = plumb("sweep", path, "--folder", folder)
        self.assertEnds(again, 0)
        self.assertIn("3 complete already", again.output)
        os.remove(f"{folder}/brier-one/evaluation.json")
        again = plumb("sweep", path, "--folder", folder)
        self.assertEnds(again, INPUT)
        self.assertIn(f"run brier-one: {path}:10: dataset.folder: there is no folder {data}", again.errors)

    def test_starting_weights_that_are_not_there(self):
        path = self.write("init.yaml", self.TEXT.replace("one: {seed: 1}", "one: {seed: 1, init: /nowhere}"))
        folder = self.folder()
        job = plumb("sweep", path, "--folder", folder)
        self.assertEnds(job, IO)
        self.assertIn("run cross_entropy-one: init: ", job.errors)
        self.assertIn("/nowhere", job.errors)
        self.assertFalse(os.path.exists(f"{folder}/cross_entropy-one"))

    def test_data_that_only_other_hosts_have(self):
        """Runs that a launcher of the user's starts may find what this host lacks: that is said, once for all runs that
        describe their data alike, and they are tried."""
        path = self.write("elsewhere.yaml", self.TEXT + "set: {dataset.folder: /nowhere}\n")
        job = plumb("sweep", path, "--folder", self.folder(), environment={"PLUMB_MPIRUN": "env THERE=1"})
        self.assertEnds(job, INPUT)
        self.assertEqual(job.errors.count("warning: "), 1, self.said(job))
        self.assertIn(f"warning: run cross_entropy-one: {path}:12: dataset.folder: there is no folder", job.errors)
        self.assertIn("3 of 3 runs failed", job.errors)


class Slots(Suite):
    """Runs at the same time have GPUs and processors of their own."""

    def sweep(self, runs, *words, environment=None, settings=""):
        """The sweep of so many runs on a machine with 8 GPUs, and what CUDA_VISIBLE_DEVICES was in each run. A run waits for
        as many others as there are slots at least, so that all slots are taken."""
        seeds = ", ".join(str(seed) for seed in range(runs))
        path = self.write("slots.yaml", f"sweep: s\nbase: linear.yaml\nset: {{epochs: 1{settings}}}\naxes: {{seed: [{seeds}]}}\n")
        program = self.write("program.sh", '#!/bin/sh\nfor run; do :; done\necho "$CUDA_VISIBLE_DEVICES" >"$run/gpus"\n'
                             'i=0; while [ $(cat "$run"/../*/gpus | wc -l) -lt ${PLUMB_TEST_SLOTS:-1} ] && [ $i -lt 600 ]; do\n'
                             'sleep 0.1; i=$((i + 1)); done\nexec "$PLUMB" "$@"\n')
        os.chmod(program, 0o755)
        folder = self.folder()
        job = Job(["sweep", path, "--folder", folder, *words],
                  environment={"PLUMB": os.path.abspath(PLUMB), "PLUMB_PROGRAM": program, "LD_LIBRARY_PATH": DRIVER,
                               "PLUMB_TEST_GPUS": "8", **(environment or {})}).wait()
        self.assertEnds(job, 0)
        given = {}
        for seed in range(runs):
            with open(f"{folder}/seed{seed}/gpus", encoding="utf-8") as file:
                given[seed] = file.read().splitlines()[0]
        return job, folder, given

    @unittest.skipIf(DRIVER == "", "built without CUDA")
    def test_gpus(self):
        for ranks, words, wanted in (
                (1, (), ["0", "1", "2", "3", "4", "5", "6", "7"]),
                (2, (), ["0,1", "2,3", "4,5", "6,7"]),
                (4, ("--slots", "auto"), ["0,1,2,3", "4,5,6,7"]),
                (1, ("--slots", "2"), ["0", "4"]),
                (3, ("--slots=2",), ["0,1,2", "4,5,6"])):
            with self.subTest(ranks=ranks, words=words):
                job, folder, given = self.sweep(len(wanted), "--ranks", str(ranks), *words,
                                                environment={"PLUMB_TEST_SLOTS": str(len(wanted))})
                self.assertEqual(sorted(given.values()), wanted, self.said(job))
                self.assertIn(f", {len(wanted)} at a time;", job.output)
                for seed, gpus in given.items():
                    self.assertRegex(job.output, f"seed{seed} starts on GPU {gpus}, processors ")
                    self.assertRegex(job.output, f"seed{seed}: complete after [0-9]+ s on GPU {gpus}, processors ")
                    self.assertRegex(job.output, f"(?m)^seed{seed} .* GPU {gpus}$")  # of the table

    @unittest.skipIf(DRIVER == "", "built without CUDA")
    def test_hidden_gpus(self):
        uuids = [f"GPU-{gpu:08d}-0000-0000-0000-000000000000" for gpu in range(8)]
        for environment, ranks, wanted in (
                ({"CUDA_VISIBLE_DEVICES": "6,2,3"}, 1, ["2", "3", "6"]),
                ({"CUDA_VISIBLE_DEVICES": "6,2,3,5"}, 2, ["3,5", "6,2"]),
                ({"CUDA_VISIBLE_DEVICES": "1,4,77,5"}, 1, ["1", "4"]),  # CUDA takes none behind an unknown one
                ({"CUDA_VISIBLE_DEVICES": f"{uuids[5]},{uuids[2]}"}, 1, [uuids[2], uuids[5]]),
                ({"CUDA_VISIBLE_DEVICES": "GPU-00000005,GPU-00000002,GPU-00000007,GPU-00000001"}, 2,
                 ["GPU-00000005,GPU-00000002", "GPU-00000007,GPU-00000001"]),
                ({"SLURM_JOB_GPUS": "4,6"}, 1, ["4", "6"]),
                ({"SLURM_JOB_GPUS": "0-7", "SLURM_STEP_GPUS": "2-3"}, 1, ["2", "3"]),
                ({"SLURM_JOB_GPUS": "4,6", "CUDA_VISIBLE_DEVICES": "1,0"}, 1, ["0", "1"]),
                ({"SLURM_JOB_GPUS": "4,6", "PLUMB_TEST_GPUS": "2"}, 1, ["0", "1"])):  # confined: the driver has no others
            with self.subTest(environment=environment, ranks=ranks):
                job, _, given = self.sweep(len(wanted), "--ranks", str(ranks),
                                           environment={"PLUMB_TEST_SLOTS": str(len(wanted)), **environment})
                self.assertEqual(sorted(given.values()), wanted, self.said(job))

    @unittest.skipIf(DRIVER == "", "built without CUDA")
    def test_fewer_gpus_than_wanted(self):
        _, _, given = self.sweep(3, "--slots", "3", environment={"PLUMB_TEST_SLOTS": "3", "CUDA_VISIBLE_DEVICES": "5,1"})
        self.assertEqual(sorted(given.values()), ["1", "5", "5"])
        for words in (("--ranks", "3"), ("--slots", "1")):  # one run at a time has all, as without a sweep
            job, _, given = self.sweep(2, *words, environment={"CUDA_VISIBLE_DEVICES": "5,1"})
            self.assertEqual(list(given.values()), ["5,1", "5,1"])
            self.assertIn(", 1 at a time;", job.output)
        for environment, settings in (({"CUDA_VISIBLE_DEVICES": ""}, ""), ({}, ", device: cpu"), ({"PLUMB_TEST_GPUS": "0"}, ""),
                                      ({"PLUMB_MPIRUN": "env THERE=1"}, "")):
            job, _, given = self.sweep(2, environment=environment, settings=settings)
            self.assertEqual(list(given.values()), ["", ""])
            self.assertIn(", 1 at a time;", job.output)

    @unittest.skipIf(DRIVER == "", "built without CUDA")
    def test_a_failed_run_frees_its_slot(self):
        launcher = 'case "$run" in *seed0) exit 7;; esac\n'
        path = self.write("frees.yaml", "sweep: s\nbase: linear.yaml\nset: {epochs: 1}\naxes: {seed: [0, 1, 2, 3]}\n")
        program = self.write("frees.sh", '#!/bin/sh\nfor run; do :; done\necho "$CUDA_VISIBLE_DEVICES" >"$run/gpus"\n' + launcher +
                             'exec "$PLUMB" "$@"\n')
        os.chmod(program, 0o755)
        folder = self.folder()
        job = Job(["sweep", path, "--folder", folder, "--slots", "2"],
                  environment={"PLUMB": os.path.abspath(PLUMB), "PLUMB_PROGRAM": program, "LD_LIBRARY_PATH": DRIVER,
                               "PLUMB_TEST_GPUS": "2"}).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("1 of 4 runs failed", job.errors)
        # Which runs follow on seed0's GPU depends on how fast the others are; at least one does.
        self.assertRegex(job.output, r"(?s)seed0: failed after \d+ s on (GPU \d), .*starts on \1, ", self.said(job))
        for seed in (1, 2, 3):
            self.assertTrue(os.path.exists(f"{folder}/seed{seed}/evaluation.json"))
            with open(f"{folder}/seed{seed}/log.txt", encoding="utf-8") as file:
                self.assertEqual(file.read().count("running on the CPU"), 1)  # a log of its own

    def test_processors(self):
        everywhere = sorted(os.sched_getaffinity(0))
        if len(everywhere) < 2:
            self.skipTest("one processor")
        text = "sweep: s\nbase: linear.yaml\naxes: {seed: [1, 2]}\n"
        for ranks in ("1", "2"):
            path, folder = self.write("processors.yaml", text), self.folder()
            job = plumb("sweep", path, "--folder", folder, "--slots", "2", "--ranks", ranks)
            self.assertEnds(job, 0)
            shares = []
            for seed in (1, 2):
                with open(f"{folder}/seed{seed}/environment.json", encoding="utf-8") as file:
                    shares.append(json.load(file)["bound_to_processors"])
                self.assertRegex(job.output, f"seed{seed} starts on processors {shares[-1]}\n")
                self.assertRegex(job.output, f"(?m)^seed{seed} .* CPU {shares[-1]}$")
            if len(everywhere) == 2:
                self.assertEqual(sorted(shares), [str(cpu) for cpu in everywhere])
            self.assertNotEqual(*shares)

    def test_stopped_in_all_slots(self):
        text = "sweep: s\nbase: linear.yaml\nset: {epochs: 1000000, evaluate.every: 0}\naxes: {seed: [1, 2, 3]}\n"
        for ranks in ("1", "2"):
            path, folder = self.write("stop.yaml", text), self.folder()
            job = Job(["sweep", path, "--folder", folder, "--slots", "2", "--ranks", ranks])
            for seed in (1, 2):
                wait_for(f"{folder}/seed{seed}/metrics.jsonl", job)
            job.signal("", signal.SIGTERM)
            self.assertEnds(job.wait(3 * soon()), INTERRUPTED)
            for seed in (1, 2):
                self.assertIn(f"seed{seed}: stopped after ", job.output)
            self.assertFalse(os.path.exists(f"{folder}/seed3"))

    def test_slots_that_are_none(self):
        path = self.write("none.yaml", "sweep: s\nbase: linear.yaml\naxes: {seed: [1]}\n")
        for word in ("0", "-1", "two", "2x", "1025"):
            job = plumb("sweep", path, "--slots", word)
            self.assertEnds(job, USAGE)
            self.assertIn(f"--slots takes a whole number from 1 to 1024, or auto, not '{word}'", job.errors)


if __name__ == "__main__":
    main()
