"""Predicting as a user does: images, documents and trees, with the numbers that evaluation has, at any number of ranks, while the
input is still coming, and whatever is wrong with some of it."""

import array
import gzip
import json
import math
import os
import random
import re
import shutil
import subprocess
import time

import test_documents_task as messages
import test_image_folder_task as pictures
import test_trees_task as treebank
from jobs import INPUT, IO, NO_GPUS, PATIENCE, PLUMB, SHORT, UNSUPPORTED, USAGE, Job, Suite, contents, main, npy, on_gpus

HERE = os.path.dirname(os.path.abspath(__file__))
VARIABLES = dict(os.environ, OMP_NUM_THREADS="1", OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def softmax(logits, temperature=1):
    largest = max(logits)
    powers = [math.exp((x - largest) / temperature) for x in logits]
    return [x / sum(powers) for x in powers]


def rows(path):
    (count, width), values = npy(path)
    return [list(values[i * width:(i + 1) * width]) for i in range(count)]


class Predictions(Suite):
    """What the suites of all tasks need: self.run_folder, of a run without its data set."""

    @classmethod
    def train_once(cls, config, *overrides):
        run = f"{cls.scratch}/run"
        job = Job(["train", config, *overrides, "--run", run]).wait()
        if job.code != 0:
            raise AssertionError(job.said())
        return cls.without_data(run)

    @classmethod
    def without_data(cls, run):
        """A copy of the run that says its data are where there are none."""
        copy = f"{run}-alone"
        shutil.copytree(run, copy)
        with open(f"{copy}/config.yaml", encoding="utf-8") as file:
            text = file.read()
        changed = re.sub(r"(?m)^(dataset\.folder: ).*$", r"\g<1>/nowhere", text)
        if changed == text:
            raise AssertionError(text)
        with open(f"{copy}/config.yaml", "w", encoding="utf-8") as file:
            file.write(changed)
        os.remove(f"{copy}/environment.json")  # which may say where the data were
        return copy

    def predict(self, *words, text=b"", ranks=0, code=0, run=None):
        """(output, errors) as text."""
        command = [PLUMB, "predict", run or self.run_folder, *words]
        if ranks > 0:
            command = ["mpirun", "-n", str(ranks), *command]
        text = text if isinstance(text, bytes) else text.encode()
        done = subprocess.run(command, input=text, capture_output=True, env=VARIABLES, timeout=PATIENCE, check=False)
        errors = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, code, errors)
        return done.stdout.decode(), errors

    def objects(self, *words, **how):
        entries = [json.loads(line) for line in self.predict(*words, "--json", **how)[0].splitlines()]
        for entry in entries:
            if "logits" in entry:
                entry["logits"] = list(array.array("f", entry["logits"]))
        return entries

    def assertClose(self, found, wanted, tolerance):
        for x, y in zip(found, wanted, strict=True):
            self.assertLess(abs(x - y), tolerance, (found, wanted))

    def assertAsEvaluated(self, words, names, **how):
        """The logits, labels and confidences of the run's test set."""
        wanted = rows(f"{self.run_folder}/test.logits.npy")
        temperature = json.loads(contents(f"{self.run_folder}/evaluation.json"))["temperature"]["ece"]
        found = self.objects(*words, "--logits", "--calibrated", "--top", str(len(names)), **how)
        self.assertEqual(len(found), len(wanted))
        for entry, logits in zip(found, wanted):
            self.assertClose(entry["logits"], logits, 1e-5 * max(map(abs, logits)) + 1e-6)
            own, trained, calibrated = entry["logits"], softmax(entry["logits"]), softmax(entry["logits"], temperature)
            self.assertEqual(entry["class"], own.index(max(own)))
            self.assertEqual(entry["label"], names[entry["class"]])
            self.assertAlmostEqual(entry["confidence"], max(trained), places=9)
            self.assertAlmostEqual(entry["calibrated"], max(calibrated), places=9)
            self.assertEqual(sorted(one["class"] for one in entry["top"]), list(range(len(names))))
            self.assertEqual([one["confidence"] for one in entry["top"]], sorted((x["confidence"] for x in entry["top"]), reverse=True))
            for one in entry["top"]:
                self.assertEqual(one["label"], names[one["class"]])
                self.assertAlmostEqual(one["confidence"], trained[one["class"]], places=9)
                self.assertAlmostEqual(one["calibrated"], calibrated[one["class"]], places=9)
        return found

    def assertRanksAgree(self, words, **how):
        """With --deterministic the same bytes, else the same up to rounding, and in the same order."""
        one, _ = self.predict(*words, "--json", "--logits", "--deterministic", **how)
        self.assertEqual(one, self.predict(*words, "--json", "--logits", "--deterministic", "--batch", "128", ranks=3, **how)[0])
        alone = self.objects(*words, "--logits", **how)
        for other in (self.objects(*words, "--logits", ranks=3, **how), self.objects(*words, "--logits", "--batch", "1", **how)):
            self.assertEqual([entry["input"] for entry in other], [entry["input"] for entry in alone])
            for a, b in zip(other, alone, strict=True):
                self.assertClose(a["logits"], b["logits"], 1e-5 * max(map(abs, b["logits"])) + 1e-6)

    def assertStreams(self, first, second, run=None, pause=0, all_ranks=(0, 2)):
        """The answer to the first line comes while the input is open."""
        for ranks in all_ranks:
            command = [PLUMB, "predict", run or self.run_folder]
            command = ["mpirun", "-n", str(ranks), *command] if ranks else command
            job = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=VARIABLES)
            try:
                for line in (first, second):
                    job.stdin.write(line.encode() + b"\n")
                    job.stdin.flush()
                    self.assertEqual(job.stdout.readline().count(b"\t"), 2)
                    time.sleep(pause)
                job.stdin.close()
                self.assertEqual(job.stdout.read(), b"")
                self.assertEqual(job.wait(PATIENCE), 0)
            finally:
                job.kill()
                job.wait()
                job.stdout.close()


class Images(Predictions):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.images = f"{cls.scratch}/images"
        pictures.write_images(cls.images, 1)
        config = cls.write_class("images.yaml", pictures.CONFIG.format(folder=cls.images).replace("name: linear", "name: resnet8, width: 4"))
        cls.run_folder = cls.train_once(config)
        cls.test_images = f"{cls.images}/test"

    def image(self, name, side=pictures.SIDE, channels=3, colour=(200, 60, 60)):
        path = f"{self.folder()}/{name}"
        pictures.write_image(path, random.Random(7), colour, side, channels)
        return path

    def test_the_numbers_of_evaluation(self):
        found = self.assertAsEvaluated((self.test_images,), ["ant", "mouse", "zebra"])
        paths = [f"{self.test_images}/{name}/{i:03}.png" for name in ("ant", "mouse", "zebra") for i in range(12)]
        self.assertEqual([entry["input"] for entry in found], paths)
        self.assertEqual(found, self.objects("--logits", "--calibrated", "--top", "3", text="\n".join(paths)))
        wanted = rows(f"{self.run_folder}/test.logits.npy")
        exact = self.objects(self.test_images, "--logits", "--deterministic", "--batch", "24")
        self.assertEqual([entry["logits"] for entry in exact], wanted)  # in batches as training evaluated them: the same bits

    def test_ranks(self):
        self.assertRanksAgree((self.test_images,))

    def test_a_run_of_a_gpu(self):
        """Its config asks for a GPU: where there is none the error says what to do, and --device cpu gives the same bits."""
        run = on_gpus(self.run_folder, f"{self.folder()}/run")
        data = f"dataset.folder={self.images}"
        for words in (["predict", run, self.test_images], ["evaluate", run, data]):
            with self.subTest(words=words):
                refused = Job(words, environment=NO_GPUS).wait()
                self.assertEnds(refused, UNSUPPORTED)
                self.assertIn("device: cuda asks for a GPU", refused.errors)
                self.assertIn("with --device cpu the CPU computes", refused.errors)
        words = (self.test_images, "--json", "--logits", "--device", "cpu")
        found, _ = self.predict(*words, run=run)
        self.assertEqual(found, self.predict(*words)[0])
        self.assertNotEqual(found, self.predict(*words, "--compute", "bfloat16", run=run)[0])
        measured = [Job(["evaluate", one, data, "--device", "cpu", "--json", "-", "--bootstrap", "0"]).wait() for one in (run, self.run_folder)]
        for job in measured:
            self.assertEnds(job, 0)
        self.assertEqual(measured[0].output, measured[1].output)
        rough = Job(["evaluate", run, data, "--device", "cpu", "--compute", "bfloat16", "--json", "-", "--bootstrap", "0"]).wait()
        self.assertEnds(rough, 0)
        self.assertNotEqual(rough.output, measured[0].output)

    def test_what_a_run_may_be_computed_on(self):
        files = ["evaluate", "--logits", "a.npy", "--labels", "b.npy", "--device", "cpu"]
        for words, message in ((["predict", self.run_folder, "--device", "gpu"], "--device takes auto, cpu or cuda, not gpu"),
                               (["evaluate", self.run_folder, "--compute", "half"], "--compute takes float32 or bfloat16, not half"),
                               (["score", self.run_folder, "--device", "0"], "--device takes auto, cpu or cuda, not 0"),
                               (files, "--device and --compute are for a run")):
            with self.subTest(words=words):
                job = Job(words).wait()
                self.assertEnds(job, USAGE)
                self.assertIn(message, job.errors)

    def test_columns(self):
        path = f"{self.test_images}/ant/000.png"
        entry = self.objects(path, "--calibrated", "--top", "2")[0]
        first, second = entry["top"]
        numbers = [f"{one[key]:.6f}" for one in (first, second) for key in ("confidence", "calibrated")]
        self.assertEqual(self.predict(path)[0], f"{path}\t{first['label']}\t{numbers[0]}\n")
        self.assertEqual(self.predict(path, "--top", "2", "--calibrated")[0],
                         f"{path}\t{first['label']}\t{numbers[0]}\t{numbers[1]}\t{second['label']}\t{numbers[2]}\t{numbers[3]}\n")
        self.assertEqual(len(self.objects(path, "--top", "99")[0]["top"]), 3)
        self.assertNotIn("top", self.objects(path)[0])
        self.assertEqual(self.objects(path, "--checkpoint", "best")[0]["input"], path)

    def test_what_cannot_be_predicted_does_not_stop_the_rest(self):
        good = f"{self.test_images}/ant/000.png"
        cut = self.write("bad/cut.png", contents(good)[:-30])
        jpeg = self.write("bad/cut.jpg", contents(f"{HERE}/seeds/jpeg/colour.jpg")[:-120])
        wide = self.image("wide.png", pictures.SIDE + 1)
        text = self.write("bad/text.png", "no image\n")
        empty = self.write("bad/none.png", "")
        nothing = os.path.dirname(self.write("nothing/notes.txt", "no image\n"))
        bad = {cut: "damaged", jpeg: "damaged", wide: "13x13 pixels; the network takes 12x12 (--resize", text: "neither a JPEG nor a PNG",
               empty: "the file is empty", nothing: "there are no images in this folder", "/nowhere.png": "No such file"}
        words = [word for path in bad for word in (path, good)]
        for ranks in (0, 3):
            output, errors = self.predict(*words, ranks=ranks, code=INPUT)
            lines = [line.split("\t") for line in output.splitlines()]
            self.assertEqual([line[0] for line in lines], words)
            self.assertEqual([line[1:] for line in lines[::2]], [["", ""]] * len(bad))
            self.assertEqual(len({tuple(line) for line in lines[1::2]}), 1)
            self.assertIn(f"{len(bad)} of {len(words)} images could not be predicted", errors)
            for path, message in bad.items():
                said = [line for line in errors.splitlines() if path in line]
                self.assertTrue(said and message in said[0], (path, errors))
        entries = self.objects(*words, code=INPUT)
        for entry, word in zip(entries, words, strict=True):
            self.assertEqual(entry["input"], word)
            self.assertEqual("error" in entry, word in bad)
            if word in bad:
                self.assertIn(bad[word], entry["error"])

    def test_sizes(self):
        draw = random.Random(3)
        small, large = self.image("small.png"), f"{self.folder()}/large.png"
        os.makedirs(os.path.dirname(large))
        pixels = bytes(draw.randrange(256) for _ in range(3))
        for path, side in ((small, pictures.SIDE), (large, 3 * pictures.SIDE)):  # of one colour: the same at any size
            with open(path, "wb") as file:
                file.write(pictures.png(side, side, pixels * (side * side)))
        self.predict(large, code=INPUT)
        found = self.objects(small, large, "--resize", "--logits")
        self.assertEqual(found[0]["logits"], found[1]["logits"])
        self.assertEqual(len(self.objects(f"{HERE}/seeds/jpeg/colour.jpg", "--resize")), 1)
        grey = self.image("grey.png", channels=1)
        self.assertEqual(len(self.objects(grey)), 1)  # as three equal channels

    def test_lines_of_paths(self):
        paths = [f"{self.test_images}/ant/{i:03}.png" for i in range(3)]
        file = self.write("paths.txt", "\n".join([paths[0], "", *paths[1:]]))
        for words, how in (((file, "--lines"), {}), (("-",), {"text": contents(file)}), ((), {"text": contents(file)})):
            self.assertEqual([entry["input"] for entry in self.objects(*words, **how)], paths)

    def test_streams(self):
        self.assertStreams(f"{self.test_images}/ant/000.png", f"{self.test_images}/mouse/000.png")

    def test_a_reader_that_goes_is_an_end(self):
        file = self.write("many.txt", f"{self.test_images}/ant/000.png\n" * 20000)
        with open(file, "rb") as source:
            job = subprocess.Popen([PLUMB, "predict", self.run_folder], stdin=source, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=VARIABLES)
            self.assertTrue(job.stdout.readline())
            job.stdout.close()
            errors = job.stderr.read()
            job.stderr.close()
            self.assertEqual((job.wait(PATIENCE), errors), (0, b""))

    def test_calibrators(self):
        good = f"{self.test_images}/ant/000.png"
        file = f"{self.scratch}/vector.json"
        evaluate = Job(["evaluate", "--logits", f"{self.run_folder}/test.logits.npy", "--labels", f"{self.run_folder}/test.labels.npy",
                        "--validation-logits", f"{self.run_folder}/validation.logits.npy", "--validation-labels",
                        f"{self.run_folder}/validation.labels.npy", "--bootstrap", "0", "--recalibrate", "vector_scaling",
                        "--save-calibrator", file]).wait()
        self.assertEnds(evaluate, 0)
        entry = self.objects(good, "--calibrator", file, "--top", "3", "--logits")[0]
        saved = json.loads(contents(file))
        scaled = softmax([w * x + b for w, x, b in zip(saved["weights"], entry["logits"], saved["biases"], strict=True)])
        for one in entry["top"]:
            self.assertAlmostEqual(one["calibrated"], scaled[one["class"]], places=6)
        self.assertEqual([one["class"] for one in entry["top"]], sorted(range(3), key=lambda k: -scaled[k]))
        other = f"{HERE}/seeds/calibrator/beta.json"
        _, errors = self.predict(good, "--calibrator", other, code=INPUT)
        self.assertIn("beta.json is a calibrator of 2 classes, but", errors)
        refused = Job(["evaluate", self.run_folder, f"dataset.folder={self.images}", "--calibrator", other]).wait()
        self.assertEnds(refused, INPUT)
        self.assertIn(f"{other} is a calibrator of 2 classes, but {self.run_folder} has 3", refused.errors)

    def test_words(self):
        good = f"{self.test_images}/ant/000.png"
        for words, code, message in ((("--top", "0"), USAGE, "--top"), (("--logits",), USAGE, "--logits is for --json"),
                                     (("--calibrated", "--calibrator", "x"), USAGE, "two ways to calibrate"),
                                     (("--calibrator", "/nowhere.json"), IO, "/nowhere.json"),
                                     (("--checkpoint", "77"), INPUT, "77"), (("--colour",), USAGE, "--colour")):
            with self.subTest(words=words):
                self.assertIn(message, self.predict(good, *words, code=code)[1])
        for run, code, message in (("/nowhere", IO, "there is no run /nowhere"), (self.images, INPUT, "is no run")):
            self.assertIn(message, self.predict(good, run=run, code=code)[1])
        job = Job(["predict"]).wait()
        self.assertEnds(job, USAGE)
        self.assertIn("plumb predict needs a run", job.errors)
        job = Job(["predict", "--help"]).wait()
        self.assertEnds(job, 0)
        self.assertIn("--calibrated", job.output)

    def test_what_the_run_must_hold(self):
        run = self.folder()
        shutil.copytree(self.run_folder, run)
        os.remove(f"{run}/classes.txt")
        self.assertIn("has no classes.txt", self.predict(f"{self.test_images}/ant/000.png", run=run, code=INPUT)[1])
        path = f"{run}/evaluation.json"
        step = json.loads(contents(path))["step"]
        text = contents(path).decode().replace(f'"step":\t{step}', f'"step":\t{step - 1}')
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        shutil.copy(f"{self.run_folder}/classes.txt", run)
        said = f"was chosen for the checkpoint that was the last then (step {step - 1}), not for last"
        self.assertIn(said, self.predict(f"{self.test_images}/ant/000.png", "--calibrated", run=run)[1])
        self.assertEqual(self.predict(f"{self.test_images}/ant/000.png", run=run)[1], "")
        os.remove(path)
        self.assertIn("has no evaluation yet", self.predict("--calibrated", run=run, code=INPUT)[1])
        self.predict(f"{self.test_images}/ant/000.png", run=run)


class NamedClasses(Predictions):
    """Of a data set whose names are published, and of a test set in idx files."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_folder = cls.train_once(cls.resnet)

    def test_names_and_numbers(self):
        data = contents(f"{self.data}/t10k-images-idx3-ubyte")[16:]
        folder = self.folder()
        os.makedirs(folder)
        for i in range(96):
            with open(f"{folder}/{i:03}.png", "wb") as file:
                file.write(pictures.png(28, 28, data[784 * i:784 * (i + 1)], 1))
        names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
        self.assertAsEvaluated((folder,), names)
        colour = f"{self.folder()}/colour.png"
        pictures.write_image(colour, random.Random(1), (1, 2, 3), 28)
        self.assertIn("an image in colour, a grey one is expected", self.predict(colour, code=INPUT)[1])


class Documents(Predictions):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.corpus = f"{cls.scratch}/corpus"
        os.makedirs(cls.corpus)
        messages.write_corpus(cls.corpus, 1)
        vectors = f"{cls.scratch}/vectors.txt"
        messages.write_vectors(vectors, 2)
        config = cls.write_class("newsgroups.yaml", messages.CONFIG.format(folder=cls.corpus, vectors=vectors))
        cls.run_folder = cls.train_once(config)
        cls.test_documents = f"{cls.corpus}/20news-bydate-test"

    def test_the_numbers_of_evaluation(self):
        found = self.assertAsEvaluated((self.test_documents,), [f"group.{i:02}" for i in range(messages.CLASSES)])
        self.assertTrue(found[0]["input"].endswith("20news-bydate-test/group.00/1003"), found[0])

    def test_ranks(self):
        self.assertRanksAgree((self.test_documents,))

    def test_lines_are_documents(self):
        files = [f"{self.test_documents}/group.{i:02}/1003" for i in range(5)]
        lines = [contents(path).decode().split("\n\n", 1)[1].strip() for path in files]
        whole = self.objects(*files, "--logits")
        listed = self.write("documents.txt", "\n".join(lines))
        for words, name, how in (((listed, "--lines"), listed, {}), ((), "-", {"text": "\n".join(lines) + "\n"})):
            for number, (entry, wanted) in enumerate(zip(self.objects(*words, "--logits", **how), whole, strict=True)):
                self.assertEqual(entry["input"], f"{name}:{number + 1}")
                self.assertClose(entry["logits"], wanted["logits"], 1e-5)
        # The same text as a file without a header, in other encodings and line ends.
        text = lines[0].replace(" ", "\r\n")
        for name, data in (("plain", text.encode()), ("marked", b"\xef\xbb\xbf" + text.encode()), ("latin", (text + " caf\u00e9").encode("latin-1")),
                           ("paragraphs", b"unknown words\n\n" + text.encode())):
            self.assertClose(self.objects(self.write(f"texts/{name}", data), "--logits")[0]["logits"], whole[0]["logits"], 1e-5)

    def test_documents_without_a_known_word(self):
        output, errors = self.predict(text="own1 own1x\nnothing known here\n\nown2\n", code=INPUT)
        self.assertEqual([line.count("\t") for line in output.splitlines()], [2] * 4)
        self.assertEqual([line.split("\t")[1] == "" for line in output.splitlines()], [False, True, True, False])
        for line in (2, 3):
            self.assertIn(f"-:{line}: none of the document's words is in the run's vocabulary", errors)
        self.assertIn("2 of 4 documents could not be predicted", errors)

    def test_streams(self):
        self.assertStreams("own1 own1x common1", "own2 " * 300)

    def test_ranks_wait_for_input(self):
        """Longer than a rank waits for the others: those hear of rank 0 meanwhile."""
        run = self.folder()
        shutil.copytree(self.run_folder, run)
        with open(f"{run}/config.yaml", encoding="utf-8") as file:
            config, count = re.subn(r"timeout_seconds: \S+", f"timeout_seconds: {SHORT / 2}", file.read())
        self.assertEqual(count, 1)
        with open(f"{run}/config.yaml", "w", encoding="utf-8") as file:
            file.write(config)
        self.assertStreams("own1", "own2", run=run, pause=SHORT, all_ranks=(2,))

    def test_runs_of_earlier_versions_have_numbers_for_names(self):
        run = self.folder()
        shutil.copytree(self.run_folder, run)
        os.remove(f"{run}/classes.txt")
        entry = self.objects(run=run, text="own1 own1x\n")[0]
        self.assertEqual(entry["label"], str(entry["class"]))
        self.assertEqual(self.objects(text="own1 own1x\n")[0]["class"], entry["class"])
        with open(f"{run}/classes.txt", "w", encoding="utf-8") as file:
            file.write("one\ntwo\n")
        self.assertIn("classes.txt has 2 names, but the run has 20 classes", self.predict(run=run, code=INPUT)[1])

    def test_another_vocabulary_is_refused(self):
        run = self.folder()
        shutil.copytree(self.run_folder, run)
        with open(f"{run}/vocabulary.txt", "a", encoding="utf-8") as file:
            file.write("surplus\n")
        self.assertIn("trained with another vocabulary", self.predict(run=run, code=INPUT)[1])
        os.remove(f"{run}/vocabulary.txt")
        self.assertIn("has no vocabulary.txt", self.predict(run=run, code=INPUT)[1])

    def test_only_images_are_scaled(self):
        self.assertIn("--resize scales images, but", self.predict("--resize", code=USAGE)[1])

    def test_other_classes_are_refused_by_evaluate(self):
        other = self.folder()
        shutil.copytree(self.corpus, other)
        for part in ("train", "test"):
            os.rename(f"{other}/20news-bydate-{part}/group.07", f"{other}/20news-bydate-{part}/group.07x")
        job = Job(["evaluate", self.run_folder, f"dataset.folder={other}"]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn('classes.txt): it has "group.07" where they have "group.07x"', job.errors)


class Trees(Predictions):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.treebank = f"{cls.scratch}/treebank"
        os.makedirs(cls.treebank)
        treebank.write_treebank(cls.treebank, 1)
        draw = random.Random(2)
        lines = [word + "".join(f" {draw.gauss(0, 1):.3f}" for _ in range(treebank.WIDTH)) for word in ("awful", "bad", "the", "good")]
        vectors = cls.write_class("tree_vectors.txt", "\n".join(lines))
        config = treebank.CONFIG.format(folder=cls.treebank, vectors=vectors).replace("SPARSE", "true")
        cls.run_folder = cls.train_once(cls.write_class("sst.yaml", config))
        with open(f"{cls.treebank}/test.txt", encoding="utf-8") as file:
            lines = file.read().splitlines()
        cls.judged = cls.write_class("judged.txt", "\n".join(line for line in lines if line[1] != "2") + "\n")

    def test_the_numbers_of_evaluation(self):
        found = self.assertAsEvaluated((self.judged,), ["negative", "positive"])
        self.assertEqual([entry["input"] for entry in found], [f"{self.judged}:{i + 1}" for i in range(len(found))])

    def test_ranks(self):
        self.assertRanksAgree((self.judged,))

    def test_labels_mean_nothing(self):
        text = contents(self.judged).decode()
        unknown = re.sub(r"\((\d) ", "(X ", text)
        self.assertEqual([entry["logits"] for entry in self.objects("--logits", text=unknown)],
                         [entry["logits"] for entry in self.objects("--logits", text=text)])

    def test_sentences_and_broken_trees(self):
        lines = ["(X good)", "It is a lovely film", "(X (X it) (X fun))", "", "(X (X it)", "(X (X a) (X b) (X c))", "(X (X \\) (X b))"]
        output, errors = self.predict(text="\n".join(lines) + "\n", code=INPUT)
        self.assertEqual([line.split("\t")[1] != "" for line in output.splitlines()], [True, False, True, False, False, False, False])
        for message in ("-:2: a plain sentence: the network composes words along a parse tree", "-:4: an empty line",
                        "-:5:1: this bracket is not closed", "-:6:1: a node with more than two children", "-:7:7: nothing is left",
                        "5 of 7 trees could not be predicted"):
            self.assertIn(message, errors)

    def test_files_that_hold_no_lines(self):
        packed = self.write("trees.txt.gz", gzip.compress(contents(self.judged)))
        for word, message in ((packed, "lines of a compressed file are not read"), ("/nowhere.txt", "/nowhere.txt: cannot be opened")):
            errors = self.predict(word, self.judged, code=INPUT)[1]
            self.assertIn(message, errors)
            self.assertRegex(errors, r"1 of \d+ trees could not be predicted")

    def test_large_trees(self):
        def chain(words):
            return "(X (X good) " * (words - 1) + "(X bad)" + ")" * (words - 1)

        def full(depth):
            return "(X good)" if depth == 0 else f"(X {full(depth - 1)} {full(depth - 1)})"
        text = "\n".join([chain(5), full(12), chain(300), full(3), chain(513), chain(514), full(13)]) + "\n"
        output, errors = self.predict("--json", "--logits", text=text, code=INPUT)
        entries = [json.loads(line) for line in output.splitlines()]
        self.assertEqual(["error" in entry for entry in entries], [False] * 5 + [True] * 2)
        self.assertIn("-:6: a tree of 514 words and 513 levels; 4096 and 512 are the most", errors)
        alone = self.objects("--logits", text=chain(300) + "\n")[0]
        self.assertClose(alone["logits"], entries[2]["logits"], 1e-5)

    def test_streams(self):
        self.assertStreams("(X (X it) (X fun))", "(X good)")


if __name__ == "__main__":
    main()
