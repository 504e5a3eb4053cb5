"""The models that a run keeps: the best by several measures, those of epochs and steps, and their mean; and training that ends
early."""

import json
import math
import os
import shutil

from jobs import (EVERY_STEP, INPUT, INTERRUPTED, USAGE, Suite, checkpoint, contents, floats, main, metrics, plumb, results,
                  safetensors)


def names(run):
    """The stems of the models that a run has kept, but for its training checkpoints."""
    ending = ".model.safetensors"
    return sorted(name.removesuffix(ending) for name in os.listdir(f"{run}/checkpoints")
                  if name.endswith(ending) and not name.startswith("step-"))


def model(run, stem):
    return f"{run}/checkpoints/{stem}.model.safetensors"


class Kept(Suite):
    # A rate so high that measures go up and down.
    WILD = ("epochs=4", "evaluate.every_steps=1", "optimizer.learning_rate=0.5")

    def lowest(self, run, measure):
        """The step whose validation split has the lowest of the measure, the first one."""
        lines = metrics(run)
        return min(lines, key=lambda entry: (entry["validation"][measure], entry["step"]))["step"]

    def measured(self, run, *arguments):
        out = f"{self.scratch}/measured.json"
        job = plumb("evaluate", run, "--bootstrap", "0", "--json", out, *arguments)
        self.assertEnds(job, 0)
        with open(out) as file:
            found = json.load(file)
        self.assertEqual(found.pop("checkpoint"), arguments[arguments.index("--checkpoint") + 1] if "--checkpoint" in arguments else "last")
        return found

    def test_best_by_several_measures(self):
        settings = (*self.WILD, "checkpoint.best=[error, nll, ece]")
        run = self.train(self.linear, *settings)
        self.assertEqual(names(run), ["best", "best-ece", "best-nll"])
        chosen = set()
        for stem, measure in (("best", "error"), ("best-nll", "nll"), ("best-ece", "ece")):
            _, metadata = safetensors(model(run, stem))
            self.assertEqual(metadata["measure"], measure)
            self.assertEqual(int(metadata["step"]), self.lowest(run, measure), measure)
            chosen.add(metadata["step"])
        self.assertGreater(len(chosen), 1, "measures that agree test nothing")
        # by name, and what training measured then
        step = self.lowest(run, "ece")
        entry = next(entry for entry in metrics(run) if entry["step"] == step)
        found = self.measured(run, "--checkpoint", "best-ece", "--split", "validation")
        self.assertIn(format(entry["validation"]["ece"], ".6g")[:6], json.dumps(found))
        self.assertEqual(self.measured(run, "--checkpoint", "best-error"), self.measured(run, "--checkpoint", "best"))
        job = plumb("evaluate", run, "--checkpoint", "best-brier")
        self.assertEnds(job, INPUT)
        self.assertIn("did not keep the best model by brier", job.errors)
        # one measure, and a list of one, are the same run
        one, same = self.train(self.linear, *self.WILD, "checkpoint.best=nll"), self.train(self.linear, *self.WILD, "checkpoint.best=[nll]")
        self.assertSameResults(results(one), results(same))
        self.assertEqual(contents(model(one, "best")), contents(model(same, "best")))
        self.assertEqual(safetensors(model(one, "best"))[0], safetensors(model(run, "best-nll"))[0])
        # stopped and gone on with, the same models
        for moment in (20, 60, 111):
            stopped = self.folder()
            job = plumb("train", self.linear, *settings, EVERY_STEP, "--run", stopped,
                        fault=dict(FAULT=f"kill:{moment}", FAULT_FOLDER=stopped))
            self.train(self.linear, *settings, EVERY_STEP, run=stopped)
            for stem in names(run):
                self.assertEqual(contents(model(run, stem)), contents(model(stopped, stem)), f"{stem}, killed at {moment}")

    def best_models(self, run):
        with open(f"{run}/best_models.json") as file:
            return json.load(file)["models"]

    def test_best_are_measured_at_the_end(self):
        """As plumb evaluate measures them; those of one step once."""
        chosen = set()
        for config, ranks in ((self.linear, 0), (self.resnet, 2)):
            settings = (*self.WILD, "checkpoint.best=[error, nll, ece]", "evaluate.bootstrap=0")
            run = self.train(config, *settings, ranks=ranks)
            models = self.best_models(run)
            self.assertEqual([model["measure"] for model in models], ["error", "nll", "ece"])
            self.assertEqual([model["checkpoint"] for model in models], ["best", "best-nll", "best-ece"])
            for entry in models:
                chosen.add((config, entry["step"]))
                self.assertEqual(entry["step"], self.lowest(run, entry["measure"]))
                self.assertEqual(entry["epoch"], (entry["step"] - 1) // 5 + 1)
                self.assertEqual(entry["evaluation"].pop("checkpoint"), entry["checkpoint"])
                self.assertEqual(entry["evaluation"], self.measured(run, "--checkpoint", entry["checkpoint"]))
            self.assertIn("best-nll, by the validation split's nll (epoch", self.job.output)
            with open(f"{run}/evaluation.json") as file:  # of the last model all the same
                final = json.load(file)
            self.assertEqual((final.pop("checkpoint"), final["step"]), ("last", metrics(run)[-1]["step"]))
            self.assertEqual(final, self.measured(run, "--checkpoint", "last"))
        self.assertGreater(len(chosen), 2, "models that are the same test nothing")

    def test_best_that_is_the_last_or_not_there(self):
        still = self.train(self.linear, "epochs=1", "evaluate.bootstrap=0")
        self.assertEqual([(m["checkpoint"], m["epoch"], m["step"]) for m in self.best_models(still)], [("best", 1, 5)])
        with open(f"{still}/evaluation.json") as file:
            final = json.load(file)
        found = self.best_models(still)[0]["evaluation"]
        self.assertEqual(dict(found, checkpoint="last"), final)
        # with more epochs all is measured again
        self.train(self.linear, "epochs=2", "evaluate.bootstrap=0", run=still)
        self.assertEqual(self.best_models(still)[0]["step"], self.lowest(still, "error"))
        for none in ("dataset.validation=0", "evaluate.every=0"):
            run = self.train(self.linear, "epochs=1", none)
            self.assertFalse(os.path.exists(f"{run}/best_models.json"))

    def test_bad_lists(self):
        for value, text in (("[error, error]", "error is named twice"), ("[auto, error]", "error is named twice"),
                            ("[]", "names no measure"), ("[error, eec]", "ece")):
            job = plumb("train", self.linear, f"checkpoint.best={value}", "--run", self.folder())
            self.assertIn(job.code, (INPUT, USAGE), job.said())
            self.assertIn(text, job.errors)

    def test_kept_by_steps(self):
        settings = ("epochs=2", "checkpoint.keep_steps=2", "checkpoint.keep=1")
        run = self.train(self.linear, *settings)
        steps = [f"kept-{step:010}" for step in (2, 4, 6, 8, 10)]
        self.assertEqual(names(run), ["best", "epoch-0001", "epoch-0002", *steps])
        self.assertEqual(safetensors(model(run, steps[-1]))[0], safetensors(checkpoint(run))[0])
        self.assertEqual(self.measured(run, "--checkpoint", "step:4"), self.measured(run, "--checkpoint", "kept-0000000004"))
        self.assertEnds(plumb("evaluate", run, "--checkpoint", "some"), USAGE)
        job = plumb("evaluate", run, "--checkpoint", "step:5")
        self.assertEnds(job, INPUT)
        self.assertIn("checkpoint.keep_steps", job.errors)
        few = self.train(self.linear, *settings, "checkpoint.keep_last=2", ranks=2)
        self.assertEqual(names(few), ["best", "epoch-0001", "epoch-0002", *steps[-2:]])

    def test_average(self):
        run = self.train(self.resnet, "epochs=2", "checkpoint.keep_steps=2")
        job = plumb("evaluate", run, "--checkpoint", "average")
        self.assertEnds(job, INPUT)
        self.assertIn("plumb average", job.errors)
        self.assertEnds(plumb("average", run, "--last", "3", ranks=2), 0)
        parts = [safetensors(model(run, f"kept-{step:010}"))[0] for step in (6, 8, 10)]
        tensors, metadata = safetensors(model(run, "average"))
        self.assertEqual(sorted(tensors), sorted(parts[0]))
        self.assertEqual((metadata["averaged"], metadata["step"], metadata["epoch"]), ("6 8 10", "10", "2"))
        counters = 0
        for name, (form, data) in tensors.items():
            self.assertEqual(form, parts[0][name][0])
            if form[0] != "F32":
                self.assertEqual(data, parts[-1][name][1])
                counters += 1
                continue
            for mean, *values in zip(floats(data), *(floats(part[name][1]) for part in parts)):
                self.assertTrue(math.isclose(mean, sum(values) / 3, rel_tol=1e-7, abs_tol=1e-12), name)
        self.assertGreater(counters, 0, "no counter was tested")
        # it is measured, also as a file of another place, and trains on
        average, last = self.measured(run, "--checkpoint", "average"), self.measured(run)
        self.assertIsNone(average["step"])  # it is of no single one
        self.assertGreater(last["step"], 0)
        self.assertNotEqual(average["before"], last["before"])
        elsewhere = f"{self.scratch}/elsewhere.safetensors"
        self.assertEnds(plumb("average", run, "--last", "3", "--output", elsewhere), 0)
        self.assertEqual(contents(elsewhere), contents(model(run, "average")))
        self.assertEqual(self.measured(run, "--checkpoint", elsewhere), average)
        self.train(self.resnet, "epochs=1", f"init={elsewhere}")
        # of one model it is that model
        self.assertEnds(plumb("average", run, "--last", "1", "--output", elsewhere), 0)
        self.assertEqual(safetensors(elsewhere)[0], parts[-1])

    def test_average_of_what_cannot_be(self):
        run = self.train(self.linear, "epochs=2", "checkpoint.keep=1")
        self.assertEnds(plumb("average", run, "--last", "2"), 0)
        other = self.train(self.resnet, "epochs=1", "checkpoint.keep=1")
        shutil.copy(model(other, "epoch-0001"), model(run, "epoch-0001"))
        damaged = self.folder()
        shutil.copytree(run, damaged)
        with open(model(damaged, "epoch-0002"), "r+b") as file:
            file.seek(-9, 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
        for arguments, code, text in (((run,), INPUT, "has kept 2 models, not 5: --last 2 takes them all"), ((run, "--last", "2"), INPUT, "another network"),
                                      ((damaged, "--last", "2"), INPUT, "epoch-0002"),
                                      ((self.scratch, "--last", "2"), INPUT, "is no run"), ((), USAGE, "takes one run"),
                                      ((run, "--last", "0"), USAGE, "--last"),
                                      ((run, "--last", "1", "--output", f"{self.scratch}/no/such/a.safetensors"), 4, "no/such"),
                                      ((run, "--last", "1", "--output", f"{self.scratch}/mean"), USAGE, "ends in .safetensors")):
            job = plumb("average", *arguments)
            self.assertEnds(job, code)
            self.assertIn(text, job.errors)

    def test_ends_early(self):
        for measure in ("error", "nll", "ece"):
            settings = ("epochs=30", "optimizer.learning_rate=0.5", "early_stop.patience=3", f"early_stop.measure={measure}")
            run = self.train(self.linear, *settings)
            lines = metrics(run)
            self.assertLess(len(lines), 30)
            values = [entry["validation"][measure] for entry in lines]
            best = values.index(min(values))
            self.assertEqual(len(values) - 1 - best, 3, measure)
            waited = 0
            for i, value in enumerate(values[:-1]):
                waited = 0 if value < min(values[:i], default=math.inf) else waited + 1
                self.assertLess(waited, 3, "it could have ended before")
            self.assertIn(f"training ends early: the {measure} of the validation split was not better in 3 evaluations", self.job.output)
            self.assertTrue(os.path.exists(f"{run}/evaluation.json"))
        stopped = self.folder()
        self.train(self.linear, *settings, run=stopped, fault=dict(FAULT="signal:25", FAULT_FOLDER=stopped), code=INTERRUPTED)
        self.train(self.linear, *settings, run=stopped)
        self.assertSameResults(results(stopped), results(run))
        within = self.train(self.linear, *settings, "evaluate.every_steps=1", ranks=2)
        self.assertLess(metrics(within)[-1]["step"], metrics(run)[-1]["step"])

    def test_ends_early_without_a_measure(self):
        for settings, text in ((("evaluate.every=0",), "needs evaluations"), (("dataset.validation=0",), "no validation split"),
                               (("early_stop.measure=ecc",), "ece")):
            job = plumb("train", self.linear, "early_stop.patience=2", *settings, "--run", self.folder())
            self.assertIn(job.code, (INPUT, USAGE), job.said())
            self.assertIn(text, job.errors)
        job = plumb("train", self.linear, "early_stop.measure=ece", "--run", self.folder())
        self.assertNotEqual(job.code, 0)
        self.assertIn("early_stop.measure", job.errors)


if __name__ == "__main__":
    main()
