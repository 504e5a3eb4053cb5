#!/usr/bin/env python3
"""plumb data encode beside SentencePiece's own encoder on the same sentences, subwords and threads, in turn. Prints Markdown.

    python3 perf/compare_encode.py --model runs/m30k/subwords.model --sides europarl.en.gz europarl.de.gz --sides ted.en.gz ted.de.gz

The sentences are those of the files, repeated up to --sentences of both sides together; a few repetitions help plumb's cache of
words, many flatter it, so their number is printed. plumb reads text files and leaves an encoded corpus; its seconds are those of
the whole command. SentencePiece (its Python) has the lines in memory and gives lists of ids; loading is not counted. Seconds
are of the processor, of all threads, which work beside lengthens least.
"""

import argparse
import gzip
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

import sentencepiece

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a SentencePiece model with plumb's special ids: subwords.model of a run")
    parser.add_argument("--sides", nargs=2, action="append", required=True, metavar=("EN", "DE"))
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "plumb"))
    parser.add_argument("--sentences", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def read_lines(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="\n") as file:
        return file.read().split("\n")[:-1]


def write_corpus(chosen, folder):
    """(sentences of both sides, how often the files were repeated)"""
    sides = [[line for pair in chosen.sides for line in read_lines(pair[side])] for side in range(2)]
    if len(sides[0]) != len(sides[1]):
        sys.exit("compare_encode.py: the sides have different numbers of lines")
    pairs = chosen.sentences // 2
    repeated = [list(itertools.islice(itertools.cycle(side), pairs)) for side in sides]
    for side, language in zip(repeated, ("en", "de")):
        with open(f"{folder}/train.{language}", "w", encoding="utf-8", newline="\n") as file:
            file.writelines(line + "\n" for line in side)
    return repeated[0] + repeated[1], pairs / len(sides[0])


def used(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def encode(chosen, folder):
    """Seconds of plumb, into an empty cache."""
    shutil.rmtree(f"{folder}/cache", ignore_errors=True)
    settings = [f"dataset.folder={folder}", f"dataset.cache={folder}/cache", f"subwords.file={os.path.abspath(chosen.model)}"]
    settings += ["dataset.train_files=train", "dataset.validation_files=none", "dataset.test_files=none"]
    command = [chosen.program, "data", "encode", f"{ROOT}/configs/multi30k.yaml", "dataset.name=parallel"] + settings
    begun = used(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=dict(os.environ, OMP_NUM_THREADS=str(chosen.threads)), stdout=subprocess.DEVNULL, check=True)
    return used(resource.RUSAGE_CHILDREN) - begun


def main():
    chosen = arguments()
    model = sentencepiece.SentencePieceProcessor(model_file=chosen.model)
    mine, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        lines, repetitions = write_corpus(chosen, folder)
        for _ in range(chosen.rounds):
            mine.append(encode(chosen, folder))
            begun = used(resource.RUSAGE_SELF)
            model.encode(lines, out_type=int, num_threads=chosen.threads)
            theirs.append(used(resource.RUSAGE_SELF) - begun)
    count = len(lines)
    print(f"{count:,} sentences (the files {repetitions:.1f} times), {chosen.threads} threads, medians of {chosen.rounds} in turn\n")
    print("| | sentences a processor second |\n|---|---|")
    print(f"| plumb data encode, files in, cache out | {count / statistics.median(mine):,.0f} |")
    print(f"| SentencePiece {sentencepiece.__version__}, in memory | {count / statistics.median(theirs):,.0f} |")
    print(f"| ratio | {statistics.median(theirs) / statistics.median(mine):.2f} |")


if __name__ == "__main__":
    main()
