"""Runs plumb as a user does, alone or under mpirun, and looks at what it left behind. Standard library only.

The environment says what is tested: PLUMB is the program, PLUMB_FAULT the library of fault.c,
PLUMB_FASHION_MNIST the folder of the data set's four files."""

import array
import ast
import ctypes
import functools
import gzip
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

PLUMB = os.environ.get("PLUMB", "build/plumb")
FAULT = os.environ.get("PLUMB_FAULT", "")
FASHION_MNIST = os.environ.get("PLUMB_FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
SKIP = 77  # CTest's exit code for a suite that cannot run here

# A build with sanitizers may set a factor for all times.
SLOWNESS = float(os.environ.get("PLUMB_TEST_SLOWNESS", "1"))
PATIENCE = 300 * SLOWNESS


def soon():
    """Errors end a job within 10 s, or 30 on a machine that is suddenly busy; timeouts are longer."""
    return 30 * SLOWNESS * max(1, os.getloadavg()[0] / (os.cpu_count() or 1))


# What a rank that is missing is given, in seconds: one that merely does not get a processor comes sooner.
SHORT = 6 * SLOWNESS

EVERY_STEP = "checkpoint.minutes=1e-7"  # a setting: a checkpoint after every step

LIBC = ctypes.CDLL(None)  # loaded here, since nothing may be loaded between a fork and its program

USAGE, INPUT, IO, MEMORY, NUMERIC, COMMUNICATION, UNSUPPORTED, BUSY, INTERRUPTED = 2, 3, 4, 5, 6, 7, 8, 9, 75


def end_with(parent):
    """In a process that is about to become a job: it is killed when its parent ends, however that ends."""
    LIBC.prctl(1, ctypes.c_ulong(signal.SIGKILL))  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


class Job:
    """One command that runs. ranks = 0: without mpirun."""

    def __init__(self, arguments, ranks=0, environment=None, fault=None, command=None):
        self.tag = uuid.uuid4().hex
        variables = dict(os.environ, PLUMB_TEST_JOB=self.tag, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive",
                         OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                         OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
                         PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe", PRTE_MCA_hwloc_default_binding_policy="none")
        variables.update(environment or {})
        if fault is not None:
            variables.update(fault, LD_PRELOAD=FAULT)
            options = variables.get("ASAN_OPTIONS", "")
            variables["ASAN_OPTIONS"] = options + ":verify_asan_link_order=0"
        if command is None:
            command = [PLUMB, *arguments]
            if ranks > 0:
                command = ["mpirun", "-n", str(ranks), *command]
        self.command = command
        self.out = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err,
                                        env=variables, start_new_session=True, preexec_fn=functools.partial(end_with, os.getpid()))
        self.code = None
        self.seconds = None  # until it was waited for

    def wait(self, seconds=None):
        """Until it ends; what still runs after `seconds` is killed and reported by code None."""
        try:
            self.code = self.process.wait(PATIENCE if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            self.code = None
        self.seconds = time.monotonic() - self.started
        self.leftovers = self.remove_leftovers()
        self.output = self._text(self.out)
        self.errors = self._text(self.err)
        return self

    def stop(self):
        """Kills it, if it was not waited for."""
        if self.seconds is None:
            self.process.kill()
            self.wait()

    def said(self):
        return f"\n$ {' '.join(self.command)}\nexit code {self.code} after {self.seconds:.1f} s\n" \
               f"--- output\n{self.output}\n--- errors\n{self.errors}"

    def _text(self, file):
        file.seek(0)
        text = file.read().decode(errors="replace")
        file.close()
        return text

    def everyone(self):
        """Process ids that belong to the job, by rank; "" is mpirun (or a job without ranks)."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    variables = file.read().split(b"\0")
                with open(f"/proc/{name}/stat") as file:
                    state = file.read().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if f"PLUMB_TEST_JOB={self.tag}".encode() not in variables or state == "Z":
                continue
            rank = [v for v in variables if v.startswith(b"OMPI_COMM_WORLD_RANK=")]
            found[rank[0].split(b"=")[1].decode() if rank else ""] = int(name)
        return found

    def remove_leftovers(self):
        """The ids of processes that outlived the job's first process by more than a moment."""
        deadline = time.monotonic() + soon() / 3
        while self.everyone() and self.code is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.everyone()
        for process in left.values():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        return list(left.values())

    def signal(self, which, number):
        """Sends a signal to mpirun (""), or to the rank "0", "1" ...; False if it is not there."""
        process = self.process.pid if which == "" else self.everyone().get(which)
        if process is None:
            return False
        try:
            os.kill(process, number)
        except ProcessLookupError:
            return False
        return True

    def messages(self):
        """What plumb itself wrote to standard error: without mpirun's banner and notes."""
        lines, banner = [], False
        for line in self.errors.splitlines():
            if line.startswith("-----") and line.strip("-") == "":
                banner = not banner
            elif not banner and line.strip() and not is_mpi_note(line):
                lines.append(line)
        return lines


def is_mpi_note(line):
    notes = ("sent help message", "Set MCA parameter \"orte_base_help_aggregate\"",
             "PMIX ERROR", "mpirun: ", "*** ", "Read -1, expected", "Process received signal")
    return any(note in line for note in notes)


def plumb(*arguments, ranks=0, seconds=None, environment=None, fault=None):
    return Job(arguments, ranks, environment, fault).wait(seconds)


# ---- data ----

def idx(kind, extents, data):
    return struct.pack(">HBB", 0, kind, len(extents)) + struct.pack(f">{len(extents)}I", *extents) + data


def small_fashion_mnist(folder, train=320, test=96, zipped=False):
    """The first images of Fashion-MNIST as a data set of its own: read in no time."""
    write, ending = (gzip.open, ".gz") if zipped else (open, "")
    os.makedirs(folder, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        with gzip.open(f"{FASHION_MNIST}/{part}-images-idx3-ubyte.gz") as file:
            images = file.read(16 + 784 * count)[16:]
        with gzip.open(f"{FASHION_MNIST}/{part}-labels-idx1-ubyte.gz") as file:
            labels = file.read(8 + count)[8:]
        with write(f"{folder}/{part}-images-idx3-ubyte{ending}", "wb") as file:
            file.write(idx(8, (count, 28, 28), images))
        with write(f"{folder}/{part}-labels-idx1-ubyte{ending}", "wb") as file:
            file.write(idx(8, (count,), labels))


SMALL = """epochs: 2
batch: 48
dataset: {name: fashion_mnist, folder: FOLDER, validation: 80}
model: {name: MODEL}
augment: {crop_padding: 2, flip: true}
optimizer: {learning_rate: 0.01, momentum: 0.9, weight_decay: 5e-4, clip_norm: 2}
schedule: {name: constant}
evaluate: {bootstrap: 50}
"""


def numbers(entry, path=""):
    """The numbers of nested metrics as (path, value)."""
    if isinstance(entry, dict):
        for key, value in entry.items():
            yield from numbers(value, f"{path}.{key}")
    else:
        yield path, math.nan if entry is None else entry


class Suite(unittest.TestCase):
    """Tests that share a scratch folder with small data and configs: self.linear, self.resnet."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = os.path.realpath(tempfile.mkdtemp(prefix="plumb-test-"))
        cls.data = f"{cls.scratch}/data"
        cls.trained = {}
        small_fashion_mnist(cls.data)
        text = SMALL.replace("FOLDER", cls.data)
        cls.linear = cls.write_class("linear.yaml", text.replace("MODEL", "linear"))
        cls.resnet = cls.write_class("resnet.yaml", text.replace("MODEL", "resnet8, width: 4"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.scratch, ignore_errors=True)

    @classmethod
    def write_class(cls, name, data):
        path = f"{cls.scratch}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return path

    def write(self, name, data):
        return self.write_class(name, data)

    def folder(self):
        """The path of a run that does not exist yet."""
        return f"{self.scratch}/run-{uuid.uuid4().hex[:12]}"

    def said(self, job):
        return job.said()

    def assertEnds(self, job, code):
        self.assertEqual(job.code, code, self.said(job))
        self.assertEqual(job.leftovers, [], "processes left behind" + self.said(job))

    def train(self, config, *overrides, ranks=0, run=None, code=0, seconds=None, fault=None, environment=None):
        """Trains; returns the folder of the run."""
        run = run or self.folder()
        job = plumb("train", config, *overrides, "--run", run, ranks=ranks, seconds=seconds, fault=fault,
                    environment=environment)
        self.assertEnds(job, code)
        self.job = job
        return run

    def assertSameCurve(self, run, other, tolerance):
        for a, b in zip(metrics(run), metrics(other), strict=True):
            for (name, x), (_, y) in zip(numbers(a), numbers(b), strict=True):
                self.assertTrue(math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) or
                                math.isnan(x) and math.isnan(y),
                                f"epoch {a['epoch']}{name}: {x} and {y}")
        shape, logits = npy(f"{run}/test.logits.npy")
        other_shape, other_logits = npy(f"{other}/test.logits.npy")
        self.assertEqual(shape, other_shape)
        worst = max(abs(x - y) for x, y in zip(logits, other_logits))
        self.assertLess(worst, 20 * tolerance * max(abs(x) for x in logits))
        self.assertEqual(contents(f"{run}/test.labels.npy"), contents(f"{other}/test.labels.npy"))

    def assertSameResults(self, found, wanted, what=""):
        """Of results(): the same files with the same bytes. Only their names are told, since to show how the bytes of
        two checkpoints differ takes unittest hours."""
        self.assertEqual(sorted(found), sorted(wanted), what)
        differ = [path for path in sorted(wanted) if found[path] != wanted[path]]
        lines = zip(found["metrics.jsonl"], wanted["metrics.jsonl"]) if "metrics.jsonl" in differ else ()
        first = next((f"\n{a}\n{b}" for a, b in lines if a != b), "")
        self.assertFalse(differ, f"{what}; these files differ: {', '.join(differ)}{first}")

    def undisturbed(self, config, *settings, ranks=0):
        """The folder of a run that nobody stopped; trained once."""
        key = (config, settings, ranks)
        if key not in self.trained:
            self.trained[key] = self.train(config, *settings, ranks=ranks)
        return self.trained[key]


def wait_for(path, *jobs):
    """Until the file is there. A job that ends before will not write it."""
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        ended = [job for job in jobs if job.process.poll() is not None]
        if ended and not os.path.exists(path):
            raise AssertionError(f"{path} does not come: a job has ended" + "".join(job.wait().said() for job in ended))
        if time.monotonic() > deadline:
            raise AssertionError(f"{path} does not come")
        time.sleep(0.01)


def on_gpus(run, copy):
    """A copy of the run whose config asks for a GPU. Who uses it sets NO_GPUS, as the machine may have some."""
    shutil.copytree(run, copy)
    with open(f"{run}/config.yaml", encoding="utf-8") as file:
        lines = file.read().splitlines()
    settings = dict(line.split(": ", 1) for line in lines if not line.startswith("#"))
    settings["device"] = "cuda"
    with open(f"{copy}/config.yaml", "w", encoding="utf-8") as file:
        file.write("".join(f"{name}: {value}\n" for name, value in settings.items()))
    return copy


NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}


# ---- what a run left behind ----

def metrics(run):
    """Lines of metrics.jsonl, without what depends on the clock."""
    lines = []
    with open(f"{run}/metrics.jsonl") as file:
        for line in file:
            entry = json.loads(line)
            entry.pop("seconds")
            entry.pop("tokens_per_second" if "tokens_per_second" in entry else "samples_per_second")
            lines.append(entry)
    return lines


def dynamics(run):
    """Lines of dynamics.jsonl; none without the file."""
    path = f"{run}/dynamics.jsonl"
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file]


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def results(run):
    """Everything of a run that must not depend on when it was stopped: path -> bytes (or parsed metrics)."""
    found = {"metrics.jsonl": metrics(run)}
    older = older_checkpoints(run)  # which one is kept beside the newest depends on when the run was stopped
    for folder, _, names in os.walk(run):
        for name in names:
            path = os.path.relpath(f"{folder}/{name}", run)
            if path not in ("metrics.jsonl", "environment.json", "extensions.jsonl", "lock") and path not in older:
                found[path] = contents(f"{folder}/{name}")
    return found


def npy(path):
    """(shape, values) of a file of float32 or int32 numbers."""
    data = contents(path)
    length = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10:10 + length].decode())
    values = array.array({"<f4": "f", "<i4": "i"}[header["descr"]])
    values.frombytes(data[10 + length:])
    return header["shape"], values


def safetensors(path):
    """(tensors, metadata): name -> (description, bytes)."""
    data = contents(path)
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, tensor in header.items():
        first, end = tensor["data_offsets"]
        tensors[name] = ((tensor["dtype"], tensor["shape"]), data[8 + length + first:8 + length + end])
    return tensors, metadata


def write_safetensors(path, tensors, metadata=None):
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, ((dtype, shape), data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values()))


def floats(data):
    values = array.array("f")
    values.frombytes(data)
    return values


def checkpoint(run, part="model"):
    """The path of the newest training checkpoint's file."""
    names = [name for name in os.listdir(f"{run}/checkpoints")
             if name.startswith("step-") and name.endswith(f".{part}.safetensors")]
    return f"{run}/checkpoints/{max(names)}"


def older_checkpoints(run):
    """The files of all training checkpoints but the newest, as paths inside the run."""
    names = [name for name in os.listdir(f"{run}/checkpoints") if name.startswith("step-")]
    newest = max((name.split(".")[0] for name in names), default="")
    return [f"checkpoints/{name}" for name in names if not name.startswith(newest)]


def main():
    if not os.path.exists(FASHION_MNIST):
        print(f"skipped: {FASHION_MNIST} is missing")
        sys.exit(SKIP)
    # PLUMB_TEST_ONLY: words of which a test's name has one; without any, the whole suite.
    only = [argument for word in os.environ.get("PLUMB_TEST_ONLY", "").split() for argument in ("-k", word)]
    result = unittest.main(argv=[sys.argv[0], *only, *sys.argv[1:]], verbosity=2, exit=False).result
    sys.exit(not result.wasSuccessful() or result.testsRun == 0)
