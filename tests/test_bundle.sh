#!/usr/bin/env bash
# launch/bundle.sh: its tar, unpacked elsewhere, runs with nothing of this machine but the C library, and without even that. PLUMB_BUNDLE
# names a tar to test instead of building one.
# shellcheck disable=SC2317  # check calls functions by their names
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=/usr/share/datasets/fashion-mnist
for program in cmake ninja objdump strip getconf; do
    if ! command -v "$program" >/dev/null; then
        echo "skipped: $program is missing"
        exit 77
    fi
done
if [ ! -d "$data" ] || [ "$(uname -m)" != x86_64 ]; then
    echo "skipped: this is not an x86-64 machine with $data"
    exit 77
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/plumb-test-XXXXXX")
trap 'rm -rf "$work"' EXIT
if [ -z "${PLUMB_BUNDLE:-}" ]; then
    "$here/../launch/bundle.sh" --with-tests --build "$work/build" --output "$work/out" -- -DPLUMB_CUDA=OFF -DCMAKE_C_FLAGS_RELEASE=-O1 \
        >"$work/build.log" 2>&1 || {
        cat "$work/build.log"
        exit 1
    }
    PLUMB_BUNDLE=$(echo "$work"/out/plumb-*.tar.?z)
fi
mkdir "$work/elsewhere" && tar -xf "$PLUMB_BUNDLE" -C "$work/elsewhere"
bundle=$(echo "$work"/elsewhere/plumb-*)

failures=0
check() { # DESCRIPTION COMMAND...
    local what=$1
    shift
    if "$@" >"$work/output" 2>&1; then
        echo "ok: $what"
    else
        echo "FAILED: $what"
        sed 's/^/    | /' "$work/output"
        failures=$((failures + 1))
    fi
}
bare() { env -i PATH="$PATH" HOME="$work" OMP_NUM_THREADS=2 "$@"; }

cat >"$work/linear.yaml" <<END
epochs: 2
batch: 100
device: cpu
dataset: {name: fashion_mnist, folder: $data, train_limit: 1000, validation: 500, test_limit: 500}
model: {name: linear}
augment: {crop_padding: 0, flip: false}
optimizer: {learning_rate: 0.01}
evaluate: {bootstrap: 50}
END
trains() { # GLIBC RUN
    bare PLUMB_GLIBC="$1" LD_DEBUG=libs LD_DEBUG_OUTPUT="$work/libraries-$1" "$bundle/bin/plumb" train "$work/linear.yaml" --run "$work/$2"
}
# Of all that was loaded: the bundle's, and a C library.
foreign() { # GLIBC
    sed -n 's/.*calling init: //p' "$work/libraries-$1".* | sort -u | grep -v "^$bundle/" |
        grep -v -E '/(ld-linux-x86-64\.so\.2|lib(c|m|mvec|pthread|dl|rt)\.so\.[0-9])$' || true
}
loads_nothing_else() {
    local others
    others=$(foreign "$1")
    [ -z "$others" ] || { echo "$others" && return 1; }
}
loads() { grep -h 'calling init' "$work/libraries-$1".* | grep "$bundle.*$2"; }

check "the machine's C library suffices for a bundle that was made here" test "$(bare "$bundle/bin/plumb" --version)" != ""
check "the program trains" trains machine run-1
check "with libraries of the bundle" loads machine /lib/libdnnl
check "and, but for the C library, no others" loads_nothing_else machine
check "it trains with the bundle's C library, as where the machine's is too old" trains bundle run-2
check "which is then used" loads bundle /glibc/libc.so.6
check "and no library of others" loads_nothing_else bundle
check "both runs end with the same bits" cmp "$work/run-1/test.logits.npy" "$work/run-2/test.logits.npy"

if [ -d "$bundle/tests" ]; then
    measures() { bare "$bundle/bin/train_step" --size 8 --steps 2 model.name=resnet8 model.width=4 batch=8 device=cpu; }
    check "what measures speed runs" measures
    check "and a suite, with its golden files" bare "$bundle/tests/test_batch_norm"
    for suite in "$bundle"/tests/test_*; do check "$(basename "$suite") is there" test -x "$suite"; done
fi

two_ranks() {
    bare "$bundle/bin/start_ranks.sh" 2 "$bundle/bin/plumb" train "$work/linear.yaml" --run "$work/run-ranks" &&
        test -s "$work/run-ranks/test.logits.npy"
}
check "two ranks find one another without MPI" two_ranks

cat >"$work/sweep.yaml" <<END
sweep: bundled
base: linear.yaml
axes:
  loss:
    cross_entropy: {loss.name: cross_entropy}
    brier: {loss.name: brier}
END
sweeps() { bare PLUMB_GLIBC=bundle "$bundle/bin/plumb" sweep "$work/sweep.yaml" --folder "$work/sweep"; }
check "a sweep starts the program as it was started" sweeps

# A root folder with the bundle, a shell and the C library: there is nothing else to be found.
if chroot / true 2>/dev/null; then
    root=$work/root
    mkdir -p "$root/bin" "$root/tmp"
    mv "$bundle" "$root/plumb" && bundle=$root/plumb
    for program in sh readlink getconf; do
        path=$(command -v "$program")
        cp -L "$path" "$root/bin/"
        for library in $(ldd "$path" | grep -o '/[^ ]*'); do
            mkdir -p "$root$(dirname "$library")" && cp -Ln "$library" "$root$library"
        done
    done
    needed=$(ldd "$bundle/libexec/plumb" | grep -o '/[^ ]*/lib\(m\|c\|mvec\)\.so\.[0-9]')
    for library in $needed; do cp -Ln "$library" "$root$library"; done
    mkdir -p "$root$data" && cp "$data"/*.gz "$root$data/"
    cp "$work/linear.yaml" "$root/tmp/"
    # The loader finds what lies beside a program through /proc, which is not there.
    alone() { # GLIBC
        env -i PATH=/bin LD_LIBRARY_PATH=/plumb/lib PLUMB_GLIBC="$1" "$(command -v chroot)" "$root" /plumb/bin/plumb train /tmp/linear.yaml --run "/tmp/run-$1"
    }
    check "the program trains where there is nothing but a shell and a C library" alone machine
    rm -f "$root"/lib/x86_64-linux-gnu/libm.so* "$root"/lib64/libm.so*
    check "and with the bundle's own C library" alone bundle
else
    echo "not tested: in a root folder of its own, which takes root's rights"
fi
exit "$((failures > 0))"
