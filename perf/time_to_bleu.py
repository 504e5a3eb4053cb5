#!/usr/bin/env python3
"""How long until a translator is good: configs/multi30k.yaml in plumb and the same recipe in PyTorch, trained at the same time, one
thread each, on a core of its own. Prints Markdown.

    python3 perf/time_to_bleu.py --multi30k FOLDER --output race

FOLDER holds the files of launch/get_data.sh multi30k, gzipped. Both programs read the same pieces and have the same number of epochs
planned. Time is that of training alone: neither evaluation nor search nor the start counts. Afterwards plumb translate (beam 4) translates
test 2016 with the models of each epoch, of both, and plumb bleu scores the lines. On a machine with other work look at processor time:
what else runs on a core lengthens time alone. The Python needs torch and sentencepiece.
"""

import argparse
import bisect
import glob
import gzip
import json
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
CONFIG = os.path.join(ROOT, "configs", "multi30k.yaml")
TICK = os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--multi30k", required=True)
    parser.add_argument("--output", required=True, help="a folder for both runs, their models and translations")
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "plumb"))
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch and sentencepiece")
    parser.add_argument("--compute", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=0, help="end earlier, to try this program")
    parser.add_argument("--wanted", type=float, default=33.0, help="the BLEU to reach")
    parser.add_argument("--cores", type=int, nargs=2, default=[0, 1], help="plumb's, PyTorch's")
    return parser.parse_args()


def run(command, core=None, **more):
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    return subprocess.run(pinned + command, check=True, **more)


class Racer:
    """A program that trains and writes lines of metrics; its processor time is read while it runs."""

    def __init__(self, name, folder, core, command):
        self.name, self.folder, self.core = name, folder, core
        self.moments, self.processor, self.ends = [], [], []
        with open(folder + ".log", "w", encoding="utf-8") as log:
            environment = dict(os.environ, OMP_NUM_THREADS="1")
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core)] + command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def lines(self):
        path = os.path.join(self.folder, "metrics.jsonl")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file.read().split("\n")[:-1]]

    def look(self):
        """-> whether it still runs"""
        if self.process.poll() is not None:
            if self.process.returncode != 0:
                sys.exit(f"{self.name} ended with {self.process.returncode}: {self.folder}.log")
            return False
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        now = time.time()
        self.moments.append(now)
        self.processor.append((int(fields[11]) + int(fields[12])) / TICK)
        self.ends += [now] * (len(self.lines()) - len(self.ends))
        return True

    def used(self, moment):
        """Processor seconds up to a moment, by the two nearest readings."""
        at = min(max(bisect.bisect(self.moments, moment), 1), len(self.moments) - 1)
        before, after = self.moments[at - 1], self.moments[at]
        part = min(max((moment - before) / (after - before), 0), 1)
        return self.processor[at - 1] + part * (self.processor[at] - self.processor[at - 1])

    def epochs(self):
        """(seconds, processor seconds, tokens a second) of the training up to the end of each epoch."""
        made, total = [], [0.0, 0.0]
        for line, end in zip(self.lines(), self.ends):
            total[0] += line["seconds"]
            total[1] += self.used(end) - self.used(end - line["seconds"])
            made.append((total[0], total[1], line["tokens_per_second"]))
        return made


def race(chosen):
    cache = os.path.join(chosen.output, "cache")
    settings = [f"dataset.folder={chosen.multi30k}", f"dataset.cache={cache}", f"compute={chosen.compute}", "threads=1"]
    settings += [f"epochs={chosen.epochs}", "checkpoint.keep=1", "evaluate.every=0", "evaluate.bleu=none"]
    run([chosen.program, "data", "encode", CONFIG] + settings, stdout=subprocess.DEVNULL)
    (subwords,) = glob.glob(os.path.join(cache, "*-subwords.model"))
    mine = [chosen.program, "train", CONFIG] + settings + ["--run", os.path.join(chosen.output, "plumb")]
    peer = [chosen.python, os.path.join(HERE, "time_to_bleu_peer.py"), "--multi30k", chosen.multi30k]
    peer += ["--subwords", subwords, "--output", os.path.join(chosen.output, "torch"), "--dtype", chosen.compute]
    peer += ["--epochs", str(chosen.epochs), "--steps", str(chosen.steps)]
    if chosen.steps:
        mine.append(f"steps={chosen.steps}")
    racers = [
        Racer("plumb", os.path.join(chosen.output, "plumb"), chosen.cores[0], mine),
        Racer("PyTorch", os.path.join(chosen.output, "torch"), chosen.cores[1], peer),
    ]
    while any([racer.look() for racer in racers]):
        time.sleep(0.25)
    return racers


def models(folder):
    found = sorted(glob.glob(os.path.join(folder, "checkpoints", "epoch-*.model.safetensors")))
    return found or sorted(glob.glob(os.path.join(folder, "checkpoints", "step-*.model.safetensors")))[-1:]


def score(chosen, racer):
    """BLEU of test 2016 of each model that the racer kept."""
    texts = {}
    for language in ("en", "de"):
        texts[language] = os.path.join(chosen.output, "test." + language)
        with gzip.open(os.path.join(chosen.multi30k, f"test_2016_flickr.{language}.gz")) as packed:
            with open(texts[language], "wb") as file:
                file.write(packed.read())
    scores = []
    for model in models(racer.folder):
        number = re.search(r"-(\d+)\.model", model)[1]
        hypotheses = os.path.join(chosen.output, f"{os.path.basename(racer.folder)}-{number}.de")
        translate = [chosen.program, "translate", os.path.join(chosen.output, "plumb"), "--checkpoint", model]
        with open(texts["en"], "rb") as source, open(hypotheses, "wb") as made:
            run(translate + ["--compute", "float32"], stdin=source, stdout=made, stderr=subprocess.DEVNULL)
        bleu = run([chosen.program, "bleu", texts["de"], "-i", hypotheses, "-b", "-w", "2"], stdout=subprocess.PIPE)
        scores.append(float(bleu.stdout))
    return scores


def describe(value):
    return "-" if value is None else f"{value:,.0f}"


def main():
    chosen = arguments()
    os.makedirs(chosen.output)
    racers = race(chosen)
    epochs = [racer.epochs() for racer in racers]
    scores = [score(chosen, racer) for racer in racers]
    steps = [racer.lines()[-1]["step"] for racer in racers]
    print(
        f"Seconds of training up to the end of each epoch, one thread, {chosen.compute}; steps: {steps[0]} of plumb, {steps[1]} of PyTorch.\n\n"
        "| epoch | plumb: time | processor time | BLEU | PyTorch: time | processor time | BLEU |\n|---|---|---|---|---|---|---|"
    )
    reached = [None, None]
    for epoch in range(min(len(each) for each in epochs)):
        cells = []
        for side in (0, 1):
            seconds, processor, _ = epochs[side][epoch]
            bleu = scores[side][epoch]
            cells += [describe(seconds), describe(processor), f"{bleu:.2f}"]
            if reached[side] is None and bleu >= chosen.wanted:
                reached[side] = epoch
        print(f"| {epoch + 1} | " + " | ".join(cells) + " |")
    print(f"\n| to {chosen.wanted:g} BLEU | plumb | PyTorch | share |\n|---|---|---|---|")
    for column, name in enumerate(("time", "processor time")):
        ends = [None if at is None else epochs[side][at][column] for side, at in enumerate(reached)]
        share = "-" if None in ends else f"{ends[0] / ends[1]:.2f}"
        print(f"| {name} | {describe(ends[0])} | {describe(ends[1])} | {share} |")


if __name__ == "__main__":
    main()
