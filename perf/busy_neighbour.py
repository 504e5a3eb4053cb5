#!/usr/bin/env python3
"""Training on the CPU beside a busy program: how threads wait for one another (engine/device/spin.h).

Measures images a second of a small network with as many threads as processors, idle and beside processes that spin, as plumb chooses, with libgomp's
own spinning (GOMP_SPINCOUNT=300000, its default) and with none (OMP_WAIT_POLICY=passive), and with one thread. Rounds take turns, figures are medians.
The machine must have nothing else to do. Needs the program train_step (-DPLUMB_PERF=ON).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

WAYS = {
    "as chosen": {},
    "libgomp's own": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {},
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/perf/train_step")
    parser.add_argument("--network", default="resnet8")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--neighbours", type=int, default=1, help="processes that spin")
    parser.add_argument("--ways", default=",".join(WAYS), help="only these, with commas between them")
    return parser.parse_args()


def measure(chosen, way):
    threads = 1 if way == "one thread" else os.cpu_count()
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    command = [chosen.program, "--size", "32", "--steps", str(chosen.steps), "--warmup", "10", f"model.name={chosen.network}",
               f"batch={chosen.batch}", "device=cpu", f"threads={threads}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**environment, **WAYS[way]})
    return json.loads(done.stdout)["mean_images_per_second"]


def main():
    chosen = arguments()
    ways = chosen.ways.split(",")
    found = {}
    for _ in range(chosen.rounds):
        for busy in (False, True):
            spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(chosen.neighbours if busy else 0)]
            try:
                for way in ways:
                    found.setdefault((busy, way), []).append(measure(chosen, way))
            finally:
                for spinner in spinners:
                    spinner.kill()
                    spinner.wait()
    print(f"{chosen.network}, batch {chosen.batch}, images a second, median (lowest to highest) of {chosen.rounds} rounds:\n")
    print(f"| threads wait | idle | beside {chosen.neighbours} that spin{'s' if chosen.neighbours == 1 else ''} |")
    print("|---|---|---|")
    for way in ways:
        cells = [f"{statistics.median(found[busy, way]):.0f} ({min(found[busy, way]):.0f} to {max(found[busy, way]):.0f})" for busy in (False, True)]
        print(f"| {way} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
