#!/usr/bin/env python3
"""`plumb evaluate` beside the published calculation in PyTorch, on the same files.

The peer is what the published code computes (its loss classes, without its loops over samples): metrics before
temperature scaling, the search over 100 temperatures for ECE and for NLL on the validation set, and the metrics at
the temperature found, all in float32 with torch's threads. Needs torch and numpy; installs nothing. Makes the
logits itself. Prints a table in Markdown; with --write also into perf/results/evaluate.md.

The metrics of both are compared, too: a program that is fast and wrong is not fast.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from torch.nn import functional

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "plumb"))
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="runs of plumb; the fastest counts")
    parser.add_argument("--folder", help="where the files are or will be (kept); default: a temporary one")
    parser.add_argument("--write", action="store_true", help="also write perf/results/evaluate.md")
    return parser.parse_args()


def make_files(folder, samples, classes):
    """An overconfident network: normal noise, the label's logit raised by a normal number."""
    logits, labels = os.path.join(folder, "logits.npy"), os.path.join(folder, "labels.npy")
    if not os.path.exists(labels):
        random = numpy.random.default_rng(1)
        x = random.standard_normal((samples, classes), dtype=numpy.float32) * 2
        y = random.integers(0, classes, samples)
        x[numpy.arange(samples), y] += 6 + 4 * random.standard_normal(samples, dtype=numpy.float32)
        numpy.save(logits, x)
        numpy.save(labels, y)
    return logits, labels


# ---- the peer ----


def ece(confidences, correct, edges):
    """As ECELoss: over bins (lower, upper]."""
    total = torch.zeros(1)
    for lower, upper in zip(edges[:-1], edges[1:]):
        inside = confidences.gt(lower.item()) * confidences.le(upper.item())
        share = inside.float().mean()
        if share.item() > 0:
            total += torch.abs(confidences[inside].mean() - correct[inside].float().mean()) * share
    return total.item()


def adaptive_ece(confidences, correct, bins):
    n = len(confidences)
    edges = numpy.interp(numpy.linspace(0, n, bins + 1), numpy.arange(n), numpy.sort(confidences.numpy()))
    return ece(confidences, correct, torch.from_numpy(edges))


def classwise_ece(probabilities, labels, edges):
    return sum(ece(probabilities[:, k], labels.eq(k), edges) for k in range(int(labels.max()) + 1)) / (
        int(labels.max()) + 1
    )


def measures(logits, labels, bins=15):
    edges = torch.linspace(0, 1, bins + 1)
    probabilities = functional.softmax(logits, dim=1)
    confidences, predictions = torch.max(probabilities, 1)
    correct = predictions.eq(labels)
    return {
        "error": 1 - correct.float().mean().item(),
        "nll": functional.cross_entropy(logits, labels).item(),
        "ece": ece(confidences, correct, edges),
        "ada_ece": adaptive_ece(confidences, correct, bins),
        "classwise_ece": classwise_ece(probabilities, labels, edges),
    }


def search(logits, labels, bins=15):
    edges = torch.linspace(0, 1, bins + 1)
    best = {"ece": (float("inf"), 1.0), "nll": (float("inf"), 1.0)}
    temperature = 0.1
    for _ in range(100):
        scaled = logits / temperature
        confidences, predictions = torch.max(functional.softmax(scaled, dim=1), 1)
        value = {
            "ece": ece(confidences, predictions.eq(labels), edges),
            "nll": functional.cross_entropy(scaled, labels).item(),
        }
        for name in best:
            if value[name] < best[name][0]:
                best[name] = (value[name], temperature)
        temperature += 0.1
    return {name: temperature for name, (_, temperature) in best.items()}


def run_peer(logits_file, labels_file, threads):
    torch.set_num_threads(threads)
    start = time.perf_counter()
    logits, labels = torch.from_numpy(numpy.load(logits_file)), torch.from_numpy(numpy.load(labels_file))
    with torch.no_grad():
        result = {"before": measures(logits, labels)}
        grid_start = time.perf_counter()
        result["temperature"] = search(logits, labels)
        result["grid_seconds"] = time.perf_counter() - grid_start
        for name in ("ece", "nll"):
            result[f"after_{name}"] = measures(logits / result["temperature"][name], labels)
    result["seconds"] = time.perf_counter() - start
    return result


# ---- plumb ----

# Starts the command from a small process: the peak memory of a child counts that of the process it came from.
LAUNCHER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
seconds = time.perf_counter() - start
memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"code": done.returncode, "seconds": seconds, "memory": memory, "text": done.stdout}))
"""


def run_plumb(program, logits, labels, threads, rounds):
    command = [program, "evaluate", "--bootstrap", "0", "--logits", logits, "--labels", labels, "--json", "-"]
    command += ["--validation-logits", logits, "--validation-labels", labels]
    runs = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, *command],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        runs.append(json.loads(done.stdout))
        if runs[-1]["code"] != 0:
            sys.exit(f"{' '.join(command)} failed with code {runs[-1]['code']}")
    seconds, memory = min(run["seconds"] for run in runs), max(run["memory"] for run in runs)
    return json.loads(runs[0]["text"]), seconds, memory


def check(peer, ours):
    for name in ("ece", "nll"):
        if abs(peer["temperature"][name] - ours["temperature"][name]) > 1e-9:
            sys.exit(f"temperature by {name}: {peer['temperature'][name]}, plumb says {ours['temperature'][name]}")
    for stage in ("before", "after_ece", "after_nll"):
        for name, value in peer[stage].items():
            if abs(value - ours[stage][name]) > 2e-5 + 1e-4 * abs(value):
                sys.exit(f"{stage} {name}: {value}, plumb says {ours[stage][name]}")


def main():
    chosen = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        logits, labels = make_files(chosen.folder or temporary, chosen.samples, chosen.classes)
        ours, seconds, memory = run_plumb(chosen.program, logits, labels, chosen.threads, chosen.rounds)
        peer = run_peer(logits, labels, chosen.threads)
    check(peer, ours)
    text = f"""# Evaluation of {chosen.samples} x {chosen.classes} float32 logits

{datetime.date.today()}, {platform.processor() or platform.machine()}, {chosen.threads} threads; PyTorch {torch.__version__}.
`plumb evaluate --bootstrap 0` with the same file as validation set, reading and all losses included; the peer is the
published calculation, vectorised by torch. Metrics and temperatures of both agree.

| | seconds | peak memory |
|---|---|---|
| plumb | {seconds:.2f} | {memory / 1e9:.2f} GB |
| PyTorch | {peer['seconds']:.2f}, of which the grid of temperatures {peer['grid_seconds']:.2f} | |
| ratio | {peer['seconds'] / seconds:.1f} (wanted: 10) | |
"""
    print(text)
    if chosen.write:
        os.makedirs(os.path.join(HERE, "results"), exist_ok=True)
        with open(os.path.join(HERE, "results", "evaluate.md"), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
