#!/usr/bin/env bash
# Runs a command as ranks of one job without MPI, which find one another through a file. Ends with the highest exit code.
# usage: start_ranks.sh RANKS COMMAND ...
set -u
export WORLD_SIZE="$1"
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PLUMB_RENDEZVOUS="$folder/rendezvous"
processes=()
for ((rank = 0; rank < WORLD_SIZE; ++rank)); do
  RANK=$rank "$@" &
  processes+=($!)
done
code=0
for process in "${processes[@]}"; do
  wait "$process"
  its=$?
  ((its <= code)) || code=$its
done
exit "$code"
