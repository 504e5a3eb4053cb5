"""Training on a GPU: as on the CPU, the same bits after a kill, and two ranks on one GPU as one. Part of tests/run_gpu.sh, which says
where the program is (PLUMB) and what the loader needs to find cuDNN, cuBLASLt and NCCL.

usage: gpu_train.py Curves | Texts | Ranks
       gpu_train.py cut FOLDER     writes so much of Fashion-MNIST there as this needs: 2 MB to take along

Without Fashion-MNIST (PLUMB_FASHION_MNIST) images are made up."""

import contextlib
import gzip
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import jobs
import test_cuda_texts
import test_documents_task
import test_trees_task
from jobs import COMMUNICATION, EVERY_STEP, Job, Suite, idx, metrics, results, wait_for

ON_GPU = ("device=cuda", "deterministic=true")
LARGER = {"train": 4500, "test": 500}  # images of the larger data set


def make_up_images(folder):
    """Files like Fashion-MNIST's: ten patterns under noise."""
    noise = random.Random(1)
    pattern = [[noise.randrange(256) for _ in range(784)] for _ in range(10)]
    for part, count in (("train", LARGER["train"]), ("t10k", LARGER["test"])):
        labels = bytes(noise.randrange(10) for _ in range(count))
        images = bytearray()
        for label in labels:
            images += bytes((pixel + noise.randrange(400)) // 3 for pixel in pattern[label])
        for name, kind, data in (("images-idx3", (count, 28, 28), bytes(images)), ("labels-idx1", (count,), labels)):
            with gzip.open(f"{folder}/{part}-{name}-ubyte.gz", "wb", compresslevel=1) as file:
                file.write(idx(8, kind, data))


class OnGpu(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        jobs.small_fashion_mnist(f"{cls.scratch}/larger", **LARGER)
        text = jobs.SMALL.replace("FOLDER", f"{cls.scratch}/larger").replace("epochs: 2", "epochs: 3")
        text = text.replace("validation: 80", "validation: 500").replace("batch: 48", "batch: 100")
        cls.longer = cls.write_class("longer.yaml", text.replace("MODEL", "resnet8, width: 8"))


class Curves(OnGpu):
    def assertSimilar(self, config, *settings, tolerance):
        """Losses within the tolerance. Errors count samples, some of which are near a tie; other measures jump when one changes its bin."""
        with self.subTest(config=config, settings=settings):
            cpu = metrics(self.undisturbed(config, "device=cpu", *settings))
            gpu = metrics(self.undisturbed(config, *ON_GPU, *settings))
            for a, b in zip(cpu, gpu, strict=True):
                said, far = [], []
                for split, name in (("train", "loss"), ("train", "error"), ("validation", "nll"), ("validation", "error"),
                                    ("test", "nll"), ("test", "error")):
                    x, y = a[split][name], b[split][name]
                    said.append(f"{split} {name} {x:.6f} {y:.6f}")
                    allowed = max(tolerance, 0.03) if name == "error" else tolerance
                    if not math.isclose(x, y, rel_tol=allowed, abs_tol=allowed):
                        far.append(f"{split} {name}: {x} and {y}")
                print(f"{os.path.basename(config)} {' '.join(settings)}: epoch {a['epoch']}, CPU and GPU: {', '.join(said)}")
                self.assertFalse(far)

    def test_curves(self):
        # At 0.01 ResNets lose their way: two CPUs' instructions are enough for losses of 2.2 and 2.8.
        slowly = ("optimizer.learning_rate=0.001",)
        for loss in (("cross_entropy",), ("brier",), ("mmce_weighted",), ("focal", "loss.policy=sample")):
            self.assertSimilar(self.linear, "loss.name=" + loss[0], *loss[1:], tolerance=1e-4)
        self.assertSimilar(self.longer, *slowly, tolerance=2e-2)
        self.assertSimilar(self.longer, *slowly, "compute=bfloat16", tolerance=5e-2)
        self.assertSimilar(self.longer, *slowly, "model.name=densenet121", "model.blocks=[2,2,2,2]", "epochs=1", tolerance=1e-2)
        self.assertSimilar(self.longer, *slowly, "model.name=wide_resnet", "model.depth=8", "model.widen=2", "model.dropout=0.2",
                           "epochs=1", tolerance=1e-2)

    def test_recorded_or_not(self):
        """The recorded step makes the same bits as its parts launched one by one."""
        for compute in ("float32", "bfloat16"):
            recorded = self.undisturbed(self.longer, *ON_GPU, "compute=" + compute, "epochs=1")
            plain = self.undisturbed(self.longer, *ON_GPU, "compute=" + compute, "epochs=1", "graph=false")
            self.assertEqual(metrics(recorded), metrics(plain))
            logits = [jobs.contents(f"{run}/test.logits.npy") for run in (recorded, plain)]
            self.assertTrue(logits[0] == logits[1], "the logits differ")

    def test_same_bits_after_a_kill(self):
        settings = (*ON_GPU, "graph=true", "compute=bfloat16", EVERY_STEP)
        undisturbed = self.train(self.longer, *settings)
        run = self.folder()
        job = Job(["train", self.longer, *settings, "--run", run])
        try:
            wait_for(f"{run}/checkpoints/best.model.safetensors", job)  # after the first epoch
        finally:
            job.stop()
        self.assertEnds(job, -signal.SIGKILL)
        self.train(self.longer, *settings, run=run)
        self.assertIn("going on after step", self.job.output + self.job.errors)
        self.assertSameResults(results(run), results(undisturbed))


# Networks as published, on made-up data as long as the real ones: what counts is the speed of the second epoch.
DOCUMENTS = """epochs: 2
batch: 128
dataset: {{name: newsgroups, folder: {folder}, validation: 20, crop: false}}
vectors: {{file: {folder}/vectors.txt}}
model: {{name: global_pooling_cnn, embedding_width: 100}}
loss: {{reduction: mean}}
optimizer: {{name: adam, learning_rate: 0.001, weight_decay: 0, clip_norm: 0}}
schedule: {{name: constant}}
evaluate: {{bootstrap: 20}}
"""
TREES = test_trees_task.CONFIG.replace("batch: 12", "batch: 25").replace("memory: 16", "memory: 150, dropout: 0.5") \
    .replace("embedding_width: 6", "embedding_width: 300").replace("SPARSE", "true").replace("vectors: {{file: {vectors}}}\n", "")


def write_documents(folder, words=1000, of_class=80):
    draw = random.Random(1)
    for part, count in (("train", of_class), ("test", 4)):
        for group in range(test_documents_task.CLASSES):
            path = f"{folder}/20news-bydate-{part}/group.{group:02}"
            os.makedirs(path)
            for number in range(count):
                with open(f"{path}/{1000 + number}", "w", encoding="ascii") as file:
                    file.write("From: somebody\n\n" + " ".join(f"word{draw.randrange(20000)}" for _ in range(words)) + "\n")


    numbers = "".join(f" {draw.gauss(0, 0.4):.4f}" for _ in range(100))
    with open(f"{folder}/vectors.txt", "w", encoding="ascii") as file:
        file.write("".join(f"word{i}{numbers}\n" for i in range(20000)))


def write_treebank(folder, train=2500):
    draw = random.Random(1)
    os.makedirs(folder)
    for name, count in (("train", train), ("dev", 25), ("test", 25)):
        with open(f"{folder}/{name}.txt", "w", encoding="utf-8") as file:
            for _ in range(count):
                label, left = test_trees_task.tree(draw, 5)
                file.write(f"({label} {left} {test_trees_task.tree(draw, 5)[1]})\n")


class Texts(test_cuda_texts.CudaTexts):
    def on_cuda(self, config, *settings, ranks=0):
        return self.train(config, *ON_GPU, *settings, ranks=ranks)

    def set_device(self, config, device):
        text = jobs.contents(config).decode()
        self.assertIn("device: cuda\n", text)
        with open(config, "w", encoding="utf-8") as file:
            file.write(text.replace("device: cuda\n", f"device: {device}\n"))

    def say_speed(self, name, config, *settings):
        with self.subTest(name=name):
            with open(f"{self.on_cuda(config, *settings)}/metrics.jsonl", encoding="utf-8") as file:
                last = json.loads(file.read().splitlines()[-1])
            unit = next(key for key in last if key.endswith("_per_second"))
            print(f"{name} {' '.join(settings)}: {last[unit]:.0f} {unit.replace('_', ' ')}, loss {last['train']['loss']:.4f}")

    def test_speed(self):
        documents, treebank = f"{self.scratch}/long", f"{self.scratch}/many"
        write_documents(documents)
        write_treebank(treebank)
        for compute in ("float32", "bfloat16"):
            self.say_speed("documents of 1,000 words", self.write("long.yaml", DOCUMENTS.format(folder=documents)), "compute=" + compute)
        self.say_speed("trees", self.write("many.yaml", TREES.format(folder=treebank)))

    def test_written_numbers(self):
        """A translator, trained on the device; it decodes there as on the CPU, but for ties."""
        config = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "configs", "numbers.yaml")
        run = self.folder()
        started = time.monotonic()
        self.train(config, *ON_GPU, "compute=bfloat16", "dataset.cache=" + self.scratch, run=run)
        print(f"numbers: trained in {time.monotonic() - started:.0f} s")
        decoded = {}
        for device in ("cuda", "cpu"):
            folder = shutil.copytree(run, self.folder())
            self.set_device(f"{folder}/config.yaml", device)
            started = time.monotonic()
            with open(f"{run}/test.en", encoding="utf-8") as lines:
                done = subprocess.run([jobs.PLUMB, "translate", folder], stdin=lines, capture_output=True, text=True, timeout=60, check=True)
            decoded[device] = done.stdout.splitlines()
            print(f"numbers: {len(decoded[device])} lines in {time.monotonic() - started:.1f} s on {device}, start included")
        with open(f"{run}/test.de", encoding="utf-8") as file:
            answers = file.read().splitlines()
        alike = [sum(a == b for a, b in zip(decoded["cuda"], other, strict=True)) / len(answers) for other in (decoded["cpu"], answers)]
        print(f"numbers: {100 * alike[0]:.1f} % of lines as on the CPU, {100 * alike[1]:.1f} % right")
        self.assertGreater(alike[0], 0.97)
        self.assertGreater(alike[1], 0.5)


class Ranks(OnGpu):
    @contextlib.contextmanager
    def started(self, config, *settings, run):
        """Two ranks that take one GPU for those of two hosts: NCCL refuses two of one host on a GPU, or must be told. None outlives the
        test, and none waits for the other longer than a minute."""
        file, both = f"{self.folder()}.rendezvous", []
        try:
            for rank in range(2):
                both.append(Job(["train", config, *ON_GPU, "share_gpus=true", "collective=nccl", "comm.timeout_seconds=60", *settings,
                                 "--run", run],
                                environment={"PLUMB_RENDEZVOUS": file, "RANK": str(rank), "WORLD_SIZE": "2", "NCCL_SOCKET_IFNAME": "lo",
                                             "NCCL_HOSTID": f"host-{rank}", "NCCL_MULTI_RANK_GPU_ENABLE": "1"}))
            yield both
        finally:
            for job in both:
                job.stop()

    def test_curve_is_that_of_one_rank(self):
        smooth = ("model.sync_batch_norm=true", "optimizer.learning_rate=0.001")
        for config, settings, tolerance in ((self.linear, (), 1e-5), (self.linear, ("loss.name=mmce",), 1e-5),
                                            (self.linear, ("graph=false",), 1e-5),
                                            (self.linear, ("micro_batches=4", "comm.bucket_bytes=64"), 1e-5),
                                            (self.linear, ("comm.gradients=bfloat16",), 2e-2),
                                            (self.resnet, smooth, 5e-3)):
            with self.subTest(config=config, settings=settings):
                alone, run = self.train(config, *ON_GPU, *settings), self.folder()
                with self.started(config, *settings, run=run) as both:
                    for job in both:
                        self.assertEnds(job.wait(120), 0)
                self.assertIn("connects 2 ranks", both[0].output)
                self.assertSameCurve(alone, run, tolerance)

    def test_rank_that_is_lost(self):
        """The other ends soon, and names it: 20 s in a step are those that it waits, where 45 are the default's."""
        for number in (signal.SIGKILL, signal.SIGSTOP):
            for which in (0, 1):
                with self.subTest(signal=number.name, which=which):
                    run = self.folder()
                    with self.started(self.linear, "epochs=1000000", "comm.step_seconds=20", run=run) as both:
                        wait_for(f"{run}/checkpoints/best.model.safetensors", *both)
                        both[which].signal("", number)
                        lost, other = time.monotonic(), both[1 - which]
                        self.assertEnds(other.wait(90), COMMUNICATION)
                        self.assertLess(time.monotonic() - lost, 35)
                        self.assertIn(f"rank {which} on host", other.errors)


class AtOnce(unittest.TextTestResult):
    """Says what failed when it fails: this program may be ended before its end."""

    def say(self, told):
        self.stream.writeln("\n" + told[-1][1])
        self.stream.flush()

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.say(self.failures)

    def addError(self, test, error):
        super().addError(test, error)
        self.say(self.errors)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.stream.write(subtest.id())
            self.say(self.failures if issubclass(error[0], test.failureException) else self.errors)

    def printErrors(self):
        """They were told."""


def main():
    if sys.argv[1:2] == ["cut"] and len(sys.argv) == 3:
        jobs.small_fashion_mnist(sys.argv[2], zipped=True, **LARGER)
        return
    runner = unittest.TextTestRunner(verbosity=2, resultclass=AtOnce)
    if os.path.exists(jobs.FASHION_MNIST):
        unittest.main(testRunner=runner)
    with tempfile.TemporaryDirectory() as made_up:
        print("no Fashion-MNIST here: images are made up")
        make_up_images(made_up)
        jobs.FASHION_MNIST = made_up
        unittest.main(testRunner=runner)


if __name__ == "__main__":
    main()
