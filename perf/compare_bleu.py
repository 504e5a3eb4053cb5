#!/usr/bin/env python3
"""plumb bleu beside sacreBLEU on the same files, run in turn. Prints Markdown; fails where the two print different numbers.

    python3 perf/compare_bleu.py --peer VENV/bin/sacrebleu --folder DATA/system-outputs
    python3 perf/compare_bleu.py --peer VENV/bin/sacrebleu --reference REF --systems A B ...

The folder holds outputs of newstest2017 (newstest2017.NAME.de.gz, .ref. among them), of which the first 3,003 lines are taken.
What is compared is processor time, which work beside does not lengthen: of the command and all it starts, user and system.
"""

import argparse
import glob
import gzip
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINES = 3003
# What is asked of both, and the ratio to reach (0: none is set).
ROWS = [
    ("1,000 paired resamples, BLEU", "-pbs -f text -w 4", 50),
    ("scores alone, BLEU", "-f text -w 4", 0),
    ("10,000 trials of randomisation, BLEU", "-par -f text -w 4", 0),
    ("scores alone, chrF2", "-m chrf -f text -w 4", 0),
    ("scores alone, TER", "-m ter -f text -w 4", 0),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "plumb"))
    parser.add_argument("--peer", default="sacrebleu", help="the command sacrebleu, version 2.6.0")
    parser.add_argument("--folder", help="outputs of newstest2017")
    parser.add_argument("--reference")
    parser.add_argument("--systems", nargs="+", default=[])
    parser.add_argument("--pairs", type=int, default=3, help="runs of each program, in turn")
    parser.add_argument("--rows", type=int, default=len(ROWS), help="so many of the table's rows")
    return parser.parse_args()


def take_lines(path, target):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as source, open(target, "wb") as out:
        out.writelines(line for _, line in zip(range(LINES), source))
    return target


def texts(chosen, folder):
    """Reference and systems, cut to LINES lines."""
    reference, systems = chosen.reference, chosen.systems
    if chosen.folder:
        found = sorted(glob.glob(os.path.join(chosen.folder, "newstest2017.*.de.gz")))
        reference = next(path for path in found if ".ref." in path)
        systems = [path for path in found if path != reference]
    if not reference or not systems:
        sys.exit("compare_bleu.py: give --folder, or --reference and --systems")
    names = [os.path.basename(path).replace(".de.gz", "").replace("newstest2017.", "") for path in systems]
    return take_lines(reference, f"{folder}/ref"), [take_lines(path, f"{folder}/{name}") for path, name in zip(systems, names)]


def run(command):
    """(processor seconds, what it printed)"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main():
    chosen = arguments()
    with tempfile.TemporaryDirectory() as folder:
        reference, systems = texts(chosen, folder)
        print(f"{LINES} lines at most, {len(systems)} systems, one thread, processor seconds\n")
        print("| what | plumb | sacreBLEU | ratio | to reach |\n|---|---|---|---|---|")
        for what, options, reach in ROWS[: chosen.rows]:
            words = [reference, "-i"] + systems + options.split()
            mine, theirs = [], []
            for _ in range(chosen.pairs):
                seconds, ours = run([chosen.program, "bleu"] + words)
                mine.append(seconds)
                seconds, peer = run([chosen.peer] + words)
                theirs.append(seconds)
                if re.sub(rb"\+plumb\.[0-9.]+", b"", ours) != peer:
                    sys.exit(f"compare_bleu.py: {what}: the two print different tables")
            ratio = statistics.median(their / my for my, their in zip(mine, theirs))
            print(f"| {what} | {statistics.median(mine):.3f} | {statistics.median(theirs):.2f} | {ratio:.0f} | {reach or ''} |", flush=True)


if __name__ == "__main__":
    main()
