#!/usr/bin/env python3
"""Training steps of plumb beside PyTorch's: the same networks, batch, threads and optimizer, run in turn.

Needs the program train_step (cmake -DPLUMB_PERF=ON) and a Python with torch; installs nothing. Prints a table in
Markdown; with --write also into perf/results/DATE-cpu.md. On a machine with other work, --prefix 'chrt -f 20'
(as root) keeps it away from the processors while a step is measured.

--against PROGRAM compares with the train_step of another build of plumb instead, an older one for example. Its own
figures are not used, since versions count steps differently: a step is what a long run takes longer than a short one.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)

# network, batch, compute, the ratio to reach
STEPS = [
    ("resnet50", 64, "float32", 1.25),
    ("resnet50", 64, "bfloat16", 1.25),
    ("densenet121", 64, "float32", 1.1),
    ("densenet121", 64, "bfloat16", 1.1),
    ("wide_resnet", 64, "float32", 1.1),
    ("wide_resnet", 64, "bfloat16", 1.1),
]
MEMORY = [("resnet50", 128, "float32"), ("resnet50", 128, "bfloat16")]
RANKS = [("resnet50", 64, "float32", 0.9), ("resnet50", 64, "bfloat16", 0.9)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "perf", "train_step"))
    parser.add_argument("--against", default="", help="train_step of another build, instead of PyTorch")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a run")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--prefix", default="", help="words to put before every command")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each program, in turn")
    parser.add_argument("--networks", default="", help="only these, with commas between them")
    parser.add_argument("--compute", default="", help="only float32, or only bfloat16")
    parser.add_argument("--quick", action="store_true", help="ResNet-50 only, one short round, no memory, no ranks")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-ranks", action="store_true")
    parser.add_argument("--write", action="store_true", help="also write perf/results/DATE-cpu.md")
    return parser.parse_args()


def run(chosen, command, threads):
    command = [*shlex.split(chosen.prefix), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMPI_ALLOW_RUN_AS_ROOT": "1"}
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def plumb(chosen, network, batch, compute, ranks=1):
    threads = chosen.threads // ranks
    launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
    return run(
        chosen,
        launcher
        + [chosen.program, "--profile", "--steps", str(chosen.steps), "--warmup", str(chosen.warmup)]
        + [f"model.name={network}", f"batch={batch}"]
        + ["device=cpu", f"compute={compute}", f"threads={threads}"],
        threads,
    )


def torch(chosen, network, batch, compute, memory_format):
    return run(
        chosen,
        [chosen.python, os.path.join(HERE, "train_step_peer.py"), "--network", network, "--batch", str(batch)]
        + ["--dtype", compute, "--memory-format", memory_format]
        + ["--threads", str(chosen.threads), "--steps", str(chosen.steps), "--warmup", str(chosen.warmup)],
        chosen.threads,
    )


def in_turn(chosen, programs):
    """Runs {name: function} in turn, `rounds` times; {name: [results]}."""
    results = {name: [] for name in programs}
    for _ in range(chosen.rounds):
        for name, function in programs.items():
            results[name].append(function())
            print(f"  {name}: {results[name][-1]['images_per_second']:.1f} images/s", file=sys.stderr)
    return results


def median(results, key="images_per_second"):
    return statistics.median(result[key] for result in results)


def table(header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]

    def line(cells):
        return "| " + " | ".join(str(cell).ljust(width) for cell, width in zip(cells, widths)) + " |"

    return "\n".join([line(header), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def convolution_share(result):
    """Part of a step that convolutions take: the bound on its speed, were everything else free."""
    rows = result["profile"]
    convolutions = sum(row["milliseconds"] for row in rows if row["op"].startswith("conv2d"))
    return 1e-3 * convolutions * result["images_per_second"] / result["batch"]


def profile(results, network, batch, compute):
    """The kinds of nodes that take at least a thousandth of the step, in milliseconds (median over runs)."""
    times = {}
    for result in results:
        for row in result["profile"]:
            times.setdefault((row["op"], row["phase"], row["nodes"]), []).append(row["milliseconds"])
    median_times = {key: statistics.median(values) for key, values in times.items()}
    step = 1e3 * batch / median(results)
    median_times[("optimizer", "step", "")] = median(results, "optimizer_milliseconds")
    ordered = sorted(median_times.items(), key=lambda item: -item[1])
    return [
        [network, compute, op, phase, nodes, f"{time:.1f}", f"{100 * time / step:.1f}"]
        for (op, phase, nodes), time in ordered
        if time >= 1e-3 * step
    ]


def compare_steps(chosen, cases):
    rows, profiles, versions = [], [], set()
    for network, batch, compute, wanted in cases:
        print(f"{network}, batch {batch}, {compute}", file=sys.stderr)
        results = in_turn(
            chosen,
            {
                "plumb": lambda: plumb(chosen, network, batch, compute),
                "torch nchw": lambda: torch(chosen, network, batch, compute, "nchw"),
                "torch channels_last": lambda: torch(chosen, network, batch, compute, "channels_last"),
            },
        )
        ours, peers = median(results["plumb"]), [median(results[name]) for name in list(results)[1:]]
        versions.update(result["program"] for result in results["torch nchw"])
        plan = results["plumb"][-1]["plan"]
        rows.append(
            [network, batch, compute, f"{ours:.1f}", *(f"{peer:.1f}" for peer in peers)]
            + [f"{ours / max(peers):.2f}", f"{wanted:.2f}", f"{1e-9 * plan['flops'] / batch * ours:.0f}"]
            + [f"{statistics.median(convolution_share(result) for result in results['plumb']):.2f}"]
        )
        profiles += profile(results["plumb"], network, batch, compute)
    header = ["network", "batch", "compute", "plumb", "torch NCHW", "torch channels-last", "ratio", "wanted"]
    text = "Images a second (median), the ratio to the better of PyTorch's two, and the GFLOP/s reached. Share: of the\n"
    text += "speed that the step would have if all but its convolutions were free.\n\n"
    text += table([*header, "GFLOP/s", "share"], rows)
    text += "\n\nWhere plumb's step goes, milliseconds and percent of the step:\n\n"
    text += table(["network", "compute", "op", "phase", "nodes", "ms", "%"], profiles)
    return text, versions


def step_seconds(chosen, program, network, batch, compute):
    """Seconds a step: whole runs of many and of few steps, and the difference between them."""
    command = [program, f"model.name={network}", f"batch={batch}", "device=cpu", f"compute={compute}"]
    command += [f"threads={chosen.threads}", "--warmup", "0", "--steps"]

    def wall(steps):
        start = time.monotonic()
        run(chosen, [*command, str(steps)], chosen.threads)
        return time.monotonic() - start

    return (wall(chosen.steps + chosen.warmup) - wall(chosen.warmup)) / chosen.steps


def compare_builds(chosen, cases):
    rows = []
    for network, batch, compute in cases:
        print(f"{network}, batch {batch}, {compute}", file=sys.stderr)
        speeds = {"other": [], "plumb": []}
        for _ in range(chosen.rounds):
            for name, program in (("other", chosen.against), ("plumb", chosen.program)):
                speeds[name].append(batch / step_seconds(chosen, program, network, batch, compute))
                print(f"  {name}: {speeds[name][-1]:.2f} images/s", file=sys.stderr)
        other, ours = statistics.median(speeds["other"]), statistics.median(speeds["plumb"])
        rows.append(
            [network, batch, compute, f"{ours:.2f}", f"{other:.2f}", f"{ours / other:.3f}"]
            + [f"{statistics.median(mine / its for mine, its in zip(speeds['plumb'], speeds['other'])):.3f}"]
        )
    header = ["network", "batch", "compute", "plumb", "other build", "ratio", "median of the pairs' ratios"]
    return "Images a second (median), and the ratio to the other build:\n\n" + table(header, rows)


def compare_memory(chosen, cases):
    rows = []
    for network, batch, compute in cases:
        print(f"memory of {network}, batch {batch}, {compute}", file=sys.stderr)
        few = argparse.Namespace(**{**vars(chosen), "steps": 2, "warmup": 0})
        ours = plumb(few, network, batch, compute)
        peers = [torch(few, network, batch, compute, layout) for layout in ("nchw", "channels_last")]
        peer = min(peers, key=lambda result: result["peak_bytes"])
        plan = ours["plan"]
        rows.append(
            [network, batch, compute]
            + [f"{result[key] / 2**20:.0f}" for result in (ours, peer) for key in ("peak_bytes", "base_bytes")]
            + [f"{ours['peak_bytes'] / peer['peak_bytes']:.2f}"]
            + [f"{plan['arena_bytes'] / 2**20:.0f}", f"{plan['tensor_bytes'] / 2**20:.0f}"]
        )
    header = ["network", "batch", "compute", "plumb", "at start", "torch", "at start", "ratio", "arena", "all tensors"]
    return "Peak resident memory, MiB (at start: the program with its libraries, before it builds anything):\n\n" + table(
        header, rows
    )


def compare_ranks(chosen, cases):
    rows = []
    for network, batch, compute, wanted in cases:
        print(f"two ranks, {network}, batch {batch}, {compute}", file=sys.stderr)
        results = in_turn(
            chosen,
            {
                "one rank": lambda: plumb(chosen, network, batch, compute),
                "two ranks": lambda: plumb(chosen, network, batch, compute, ranks=2),
            },
        )
        one, two = median(results["one rank"]), median(results["two ranks"])
        rows.append([network, batch, compute, f"{one:.1f}", f"{two:.1f}", f"{two / one:.2f}", f"{wanted:.2f}"])
    header = ["network", "batch", "compute", "1 rank x 2 threads", "2 ranks x 1 thread", "ratio", "wanted"]
    return "Images a second on the same two processors:\n\n" + table(header, rows)


def processor():
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return f"{names[0]}, {len(names)} processors"
    except (OSError, IndexError):
        return platform.processor() or "unknown processor"


def main():
    chosen = arguments()
    if not os.access(chosen.program, os.X_OK):
        sys.exit(f"{chosen.program} is absent: cmake -S . -B build -DPLUMB_PERF=ON && cmake --build build")
    networks = [name for name in chosen.networks.split(",") if name]
    if chosen.against:
        cases = [(*case[:3],) for case in STEPS if not networks or case[0] in networks]
        cases = [case for case in cases if chosen.compute in ("", case[2])]
        print(compare_builds(chosen, cases))
        return
    known = subprocess.run([chosen.python, "-c", "import torch"], capture_output=True).returncode == 0
    if not known:
        sys.exit(f"{chosen.python} has no torch: name a Python that has it with --python")
    steps, memory, ranks = STEPS, MEMORY, RANKS
    if chosen.quick:
        steps, memory, ranks = STEPS[:2], [], []
        chosen.rounds, chosen.steps = 1, 3
    steps = [case for case in steps if not networks or case[0] in networks]
    memory = [] if chosen.no_memory else [case for case in memory if not networks or case[0] in networks]
    ranks = [] if chosen.no_ranks else [case for case in ranks if not networks or case[0] in networks]
    if chosen.compute:
        steps, memory, ranks = ([case for case in cases if case[2] == chosen.compute] for cases in (steps, memory, ranks))

    parts, versions = [], set()
    if steps:
        text, versions = compare_steps(chosen, steps)
        parts.append(text)
    if memory:
        parts.append(compare_memory(chosen, memory))
    if ranks:
        parts.append(compare_ranks(chosen, ranks))
    where = f"{processor()}; {', '.join(sorted(versions)) or 'torch'}; {chosen.threads} threads; {datetime.date.today()}"
    what = "One training step: forward, summed cross-entropy, backward, clipping at 2, SGD with momentum and weight decay."
    text = "\n\n".join(["# Training steps beside PyTorch", what, where + ".", *parts]) + "\n"
    print(text)
    if chosen.write:
        os.makedirs(os.path.join(HERE, "results"), exist_ok=True)
        with open(os.path.join(HERE, "results", f"{datetime.date.today()}-cpu.md"), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
