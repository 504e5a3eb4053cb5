#!/usr/bin/env python3
"""Training steps of plumb on a GPU beside PyTorch's best of three: eager, channels-last with bfloat16 autocast, and that with torch.compile
(max-autotune, CUDA graphs). Prints each figure when it is known, and at the end a table in Markdown of all; tests/run_gpu.sh calls it.

Needs the program train_step (launch/bundle.sh --with-tests) and a Python with torch. A measurement takes minutes where torch compiles:
each is kept as a line of --state, and what is there is not measured again, so a call that runs out of --seconds (exit code 75) is gone
on with by the next one. --measure says what this call measures, in this order, each of all networks before the next; the table shows
what earlier calls measured, too. Only what was measured on this kind of GPU stands in the table, by this program or by this version of torch: the
rest of the file is passed over. What had not compiled when the time was up is begun again after all others, and not with less time than it
had. Exit code 1: something cannot be measured.
"""

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# name, network, batch, size, classes, images/s on an H200: at least, reach for, times PyTorch's best
ROWS = [
    ("ResNet-50, 32x32", "resnet50", 128, 32, 10, 22500, 29500, 1.25),
    ("ResNet-110, 32x32", "resnet110", 128, 32, 10, 13400, 17500, 1.25),
    ("Wide-ResNet-26-10, 32x32", "wide_resnet", 128, 32, 10, 12500, 16400, 1.15),
    ("DenseNet-121, 32x32", "densenet121", 128, 32, 10, 16500, 23000, 1.25),
    ("ResNet-50, Tiny-ImageNet 64x64", "tiny_imagenet_resnet50", 64, 64, 200, 5700, 7400, 1.25),
]
# plain: a few steps, that a program which cannot run or record is known within seconds
OURS = {"plain": ["--steps", "5", "--warmup", "2", "graph=false"], "recorded": [], "profile": ["--profile"]}
# In the order in which they are measured: the fastest are what counts.
PEERS = {
    "channels-last": ["--dtype", "bfloat16", "--memory-format", "channels_last"],
    "compiled": ["--dtype", "bfloat16", "--memory-format", "channels_last", "--compile"],
    "eager": ["--dtype", "float32"],
}
MOST = 120  # seconds that anything may take but what torch compiles
PEER = [os.path.join(HERE, name) for name in ("train_step_peer.py", "peer_networks.py")]
# What this GPU's matrix units and memory can do, as torch reaches it: a large product of random numbers, a large copy.
PEAKS = """
import json, torch
def seconds(function):
    for _ in range(3): function()
    best = float("inf")
    for _ in range(10):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record(); function(); end.record(); end.synchronize()
        best = min(best, 1e-3 * start.elapsed_time(end))
    return best
n = 8192
a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
x = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
y = torch.empty_like(x)
print(json.dumps({"program": "torch " + torch.__version__, "device": torch.cuda.get_device_name(),
                  "flops": 2 * n**3 / seconds(lambda: a @ b), "bytes": 2 * x.numel() / seconds(lambda: y.copy_(x))}))
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="train_step")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try this script out")
    parser.add_argument("--state", required=True, help="file of measurements, one JSON object a line")
    parser.add_argument("--seconds", type=float, default=540, help="begin nothing, and end what runs, after so many")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--networks", default="", help="only these (names as model.name), with commas between them")
    parser.add_argument("--measure", type=lambda text: text.split(","), default=[*OURS, "peaks", *PEERS], metavar="WHAT,...",
                        help="of plumb: plain, recorded, profile; of PyTorch: peaks, channels-last, compiled, eager; default: all")
    chosen = parser.parse_args()
    unknown = set(chosen.measure) - {*OURS, "peaks", *PEERS}
    if unknown:
        parser.error(f"--measure does not know {', '.join(sorted(unknown))}")
    return chosen


def gpu(chosen):
    if chosen.device == "cpu":
        return "cpu"
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip() or "unknown GPU"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown GPU"


def digest(*parts):
    """A few digits that tell one version from another."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def contents(path):
    """Of a program. In a bundle bin/ has a script, libexec/ the program."""
    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.join(os.path.dirname(folder), "libexec", name)
    try:
        with open(real if os.path.exists(real) else path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def torch_version(python):
    """Without loading it, which takes seconds."""
    ask = "import importlib.metadata; print(importlib.metadata.version('torch'))"
    try:
        return subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=60).stdout.strip() or "absent"
    except (OSError, subprocess.TimeoutExpired):
        return "absent"


class State:
    """Measurements by name and by what they are of, kept in a file."""

    def __init__(self, chosen):
        self.path, self.deadline = chosen.state, time.monotonic() + chosen.seconds
        self.known, self.tried, self.missing, self.failed = {}, {}, [], False
        self.gpu = gpu(chosen)
        torch = f"{self.gpu}, torch {torch_version(chosen.python)}"
        self.of = {
            "plumb": f"{self.gpu}, plumb {digest(contents(chosen.program))}",
            "peer": f"{torch}, {digest(*map(contents, PEER))}",
            "peaks": f"{torch}, {digest(PEAKS.encode())}",
        }
        for entry in self.read():
            key = entry["name"], entry["of"]
            if "result" in entry:
                self.known[key] = entry["result"]
            else:
                self.tried[key] = max(entry["tried"], self.tried.get(key, 0))

    def read(self):
        if not os.path.exists(self.path):
            return
        with open(self.path, encoding="utf-8") as file:
            for text in file:
                try:
                    entry = json.loads(text)
                except ValueError:
                    continue  # whoever wrote it was killed
                if "name" in entry and "of" in entry and ("result" in entry or "tried" in entry):
                    yield entry

    def write(self, name, of, **entry):
        with open(self.path, "a+", encoding="utf-8") as file:
            if file.tell() > 0 and contents(self.path)[-1:] != b"\n":
                file.write("\n")
            file.write(json.dumps({"name": name, "of": of, **entry}) + "\n")

    def measure(self, name, kind, command):
        """The last line that the command prints, or None: it failed or its time is up."""
        key = name, self.of[kind]
        if key in self.known:
            return self.known[key]
        started = time.monotonic()
        left, tried = self.deadline - started, self.tried.get(key, 0)
        compiles = "--compile" in command
        seconds = left if compiles else min(left, MOST)
        if left < 5:
            self.missing.append(f"{name}: no time was left; the same command goes on")
            return None
        if left <= tried:
            self.missing.append(f"{name}: not done in {tried:.0f} s before, and {left:.0f} s were left: alone it may get more")
            return None
        print(f"{name} ...", flush=True)
        if compiles:
            self.write(*key, tried=1)  # should we be killed, it is not the next call's first
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            if compiles:
                self.write(*key, tried=left)
            self.missing.append(f"{name}: not done when {seconds:.0f} s were up")
            print(self.missing[-1], flush=True)
            return None
        except OSError as error:
            self.missing.append(f"{name}: {error}")
            self.failed = True
            return None
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-10:] or ["no message"]
            self.missing.append("\n      ".join([f"{name}: ended with code {done.returncode}:", *last]))
            print(self.missing[-1], flush=True)
            self.failed = True
            return None
        try:
            result = self.known[key] = json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError):
            self.missing.append(f"{name}: what it printed last is no JSON: {done.stdout[-200:]!r}")
            print(self.missing[-1], flush=True)
            self.failed = True
            return None
        self.write(*key, result=result)
        print(f"{name}: {told(result)}, after {time.monotonic() - started:.0f} s", flush=True)
        return result

    def look_up(self, name, kind):
        return self.known.get((name, self.of[kind]))


def told(result):
    if "images_per_second" not in result:
        return f"{1e-12 * result['flops']:.0f} TFLOP/s, {1e-12 * result['bytes']:.2f} TB/s"
    loss = f", loss {result['loss']:.4f}" if "loss" in result else ""
    return f"{result['images_per_second']:.0f} images/s{loss}"


def of(kind):
    return "plumb" if kind in OURS else "peaks" if kind == "peaks" else "peer"


def name_of(row, kind):
    return kind if kind == "peaks" else f"{row[1]} {'plumb' if kind in OURS else 'torch'} {kind}"


def command_of(row, kind, chosen):
    _, network, batch, size, classes, *_ = row
    if kind == "peaks":
        return [chosen.python, "-c", PEAKS]
    work = ["--size", str(size), "--classes", str(classes), "--steps", str(chosen.steps), "--warmup", str(chosen.warmup)]
    if kind in OURS: # of an option that is given twice the last counts
        return [chosen.program, *work, *OURS[kind], f"model.name={network}", f"batch={batch}", f"device={chosen.device}", "compute=bfloat16"]
    return [chosen.python, PEER[0], "--device", chosen.device, "--network", network, "--batch", str(batch), *work, *PEERS[kind]]


def measure_all(state, chosen, rows):
    """In the order of --measure; but what had not compiled within its time before comes last."""
    wanted = [(row, kind) for kind in chosen.measure for row in (rows if kind != "peaks" else rows[:1])]
    if chosen.device != "cuda":
        wanted = [pair for pair in wanted if pair[1] != "peaks"]
    for row, kind in sorted(wanted, key=lambda pair: state.tried.get((name_of(*pair), state.of[of(pair[1])]), 0)):
        state.measure(name_of(row, kind), of(kind), command_of(row, kind, chosen))


def line(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def rate(result):
    return f"{result['images_per_second']:.0f}" if result else "-"


def table_row(row, mine, peers, peaks):
    name, _, batch, _, _, wanted, reach, ratio = row
    best = max((result["images_per_second"] for result in peers.values() if result), default=None)
    complete = all(peers.values())
    cells = [name, batch, rate(mine), wanted, reach, *(rate(result) for result in peers.values())]
    cells.append(f"{mine['images_per_second'] / best:.2f}{'' if complete else ' (of those here)'}" if mine and best else "-")
    cells.append(f"{ratio:.2f}")
    if mine and peaks:
        steps = mine["images_per_second"] / batch
        cells += [f"{100 * mine['plan'][kind] * steps / peaks[kind]:.0f} %" for kind in ("flops", "bytes")]
    else:
        cells += ["-", "-"]
    return line(cells)


def profile_rows(name, batch, profile, count=12):
    rows = sorted(profile["profile"], key=lambda row: -row["milliseconds"])[:count]
    for row in rows:
        flops, moved = row["gflops_per_second"] or 0, row["gbytes_per_second"] or 0
        yield line([name, row["op"], row["phase"], row["nodes"], f"{row['milliseconds']:.3f}", f"{1e-3 * flops:.1f}", f"{1e-3 * moved:.2f}"])
    yield line([name, "optimizer", "step", "", f"{profile['optimizer_milliseconds']:.3f}", "", ""])


def main():
    chosen = arguments()
    state = State(chosen)
    wanted = [name for name in chosen.networks.split(",") if name]
    rows = [row for row in ROWS if not wanted or row[1] in wanted]
    if not rows:
        sys.exit(f"no network is one of {chosen.networks}; there are {', '.join(row[1] for row in ROWS)}")
    measure_all(state, chosen, rows)
    mine = {row[1]: state.look_up(name_of(row, "recorded"), "plumb") for row in rows}
    profiles = {row[1]: state.look_up(name_of(row, "profile"), "plumb") for row in rows}
    peers = {row[1]: {kind: state.look_up(name_of(row, kind), "peer") for kind in PEERS} for row in rows}
    peaks = state.look_up("peaks", "peaks")

    device = next((result["device"] for result in mine.values() if result), state.gpu)
    print(f"\n# Training steps on a GPU beside PyTorch, {datetime.date.today()}\n")
    print(f"{device}; {peaks['program'] if peaks else 'peaks of matrix units and memory not measured'}.")
    if peaks:
        print(f"Measured by torch: {1e-12 * peaks['flops']:.0f} TFLOP/s (bfloat16 product of 8192 x 8192), {1e-12 * peaks['bytes']:.2f} TB/s (copy).")
    print("One step: forward, summed cross-entropy, backward, clipping at 2, SGD with momentum and weight decay. Images a second, median")
    print("of steps; plumb's steps are waited for one by one, as in training, PyTorch's ten at a time. Shares: the flops of the network's")
    print(f"products, and the bytes that its nodes read and write, against the measured peaks. What is wanted is wanted of an H200; this is: {device}.\n")
    header = ["network", "batch", "plumb", "wanted", "reach for", *(f"torch {kind}" for kind in PEERS)]
    header += ["ratio to the best", "wanted", "of matrix peak", "of memory peak"]
    print(line(header))
    print(line(["---"] * len(header)))
    for row in rows:
        print(table_row(row, mine[row[1]], peers[row[1]], peaks))
    if any(profiles.values()):
        print("\nWhere plumb's step goes, nodes launched and waited for one by one (so small ones seem slower than they are):\n")
        print(line(["network", "op", "phase", "nodes", "ms", "TFLOP/s", "TB/s"]))
        print(line(["---"] * 7))
        for row in rows:
            if profiles[row[1]]:
                print("\n".join(profile_rows(row[0], row[2], profiles[row[1]])))
    if state.missing:
        print("\nNot measured:\n")
        print("\n".join(f"- {text}" for text in state.missing))
    sys.exit(1 if state.failed else 75 if state.missing else 0)


if __name__ == "__main__":
    main()
