"""Sentence trees as a user trains on them, on a small made treebank: ranks, resume, evaluation, what goes wrong."""

import gzip
import json
import math
import os
import random
import shutil

from jobs import (INPUT, USAGE, Job, Suite, checkpoint, contents, dynamics, floats, main, metrics, npy, results, safetensors)

WIDTH = 6
CONFIG = """epochs: 2
batch: 12
dataset: {{name: sst, folder: {folder}}}
vectors: {{file: {vectors}}}
model: {{name: tree_lstm, embedding_width: 6, memory: 16, freeze_embedding: false}}
loss: {{reduction: mean}}
optimizer:
  name: adagrad
  learning_rate: 0.05
  epsilon: 1.0e-10
  weight_decay: 1.0e-4
  clip_norm: 0
  groups: [{{parameters: embedding.weight, rule: sgd, learning_rate_factor: 2, weight_decay: 0, sparse: SPARSE}}]
schedule: {{name: constant}}
evaluate: {{bootstrap: 20}}
threads: 1
"""
WORDS = {0: ["awful", "dreadful"], 1: ["bad", "dull"], 2: ["the", "film", "8\u00a01\\/2", "it"], 3: ["good", "fun"], 4: ["superb", "lovely"]}


def tree(draw, depth):
    """(label, text) of a random subtree: the label leans to the stronger child."""
    if depth == 0 or draw.random() < 0.2:
        label = draw.choice((0, 1, 2, 2, 2, 3, 4))
        return label, f"({label} {draw.choice(WORDS[label])})"
    left, right = tree(draw, depth - 1), tree(draw, depth - 1)
    label = max(left[0], right[0], key=lambda one: abs(one - 2))
    return label, f"({label} {left[1]} {right[1]})"


def write_treebank(folder, seed):
    draw = random.Random(seed)
    for name, count in (("train", 150), ("dev", 40), ("test", 60)):
        lines = []
        while len(lines) < count:
            _, text = tree(draw, draw.randrange(1, 6))
            if text.count("(") > 1:
                lines.append(text)
        data = ("\n".join(lines) + "\n").encode()
        with (gzip.open(f"{folder}/{name}.txt.gz", "wb") if name == "dev" else open(f"{folder}/{name}.txt", "wb")) as file:
            file.write(data)


class TreesTask(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = f"{cls.scratch}/treebank"
        os.makedirs(cls.data)
        write_treebank(cls.data, 1)
        draw = random.Random(2)
        words = ["awful", "bad", "dull", "the", "film", "good", "fun", "superb"]
        lines = [word + "".join(f" {draw.gauss(0, 1):.3f}" for _ in range(WIDTH)) for word in words]
        vectors = cls.write_class("vectors.txt", "\n".join(lines))
        cls.config = cls.write_class("sst.yaml", CONFIG.format(folder=cls.data, vectors=vectors).replace("SPARSE", "true"))
        cls.dense = cls.write_class("dense.yaml", CONFIG.format(folder=cls.data, vectors=vectors).replace("SPARSE", "false"))

    def test_learns(self):
        run = self.train(self.config, "epochs=8", "model.dropout=0.2", "evaluate.train=true", "evaluate.gradient_norms=[8]")
        last = metrics(run)[-1]
        self.assertLess(last["test"]["error"], 0.25)
        self.assertLess(last["train_split"]["error"], 0.25)  # of roots, as the other splits; "train" is of all nodes
        for norm in ("weights", "features", "logits"):
            self.assertGreater(last["norms"][norm], 0)
        gradients = dynamics(run)[0]["gradient_norms"]  # of roots, too
        with open(f"{self.data}/train.txt", encoding="utf-8") as file:
            self.assertLessEqual(gradients["samples"], len(file.readlines()))
        self.assertEqual(gradients["samples"], sum(b["count"] for b in gradients["bins"]))

    def test_ranks_and_micro_batches(self):
        drop = "model.dropout=0.5"  # of the same nodes, wherever they are
        alone = self.undisturbed(self.config, drop)
        self.assertSameResults(results(self.train(self.config, drop, ranks=1)), results(alone))
        for ranks in (2, 3, 4):
            with self.subTest(ranks=ranks):
                self.assertSameCurve(alone, self.train(self.config, drop, ranks=ranks), 1e-4)
        dense = self.undisturbed(self.dense, drop)
        self.assertSameCurve(dense, self.train(self.dense, drop, "micro_batches=2", "evaluate_batch=12"), 1e-4)

    def test_rows_alone_are_the_same_steps(self):
        """Gradients of the table kept for the words of a batch: the same bits as the whole table's."""
        self.assertEqual(metrics(self.undisturbed(self.config)), metrics(self.undisturbed(self.dense)))
        tensors = [safetensors(checkpoint(self.undisturbed(config)))[0] for config in (self.config, self.dense)]
        self.assertEqual(*tensors)

    def test_kinds_of_labels_and_gates(self):
        for settings, classes in ((("dataset.tree_labels=fine5",), 5), (("dataset.tree_labels=binary2", "model.output_gate=true"), 2),
                                  (("dataset.mask_neutral=false", "model.leaf_gate=false"), 3), (("compute=bfloat16",), 3),
                                  (("loss.name=focal", "loss.policy=sample"), 3), (("loss.name=mmce_weighted",), 3)):
            with self.subTest(settings=settings):
                run = self.train(self.config, "epochs=1", *settings)
                shape, logits = npy(f"{run}/test.logits.npy")
                masked = classes == 3 and "dataset.mask_neutral=false" not in settings
                self.assertEqual(shape[1], 2 if masked else classes)  # roots are judged without the neutral class
                self.assertTrue(all(math.isfinite(value) for value in logits))
                fine = "dataset.tree_labels=fine5" in settings
                with open(f"{self.data}/test.txt", encoding="utf-8") as file:
                    roots = [int(line[1]) for line in file]
                self.assertEqual(shape[0], len(roots) if fine else sum(root != 2 for root in roots))
                wanted = {5: lambda root: root, 3: lambda root: 0 if root < 2 else 2, 2: lambda root: 0 if root < 2 else 1}[shape[1]]
                self.assertEqual(list(npy(f"{run}/test.labels.npy")[1]), [wanted(root) for root in roots if fine or root != 2])
                last = metrics(run)[-1]["test"]
                before = json.loads(contents(f"{run}/evaluation.json"))["before"]
                for measure in ("error", "nll", "ece", "classwise_ece"):  # streamed with a mask, and of the two columns alone
                    self.assertAlmostEqual(last[measure], before[measure], places=5)

    def test_roots_are_measured_with_and_without_the_neutral_class(self):
        run = self.undisturbed(self.config)
        found = json.loads(contents(f"{run}/evaluation.json"))
        three = json.loads(contents(f"{self.undisturbed(self.config, 'dataset.mask_neutral=false')}/evaluation.json"))
        self.assertEqual((found["classes"], found["unmasked"]["classes"], three["classes"]), (2, 3, 3))
        self.assertNotIn("unmasked", three)
        # The best model may be another one by the other measure, the last is the same.
        for stage in ("before", "after_ece", "after_nll"):
            for measure in ("error", "nll", "ece", "ada_ece", "classwise_ece"):
                self.assertEqual(found["unmasked"][stage][measure], three[stage][measure], (stage, measure))
            self.assertEqual(found["unmasked"][stage]["interval"], three[stage]["interval"])
        self.assertEqual(found["unmasked"]["temperature"], three["temperature"])
        self.assertGreater(found["unmasked"]["before"]["nll"], found["before"]["nll"])
        for ranks in (0, 2):
            job = Job(["evaluate", run], ranks).wait()
            self.assertEnds(job, 0)
            self.assertIn("the same samples with all 3 classes, of which none is left out", job.output)
            rows = [line.split()[2] for line in job.output.splitlines() if line.startswith("ECE %")]
            self.assertEqual([f"{100 * part['before']['ece']:.2f}" for part in (found, found["unmasked"])], rows)

    def test_a_run_that_goes_on_needs_no_vectors(self):
        vectors = self.write("gone.txt", "good 1 2 3 -1 -2 -3\nbad -1 -2 -3 1 2 3\n")
        mine = self.write("gone.yaml", CONFIG.format(folder=self.data, vectors=vectors).replace("SPARSE", "true"))
        whole, run = self.train(mine), self.train(mine, "epochs=1")
        os.remove(vectors)
        self.train(mine, run=run)
        self.assertEqual(metrics(run), metrics(whole))
        self.assertEnds(Job(["evaluate", run]).wait(), 0)

    def test_goes_on_with_the_same_bits(self):
        settings = ("model.dropout=0.5",)
        for ranks in (0, 2, 3, 4):
            with self.subTest(ranks=ranks):
                run = self.train(self.config, "epochs=1", *settings, ranks=ranks)
                self.train(self.config, *settings, ranks=ranks, run=run)
                whole = self.undisturbed(self.config, *settings, ranks=ranks)
                self.assertEqual(metrics(run), metrics(whole))
                self.assertEqual(safetensors(checkpoint(run))[0], safetensors(checkpoint(whole))[0])
                self.assertEqual(safetensors(checkpoint(run, "optimizer"))[0], safetensors(checkpoint(whole, "optimizer"))[0])

    def test_parameters_have_the_cited_codes_names(self):
        tensors = safetensors(checkpoint(self.undisturbed(self.config)))[0]
        self.assertIn("embedding.weight", tensors)
        self.assertEqual(tensors["tree_module.composer.ilh.weight"][0][1], [16, 16])
        self.assertTrue(all(math.isfinite(value) for _, data in tensors.values() for value in floats(data)))

    def test_evaluate_measures_the_same_at_any_number_of_ranks(self):
        run = self.undisturbed(self.config)
        want = json.loads(contents(f"{run}/evaluation.json"))
        for ranks in (0, 3):
            path = self.folder() + ".json"
            self.assertEnds(Job(["evaluate", run, "--bootstrap", "0", "--json", path], ranks).wait(), 0)
            found = json.loads(contents(path))
            for measure in ("error", "nll", "ece"):
                self.assertAlmostEqual(found["before"][measure], want["before"][measure], places=6)

    def test_what_does_not_fit(self):
        for name, line, texts in (("unbalanced", "(3 (2 a) (3 b)", ("train.txt:1",)), ("label", "(5 (2 a) (3 b))", ("train.txt:1:2",)),
                                  ("unary", "(3 (2 a))", ("train.txt:1",)), ("empty", "", ("train.txt",))):
            folder = f"{self.scratch}/{name}"
            shutil.copytree(self.data, folder)
            with open(f"{folder}/train.txt", "w", encoding="utf-8") as file:
                file.write(line + "\n" if line else "")
            with self.subTest(trees=name):
                job = Job(["train", self.config, f"dataset.folder={folder}", "--run", self.folder()], 2).wait()
                self.assertEnds(job, INPUT)
                for text in texts:
                    self.assertIn(text, job.errors, self.said(job))
        for settings, text in (("dataset.folder=/nowhere", "get_data.sh sst"), ("model.name=global_pooling_cnn", "does not take trees"),
                               ("dataset.length=5", "dataset.length"), ("dataset.tree_labels=binary", "binary3"),
                               ("model.embedding_width=7", "vectors.txt:1:1: 6 numbers")):
            with self.subTest(settings=settings):
                job = Job(["train", self.config, settings, "--run", self.folder()]).wait()
                self.assertEnds(job, USAGE if "binary" in settings else INPUT)
                self.assertIn(text, job.errors, self.said(job))


if __name__ == "__main__":
    main()
