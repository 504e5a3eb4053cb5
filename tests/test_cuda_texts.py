"""Documents, trees and translation on the CUDA kernels, executed on the host, equal training on the CPU (see test_cuda_train.py); and
predictions there are what evaluation had."""

import json
import os

import jobs
import test_documents_task as documents
import test_image_folder_task as pictures
import test_translation_task as translation
import test_trees_task as trees
from jobs import Suite, main, metrics, npy
from test_cuda_train import AS_A_GPU, ON_HOST


class CudaTexts(Suite):
    assertAlike = translation.TranslationTask.assertAlike

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        corpus, treebank = f"{cls.scratch}/corpus", f"{cls.scratch}/treebank"
        os.makedirs(corpus)
        os.makedirs(treebank)
        documents.write_corpus(corpus, 1)
        documents.write_vectors(f"{corpus}/vectors.txt", 2)
        trees.write_treebank(treebank, 1)
        vectors = cls.write_class("trees.txt", "good 1 2 3 -1 -2 -3\nbad -1 -2 -3 1 2 3\n")
        translation.write_corpus(f"{cls.scratch}/pairs", 1)
        cls.pairs = cls.write_class("pairs.yaml", translation.CONFIG.format(folder=f"{cls.scratch}/pairs", cache=f"{cls.scratch}/cache"))
        cls.newsgroups = cls.write_class("newsgroups.yaml", documents.CONFIG.format(folder=corpus, vectors=f"{corpus}/vectors.txt"))
        cls.sst = cls.write_class("sst.yaml", trees.CONFIG.format(folder=treebank, vectors=vectors).replace("SPARSE", "true"))
        cls.dense = cls.write_class("dense.yaml", trees.CONFIG.format(folder=treebank, vectors=vectors).replace("SPARSE", "false"))

    def on_cuda(self, config, *settings, ranks=0):
        program, jobs.PLUMB = jobs.PLUMB, ON_HOST
        try:
            return self.train(config, "device=cuda", *settings, ranks=ranks, environment=AS_A_GPU)
        finally:
            jobs.PLUMB = program

    def assertSame(self, config, *settings, tolerance=1e-4):
        with self.subTest(settings=settings):
            self.assertSameCurve(self.train(config, "device=cpu", *settings), self.on_cuda(config, *settings), tolerance)

    def assertPredicts(self, run, words, first):
        """The logits that the run has kept of the first samples of its test set."""
        program, jobs.PLUMB = jobs.PLUMB, ON_HOST
        try:
            job = jobs.plumb("predict", run, *words, "--json", "--logits", "--batch", "4", environment=AS_A_GPU)
        finally:
            jobs.PLUMB = program
        self.assertEnds(job, 0)
        found = [value for line in job.output.splitlines() for value in json.loads(line)["logits"]]
        (_, classes), wanted = npy(f"{run}/test.logits.npy")
        for x, y in zip(found, wanted[:first * classes], strict=True):
            self.assertLess(abs(x - y), 1e-4)

    def test_predictions(self):
        small = ("epochs=1", "dataset.train_limit=24", "dataset.validation_limit=4")
        corpus, images = f"{self.scratch}/corpus/20news-bydate-test/group.0", f"{self.scratch}/images"
        run = self.on_cuda(self.newsgroups, *small)
        self.assertPredicts(run, [f"{corpus}{i}" for i in range(2)], 6)
        with open(f"{self.scratch}/treebank/test.txt", encoding="utf-8") as file:
            some = self.write("some.txt", "".join(file.readlines()[:5]))
        self.assertPredicts(self.on_cuda(self.sst, *small, "dataset.tree_labels=fine5"), [some], 5)
        pictures.write_images(images, 1)
        config = self.write("images.yaml", pictures.CONFIG.format(folder=images))
        self.assertPredicts(self.on_cuda(config, *small[:1]), [f"{images}/test/ant"], 12)

    def test_documents(self):
        small = ("epochs=1", "dataset.train_limit=48", "dataset.validation_limit=10", "dataset.test_limit=20")
        self.assertSame(self.newsgroups, *small)
        self.assertSame(self.newsgroups, *small, "model.freeze_embedding=false", "loss.name=mmce_weighted")

    def test_trees(self):
        small = ("epochs=1", "dataset.train_limit=48")
        self.assertSame(self.sst, *small, "model.dropout=0.5")
        self.assertSame(self.dense, *small, "dataset.tree_labels=fine5", "model.output_gate=true", "micro_batches=2", "evaluate_batch=12")

    def test_translation(self):
        """Logits stay where the device makes them, and the measures are those of the CPU."""
        small = ("steps=2", "dataset.train_limit=40", "dataset.validation_limit=4", "dataset.test_limit=6", "batch_shapes=1")
        run, other = self.train(self.pairs, "device=cpu", *small), self.on_cuda(self.pairs, *small)
        self.assertAlike(run, other, 2e-3)
        self.assertScores(other)

    def assertScores(self, run):
        """Scores are recorded at the second batch (of 64 pairs), and what cannot be is scored without, with a warning; the same bits."""
        files = []
        for side in ("en", "de"):
            with open(f"{self.scratch}/pairs/test.{side}", encoding="utf-8") as file:
                files.append(self.write(f"few.{side}", "".join(file.readlines()[:3] * 22)))
        said = []
        for environment in ({}, {"PLUMB_TEST_RECORD_MOST": "20"}):
            command = [ON_HOST, "score", run, "--source", files[0], "--target", files[1], "--longest", "16"]
            job = jobs.Job([], environment=dict(AS_A_GPU, **environment), command=command).wait()
            self.assertEnds(job, 0)
            self.assertEqual(job.errors.count("warning: scoring cannot be recorded"), int(bool(environment)), self.said(job))
            said.append(job.output)
        self.assertEqual(said[0], said[1])
        self.assertEqual(said[0].count("\n"), 66)

    def test_trees_whose_recording_is_replayed(self):
        """Several epochs of batches of other heights, launched from one recording."""
        run = self.on_cuda(self.sst, "dataset.train_limit=60")
        self.assertEqual(metrics(run), metrics(self.on_cuda(self.sst, "dataset.train_limit=60")))


del documents.DocumentsTask, pictures.ImageFolderTask, trees.TreesTask, translation.TranslationTask  # their tests are theirs


if __name__ == "__main__":
    main()
