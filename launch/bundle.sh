#!/usr/bin/env bash
# Makes a tar of plumb that runs on any x86-64 Linux machine, with or without an NVIDIA driver. See usage below.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/bundle.sh [--with-tests] [--xz] [--build FOLDER] [--output FOLDER] [-- CMAKE OPTION ...]

Builds plumb in FOLDER (default: build-bundle) and writes plumb-VERSION-x86_64.tar.gz (default: here), to be
unpacked anywhere: bin/plumb, the libraries it needs, configs/. Runs on processors of the last ten years
(x86-64-v3). What it does not hold is found where it runs: NVIDIA's driver, cuDNN, cuBLASLt and NCCL in the usual
places or LD_LIBRARY_PATH; gnuplot for figures in reports.

It is built without MPI: ranks find one another through a file (PLUMB_RENDEZVOUS; tasks of srun need nothing
said), and NCCL connects GPUs. bin/start_ranks.sh N COMMAND starts N of them on one machine.

  --with-tests  also what tests/run_gpu.sh runs: suites that can test a GPU (PLUMB_TEST_DEVICE=cuda) with their
                golden files, and train_step, which measures speed
  --xz          plumb-VERSION-x86_64.tar.xz, of half the size: where it is unpacked, there must be xz or Python
END
}
die() {
  echo "bundle.sh: $*" >&2
  exit 1
}

cd "$(dirname "$0")/.."
with_tests=
compress=(gzip -9)
ending=gz
build="build-bundle"
output=.
while [ $# -gt 0 ]; do
  case $1 in
    --with-tests) with_tests=1 ;;
    --xz) compress=(xz -9) ending=xz ;;
    --build | --output)
      [ $# -gt 1 ] || die "$1 needs a folder"
      [ "$1" = --build ] && build=$2 || output=$2
      shift
      ;;
    --help) usage; exit ;;
    --) shift; break ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[ "$(uname -m)" = x86_64 ] || die "this machine is not x86-64"

suites=()
programs=(plumb)
targets=(plumb)
if [ -n "$with_tests" ]; then
  # Those that tests/run_gpu.sh names: tests/CMakeLists.txt has them as device_suites.
  suites=(test_ops_basic test_ops_norm test_ops_random test_ops_shape test_ops_embedding test_ops_sequence test_ops_tree test_ops_attention test_ops_decode test_ops_pool test_ops_conv
    test_batch_norm test_golden_layers test_losses test_loss_output test_golden_losses test_calibration_pass test_store test_optimizer test_optimizer_groups
    test_transformer test_transformer_layers test_transformer_decoding test_decoder)
  programs+=(train_step "${suites[@]}")
  targets+=(perf/train_step "${suites[@]}") # by its path: the tests have a program of that name too
fi

# A path of the old kind (DT_RPATH) is also that of libraries which need others.
# shellcheck disable=SC2016  # the loader's $ORIGIN, not the shell's
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPLUMB_ARCH=x86-64-v3 -DPLUMB_MPI=OFF \
  -DPLUMB_TESTS="${with_tests:-0}" -DCMAKE_BUILD_RPATH='$ORIGIN/../lib' -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags "$@"
cmake --build "$build" --target "${targets[@]}"

version=$("$build/plumb" --version)
name="plumb-${version#plumb }-x86_64"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/$name
mkdir -p "$root"/{bin,lib,libexec,glibc,launch,licences} "$output"

for program in "${programs[@]}"; do
  for place in "$build" "$build/perf" "$build/tests"; do
    [ -f "$place/$program" ] && strip -o "$root/libexec/$program" "$place/$program"
  done
  [ -x "$root/libexec/$program" ] || die "$program was not built"
done

# What the programs need, and what that needs. The C library goes apart: where the machine's is new enough, it is used.
declare -A taken
copy() { # LIBRARY FOLDER
  cp -L "$1" "$root/$2/"
  taken[$(basename "$(readlink -f "$1")")]=1
}
c_library=
while read -r library; do
  case $(basename "$library") in
    libc.so.*) c_library=$library ;;
    ld-linux* | libm.so.* | libmvec.so.* | libpthread.so.* | libdl.so.* | librt.so.* | libresolv.so.* | libutil.so.*) ;;
    libcuda* | libcu* | libnv* | libnccl*) ;;
    *) copy "$library" lib ;;
  esac
done < <(ldd "${programs[@]/#/$root/libexec/}" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u)
[ -n "$c_library" ] || die "the programs do not say which C library they need"
if ldd "${programs[@]/#/$root/libexec/}" | grep -q 'not found'; then die "a library that the programs need is missing here"; fi
for part in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libmvec.so.1 libpthread.so.0 libdl.so.2 librt.so.1 libresolv.so.2 libutil.so.1; do
  [ ! -e "$(dirname "$c_library")/$part" ] || copy "$(dirname "$c_library")/$part" glibc
done
[ -x "$root/glibc/ld-linux-x86-64.so.2" ] || die "there is no loader beside $c_library"
strip --strip-unneeded "$root"/lib/*
objdump -T "$root"/lib/* "$root"/libexec/* | grep -o 'GLIBC_2[.][0-9]*' | sort -uV | tail -n 1 >"$root/glibc/needed"

# Libraries are passed on with their licences.
for library in "${!taken[@]}"; do
  package=$(dpkg-query -S "*/$library" 2>/dev/null | head -n 1 | cut -d: -f1) || true
  [ ! -f "/usr/share/doc/$package/copyright" ] || cp "/usr/share/doc/$package/copyright" "$root/licences/$package"
done

cp launch/scripts/bundle_start.sh "$root/bin/plumb"
cp tests/start_ranks.sh "$root/bin/"
cp launch/get_data.sh "$root/launch/"
cp README.md LICENSE "$root/"
cp -r configs "$root/"
if [ -n "$with_tests" ]; then
  mkdir "$root/tests"
  cp -r tests/golden "$root/tests/"
  ln -s plumb "$root/bin/train_step"
  for suite in "${suites[@]}"; do ln -s ../bin/plumb "$root/tests/$suite"; done
fi

tar -C "$work" --owner=0 --group=0 -cf - "$name" | "${compress[@]}" >"$work/$name.tar.$ending"
most=60000000
bytes=$(stat -c %s "$work/$name.tar.$ending")
[ "$bytes" -le "$most" ] || die "the tar has $bytes bytes, more than $most: --xz makes it smaller, and so do fewer architectures in -DPLUMB_CUDA_ARCH"
mv "$work/$name.tar.$ending" "$output/"
echo "$output/$name.tar.$ending: $((bytes / 1000000)) MB"
