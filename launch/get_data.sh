#!/usr/bin/env bash
# Fetches a data set from its home, checks it and unpacks it. See usage below.
set -euo pipefail

usage() {
    cat <<'END'
usage: launch/get_data.sh NAME [FOLDER]

Fetches the data set NAME into FOLDER (default: data/NAME, where plumb looks for it):
  mnist           11 MB   fashion_mnist    30 MB
  cifar10        170 MB   cifar100        169 MB
  tiny_imagenet  248 MB

Continues where an interrupted download stopped, checks the published MD5, and unpacks beside the
final place first, so that FOLDER never holds half a data set. Does nothing if NAME is already there.

Environment:
  PLUMB_DATA_URL        fetch from this base address (a mirror) instead of the data set's home
  PLUMB_DATA_CHECKSUMS  a file as md5sum writes it, used instead of the built-in checksums
  PLUMB_DATA_TRIES      give up after so many attempts without a new byte (default 5)
END
}

say() { printf '%s\n' "get_data: $*"; }
die() {
    printf '%s\n' "get_data: $*" >&2
    exit 1
}

# As published by the data sets' authors or, for the two MNISTs, as torchvision checks them.
builtin_checksums() {
    case $1 in
    mnist) cat <<'END' ;;
f68b3c2dcbeaaa9fbdd348bbdeb94873  train-images-idx3-ubyte.gz
d53e105ee54ea40749a09fcbcd1e9432  train-labels-idx1-ubyte.gz
9fb629c4189551a2d022fa330f9573f3  t10k-images-idx3-ubyte.gz
ec29112dd5afa0611ce80d1b7f02629c  t10k-labels-idx1-ubyte.gz
END
    fashion_mnist) cat <<'END' ;;
8d4fb7e6c68d591d4c3dfef9ec88bf0d  train-images-idx3-ubyte.gz
25c81989df183df01b3e8a0aad5dffbe  train-labels-idx1-ubyte.gz
bef4ecab320f06d8554ea6380940ec79  t10k-images-idx3-ubyte.gz
bb300cfdad3c16e7a12a480ee83cd310  t10k-labels-idx1-ubyte.gz
END
    cifar10) echo 'c32a1d4ab5d03f1284b67883e8d87530  cifar-10-binary.tar.gz' ;;
    cifar100) echo '03b5dce01913d631647c71ecec9e9cb8  cifar-100-binary.tar.gz' ;;
    tiny_imagenet) echo '90528d7ca1a48142e341f4ef8d21d0de  tiny-imagenet-200.zip' ;;
    esac
}

# Sets home (address), files (to fetch) and inside (the folder an archive unpacks to; empty: no archive).
describe() {
    local idx=(train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz)
    inside=
    case $1 in
    mnist)
        home=https://ossci-datasets.s3.amazonaws.com/mnist
        files=("${idx[@]}")
        ;;
    fashion_mnist)
        home=http://fashion-mnist.s3-website.eu-central-1.amazonaws.com
        files=("${idx[@]}")
        ;;
    cifar10)
        home=https://www.cs.toronto.edu/~kriz
        files=(cifar-10-binary.tar.gz)
        inside=cifar-10-batches-bin
        ;;
    cifar100)
        home=https://www.cs.toronto.edu/~kriz
        files=(cifar-100-binary.tar.gz)
        inside=cifar-100-binary
        ;;
    tiny_imagenet)
        home=http://cs231n.stanford.edu
        files=(tiny-imagenet-200.zip)
        inside=tiny-imagenet-200
        ;;
    *)
        printf '%s\n' "get_data: there is no data set '$1'" >&2
        usage >&2
        exit 2
        ;;
    esac
}

need() {
    command -v "$1" >/dev/null || die "the program '$1' is missing: apt-get install $2"
}

expected_md5() {
    local md5
    md5=$(if [ -n "${PLUMB_DATA_CHECKSUMS:-}" ]; then cat "$PLUMB_DATA_CHECKSUMS"; else builtin_checksums "$name"; fi |
        awk -v file="$1" '$2 == file || $2 == "*" file { print $1; exit }')
    [ -n "$md5" ] || die "no checksum for $1${PLUMB_DATA_CHECKSUMS:+ in $PLUMB_DATA_CHECKSUMS}"
    printf '%s\n' "$md5"
}

actual_md5() { md5sum <"$1" | cut -d ' ' -f 1; }
is_whole() { [ -f "$1" ] && [ "$(actual_md5 "$1")" = "$2" ]; }
size_of() { if [ -f "$1" ]; then stat -c %s "$1"; else echo 0; fi; }

advice() {
    cat >&2 <<END
get_data: what to do:
  - run the same command again: it continues where this one stopped;
  - or set PLUMB_DATA_URL to a mirror that has the file;
  - or fetch $1
    by other means, put it at $2, and run the same command again.
END
}

# fetch URL PART: appends to PART until the server says that it is complete. Attempts that bring new bytes do
# not count: a connection that drops every few megabytes still gets there.
fetch() {
    local url=$1 part=$2 tries=${PLUMB_DATA_TRIES:-5} failed=0 before after code http
    local show=(--silent --show-error)
    if [ -t 2 ]; then show=(--progress-bar); fi
    while :; do
        before=$(size_of "$part")
        code=0
        http=$(curl "${show[@]}" --fail --location --connect-timeout 20 --speed-limit 1 --speed-time 60 \
            --continue-at - --write-out '%{http_code}' --output "$part" "$url") || code=$?
        [ "$code" -eq 0 ] && return 0
        after=$(size_of "$part")
        case $code:$http in
        33:* | 36:*) # this server cannot resume
            say "the server cannot continue a download; starting again"
            rm -f "$part"
            continue
            ;;
        22:416) return 0 ;; # nothing beyond what is here: the checksum decides
        22:408 | 22:429) ;;
        22:4*)
            say "$url: the server answers $http" >&2
            return 1
            ;;
        esac
        if [ "$after" -gt "$before" ]; then
            failed=0
        else
            failed=$((failed + 1))
            [ "$failed" -lt "$tries" ] || return 1
            sleep "$failed"
        fi
    done
}

# obtain FILE: FOLDER/FILE with the right checksum.
obtain() {
    local file=$1 target=$folder/$1 part=$folder/.$1.part url=$base/$1 md5 started
    md5=$(expected_md5 "$file")
    if [ -f "$target" ]; then
        if is_whole "$target" "$md5"; then return 0; fi
        say "$target has the wrong checksum; fetching it again"
        rm -f "$target"
    fi
    while :; do
        started=$(size_of "$part")
        if ! is_whole "$part" "$md5"; then
            if [ "$started" -gt 0 ]; then
                say "continuing $url at byte $started"
            else
                say "fetching $url"
            fi
            if ! fetch "$url" "$part"; then
                advice "$url" "$target"
                die "could not fetch $url"
            fi
            if ! is_whole "$part" "$md5"; then
                local got
                got=$(actual_md5 "$part")
                rm -f "$part"
                if [ "$started" -gt 0 ]; then
                    say "the continued file has the wrong checksum; starting again"
                    continue
                fi
                advice "$url" "$target"
                die "$file: wrong checksum: MD5 $got, expected $md5; the file was removed"
            fi
        fi
        mv "$part" "$target"
        return 0
    done
}

# unpack ARCHIVE: FOLDER/$inside, complete or not at all.
unpack() {
    say "unpacking $1"
    scratch=$(mktemp -d "$folder/.unpack.XXXXXX")
    case $1 in
    *.zip) unzip -q "$folder/$1" -d "$scratch" ;;
    *) tar -xzf "$folder/$1" -C "$scratch" --no-same-owner ;;
    esac || die "cannot unpack $folder/$1 (a full disk?)"
    [ -d "$scratch/$inside" ] || die "$1 holds no folder $inside"
    mv -T "$scratch/$inside" "$folder/$inside"
    rm -rf "$scratch" "${folder:?}/$1"
}

case ${1:-} in
-h | --help)
    usage
    exit 0
    ;;
esac
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    usage >&2
    exit 2
fi
name=$1
describe "$name"
folder=${2:-data/$name}
base=${PLUMB_DATA_URL:-$home}
base=${base%/}
scratch=
trap 'if [ -n "$scratch" ]; then rm -rf "$scratch"; fi' EXIT

if [ -n "$inside" ] && [ -d "$folder/$inside" ]; then
    say "$name is already in $folder"
    exit 0
fi
need curl curl
need md5sum coreutils
need flock util-linux
case ${files[0]} in *.zip) need unzip unzip ;; esac

mkdir -p "$folder" || die "cannot make the folder $folder"
exec 9>"$folder/.lock"
flock -n 9 || die "another get_data.sh is filling $folder"
rm -rf "$folder"/.unpack.* # left by one that was killed
for file in "${files[@]}"; do
    obtain "$file"
done
if [ -n "$inside" ] && [ ! -d "$folder/$inside" ]; then unpack "${files[0]}"; fi
say "$name is in $folder"
