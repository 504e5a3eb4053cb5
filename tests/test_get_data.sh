#!/usr/bin/env bash
# launch/get_data.sh against a server on loopback: whole, resumed, broken, wrong and repeated downloads.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
get_data=$here/../launch/get_data.sh
for program in python3 curl md5sum flock unzip; do
    if ! command -v "$program" >/dev/null; then
        echo "skipped: $program is missing"
        exit 77
    fi
done

work=$(mktemp -d "${TMPDIR:-/tmp}/plumb-test-XXXXXX")
server=
trap 'if [ -n "$server" ]; then kill "$server"; fi; rm -rf "$work"' EXIT
cd "$work"
export PLUMB_DATA_TRIES=2 no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

# ---- What is served: archives in the shape of the real ones ----

mkdir -p serve make/cifar-10-batches-bin make/tiny-imagenet-200/val
for i in 1 2 3 4 5; do head -c 6146 /dev/urandom >"make/cifar-10-batches-bin/data_batch_$i.bin"; done
head -c 6146 /dev/urandom >make/cifar-10-batches-bin/test_batch.bin
tar -czf serve/cifar-10-binary.tar.gz -C make cifar-10-batches-bin
printf 'n01\nn02\n' >make/tiny-imagenet-200/wnids.txt
printf 'val_0.JPEG\tn01\n' >make/tiny-imagenet-200/val/val_annotations.txt
(cd make && python3 -m zipfile -c ../serve/tiny-imagenet-200.zip tiny-imagenet-200)
for file in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
    head -c 3000 /dev/urandom | gzip >"serve/$file.gz"
done
mkdir -p make/20news-bydate-train/sci.med make/20news-bydate-test/sci.med make/20_newsgroups/sci.med make/trees
for part in 20news-bydate-train 20news-bydate-test 20_newsgroups; do echo "$part" >"make/$part/sci.med/1"; done
tar -czf serve/20news-bydate.tar.gz -C make 20news-bydate-train 20news-bydate-test
tar -czf serve/20news-19997.tar.gz -C make 20_newsgroups
echo '(2 (2 a) (2 b))' | tee make/trees/train.txt make/trees/dev.txt >make/trees/test.txt
(cd make && python3 -m zipfile -c ../serve/trainDevTestTrees_PTB.zip trees)
for size in 50 100 200 300; do echo "the $size" >"make/glove.6B.${size}d.txt"; done
echo "The 300" >make/glove.840B.300d.txt
(cd make && python3 -m zipfile -c ../serve/glove.6B.zip glove.6B.*.txt && python3 -m zipfile -c ../serve/glove.840B.300d.zip glove.840B.300d.txt)
mkdir -p make/other && head -c 3000 /dev/urandom >make/other/file
tar -czf serve/cifar-100-binary.tar.gz -C make other # not the folder that CIFAR-100's archive holds
mkdir -p make/m make/w/training make/w/dev make/w/test-full
for side in en de; do
    for part in train val test; do echo "$part $side" >"make/m/$part.$side"; done
    echo debris >"make/m/._test.$side"
    for part in training/europarl-v7 commoncrawl training/news-commentary-v9; do echo "$part $side" >"make/w/$part.de-en.$side"; done
    echo "dev $side" >"make/w/dev/newstest2013.$side"
done
printf '<doc>\n<seg id="1">One &amp; two</seg>\n<seg id="2">3</seg>\n</doc>\n' >make/w/test-full/newstest2014-deen-src.en.sgm
printf '<seg id="1">Eins</seg>\n<seg id="2">Drei</seg>\n' >make/w/test-full/newstest2014-deen-ref.de.sgm
tar -czf serve/training.tar.gz -C make/m train.en train.de
tar -czf serve/validation.tar.gz -C make/m val.en val.de
tar -czf serve/mmt16_task1_test.tar.gz -C make/m ._test.en test.en ._test.de test.de
tar -czf serve/training-parallel-europarl-v7.tgz -C make/w training/europarl-v7.de-en.en training/europarl-v7.de-en.de
tar -czf serve/training-parallel-commoncrawl.tgz -C make/w commoncrawl.de-en.en commoncrawl.de-en.de
tar -czf serve/training-parallel-nc-v9.tgz -C make/w training/news-commentary-v9.de-en.en training/news-commentary-v9.de-en.de
tar -czf serve/dev.tgz -C make/w dev
tar -czf serve/test-full.tgz -C make/w test-full
mkdir -p make/i/de-en
for side in en de; do
    { printf '<url>u</url>\n<talkid>1</talkid>\n<title>A talk</title>\n' && seq 2 46 | sed "s/.*/  line & $side /"; } >"make/i/de-en/train.tags.de-en.$side"
    for set in TED.dev2010 TEDX.dev2012 TED.tst2010 TED.tst2011 TED.tst2012; do
        printf '<doc>\n<seg id="1"> %s %s </seg>\n</doc>\n' "$set" "$side" >"make/i/de-en/IWSLT14.$set.de-en.$side.xml"
    done
done
tar -czf serve/de-en.tgz -C make/i de-en
sums() { find serve -type f -exec "$1" {} + | sed 's#  .*/#  #'; }
sums md5sum >checksums
export PLUMB_DATA_CHECKSUMS=$work/checksums

: >log
python3 "$here/range_server.py" serve log >port &
server=$!
for _ in $(seq 600); do
    [ -s port ] && break
    sleep 0.1
done
address=http://127.0.0.1:$(cat port)

# ---- Checks ----

failures=0
check() { # DESCRIPTION COMMAND...
    local what=$1
    shift
    if "$@"; then
        echo "ok: $what"
    else
        echo "FAILED: $what"
        sed 's/^/    | /' output
        failures=$((failures + 1))
    fi
}
get() { # MODE NAME [FOLDER]: runs the script; its exit code is left in $code, what it says in the file output
    local mode=$1
    shift
    : >log
    code=0
    PLUMB_DATA_URL=$address/$mode "$get_data" "$@" >output 2>&1 || code=$?
}
succeeded() { [ "$code" -eq 0 ]; }
failed() { [ "$code" -eq 1 ]; }
says() { grep -qF -- "$1" output; }
asked() { grep -qF -- "$1" log; }
asked_nothing() { [ ! -s log ]; }
whole() { diff -r make/cifar-10-batches-bin "$1/cifar-10-batches-bin" >/dev/null; }
tidy() { [ "$(find "$1" -mindepth 1 -maxdepth 1 ! -name .lock | wc -l)" -eq "$2" ]; } # FOLDER ENTRIES

part=.cifar-10-binary.tar.gz.part
size=$(stat -c %s serve/cifar-10-binary.tar.gz)

get good cifar10
check "a set is fetched to its usual place" succeeded
check "and is what was served" whole data/cifar10
check "and nothing else is left" tidy data/cifar10 1
get good cifar10
check "a set that is there is not fetched again" succeeded
check "nor is the server asked" asked_nothing
check "which is said" says "cifar10 is already in data/cifar10"

mkdir resumed && head -c 1234 serve/cifar-10-binary.tar.gz >resumed/$part
get good cifar10 resumed
check "a partial file is continued" succeeded
check "from where it stopped" asked "bytes=1234-"
check "to the right end" whole resumed

get drop cifar10 dropped
check "a server that drops connections is outlasted" succeeded
check "by continuing" asked "bytes=3000-"
check "to the right end" whole dropped

mkdir unranged && head -c 1234 serve/cifar-10-binary.tar.gz >unranged/$part
get whole cifar10 unranged
check "a server without ranges is asked from the start" succeeded
check "to the right end" whole unranged

get busy cifar10 busy
check "a server that is busy for a moment is asked again" succeeded
check "to the right end" whole busy

mkdir garbled && head -c 1234 /dev/urandom >garbled/$part
get good cifar10 garbled
check "a continued file that turns out wrong is fetched anew" succeeded
check "which is said" says "starting again"
check "to the right end" whole garbled

mkdir full && cp serve/cifar-10-binary.tar.gz full/$part
get good cifar10 full
check "a complete partial file is not fetched again" succeeded
check "nor is the server asked" asked_nothing
check "and is unpacked" whole full

mkdir long && cat serve/cifar-10-binary.tar.gz serve/cifar-10-binary.tar.gz >long/$part
get good cifar10 long
check "a partial file that is too long is fetched anew" succeeded
check "after asking beyond its end" asked "bytes=$((2 * size))-"
check "to the right end" whole long

mkdir brought && cp serve/cifar-10-binary.tar.gz brought/
get good cifar10 brought
check "an archive fetched by other means is taken" succeeded
check "without the server" asked_nothing
check "and unpacked" whole brought

mkdir -p killed/.unpack.abcdef/cifar-10-batches-bin
get good cifar10 killed
check "what a killed run left is swept away" tidy killed 1
check "and the set is whole" whole killed

cp checksums right && sed -i 's/^[0-9a-f]*/ffffffffffffffffffffffffffffffff/' checksums
get good cifar10 wrong
check "a wrong checksum is an error" failed
check "with both sums" says "wrong checksum: MD5 $(awk '/cifar-10-/ { print $1 }' right), expected ffff"
check "and nothing of it is kept" tidy wrong 0
cp right checksums

PLUMB_DATA_CHECKSUMS='' get good cifar10 published
check "the published checksum is the one that is checked by default" failed
check "for CIFAR-10" says "expected c32a1d4ab5d03f1284b67883e8d87530"
PLUMB_DATA_CHECKSUMS='' get good tiny_imagenet published
check "for Tiny-ImageNet" says "expected 90528d7ca1a48142e341f4ef8d21d0de"
PLUMB_DATA_CHECKSUMS='' get good cifar100 published
check "for CIFAR-100" says "expected 03b5dce01913d631647c71ecec9e9cb8"

PLUMB_DATA_CHECKSUMS='' get good newsgroups published
check "for 20 Newsgroups by date" says "expected 8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610"
PLUMB_DATA_CHECKSUMS='' get good newsgroups_19997 published
check "for all of it" says "expected ab7bbf82b7831f7dbb1a09d9312f66fa78565c8de25526999b0d66f69d37e414"
PLUMB_DATA_CHECKSUMS='' get good sst published
check "for the treebank" says "expected 5c613a4f673fc74097d523a2c83f38e0cc462984d847b82c7aaf36b01cbbbfcc"
PLUMB_DATA_CHECKSUMS='' get good glove_6b published
check "for GloVe 6B" says "expected 617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb"
PLUMB_DATA_CHECKSUMS='' get good glove_840b published
check "for GloVe 840B" says "expected c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f"

get good tiny_imagenet
check "a zip archive is unpacked" succeeded
check "to what was served" diff -r make/tiny-imagenet-200 data/tiny_imagenet/tiny-imagenet-200

get good newsgroups
check "two folders of one archive are unpacked" succeeded
check "the first" diff -r make/20news-bydate-train data/newsgroups/20news-bydate-train
check "and the second" diff -r make/20news-bydate-test data/newsgroups/20news-bydate-test
get good newsgroups
check "and are there the next time" says "newsgroups is already in data/newsgroups"
get good newsgroups_19997
check "another layout goes beside them" diff -r make/20_newsgroups data/newsgroups/20_newsgroups
check "and nothing else is left" tidy data/newsgroups 3
mkdir half && cp -r make/20news-bydate-train serve/20news-bydate.tar.gz half/ && echo mine >half/20news-bydate-train/mine
get good newsgroups half
check "after one folder the other is still unpacked" diff -r make/20news-bydate-test half/20news-bydate-test
check "and the first stays as it is" test -f half/20news-bydate-train/mine
get good sst
check "trees are unpacked" diff -r make/trees data/sst/trees
get good multi30k
check "three archives are one data set" succeeded
check "whose files have the names that are looked for" cmp make/m/test.de data/multi30k/test_2016_flickr.de
check "and nothing else is left" tidy data/multi30k 6
get good multi30k
check "which is there the next time" says "multi30k is already in data/multi30k"
get good iwslt14
check "talks are unpacked" succeeded
check "without their tags, but for every 23rd line" test "$(sed -n '1p;2p;23p;$p' data/iwslt14/train.de | tr '\n' ,)" = "A talk,line 2 de,line 24 de,line 45 de,"
check "which is for validation" test "$(tr '\n' , <data/iwslt14/val.en)" = "line 23 en,line 46 en,"
check "and the test sets are one" test "$(tr '\n' , <data/iwslt14/test.en)" = "TED.dev2010 en,TEDX.dev2012 en,TED.tst2010 en,TED.tst2011 en,TED.tst2012 en,"
check "and nothing else is left" tidy data/iwslt14 6
get good wmt14
check "archives of several folders, too" succeeded
check "the corpora are one, in their order" test "$(cat data/wmt14/train.de)" = "$(cat make/w/training/europarl-v7.de-en.de make/w/commoncrawl.de-en.de make/w/training/news-commentary-v9.de-en.de)"
check "segments are lines" test "$(cat data/wmt14/newstest2014.en)" = "$(printf 'One &amp; two\n3')"
check "and nothing else is left" tidy data/wmt14 6
get good glove_6b
check "an archive of files is unpacked" succeeded
for size in 50 100 200 300; do
    check "to each file" cmp "make/glove.6B.${size}d.txt" "data/glove/glove.6B.${size}d.txt"
done
get good glove_840b
check "and other vectors beside them" cmp make/glove.840B.300d.txt data/glove/glove.840B.300d.txt
check "and nothing else is left" tidy data/glove 5
sums sha256sum >longer && cp checksums shorter && cp longer checksums
get good sst summed
check "SHA-256 is another kind of checksum" diff -r make/trees summed/trees
sed -i 's/^[0-9a-f]*/ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff/' checksums
get good sst summed_wrong
check "a wrong one is an error" failed
check "with both sums" says "wrong checksum: SHA-256 $(awk '/PTB/ { print $1 }' longer), expected ffff"
cp shorter checksums

get good fashion_mnist images
check "four files are fetched as they are" succeeded
check "all four" tidy images 4
check "as they were served" cmp serve/t10k-labels-idx1-ubyte.gz images/t10k-labels-idx1-ubyte.gz
printf x >>images/t10k-labels-idx1-ubyte.gz
get good fashion_mnist images
check "a damaged one is fetched again" cmp serve/t10k-labels-idx1-ubyte.gz images/t10k-labels-idx1-ubyte.gz
check "and only that" test "$(wc -l <log)" -eq 1

get good cifar100 other
check "an archive without its folder is an error" failed
check "which names the folder" says "holds no cifar-100-binary"

mkdir reserved && : >reserved/.lock
(
    exec 9>reserved/.lock
    flock 9
    get good cifar10 reserved
    check "a folder is filled by one at a time" failed
    check "which is said" says "another get_data.sh is filling reserved"
    exit "$failures"
) || failures=$((failures + 1))

rm serve/cifar-10-binary.tar.gz
get good cifar10 absent
check "a file that the server lacks is an error" failed
check "after one question" test "$(wc -l <log)" -eq 1
check "which names the address" says "$address/good/cifar-10-binary.tar.gz: the server answers 404"
check "and says what to do" says "set PLUMB_DATA_URL to a mirror"

kill "$server"
wait "$server" 2>/dev/null || true
server=
mkdir unreachable && printf 1234 >unreachable/$part
get good cifar10 unreachable
check "a server that cannot be reached is an error" failed
check "and says what to do" says "run the same command again"
check "and what was fetched before is kept" test "$(cat unreachable/$part)" = 1234

code=0
"$get_data" >output 2>&1 || code=$?
check "no name is a usage error" test "$code" -eq 2
code=0
"$get_data" cifar11 >output 2>&1 || code=$?
check "nor is an unknown one a name" test "$code" -eq 2
check "and the names are listed" says tiny_imagenet
code=0
"$get_data" --help >output 2>&1 || code=$?
check "help is no error" succeeded

echo "$failures failures"
[ "$failures" -eq 0 ]
