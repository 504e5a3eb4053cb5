#!/bin/sh
# bin/plumb of a bundle (launch/bundle.sh): starts the program of this name in libexec/, with the machine's own C library or, where that
# is older than the programs need, with the bundle's and its loader. PLUMB_GLIBC=machine or =bundle decides instead.
set -eu
self=$(readlink -f "$0")
here=${self%/*/*}
name=${0##*/}
[ -x "$here/libexec/$name" ] || name=plumb

# "glibc 2.36"; nothing from other C libraries
minor_version() { case $1 in *2.[0-9]*) echo "${1##*2.}" ;; *) echo 0 ;; esac; }
if [ -z "${PLUMB_GLIBC:-}" ]; then
  read -r needed <"$here/glibc/needed"
  has=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
  PLUMB_GLIBC=machine
  [ "$(minor_version "$has")" -ge "$(minor_version "$needed")" ] || PLUMB_GLIBC=bundle
fi

# /proc/self/exe may be the loader: this is how the program can start itself again.
export PLUMB_PROGRAM="$here/bin/plumb"
if [ -d "$here/tests/golden" ]; then
  export PLUMB_TEST_GOLDEN="${PLUMB_TEST_GOLDEN:-$here/tests/golden}"
fi
if [ "$PLUMB_GLIBC" = bundle ]; then
  exec "$here/glibc/ld-linux-x86-64.so.2" --library-path "$here/glibc:$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
    --argv0 "$0" "$here/libexec/$name" "$@"
fi
exec "$here/libexec/$name" "$@"
