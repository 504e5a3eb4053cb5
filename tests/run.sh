#!/usr/bin/env bash
# Installs what is missing, builds, and runs the whole suite. usage: tests/run.sh [CTEST OPTION ...]
set -euo pipefail
cd "$(dirname "$0")/.."

./launch/install.sh build test
./launch/build.sh build -DPLUMB_TESTS=ON
# Open MPI refuses to start as root (as in a container) unless told twice; more ranks than cores are meant.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
ctest --test-dir build --output-on-failure "$@"
