"""Parameters that are trained in another way than the others: optimizer.groups."""

import os

from jobs import EVERY_STEP, INPUT, Suite, checkpoint, main, plumb, results, safetensors
from test_documents_task import CONFIG, write_corpus, write_vectors

GROUPS = """base: resnet.yaml
optimizer:
  groups:
    - {parameters: "*", weight_decay: 0.001}
    - parameters: "*bn*"
      weight_decay: 0
      learning_rate_factor: 0.5
    - {parameters: conv1.weight, frozen: true}
"""


def weights(path):
    return {name: data for name, (_, data) in safetensors(path)[0].items()}


class Groups(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.groups = cls.write_class("groups.yaml", GROUPS)

    def assertRefused(self, message, *arguments):
        job = plumb("train", *arguments, "--run", self.folder())
        self.assertEnds(job, INPUT)
        self.assertIn(message, self.said(job))

    def test_a_frozen_layer_stays(self):
        start = checkpoint(self.undisturbed(self.resnet))
        before = weights(start)
        after = weights(checkpoint(self.train(self.groups, f"init={start}")))
        self.assertEqual(before.keys(), after.keys())
        same = {name for name in before if before[name] == after[name]}
        self.assertIn("conv1.weight", same)
        self.assertNotIn("bn1.weight", same)
        self.assertNotIn("conv1.weight", {name for name, data in
                                          weights(checkpoint(self.train(self.resnet, f"init={start}"))).items()
                                          if data == before[name]})

    def test_a_group_of_all_is_the_optimizer(self):
        """The rate halved, or the decay said by a group: the same bits. And groups that say nothing change none."""
        wanted = weights(checkpoint(self.undisturbed(self.resnet)))
        for settings in (("optimizer.learning_rate=0.02", 'optimizer.groups=[{parameters: "*", learning_rate_factor: 0.5}]'),
                         ("optimizer.weight_decay=0", 'optimizer.groups=[{parameters: "*", weight_decay: 5e-4}]'),
                         ('optimizer.groups=[{parameters: "*.weight"}, {parameters: "*bn*"}]',)):
            with self.subTest(settings=settings):
                self.assertEqual(weights(checkpoint(self.train(self.resnet, *settings))), wanted)
        other = self.train(self.resnet, "optimizer.weight_decay=0")
        self.assertNotEqual(weights(checkpoint(other)), wanted)

    def test_another_rule(self):
        """Stands in the same bits as that rule for all."""
        wanted = self.train(self.resnet, "optimizer.name=adam", "optimizer.epsilon=1e-6")
        run = self.train(self.resnet, "optimizer.epsilon=1e-6", 'optimizer.groups=[{parameters: "*", rule: adam}]')
        self.assertEqual(weights(checkpoint(run)), weights(checkpoint(wanted)))

    def test_ranks_share_the_work(self):
        settings = ("model.sync_batch_norm=true", "optimizer.learning_rate=0.001")
        self.assertSameCurve(self.train(self.groups, *settings), self.train(self.groups, *settings, ranks=2), 1e-3)

    def test_killed_and_started_again(self):
        undisturbed = self.train(self.groups, EVERY_STEP)
        run = self.folder()
        self.train(self.groups, EVERY_STEP, run=run, code=-9, fault=dict(FAULT="tear:70", FAULT_FOLDER=run))
        self.train(self.groups, EVERY_STEP, run=run)
        self.assertSameResults(results(run), results(undisturbed))

    def test_a_pattern_that_fits_nothing(self):
        config = self.write("typo.yaml", GROUPS.replace("conv1.weight", "conv1.wieght"))
        self.assertRefused(f"{config}:8: optimizer.groups[].parameters: conv1.wieght fits no parameter of this "
                           "network; the nearest is conv1.weight", config)
        self.assertRefused("optimizer.groups[].parameters (command line): x fits no parameter", self.resnet,
                           "optimizer.groups=[{parameters: x}]")

    def test_what_has_no_meaning_together(self):
        group = 'optimizer.groups=[{parameters: "*", %s}]'
        self.assertRefused("optimizer.groups[].weight_decay (command line): is set, but nothing uses it", self.resnet,
                           group % "frozen: true, weight_decay: 0.1")
        self.assertRefused("-0.5 is negative", self.resnet, group % "weight_decay: -0.5")
        self.assertRefused("momentum steps also the rows", self.resnet, group % "sparse: true, weight_decay: 0")
        self.assertRefused("adam steps also the rows", self.resnet, group % "rule: adam, sparse: true")
        self.assertRefused("give the group weight_decay: 0", self.resnet, group % "rule: adagrad, sparse: true")
        self.assertRefused("set micro_batches to 1, or sparse: false", self.resnet, "micro_batches=2",
                           group % "rule: sgd, sparse: true, weight_decay: 0")
        self.assertRefused("optimizer.groups[].parameters (command line): must be given", self.resnet,
                           "optimizer.groups=[{frozen: true}]")


class Sparse(Suite):
    """A table of word vectors whose gradient is kept for the rows that a batch uses takes the same steps as a dense one."""

    DENSE = 'optimizer.groups=[{parameters: "*embedding*", rule: adagrad, weight_decay: 0}]'
    ROWS = DENSE.replace("weight_decay", "sparse: true, weight_decay")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = os.path.dirname(cls.write_class("corpus/about", "a made corpus\n"))
        write_corpus(cls.data, 1)
        write_vectors(f"{cls.data}/vectors.txt", 2)
        text = "model.freeze_embedding: false\n" + CONFIG.format(folder=cls.data, vectors=f"{cls.data}/vectors.txt")
        cls.config = cls.write_class("newsgroups.yaml", text)

    def test_same_steps_as_dense(self):
        dense = self.train(self.config, self.DENSE)
        self.assertSameCurve(dense, self.train(self.config, self.ROWS), 1e-6)
        self.assertNotEqual(weights(checkpoint(dense)), weights(checkpoint(self.train(self.config))))

    def test_what_cannot_be_trained_by_rows(self):
        for settings, message in ((("model.freeze_embedding=true", self.ROWS),
                                   "(command line): embedding.weight is frozen by the network"),
                                  ((self.ROWS.replace("*embedding*", "dense.weight"),), "dense.weight")):
            with self.subTest(settings=settings):
                job = plumb("train", self.config, *settings, "--run", self.folder())
                self.assertEnds(job, INPUT)
                self.assertIn(message, self.said(job))

    def test_ranks_share_the_rows(self):
        self.assertSameCurve(self.train(self.config, self.ROWS), self.train(self.config, self.ROWS, ranks=3), 1e-4)

    def test_killed_and_started_again(self):
        undisturbed = self.train(self.config, self.ROWS, EVERY_STEP)
        run = self.folder()
        self.train(self.config, self.ROWS, EVERY_STEP, run=run, code=-9, fault=dict(FAULT="tear:70", FAULT_FOLDER=run))
        self.train(self.config, self.ROWS, EVERY_STEP, run=run)
        self.assertSameResults(results(run), results(undisturbed))


if __name__ == "__main__":
    main()
