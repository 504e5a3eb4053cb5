"""Training that counts steps: where it ends, what is measured on the way, and that it goes on from there."""

import json

from jobs import EVERY_STEP, INTERRUPTED, Suite, checkpoint, contents, main, metrics, plumb, results


class Steps(Suite):
    """An epoch of the small data set is 5 steps."""

    def places(self, run):
        return [(entry["epoch"], entry["step"]) for entry in metrics(run)]

    def test_the_same_as_epochs(self):
        whole, counted = self.train(self.linear), self.train(self.linear, "steps=10", "epochs=350")
        self.assertEqual(metrics(whole), metrics(counted))
        self.assertEqual(contents(f"{whole}/test.logits.npy"), contents(f"{counted}/test.logits.npy"))

    def test_ends_within_an_epoch(self):
        run = self.train(self.linear, "steps=7", "epochs=9")
        self.assertEqual(self.places(run), [(1, 5), (1.4, 7)])
        self.assertIn("validation", metrics(run)[-1])
        self.assertIn("epoch 1.4/2:", self.job.output)
        # with more steps it goes on as if it had never stopped
        self.train(self.linear, "steps=12", "epochs=9", run=run)
        self.assertIn(f"{run} had 7 steps and goes on to 12", self.job.output)
        whole = self.train(self.linear, "steps=12", "epochs=9")
        self.assertEqual(self.places(run), [(1, 5), (1.4, 7), (2, 10), (2.4, 12)])
        self.assertEqual(metrics(run)[-1], metrics(whole)[-1])
        self.assertEqual(contents(f"{run}/test.logits.npy"), contents(f"{whole}/test.logits.npy"))
        self.assertEqual(contents(checkpoint(run)), contents(checkpoint(whole)))
        # the same command again trains no more
        self.train(self.linear, "steps=12", "epochs=9", run=run)
        self.assertEqual(len(metrics(run)), 4)

    def test_what_is_reached_first(self):
        self.assertEqual(self.places(self.train(self.linear, "steps=100", "epochs=1")), [(1, 5)])
        self.assertEqual(self.places(self.train(self.linear, "steps=3", "epochs=1")), [(0.6, 3)])

    def test_evaluates_within_epochs(self):
        settings = ("steps=8", "epochs=9", "evaluate.every_steps=2", EVERY_STEP)
        run = self.train(self.linear, *settings)
        self.assertEqual(self.places(run), [(0.4, 2), (0.8, 4), (1, 5), (1.2, 6), (1.6, 8)])
        for entry in metrics(run):
            self.assertIn("test", entry)
        for moment in (15, 40, 70):
            stopped = self.folder()
            job = plumb("train", self.linear, *settings, "--run", stopped, fault=dict(FAULT=f"signal:{moment}", FAULT_FOLDER=stopped))
            self.assertIn(job.code, (0, INTERRUPTED), job.said())
            self.train(self.linear, *settings, run=stopped)
            self.assertSameResults(results(stopped), results(run))
        two = self.train(self.linear, *settings, ranks=2)
        self.assertSameCurve(run, two, 1e-5)

    def test_linear_decay(self):
        run = self.train(self.linear, "steps=10", "evaluate.every_steps=1", "schedule.name=linear", "schedule.decay=0.5",
                         "schedule.warmup_steps=2", "schedule.final_rate=0.001", "evaluate.every=1")
        rates = [entry["learning_rate"] for entry in metrics(run)]
        wanted = [0.005, 0.01, 0.01, 0.01, 0.01, 0.01, 0.0082, 0.0064, 0.0046, 0.0028]
        self.assertEqual(len(rates), len(wanted))
        for rate, want in zip(rates, wanted):
            self.assertAlmostEqual(rate, want, places=12)

    def test_seconds_add_up(self):
        """Those of a line are since the line before."""
        run = self.train(self.linear, "steps=10", "evaluate.every_steps=1")
        with open(f"{run}/metrics.jsonl") as file:
            lines = [json.loads(line) for line in file]
        for entry in lines:
            self.assertAlmostEqual(entry["seconds"] * entry["samples_per_second"], 48, places=6)


if __name__ == "__main__":
    main()
