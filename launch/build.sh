#!/usr/bin/env bash
# Configures and builds plumb. usage: launch/build.sh [FOLDER [CMAKE OPTION ...]]     default: build
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-build}"
shift || true
cmake -S . -B "$folder" -G Ninja "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
rm -f "$folder.log"
cmake --build "$folder"
