#!/usr/bin/env python3
"""How long `plumb report` takes for many runs that all differ: linear in their number, 1,000 in less than 5 s.

Makes the folders of runs from the one given (a complete run), each with settings and a measure of its own, and prints a
line of JSON for each number of runs. Installs nothing.

    python3 perf/report_speed.py RUN [--program build/plumb] [--runs 1000 2000 4000]
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KEPT = ("config.yaml", "environment.json", "metrics.jsonl", "evaluation.json")


def make_runs(run, folder, count):
    texts = {}
    for name in KEPT:
        with open(os.path.join(run, name), encoding="utf-8") as file:
            texts[name] = file.read()
    for number in range(count):
        path = os.path.join(folder, f"run{number}")
        os.mkdir(path)
        for name, text in texts.items():
            if name == "config.yaml":
                text = re.sub(r"(?m)^(\S*learning_rate): .*$", rf"\1: {0.1 + number * 1e-5:.6f}", text, count=1)
            with open(os.path.join(path, name), "w", encoding="utf-8") as file:
                file.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a complete run")
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "plumb"))
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 2000, 4000])
    chosen = parser.parse_args()
    for count in chosen.runs:
        folder = tempfile.mkdtemp(prefix="plumb-report-")
        try:
            make_runs(chosen.run, folder, count)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([chosen.program, "report", folder], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            print(json.dumps({"runs": count, "cpu_seconds": round(seconds, 2),
                              "page_bytes": os.path.getsize(os.path.join(folder, "report.html"))}), flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
