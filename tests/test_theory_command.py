"""plumb theory as a user runs it: its numbers, the page, where they may be written."""

import json
import math
from html.parser import HTMLParser

from jobs import IO, USAGE, Job, Suite, contents, main


def g(p, gamma):
    return (1 - p) ** gamma - gamma * p * (1 - p) ** (gamma - 1) * math.log(p)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.figures = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.figures += tag == "svg"
        self.ids += [value for key, value in attributes if key == "id"]


class TheoryCommand(Suite):
    def numbers(self, *words, ranks=0):
        path = self.folder() + ".json"
        job = Job(["theory", "--json", path, *words], ranks).wait()
        self.assertEnds(job, 0)
        with open(path, encoding="utf-8") as file:
            return json.load(file), job

    def test_numbers(self):
        theory, job = self.numbers()
        self.assertIn("Proposition 1", job.output)
        network = theory["proposition_1"]
        for gamma, deviation, norms in zip(network["gamma"], network["largest_relative_deviation"], network["norm_focal"]):
            self.assertLess(deviation, 1e-5)
            for p, plain, focal in zip(network["probability"], network["norm_cross_entropy"], norms):
                self.assertAlmostEqual(focal / plain, g(p, gamma), 4)
        self.assertLess(min(network["probability"]), 0.2)
        self.assertGreater(max(network["probability"]), 0.5)
        for row in theory["proposition_2"]:
            self.assertAlmostEqual(row["gamma_lambert"], row["gamma_search"], 6)
            self.assertAlmostEqual(g(row["p0"], row["gamma_search"]), 1, 9)
        figure = theory["figure_3a"]
        for gamma, curve in zip(figure["gamma"], figure["curves"]):
            for p, value in list(zip(figure["p"], curve))[1:-1]:
                self.assertAlmostEqual(value, g(p, gamma), 12)
        minimiser = dict(zip(theory["figure_b1"]["gamma"], theory["figure_b1"]["curves"]))
        self.assertLess(max(abs(a - b) for a, b in zip(minimiser[0], theory["figure_b1"]["q"])), 1e-12)
        self.assertTrue(all(abs(a - 0.5) <= abs(b - 0.5) + 1e-12 for a, b in zip(minimiser[3], minimiser[1])))
        plain, *focal = theory["appendix_c"]["runs"]
        for run in focal:
            self.assertLess(run["records"][-1]["weight_norm"], plain["records"][-1]["weight_norm"])
            self.assertLess(run["records"][-1]["wrong_confidence"], plain["records"][-1]["wrong_confidence"])
        self.assertEqual(self.numbers(ranks=2)[0], theory)

    def test_page(self):
        path = self.folder() + ".html"
        job = Job(["theory", "--output", path]).wait()
        if "gnuplot-nox" in job.errors:
            self.skipTest("gnuplot is not installed")
        self.assertEnds(job, 0)
        page = Page(contents(path).decode())
        self.assertEqual(page.figures, 7)
        self.assertEqual(len(page.ids), len(set(page.ids)))
        for title in ("3a g(p, gamma)", "B.1 Minimiser", "Proposition 1 on a network", "Proposition 2", "C.1 Norm of the weights",
                      "C.2 Decision boundaries", "C.2 Confidence of misclassified test points"):
            self.assertIn(title, contents(path).decode())

    def test_where_it_is_written(self):
        job = Job(["theory", "--json", "-"]).wait()
        self.assertEnds(job, 0)
        self.assertIn("appendix_c", json.loads(job.output))
        self.assertIn("Proposition 2", job.errors)
        job = Job(["theory", "--output", "/nowhere/theory.html"]).wait()
        self.assertEnds(job, IO)
        self.assertEqual(job.output, "")
        job = Job(["theory", "run"]).wait()
        self.assertEnds(job, USAGE)
        self.assertIn("plumb theory takes no run", job.errors)


if __name__ == "__main__":
    main()
