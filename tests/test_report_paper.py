"""plumb report --paper: the page, its numbers beside the published ones, its data, and what a browser makes of it."""

import csv
import json
import math
import os
import re
import shutil
import struct
import subprocess
from html.parser import HTMLParser

from jobs import INPUT, SLOWNESS, UNSUPPORTED, Job, Suite, contents, main

BINS = 15
SAMPLES = 10000
LOSSES = {"cross_entropy": "name: cross_entropy",
          "brier": "name: brier",
          "mmce": "name: mmce_weighted\n  lambda: 2",
          "label_smoothing_0.05": "name: label_smoothing\n  alpha: 0.05",
          "focal_1": "name: focal\n  policy: fixed\n  gamma: 1",
          "focal_2": "name: focal\n  policy: fixed\n  gamma: 2",
          "focal_3": "name: focal\n  policy: fixed\n  gamma: 3",
          "flsc_531": "name: focal\n  policy: schedule\n  gammas: [5, 3, 1]\n  gamma_epochs: [100, 250]",
          "flsc_532": "name: focal\n  policy: schedule\n  gammas: [5, 3, 2]\n  gamma_epochs: [100, 250]",
          "flsd_52": "name: focal\n  policy: sample\n  gammas: [5, 2]\n  thresholds: [0.2]",
          "flsd_53": "name: focal\n  policy: sample\n  gammas: [5, 3]\n  thresholds: [0.2]"}
MAIN = ["cross_entropy", "brier", "mmce", "label_smoothing_0.05", "focal_3", "flsd_53"]
SUBJECTS = [(dataset, model, 350, 128) for dataset in ("cifar10", "cifar100")
            for model in ("resnet50", "resnet110", "wide_resnet", "densenet121")]
SUBJECTS += [("tiny_imagenet", "tiny_imagenet_resnet50", 100, 64), ("newsgroups", "global_pooling_cnn", 50, 128), ("sst", "tree_lstm", 25, 25)]
TRANSLATION = [("wmt14_en_de", "transformer_base", 10, 32)]
RATES = {"newsgroups": 0.001, "sst": 0.05}


def stage(error, ece, interval=(0.9, 1.1)):
    bins = [{"lower": i / BINS, "upper": (i + 1) / BINS, "count": 10 * i, "confidence": (i + 0.5) / BINS if i else 0,
             "accuracy": (i + 0.5) / BINS if i else 0} for i in range(BINS)]
    found = {"error": error, "top5_error": error / 10, "nll": 10 * ece, "brier": 2 * error, "ece": ece, "mce": 3 * ece, "ada_ece": 1.1 * ece,
             "classwise_ece": ece / 4, "mean_confidence": 1 - error, "mean_entropy": 0.3, "s99": {"fraction": 0.5, "accuracy": 0.98}, "bins": bins}
    if interval:
        pair = [interval[0] * ece, interval[1] * ece]
        found["interval"] = {"ece": pair, "ada_ece": pair, "classwise_ece": pair}
    return found


def evaluation(error, before, after, temperature=1.5, interval=(0.9, 1.1)):
    return {"samples": SAMPLES, "classes": 10, "temperature": {"ece": temperature, "nll": 1.9}, "before": stage(error, before, interval),
            "after_ece": stage(error, after, interval), "after_nll": stage(error, after * 1.2, interval)}


def epoch_line(epoch, scale):
    split = {"error": 0.3 / epoch, "nll": scale * (1 + 1 / epoch), "nll_correct": 0.1 * scale, "nll_misclassified": 2 * scale, "mean_entropy": 0.2,
             "entropy_correct": 0.1 * scale, "entropy_misclassified": 0.6 * scale, "ece": 0.04 * scale, "ada_ece": 0.04, "classwise_ece": 0.01}
    return json.dumps({"epoch": epoch, "step": 352 * epoch, "learning_rate": 0.1, "train": {"loss": 1 / epoch, "error": 0.1}, "test": split,
                       "train_split": dict(split, nll=0.5 * scale / epoch), "seconds": 10, "samples_per_second": 4500,
                       "norms": {"weights": 3 + scale * epoch, "features": 10, "logits": 12 * scale}}) + "\n"


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb" if isinstance(text, bytes) else "w") as file:
        file.write(text)


def paper_run(folder, dataset="cifar10", model="resnet50", loss="cross_entropy", seed=1, found=None, epochs=None, lines=4, more=""):
    """A run's folder as training would leave it. found: its evaluation; None: it is not complete."""
    usual, batch = next((row[2], row[3]) for row in SUBJECTS + TRANSLATION if row[0] == dataset)
    settings = LOSSES[loss]
    if dataset == "tiny_imagenet":
        settings = settings.replace("[100, 250]", "[30, 70]")
    rate = 0.035 if (dataset, loss) == ("tiny_imagenet", "brier") else RATES.get(dataset, 0.1)
    if loss == "brier":
        usual = {("cifar10", "wide_resnet"): 550, ("cifar100", "resnet110"): 430}.get((dataset, model), usual)
    write(f"{folder}/config.yaml", f"resolved: true\nseed: {seed}\nepochs: {epochs or usual}\nbatch: {batch}\ndataset.name: {dataset}\n"
          f"model.name: {model}\nloss:\n  {settings}\noptimizer.learning_rate: {rate}\noptimizer.weight_decay: 5e-4\n"
          f"evaluate.bins: 15\n{more}" + ("steps: 100000\n" if dataset == "wmt14_en_de" else ""))
    write(f"{folder}/environment.json", json.dumps({"plumb": "0.1.0", "ranks": 1, "host": "one"}))
    write(f"{folder}/metrics.jsonl", "".join(epoch_line(epoch, 1 + 0.1 * seed) for epoch in range(1, lines + 1)))
    if found is not None:
        write(f"{folder}/evaluation.json", json.dumps(found))


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.text, self.ids, self.links, self.figures = text, [], [], 0
        self.open, self.drawn = False, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.figures += tag == "figure"
        self.drawn += tag == "svg"
        self.ids += [value for key, value in attributes if key == "id"]
        self.links += [value for key, value in attributes if tag == "a" and key == "href"]


class PaperReport(Suite):
    def report(self, *words, code=0):
        job = Job(["report", *words]).wait()
        if "gnuplot-nox" in job.errors:
            self.skipTest("gnuplot is not installed")
        self.assertEnds(job, code)
        return job

    def page(self, folder):
        """The page of a folder of runs, and its tables and figures as rows."""
        self.job = self.report(folder, "--paper")
        page = Page(contents(f"{folder}/paper.html").decode())
        self.assertEqual(len(page.ids), len(set(page.ids)), "ids come twice")
        self.assertEqual(page.figures, page.drawn)
        return page

    def rows(self, folder, item, **fixed):
        with open(f"{folder}/paper_data/{item}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with open(f"{folder}/paper_data/{item}.json", encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual(len(rows), len(data["rows"]))
        for row, other in zip(rows, data["rows"]):
            self.assertEqual(list(row), data["columns"])
            for key, text in row.items():
                value = other[key]
                if value is None:
                    self.assertEqual(text, "")
                elif isinstance(value, str):
                    self.assertEqual(text, value)
                else:
                    self.assertAlmostEqual(float(text), value, delta=1e-9 * max(1, abs(value)))
        return [row for row in rows if all(row[key] == value for key, value in fixed.items())]

    def row(self, folder, item, **fixed):
        found = self.rows(folder, item, **fixed)
        self.assertEqual(len(found), 1, fixed)
        return found[0]

    # ---- numbers ----

    def test_numbers_beside_the_published(self):
        folder = self.folder()
        # Published: 4.35 and, at T = 2.5, 1.35; error 4.95.
        paper_run(f"{folder}/ce", found=evaluation(0.05, 0.0430, 0.0200, 2.3))
        paper_run(f"{folder}/brier", loss="brier", found=evaluation(0.09, 0.05, 0.02, interval=None))
        paper_run(f"{folder}/flsd", loss="flsd_53")
        page = self.page(folder)
        before = self.row(folder, "table_1", dataset="cifar10", network="resnet50", loss="cross_entropy", stage="before")
        self.assertAlmostEqual(float(before["value"]), 4.30)
        self.assertAlmostEqual(float(before["lower"]), 0.9 * 4.30)
        self.assertAlmostEqual(float(before["upper"]), 1.1 * 4.30)
        self.assertEqual((before["seeds"], before["deviation"], before["published"], before["published_inside"], before["unit"]),
                         ("1", "", "4.35", "inside", "percent"))
        after = self.row(folder, "table_1", network="resnet50", dataset="cifar10", loss="cross_entropy", stage="after_ece")
        self.assertEqual((after["temperature"], after["published"], after["published_temperature"], after["published_inside"]),
                         ("2.3", "1.35", "2.5", "outside"))
        self.assertEqual(self.row(folder, "table_1", network="resnet50", dataset="cifar10", loss="brier", stage="before")["published_inside"],
                         "no interval")
        missing = self.row(folder, "table_1", network="resnet50", dataset="cifar10", loss="flsd_53", stage="before")
        self.assertEqual((missing["value"], missing["seeds"], missing["published"], missing["published_inside"]), ("", "0", "1.55", ""))
        error = self.row(folder, "table_2", network="resnet50", dataset="cifar10", loss="cross_entropy")
        # Clopper and Pearson of 500 of 10,000, by another program.
        self.assertAlmostEqual(float(error["lower"]), 4.646, 2)
        self.assertAlmostEqual(float(error["upper"]), 5.375, 2)
        self.assertEqual(error["published_inside"], "inside")
        self.assertEqual(self.row(folder, "table_2", network="resnet50", dataset="cifar10", loss="brier")["published_inside"], "outside")
        # Table 1: 4.35 inside, 1.35 outside, two of Brier without; Table 2: one of either. Table F.6 repeats some and counts none.
        self.assertIn("Of <strong>6</strong> published numbers that stand beside ours, <strong>2</strong> lie inside", page.text)
        self.assertIn("and <strong>2</strong> outside; for 2 there is no interval.", page.text)
        self.assertEqual(self.row(folder, "table_1", network="resnet110", dataset="cifar100", loss="mmce", stage="before")["published"], "")
        self.assertIn("are not at hand", page.text)
        # Every table and figure is there, trained or not, with its data.
        for name in ("Table 1", "Table 2", "Table 3", *(f"Table F.{i}" for i in range(1, 12)), "Table H.1", "Table J.1", *(f"Figure {i}" for i in
                     (1, 2, 3, 4)), *(f"Figure G.{i}" for i in range(1, 5)), "Figure A.1", "Figure B.1", "Figure C.1", "Figure C.2", "Figure H.1",
                     "Figure I.1", "Table K.1", "Figure K.1"):
            self.assertIn(f"<h2>{name} <small>", page.text)
        for link in page.links:
            self.assertIn(link[1:], page.ids) if link[0] == "#" else self.assertTrue(os.path.exists(f"{folder}/{link}"), link)
        self.assertIn("Missing: 46 experiments of <code>plumb sweep configs/paper_cifar.yaml</code>", page.text)
        self.assertIn("<code>plumb sweep configs/paper_ood.yaml</code>", page.text)
        self.assertIn("<li>CIFAR-10, ResNet-50: MMCE, LS-0.05, FL-3, FLSD-53</li>", page.text)
        self.assertIn("NLL, misclassified samples", page.text)

    def test_seeds(self):
        folder = self.folder()
        for seed, ece in ((1, 0.04), (2, 0.05), (3, 0.06)):
            paper_run(f"{folder}/ce-{seed}", seed=seed, found=evaluation(0.05, ece, 0.02, 1 + 0.1 * seed))
        paper_run(f"{folder}/ce-again", seed=3, found=evaluation(0.05, 0.9, 0.9))  # no new sample
        page = self.page(folder)
        row = self.row(folder, "table_1", dataset="cifar10", network="resnet50", loss="cross_entropy", stage="before")
        self.assertEqual(row["seeds"], "3")
        self.assertAlmostEqual(float(row["value"]), 5)
        self.assertAlmostEqual(float(row["deviation"]), 1)
        reach = 2.9199855804 * math.sqrt(4 / 3)  # Student's t, two degrees of freedom
        self.assertAlmostEqual(float(row["lower"]), 5 - reach, 6)
        self.assertAlmostEqual(float(row["upper"]), 5 + reach, 6)
        self.assertIn("&plusmn;&nbsp;1.00</small><small>n&nbsp;=&nbsp;3", page.text)
        row = self.row(folder, "table_1", dataset="cifar10", network="resnet50", loss="cross_entropy", stage="after_ece")
        self.assertEqual(float(row["deviation"]), 0)
        for seed, ece in ((1, 0.01), (2, 0.09)):
            paper_run(f"{folder}/far-{seed}", loss="brier", seed=seed, found=evaluation(0.05, ece, 0.02))
        self.page(folder)
        row = self.row(folder, "table_1", dataset="cifar10", network="resnet50", loss="brier", stage="before")
        self.assertEqual(float(row["lower"]), 0)  # no calibration error is negative
        self.assertGreater(float(row["upper"]), 9)
        curve = self.row(folder, "figure_1", panel="NLL", x="1", series="Cross-Entropy")
        self.assertAlmostEqual(float(curve["y"]), 2 * 1.2)  # seeds differ by a tenth
        self.assertAlmostEqual(float(curve["upper"]), 2 * 1.2 + 2 * 0.1)
        self.assertAlmostEqual(float(curve["deviation"]), 2 * 0.1)
        self.assertEqual((curve["seeds"], curve["seed"]), ("3", ""))
        bar = self.row(folder, "figure_4", panel="CIFAR-10, ResNet-50: ECE", series="Cross-Entropy")
        self.assertAlmostEqual(float(bar["deviation"]), 1)
        self.assertAlmostEqual(float(bar["upper"]), 5 + reach, 6)
        self.assertEqual(bar["seeds"], "3")
        self.assertEqual([(row["seeds"], row["deviation"]) for row in self.rows(folder, "figure_b1", series="FL-1")], [("", "")] * 201)
        self.assertNotIn("One seed of several", page.text)  # there is nothing of one to draw
        self.assertAlmostEqual(float(self.row(folder, "figure_1", panel="NLL", x="2", series="Cross-Entropy, training samples")["y"]), 0.3)

    def test_curves_of_seeds(self):
        """Each figure that has a mean over seeds shows it, with a band; the data say of how many seeds and how far apart they are."""
        folder = self.folder()
        for seed in (1, 2):
            paper_run(f"{folder}/ce-{seed}", seed=seed, found=evaluation(0.05, 0.04, 0.02), lines=2 * seed)
            run = f"{folder}/ood-{seed}"
            paper_run(run, model="resnet110", seed=seed, found=evaluation(0.05, 0.04, 0.02))
            # Of one run the curve jumps to 0.5 where the other rises evenly.
            roc = {"entropy": {"false_positive_rate": [0, 0, 1] if seed == 1 else [0, 1], "true_positive_rate": [0, 0.5, 1] if seed == 1 else [0, 1]}}
            stages = {"before": {"auroc_entropy": 0.7, "roc": roc}}
            if seed == 2:
                stages["after_ece"] = stages["before"]
            write(f"{run}/ood.json", json.dumps({"sets": [{"name": "svhn", "what": "", **stages}]}))
            run = f"{folder}/wmt-{seed}"
            paper_run(run, "wmt14_en_de", "transformer_base", seed=seed, found=evaluation(0.3, 0.02, 0.01))
            places = [0.9, 1.0] if seed == 1 else [0.1 * 9, 1.0, 1.1]  # the first but for rounding the same
            write(f"{run}/temperatures.json", json.dumps({
                "checkpoint": "last", "step": 100000, "sentences": 3003, "bins": 15, "temperature": places, "search": {"beam": 4},
                "bleu_signature": "nrefs:1", "test": {"ece": [0.01 * seed] * len(places), "nll": [2] * len(places), "accuracy": 0.6,
                                                      "bleu": [25 + seed] * len(places)}}))
        page = self.page(folder)

        def read(item, **fixed):
            return [tuple(None if row[key] == "" else round(float(row[key]), 6) for key in ("x", "y", "lower", "upper", "deviation", "seeds"))
                    for row in self.rows(folder, item, **fixed)]

        half = round(math.sqrt(0.5), 6)
        self.assertEqual(read("figure_k1", panel="Test BLEU"), [(0.9, 26.5, 26.5 - half, 26.5 + half, half, 2),
                                                                (1, 26.5, 26.5 - half, 26.5 + half, half, 2), (1.1, 27, None, None, None, 1)])
        self.assertEqual([row[1] for row in read("figure_k1", panel="ECE of tokens")], [1.5, 1.5, 2])
        before = read("figure_roc", panel="ResNet-110: SVHN", series="Cross-Entropy")
        self.assertEqual(len(before), 101)
        self.assertEqual([(row[0], row[1], row[5]) for row in before], [(i / 100, round((0.5 + i / 200 + i / 100) / 2, 6), 2) for i in range(101)])
        self.assertAlmostEqual(before[0][4], math.sqrt(0.125), 6)
        self.assertEqual(read("figure_roc", panel="ResNet-110: SVHN", series="Cross-Entropy after T"),
                         [(0, 0, None, None, None, 1), (1, 1, None, None, None, 1)])
        # Seeds of other lengths: what one alone has is shown, and said to be of one.
        curve = read("figure_2", panel="NLL", series="Cross-Entropy")
        self.assertEqual([(row[0], row[5]) for row in curve], [(1, 2), (2, 2), (3, 1), (4, 1)])
        self.assertEqual(curve[3][1:4], (1.5, None, None))
        self.assertIn("in curves the mean, in a band of one standard deviation", page.text)

    def test_figures_of_one_seed(self):
        """A histogram, a diagram or an image is of one run: the page and the data say of which."""
        folder = self.folder()
        norms = {"loss": "cross_entropy", "samples": 4, "mean": 0.1, "bins": [{"lower": 0.5, "upper": 1, "count": 4}]}
        bins = [{"lower": i / 25, "upper": (i + 1) / 25, "count": 4, "share": 0.04, "confidence": (i + 0.5) / 25, "accuracy": i / 25} for i in range(25)]
        lines = json.dumps({"epoch": 10, "step": 3520, "gradient_norms": norms}) + "\n" + json.dumps(
            {"epoch": 100, "step": 35200, "train_reliability": {"samples": 100, "ece": 0.02, "error": 0.1, "bins": bins}}) + "\n"
        for loss, seeds in (("cross_entropy", (7, 3)), ("flsd_53", (5,)), ("focal_1", (2, 4, 6))):
            for seed in seeds:
                paper_run(f"{folder}/{loss}-{seed}", loss=loss, seed=seed, found=evaluation(0.3, 0.04, 0.01, 2.0))
                write(f"{folder}/{loss}-{seed}/dynamics.jsonl", lines)
                self.logits(f"{folder}/{loss}-{seed}", [0, 1, 1, 0])
        page = self.page(folder)
        parts = {part.split('"')[0]: part for part in page.text.split('<section id="')}
        self.assertIn("One seed of several is drawn: Cross-Entropy seed 3 (1 of 2), FL-1 seed 2 (1 of 3).", parts["figure_3"])
        self.assertIn("One seed of several is drawn: Cross-Entropy seed 3 (1 of 2).", parts["figure_a1"])
        self.assertIn("One seed of several is drawn: Cross-Entropy seed 3 (1 of 2).", parts["figure_h1"])
        self.assertEqual(sum("One seed of several is drawn" in part for part in parts.values()), 3)
        for item, loss in (("figure_3", "series"), ("figure_a1", "panel")):
            found = self.rows(folder, item, **{loss: "Cross-Entropy" if loss == "series" else "Epoch 100"})
            self.assertEqual({(row["seed"], row["seeds"]) for row in found if not row["panel"].startswith("(a)")}, {("3", "1")})
        self.assertEqual({row["loss"]: row["seed"] for row in self.rows(folder, "figure_h1")}, {"cross_entropy": "3", "flsd_53": "5"})

    def test_other_recipes(self):
        folder = self.folder()
        paper_run(f"{folder}/short", found=evaluation(0.2, 0.01, 0.01), epochs=5)
        page = self.page(folder)
        row = self.row(folder, "table_1", dataset="cifar10", network="resnet50", loss="cross_entropy", stage="before")
        self.assertEqual(row["trained_otherwise"], "epochs 5 (350)")
        self.assertIn("&Dagger; epochs 5 (350)", page.text)
        self.assertIn("No published number stands beside one of a run that was trained as the paper says, yet.", page.text)
        # A run that follows the paper takes its place.
        paper_run(f"{folder}/whole", found=evaluation(0.05, 0.04, 0.01))
        page = self.page(folder)
        row = self.row(folder, "table_1", dataset="cifar10", network="resnet50", loss="cross_entropy", stage="before")
        self.assertEqual((row["trained_otherwise"], row["seeds"], row["value"]), ("", "1", "4"))
        self.assertIn("other runs of the experiment are shown", page.text)

    # ---- other files of a run ----

    def test_out_of_distribution_and_early_stopping(self):
        folder = self.folder()
        run = f"{folder}/run"
        paper_run(run, model="resnet110", found=evaluation(0.05, 0.04, 0.01))
        measure = {"auroc_entropy": 0.61, "auroc_confidence": 0.6, "interval": {"auroc_entropy": [0.6, 0.62]},
                   "roc": {"entropy": {"false_positive_rate": [0, 0.2, 1], "true_positive_rate": [0, 0.7, 1]}}}
        write(f"{run}/ood.json", json.dumps({"sets": [{"name": "gaussian_noise", "what": "made", "before": measure, "after_ece": measure}]}))
        other = f"{folder}/other"
        paper_run(other, found=evaluation(0.05, 0.04, 0.01))
        write(f"{other}/best_models.json", json.dumps({"models": [
            {"measure": "nll", "checkpoint": "best-nll", "evaluation": evaluation(0.06, 0.03, 0.02)}]}))
        page = self.page(folder)
        row = self.row(folder, "table_3", network="resnet110", row="from CIFAR-10-C, Gaussian noise", loss="cross_entropy", stage="before")
        self.assertEqual((row["value"], row["lower"], row["upper"]), ("61", "60", "62"))
        self.assertEqual(self.row(folder, "table_3", network="resnet110", row="from SVHN", loss="cross_entropy", stage="before")["value"], "")
        self.assertIn("<code>plumb evaluate RUN --ood svhn=FOLDER --ood gaussian_noise</code> measures them", page.text)
        self.assertEqual(len(self.rows(folder, "figure_roc", series="Cross-Entropy")), 3)
        early = self.rows(folder, "table_j1", dataset="cifar10", loss="cross_entropy", stage="before", measure="error")
        self.assertEqual({row["row"]: row["value"] for row in early},
                         {"last epoch": "5", "best validation error": "", "best validation NLL": "6", "best validation ECE": ""})
        self.assertIn("checkpoint.best: [error, nll, ece]", page.text)
        write(f"{run}/ood.json", "{")
        self.page(folder)
        self.assertIn("ood.json: not a JSON object", self.job.errors)

    def test_dynamics(self):
        folder = self.folder()
        run = f"{folder}/run"
        paper_run(run, found=evaluation(0.05, 0.04, 0.01))
        norms = {"loss": "cross_entropy", "samples": 40, "mean": 0.1, "bins": [
            {"lower": 0, "upper": 0.5, "count": 10}, {"lower": 0.5, "upper": 1, "count": 30}]}
        bins = [{"lower": i / 25, "upper": (i + 1) / 25, "count": i, "share": i / 300, "confidence": (i + 0.5) / 25, "accuracy": i / 25}
                for i in range(25)]
        write(f"{run}/dynamics.jsonl", json.dumps({"epoch": 10, "step": 3520, "gradient_norms": norms}) + "\n" + json.dumps(
            {"epoch": 100, "step": 35200, "train_reliability": {"samples": 300, "ece": 0.02, "error": 0.1, "bins": bins}}) + "\n{half a li")
        page = self.page(folder)
        shares = [float(row["y"]) for row in self.rows(folder, "figure_3", series="Cross-Entropy", panel="(b) Gradient norms, epoch 10")]
        self.assertEqual(shares, [0, 25, 75, 0])
        self.assertEqual(len(self.rows(folder, "figure_a1", panel="Epoch 100", series="accuracy")), 25)
        self.assertEqual(self.rows(folder, "figure_a1", panel="Epoch 200"), [])
        self.assertIn("evaluate.train_reliability", page.text)
        self.assertEqual(self.rows(folder, "figure_i1", panel="Weights of the last linear layer", x="2")[0]["y"], "5.2")
        self.assertEqual(len(self.rows(folder, "figure_b1", series="Cross-Entropy")), 201)
        self.assertTrue(self.rows(folder, "figure_c1") and self.rows(folder, "figure_c2"))

    def test_translation(self):
        folder = self.folder()
        for loss, bleu in (("cross_entropy", [25.9, 26.3, 26.1]), ("focal_1", [26.0, 25.9, 25.8])):
            run = f"{folder}/{loss}"
            paper_run(run, "wmt14_en_de", "transformer_base", loss, found=evaluation(0.3, 0.02, 0.01))
            write(f"{run}/temperatures.json", json.dumps({
                "checkpoint": "last", "step": 100000, "sentences": 3003, "bins": 15, "chosen": {"ece": 1.1, "nll": 1.1},
                "temperature": [0.9, 1.0, 1.1], "search": {"rules": "plumb", "beam": 4, "alpha": 0.6, "limit": "50+1x"}, "bleu_signature": "nrefs:1",
                "test": {"ece": [0.03, 0.02, 0.01], "nll": [2, 1.9, 2], "accuracy": 0.6, "bleu": bleu},
                "validation": {"ece": [0.03, 0.02, 0.01], "nll": [2, 1.9, 2], "accuracy": 0.6}}))
        page = self.page(folder)
        best = self.row(folder, "table_k1", loss="cross_entropy", measure="best_bleu")
        self.assertEqual((best["value"], best["published"], best["published_inside"]), ("26.3", "26.33", "no interval"))
        self.assertEqual(self.row(folder, "table_k1", loss="focal_1", measure="best_bleu_temperature")["value"], "0.9")
        self.assertEqual(self.row(folder, "table_k1", loss="focal_1", measure="bleu")["value"], "25.9")
        self.assertEqual([row["y"] for row in self.rows(folder, "figure_k1", panel="Test BLEU", series="FL-1")], ["26", "25.9", "25.8"])
        self.assertEqual([row["y"] for row in self.rows(folder, "figure_k1", series="Cross-Entropy, validation")], ["3", "2", "1"])
        self.assertIn("Missing: 1 experiment of <code>plumb sweep configs/paper_wmt14.yaml</code>", page.text)
        write(f"{folder}/focal_1/temperatures.json", "{}")
        self.page(folder)
        self.assertIn("temperatures.json", self.job.errors)

    def logits(self, path, right):
        """Of ten samples with label 1; right[i]: does the network say so?"""
        values = [value for good in right for value in ((0.0, 3.0, 1.0) if good else (2.0, 0.0, 1.0))]
        for name, kind, shape, data in (("logits", "<f4", (len(right), 3), struct.pack(f"<{len(values)}f", *values)),
                                        ("labels", "<i4", (len(right),), struct.pack(f"<{len(right)}i", *[1] * len(right)))):
            head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
            head += " " * (-(len(head) + 11) % 64) + "\n"
            write(f"{path}/test.{name}.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + data)

    def test_images(self):
        folder = self.folder()
        data = f"{self.scratch}/cifar-10-batches-bin"
        for number in range(1, 7):  # ten records a file: the label, then 32 x 32 x 3 bytes
            name = f"data_batch_{number}.bin" if number < 6 else "test_batch.bin"
            write(f"{data}/{name}", b"".join(bytes([1]) + bytes([20 * i + number] * 3072) for i in range(10)))
        more = f"dataset.folder: {data}\n"
        for loss, right in (("cross_entropy", [0, 1, 1, 0, 1, 1, 0, 1, 1, 1]), ("flsd_53", [0, 1, 0, 0, 1, 1, 0, 1, 1, 1])):
            paper_run(f"{folder}/{loss}", loss=loss, found=evaluation(0.3, 0.04, 0.01, 2.0), more=more)
            self.logits(f"{folder}/{loss}", right)
        page = self.page(folder)
        rows = self.rows(folder, "figure_h1", loss="cross_entropy")
        self.assertEqual([row["test_image"] for row in rows], ["1", "4", "5", "7", "0", "3", "6"])
        row = rows[0]
        self.assertEqual((row["label"], rows[-1]["prediction"]), ("automobile", "airplane"))
        self.assertAlmostEqual(float(row["confidence"]), 1 / (1 + math.exp(-3) + math.exp(-2)), 6)
        self.assertAlmostEqual(float(row["confidence_after"]), 1 / (1 + math.exp(-1.5) + math.exp(-1)), 6)
        self.assertEqual(page.text.count("data:image/png;base64,iVBOR"), 7)
        shutil.rmtree(data)
        page = self.page(folder)
        self.assertNotIn("data:image/png", page.text)
        self.assertIn("The images are not shown: ", page.text)
        self.logits(f"{folder}/flsd_53", [1] * 9)
        self.page(folder)
        self.assertIn("test.logits.npy: not logits of the same test samples as those of the other losses", self.job.errors)
        self.assertEqual(self.rows(folder, "figure_h1", loss="flsd_53"), [])

    # ---- what cannot be shown ----

    def test_runs_of_others(self):
        folder = self.folder()
        for name in ("a", "b"):
            paper_run(f"{folder}/{name}", found=evaluation(0.05, 0.04, 0.01))
            config = f"{folder}/{name}/config.yaml"
            write(config, contents(config).decode().replace("resnet50", "resnet8"))
        job = self.report(folder, "--paper", code=INPUT)
        self.assertIn(f"none of the 2 runs is an experiment of the paper ({folder}/a: dataset.name cifar10 with model.name resnet8 is no pair "
                      "of the paper's)", job.errors)
        self.assertFalse(os.path.exists(f"{folder}/paper.html"))
        paper_run(f"{folder}/c", loss="focal_3", found=evaluation(0.05, 0.04, 0.01))
        page = self.page(folder)
        self.assertIn("2 of 3 runs are no experiments of the paper and stand in the page's list of runs only", self.job.errors)
        self.assertIn("none of the paper&rsquo;s", page.text)
        config = f"{folder}/b/config.yaml"
        write(config, contents(config).decode().replace("resnet8", "resnet50").replace("cross_entropy", "focal\n  gamma: 7"))
        self.assertIn("loss.name focal with its settings is no loss of the paper&#39;s", self.page(folder).text)

    def test_sweep_of_a_newer_version(self):
        folder = self.folder()
        paper_run(f"{folder}/ce", found=evaluation(0.05, 0.04, 0.01))
        write(f"{folder}/sweep.json", json.dumps({"sweep": "paper_cifar", "format": 1, "runs": ["ce"]}))
        self.page(folder)
        write(f"{folder}/sweep.json", json.dumps({"sweep": "paper_cifar", "format": 2, "runs": ["ce"]}))
        job = self.report(folder, "--paper", code=UNSUPPORTED)
        self.assertIn(f"{folder}/sweep.json: of format 2, but this plumb knows formats up to 1: a newer version wrote it", job.errors)
        self.report(f"{folder}/ce", "--paper")
        write(f"{folder}/some.yaml", "dataset: {name: fashion_mnist}\nmodel: {name: lenet}\n")
        write(f"{folder}/plan.yaml", "sweep: some\nbase: some.yaml\naxes:\n  seed: [1, 2]\n")
        job = Job(["sweep", f"{folder}/plan.yaml", "--folder", folder]).wait()
        self.assertEnds(job, UNSUPPORTED)
        self.assertIn("newer version wrote it. Update plumb, or give another --folder", job.errors)
        self.assertIn('"format": 2', contents(f"{folder}/sweep.json").decode())  # not written again

    def test_where_it_is_written(self):
        folder = self.folder()
        paper_run(folder, found=evaluation(0.05, 0.04, 0.01))
        job = self.report(folder, "--paper", "--output", "-", "--title", "One & only")
        self.assertIn("<h1>One &amp; only</h1>", job.output)
        self.assertNotIn("table_1.csv", job.output)
        self.report(folder, "--paper", "--output", f"{folder}/my page.html")
        self.assertIn('href="my%20page_data/table_1.csv"', contents(f"{folder}/my page.html").decode())
        self.assertTrue(os.path.exists(f"{folder}/my page_data/table_1.csv"))

    # ---- in a browser ----

    def browse(self, path, script, *options):
        """What the script says of the page: it runs at the end of its body and returns an object."""
        browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if browser is None:
            self.skipTest("there is no Chromium: apt-get install chromium")
        probe = "<script>\n(function () { var found = (function () {\n" + script + "\n})();\n" \
                "var place = document.createElement('pre'); place.id = 'probe'; place.textContent = JSON.stringify(found);\n" \
                "document.body.appendChild(place); })();\n</script></body>"
        copy = path.replace(".html", "-probe.html")
        write(copy, contents(path).decode().replace("</body>", probe))
        ran = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr",
                              f"--user-data-dir={self.folder()}", *options, "--dump-dom", f"file://{copy}"], capture_output=True, text=True,
                             timeout=300 * SLOWNESS)
        self.assertEqual([line for line in ran.stderr.splitlines() if "CONSOLE" in line], [])
        found = re.search(r'<pre id="probe">(.*?)</pre>', ran.stdout, re.S)
        self.assertIsNotNone(found, ran.stderr[-2000:])
        return json.loads(found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    def many_runs(self):
        """200 runs: every experiment of Table 1 three times, and two more."""
        folder, number = self.folder(), 0
        for seed in (1, 2, 3):
            for dataset, model, _, _ in SUBJECTS:
                for loss in MAIN:
                    number += 1
                    paper_run(f"{folder}/run-{number:03}", dataset, model, loss, seed,
                              evaluation(0.05 + 0.001 * seed, 0.01 + 0.0001 * number, 0.01 + 0.00001 * number), lines=60)
        for loss in ("focal_1", "focal_2"):
            paper_run(f"{folder}/run-{loss}", loss=loss, found=evaluation(0.05, 0.03, 0.01), lines=60)
        return folder

    def test_browser(self):
        folder = self.many_runs()
        page = self.page(folder)
        self.assertLess(len(page.text), 3 << 20)
        self.assertIn("200 runs: 200 of the paper&rsquo;s experiments, 200 complete", page.text)
        path = f"{folder}/paper.html"
        found = self.browse(path, """
            var seconds = (document.body.offsetHeight, performance.now() / 1000);
            var boxes = Array.from(document.querySelectorAll("figure svg")).map(function (svg) {
              var size = svg.getBoundingClientRect(); return [size.width, size.height, svg.querySelectorAll("path, rect, circle, use").length]; });
            var table = document.querySelector("#table_1 table"), head = table.tHead.rows[1].cells[0], order = [];
            function read() { return Array.from(table.tBodies[0].rows).map(function (row) { return parseFloat(row.cells[1].dataset.value); }); }
            head.click(); order.push(read()); head.click(); order.push(read());
            return {seconds: seconds, boxes: boxes, figures: document.querySelectorAll("figure").length, order: order, sort: head.getAttribute("aria-sort"),
              rows: table.tBodies[0].rows.length, ink: getComputedStyle(document.body).color, wide: document.documentElement.scrollWidth - innerWidth,
              loaded: performance.getEntriesByType("resource").length};""", "--window-size=1280,900")
        self.assertLess(found["seconds"], 2 * SLOWNESS * max(1, os.getloadavg()[0]))
        self.assertEqual(len(found["boxes"]), found["figures"])
        self.assertGreaterEqual(found["figures"], 40)
        self.assertTrue(all(width > 100 and height > 100 and shapes > 3 for width, height, shapes in found["boxes"]), found["boxes"])
        self.assertEqual((found["rows"], found["sort"]), (11, "descending"))
        self.assertEqual(found["order"][0], sorted(found["order"][0]))
        self.assertEqual(found["order"][1], sorted(found["order"][0], reverse=True))
        self.assertEqual(found["loaded"], 0)
        self.assertLessEqual(found["wide"], 0)
        measure = "return {ink: getComputedStyle(document.body).color, wide: document.documentElement.scrollWidth - innerWidth};"
        dark = self.browse(path, measure, "--blink-settings=preferredColorScheme=0")
        light = self.browse(path, measure, "--blink-settings=preferredColorScheme=1")
        self.assertNotEqual(dark["ink"], light["ink"])


if __name__ == "__main__":
    main()
