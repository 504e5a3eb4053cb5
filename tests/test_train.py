"""Training as a user runs it: the same curve at any number of ranks, losses that explode, and what it says."""

import fcntl
import math
import os
import pty
import shutil
import signal
import struct
import termios

from jobs import (EVERY_STEP, INPUT, NUMERIC, PLUMB, Job, Suite, checkpoint, contents, dynamics, floats, main, metrics, npy, plumb,
                  results, safetensors, write_safetensors)


def whole(run):
    """Its results, and what says where they were made."""
    return dict(results(run), environment=contents(f"{run}/environment.json"))


class Ranks(Suite):
    def test_linear_network_at_1_to_4_ranks(self):
        alone = self.train(self.linear)
        self.assertSameResults(results(self.train(self.linear, ranks=1)), results(alone))
        for ranks in (2, 3, 4):
            with self.subTest(ranks=ranks):
                self.assertSameCurve(alone, self.train(self.linear, ranks=ranks), 1e-5)

    def test_batch_norm_over_all_ranks(self):
        settings = ("model.sync_batch_norm=true", "optimizer.learning_rate=0.001")
        alone = self.train(self.resnet, *settings)
        for ranks in (2, 3, 4):
            with self.subTest(ranks=ranks):
                self.assertSameCurve(alone, self.train(self.resnet, *settings, ranks=ranks), 1e-3)

    def test_batch_norm_of_each_rank_differs(self):
        """The test above could not fail if batches were not shared at all."""
        alone, shared = self.train(self.resnet), self.train(self.resnet, ranks=2)
        losses = [metrics(run)[-1]["train"]["loss"] for run in (alone, shared)]
        self.assertNotAlmostEqual(*losses, places=4)

    def test_gradients_that_travel_as_bfloat16(self):
        alone = self.train(self.linear)
        self.assertEqual(metrics(alone), metrics(self.train(self.linear, "comm.gradients=bfloat16")))
        for ranks in (2, 3):
            run = self.train(self.linear, "comm.gradients=bfloat16", ranks=ranks)
            self.assertSameCurve(alone, run, 2e-2)
            self.assertNotEqual(metrics(run), metrics(self.train(self.linear, ranks=ranks)))

    def test_same_bits_again(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                first, second = (self.train(self.resnet, ranks=ranks) for _ in range(2))
                self.assertSameResults(results(second), results(first))

    def test_threads_that_wait_as_the_program_chooses(self):
        """Without OMP_WAIT_POLICY, which suites set, a rank watches for other programs: the same bits, alone and under mpirun."""
        for ranks in (0, 2):
            launcher = ["mpirun", "-n", str(ranks)] if ranks > 0 else []
            run = self.folder()
            job = Job((), command=[*launcher, "env", "-u", "OMP_WAIT_POLICY", "-u", "OMP_NUM_THREADS", PLUMB, "train", self.linear,
                                   "threads=2", "--run", run]).wait()
            self.assertEnds(job, 0)
            self.assertSameResults(results(run), results(self.train(self.linear, "threads=2", ranks=ranks)))

    def test_gradient_accumulation(self):
        whole = self.train(self.linear)
        for parts, ranks in ((2, 0), (6, 0), (3, 2)):
            with self.subTest(parts=parts, ranks=ranks):
                run = self.train(self.linear, f"micro_batches={parts}", "evaluate_batch=48", ranks=ranks)
                self.assertSameCurve(whole, run, 1e-5)
        self.assertSameCurve(self.train(self.linear, "loss.reduction=mean"),
                             self.train(self.linear, "loss.reduction=mean", "micro_batches=2"), 1e-5)

    def test_split_and_batch_that_do_not_fit(self):
        """240 training samples are 5 batches of 48; 96 test samples are 20 batches of 5."""
        run = self.train(self.linear, "evaluate_batch=5")
        self.assertEqual(npy(f"{run}/test.logits.npy")[0], (96, 10))
        self.assertSameCurve(run, self.train(self.linear, "evaluate_batch=12", ranks=4), 1e-5)
        ragged = self.train(self.linear, "batch=100", "evaluate_batch=20")
        self.assertSameCurve(ragged, self.train(self.linear, "batch=100", "evaluate_batch=20", ranks=4), 1e-5)

    def test_padding_of_a_ragged_batch_has_no_part_in_batch_norm(self):
        """32 samples are a batch of 32, or one of 48 with 16 that do not count, or a whole micro-batch that does not."""
        few = ("dataset.train_limit=32", "optimizer.learning_rate=0.001")
        whole = self.train(self.resnet, *few, "batch=32")
        self.assertSameCurve(whole, self.train(self.resnet, *few), 1e-5)
        self.assertSameCurve(whole, self.train(self.resnet, *few, "batch=96", "micro_batches=2"), 1e-5)
        shared = ("model.sync_batch_norm=true",)
        for ranks in (2, 4):
            with self.subTest(ranks=ranks):  # of 4 ranks with 12 samples each, the last has none that counts
                self.assertSameCurve(whole, self.train(self.resnet, *few, *shared, ranks=ranks), 1e-3)


class TrainingSplit(Suite):
    def test_it_is_measured_as_evaluation_sees_it(self):
        """A network that does not learn sees all samples with the same parameters: the steps find what the evaluation finds."""
        still = ("optimizer.learning_rate=0", "epochs=1", "evaluate.train=true", "augment.flip=false", "augment.crop_padding=0")
        line = metrics(self.train(self.linear, *still))[-1]
        self.assertAlmostEqual(line["train"]["error"], line["train_split"]["error"], places=12)
        self.assertAlmostEqual(line["train"]["loss"], line["train_split"]["nll"], places=6)

    def test_it_changes_nothing_else(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                lines = metrics(self.train(self.resnet, "evaluate.train=true", ranks=ranks))
                for line in lines:
                    self.assertEqual(sorted(line.pop("train_split")), sorted(line["test"]))
                    for norm in ("features", "logits"):
                        self.assertGreater(line["norms"].pop(norm), 0)
                self.assertEqual(lines, metrics(self.undisturbed(self.resnet, ranks=ranks)))

    def test_samples_that_are_right_and_wrong(self):
        run = self.undisturbed(self.resnet)
        (samples, classes), logits = npy(f"{run}/test.logits.npy")
        labels, found = npy(f"{run}/test.labels.npy")[1], {}
        for n in range(samples):
            row = logits[n * classes:(n + 1) * classes]
            total = math.fsum(math.exp(x - max(row)) for x in row)
            p = [math.exp(x - max(row)) / total for x in row]
            which = "correct" if row.index(max(row)) == labels[n] else "misclassified"
            found.setdefault(f"nll_{which}", []).append(-math.log(p[labels[n]]))
            found.setdefault(f"entropy_{which}", []).append(-math.fsum(q * math.log(q) for q in p))
        self.assertEqual(len(found), 4)
        for name, values in found.items():
            self.assertAlmostEqual(metrics(run)[-1]["test"][name], math.fsum(values) / len(values), places=6)


class Recorded(Suite):
    """What is recorded of the training split beside its measures: norms at the last linear layer, gradients, reliability."""

    RECORD = ("epochs=3", "evaluate.train=true", "evaluate.gradient_norms=[1, 3]", "evaluate.train_reliability=[3]")
    MEAN, DEVIATION = 0.2860, 0.3530  # of the data set's normalisation

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # The test images are the training images: the logits that a run leaves are those of its training split.
        cls.twins = f"{cls.scratch}/twins"
        shutil.copytree(cls.data, cls.twins)
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
            shutil.copy(f"{cls.twins}/t10k-{kind}", f"{cls.twins}/train-{kind}")
        cls.same = (f"dataset.folder={cls.twins}", "dataset.validation=0", "augment.flip=false", "augment.crop_padding=0",
                    "evaluate.bootstrap=0")

    def reference(self, run):
        """In double precision, of the linear network after its last epoch: weight norm, (norms of features, logits, their label) of
        each training sample."""
        tensors, _ = safetensors(checkpoint(run))
        weights, bias = floats(tensors["fc.weight"][1]), floats(tensors["fc.bias"][1])
        images = contents(f"{self.twins}/train-images-idx3-ubyte")[16:]
        labels = contents(f"{self.twins}/train-labels-idx1-ubyte")[8:]
        samples = []
        for n, label in enumerate(labels):
            pixels = [(byte / 255 - self.MEAN) / self.DEVIATION for byte in images[n * 784:(n + 1) * 784]]
            logits = [bias[k] + math.fsum(w * x for w, x in zip(weights[k * 784:(k + 1) * 784], pixels)) for k in range(10)]
            samples.append((math.hypot(*pixels), logits, label))
        return math.hypot(*weights), samples

    @staticmethod
    def probabilities(logits):
        highest = max(logits)
        total = math.fsum(math.exp(x - highest) for x in logits)
        return [math.exp(x - highest) / total for x in logits]

    def gradient_norm(self, sample, gamma):
        """Of focal loss, -(1 - p)^gamma log p, with respect to weights and bias."""
        features, logits, label = sample
        p = self.probabilities(logits)
        q = p[label]
        factor = (1 - q) ** gamma - gamma * q * (1 - q) ** (gamma - 1) * math.log(q)
        return factor * math.hypot(*(p[k] - (k == label) for k in range(10))) * math.sqrt(features ** 2 + 1)

    def test_against_double_precision(self):
        run = self.train(self.linear, *self.same, *self.RECORD, "loss.name=focal", "loss.gamma=3")
        weights, samples = self.reference(run)
        logits = npy(f"{run}/test.logits.npy")[1]
        for n, (_, row, _) in enumerate(samples):  # the reference reads the samples as the network does
            for k in range(10):
                self.assertAlmostEqual(row[k], logits[10 * n + k], delta=1e-4)
        norms = metrics(run)[-1]["norms"]
        mean = lambda values: math.fsum(values) / len(samples)
        self.assertAlmostEqual(norms["weights"] / weights, 1, places=6)
        self.assertAlmostEqual(norms["features"] / mean([s[0] for s in samples]), 1, places=6)
        self.assertAlmostEqual(norms["logits"] / mean([math.hypot(*s[1]) for s in samples]), 1, places=5)
        lines = dynamics(run)
        self.assertEqual([(line["epoch"], sorted(set(line) - {"epoch", "step"})) for line in lines],
                         [(1, ["gradient_norms"]), (3, ["gradient_norms", "train_reliability"])])
        found, want = lines[-1]["gradient_norms"], [self.gradient_norm(s, 3) for s in samples]
        self.assertEqual((found["loss"], found["samples"]), ("focal", len(samples)))
        self.assertAlmostEqual(found["mean"] / mean(want), 1, places=5)
        self.assertEqual(sum(b["count"] for b in found["bins"]), len(samples))
        for before, after in zip(found["bins"], found["bins"][1:]):
            self.assertEqual(before["upper"], after["lower"])
        for b in found["bins"]:  # a norm on an edge may fall on either side of it
            upper = math.inf if b["upper"] is None else b["upper"]
            inside = lambda slack: sum(b["lower"] * (1 - slack) <= norm < upper * (1 + slack) for norm in want)
            self.assertTrue(inside(-1e-4) <= b["count"] <= inside(1e-4), b)
        self.assertTrue(found["bins"][0]["count"] > 0 and found["bins"][-1]["count"] > 0)
        self.check_reliability(lines[-1]["train_reliability"], samples)

    def check_reliability(self, found, samples):
        self.assertEqual((found["samples"], len(found["bins"])), (len(samples), 25))
        error = gap = 0
        for i, b in enumerate(found["bins"]):
            inside = [(max(p), p.index(max(p)) == label) for p, label in ((self.probabilities(s[1]), s[2]) for s in samples)
                      if i / 25 < max(p) <= (i + 1) / 25]
            self.assertEqual((b["count"], b["share"]), (len(inside), len(inside) / len(samples)))
            self.assertAlmostEqual(b["upper"], (i + 1) / 25, places=6)
            if inside:
                self.assertAlmostEqual(b["confidence"], math.fsum(p for p, _ in inside) / len(inside), places=5)
                self.assertAlmostEqual(b["accuracy"], sum(right for _, right in inside) / len(inside), places=9)
            error += sum(not right for _, right in inside)
            gap += abs(b["confidence"] - b["accuracy"]) * len(inside)
        self.assertAlmostEqual(found["error"], error / len(samples), places=9)
        self.assertAlmostEqual(found["ece"], gap / len(samples), places=5)

    def test_any_number_of_ranks(self):
        """240 training samples; 48 a batch are 16 a rank. Nothing is learned, so that all ranks see the same network."""
        still = ("epochs=1", "evaluate.train=true", "evaluate.gradient_norms=[1]", "evaluate.train_reliability=[1]",
                 "optimizer.learning_rate=0", "evaluate_batch=36")
        alone = self.train(self.linear, *still)
        for ranks in (2, 3):
            with self.subTest(ranks=ranks):
                shared = self.train(self.linear, *still, ranks=ranks)
                self.assertEqual(metrics(shared)[0]["norms"], metrics(alone)[0]["norms"])
                self.assertEqual(dynamics(shared), dynamics(alone))
                self.assertEqual(dynamics(shared)[0]["gradient_norms"]["samples"], 240)

    def test_after_chosen_epochs_alone(self):
        """Without evaluate.train the training split is run when it is needed, and training does not notice."""
        run = self.train(self.resnet, "epochs=3", "evaluate.gradient_norms=[2]", "evaluate.train_reliability=[3, 7]", "evaluate.every=0")
        whole = self.train(self.resnet, *self.RECORD[:2], "evaluate.gradient_norms=[2]", "evaluate.train_reliability=[3]")
        self.assertEqual(dynamics(run), dynamics(whole))
        self.assertEqual([line["epoch"] for line in dynamics(run)], [2, 3])
        for line, other in zip(metrics(run), metrics(whole), strict=True):
            self.assertEqual(list(line["norms"]), ["weights"])
            self.assertEqual(line["norms"]["weights"], other["norms"]["weights"])
            self.assertEqual(line["train"], other["train"])
        by_steps = self.train(self.resnet, "steps=12", "evaluate.gradient_norms=[2]", "evaluate.train_reliability=[3]")
        self.assertEqual(dynamics(by_steps), dynamics(run)[:1])  # the third epoch does not end

    def test_every_second_epoch(self):
        lines = metrics(self.train(self.linear, "epochs=5", "evaluate.train=true", "evaluate.train_every=2"))
        self.assertEqual([line["epoch"] for line in lines if "train_split" in line], [2, 4])
        self.assertEqual([line["epoch"] for line in lines if "features" in line["norms"]], [2, 4])
        job = plumb("train", self.linear, "evaluate.train_every=2", "--run", self.folder())
        self.assertEnds(job, INPUT)
        self.assertIn("evaluate.train_every", job.errors)

    def test_switched_off(self):
        off = ("evaluate.norms=false", "evaluate.gradient_norms=[]", "evaluate.train_reliability=[]", "evaluate.best_models=false")
        run, usual = self.train(self.resnet, "evaluate.train=true", *off), self.train(self.resnet, "evaluate.train=true")
        self.assertFalse(os.path.exists(f"{run}/dynamics.jsonl"))
        self.assertFalse(os.path.exists(f"{run}/best_models.json"))
        lines = metrics(usual)
        for line in lines:
            self.assertEqual(list(line.pop("norms")), ["weights", "features", "logits"])
        self.assertEqual(metrics(run), lines)
        self.assertFalse(os.path.exists(f"{usual}/dynamics.jsonl"))  # no such epoch comes
        self.assertEqual(contents(f"{run}/evaluation.json"), contents(f"{usual}/evaluation.json"))

    def test_killed_and_gone_on_with(self):
        settings = ("epochs=3", "evaluate.gradient_norms=[1, 2, 3]", "evaluate.train_reliability=[2]", EVERY_STEP)
        for config, ranks, moments in ((self.linear, 0, (25, 60, 61, 62, 63, 64, 65, 90, 130)), (self.resnet, 2, (40, 80))):
            undisturbed = self.undisturbed(config, *settings, ranks=ranks)
            self.assertEqual([line["epoch"] for line in dynamics(undisturbed)], [1, 2, 3])
            for moment in moments:
                run = self.folder()
                job = plumb("train", config, *settings, "--run", run, ranks=ranks,
                            fault=dict(FAULT=f"tear:{moment}", FAULT_FOLDER=run))
                self.assertNotEqual(job.code, 0, self.said(job))
                self.train(config, *settings, run=run, ranks=ranks)
                self.assertSameResults(results(run), results(undisturbed), f"killed at operation {moment}")


class NotFinite(Suite):
    def test_learning_rate_that_explodes(self):
        for ranks in (0, 2):
            for config, rate in ((self.linear, "1e30"), (self.resnet, "1e35")):
                with self.subTest(ranks=ranks, config=config):
                    settings = (f"optimizer.learning_rate={rate}", "optimizer.clip_norm=0", EVERY_STEP)
                    run = self.train(config, *settings, ranks=ranks, code=NUMERIC)
                    self.assertEqual(self.job.errors.count("error: "), 1, self.said(self.job))
                    self.assertRegex(self.job.errors, r"step \d+ \(epoch 1, batch \d+\)")
                    self.assertRegex(self.job.errors, "NaN|[Ii]nfinit")
                    with open(f"{run}/failure.txt", encoding="utf-8") as file:  # what a report says of the run
                        self.assertIn(f"error: {file.read()}\n", self.job.errors)
                    stopped = int(self.job.errors.split("step ")[1].split()[0])
                    kept = checkpoint(run)
                    self.assertEqual(int(safetensors(kept)[1]["step"]), stopped - 1)
                    before = contents(kept)
                    self.train(config, *settings, run=run, ranks=ranks, code=NUMERIC)  # it loads
                    self.assertIn(f"step {stopped} ", self.job.errors)
                    self.assertEqual(contents(kept), before)

    def test_nothing_is_kept_before_the_first_checkpoint(self):
        run = self.train(self.linear, "optimizer.learning_rate=1e30", "optimizer.clip_norm=0", code=NUMERIC)
        self.assertIn("training stopped; there is no checkpoint yet. Lower", self.job.errors)
        self.assertEqual(os.listdir(f"{run}/checkpoints"), [])

    def test_best_model_of_a_run_that_explodes_later(self):
        """It waits in memory for the next checkpoint, which never comes; going on would explode again."""
        late = ("epochs=8", "schedule.name=steps", "schedule.epochs=[5]", "schedule.factor=1e38", "optimizer.learning_rate=0.001")
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                run = self.train(self.linear, *late, ranks=ranks, code=NUMERIC)
                lines = metrics(run)
                best = min(lines, key=lambda line: line["validation"]["error"])  # the first of equals
                self.assertGreater(best["epoch"], 1)
                self.assertEqual(safetensors(f"{run}/checkpoints/best.model.safetensors")[1]["epoch"], str(best["epoch"]))

    def test_starting_weights_with_a_nan(self):
        tensors, _ = safetensors(checkpoint(self.train(self.resnet, "epochs=1")))
        name = "layer2.0.conv1.weight"
        self.assertIn(name, tensors)
        values = floats(tensors[name][1])
        values[7] = math.nan
        tensors[name] = (tensors[name][0], values.tobytes())
        path = f"{self.scratch}/nan.safetensors"
        write_safetensors(path, tensors)
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                run = self.train(self.resnet, f"init={path}", ranks=ranks, code=INPUT)
                self.assertEqual(self.job.errors.count("error: "), 1, self.said(self.job))
                self.assertIn(f"{path}: {name}, element 7 is NaN", self.job.errors)
                self.assertNotIn("learning rate", self.job.errors)
                self.assertEqual(os.listdir(f"{run}/checkpoints"), [])
        del tensors[name]  # and the same file tells of a tensor that is not there
        write_safetensors(path, tensors)
        job = plumb("train", self.resnet, f"init={path}", "--run", self.folder())
        self.assertIn(name, job.errors)
        self.train(self.resnet, "epochs=1", f"init={path}", "init_parameters=layer1.*")  # or of some parameters alone
        self.assertRegex(self.job.output + self.job.errors, "these start as they would without it: fc.bias, fc.weight, "
                                                            "layer3.0.bn2.weight and 20 others")
        job = plumb("train", self.resnet, f"init={path}", "init_parameters=lyer1.*", "--run", self.folder())
        self.assertIn("init_parameters (command line): lyer1.* fits no parameter of this network", job.errors)
        sweep = self.write("lyer.yaml", f"sweep: s\nbase: {self.resnet}\nset: {{init: {path}}}\n"
                                        "axes: {part: {good: {init_parameters: layer1.*}, wrong: {init_parameters: lyer1.*}}}\n")
        job = plumb("sweep", sweep, "--folder", self.folder())  # found before the first run
        self.assertIn("lyer.yaml:4: init_parameters: lyer1.* fits no parameter of this network", job.errors)
        self.assertNotIn("starts", job.output + job.errors)

    def test_starting_weights(self):
        """Training goes on from weights with and without PyTorch's prefix as from one another."""
        tensors, _ = safetensors(checkpoint(self.train(self.resnet, "seed=7")))
        path, prefixed = f"{self.scratch}/plain.safetensors", f"{self.scratch}/module.safetensors"
        write_safetensors(path, tensors)
        write_safetensors(prefixed, {f"module.{name}": tensor for name, tensor in tensors.items()})
        first, second = (self.train(self.resnet, f"init={file}") for file in (path, prefixed))
        self.assertEqual(metrics(first), metrics(second))
        self.assertNotEqual(metrics(first), metrics(self.train(self.resnet)))


class Talk(Suite):
    """What a run says while it trains."""

    def test_a_file_gets_plain_lines(self):
        for ranks in (0, 2):
            self.train(self.resnet, ranks=ranks)
            self.assertNotIn("\r", self.job.output)
            self.assertNotIn("\033", self.job.output)
            self.assertIn("epoch 1/2: train loss", self.job.output)
            self.assertEqual(self.job.output.count("epoch 2/2:"), 1)
            self.assertEqual(self.job.messages(), [])

    def test_a_terminal_gets_a_bar(self):
        for command in ([], ["mpirun", "-n", "2"]):
            with self.subTest(command=command):
                text = on_terminal([*command, PLUMB, "train", self.resnet, "epochs=400", "evaluate.every=0",
                                    "--run", self.folder()], "images/s  ")
                self.assertRegex(text, r"\r\033\[Kepoch \d+/400 \[#*\.*\] loss [\d.]+  \d+ images/s")
                self.assertRegex(text, r"\d+ (min \d\d s|h \d\d min) left")

    def test_a_narrow_terminal(self):
        """No line is wider than the terminal, and an error begins on a line of its own."""
        settings = ("epochs=350", "evaluate.every=0", "schedule.name=steps", "schedule.epochs=[40]", "schedule.factor=1e38",
                    "optimizer.learning_rate=0.001")
        for columns, shows in ((80, " images/s"), (50, " left")):
            with self.subTest(columns=columns):
                text = on_terminal([PLUMB, "train", self.resnet, *settings, "--run", self.folder()], "the cause", columns)
                drawn = [line.split("\r")[0].split("\n")[0] for line in text.split("\r\033[K")[1:]]
                drawn = [line for line in drawn if line.startswith("epoch") and "train loss" not in line]
                self.assertGreater(len(drawn), 0, text)
                for line in drawn:
                    self.assertLess(len(line), columns, line)
                    self.assertIn(shows, line)
                before = text[:text.index("error: ")]
                self.assertTrue(before.endswith(("\n", "\r\033[K")), text)

    def test_steps_that_nobody_asked_for(self):
        """The default schedule is for long runs; a short one needs no warning. Who writes epochs down gets it."""
        self.train(self.linear, "schedule.name=steps")
        self.assertEqual(self.job.messages(), [])
        self.train(self.linear, "schedule.name=steps", "schedule.epochs=[1, 5]")
        self.assertIn("the step at epoch 5 is never taken", self.job.errors)

    def test_quiet(self):
        self.train(self.resnet, "--quiet")
        self.assertEqual(self.job.output + self.job.errors, "")

    def test_log_view(self):
        for ranks in (0, 2):
            self.train(self.resnet, "--log-view", ranks=ranks)
            for word in ("conv2d", "batch_norm", "flop/s", "ratio"):
                self.assertIn(word, self.job.output)

    def test_complete_run_is_left_alone(self):
        run = self.train(self.resnet)
        before = whole(run)
        self.train(self.resnet, run=run, ranks=2)
        self.assertIn("is complete", self.job.output)
        self.assertEqual(self.job.messages(), [])
        self.assertSameResults(whole(run), before)

    def test_settings_that_come_too_late(self):
        """A complete run tells what it was made with, not what somebody asked of it later, who is told so."""
        run = self.train(self.resnet)
        before = whole(run)
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.train(self.resnet, "evaluate.bins=20", "checkpoint.keep=3", "--quiet", run=run, ranks=ranks)
                self.assertEqual(self.job.messages(),
                                 [f"warning: {run} is complete and stays as it is; settings that come too late: "
                                  "evaluate.bins: 20 (it has 15), checkpoint.keep: 3 (it has 0)"])
                self.assertSameResults(whole(run), before)

    def test_evaluating_a_run_gives_what_training_wrote(self):
        run = self.train(self.resnet, "checkpoint.keep=1", ranks=2)
        wanted = contents(f"{run}/evaluation.json")
        for ranks in (0, 1, 3):
            out = f"{self.scratch}/evaluated.json"
            job = plumb("evaluate", run, "--bootstrap", "50", "--json", out, ranks=ranks)
            self.assertEnds(job, 0)
            self.assertEqual(contents(out), wanted)
        for which in ("best", "1", "2"):
            self.assertEnds(plumb("evaluate", run, "--checkpoint", which, "--split", "validation"), 0)

    def test_evaluating_with_ranks_that_do_not_share_the_batch_of_training(self):
        run = self.train(self.linear, "batch=64", "epochs=1", ranks=2)
        self.assertEnds(plumb("evaluate", run, "--bootstrap", "0", ranks=3), 0)


class Moved(Suite):
    """A run is measured from anywhere, and wherever it and its data are now."""

    def job(self, folder, *arguments):
        job = Job((), command=["sh", "-c", 'cd "$0" && exec "$@"', folder, os.path.abspath(PLUMB), *arguments]).wait()
        self.assertEnds(job, 0)
        return job

    def test_moved(self):
        home, elsewhere = f"{self.scratch}/home", f"{self.scratch}/elsewhere"
        os.makedirs(f"{home}/data")
        os.makedirs(f"{elsewhere}/data/fashion_mnist")  # data of that name, but not the run's
        os.symlink(self.data, f"{home}/data/fashion_mnist")
        config = f"{home}/config.yaml"
        with open(self.linear, encoding="utf-8") as file:
            text = file.read()
        for case, folder in (("relative", "data/fashion_mnist"), ("the usual place", '""')):
            with self.subTest(case=case):
                with open(config, "w", encoding="utf-8") as file:
                    file.write(text.replace(f"folder: {self.data}", f"folder: {folder}"))
                run = f"{home}/runs/{case[:3]}"
                self.job(home, "train", "config.yaml", "--run", run)
                self.assertIn(f"dataset.folder: {folder}\n".encode(), contents(f"{run}/config.yaml"))
                wanted = contents(f"{run}/evaluation.json")
                out = f"{self.scratch}/moved.json"
                measure = ("--bootstrap", "50", "--json", out)
                self.job(elsewhere, "evaluate", run, *measure)
                self.assertEqual(contents(out), wanted)
                moved = f"{elsewhere}/{case[:3]}"
                os.rename(run, moved)
                os.rename(f"{home}/data", f"{home}/other place")
                self.job(elsewhere, "evaluate", moved, f"dataset.folder={home}/other place/fashion_mnist", *measure)
                self.assertEqual(contents(out), wanted)
                self.job(home, "report", moved)
                os.rename(f"{home}/other place", f"{home}/data")


def on_terminal(command, until, columns=0):
    """What a command writes to a terminal until it has written `until`; then it is stopped."""
    child, master = pty.fork()
    if child != 0 and columns:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    if child == 0:
        os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1",
                          OMPI_MCA_rmaps_base_oversubscribe="1",
                          PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe", OMP_WAIT_POLICY="passive")
        os.execvp(command[0], command)
    text = b""
    while until.encode() not in text:
        try:
            more = os.read(master, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if not more:
            break
        text += more
    os.kill(child, signal.SIGINT)
    try:
        while os.read(master, 4096):
            pass
    except OSError:
        pass
    os.waitpid(child, 0)
    os.close(master)
    return text.decode(errors="replace")


if __name__ == "__main__":
    main()
