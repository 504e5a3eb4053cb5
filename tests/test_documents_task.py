"""Document classification as a user runs it, on a small made corpus: ranks, resume, evaluation, cropping, what goes wrong."""

import glob
import json
import os
import random
import shutil

from jobs import (INPUT, UNSUPPORTED, USAGE, Job, Suite, checkpoint, contents, floats, main, metrics, npy, results, safetensors)

CLASSES, A_CLASS, DIMENSION = 20, 12, 8
CONFIG = """epochs: 3
batch: 24
dataset: {{name: newsgroups, folder: {folder}, length: 60, validation: 20}}
vocabulary: {{size: 300}}
vectors: {{file: {vectors}}}
model: {{name: global_pooling_cnn, embedding_width: 8}}
loss: {{reduction: mean}}
optimizer: {{name: adam, learning_rate: 0.002, weight_decay: 0, clip_norm: 0}}
schedule: {{name: constant}}
evaluate: {{bootstrap: 20}}
threads: 1
"""


def write_corpus(folder, seed):
    """Messages of 20 groups, whose words say which; one empty, some longer than the limit. By date: 1 in 4 is for testing."""
    draw = random.Random(seed)
    for group in range(CLASSES):
        for number in range(A_CLASS):
            part = "test" if number % 4 == 3 else "train"
            path = f"{folder}/20news-bydate-{part}/group.{group:02}"
            os.makedirs(path, exist_ok=True)
            length = draw.choice((5, 12, 30, 90))
            words = [draw.choice((f"own{group}", f"own{group}x", f"common{draw.randrange(40)}")) for _ in range(length)]
            text = "" if (group, number) == (0, 0) else " ".join(words)
            with open(f"{path}/{1000 + number}", "w", encoding="latin-1") as file:
                file.write(f"From: somebody\nSubject: header{group}\n\n{text}\n")
    with open(f"{folder}/.DS_Store", "wb") as file:
        file.write(b"\0")


def write_vectors(path, seed):
    draw = random.Random(seed)
    words = [f"own{g}{x}" for g in range(CLASSES) for x in ("", "x")] + [f"common{i}" for i in range(30)]
    with open(path, "w", encoding="utf-8") as file:
        for word in words:
            file.write(word + "".join(f" {draw.gauss(0, 1):.4f}" for _ in range(DIMENSION)) + "\n")


class DocumentsTask(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = cls.write_class("corpus/about", "a made corpus\n")
        cls.data = os.path.dirname(cls.data)
        write_corpus(cls.data, 1)
        cls.vectors = f"{cls.data}/vectors.txt"
        write_vectors(cls.vectors, 2)
        cls.config = cls.write_class("newsgroups.yaml", CONFIG.format(folder=cls.data, vectors=cls.vectors))

    def test_learns_and_says_what_it_read(self):
        job = Job(["train", self.config, "epochs=12", "--run", self.folder()]).wait()
        self.assertEnds(job, 0)
        self.assertIn("newsgroups: 240 documents; train 160, validation 20, test 60", job.output)
        self.assertIn("documents without any of them: 1 (the first: 20news-bydate-train/group.00/1000)", job.output)
        self.assertIn("70 words of the vocabulary have one, 10 have none and start at zero", job.output)
        self.assertRegex(job.output, r"epoch 12/12: .* documents/s")
        last = [line for line in job.output.splitlines() if "epoch 12/12:" in line][0]
        self.assertLess(float(last.split("test error ")[1].split(" ")[0]), 30, last)

    def test_ranks_and_micro_batches(self):
        alone = self.undisturbed(self.config)
        self.assertSameResults(results(self.train(self.config, ranks=1)), results(alone))
        for ranks in (2, 3, 4):
            with self.subTest(ranks=ranks):
                self.assertSameCurve(alone, self.train(self.config, ranks=ranks), 1e-4)
        self.assertSameCurve(alone, self.train(self.config, "micro_batches=3", "evaluate_batch=24"), 1e-4)

    def test_no_samples_from_elsewhere(self):
        job = Job(["evaluate", self.undisturbed(self.config), "--ood", "gaussian_noise"]).wait()
        self.assertEnds(job, UNSUPPORTED)
        self.assertIn("samples from elsewhere are measured for images only, not for documents", job.errors)
        job = Job(["train", self.config, "evaluate.ood=[{name: gaussian_noise}]", "--run", self.folder()]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("evaluate.ood (command line): is set, but nothing uses it", job.errors)

    def test_losses(self):
        for loss in ("brier", "mmce_weighted", "label_smoothing", "focal"):
            with self.subTest(loss=loss):
                run = self.train(self.config, f"loss.name={loss}", "epochs=1", ranks=2)
                self.assertEqual(len(metrics(run)), 1)

    def test_goes_on_with_the_same_bits(self):
        """Stopped after its first epoch, and given the others later: as a run that was never stopped."""
        for ranks in (0, 2, 3, 4):
            with self.subTest(ranks=ranks):
                run = self.train(self.config, "epochs=1", ranks=ranks)
                self.train(self.config, ranks=ranks, run=run)
                whole = results(self.undisturbed(self.config, ranks=ranks))
                found = results(run)
                for path in ("metrics.jsonl", "test.logits.npy", "vocabulary.txt"):
                    self.assertEqual(found[path], whole[path], path)
                self.assertEqual(safetensors(checkpoint(run))[0], safetensors(checkpoint(self.undisturbed(self.config, ranks=ranks)))[0])

    def test_a_run_that_goes_on_needs_no_vectors(self):
        """The checkpoint has them: the file may be gone."""
        vectors = self.write("gone.txt", contents(self.vectors))
        mine = self.write("gone.yaml", CONFIG.format(folder=self.data, vectors=vectors))
        run, fresh, folder = self.train(mine, "epochs=1"), self.folder(), self.folder()
        sweep = self.write("gone_sweep.yaml", f"sweep: s\nbase: {mine}\nset: {{epochs: 1}}\naxes: {{seed: [1, 2]}}\n")
        self.assertEnds(Job(["sweep", sweep, "--folder", folder]).wait(), 0)
        os.remove(vectors)
        job = Job(["train", mine, "--run", fresh]).wait()  # one that begins does need them
        self.assertEnds(job, INPUT)
        self.assertIn(f"there is no file {vectors}", job.errors)
        for ranks in (0, 2):
            both = self.folder()
            shutil.copytree(run, both)
            self.train(mine, ranks=ranks, run=both)
            self.assertIn("going on after step", self.job.output)
            if ranks == 0:
                self.assertEqual(metrics(both), metrics(self.undisturbed(self.config)))
        self.assertEnds(Job(["evaluate", run]).wait(), 0)
        for evaluation in glob.glob(f"{folder}/*/evaluation.json"):
            os.remove(evaluation)  # the runs are incomplete
        job = Job(["sweep", sweep, "--folder", folder]).wait()
        self.assertEnds(job, 0)
        self.assertEqual(len(glob.glob(f"{folder}/*/evaluation.json")), 2, self.said(job))
        shutil.rmtree(os.path.dirname(glob.glob(f"{folder}/*/config.yaml")[0]))  # one is to begin anew
        job = Job(["sweep", sweep, "--folder", folder]).wait()
        self.assertNotEqual(job.code, 0)
        self.assertIn(f"there is no file {vectors}", job.errors)

    def test_cropped_batches_are_the_same_network(self):
        cropped = self.train(self.config, "epochs=1", "model.freeze_embedding=false")
        whole = self.train(self.config, "epochs=1", "model.freeze_embedding=false", "dataset.crop=false")
        self.assertSameCurve(cropped, whole, 1e-4)

    def test_words_without_a_vector_and_padding_stay_zero(self):
        run = self.undisturbed(self.config)
        words = contents(f"{run}/vocabulary.txt").decode().splitlines()
        (kind, shape), data = safetensors(checkpoint(run))[0]["embedding.weight"]
        self.assertEqual((kind, shape), ("F32", [len(words), DIMENSION]))
        table = floats(data)
        for row, word in enumerate(words):
            known = word.startswith("own") or word.startswith("common") and int(word[6:]) < 30
            self.assertEqual(any(table[row * DIMENSION:(row + 1) * DIMENSION]), known, word)

    def test_conv1d_has_pytorchs_layout(self):
        tensors = safetensors(checkpoint(self.undisturbed(self.config)))[0]
        self.assertEqual(tensors["conv1.weight"][0][1], [128, DIMENSION, 5])
        self.assertEqual(tensors["conv2.weight"][0][1], [128, 128, 5])

    def test_evaluate_measures_the_same_at_any_number_of_ranks(self):
        run = self.undisturbed(self.config)
        shape, _ = npy(f"{run}/test.logits.npy")
        self.assertEqual(shape, (60, CLASSES))
        self.assertEqual(list(npy(f"{run}/test.labels.npy")[1]), sorted(npy(f"{run}/test.labels.npy")[1]))
        want = json.loads(contents(f"{run}/evaluation.json"))
        for ranks in (0, 2, 3):
            path = self.folder() + ".json"
            self.assertEnds(Job(["evaluate", run, "--bootstrap", "0", "--json", path], ranks).wait(), 0)
            found = json.loads(contents(path))
            for measure in ("error", "nll", "ece"):
                self.assertAlmostEqual(found["before"][measure], want["before"][measure], places=6)

    def test_another_vocabulary_is_refused(self):
        run = self.folder()
        shutil.copytree(self.undisturbed(self.config), run)
        changed = self.folder()
        shutil.copytree(self.data, changed)
        with open(f"{changed}/20news-bydate-train/group.00/1000", "w") as file:
            file.write("\n\n" + "surprise " * 50)
        job = Job(["evaluate", run, f"dataset.folder={changed}"]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn("trained with another vocabulary", job.errors)
        # Starting weights: so are the word vectors, but not what no word belongs to.
        init, refused = f"init={run}/checkpoints/best.model.safetensors", "trained with another vocabulary"
        job = Job(["train", self.config, f"dataset.folder={changed}", init, "init_parameters=embed*", "--run", self.folder()]).wait()
        self.assertEnds(job, INPUT)
        self.assertIn(refused, job.errors)
        job = Job(["train", self.config, f"dataset.folder={changed}", init, "init_parameters=conv*", "--run", self.folder()]).wait()
        self.assertEnds(job, 0)
        self.assertIn("these start as they would without it: ", job.output)

    def test_what_does_not_fit(self):
        other = self.write("wide.txt", "own1 1 2 3\nown2 1 2 3\n")
        empty, wordless, single = self.folder(), self.folder(), self.folder()
        os.makedirs(empty)
        shutil.copytree(f"{self.data}/20news-bydate-train", f"{single}/20_newsgroups")
        shutil.copytree(self.data, wordless)
        for path in glob.glob(f"{wordless}/20news-*/*/*"):
            with open(path, "w", encoding="latin-1"):
                pass
        for settings, texts in {
                ("vectors.file=",): ("model.freeze_embedding", "vectors.file"),
                ("vectors.file=/nowhere.txt",): ("vectors.file", "/nowhere.txt", "glove_6b"),
                (f"vectors.file={other}",): ("wide.txt:1:1", "vectors of 8 are expected"),
                (f"dataset.folder={empty}",): (empty, "launch/get_data.sh"),
                ("model.name=resnet8",): ("model.name", "does not take documents"),
                ("vocabulary.size=1",): ("vocabulary.size (command line): a limit of 1 leaves no word",),
                ("dataset.validation=100000",): ("dataset.validation (command line): 100000 documents for validation",),
                (f"dataset.folder={single}", "dataset.split=by_date"): ("dataset.split (command line): a split by date needs",),
                (f"dataset.folder={wordless}",): (f"the training documents of {wordless}: there is no word",),
                ("dataset.validation=0",): ("dataset.validation (command line): at least 1 document is needed",),
                ("optimizer.epsilon=0",): ("optimizer.epsilon: 0 is outside its range",),
                ("optimizer.name=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"): ("optimizer.nesterov", "needs momentum"),
                ("optimizer.groups=[{parameters: embedding.weight, learning_rate_factor: 2}]",):
                    ("embedding.weight is frozen by the network", "the group has no effect"),
                ("augment.flip=true",): ("augment.flip",),
                ("dataset.length=20",): ("dataset.length", "at least 21 words"),
                ("batch=23",): ("23 samples do not part evenly among 2 ranks; 22 do",)}.items():
            with self.subTest(settings=settings):
                job = Job(["train", self.config, *settings, "--run", self.folder()], 2 if "batch=23" in settings else 0).wait()
                self.assertEnds(job, USAGE if "optimizer.epsilon=0" in settings else INPUT)
                for text in texts:
                    self.assertIn(text, job.errors, self.said(job))

    def test_a_batch_larger_than_the_split(self):
        """It works, and somebody should know."""
        self.train(self.config, "batch=240", "epochs=1")
        self.assertIn("a batch of 240 samples is larger than the train split, which has 160", self.job.errors)
        self.train(self.config, "batch=160", "epochs=1")
        self.assertNotIn("larger than", self.job.errors)

    def test_a_word_with_two_vectors(self):
        lines = contents(self.vectors).decode().splitlines()
        twice = self.write("twice.txt", "\n".join(lines + lines[:3]) + "\n")
        for path, count in ((self.vectors, 0), (twice, 3)):
            job = Job(["train", self.config, "epochs=1", f"vectors.file={path}", "--run", self.folder()]).wait()
            self.assertEnds(job, 0)
            self.assertEqual(f"lines that repeat a word of the vocabulary: {count}" in job.errors, count > 0, self.said(job))
            self.assertIn("the first line of a word counts" if count > 0 else "", job.errors)

    def test_a_sweeps_check_finds_it(self):
        """What is wrong with a config is found before the first run starts."""
        for setting, text in (("vocabulary: {size: 1}", "vocabulary.size"), ("dataset.validation: 0", "dataset.validation"), ("optimizer.epsilon: 0", "optimizer.epsilon")):
            path = self.write("wrong.yaml", f"sweep: s\nbase: {self.config}\nset: {{epochs: 1}}\n"
                                            f"axes: {{kind: {{good: {{seed: 2}}, wrong: {{{setting}}}}}}}\n")
            folder = self.folder()
            job = Job(["sweep", path, "--folder", folder]).wait()
            self.assertNotEqual(job.code, 0, self.said(job))
            self.assertIn(text, job.errors)
            self.assertFalse(os.path.exists(f"{folder}/good/metrics.jsonl"))

    def test_sweep_and_report(self):
        path = self.write("losses.yaml", f"sweep: s\nbase: {self.config}\nset: {{epochs: 1}}\n"
                                         "axes: {loss: {ce: {loss.name: cross_entropy}, brier: {loss.name: brier}}}\n")
        folder = self.folder()
        job = Job(["sweep", path, "--folder", folder]).wait()
        self.assertEnds(job, 0)
        page = self.folder() + ".html"
        self.assertEnds(Job(["report", folder, "--output", page]).wait(), 0)
        text = contents(page).decode()
        self.assertIn("newsgroups", text)
        self.assertIn("brier", text)


if __name__ == "__main__":
    main()
