"""Samples from elsewhere beside a run's own, as a user measures them: --ood, evaluate.ood, the run's ood.json, the report."""

import json
import os
import random
import struct

from jobs import INPUT, USAGE, Job, Suite, contents, main
from test_image_folder_task import CLASSES, write_image

DATA = os.environ.get("PLUMB_DATA", "../shared/data")
SIDE = 32
CONFIG = """epochs: 2
batch: 24
dataset: {{name: image_folder, folder: {folder}, image_size: [32, 32], validation: 12}}
model: {{name: linear}}
loss: {{reduction: mean}}
optimizer: {{learning_rate: 0.002, clip_norm: 0}}
schedule: {{name: constant}}
evaluate: {{bootstrap: 20}}
threads: 1
"""


def npy(shape, data, kind="|u1"):
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + data


def areas(entry):
    """(stage, measure) -> (area, interval)"""
    return {(stage, key): (entry[stage][key], entry[stage]["interval"][key])
            for stage in ("before", "after_ece", "after_nll") for key in ("auroc_entropy", "auroc_confidence")}


class OodTask(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = os.path.dirname(cls.write_class("images/about.txt", "made images\n"))
        draw = random.Random(1)
        for name, colour in CLASSES.items():
            for part, count in (("train", 20), ("test", 10)):
                for number in range(count):
                    write_image(f"{cls.data}/{part}/{name}/{number:03}.png", draw, colour, SIDE)
        cls.config = cls.write_class("folder.yaml", CONFIG.format(folder=cls.data))
        cls.other = os.path.dirname(cls.write_class("other/about.txt", "other images\n"))
        for number in range(25):
            write_image(f"{cls.other}/{number:03}.png", draw, (128, 128, 128), SIDE)
        one = bytes(draw.randrange(256) for _ in range(SIDE * SIDE * 3))
        cls.noise = cls.write_class("gaussian_noise.npy", npy((10, SIDE, SIDE, 3), one * 10))

    def evaluate(self, run, *words, ranks=0, code=0):
        job = Job(["evaluate", run, "--bootstrap", "0", "--json", self.folder() + ".json", *words], ranks).wait()
        self.assertEnds(job, code)
        return job

    def sets(self, run):
        with open(f"{run}/ood.json", encoding="utf-8") as file:
            return {entry["name"]: entry for entry in json.load(file)["sets"]}

    def test_sets_of_every_kind(self):
        run = self.train(self.config)
        self.assertFalse(os.path.exists(f"{run}/ood.json"))
        words = ["--ood", "gaussian_noise", f"--ood=grey={self.other}", "--ood", f"cifar10_c={self.noise}:2"]
        svhn = f"{DATA}/mat-files/svhn-layout-19.v5.mat"
        if os.path.exists(svhn):
            words += ["--ood", f"svhn={svhn}"]
        job = self.evaluate(run, *words)
        self.assertIn("out of distribution, AUROC % [90% intervals", job.output)
        self.assertIn("gaussian_noise: 30 samples; made here: the run's own test images with Gaussian noise", job.output)
        found = self.sets(run)
        self.assertEqual(found["grey"]["samples"], 25)
        self.assertEqual(found["cifar10_c"]["samples"], 2)
        self.assertTrue(found["gaussian_noise"]["made"])
        self.assertFalse(found["grey"]["made"])
        self.assertIn("severity 2", found["cifar10_c"]["what"])
        if os.path.exists(svhn):
            self.assertEqual(found["svhn"]["samples"], 19)
        self.assertGreater(found["grey"]["before"]["auroc_confidence"], 0.9)  # what it was trained on looks like nothing else
        for entry in found.values():
            self.assertEqual(entry["samples_in_distribution"], 30)
            self.assertEqual(entry["checkpoint"], "last")
            for (stage, key), (area, interval) in areas(entry).items():
                self.assertTrue(interval[0] <= area <= interval[1], (stage, key))
                curve = entry[stage]["roc"][key.split("_")[1]]
                right, up = curve["false_positive_rate"], curve["true_positive_rate"]
                self.assertEqual((right[0], up[0], right[-1], up[-1]), (0, 0, 1, 1))
                self.assertEqual((right, up), (sorted(right), sorted(up)))
                under = sum((b - a) * (c + d) / 2 for a, b, c, d in zip(right, right[1:], up, up[1:]))
                self.assertAlmostEqual(under, area, 4)
        # Any number of ranks; sets that were not asked for again stay.
        for ranks in (2, 3):
            self.evaluate(run, "--ood", f"grey={self.other}", "--ood", "gaussian_noise", ranks=ranks)
            again = self.sets(run)
            self.assertEqual(set(again), set(found))
            for name in ("grey", "gaussian_noise"):
                for key, (area, _) in areas(again[name]).items():
                    self.assertAlmostEqual(area, areas(found[name])[key][0], 3)
            self.assertEqual(again["cifar10_c"], found["cifar10_c"])

    def test_report(self):
        run = self.train(self.config, run=self.folder())
        page = self.folder() + ".html"
        self.assertEnds(Job(["report", run, "--output", page]).wait(), 0)
        self.assertNotIn("Out of distribution", contents(page).decode())
        self.evaluate(run, "--ood", "gaussian_noise", "--ood", f"grey={self.other}")
        self.assertEnds(Job(["report", run, "--output", page]).wait(), 0)
        text = contents(page).decode()
        area = self.sets(run)["grey"]["before"]["auroc_entropy"]
        self.assertIn("<h2 class=\"page\">Out of distribution</h2>", text)
        self.assertIn(f"<td class=\"number\">{100 * area:.2f} <small>[", text)
        self.assertIn("ROC curves of telling test samples from gaussian_noise", text)
        self.assertIn("made here: the run&#39;s own test images", text)
        with open(f"{run}/ood.json", "w", encoding="utf-8") as file:
            file.write("{\"sets\": [{\"name\": \"<b>\", \"before\": 3}, 7, {}]}")
        self.assertEnds(Job(["report", run, "--output", page]).wait(), 0)
        self.assertNotIn("<b>", contents(page).decode())
        with open(f"{run}/ood.json", "w", encoding="utf-8") as file:
            file.write("{\"sets\"")
        job = Job(["report", run, "--output", page]).wait()
        self.assertEnds(job, 0)
        self.assertIn("ood.json", job.errors)

    def test_json(self):
        run = self.undisturbed(self.config)
        path = self.folder() + ".json"
        self.assertEnds(Job(["evaluate", run, "--ood", "gaussian_noise=3", "--json", path, "--bootstrap", "0"]).wait(), 0)
        with open(path, encoding="utf-8") as file:
            entry, = json.load(file)["ood_sets"]
        self.assertIn("severity 3 (s = 0.08)", entry["what"])

    def test_at_the_end_of_training(self):
        setting = f"evaluate.ood=[{{name: grey, from: {self.other}}}, {{name: gaussian_noise}}, {{name: svhn, from: /nowhere}}]"
        run = self.folder()
        job = Job(["train", self.config, setting, "--run", run]).wait()
        self.assertEnds(job, 0)
        self.assertIn("svhn: there is no file /nowhere; plumb evaluate RUN --ood measures it later", job.errors)
        self.assertIn("evaluate.ood: svhn: there is no file /nowhere: it is left out unless it is there when training ends", job.errors)
        self.assertIn("grey: 25 samples", job.output)
        self.assertEqual(set(self.sets(run)), {"grey", "gaussian_noise"})
        after = areas(self.sets(run)["grey"])
        self.evaluate(run, "--ood", f"grey={self.other}")
        self.assertEqual(areas(self.sets(run)["grey"]), after)
        with open(f"{run}/evaluation.json", encoding="utf-8") as file:
            self.assertEqual([entry["name"] for entry in json.load(file)["ood_sets"]], ["grey", "gaussian_noise"])
        job = Job(["train", self.config, "evaluate.ood=[{name: a, from: b}, {name: a}]", "--run", self.folder()]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("evaluate.ood[].name (command line): the set a is given twice", job.errors)

    def test_what_does_not_fit(self):
        run = self.undisturbed(self.config)
        small = os.path.dirname(self.write("small/about.txt", "images\n"))
        write_image(f"{small}/a.png", random.Random(2), (1, 2, 3), 28)
        short = self.write("short.mat", b"MATLAB 7.3 MAT-file, cut")
        cases = ((f"mine={small}", INPUT, "a.png: 28x28 pixels, 32x32 expected"),
                 ("mine", USAGE, "--ood mine=FOLDER: say which folder of images"),
                 ("mine=/nowhere", INPUT, "there is no folder /nowhere"),
                 ("svhn=/nowhere", INPUT, "svhn: there is no file /nowhere"),
                 (f"svhn={short}", INPUT, "short.mat: a MATLAB file of version 7.3 that is cut short"),
                 (f"svhn={self.noise}", INPUT, "gaussian_noise.npy"),
                 (f"cifar10_c={self.noise}:7", USAGE, "the severity is a number from 1 to 5, not \"7\""),
                 (f"cifar10_c={short}", INPUT, "short.mat"),
                 ("gaussian_noise=9", USAGE, "the severity is a number from 1 to 5"),
                 ("=x", USAGE, "has a name of 1 to 63 letters"))
        for word, code, message in cases:
            for ranks in (0, 2) if "28" in message else (0,):
                with self.subTest(word=word, ranks=ranks):
                    job = self.evaluate(run, "--ood", word, ranks=ranks, code=code)
                    self.assertIn(message, job.errors)
        job = Job(["evaluate", "--logits", self.noise, "--labels", self.noise, "--ood", "gaussian_noise"]).wait()
        self.assertEnds(job, USAGE)
        self.assertIn("--ood is for a run", job.errors)


if __name__ == "__main__":
    main()
