"""Translation as a user trains it, on a small made corpus: ranks, parts, resume, evaluation, subwords, what goes wrong."""

import json
import math
import os
import random
import shutil

from jobs import (INPUT, USAGE, Job, Suite, checkpoint, contents, main, metrics, numbers, safetensors)

CONFIG = """epochs: 2
batch_tokens: 160
batch_shapes: 4
dataset: {{name: parallel, folder: {folder}, cache: {cache}}}
subwords: {{size: 60}}
model: {{name: transformer, width: 16, feed_forward_width: 32, heads: 2, layers: 1, residual_dropout: 0.1}}
loss: {{name: label_smoothing, alpha: 0.1, reduction: mean}}
optimizer: {{name: adam, learning_rate: 0.01, beta2: 0.98, epsilon: 1.0e-9, weight_decay: 0, clip_norm: 0}}
schedule: {{name: constant}}
evaluate: {{bootstrap: 20}}
threads: 1
"""
WORDS = {"red": "rot", "green": "gruen", "cat": "katze", "dog": "hund", "sees": "sieht", "big": "gross", "\u00e4pple": "apfel"}


def write_corpus(folder, seed):
    """The words of a line in their other language, the last first."""
    draw = random.Random(seed)
    os.makedirs(folder, exist_ok=True)
    for name, count in (("train", 220), ("val", 30), ("test", 40)):
        sides = ([], [])
        for _ in range(count):
            words = [draw.choice(list(WORDS)) for _ in range(draw.randrange(1, 9))]
            sides[0].append(" ".join(words))
            sides[1].append(" ".join(WORDS[word] for word in reversed(words)))
        for side, language in zip(sides, ("en", "de")):
            with open(f"{folder}/{name}.{language}", "w", encoding="utf-8") as file:
                file.write("\n".join(side) + "\n")


class TranslationTask(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = f"{cls.scratch}/corpus"
        cls.cache = f"{cls.scratch}/cache"
        write_corpus(cls.data, 1)
        text = CONFIG.format(folder=cls.data, cache=cls.cache)
        cls.config = cls.write_class("pairs.yaml", text)
        cls.without_subwords = cls.write_class("without.yaml", text.replace("subwords: {size: 60}\n", ""))

    def assertAlike(self, run, other, tolerance):
        for a, b in zip(metrics(run), metrics(other), strict=True):
            for (name, x), (_, y) in zip(numbers(a), numbers(b), strict=True):
                self.assertTrue(math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) or math.isnan(x) and math.isnan(y),
                                f"epoch {a['epoch']}{name}: {x} and {y}")

    def test_learns(self):
        run = self.train(self.config, "epochs=12", "model.residual_dropout=0")
        curve = metrics(run)
        self.assertLess(curve[-1]["test"]["nll"], 0.6 * curve[0]["test"]["nll"])
        self.assertTrue(os.path.exists(f"{run}/subwords.model"))
        self.assertFalse(os.path.exists(f"{run}/test.logits.npy"))

    def test_norms_of_the_last_layer(self):
        """Of all target tokens; gradients of single tokens are not looked at."""
        run = self.train(self.config, "epochs=1", "evaluate.train=true", "model.residual_dropout=0")
        norms = metrics(run)[-1]["norms"]
        self.assertEqual(list(norms), ["weights", "features", "logits"])
        self.assertAlmostEqual(norms["features"], 16 ** 0.5, delta=1)  # the layer norm before it starts at 1
        for ranks in (2, 3):
            shared = metrics(self.train(self.config, "epochs=1", "evaluate.train=true", "model.residual_dropout=0", ranks=ranks))
            for norm, value in norms.items():
                self.assertAlmostEqual(shared[-1]["norms"][norm] / value, 1, delta=2e-3)
        self.train(self.config, "evaluate.gradient_norms=[1]", code=INPUT)
        self.assertIn("evaluate.gradient_norms", self.job.errors)

    def test_ranks_and_parts(self):
        """The same batches of sentences, shared in other ways."""
        alone = self.undisturbed(self.config)
        for ranks, settings in ((2, ()), (3, ()), (0, ("part_tokens=40",)), (2, ("part_tokens=30",))):
            with self.subTest(ranks=ranks, settings=settings):
                self.assertAlike(alone, self.train(self.config, *settings, ranks=ranks), 2e-3)

    def test_goes_on_with_the_same_bits(self):
        """Also from the middle of an epoch."""
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                run = self.train(self.config, "steps=7", ranks=ranks)
                self.train(self.config, "steps=17", ranks=ranks, run=run)
                whole = self.train(self.config, "steps=17", ranks=ranks)
                self.assertEqual(safetensors(checkpoint(run))[0], safetensors(checkpoint(whole))[0])
                self.assertEqual(metrics(run)[-1]["test"], metrics(whole)[-1]["test"])

    def test_evaluate_measures_the_same_at_any_number_of_ranks(self):
        run = self.undisturbed(self.config)
        want = json.loads(contents(f"{run}/evaluation.json"))
        self.assertEqual(want["sentences"], 40)
        self.assertEqual((want["checkpoint"], want["step"]), ("last", metrics(run)[-1]["step"]))
        with open(f"{self.data}/test.de", encoding="utf-8") as file:
            self.assertGreater(want["samples"], sum(len(line.split()) + 1 for line in file) - 1)
        for kind in ("token", "position in the sentence", "tenth by frequency"):
            groups = [group for group in want["groups"][kind].values() if group["samples"] > 0]
            self.assertGreater(len(groups), 1)
            self.assertEqual(sum(group["samples"] for group in groups), want["samples"])
            for stage in ("before", "after_ece"):
                for measure in ("error", "mean_confidence", "nll"):
                    mean = sum(group["samples"] * group[stage][measure] for group in groups) / want["samples"]
                    self.assertAlmostEqual(mean, want[stage][measure], places=6)
                parts = sum(group["samples"] * group[stage]["ece"] for group in groups) / want["samples"]
                self.assertGreater(parts, want[stage]["ece"] - 1e-9)  # gaps of parts do not cancel
        self.assertEqual(want["groups"]["token"]["end of sentence"]["samples"], 40)
        self.assertEqual(want["groups"]["position in the sentence"]["1"]["samples"], 40)
        last = metrics(run)[-1]["test"]
        for measure in ("error", "nll", "ece"):
            self.assertAlmostEqual(want["before"][measure], last[measure], places=6)
        for ranks in (0, 3):
            path = self.folder() + ".json"
            self.assertEnds(Job(["evaluate", run, "--checkpoint", "last", "--json", path], ranks).wait(), 0)
            found = json.loads(contents(path))
            self.assertEqual(found["temperature"], want["temperature"])
            self.assertEqual([group["samples"] for group in found["groups"]["tenth by frequency"].values()],
                             [group["samples"] for group in want["groups"]["tenth by frequency"].values()])
            for stage in ("before", "after_ece", "after_nll"):
                for measure in ("error", "nll", "ece"):
                    self.assertAlmostEqual(found[stage][measure], want[stage][measure], places=6)
            low, high = found["before"]["intervals"]["ece"] if "intervals" in found["before"] else (0, 1)
            self.assertLess(low, high)

    def test_curves_against_temperature(self):
        run = self.undisturbed(self.config)
        path = self.folder() + ".json"
        job = Job(["evaluate", run, "--checkpoint", "last", "--temperatures", "0.5:2:0.25", "--bootstrap", "0", "--json", path], 2).wait()
        self.assertEnds(job, 0)
        found = json.loads(contents(path))
        curve = found["temperatures"]
        self.assertEqual(curve["temperature"], [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2])
        for measure in ("ece", "nll"):
            self.assertAlmostEqual(curve["test"][measure][2], found["before"][measure], places=9)  # T = 1 is no scaling
            self.assertEqual(len(set(curve["validation"][measure])), 7)
        self.assertIn("validation ECE %", job.output)
        for option in (("--all-measures",), ("--recalibrate", "isotonic")):
            job = Job(["evaluate", run, *option]).wait()
            self.assertIn("need all logits at once", job.errors, self.said(job))
            self.assertNotEqual(job.code, 0)
        for option, text in (("--all-measures", "need all logits at once"), ("--ood=svhn=/nowhere", "for images only")):
            job = Job(["evaluate", run, "dataset.folder=/nowhere", option]).wait()  # said before the data are looked at
            self.assertIn(text, job.errors, self.said(job))

    def test_validation_by_bleu(self):
        """Ranks share the sentences; the best is the highest; what was counted goes on after a stop."""
        settings = ("epochs=6", "evaluate.every=1", "evaluate.bleu=greedy", "evaluate.bleu_every=2", "checkpoint.best=[bleu, nll]",
                    "model.residual_dropout=0")
        run = self.train(self.config, *settings)
        found = [line["validation"].get("bleu") for line in metrics(run)]
        self.assertEqual([value is None for value in found], [True, False] * 3)
        self.assertIn("| validation BLEU ", self.job.errors + self.job.output)
        self.assertNotIn("bleu", metrics(run)[-1]["test"])
        best = max(value for value in found if value is not None)
        self.assertGreater(best, 0)
        epoch = str(1 + found.index(best))
        self.assertEqual(safetensors(f"{run}/checkpoints/best.model.safetensors")[1]["epoch"], epoch)
        self.assertEqual(safetensors(f"{run}/checkpoints/best.model.safetensors")[1]["measure"], "bleu")
        shared = self.train(self.config, *settings, ranks=3)
        for a, b in zip(found, [line["validation"].get("bleu") for line in metrics(shared)], strict=True):
            self.assertTrue(a is b is None or abs(a - b) < 5, (a, b))  # the network is another one, up to rounding
        steps = metrics(run)[-1]["step"]
        stopped = self.train(self.config, "steps=20", *settings)
        self.assertIn("bleu", metrics(stopped)[-1]["validation"])  # as at every end
        self.train(self.config, f"steps={steps}", *settings, run=stopped)
        again = {line["epoch"]: line["validation"].get("bleu") for line in metrics(stopped)}
        self.assertEqual([again[epoch] for epoch in range(2, 7)], found[1:])
        self.train(self.config, "epochs=6", "early_stop.patience=1", "early_stop.measure=bleu", "optimizer.learning_rate=0",
                   "evaluate.bleu=beam", "evaluate.bleu_beam=2")
        self.assertIn("the bleu of the validation split was not better in 1 evaluations", self.job.errors + self.job.output)

    def test_bleu_that_cannot_be(self):
        for config, words, text in ((self.config, ["checkpoint.best=bleu"], "bleu needs translations: set evaluate.bleu to greedy or beam"),
                                    (self.config, ["early_stop.patience=3", "early_stop.measure=bleu"], "bleu needs translations"),
                                    (self.config, ["evaluate.bleu=beam", "dataset.validation_files=none"], "no validation split"),
                                    (self.linear, ["checkpoint.best=bleu"], "bleu is a measure of translations, not of images"),
                                    (self.linear, ["evaluate.bleu=beam"], "evaluate.bleu")):
            job = Job(["train", config, *words, "--run", self.folder()]).wait()
            self.assertEnds(job, INPUT)
            self.assertIn(text, job.errors, self.said(job))

    def test_a_corpus_that_changed_is_noticed(self):
        """As a run goes on: its subwords and its batches would be others."""
        for part in ("train", "val"):
            folder = f"{self.scratch}/changed_{part}"
            shutil.copytree(self.data, folder)
            run = self.train(self.config, f"dataset.folder={folder}", "epochs=1")
            with open(f"{folder}/{part}.de", encoding="utf-8") as file:
                text = file.read()
            with open(f"{folder}/{part}.de", "w", encoding="utf-8") as file:
                file.write(text.replace("katze", "kater", 1))
            for ranks in (0, 2):
                job = Job(["train", self.config, f"dataset.folder={folder}", "epochs=2", "--run", run], ranks).wait()
                self.assertEnds(job, INPUT)
                self.assertIn(f"{part}.de has changed since the run began", job.errors, self.said(job))
            with open(f"{folder}/{part}.de", "w", encoding="utf-8") as file:
                file.write(text)
            cache = f"{folder}/cache"  # may be elsewhere now
            self.train(self.config, f"dataset.folder={folder}", f"dataset.cache={cache}", "epochs=2", run=run)
            self.assertEqual(sum(name.endswith(".ids") for name in os.listdir(cache)), 3)

    def test_evaluate_needs_no_training_corpus(self):
        """The run has its subwords."""
        folder = f"{self.scratch}/moved"
        shutil.copytree(self.data, folder)
        run = self.undisturbed(self.config)
        for language in ("en", "de"):
            os.remove(f"{folder}/train.{language}")
        cache = f"{folder}/cache"
        self.assertEnds(Job(["evaluate", run, f"dataset.folder={folder}", f"dataset.cache={cache}", "--bootstrap", "0"]).wait(), 0)
        self.assertEqual(sum(name.endswith(".ids") for name in os.listdir(cache)), 2)

    def test_other_subwords_are_refused(self):
        run = self.undisturbed(self.config)
        other = self.train(self.config, "subwords.size=50", "epochs=1")
        copy = f"{self.scratch}/copy"
        shutil.copytree(run, copy)
        shutil.copy(f"{other}/subwords.model", f"{copy}/subwords.model")
        job = Job(["evaluate", copy, "--bootstrap", "0"]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("another vocabulary", job.errors, self.said(job))
        self.assertIn("(dataset.*, subwords.*)", job.errors, self.said(job))
        with open(f"{copy}/subwords.model", "wb"):
            pass
        job = Job(["evaluate", copy, "--bootstrap", "0"]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("subwords.model is empty", job.errors, self.said(job))

    def test_kinds_of_subwords(self):
        for settings, file in ((("subwords.type=none",), "vocabulary.txt"), (("subwords.type=unigram", "subwords.size=35"), "subwords.model"),
                               (("subwords.normalisation=identity", "dataset.source=de", "dataset.target=en"), "subwords.model")):
            with self.subTest(settings=settings):
                run = self.train(self.config, "epochs=1", *settings)
                self.assertTrue(os.path.exists(f"{run}/{file}"))
                self.assertEnds(Job(["evaluate", run, "--bootstrap", "0"]).wait(), 0)
        again = self.train(self.without_subwords, "epochs=1", f"subwords.file={self.undisturbed(self.config)}/subwords.model")
        self.assertEqual(contents(f"{again}/subwords.model"), contents(f"{self.undisturbed(self.config)}/subwords.model"))

    def test_numbers_are_made(self):
        run = self.train(self.config, "dataset.name=numbers", "dataset.train_limit=300", "dataset.test_limit=50",
                         "dataset.validation_limit=50", "subwords.size=120", "epochs=1")
        lines = [contents(f"{run}/test.{language}").decode().splitlines() for language in ("en", "de")]
        self.assertEqual([len(side) for side in lines], [1000, 1000])
        self.assertTrue(all(" " not in line for line in lines[1]))

    def test_data_encode(self):
        cache = f"{self.scratch}/own"
        for ranks, files in ((2, None), (0, 0)):
            job = Job(["data", "encode", self.config, f"dataset.cache={cache}"], ranks).wait()
            self.assertEnds(job, 0)
            self.assertIn("parallel: 60 subwords, hash ", job.output)
            self.assertIn("train: 220 pairs of lines, of which the split has 220", job.output)
            if files is not None:
                self.assertIn(f"{files} files were written by this rank", job.output)
        self.assertEqual(sum(name.endswith(".ids") for name in os.listdir(cache)), 3)
        self.assertEqual(sum(name.endswith(".lock") for name in os.listdir(cache)), 0)
        for arguments, text in ((["encode"], "CONFIG"), (["decode", self.config], "plumb data encode CONFIG"),
                                (["encode", self.linear], "fashion_mnist holds no translations")):
            job = Job(["data", *arguments]).wait()
            self.assertNotEqual(job.code, 0)
            self.assertIn(text, job.errors, self.said(job))

    def test_left_out_and_said(self):
        folder = f"{self.scratch}/long"
        shutil.copytree(self.data, folder)
        for language, lines in (("en", "cat " * 100 + "\n\n"), ("de", "katze\nhund\n")):
            with open(f"{folder}/train.{language}", "a", encoding="utf-8") as file:
                file.write(lines)
        self.train(self.config, f"dataset.folder={folder}", "epochs=1", "dataset.longest_sentence=60")
        self.assertIn("1 pairs are left out: a side is longer than dataset.longest_sentence, 60", self.job.errors)
        self.assertIn("1 pairs are left out: a side has no text", self.job.errors)

    def with_long_line(self, name, part, words):
        folder = f"{self.scratch}/{name}"
        shutil.copytree(self.data, folder)
        for language, word in (("en", "cat"), ("de", "katze")):
            with open(f"{folder}/{part}.{language}", "a", encoding="utf-8") as file:
                file.write(" ".join([word] * words) + "\n")
        return folder

    def test_one_long_sentence_does_not_lengthen_an_evaluation(self):
        folder = self.with_long_line("one_long", "test", 2000)
        run = self.train(self.config, f"dataset.folder={folder}", "epochs=1")
        self.assertRegex(self.job.errors, r"one_long/test\.(en|de):41: \d+ subwords with the end token, the most of 1 sentence pairs")
        found = json.loads(contents(f"{run}/evaluation.json"))
        self.assertEqual(found["sentences"], 41)
        self.assertGreater(found["samples"], 2000)

    def test_learned_positions_are_enough_or_the_line_is_named(self):
        learned = ("model.positions=learned", "epochs=1")
        self.train(self.config, *learned, "model.max_positions=30", "dataset.longest_sentence=30")
        for part, line in (("val", 31), ("train", 221)):
            folder = self.with_long_line(f"positions_{part}", part, 100)
            job = Job(["train", self.config, *learned, f"dataset.folder={folder}", "model.max_positions=60", "--run", self.folder()]).wait()
            self.assertEnds(job, INPUT)
            self.assertRegex(job.errors, rf"{part}\.(en|de):{line}: \d+ subwords with the end token; model.max_positions is 60")

    def test_what_does_not_fit(self):
        for name, file, data, text in (("counts", "train.de", b"eins\nzwei\n", "train.de has 2: line 2 is the last that both have"),
                                       ("bytes", "val.en", b"ok\n\xff\n", "val.en:2:1: the byte 0xFF"),
                                       ("empty", "test.de", b"", "test.de is empty"),
                                       ("absent", "test.de", None, "has no file test.de")):
            folder = f"{self.scratch}/{name}"
            shutil.copytree(self.data, folder)
            os.remove(f"{folder}/{file}")
            if data is not None:
                with open(f"{folder}/{file}", "wb") as out:
                    out.write(data)
            with self.subTest(corpus=name):
                job = Job(["train", self.config, f"dataset.folder={folder}", "--run", self.folder()], 2).wait()
                self.assertEnds(job, INPUT)
                self.assertIn(text, job.errors, self.said(job))
        job = Job(["train", self.without_subwords, "subwords.file=/nowhere", "--run", self.folder()]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("there is no file /nowhere", job.errors, self.said(job))
        for settings, text in (("dataset.folder=", "say where the files"), ("subwords.size=20000", "at most "),
                               ("batch_tokens=10", "longer than a batch of 10"), ("dataset.target=en", "source and target are both en"),
                               ("model.name=global_pooling_cnn", "does not take tokens"),
                               ("batch=128", "batch"), ("subwords.type=words", "unigram")):
            with self.subTest(settings=settings):
                job = Job(["train", self.config, settings, "--run", self.folder()]).wait()
                self.assertEnds(job, USAGE if "type" in settings else INPUT)
                self.assertIn(text, job.errors, self.said(job))


if __name__ == "__main__":
    main()
