"""Folders of images as a user trains on them: classes, ranks, what is said of images and folders that do not fit."""

import os
import random
import struct
import zlib

from jobs import INPUT, Job, Suite, contents, main, metrics, results

SIDE = 12
CONFIG = """epochs: 3
batch: 24
dataset: {{name: image_folder, folder: {folder}, image_size: [12, 12], validation: 12}}
augment: {{crop_padding: 1, flip: true}}
model: {{name: linear}}
loss: {{reduction: mean}}
optimizer: {{learning_rate: 0.02, clip_norm: 0}}
schedule: {{name: constant}}
evaluate: {{bootstrap: 20}}
threads: 1
"""
CLASSES = {"zebra": (200, 60, 60), "ant": (60, 200, 60), "mouse": (60, 60, 200)}


def png(width, height, pixels, channels=3):
    """The bytes of a PNG file; pixels: rows one after the other."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    step = width * channels
    rows = b"".join(b"\0" + pixels[y * step:(y + 1) * step] for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_image(path, draw, colour, side=SIDE, channels=3):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pixels = bytes(min(255, max(0, int(draw.gauss(colour[i % channels], 40)))) for i in range(side * side * channels))
    with open(path, "wb") as file:
        file.write(png(side, side, pixels, channels))


def write_images(folder, seed, classes=None, train=40, test=12):
    draw = random.Random(seed)
    for name, colour in (classes or CLASSES).items():
        for part, count in (("train", train), ("test", test)):
            for number in range(count):
                write_image(f"{folder}/{part}/{name}/{number:03}.png", draw, colour)


class ImageFolderTask(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = os.path.dirname(cls.write_class("images/about.txt", "made images\n"))
        write_images(cls.data, 1)
        cls.config = cls.write_class("folder.yaml", CONFIG.format(folder=cls.data))

    def test_learns_and_keeps_the_names(self):
        folder = self.train(self.config, "epochs=8")
        self.assertEqual(contents(f"{folder}/classes.txt"), b"ant\nmouse\nzebra\n")
        self.assertLess(metrics(folder)[-1]["test"]["error"], 0.1)
        self.assertIsNotNone(metrics(folder)[-1]["validation"]["error"])
        job = Job(["evaluate", folder, "--bootstrap", "0"]).wait()
        self.assertEnds(job, 0)
        self.assertIn("36 samples, 3 classes", job.output)

    def test_ranks(self):
        alone = self.undisturbed(self.config)
        self.assertSameResults(results(self.train(self.config, ranks=1)), results(alone))
        self.assertSameCurve(alone, self.train(self.config, ranks=3), 1e-4)

    def test_other_classes_are_refused(self):
        folder = self.undisturbed(self.config)
        other = os.path.dirname(self.write("other/about.txt", "other images\n"))
        write_images(other, 2, {"ant": (9, 9, 9), "newt": (1, 2, 3), "zebra": (5, 5, 5)}, 8, 2)
        for ranks in (0, 2):
            job = Job(["evaluate", folder, f"dataset.folder={other}"], ranks).wait()
            self.assertEnds(job, INPUT)
            self.assertIn('classes.txt): it has "mouse" where they have "newt"', job.errors)

    def test_what_does_not_fit(self):
        draw = random.Random(3)
        bad = os.path.dirname(self.write("bad/about.txt", "images\n"))
        write_images(bad, 2, None, 8, 2)
        write_image(f"{bad}/test/mouse/wide.png", draw, (1, 2, 3), SIDE + 1)
        cases = ((f"dataset.folder={bad}", "test/mouse/wide.png: 13x13 pixels, 12x12 expected"),
                 (f"dataset.folder={bad}/nowhere", "there is no folder"),
                 (f"dataset.folder={bad}/train", "there is no folder train in"),
                 ("dataset.folder=", "set dataset.folder to the folder that has train/CLASS/"),
                 ("dataset.channels=1", "an image in colour, a grey one is expected"),
                 ("dataset.channels=2", "must be 1 or 3"),
                 ("dataset.mean=[0.5]", "1 numbers, but images have 3 channels"),
                 ("dataset.image_size=[12]", "height and width"))
        for word, message in cases:
            with self.subTest(word=word):
                job = Job(["train", self.config, "epochs=1", "dataset.validation=2", word, "--run", self.folder()]).wait()
                self.assertEnds(job, INPUT)
                self.assertIn(message, job.errors)


if __name__ == "__main__":
    main()
