"""What a user can get wrong: each gives one clear message, a non-zero exit code and no hanging rank, soon."""

import concurrent.futures
import gzip
import itertools
import os
import shutil
import signal
import struct
import subprocess
import time
import unittest

from jobs import (BUSY, COMMUNICATION, INPUT, INTERRUPTED, IO, PLUMB, SHORT, SLOWNESS, UNSUPPORTED, USAGE, Job, Suite,
                  checkpoint, contents, idx, main, metrics, older_checkpoints, plumb, safetensors, soon, wait_for, write_safetensors)

OLD_DRIVER = os.environ.get("PLUMB_DRIVER_STAND_IN", "")  # folder of a libcuda.so.1 that is older than the toolkit
AT_ONCE = 4  # jobs; mpirun mostly waits


class Case:
    """`arguments` and `texts` may name {scratch}, {data}, {config} and {run} (a folder that is not there)."""

    def __init__(self, arguments, code, *texts, ranks=(0, 2), fault=None, before=None, user=None):
        self.arguments, self.code, self.texts, self.ranks = arguments, code, texts, ranks
        self.fault, self.before, self.user = fault, before, user


def config_case(lines, *texts, code=INPUT, ranks=(0, 2)):
    """A config of its own: the usual one and these lines (a text: the whole file)."""
    return Case(("train", lines, "--run", "{run}"), code, *texts, ranks=ranks)


class BadInput(Suite):
    def one(self, case, ranks, name):
        run = self.folder()
        names = dict(scratch=self.scratch, data=self.data, config=self.linear, run=run)

        def fill(text):
            for key, value in names.items():
                text = text.replace("{" + key + "}", value)
            return text

        arguments = []
        for argument in case.arguments:
            if isinstance(argument, (list, bytes)):
                text = argument
                if isinstance(argument, list):
                    text = f"base: {self.linear}\n" + "\n".join(argument) + "\n"
                argument = self.write(f"{name}-{ranks}/config.yaml", text)
                names["config"] = argument
            arguments.append(fill(argument))
        if case.before is not None:
            case.before(run)
        fault = case.fault and {key: fill(value) for key, value in case.fault.items()}
        job = Job(arguments, ranks, fault=fault).wait()
        self.check(job, case.code, [fill(text) for text in case.texts])

    def check(self, job, code, texts):
        self.assertEnds(job, code)
        self.assertLess(job.seconds, soon(), self.said(job))
        messages = job.messages()
        heads = [line for line in messages if line.startswith("error: ") or line.startswith("rank ")]
        self.assertEqual(len(heads), 1, self.said(job))
        self.assertTrue(messages[0] == heads[0], self.said(job))
        self.assertLessEqual(len(messages), 5, self.said(job))
        self.assertNotIn("(null)", job.errors)
        for text in texts:
            self.assertIn(text, "\n".join(messages), self.said(job))

    def table(self, cases):
        tasks = [(name, case, ranks) for name, case in cases.items() for ranks in case.ranks]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            futures = [pool.submit(self.one, case, ranks, name) for name, case, ranks in tasks]
            for (name, _, ranks), future in zip(tasks, futures):
                with self.subTest(case=name, ranks=ranks):
                    future.result()

    # ---- command line ----

    def test_command_line(self):
        train = ("train", "{config}", "--run", "{run}")
        self.table({
            "no command": Case((), USAGE, "plumb needs a command", ranks=(0,)),
            "unknown command": Case(("trian",), USAGE, 'no command "trian"'),
            "unknown option": Case((*train, "--lgo-view"), USAGE, "does not know --lgo-view", "--log-view?"),
            "unknown option, with a value": Case(("train", "{config}", "--rnu={run}"), USAGE, "does not know --rnu;", "--run?"),
            "value for a flag": Case((*train, "--quiet=no"), USAGE, "--quiet takes no value", ranks=(0,)),
            "option twice": Case((*train, "--run=other"), USAGE, "--run is given twice", ranks=(0,)),
            "two configs": Case((*train, "other.yaml"), USAGE, "one CONFIG", "other.yaml"),
            "no config": Case(("train",), USAGE, "needs a CONFIG"),
            "no folder": Case(("train", "{config}", "--run"), USAGE, "--run needs a directory"),
            "empty folder": Case(("train", "{config}", "--run="), USAGE, "--run needs a directory", ranks=(0,)),
            "option for folder": Case(("train", "{config}", "--run", "--quiet"), USAGE, "--run needs a directory",
                                      ranks=(0,)),
            "list nothing": Case(("list",), USAGE, "models, losses, datasets and settings"),
            "list unknown": Case(("list", "optimizers"), USAGE, "models, losses, datasets and settings"),
            "unknown setting": Case((*train, "bath=3"), USAGE, "bath", "did you mean 'batch'"),
            "ill-typed setting": Case((*train, "batch=many"), USAGE, "batch", "many"),
            "setting without value": Case((*train, "batch="), USAGE, "batch"),
            "setting without name": Case((*train, "=3"), USAGE, "'=3'", ranks=(0,)),
            "setting twice": Case((*train, "seed=1", "batch=48", "seed=2"), USAGE, "seed=1 and as seed=2"),
            "setting that nothing uses": Case((*train, "loss.gamma=2"), INPUT, "loss.gamma", "command line"),
            "config is missing": Case(("train", "{scratch}/absent.yaml"), IO, "{scratch}/absent.yaml",
                                      "No such file"),
            "config is a folder": Case(("train", "{data}", "--run", "{run}"), IO, "{data}"),
            "evaluate nothing": Case(("evaluate",), USAGE, "plumb evaluate"),
            "evaluate no run": Case(("evaluate", "{run}"), IO, "there is no run {run}"),
            "evaluate unknown split": Case(("evaluate", "{run}", "--split", "trian"), USAGE, "trian"),
        })

    # ---- configs ----

    def test_configs(self):
        for name, base in (("a", "b"), ("b", "c"), ("c", "a"), ("self", "self")):
            self.write(f"cycle/{name}.yaml", f"base: {base}.yaml\nseed: 3\n")
        whole = f"{self.scratch}/"
        self.table({
            "unknown": config_case(["bath: 3"], "config.yaml:2: bath", "did you mean 'batch'"),
            "unknown, nested": config_case(["loss:", "  nmae: brier"], "config.yaml:3: loss.nmae",
                                           "'loss.name'"),
            "nothing near": config_case(["quux: 3"], "config.yaml:2: quux", "plumb list settings"),
            "twice": config_case(["seed: 3", "batch: 48", "seed: 4"], "config.yaml:4", "seed"),
            "twice, dotted": config_case(["loss.name: brier", "loss: {name: mmce}"], "config.yaml:3",
                                         "loss.name"),
            "text for integer": config_case(["batch: many"], "config.yaml:2: batch", "many"),
            "real for integer": config_case(["batch: 48.5"], "config.yaml:2: batch", "48.5"),
            "integer too large": config_case(["seed: 99999999999999999999"], "config.yaml:2: seed"),
            "number for flag": config_case(["augment: {flip: 3}"], "config.yaml:2: augment.flip"),
            "scalar for list": config_case(["schedule: {epochs: x}"], "config.yaml:2: schedule.epochs"),
            "list for scalar": config_case(["batch: [3]"], "config.yaml:2: batch"),
            "map for scalar": config_case(["batch: {size: 3}"], "config.yaml:2", "batch: ", "a map"),
            "scalar for section": config_case(["loss: brier"], "config.yaml:2", "loss"),
            "epochs that fall": config_case(["schedule: {name: steps, epochs: [250, 150]}"],
                                            "config.yaml:2: schedule.epochs: must rise, but 150 follows 250"),
            "gradients before the first epoch": config_case(["evaluate: {gradient_norms: [0, 10]}"],
                                                            "config.yaml:2: evaluate.gradient_norms"),
            "an epoch twice": config_case(["schedule:", "  name: steps", "  epochs: [1, 3, 3]"],
                                          "config.yaml:4: schedule.epochs: must rise, but 3 follows 3"),
            "gamma's epochs that fall": config_case(["loss: {name: focal, policy: schedule, gamma_epochs: [2, 1], gammas: [3, 2, 1]}"],
                                                    "config.yaml:2: loss.gamma_epochs: must rise, but 1 follows 2"),
            "not in range": config_case(["batch: 0"], "config.yaml:2: batch"),
            "more than counts hold": config_case(["micro_batches: 4294967296"], "config.yaml:2: micro_batches"),
            "longer than for ever": config_case(["comm.timeout_seconds: 1e20"], "config.yaml:2: comm.timeout_seconds"),
            "NaN": config_case(["optimizer: {learning_rate: .nan}"], "config.yaml:2: optimizer.learning_rate"),
            "not a choice": config_case(["compute: float16"], "config.yaml:2: compute", "bfloat16"),
            "a constant rate with an end": config_case(["schedule: {name: constant, final_rate: 0.1}"],
                                                       "config.yaml:2: schedule.final_rate: is set, but nothing uses it"),
            "a cosine with a decay": config_case(["schedule: {name: cosine, final_rate: 0.1, decay: 0.5}"],
                                                 "config.yaml:2: schedule.decay: is set, but nothing uses it"),
            "a line with steps": config_case(["schedule: {name: linear, final_rate: 0.1, decay: 0.5, factor: 0.5}"],
                                             "config.yaml:2: schedule.factor: is set, but nothing uses it"),
            "nothing uses it": config_case(["loss: {gamma: 2}"], "loss.gamma", "config.yaml:2"),
            "unknown model": config_case(["model: {name: resnet9}"], "resnet9"),
            "unknown loss": config_case(["loss: {name: focla}"], "focla", "focal"),
            "unknown data": config_case(["dataset: {name: fashion_minst}"], "config.yaml:2: dataset.name", "fashion_minst",
                                        "did you mean 'fashion_mnist'?"),
            "no such folder": config_case(["dataset: {folder: /nowhere}"], "config.yaml:2: dataset.folder: there is no folder /nowhere"),
            "base is missing": config_case(b"base: absent.yaml\n", "config.yaml:1: base", "absent.yaml"),
            "cycle": Case(("train", whole + "cycle/a.yaml", "--run", "{run}"), INPUT, "cycle/a.yaml",
                          "cycle/b.yaml", "cycle/c.yaml"),
            "its own base": Case(("train", whole + "cycle/self.yaml", "--run", "{run}"), INPUT, "cycle/self.yaml"),
            "empty": config_case(b"", "model.name has no value"),
            "no YAML": config_case(b"batch: [3\nseed: 4\n", "config.yaml:"),
            "a list": config_case(b"- batch\n", "config.yaml:1"),
            "binary": config_case(bytes(range(256)), "config.yaml"),
            "alias bomb": config_case(b"a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nseed: [*b,*b]\n", "config.yaml"),
            "too deep": config_case(b"a: " + b"[" * 100000, "config.yaml"),
        })

    def test_shares_of_a_batch(self):
        self.table({
            "more ranks than samples": Case(("train", "{config}", "batch=1", "--run", "{run}"), INPUT, "batch",
                                            "shared by 2 ranks", ranks=(2,)),
            "not a multiple": Case(("train", "{config}", "batch=33", "--run", "{run}"), INPUT, "33 samples",
                                   "2 ranks", ranks=(2,)),
            "micro-batches": Case(("train", "{config}", "micro_batches=5", "--run", "{run}"), INPUT,
                                  "48 samples", "micro-batches"),
            "evaluation": Case(("train", "{config}", "evaluate_batch=7", "--run", "{run}"), INPUT,
                               "evaluate_batch", "7 samples", ranks=(2,)),
            "more than there are": Case(("train", "{config}", "dataset.validation=320", "--run", "{run}"), INPUT,
                                        "320"),
        })

    # ---- data ----

    def spoilt(self, name, file, data):
        """A data set of which one file is another."""
        folder = f"{self.scratch}/spoilt-{name}"
        shutil.copytree(self.data, folder, dirs_exist_ok=True)
        if data is None:
            os.remove(f"{folder}/{file}")
        elif data is not True:
            self.write(f"spoilt-{name}/{file}", data)
        return folder

    def test_data(self):
        images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
        good, good_labels = contents(f"{self.data}/{images}"), contents(f"{self.data}/{labels}")
        test_labels = "t10k-labels-idx1-ubyte"
        zipped = gzip.compress(good)
        harms = {  # file, its new contents, what the message says
            "cut": (images, good[:-1], "cut short"),
            "cut in header": (images, good[:9], "cut short"),
            "empty": (images, b"", "empty"),
            "long": (images, good + b"x", "more than belongs"),
            "magic": (images, b"\1" + good[1:], "magic"),
            "labels for images": (images, good_labels, "magic"),
            "no samples": (images, idx(8, (0, 28, 28), b""), "0"),
            "impossible size": (images, struct.pack(">HBB3I", 0, 8, 3, *[0xFFFFFFFF] * 3), "dimensions"),
            "large size": (images, struct.pack(">HBB3I", 0, 8, 3, 0xFFFFFFFF, 28, 28), "cut short"),
            "shape": (images, idx(8, (320, 56, 14), good[16:]), "56x14"),
            "label": (labels, good_labels[:50] + b"\12" + good_labels[51:], "label 10"),
            "fewer labels": (labels, idx(8, (319,), good_labels[8:-1]), "319 labels"),
            "no test labels": (test_labels, None, "is missing"),
        }
        cases = {}
        for name, (file, data, text) in harms.items():
            folder = self.spoilt(name.replace(" ", "-"), file, data)
            cases[name] = Case(("train", "{config}", f"dataset.folder={folder}", "--run", "{run}"), INPUT,
                               file if name != "fewer labels" else labels, text)
        for name, data, text in (("zip cut", zipped[:-20], "gz"), ("no zip", good, "not a gzip"),
                                 ("zip damaged", zipped[:2000] + b"!!!!" + zipped[2004:], "gz"),
                                 ("zip empty", b"", "empty")):
            folder = self.spoilt(name.replace(" ", "-"), images + ".gz", data)
            os.remove(f"{folder}/{images}")
            cases[name] = Case(("train", "{config}", f"dataset.folder={folder}", "--run", "{run}"), INPUT,
                               f"{folder}/{images}.gz", text)
        cases["no folder"] = Case(("train", "{config}", "dataset.folder={run}", "--run", "{run}"), INPUT, "{run}",
                                  "launch/get_data.sh")
        cifar = f"{self.scratch}/cifar"
        for i in range(1, 6):
            self.write(f"cifar/data_batch_{i}.bin", bytes(3073 * 10))
        self.write("cifar/test_batch.bin", bytes(3073 * 10 - 1))
        cases["CIFAR-10"] = Case(("train", "{config}", "dataset.name=cifar10", f"dataset.folder={cifar}",
                                  "--run", "{run}"), INPUT, "test_batch.bin")
        os.makedirs(f"{self.scratch}/no-tiny/tiny-imagenet-200", exist_ok=True)
        cases["Tiny-ImageNet"] = Case(("train", "{config}", "dataset.name=tiny_imagenet",
                                       "dataset.folder={scratch}/no-tiny", "--run", "{run}"), INPUT, "no-tiny")
        self.table(cases)

    # ---- the run's folder ----

    def test_folders(self):
        self.write("file", "not a folder")
        self.table({
            "below a file": Case(("train", "{config}", "--run", "{scratch}/file/run"), IO, "{scratch}/file"),
            "is a file": Case(("train", "{config}", "--run", "{scratch}/file"), IO, "{scratch}/file"),
            "cannot be": Case(("train", "{config}", "--run", "/proc/no/run"), IO, "/proc/no"),
            "too long": Case(("train", "{config}", "--run", "x" * 5000), USAGE, "too long", ranks=(0,)),
            "metrics are a folder": Case(("train", "{config}", "--run", "{run}"), IO, "{run}/metrics.jsonl", "is a folder",
                                         before=lambda run: os.makedirs(f"{run}/metrics.jsonl")),
            "report's folder": Case(("report", "{scratch}", "--output", "{scratch}/no/report.html"), IO,
                                    "{scratch}/no/report.html", "No such file", ranks=(0,)),
            "report is a folder": Case(("report", "{scratch}", "--output", "{scratch}"), IO, "{scratch}", "is a folder",
                                       ranks=(0,)),
            "name too long": Case(("train", "{config}", "--run", "{scratch}/" + "x" * 300), IO, "name too long"),
        })

    def test_unwritable_folder(self):
        """Root may write everywhere, so nobody tries."""
        if os.getuid() == 0:
            probe = subprocess.run([PLUMB, "--version"], user=65534, capture_output=True, check=False)
            if probe.returncode != 0:
                self.skipTest("the program is not readable by others")
            os.chmod(self.scratch, 0o755)
        locked = f"{self.scratch}/locked"
        os.makedirs(locked, exist_ok=True)
        os.chmod(locked, 0o555)
        for ranks in (0, 2):
            run = f"{locked}/run"
            command = ["mpirun", "-n", "2"] * (ranks == 2) + [PLUMB, "train", self.linear, "--run", run]
            if os.getuid() == 0:
                command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
            job = Job((), command=command, environment={"HOME": "/tmp"}).wait()
            self.check(job, IO, [run, "Permission denied"])

    def test_two_jobs_in_one_folder(self):
        run = self.folder()
        first = Job(["train", self.linear, "epochs=1000000", "evaluate.every=0", "--run", run])
        wait_for(f"{run}/lock", first)
        while not contents(f"{run}/lock"):
            time.sleep(0.01)
        for ranks in (0, 2):
            self.check(Job(["train", self.linear, "epochs=1000000", "evaluate.every=0", "--run", run], ranks).wait(),
                       BUSY, [f"{run}/lock", f"process {first.process.pid}"])
        first.signal("", signal.SIGKILL)
        first.wait()

    def test_another_config_in_an_old_folder(self):
        run = self.train(self.linear)
        os.remove(f"{run}/evaluation.json")
        for ranks in (0, 2):
            job = plumb("train", self.linear, "seed=5", "--run", run, ranks=ranks)
            self.check(job, INPUT, ["begun with another config", "seed: 1", "seed: 5"])
        for harmless in ("evaluate.bootstrap=10", "checkpoint.minutes=3", "threads=1", "comm.step_seconds=90"):
            os.path.exists(f"{run}/evaluation.json") and os.remove(f"{run}/evaluation.json")
            self.train(self.linear, harmless, run=run)

    def test_a_run_of_an_older_version(self):
        """It knew fewer settings, and wrote numbers otherwise: the run goes on, but not under a default that has changed."""
        run = self.train(self.linear)
        config = contents(f"{run}/config.yaml").decode()
        for old, new, code in (("optimizer.momentum: 0.9\n", "", 0),
                               ("loss.gammas: [5, 3]\n", "loss.gammas: [5e+00, 3]\n", 0),
                               ("optimizer.momentum: 0.9\n", "optimizer.momentum: 0.8\n", INPUT)):
            with self.subTest(new=new):
                self.assertIn(old, config)
                with open(f"{run}/config.yaml", "w", encoding="utf-8") as file:
                    file.write(config.replace(old, new))
                os.path.exists(f"{run}/evaluation.json") and os.remove(f"{run}/evaluation.json")
                job = plumb("train", self.linear, "--run", run)
                if code:
                    self.check(job, code, ["begun with another config", new.strip()])
                else:
                    self.assertEnds(job, 0)

    # ---- full disks ----

    def test_full_disk(self):
        """At whatever write the disk is full: one message, and what was there before stays good."""
        failures = 0
        for moment in range(1, 200, 9):
            run = self.folder()
            fault = dict(FAULT=f"full:{moment}", FAULT_FOLDER=run)
            job = plumb("train", self.linear, "epochs=1", "checkpoint.minutes=1e-7", "--run", run, fault=fault)
            if job.code == 0:
                break
            failures += 1
            self.check(job, IO, [run, "No space left on device"])
            self.train(self.linear, "epochs=1", "checkpoint.minutes=1e-7", run=run)
        self.assertGreater(failures, 5)
        self.table({"ranks": Case(("train", "{config}", "--run", "{run}"), IO, "No space left on device",
                                  fault={"FAULT": "full:20", "FAULT_FOLDER": "{run}"}, ranks=(2,))})

    def test_really_full_disk(self):
        small = f"{self.scratch}/small"
        os.makedirs(small)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True,
                                 check=False)
        if mounted.returncode != 0:
            self.skipTest("cannot mount a small file system here")
        try:
            for ranks in (0, 2):
                job = plumb("train", self.linear, "--run", f"{small}/run", ranks=ranks)
                self.check(job, IO, [f"{small}/run", "No space left on device"])
        finally:
            subprocess.run(["umount", small], check=True)

    def test_limit_on_file_size(self):
        command = ["bash", "-c", 'ulimit -f 16 && exec "$@"', "-", PLUMB, "train", self.linear, "--run",
                   self.folder()]
        self.check(Job((), command=command).wait(), IO, ["File too large"])

    def test_full_output(self):
        for arguments in (["list", "settings"], ["--help"], ["train", "--help"]):
            command = ["bash", "-c", 'exec "$@" >/dev/full', "-", PLUMB, *arguments]
            self.check(Job((), command=command).wait(), IO, ["standard output"])

    # ---- checkpoints ----

    def stopped_run(self, config=None, *settings):
        """A run that has one checkpoint and is not complete."""
        run = self.train(config or self.linear, *settings)
        os.remove(f"{run}/evaluation.json")
        for path in older_checkpoints(run):
            os.remove(f"{run}/{path}")
        return run

    def test_any_byte_of_a_checkpoint_flipped(self):
        run = self.stopped_run()
        for part in ("model", "optimizer"):
            path = checkpoint(run, part)
            good = contents(path)
            header = 8 + struct.unpack("<Q", good[:8])[0]
            places = [*range(0, 8), *range(8, header, 61), header - 1, header, header + 1,
                      *range(header, len(good), len(good) // 20), len(good) - 1]
            for place in places:
                bad = bytearray(good)
                bad[place] ^= 1 << place % 8
                self.put(path, bad)
                job = plumb("train", self.linear, "--run", run)
                self.check(job, INPUT, [path])
                self.assertFalse(os.path.exists(f"{run}/evaluation.json"))
            self.check(plumb("train", self.linear, "--run", run, ranks=2), INPUT, [path])
            self.put(path, good)
        self.train(self.linear, run=run)

    def put(self, path, data):
        with open(path, "wb") as file:
            file.write(data)

    def test_checkpoint_cut_short(self):
        run = self.stopped_run()
        for part in ("model", "optimizer"):
            path = checkpoint(run, part)
            good = contents(path)
            for size in (0, 3, 8, 100, len(good) // 2, len(good) - 1):
                self.put(path, good[:size])
                self.check(plumb("train", self.linear, "--run", run), INPUT, [path])
            self.put(path, good + b"x")
            self.check(plumb("train", self.linear, "--run", run, ranks=2), INPUT, [path])
            self.put(path, good)
        self.train(self.linear, run=run)

    def test_wrong_checkpoints(self):
        other = self.stopped_run(self.resnet)
        older = self.stopped_run(self.linear, "epochs=1")

        def replace(part, source):
            def change(run):
                shutil.copy(checkpoint(source, part), checkpoint(run, part))
            return change

        def newer(run):
            """A future version, which would have checksums of its own."""
            path = checkpoint(run)
            tensors, metadata = safetensors(path)
            del metadata["checksum"], metadata["checksum_kind"]
            metadata["plumb.format"] = "2"
            write_safetensors(path, tensors, metadata)

        changes = {
            "another network": (replace("model", other), "another network"),
            "another network's optimizer": (replace("optimizer", other), "do not belong together"),
            "an older optimizer": (replace("optimizer", older), "do not belong together"),
            "a newer version": (newer, "newer plumb"),
            "no optimizer": (lambda run: os.remove(checkpoint(run, "optimizer")), "optimizer", IO),
            "a text": (lambda run: self.put(checkpoint(run), b"hello"), "safetensors"),
        }
        for (name, (change, text, *code)), ranks in itertools.product(changes.items(), (0, 2)):
            with self.subTest(case=name, ranks=ranks):
                run = self.stopped_run()
                change(run)
                self.check(plumb("train", self.linear, "--run", run, ranks=ranks), *(code or [INPUT]),
                           [text, "cannot go on from", "remove its files to start anew"])

    def test_starting_weights(self):
        weights = checkpoint(self.stopped_run(self.resnet))
        cut = self.write("cut.safetensors", contents(weights)[:-5])
        empty = self.write("empty.safetensors", b"")
        train = ("train", "{config}", "--run", "{run}")
        self.table({
            "missing": Case((*train, "init={scratch}/absent"), IO, "{scratch}/absent"),
            "another network": Case((*train, f"init={weights}"), INPUT, weights),
            "cut short": Case((*train, f"init={cut}"), INPUT, cut),
            "empty": Case((*train, f"init={empty}"), INPUT, empty),
        })

    def test_evaluating_a_run(self):
        run = self.train(self.linear, "dataset.validation=0")
        begun, bare = self.folder(), self.folder()
        self.train(self.linear, run=begun, fault=dict(FAULT="signal:1", FAULT_FOLDER=begun), code=INTERRUPTED)
        os.makedirs(bare)
        shutil.copy(f"{run}/config.yaml", bare)
        self.table({
            "not a run": Case(("evaluate", "{scratch}"), INPUT, "{scratch} is no run", "config.yaml"),
            "before the first epoch": Case(("evaluate", begun, "--checkpoint", "best"), INPUT,
                                           "no best checkpoint yet: no epoch has ended"),
            "data elsewhere": Case(("evaluate", run, "dataset.folder={scratch}/absent"), INPUT, "{scratch}/absent"),
            "another setting": Case(("evaluate", run, "seed=3"), USAGE, "seed=3", ranks=(0,)),
            "no checkpoint": Case(("evaluate", bare, "--checkpoint", "last"), INPUT, "no checkpoint"),
            "no best": Case(("evaluate", run, "--checkpoint", "best"), INPUT, "no best checkpoint"),
            "not kept": Case(("evaluate", run, "--checkpoint", "1"), INPUT, "checkpoint.keep"),
            "no number": Case(("evaluate", run, "--checkpoint", "lats"), USAGE, "lats"),
            "no validation": Case(("evaluate", run, "--split", "validation", "--checkpoint", "last"), INPUT,
                                  "validation split"),
        })

    def test_start_that_failed_does_not_bind(self):
        """The command that is put right uses the same folder."""
        run = self.folder()
        self.check(plumb("train", self.linear, "loss.gamma=2", "--run", run), INPUT, ["loss.gamma"])
        self.check(plumb("train", self.linear, "batch=49", "--run", run, ranks=2), INPUT, ["batch"])
        self.train(self.linear, "epochs=1", run=run)

    def test_ranks_that_read_different_checkpoints(self):
        """As when a job that trains saves in between."""
        runs = [self.train(self.linear, "epochs=1", f"seed={seed}") for seed in (1, 2)]
        first, second = (["-n", "1", PLUMB, "evaluate", run, "--bootstrap", "0"] for run in runs)
        job = Job((), command=["mpirun", *first, ":", *second]).wait()
        self.check(job, COMMUNICATION, ["the checkpoint of rank 1", "differs"])

    def test_ranks_that_start_from_different_weights(self):
        """As when hosts have files of their own under one name."""
        words = [PLUMB, "train", self.linear, "init=weights.safetensors", "--run", self.folder()]
        command = ["mpirun"]
        for seed in (1, 2):
            place = os.path.dirname(checkpoint(self.train(self.linear, "epochs=1", f"seed={seed}")))
            os.symlink(f"{place}/best.model.safetensors", f"{place}/weights.safetensors")
            command += ["-n", "1", "--wdir", place, *words, ":"]
        job = Job((), command=command[:-1]).wait()
        self.check(job, COMMUNICATION, ["the starting parameters of rank 1", "differs"])

    # ---- a rank that fails alone ----

    def test_one_rank_cannot_read(self):
        run = self.stopped_run()
        train = ("train", "{config}", "--run", "{run}")
        deny = {"FAULT": "deny:0", "FAULT_RANK": "1"}
        self.table({
            "config": Case(train, IO, "rank 1: ", "{scratch}/linear.yaml", ranks=(2,),
                           fault=dict(deny, FAULT_FOLDER="{scratch}/linear.yaml")),
            "data": Case(train, IO, "rank 1: ", "{data}", ranks=(2, 3), fault=dict(deny, FAULT_FOLDER="{data}")),
            "checkpoint": Case(("train", "{config}", "--run", run), IO, "rank 1: ", run, ranks=(2,),
                               fault=dict(deny, FAULT_FOLDER=run)),
        })

    @unittest.skipIf(OLD_DRIVER == "", "built without CUDA")
    def test_driver_older_than_the_toolkit(self):
        """As CUDA's own runtime finds it out. Who asked for a GPU is refused; who did not is told, and gets the CPU."""
        environment = {"LD_LIBRARY_PATH": OLD_DRIVER}
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                job = Job(["train", self.linear, "device=cuda", "--run", self.folder()], ranks, environment).wait()
                self.check(job, UNSUPPORTED, ["the NVIDIA driver is too old: it supports CUDA 11.8, and this build needs 1",
                                              "update the driver", "with device=cpu the CPU computes"])
                self.assertNotIn("rank 0: ", job.errors)  # it is the same on all
                run = self.train(self.linear, "device=auto", "epochs=1", ranks=ranks, environment=environment)
                self.assertEqual(self.job.messages()[0].split(":")[:3],
                                 ["warning", " running on the CPU", " the NVIDIA driver is too old"], self.said(self.job))
                self.assertEqual(len(self.job.messages()), 1, self.said(self.job))
                self.assertEqual(metrics(run), metrics(self.undisturbed(self.linear, "device=cpu", "epochs=1", ranks=ranks)))

    def test_ranks_that_disagree(self):
        """Two commands under one mpirun."""
        def both(first, second):
            command = ["mpirun", "-n", "1", PLUMB, *first, ":", "-n", "1", PLUMB, *second]
            return Job((), command=command).wait()

        train = ["train", self.linear, "--run", self.folder()]
        self.check(both(train, [*train, "seed=2"]), COMMUNICATION, ["config of rank 1", "differs"])
        self.check(both(train, [*train, "--bad"]), USAGE, ["rank 1: ", "--bad"])
        self.check(both([*train, "--bad"], train), USAGE, ["--bad"])

    def test_a_job_that_is_suspended(self):
        """All ranks are stopped for longer than they would wait for one another, and go on."""
        run = self.folder()
        patience = 10 * SLOWNESS
        job = Job(["train", self.linear, "epochs=1000000", f"comm.timeout_seconds={patience}", "--run", run], 2)
        wait_for(f"{run}/checkpoints/best.model.safetensors", job)
        job.signal("0", signal.SIGSTOP)
        time.sleep(0.5)  # the other comes to wait for it
        job.signal("1", signal.SIGSTOP)
        time.sleep(patience + 3)
        job.signal("1", signal.SIGCONT)
        job.signal("0", signal.SIGCONT)
        time.sleep(patience + 3)
        job.signal("0", signal.SIGUSR1)
        self.assertEnds(job.wait(), INTERRUPTED)

    def test_a_rank_that_hangs(self):
        run = self.folder()
        job = Job(["train", self.linear, "epochs=1000000", f"comm.timeout_seconds={SHORT}", "--run", run], 2)
        wait_for(f"{run}/checkpoints/best.model.safetensors", job)
        job.signal("1", signal.SIGSTOP)
        stopped = time.monotonic()
        job.wait()
        self.assertEnds(job, COMMUNICATION)
        self.assertLess(time.monotonic() - stopped, SHORT + soon())
        self.assertIn("rank 1", job.errors)


if __name__ == "__main__":
    main()
