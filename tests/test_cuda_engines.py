"""Which of cuDNN's engines a convolution gets: timed once, remembered in a file, as exact and as deterministic as asked.

The stand-in (cudnn_stand_in.cc) has engine 0, which refuses all, 1, which is neither deterministic nor exact in float32,
and 2 and 3; it writes a line a plan that is built."""

import fcntl
import os
import unittest

import jobs
from jobs import Suite, main, metrics

ON_HOST = os.environ.get("PLUMB_ON_HOST", "build/tests/on_host/plumb")
LIBRARIES = os.environ.get("PLUMB_DEVICE_LIBRARIES", "")  # stand-ins of cuDNN and cuBLASLt
SMALL = ("dataset.train_limit=32", "dataset.validation=16", "epochs=1", "optimizer.learning_rate=0.001")


@unittest.skipIf(LIBRARIES == "", "built without the headers of cuDNN and cuBLASLt")
class Engines(Suite):
    def setUp(self):
        super().setUp()
        self.cache = self.made_folder()
        self.file = os.path.join(self.cache, "convolutions.txt")

    def made_folder(self):
        folder = self.folder()
        os.mkdir(folder)
        return folder

    def on_cuda(self, *settings, environment=None):
        """Trains; the plans that were built, as (engine, kind)."""
        log = os.path.join(self.made_folder(), "log")
        variables = {"LD_LIBRARY_PATH": LIBRARIES, "PLUMB_CACHE": self.cache, "CUDNN_STAND_IN_LOG": log}
        variables.update(environment or {})
        program, jobs.PLUMB = jobs.PLUMB, ON_HOST
        try:
            self.run_folder = self.train(self.resnet, "device=cuda", *SMALL, *settings, environment=variables)
        finally:
            jobs.PLUMB = program
        with open(log) as file:
            return [(int(line.split()[1]), int(line.split()[3])) for line in file]

    def lines(self):
        with open(self.file) as file:
            return file.read().splitlines()

    def test_choices_are_remembered(self):
        timed = self.on_cuda()
        first, curve = self.lines(), metrics(self.run_folder)
        self.assertEqual(len(set(first)), len(first))
        self.assertGreater(len(timed), len(first))
        for line in first:
            self.assertRegex(line, r"cudnn \d+ (forward|data|weights) float32 .*\t0[23]$")
        again = self.on_cuda()
        self.assertEqual(self.lines(), first)
        self.assertLessEqual(len(again), len(first))  # one plan a convolution
        self.assertEqual(metrics(self.run_folder), curve)
        with open(self.file) as file:  # what is known is read while another job times its own
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assertLessEqual(len(self.on_cuda()), len(first))

    def test_jobs_that_know_nothing(self):
        """They take turns, and each choice is written once."""
        variables = {"LD_LIBRARY_PATH": LIBRARIES, "PLUMB_CACHE": self.cache}
        started = [jobs.Job([], environment=variables, command=[
            ON_HOST, "train", self.resnet, "device=cuda", *SMALL, "--run", self.folder()]) for _ in range(3)]
        for job in started:
            self.assertEnds(job.wait(), 0)
        lines = self.lines()
        keys = [line.rsplit("\t", 1)[0] for line in lines]
        self.assertEqual(len(set(keys)), len(keys))
        self.assertGreater(len(keys), 0)

    def test_damaged_file(self):
        self.on_cuda()
        whole = self.lines()
        refused = [line.rsplit("\t", 1)[0] + "\t00" for line in whole[:2]]  # an engine that refuses it
        absent = [line.rsplit("\t", 1)[0] + "\t63" for line in whole[2:3]]
        garbage = ["", "\t", "no engine", whole[3] + "x", whole[4][:20], "x" * 2000, "\t-1", whole[4][:-1]]
        with open(self.file, "w") as file:
            file.write("\n".join(refused + absent + garbage + whole[5:-1] + [whole[-1][:-1]]))  # and torn at the end
        self.on_cuda()
        self.assertRegex(self.job.errors, r"convolutions.txt:4: passed over")
        self.assertEqual(self.job.errors.count("passed over"), 1)
        after = self.lines()
        keys = [line.rsplit("\t", 1)[0] for line in after]
        for line in whole:  # each has a last whole line with an engine that takes it
            key = line.rsplit("\t", 1)[0]
            self.assertIn(key, keys)
            self.assertRegex(after[len(keys) - 1 - keys[::-1].index(key)], r"\t0[23]$")
        self.on_cuda()
        self.assertEqual(self.lines(), after)

    def test_no_place_for_the_file(self):
        self.on_cuda(environment={"PLUMB_CACHE": os.path.join(self.cache, "a", "b")})
        self.assertEqual(self.job.errors.count("no cache of convolutions"), 1)

    def test_no_memory_to_time_engines(self):
        """The first that the library names is taken, and not remembered."""
        timed = self.on_cuda(environment={"PLUMB_CACHE": self.made_folder()})
        curve = metrics(self.run_folder)
        engines = self.on_cuda(environment={"PLUMB_TEST_GUARD": "1", "PLUMB_TEST_MEMORY": "500000000",
                                            "CUDNN_STAND_IN_WORKSPACE": "900000000"})
        self.assertEqual(self.job.errors.count("no memory to time the engines of a convolution, so the first is taken: "), 1)
        self.assertEqual(self.lines(), [])
        self.assertEqual({engine for engine, _ in timed}, {2, 3})
        self.assertEqual(metrics(self.run_folder), curve)
        self.assertGreater(len(engines), 0)

    def test_deterministic(self):
        """Nothing is timed, nothing remembered, and no engine is used whose sums change."""
        engines = self.on_cuda("deterministic=true", "compute=bfloat16")
        self.assertNotIn(1, {engine for engine, _ in engines})
        self.assertFalse(os.path.exists(self.file))
        self.assertIn(1, {engine for engine, _ in self.on_cuda("compute=bfloat16")})

    def test_fallback_is_compiled_only_where_nothing_else_is(self):
        """Engine 3 is the fallback; 2 takes dense tensors, and nothing but 3 those inside wider ones."""
        timed = self.on_cuda(environment={"PLUMB_CACHE": self.made_folder(), "CUDNN_STAND_IN_COMPILED": "3"})
        self.assertEqual({engine for engine, _ in timed}, {2})
        timed = self.on_cuda(environment={"PLUMB_CACHE": self.made_folder(), "CUDNN_STAND_IN_COMPILED": "2"})
        self.assertEqual({engine for engine, _ in timed}, {2, 3})
        dense = ("model.name=densenet121", "model.blocks=[2,1,1,1]", "model.width=4", "compute=bfloat16", "deterministic=false")
        timed = self.on_cuda(*dense, environment={"CUDNN_STAND_IN_COMPILED": "3"})
        self.assertIn(3, {engine for engine, _ in timed})

    def test_tf32(self):
        self.assertNotIn(1, {engine for engine, _ in self.on_cuda()})
        self.assertIn(1, {engine for engine, _ in self.on_cuda("tf32=true")})
        self.assertEqual(sum(" tf32\t" in line for line in self.lines()) * 2, len(self.lines()))

    def test_tensor_inside_a_wider_one(self):
        """A convolution writes its columns of a dense block, wherever they begin, or by way of a copy."""
        dense = ("model.name=densenet121", "model.blocks=[2,1,1,1]", "model.width=4", "compute=bfloat16")
        on_cpu = self.train(self.resnet, "device=cpu", *SMALL, *dense)
        for settings in (), ("deterministic=true",):
            self.on_cuda(*dense, *settings)
            self.assertSameCurve(on_cpu, self.run_folder, 3e-2)
        inside = [line for line in self.lines() if "@2 " in line]  # aligned to an element
        self.assertGreater(len(inside), 0)
        for line in inside:
            self.assertRegex(line, r"\t03$")  # the only engine that takes them

    def test_library_that_cannot_be_loaded(self):
        for name in ("libcudnn.so.9", "libcublasLt.so.13"):
            broken = self.made_folder()
            for other in os.listdir(LIBRARIES):
                if other != name:
                    os.symlink(os.path.join(LIBRARIES, other), os.path.join(broken, other))
            with open(os.path.join(broken, name), "w") as file:
                file.write("not a library")
            job = jobs.Job([], environment={"LD_LIBRARY_PATH": broken, "CUDNN_PATH": "", "CUDA_PATH": ""},
                           command=[ON_HOST, "train", self.resnet, "device=cuda", *SMALL, "--run", self.folder()]).wait()
            self.assertEnds(job, jobs.UNSUPPORTED)
            message = "\n".join(job.messages())
            for part in (name, "cannot be loaded", "Install it", "device: cpu"):
                self.assertIn(part, message)


if __name__ == "__main__":
    main()
