"""tests/run_gpu.sh with programs that only say what they would do: the parts' order and limits, and what a call that is killed leaves."""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SLOWNESS = float(os.environ.get("PLUMB_TEST_SLOWNESS", "1"))

# Every program of the bundle is this one. BEHAVIOUR names a file of lines "WORD ACTION": what a call whose words have WORD does.
PROGRAM = """#!/bin/sh
all="$(basename "$0") $*"
echo "$all" >>"$CALLS"
while read -r word action; do
  case $all in *$word*) eval "$action" ;; esac
done <"$BEHAVIOUR"
case $all in
  plumb*--version) echo plumb 0 ;;
  plumb*doctor) echo Nothing is wrong. ;;
  plumb*train*) exit 3 ;;
  train_step*) echo '{"device": "a GPU", "images_per_second": 1000, "loss": 2, "plan": {"flops": 1e12, "bytes": 1e9},
"optimizer_milliseconds": 1, "profile": []}' | tr '\\n' ' ' ;;
  test_*) echo '[       OK ] all' ;;
  compute-sanitizer*) echo '========= COMPUTE-SANITIZER' ;;
esac
"""
# Python, but for what needs a GPU.
PYTHON = """#!/bin/sh
case "$*" in
  *gpu_train.py*) exec "$BUNDLE/bin/gpu_train" "$@" ;;
  *compare_gpu.py*) exec PYTHON3 "$@" ;;
  *train_step_peer.py*) echo "torch $*" >>"$CALLS"; echo '{"images_per_second": 800, "loss": 2}' ;;
  *matmul*|*"a @ b"*) echo '{"program": "torch 0", "device": "a GPU", "flops": 7e14, "bytes": 4e12}' ;;
  *"import ctypes"*) exit 1 ;;
  *) exec PYTHON3 "$@" ;;
esac
"""
PARTS = ["doctor", "resnet50", "suite", "train", "networks", "texts", "ranks", "peers"]
OTHERS = ["resnet110", "wide_resnet", "densenet121", "tiny_imagenet_resnet50"]


class RunGpu(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="plumb-test-")
        self.addCleanup(self.scratch.cleanup)
        self.here = self.scratch.name
        self.out = f"{self.here}/out"
        self.temporary = f"{self.here}/temporary"  # what a call that is killed cannot take away goes with our folder
        os.mkdir(self.temporary)
        programs = ["bin/plumb", "bin/train_step", "bin/gpu_train", "bin/compute-sanitizer", "libexec/plumb"]
        suites = re.search(r"suites=\$\{PLUMB_SUITES:-(.*)\}", self.script()).group(1).split()
        for suite in suites:
            programs += [f"tests/{suite}", f"libexec/{suite}"]
        for program in programs:
            self.write(f"bundle/{program}", PROGRAM)
        os.makedirs(f"{self.here}/bundle/tests/golden")
        self.write("python", PYTHON.replace("PYTHON3", sys.executable))
        self.behave()

    def script(self):
        with open(f"{HERE}/run_gpu.sh", encoding="utf-8") as file:
            return file.read()

    def write(self, name, text):
        path = f"{self.here}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def behave(self, *lines):
        self.write("behaviour", "".join(line + "\n" for line in lines))

    def start(self, *arguments, **settings):
        environment = dict(os.environ, BUNDLE=f"{self.here}/bundle", CALLS=f"{self.here}/calls", BEHAVIOUR=f"{self.here}/behaviour",
                           TMPDIR=self.temporary, PLUMB_BUNDLE=f"{self.here}/bundle", PLUMB_PYTHON=f"{self.here}/python", OUT=self.out,
                           PATH=f"{self.here}/bundle/bin:{os.environ['PATH']}", **settings)
        environment.pop("PLUMB_SUITES", None)
        self.log = open(f"{self.here}/log", "w+", encoding="utf-8")
        self.addCleanup(self.log.close)
        # A shell that starts with a signal ignored, as under nohup, cannot trap it.
        return subprocess.Popen(["bash", f"{HERE}/run_gpu.sh", *arguments], stdout=self.log, stderr=self.log, env=environment,
                                start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))

    def finish(self, process, code, seconds=120):
        try:
            self.assertEqual(process.wait(seconds * SLOWNESS), code, self.said())
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def report(self):
        paths = glob.glob(f"{self.out}/*-gpu-*.md")
        self.assertEqual(len(paths), 1, self.said())
        with open(paths[0], encoding="utf-8") as file:
            return file.read()

    def calls(self):
        with open(f"{self.here}/calls", encoding="utf-8") as file:
            return file.read().splitlines()

    def figures(self):
        with open(f"{self.out}/gpu-speed.jsonl", encoding="utf-8") as file:
            return [json.loads(line)["name"] for line in file if "result" in line]

    def wait_for(self, process, text):
        deadline = time.monotonic() + 60 * SLOWNESS
        while not (glob.glob(f"{self.out}/*.md") and text in self.report()):
            self.assertIsNone(process.poll(), self.said())
            self.assertLess(time.monotonic(), deadline, self.said())
            time.sleep(0.05)

    def test_first_list(self):
        """The order and the limits are those of perf/results/README.md, and nothing runs beside anything else."""
        self.finish(self.start(), 0)
        report = self.report()
        headings = re.findall(r"^## (\w+), at most (\d+) s", report, re.M)
        self.assertEqual([name for name, _ in headings], PARTS)
        self.assertEqual([int(limit) for _, limit in headings][:7], [20, 60, 70, 90, 90, 40, 120])
        calls = self.calls()
        steps = [re.search(r"model.name=(\w+)", call).group(1) for call in calls if call.startswith("train_step")]
        self.assertEqual(steps, ["resnet50"] * 3 + OTHERS * 2)
        first = [call for call in calls if call.startswith("train_step")]
        self.assertIn("--steps 5", first[0])
        self.assertIn("graph=false", first[0])
        self.assertIn("--steps 100", first[1])
        self.assertNotIn("graph=false", first[1])
        self.assertIn("--profile", first[2])
        self.assertEqual([call.split()[-1] for call in calls if call.startswith("gpu_train")], ["Curves", "Texts", "Ranks"])
        torch = [call for call in calls if call.startswith("torch")]
        self.assertEqual([re.search(r"--network (\w+)", call).group(1) for call in torch], ["resnet50", *OTHERS])
        self.assertTrue(all("channels_last" in call and "--compile" not in call for call in torch))
        suites = [call.split()[0] for call in calls if call.startswith("test_")]
        self.assertEqual(suites[-1], "test_ops_conv")  # convolutions last
        self.assertEqual(len(suites), len(set(suites)))
        self.assertIn("| ResNet-50, 32x32 | 128 | 1000 | 22500 |", report)
        self.assertIn("1.25", report)
        self.assertLessEqual(len(glob.glob(f"{self.out}/**", recursive=True)), 8)

    def test_suites_are_those_of_the_bundle(self):
        suites = set(re.search(r"suites=\$\{PLUMB_SUITES:-(.*)\}", self.script()).group(1).split())
        with open(f"{HERE}/../launch/bundle.sh", encoding="utf-8") as file:
            bundled = re.search(r"suites=\((test_[^)]*)\)", file.read()).group(1).split()
        with open(f"{HERE}/CMakeLists.txt", encoding="utf-8") as file:
            built = re.search(r"set\(device_suites ([^)]*)\)", file.read()).group(1).split()
        self.assertEqual(suites, set(bundled))
        self.assertEqual(suites, set(built))
        at_risk = re.search(r'at_risk="(.*)"', self.script()).group(1).split()
        self.assertLessEqual(set(at_risk), suites)

    def test_part_that_hangs_is_ended(self):
        """It takes its own time and no other's; what it had said before stays, and the later parts run."""
        self.behave("gpu_train echo it began; sleep 1000")
        self.finish(self.start("doctor:20", "ranks:6", "resnet50"), 1)
        report = self.report()
        self.assertIn("it began", report)
        self.assertIn("Stopped: its time was up.", report)
        self.assertLess(report.index("Stopped"), report.index("resnet50 plumb recorded: 1000 images/s, loss 2.0000"))

    def test_part_without_time_is_not_begun(self):
        self.behave("gpu_train sleep 6")
        self.finish(self.start("ranks", "doctor", PLUMB_SECONDS="9"), 75)
        self.assertIn("No time was left: tests/run_gpu.sh doctor runs it alone.", self.report())

    def test_what_fails_is_told_and_the_rest_goes_on(self):
        self.behave("test_losses echo what went wrong; exit 1", "graph=false exit 7")
        self.finish(self.start("resnet50:60", "suite:60"), 1)
        report = self.report()
        self.assertIn("resnet50 plumb plain: ended with code 7", report)
        self.assertIn("| test_losses |   | exit code 1;", report)
        self.assertIn("what went wrong", report)
        self.assertIn("| test_ops_conv |   | 1 passed, 0 failed |", report)
        self.assertEqual(self.figures(), ["resnet50 plumb recorded", "resnet50 plumb profile"])

    def test_killed_in_the_middle(self):
        """By SIGKILL in each of several places: the report and the figures have all that was known, and the next call goes on."""
        places = (("test_losses", "| test_ops_basic |", []),
                  ("densenet121", "wide_resnet plumb recorded: 1000", ["resnet110 plumb recorded", "wide_resnet plumb recorded"]),
                  ("gpu_train", "it began", ["resnet110 plumb recorded"]))
        for word, known, figures in places:
            with self.subTest(word=word):
                self.behave(f"{word} echo it began; sleep 1000")
                self.out = f"{self.here}/out-{word}"
                process = self.start("suite:90", "networks:90", "ranks:90")
                try:
                    self.wait_for(process, known)
                finally:
                    self.kill_all(process)
                self.assertIn(known, self.report())
                if figures:
                    self.assertEqual(self.figures()[:len(figures)], figures)
        self.behave()
        self.out = f"{self.here}/out-densenet121"
        os.remove(f"{self.here}/calls")
        os.remove(glob.glob(f"{self.out}/*.md")[0])
        self.finish(self.start("networks"), 0)
        recorded = [call for call in self.calls() if call.startswith("train_step") and "--profile" not in call]
        self.assertEqual(len(recorded), 2, recorded)  # two were known

    def kill_all(self, process):
        """As a machine that goes away: the script and whatever it started, at once."""
        for folder in glob.glob("/proc/[0-9]*"):
            try:
                with open(f"{folder}/environ", "rb") as file:
                    ours = f"BEHAVIOUR={self.here}/".encode() in file.read()
                if ours:
                    os.kill(int(os.path.basename(folder)), signal.SIGKILL)
            except OSError:
                continue
        process.wait()

    def test_ended_from_outside(self):
        """A signal ends all that was started at once, leaves the report, and no folder for temporary files."""
        self.behave("gpu_train echo it began; sleep 1000")
        for sent in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=sent):
                self.out = f"{self.here}/out-{sent}"
                process = self.start("doctor:20", "ranks:90")
                self.wait_for(process, "it began")
                self.assertEqual(len(os.listdir(self.temporary)), 1)
                process.send_signal(sent)
                self.finish(process, 128 + sent, seconds=10)
                self.assertIn("Nothing is wrong.", self.report())
                self.assertEqual(os.listdir(self.temporary), [])

    def test_second_list(self):
        self.finish(self.start("second"), 0)
        calls = [call for call in self.calls() if "--tool" in call]
        self.assertEqual([re.search(r"--tool (\w+)", call).group(1) for call in calls[:4]], ["memcheck", "racecheck"] * 2)
        self.assertTrue(all("test_batch_norm" in call for call in calls[:2]), calls)

    def test_words(self):
        for words in (("nothing",), ("doctor:",), ("doctor:x",), ("first", "second")):
            self.finish(self.start(*words), 2)


if __name__ == "__main__":
    if sys.platform != "linux":
        print("skipped: /proc is read")
        sys.exit(77)
    unittest.main(verbosity=2)
