#!/usr/bin/env python3
"""Training steps of the network for documents beside PyTorch's, and cropped beside uncropped, run in turn. Prints Markdown.

Needs the program train_documents (cmake -DPLUMB_PERF=ON) and a Python with torch. With --newsgroups FOLDER (the one that
holds 20news-bydate-train and -test) also real documents, cropped and not.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
REACH = {"float32": 1.8, "bfloat16": 2.5}
CROPPED = 4.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "perf", "train_documents"))
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a run")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each program, in turn")
    parser.add_argument("--newsgroups", help="the folder of real documents")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count processor time, not time: on a machine with other work, with --threads 1",
    )
    return parser.parse_args()


def run(command, threads, key):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)[key]


def compare(chosen, first, second, key):
    """Medians of both programs, run in turn, and the median of their ratios."""
    pairs = [(run(first, chosen.threads, key), run(second, chosen.threads, key)) for _ in range(chosen.pairs)]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[0] / pair[1] for pair in pairs),
    )


def main():
    chosen = arguments()
    unit = "documents_per_processor_second" if chosen.processor_time else "documents_per_second"
    ours = [chosen.program, "batch=128", f"threads={chosen.threads}"]
    peer = [chosen.python, os.path.join(HERE, "train_documents_peer.py"), "--threads", str(chosen.threads)]
    print(f"128 documents a batch, {chosen.threads} threads, {unit}\n")
    print("| what | compute | first | second | ratio | to reach |\n|---|---|---|---|---|---|")
    for compute, reach in REACH.items():
        steps = ["--steps", str(chosen.steps)]
        mine, theirs, ratio = compare(
            chosen, ours + [f"compute={compute}"] + steps, peer + ["--dtype", compute] + steps, unit
        )
        print(f"| 1,000 words, against PyTorch | {compute} | {mine:.1f} | {theirs:.1f} | {ratio:.2f} | {reach} |")
    if chosen.newsgroups:
        unit = "documents_per_processor_second" if chosen.processor_time else "mean_documents_per_second"
        for compute in REACH:
            real = ours + [f"compute={compute}", "--newsgroups", chosen.newsgroups, "--steps", str(6 * chosen.steps)]
            mine, theirs, ratio = compare(chosen, real + ["--crop", "--warmup", "20"], real, unit)
            print(
                f"| real documents, cropped against not | {compute} | {mine:.1f} | {theirs:.1f} | {ratio:.2f} | {CROPPED} |"
            )


if __name__ == "__main__":
    main()
