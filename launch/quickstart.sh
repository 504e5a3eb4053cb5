#!/usr/bin/env bash
# From a fresh Debian 12 or Ubuntu 24.04 machine to a report on how four losses calibrate a network: installs, builds, trains on
# Fashion-MNIST with two MPI ranks a run, prints the table and writes runs/quickstart/report.html.
set -euo pipefail
if [ $# -gt 0 ]; then
  sed -n '2,3s/^# //p' "$0"
  echo "usage: launch/quickstart.sh"
  exit 2
fi
cd "$(dirname "$0")/.."

./launch/scripts/install.sh build
./launch/build.sh build -DPLUMB_TESTS=OFF
./build/plumb sweep configs/quickstart.yaml
./build/plumb report runs/quickstart --output runs/quickstart/report.html
echo
echo "Open runs/quickstart/report.html in a browser."
