#!/usr/bin/env bash
# Fetches a data set from its home, checks it and unpacks it. See usage below.
set -euo pipefail

usage() {
    cat <<'END'
usage: launch/get_data.sh NAME [FOLDER]

Fetches the data set NAME into FOLDER (default: data/NAME, where plumb looks for it):
  mnist            11 MB   fashion_mnist     30 MB
  cifar10         170 MB   cifar100         169 MB
  tiny_imagenet   248 MB
  newsgroups       14 MB   20 Newsgroups by date: 11,314 + 7,532 documents
  newsgroups_19997 17 MB   20 Newsgroups, all 19,997; also into data/newsgroups
  sst               1 MB   Stanford Sentiment Treebank
  multi30k          1 MB   Multi30k, English and German: 29,000 + 1,014 + 1,000 captions of pictures
  iwslt14          20 MB   IWSLT14, German and English: some 170,000 lines of talks, every 23rd for validation, and
                           five test sets in one, as fairseq parts them, but neither tokenised nor lower case. No author
                           publishes its checksum: the MD5 here is that of one public script alone; where it does not
                           fit, see PLUMB_DATA_CHECKSUMS
  wmt14             2 GB   WMT14, English and German: Europarl v7, Common Crawl, News Commentary v9, newstest2013, 2014
  glove_6b        862 MB   word vectors of 50 to 300 numbers, lower case (2.1 GB unpacked); into data/glove
  glove_840b        2 GB   word vectors of 300 numbers, with case (5.6 GB unpacked); into data/glove

Continues where an interrupted download stopped, checks the known checksum, and unpacks beside the
final place first, so that FOLDER never holds half a data set. Does nothing if NAME is already there.

Environment:
  PLUMB_DATA_URL        fetch from this base address (a mirror) instead of the data set's home
  PLUMB_DATA_CHECKSUMS  a file as md5sum or sha256sum writes it, used instead of the built-in checksums
  PLUMB_DATA_TRIES      give up after so many attempts without a new byte (default 5)
END
}

say() { printf '%s\n' "get_data: $*"; }
die() {
    printf '%s\n' "get_data: $*" >&2
    exit 1
}

# MD5 as published by the data sets' authors or, for the two MNISTs, as torchvision checks them; SHA-256 of the texts as
# other programs check them: scikit-learn and Hugging Face's datasets (20 Newsgroups), Flux (the treebank), Embeddings.jl and
# PyTorch-NLP (GloVe), torchtext (Multi30k); MD5 of WMT14 as Sockeye and sacreBLEU do.
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
    newsgroups) echo '8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610  20news-bydate.tar.gz' ;;
    newsgroups_19997) echo 'ab7bbf82b7831f7dbb1a09d9312f66fa78565c8de25526999b0d66f69d37e414  20news-19997.tar.gz' ;;
    sst) echo '5c613a4f673fc74097d523a2c83f38e0cc462984d847b82c7aaf36b01cbbbfcc  trainDevTestTrees_PTB.zip' ;;
    multi30k) cat <<'END' ;;
20140d013d05dd9a72dfde46478663ba05737ce983f478f960c1123c6671be5e  training.tar.gz
a7aa20e9ebd5ba5adce7909498b94410996040857154dab029851af3a866da8c  validation.tar.gz
6d1ca1dba99e2c5dd54cae1226ff11c2551e6ce63527ebb072a1f70f72a5cd36  mmt16_task1_test.tar.gz
END
    iwslt14) echo '10936dfdf616504ddbd844e91b94ef4a  de-en.tgz' ;;
    wmt14) cat <<'END' ;;
c52404583294a1b609e56d45b2ed06f5  training-parallel-europarl-v7.tgz
7e0acbe86b0d7816300e14650f5b2bd4  training-parallel-commoncrawl.tgz
92e42b68f9d3c2ae9722e6d1c2623e21  training-parallel-nc-v9.tgz
88ba3fc60b2278d59277122e1c7dd6e7  dev.tgz
a8cd784e006feb32ac6f3d9ec7eb389a  test-full.tgz
END
    glove_6b) echo '617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb  glove.6B.zip' ;;
    glove_840b) echo 'c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f  glove.840B.300d.zip' ;;
    esac
}

# Sets home (address), files (to fetch, below that), inside (the folders and files that the archives make; empty: no archive)
# and usual (the folder, if none is given). arrange_NAME, if there is such a function, makes `inside` of what was unpacked.
describe() {
    local idx=(train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz)
    inside=()
    usual=data/$1
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
        inside=(cifar-10-batches-bin)
        ;;
    cifar100)
        home=https://www.cs.toronto.edu/~kriz
        files=(cifar-100-binary.tar.gz)
        inside=(cifar-100-binary)
        ;;
    tiny_imagenet)
        home=http://cs231n.stanford.edu
        files=(tiny-imagenet-200.zip)
        inside=(tiny-imagenet-200)
        ;;
    newsgroups)
        home=http://qwone.com/~jason/20Newsgroups
        files=(20news-bydate.tar.gz)
        inside=(20news-bydate-train 20news-bydate-test)
        ;;
    newsgroups_19997)
        home=http://qwone.com/~jason/20Newsgroups
        files=(20news-19997.tar.gz)
        inside=(20_newsgroups)
        usual=data/newsgroups
        ;;
    sst)
        home=https://nlp.stanford.edu/sentiment
        files=(trainDevTestTrees_PTB.zip)
        inside=(trees)
        ;;
    multi30k)
        home=https://raw.githubusercontent.com/neychev/small_DL_repo/master/datasets/Multi30k
        files=(training.tar.gz validation.tar.gz mmt16_task1_test.tar.gz)
        inside=(train.en train.de val.en val.de test_2016_flickr.en test_2016_flickr.de)
        ;;
    iwslt14)
        home=https://dl.fbaipublicfiles.com/fairseq/data/iwslt14
        files=(de-en.tgz)
        inside=(val.en val.de test.en test.de train.en train.de)
        ;;
    wmt14)
        home=https://www.statmt.org
        files=(wmt13/training-parallel-europarl-v7.tgz wmt13/training-parallel-commoncrawl.tgz
            wmt14/training-parallel-nc-v9.tgz wmt14/dev.tgz wmt14/test-full.tgz)
        inside=(newstest2013.en newstest2013.de newstest2014.en newstest2014.de train.en train.de)
        ;;
    glove_6b)
        home=https://nlp.stanford.edu/data
        files=(glove.6B.zip)
        inside=(glove.6B.50d.txt glove.6B.100d.txt glove.6B.200d.txt glove.6B.300d.txt)
        usual=data/glove
        ;;
    glove_840b)
        home=https://nlp.stanford.edu/data
        files=(glove.840B.300d.zip)
        inside=(glove.840B.300d.txt)
        usual=data/glove
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

# The length of a checksum says which kind it is.
expected_sum() {
    local sum
    sum=$(if [ -n "${PLUMB_DATA_CHECKSUMS:-}" ]; then cat "$PLUMB_DATA_CHECKSUMS"; else builtin_checksums "$name"; fi |
        awk -v file="$1" '$2 == file || $2 == "*" file { print $1; exit }')
    [ -n "$sum" ] || die "no checksum for $1${PLUMB_DATA_CHECKSUMS:+ in $PLUMB_DATA_CHECKSUMS}"
    printf '%s\n' "$sum"
}

kind_of_sum() { if [ ${#1} -eq 64 ]; then echo SHA-256; else echo MD5; fi; }
actual_sum() { # FILE EXPECTED: of the same kind
    if [ ${#2} -eq 64 ]; then sha256sum <"$1"; else md5sum <"$1"; fi | cut -d ' ' -f 1
}
is_whole() { [ -f "$1" ] && [ "$(actual_sum "$1" "$2")" = "$2" ]; }
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

arrange_multi30k() {
    mv test.en test_2016_flickr.en && mv test.de test_2016_flickr.de
}

# The lines between <seg> and </seg>, as sacreBLEU takes them.
segments() { sed -n 's/.*<seg[^>]*>\(.*\)<\/seg>.*/\1/p' "$1"; }

# What is said in the talks, and their titles and descriptions.
talks() {
    grep -v -e '<url>' -e '<talkid>' -e '<keywords>' -e '<speaker>' -e '<reviewer' -e '<translator' -e '<doc' -e '</doc>' "$1" |
        sed -e 's/<\/\{0,1\}\(title\|description\)>//g' -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//'
}

arrange_iwslt14() {
    local side set
    for side in en de; do
        talks "de-en/train.tags.de-en.$side" >"all.$side" || return 1
        awk 'NR % 23 == 0' "all.$side" >"val.$side" && awk 'NR % 23 != 0' "all.$side" >"train.$side" || return 1
        for set in TED.dev2010 TEDX.dev2012 TED.tst2010 TED.tst2011 TED.tst2012; do
            segments "de-en/IWSLT14.$set.de-en.$side.xml" | sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' || return 1
        done >"test.$side"
    done
}

arrange_wmt14() {
    local side
    for side in en de; do
        cat "training/europarl-v7.de-en.$side" "commoncrawl.de-en.$side" "training/news-commentary-v9.de-en.$side" \
            >"train.$side" && mv "dev/newstest2013.$side" . || return 1
    done
    segments test-full/newstest2014-deen-src.en.sgm >newstest2014.en &&
        segments test-full/newstest2014-deen-ref.de.sgm >newstest2014.de
}

# obtain FILE: FOLDER/FILE with the right checksum.
obtain() {
    local file=${1##*/} url=$base/$1 sum started
    local target=$folder/$file part=$folder/.$file.part
    sum=$(expected_sum "$file")
    if [ -f "$target" ]; then
        if is_whole "$target" "$sum"; then return 0; fi
        say "$target has the wrong checksum; fetching it again"
        rm -f "$target"
    fi
    while :; do
        started=$(size_of "$part")
        if ! is_whole "$part" "$sum"; then
            if [ "$started" -gt 0 ]; then
                say "continuing $url at byte $started"
            else
                say "fetching $url"
            fi
            if ! fetch "$url" "$part"; then
                advice "$url" "$target"
                die "could not fetch $url"
            fi
            if ! is_whole "$part" "$sum"; then
                local got
                got=$(actual_sum "$part" "$sum")
                rm -f "$part"
                if [ "$started" -gt 0 ]; then
                    say "the continued file has the wrong checksum; starting again"
                    continue
                fi
                advice "$url" "$target"
                die "$file: wrong checksum: $(kind_of_sum "$sum") $got, expected $sum; the file was removed"
            fi
        fi
        mv "$part" "$target"
        return 0
    done
}

# Is all in FOLDER that the archive holds?
unpacked() {
    local entry
    for entry in "${inside[@]}"; do [ -e "$folder/$entry" ] || return 1; done
}

# unpack ARCHIVE...: makes each of FOLDER/$inside, complete or not at all.
unpack() {
    local entry archive
    scratch=$(mktemp -d "$folder/.unpack.XXXXXX")
    for archive in "$@"; do
        say "unpacking $archive"
        case $archive in
        *.zip) unzip -q "$folder/$archive" -d "$scratch" ;;
        *) tar -xzf "$folder/$archive" -C "$scratch" --no-same-owner ;;
        esac || die "cannot unpack $folder/$archive (a full disk?)"
    done
    if declare -F "arrange_$name" >/dev/null; then
        (cd "$scratch" && "arrange_$name") || die "the archives of $name hold other files than those known"
    fi
    for entry in "${inside[@]}"; do
        [ -s "$scratch/$entry" ] || [ -d "$scratch/$entry" ] || die "$* holds no $entry"
    done
    for entry in "${inside[@]}"; do # what is there already is whole: it was moved so
        [ -e "$folder/$entry" ] || mv -T "$scratch/$entry" "$folder/$entry"
    done
    rm -rf "$scratch"
    for archive in "$@"; do rm -f "${folder:?}/$archive"; done
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
folder=${2:-$usual}
base=${PLUMB_DATA_URL:-$home}
base=${base%/}
scratch=
trap 'if [ -n "$scratch" ]; then rm -rf "$scratch"; fi' EXIT

if [ ${#inside[@]} -gt 0 ] && unpacked; then
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
if [ ${#inside[@]} -gt 0 ] && ! unpacked; then unpack "${files[@]##*/}"; fi
say "$name is in $folder"
