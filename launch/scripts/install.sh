#!/usr/bin/env bash
# Installs what plumb needs on Debian 12 or Ubuntu 24.04, if it is not there already.
#
# usage: launch/scripts/install.sh [build] [test] [check]     default: build
#   build  compilers and libraries      test  what the test suite needs besides      check  formatting and static analysis
set -euo pipefail

build="build-essential cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libdnnl-dev libyaml-dev libcjson-dev
       libxxhash-dev libgsl-dev zlib1g-dev libjpeg-dev libpng-dev libhdf5-dev libsentencepiece-dev gnuplot-nox dataset-fashion-mnist"
test="libcmocka-dev python3 iproute2 curl ca-certificates unzip"
check="clang clang-format cppcheck libclang-rt-dev libomp-dev libbenchmark-dev shellcheck git"
# A browser for the suite of the paper's page; Ubuntu's package of that name is no browser but a note about snaps.
grep -q '^ID=debian' /etc/os-release && check="$check chromium"

packages=""
for group in "${@:-build}"; do
  case "$group" in
    build) packages="$packages $build" ;;
    test) packages="$packages $test" ;;
    check) packages="$packages $check" ;;
    *) echo "install.sh: no group $group: build, test or check" >&2; exit 2 ;;
  esac
done

missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install.sh: these packages are missing; install them as root:$missing" >&2; exit 1; }
  as_root="sudo"
fi
echo "installing:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086  # a list of names
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
