#!/usr/bin/env bash
# What only a GPU can show, part by part, with the bundle's programs. See usage below.
# shellcheck disable=SC2317  # parts are called by their names
set -uo pipefail

usage() {
  cat <<'END'
usage: tests/run_gpu.sh [suite] [sanitizer] [train] [ranks] [speed] [science]     default: all but science

For a machine with a GPU, NVIDIA's libraries (cuDNN 9, cuBLASLt, NCCL; PyTorch's packages hold them) and Python.
Each part takes less than ten minutes and leaves a file in perf/results/ (or $OUT):
  suite      plumb doctor; the ops, losses and optimizers on the device against float64
  sanitizer  the same under compute-sanitizer: memcheck, racecheck
  train      training curves on CPU and GPU; the same bits after a kill, and recorded or not
  ranks      two ranks over NCCL on the one GPU, equal to one rank; a rank that is killed or stopped
  speed      training steps a second beside PyTorch; needs torch. Goes on where the last call ended
  science    ResNet-50 on CIFAR-10 for 350 epochs, cross-entropy and FLSD-53. Goes on where the last call ended

Exits with 0: all went well; 1: something failed, see the files; 75: the same command goes on; 77: there is no GPU.

Environment:
  PLUMB_BUNDLE   tar of launch/bundle.sh --with-tests, or its unpacked folder; default: the newest here, else it is
                 built. train, ranks and science do without --with-tests
  PLUMB_DATA     folder with fashion_mnist/ and cifar10/; also looked for in data/. Without Fashion-MNIST, train and
                 ranks make up images; science needs CIFAR-10's binary version
  PLUMB_PYTHON   default: python3
  PLUMB_SUITES   of suite and sanitizer, only these: "test_ops_norm test_losses"
  PLUMB_TOOLS    of sanitizer, only these; default: "memcheck racecheck"
  PLUMB_NETWORKS of speed, only these: resnet50,resnet110,wide_resnet,densenet121,tiny_imagenet_resnet50
  PLUMB_SECONDS  for a part; default: 540
END
}

cd "$(dirname "$0")/.." || exit 1
results=${OUT:-perf/results}
python=${PLUMB_PYTHON:-python3}
part_seconds=${PLUMB_SECONDS:-540}
work=$(mktemp -d)
mkdir -p "$results" runs || exit 1

say() { echo "run_gpu.sh: $*" >&2; }
left() { echo $((part_seconds - (SECONDS - part_started))); }
worst=0
note() { [ "$worst" -eq 1 ] || worst=$1; } # 1 stands over 75

# What took minutes to find out goes with the results, and is taken over where runs/ is new, as on a machine that is lent anew. Its lines
# say for which GPU, library and program they hold.
take_over() {
  local newest
  [ -f "$PLUMB_CACHE/convolutions.txt" ] || cp perf/results/gpu-convolutions.txt "$PLUMB_CACHE/convolutions.txt" 2>/dev/null
  newest=$(find perf/results -name '*-gpu-speed.jsonl' 2>/dev/null | sort | tail -n 1)
  [ -f runs/gpu-speed.jsonl ] || [ -z "$newest" ] || cp "$newest" runs/gpu-speed.jsonl
}
leave() {
  [ ! -f "${PLUMB_CACHE:-absent}/convolutions.txt" ] || cp "$PLUMB_CACHE/convolutions.txt" "$results/gpu-convolutions.txt"
  rm -rf "$work"
}
trap leave EXIT

# ---- what there is ----

find_bundle() {
  local bundle=${PLUMB_BUNDLE:-} newest
  if [ -z "$bundle" ]; then
    newest=$(find . -maxdepth 1 -name 'plumb-*-x86_64.tar.gz' -printf '%T@ %p\n' | sort -n | tail -n 1)
    bundle=${newest#* }
  fi
  if [ -z "$bundle" ]; then
    say "there is no bundle here: building one"
    launch/bundle.sh --with-tests --output "$work" >"$work/bundle.log" 2>&1 || { tail -n 20 "$work/bundle.log" >&2; return 1; }
    bundle=$(echo "$work"/plumb-*.tar.gz)
  fi
  if [ -f "$bundle" ]; then
    mkdir "$work/unpacked" && tar -xf "$bundle" -C "$work/unpacked" || return 1
    bundle=$(echo "$work"/unpacked/plumb-*)
  fi
  [ -x "$bundle/bin/plumb" ] || { say "$bundle is no bundle: it has no bin/plumb"; return 1; }
  root=$(cd "$bundle" && pwd)
}

# Python packages keep their libraries where the loader does not look: site-packages/nvidia/*/lib. cuDNN compiles some engines with NVRTC.
find_libraries() {
  local folders
  folders=$("$python" -c '
import glob, os, sys
print(":".join(sorted({os.path.dirname(f) for p in sys.path for n in ("libcudnn.so.9", "libcublasLt.so.*", "libnccl.so.2", "libcudart.so.*", "libnvrtc.so.*")
                       for f in glob.glob(os.path.join(p, "nvidia", "*", "lib", n))})))' 2>/dev/null)
  [ -z "$folders" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folders"
}

find_data() { # NAME FILE: the folder that has it
  local folder place
  for folder in "data/$1" "${PLUMB_DATA:-../shared/data}/$1" "/usr/share/datasets/${1//_/-}"; do
    for place in "$folder" "$folder"/*; do
      [ ! -f "$place/$2" ] || { (cd "$place" && pwd); return; }
    done
  done
}

# A run that cannot start for want of data has got past the question for a GPU, whose answer has a code of its own.
check_gpu() {
  local unsupported=8 code
  "$root/bin/plumb" train "$root/configs/cifar10.yaml" device=cuda model.name=linear dataset.folder="$work/absent" --run "$work/probe" \
    >"$work/probe.log" 2>&1
  code=$?
  [ "$code" -ne "$unsupported" ] || { cat "$work/probe.log" >&2; say "nothing can be run without a GPU"; exit 77; }
}

# ---- what is left behind ----

begin() { # PART TITLE: further output goes into the part's file too
  part_started=$SECONDS
  report=$results/$(date +%F)-gpu-$1.md
  {
    echo "# $2, $(date '+%d %B %Y, %H:%M')"
    echo
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
    echo "$("$root/bin/plumb" --version); $(uname -sr); $(nproc) processors; $(nvcc --version 2>/dev/null | tail -n 2 | head -n 1)"
    echo
  } >"$report"
  say "$2 -> $report"
}
record() { tee -a "$report"; }

# ---- parts ----

suites=${PLUMB_SUITES:-test_ops_basic test_ops_norm test_ops_random test_ops_shape test_ops_conv test_batch_norm test_losses test_calibration_pass test_optimizer}

# The outcome of one suite as a row. SUITE WORDS-BEFORE-IT...
run_suite() {
  local suite=$1 program=$root/tests/$1 started=$SECONDS code log=$work/log outcome
  shift
  [ $# -eq 0 ] || program=$root/libexec/$suite # tools want no script
  if [ "$(left)" -lt 5 ]; then
    echo "| $suite | ${2:-} ${3:-} | no time was left: PLUMB_SUITES=$suite runs it alone | |" | record
    note 1
    return
  fi
  PLUMB_TEST_DEVICE=cuda PLUMB_TEST_GOLDEN="$root/tests/golden" timeout "$(left)" "$@" "$program" >"$log" 2>&1
  code=$?
  outcome="$(grep -c '^\[       OK \]' "$log") passed, $(grep -c '^\[  FAILED  \] [a-z]' "$log") failed"
  case $code in
    0) ;;
    124) outcome="stopped: its time was up; $outcome" ;;
    *) outcome="exit code $code; $outcome" ;;
  esac
  echo "| $suite | ${2:-} ${3:-} | $outcome | $((SECONDS - started)) s |" | record
  [ "$code" -eq 0 ] || { { echo; echo '```'; grep -v '^\[ RUN\|^\[       OK' "$log" | head -n 60; echo '```'; echo; } >>"$report"; note 1; }
}

have_tests() {
  [ -x "$root/libexec/test_ops_basic" ] && return
  echo "This bundle has no tests: launch/bundle.sh --with-tests makes one that has." | record
  note 1
  return 1
}

part_suite() {
  begin suite "The suites on the device"
  have_tests || return
  { echo '```'; "$root/bin/plumb" doctor 2>&1; echo '```'; echo; } | record
  printf '| suite | under | outcome | time |\n|---|---|---|---|\n' | record
  for suite in $suites; do run_suite "$suite"; done
}

part_sanitizer() {
  begin sanitizer "The suites under compute-sanitizer"
  have_tests || return
  local sanitizer tool
  sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  [ -x "$sanitizer" ] || { echo "There is no compute-sanitizer." | record; note 1; return; }
  printf '| suite | under | outcome | time |\n|---|---|---|---|\n' | record
  for tool in ${PLUMB_TOOLS:-memcheck racecheck}; do
    for suite in $suites; do run_suite "$suite" "$sanitizer" --tool "$tool" --error-exitcode 9 --print-limit 20; done
  done
}

part_python() { # CLASS
  if [ "$(left)" -lt 5 ] || ! PLUMB=$root/bin/plumb PLUMB_FASHION_MNIST=$fashion_mnist PYTHONUNBUFFERED=1 \
    timeout "$(left)" "$python" -B tests/gpu_train.py "$1" >"$work/log" 2>&1; then
    note 1
  fi
  { echo '```'; tail -n 150 "$work/log"; echo '```'; } | record
}
part_train() {
  begin train "Training on the CPU and on the GPU; the same bits after a kill"
  part_python Curves
}
part_ranks() {
  begin ranks "Two ranks over NCCL on one GPU"
  part_python Ranks
}

part_speed() {
  begin speed "Training steps beside PyTorch"
  have_tests || return
  "$python" perf/compare_gpu.py --program "$root/bin/train_step" --python "$python" --state runs/gpu-speed.jsonl --seconds "$(left)" \
    --networks "${PLUMB_NETWORKS:-}" | record
  local code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || note "$code"
  cp runs/gpu-speed.jsonl "$results/$(date +%F)-gpu-speed.jsonl" 2>/dev/null || true
}

# Trains one run until it is complete or the time is up. NAME SETTING ...
train_science() {
  local name=$1 folder=runs/gpu-science-$1 code
  shift
  [ ! -f "$folder/evaluation.json" ] || return 0
  [ "$(left)" -ge 20 ] || return 75
  timeout --preserve-status --signal=USR1 "$(($(left) - 10))" "$root/bin/plumb" train "$root/configs/cifar10.yaml" --quiet --run "$folder" \
    dataset.folder="$cifar10" device=cuda compute=bfloat16 model.name=resnet50 evaluate.every=10 checkpoint.epochs=10 "$@" >"$work/log" 2>&1
  code=$?
  [ "$code" -eq 0 ] || [ "$code" -eq 75 ] || tail -n 20 "$work/log" | record
  return "$code"
}

part_science() {
  begin science "ResNet-50 on CIFAR-10, the paper's recipe"
  local code=0 name
  if [ -z "$cifar10" ]; then
    echo "CIFAR-10's binary version is not here: launch/get_data.sh cifar10 fetches it to data/cifar10." | record
    note 1
    return
  fi
  train_science cross_entropy loss.name=cross_entropy || code=$?
  if [ "$code" -eq 0 ]; then
    train_science flsd_53 loss.name=focal loss.policy=sample 'loss.gammas=[5,3]' 'loss.thresholds=[0.2]' || code=$?
  fi
  [ "$code" -eq 0 ] || note "$([ "$code" -eq 75 ] && echo 75 || echo 1)"
  for name in cross_entropy flsd_53; do
    [ ! -f "runs/gpu-science-$name/metrics.jsonl" ] || cp "runs/gpu-science-$name/metrics.jsonl" "$results/$(date +%F)-gpu-science-$name.jsonl"
  done
  "$python" - <<'END' | record
import json, os
published = {"cross_entropy": ("4.95", "4.35", "2.5", "1.35"), "flsd_53": ("4.98", "1.55", "1.1", "0.95")}
print("| loss | | epochs | error % | ECE % | T | ECE % after | images/s |")
print("|---|---|---|---|---|---|---|---|")
for name, (error, ece, temperature, after) in published.items():
    run = f"runs/gpu-science-{name}"
    print(f"| {name} | published code | 350 | {error} | {ece} | {temperature} | {after} | |")
    if not os.path.exists(f"{run}/metrics.jsonl"):
        print(f"| {name} | plumb | not begun | | | | | |")
        continue
    lines = [json.loads(line) for line in open(f"{run}/metrics.jsonl")]
    speed = sorted(line["images_per_second"] for line in lines)[len(lines) // 2] if lines else 0
    if not os.path.exists(f"{run}/evaluation.json"):
        print(f"| {name} | plumb | {len(lines)} so far | | | | | {speed:.0f} |")
        continue
    result = json.load(open(f"{run}/evaluation.json"))
    e, n = result["before"]["error"], result["samples"]
    spread = 164.5 * (e * (1 - e) / n) ** 0.5
    def percent(part):
        low, high = result[part]["interval"]["ece"]
        return f"{100 * result[part]['ece']:.2f} [{100 * low:.2f}, {100 * high:.2f}]"
    print(f"| {name} | plumb | {len(lines)} | {100 * e:.2f} [{100 * e - spread:.2f}, {100 * e + spread:.2f}] | {percent('before')} "
          f"| {result['temperature']['ece']:.1f} | {percent('after_ece')} | {speed:.0f} |")
print("\nIntervals of 90 %: of ECE by the bootstrap, of errors binomial. Speed: median over epochs, evaluations included.")
END
}

# ---- all ----

[ $# -gt 0 ] || set -- suite sanitizer train ranks speed
for part in "$@"; do
  case $part in
    suite | sanitizer | train | ranks | speed | science) ;;
    --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
done
find_bundle || exit 1
find_libraries
check_gpu
export PLUMB_CACHE=${PLUMB_CACHE:-$PWD/runs/gpu-cache}
mkdir -p "$PLUMB_CACHE"
take_over
fashion_mnist=$(find_data fashion_mnist train-images-idx3-ubyte.gz)
fashion_mnist=${fashion_mnist:-absent}
cifar10=$(find_data cifar10 data_batch_1.bin)
for part in "$@"; do "part_$part"; done
exit "$worst"
