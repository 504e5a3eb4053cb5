#!/usr/bin/env bash
# Installs what is missing, builds, and runs the whole suite. usage: tests/run.sh [CTEST OPTION ...]
set -euo pipefail
cd "$(dirname "$0")/.."

./launch/scripts/install.sh build test
./launch/build.sh build -DPLUMB_TESTS=ON
ctest --test-dir build -j "$((2 * $(nproc)))" --output-on-failure "$@" # most suites wait, for ranks and their deadlines
