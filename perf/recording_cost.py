#!/usr/bin/env python3
"""What recording training costs (evaluate.norms, gradient_norms, train_reliability, train): the same training with and without.

Trains the config once a line of the table, in turns so that a machine that gets slower or faster spoils no comparison, and prints a line
of JSON each: processor and wall seconds a training, and by how much that is more than with nothing recorded, the median over the rounds
of the quotient within a round, beside the least and the greatest. Reading data and the last evaluation are in all of them, so train long
enough. Where other programs run beside it, only processor seconds of one thread mean something: threads=1.

    python3 perf/recording_cost.py configs/cifar10.yaml model.name=resnet50 epochs=20 [--program build/plumb] [--rounds 3] [--ranks 8]
    nice -n 8 python3 perf/recording_cost.py configs/fashion_mnist.yaml dataset.train_limit=1920 epochs=20 threads=1 --rounds 5
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOTHING = ("evaluate.norms=false", "evaluate.gradient_norms=[]", "evaluate.train_reliability=[]", "evaluate.best_models=false")


def ways(epochs):
    """What is recorded -> settings."""
    chosen, each = f"[{epochs}]", list(range(1, epochs + 1))
    return {
        "nothing": NOTHING,
        "weight norms": ("evaluate.norms=true", *NOTHING[1:]),
        "gradients and reliability after one epoch": (NOTHING[0], f"evaluate.gradient_norms={chosen}",
                                                      f"evaluate.train_reliability={chosen}", NOTHING[3]),
        "training split every epoch, without norms": (*NOTHING, "evaluate.train=true"),
        "training split every epoch, with norms": ("evaluate.norms=true", *NOTHING[1:], "evaluate.train=true"),
        "training split every epoch, with norms, gradients and reliability each time": (
            "evaluate.norms=true", f"evaluate.gradient_norms={each}", f"evaluate.train_reliability={each}", NOTHING[3], "evaluate.train=true"),
        "training split every 20th epoch, with norms": ("evaluate.norms=true", *NOTHING[1:], "evaluate.train=true",
                                                        "evaluate.train_every=20"),
    }


def train(chosen, settings):
    """(processor seconds, wall seconds) of a training."""
    folder = tempfile.mkdtemp(prefix="plumb-recording-")
    launcher = ["mpirun", "-n", str(chosen.ranks)] if chosen.ranks else []
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    try:
        subprocess.run([*launcher, chosen.program, "train", chosen.config, *chosen.settings, *settings, "--run",
                        f"{folder}/run", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, time.monotonic() - started


def more(times, base):
    """By how much more than the base: the median, the least and the greatest of the rounds."""
    quotients = [one / other - 1 for one, other in zip(times, base, strict=True)]
    return [round(value, 4) for value in (statistics.median(quotients), min(quotients), max(quotients))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*", help="key=value, among them epochs=N")
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "plumb"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=0)
    chosen = parser.parse_args()
    epochs = next((int(word.split("=")[1]) for word in chosen.settings if word.startswith("epochs=")), 1)
    found = {what: [] for what in ways(epochs)}
    for _ in range(chosen.rounds):
        for what, settings in ways(epochs).items():
            found[what].append(train(chosen, settings))
    base = list(zip(*found["nothing"]))
    for what, times in found.items():
        processor, wall = zip(*times)
        print(json.dumps({"recorded": what, "processor_seconds": round(statistics.median(processor), 3),
                          "wall_seconds": round(statistics.median(wall), 3), "more_processor": more(processor, base[0]),
                          "more_wall": more(wall, base[1])}))


if __name__ == "__main__":
    main()
