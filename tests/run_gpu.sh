#!/usr/bin/env bash
# What only a GPU can show, part by part, with the bundle's programs. See usage below.
# shellcheck disable=SC2317,SC2329  # parts are called by their names
# shellcheck disable=SC2030,SC2031  # and each in a shell of its own, as is meant
set -uo pipefail

usage() {
  cat <<'END'
usage: tests/run_gpu.sh [LIST | PART | PART:SECONDS ...]     default: first

For a machine with a GPU, NVIDIA's libraries (cuDNN 9, cuBLASLt, NCCL; PyTorch's packages hold them) and Python. Parts run one after
the other, each for at most its SECONDS, or else as long as the call lasts; what a part leaves of its time, later parts may use.
  doctor     plumb doctor: what it runs on, and what is wrong with that
  resnet50   ResNet-50's step: 5 plain ones, 100 recorded ones, and a profile
  suite      the ops, losses and optimizers on the device against float64: first without convolutions
  train      training curves on CPU and GPU; the same bits after a kill, and recorded or not
  networks   our other four networks: recorded steps, and a profile
  texts      documents, trees and translation: curves on CPU and GPU, speed, decoding
  ranks      two ranks over NCCL on the one GPU, equal to one rank; a rank that is killed or stopped. Nothing should run beside it
  peers      the same steps by PyTorch, channels-last in bfloat16, ResNet-50 first; needs torch
  compiled   the same by torch.compile, which takes minutes a network, and by eager PyTorch
  sanitizer  suites under compute-sanitizer: each under memcheck, then racecheck
  science    ResNet-50 on CIFAR-10 for 350 epochs, cross-entropy and FLSD-53. Goes on where the last call ended
Lists:
  first      doctor:20 resnet50:60 suite:70 train:90 networks:90 texts:40 ranks:120 peers
  second     sanitizer, of the suites whose kernels are most at risk
  third      resnet50:60 networks:90 peers:120 compiled: what was measured before is not measured again

A call leaves in perf/results/ (or $OUT), written as it goes, so that a call that is killed leaves what it had found: DATE-gpu-NAME.md,
the report; gpu-speed.jsonl, all figures so far; gpu-cache/convolutions.txt, the engines that were chosen. Lay them in perf/results/, or
a folder in it, and the next call goes on from there.

Exits with 0: all went well; 1: something failed, see the report; 75: the same command goes on; 77: there is no GPU.

Environment:
  PLUMB_SECONDS  for the whole call; default: 540
  PLUMB_BUNDLE   tar of launch/bundle.sh --with-tests, or its unpacked folder; default: the newest here, else it is
                 built. train, texts, ranks and science do without --with-tests
  PLUMB_DATA     folder with fashion_mnist/ and cifar10/; also looked for in data/. Without Fashion-MNIST, train and
                 ranks make up images; science needs CIFAR-10's binary version
  PLUMB_PYTHON   default: python3
  PLUMB_SUITES   of suite and sanitizer, only these: "test_ops_norm test_losses"
  PLUMB_TOOLS    of sanitizer, only these; default: "memcheck racecheck"
  PLUMB_NETWORKS of networks, peers and compiled, only these: resnet50,resnet110,wide_resnet,densenet121,tiny_imagenet_resnet50
END
}

cd "$(dirname "$0")/.." || exit 1
results=${OUT:-perf/results}
python=${PLUMB_PYTHON:-python3}
call_ends=$((SECONDS + ${PLUMB_SECONDS:-540}))
part_ends=$call_ends
work=$(mktemp -d "${TMPDIR:-/tmp}/plumb-gpu-XXXXXX") || exit 1

say() { echo "run_gpu.sh: $*" >&2; }
# Seconds that the part still has; none when the call is over, which takes its folder away.
left() { if [ -d "$work" ]; then echo $((part_ends - SECONDS)); else echo 0; fi; }
worst=0
note() { [ "$worst" -eq 1 ] || [ "$1" -eq 0 ] || worst=$1; } # 1 stands over 75

# Ends what carries this mark in its environment, though it may have left our process group. MARK
end_all() {
  local process
  env -u PLUMB_GPU_PART grep -lsz "^PLUMB_GPU_PART=$1" /proc/[0-9]*/environ | while IFS=/ read -r _ _ process _; do
    kill -KILL "$process" 2>/dev/null
  done
}
leave() {
  mv "$work" "$work.over"
  end_all "$work/"
  rm -rf "$work.over"
}
trap leave EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP
mkdir -p "$results" runs || exit 1

# What took minutes to find out goes with the results, and is taken over from earlier ones, as on a machine that is lent anew. Its
# lines say for which GPU, library and program they hold; the last of several counts. NAME FILE
take_over() {
  # shellcheck disable=SC2016  # awk's $0
  find perf/results runs -type f -name "*$1" -printf '%T@ %p\n' 2>/dev/null | sort -n | cut -d ' ' -f 2- | tr '\n' '\0' |
    xargs -0 -r awk 1 | tac | awk '!seen[$0]++' | tac >"$work/taken" # awk ends each line, torn ones too
  [ ! -s "$work/taken" ] || { mkdir -p "$(dirname "$2")" && cp "$work/taken" "$2"; }
}

# ---- what there is ----

find_bundle() {
  local bundle=${PLUMB_BUNDLE:-} newest
  if [ -z "$bundle" ]; then
    newest=$(find . -maxdepth 1 -name 'plumb-*-x86_64.tar.?z' -printf '%T@ %p\n' | sort -n | tail -n 1)
    bundle=${newest#* }
  fi
  if [ -z "$bundle" ]; then
    say "there is no bundle here: building one"
    launch/bundle.sh --with-tests --xz --output "$work" >"$work/bundle.log" 2>&1 || { tail -n 20 "$work/bundle.log" >&2; return 1; }
    bundle=$(echo "$work"/plumb-*.tar.?z)
  fi
  if [ -f "$bundle" ]; then
    mkdir "$work/unpacked" || return 1
    tar -xf "$bundle" -C "$work/unpacked" 2>"$work/bundle.log" || # there may be no xz
      "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$bundle" "$work/unpacked" ||
      { cat "$work/bundle.log" >&2; return 1; }
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
  timeout -k 5 60 "$root/bin/plumb" train "$root/configs/cifar10.yaml" device=cuda model.name=linear dataset.folder="$work/absent" \
    --run "$work/probe" >"$work/probe.log" 2>&1
  code=$?
  [ "$code" -ne "$unsupported" ] || { cat "$work/probe.log" >&2; say "nothing can be run without a GPU"; exit 77; }
  case $code in 124 | 137) cat "$work/probe.log" >&2; say "the GPU did not open within a minute"; exit 1 ;; esac
}

# A driver without any program on the GPU shuts it down, and starting it again takes seconds each time: one that does nothing stays.
hold_gpu() {
  PLUMB_GPU_PART=$work/hold "$python" - $$ >/dev/null 2>&1 <<'END' &
import ctypes, os, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
mode, context = ctypes.c_int(), ctypes.c_void_p()
shared = cuda.cuInit(0) == 0 and cuda.cuDeviceGetAttribute(ctypes.byref(mode), 20, 0) == 0 and mode.value == 0  # for more than one program
if shared and cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0:
    while os.getppid() == int(sys.argv[1]):
        time.sleep(1)
END
}

# ---- a part ----

title() {
  case $1 in
    doctor) echo "What plumb runs on" ;;
    resnet50) echo "ResNet-50's step: plain, recorded, profiled" ;;
    suite) echo "The suites on the device" ;;
    train) echo "Training on the CPU and on the GPU; the same bits after a kill" ;;
    networks) echo "Steps of the other networks" ;;
    texts) echo "Documents, trees and translation" ;;
    ranks) echo "Two ranks over NCCL on one GPU" ;;
    peers) echo "Training steps beside PyTorch" ;;
    compiled) echo "Training steps beside compiled and eager PyTorch" ;;
    sanitizer) echo "Suites under compute-sanitizer" ;;
    science) echo "ResNet-50 on CIFAR-10, the paper's recipe" ;;
    *) return 1 ;;
  esac
}

# What the part says goes to the report at once, and with its name to our output. What still runs 10 seconds after its time is killed, as
# a program whose GPU hangs. PART SECONDS
run_part() {
  local part=$1 code guard
  (
    part_ends=$((SECONDS + $2)) here=$work/$part worst=0
    mkdir "$here"
    export PLUMB_GPU_PART=$here/
    { sleep $(($2 + 10)); end_all "$here/"; } >/dev/null 2>&1 &
    guard=$!
    printf '\n## %s, at most %s s: %s\n\n' "$part" "$2" "$(title "$part")"
    if [ "$2" -ge 5 ]; then
      "part_$part"
    else
      echo "No time was left: tests/run_gpu.sh $part runs it alone."
      note 75
    fi
    kill "$guard" 2>/dev/null
    end_all "$here/" # they would keep our output open
    printf '\nExit code %s after %s s.\n' "$worst" "$((SECONDS - part_ends + $2))"
    exit "$worst"
  ) 2>&1 | tee -a "$report" | sed -u "s/^/$part: /"
  code=${PIPESTATUS[0]}
  return "$code"
}

begin_report() { # LIST OR PARTS
  local name=${1//:/-}
  report=$results/$(date +%F)-gpu-${name// /-}.md
  {
    echo "# tests/run_gpu.sh $1, $(date '+%d %B %Y, %H:%M')"
    echo
    timeout 10 nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
    echo "$("$root/bin/plumb" --version); $(uname -sr); $(nproc) processors; $(nvcc --version 2>/dev/null | tail -n 2 | head -n 1)"
  } >>"$report"
  say "report: $report"
}

# ---- parts ----

# As launch/bundle.sh has them; in this order: single ops, what is made of them, and last the convolutions, which take longest.
suites=${PLUMB_SUITES:-test_ops_basic test_ops_norm test_ops_random test_ops_shape test_ops_embedding test_ops_sequence test_ops_tree test_ops_attention test_ops_decode test_batch_norm test_losses test_loss_output test_golden_losses test_calibration_pass test_store test_optimizer test_optimizer_groups test_transformer test_transformer_layers test_transformer_decoding test_decoder test_golden_layers test_ops_pool test_ops_conv}
# Kernels that share memory among the threads of a block or hand on partial sums, the hardest first.
at_risk="test_batch_norm test_ops_attention test_ops_tree test_loss_output test_losses test_ops_norm test_calibration_pass test_ops_decode test_ops_embedding test_optimizer_groups"

# The outcome of one suite as a row. SUITE SECONDS WORDS-BEFORE-IT...
run_suite() {
  local suite=$1 seconds=$2 program=$root/tests/$1 started=$SECONDS code log=$here/log outcome summary
  shift 2
  [ $# -eq 0 ] || program=$root/libexec/$suite # tools want no script
  if [ "$(left)" -lt 5 ]; then
    echo "| $suite | ${2:-} ${3:-} | no time was left: PLUMB_SUITES=$suite runs it alone | |"
    note 1
    return
  fi
  [ "$seconds" -gt 20 ] || seconds=20
  [ "$seconds" -lt "$(left)" ] || seconds=$(left)
  PLUMB_TEST_DEVICE=cuda PLUMB_TEST_GOLDEN="$root/tests/golden" timeout -k 5 "$seconds" "$@" "$program" >"$log" 2>&1
  code=$?
  outcome="$(grep -c '^\[       OK \]' "$log") passed, $(grep -c '^\[  FAILED  \] [a-z]' "$log") failed"
  summary=$(grep -o '[A-Z]* SUMMARY: .*' "$log" | tail -n 1)
  outcome="$outcome${summary:+; $summary}"
  case $code in
    0) ;;
    124 | 137) outcome="stopped in $(sed -n 's/^\[ RUN      \] //p' "$log" | tail -n 1): its $seconds s were up; $outcome" ;;
    *) outcome="exit code $code; $outcome" ;;
  esac
  echo "| $suite | ${2:-} ${3:-} | $outcome | $((SECONDS - started)) s |"
  [ "$code" -eq 0 ] || failed "$log"
}
failed() { # LOG: its beginning, and where it ended
  note 1
  grep -v '^\[ RUN\|^\[       OK' "$1" >"$here/lines"
  echo
  echo '```'
  head -n 50 "$here/lines"
  [ "$(wc -l <"$here/lines")" -le 50 ] || { echo ...; tail -n +51 "$here/lines" | tail -n 10; }
  echo '```'
  echo
}
table() { printf '| suite | under | outcome | time |\n|---|---|---|---|\n'; }

have_tests() {
  [ -x "$root/libexec/test_ops_basic" ] && return
  echo "This bundle has no tests: launch/bundle.sh --with-tests makes one that has."
  note 1
  return 1
}

part_doctor() {
  echo '```'
  timeout -k 5 "$(left)" "$root/bin/plumb" doctor 2>&1 || note 1
  echo '```'
}

# No suite takes another's time but twice what would be its share.
part_suite() {
  have_tests || return
  table
  local suite ahead
  ahead=$(echo "$suites" | wc -w)
  for suite in $suites; do
    run_suite "$suite" $((2 * $(left) / ahead))
    ahead=$((ahead - 1))
  done
}

part_sanitizer() {
  have_tests || return
  local sanitizer tool suite ahead filter options=() help tools=${PLUMB_TOOLS:-memcheck racecheck} suites=${PLUMB_SUITES:-$at_risk}
  sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  [ -x "$sanitizer" ] || { echo "There is no compute-sanitizer."; note 1; return; }
  # Not for us to mend: what NVIDIA's kernels do inside, and calls that cuDNN expects to fail. Before its first line the tool says what
  # it does not understand, as perhaps a filter's form, which was not the same in all versions.
  help=$("$sanitizer" --help 2>&1)
  for filter in regex= regex: none; do
    options=()
    case $help in *--report-api-errors*) options+=(--report-api-errors no) ;; esac
    case $filter$help in none*) ;; *--kernel-name-exclude*) options+=(--kernel-name-exclude "${filter}cudnn|cutlass|cublas|xmma|nvjet") ;; esac
    case $(timeout -k 5 60 "$sanitizer" "${options[@]}" "$root/libexec/plumb" --version 2>&1) in *"= COMPUTE-SANITIZER"*) break ;; esac
    options=()
  done
  printf 'Options: %s\n\n' "${options[*]:-none}"
  table
  ahead=$(($(echo "$tools" | wc -w) * $(echo "$suites" | wc -w)))
  for suite in $suites; do
    for tool in $tools; do
      run_suite "$suite" $((2 * $(left) / ahead)) "$sanitizer" --tool "$tool" --error-exitcode 9 --print-limit 20 "${options[@]}"
      ahead=$((ahead - 1))
    done
  done
}

part_python() { # CLASS
  local code
  echo '```'
  PLUMB=$root/bin/plumb PLUMB_FASHION_MNIST=$fashion_mnist PYTHONUNBUFFERED=1 timeout -k 5 "$(left)" "$python" -B tests/gpu_train.py "$1" 2>&1
  code=$?
  printf '\n```\n'
  case $code in
    0) ;;
    124 | 137) echo "Stopped: its time was up."; note 1 ;;
    *) note 1 ;;
  esac
}
part_train() { part_python Curves; }
part_texts() { part_python Texts; }
part_ranks() { part_python Ranks; }

measure() { # NETWORKS WHAT
  local code
  have_tests || return
  "$python" -u perf/compare_gpu.py --program "$root/bin/train_step" --python "$python" --state "$results/gpu-speed.jsonl" \
    --seconds "$(left)" --networks "$1" --measure "$2" 2>&1
  code=$?
  case $code in 0 | 75) note "$code" ;; *) note 1 ;; esac
}
part_resnet50() { measure resnet50 plain,recorded,profile; }
part_networks() { measure "${PLUMB_NETWORKS:-resnet110,wide_resnet,densenet121,tiny_imagenet_resnet50}" recorded,profile; }
part_peers() { measure "${PLUMB_NETWORKS:-}" channels-last,peaks; }
part_compiled() { measure "${PLUMB_NETWORKS:-}" compiled,eager; }

# Trains one run until it is complete or the time is up. NAME SETTING ...
train_science() {
  local name=$1 folder=runs/gpu-science-$1 code
  shift
  [ ! -f "$folder/evaluation.json" ] || return 0
  [ "$(left)" -ge 20 ] || return 75
  timeout --preserve-status --signal=USR1 "$(($(left) - 10))" "$root/bin/plumb" train "$root/configs/cifar10.yaml" --quiet --run "$folder" \
    dataset.folder="$cifar10" device=cuda compute=bfloat16 model.name=resnet50 evaluate.every=10 checkpoint.epochs=10 "$@" >"$here/log" 2>&1
  code=$?
  [ "$code" -eq 0 ] || [ "$code" -eq 75 ] || tail -n 20 "$here/log"
  return "$code"
}

part_science() {
  local code=0 name
  if [ -z "$cifar10" ]; then
    echo "CIFAR-10's binary version is not here: launch/get_data.sh cifar10 fetches it to data/cifar10."
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
  "$python" - <<'END'
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
    speed = sorted(line["samples_per_second"] for line in lines)[len(lines) // 2] if lines else 0
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
print("\nIntervals of 90 %: of ECE by the bootstrap, of errors binomial. Speed: median over epochs, without their evaluations.")
END
}

# ---- all ----

[ "${1:-}" != --help ] || { usage; exit; }
name=${*:-first}
case $name in
  first) set -- doctor:20 resnet50:60 suite:70 train:90 networks:90 texts:40 ranks:120 peers ;;
  second) set -- sanitizer ;;
  third) set -- resnet50:60 networks:90 peers:120 compiled ;;
esac
for part in "$@"; do
  title "${part%:*}" >/dev/null || { usage >&2; exit 2; }
  case $part in *:*[!0-9]* | *:) usage >&2; exit 2 ;; esac
done

find_bundle || exit 1
find_libraries
hold_gpu
check_gpu
begin_report "$name"
take_over convolutions.txt "$results/gpu-cache/convolutions.txt"
take_over gpu-speed.jsonl "$results/gpu-speed.jsonl"
export PLUMB_CACHE=${PLUMB_CACHE:-$(cd "$results" && pwd)/gpu-cache}
mkdir -p "$PLUMB_CACHE"
fashion_mnist=$(find_data fashion_mnist train-images-idx3-ubyte.gz)
fashion_mnist=${fashion_mnist:-absent}
cifar10=$(find_data cifar10 data_batch_1.bin)
for part in "$@"; do
  seconds=$((call_ends - SECONDS))
  case $part in *:*) [ "${part#*:}" -ge "$seconds" ] || seconds=${part#*:} ;; esac
  run_part "${part%:*}" "$seconds" & # waited for, so that a signal ends the call at once
  wait $!
  note $?
done
exit "$worst"
