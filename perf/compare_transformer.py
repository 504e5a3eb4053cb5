#!/usr/bin/env python3
"""Training steps of Transformer base beside PyTorch's, on the same real batches, run in turn. Prints Markdown.

    python3 perf/compare_transformer.py --multi30k FOLDER --batches batches.txt     writes the batches, if they are not there

Needs the program train_transformer (cmake -DPLUMB_PERF=ON) and a Python with torch; making the batches also sentencepiece.
FOLDER holds train.en.gz and train.de.gz. Its sentences are cut into pieces by one BPE of both sides, sorted by (target,
source) length and dealt into batches of at most 2,000 target tokens, of which those at evenly spaced quantiles are timed.
A larger vocabulary is a larger matrix; the ids stay those of the 10,000 pieces. Only real target tokens are counted.
"""

import argparse
import gzip
import io
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PIECES, TOKENS, END = 10000, 2000, 2
# The least that is wanted of the ratio, and what to reach for.
WANTED = {
    ("float32", 10000): (1.15, 1.25),
    ("float32", 32000): (1.15, 1.3),
    ("bfloat16", 10000): (1.6, 2.2),
    ("bfloat16", 32000): (1.8, 2.5),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", required=True, help="the file of batches, made if it does not exist")
    parser.add_argument("--multi30k", help="the folder of the sentences, to make the file")
    parser.add_argument("--count", type=int, default=8, help="batches in a file that is made")
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "perf", "train_transformer"))
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each batch a run")
    parser.add_argument("--pairs", type=int, default=1, help="runs of each program, in turn")
    parser.add_argument("--compute", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--vocabulary", nargs="+", type=int, default=[10000, 32000])
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count processor time, not time: on a machine with other work, with --threads 1",
    )
    return parser.parse_args()


def lines(folder, language):
    with gzip.open(os.path.join(folder, f"train.{language}.gz"), "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def encode(folder):
    """Pairs of ids, each side with the end token."""
    import sentencepiece

    sides, model = [lines(folder, "en"), lines(folder, "de")], io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sides[0] + sides[1]),
        model_writer=model,
        vocab_size=PIECES,
        model_type="bpe",
        character_coverage=1.0,
        pad_id=0,
        bos_id=1,
        eos_id=END,
        unk_id=3,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return list(zip(*([ids + [END] for ids in pieces.encode(side)] for side in sides)))


def make_batches(pairs):
    pairs.sort(key=lambda pair: (len(pair[1]), len(pair[0])))
    batches, tokens = [[]], 0
    for pair in pairs:
        if tokens + len(pair[1]) > TOKENS:
            batches.append([])
            tokens = 0
        batches[-1].append(pair)
        tokens += len(pair[1])
    return batches


def write_batches(chosen):
    batches = make_batches(encode(chosen.multi30k))
    picked = [batches[int((i + 0.5) * len(batches) / chosen.count)] for i in range(chosen.count)]
    with open(chosen.batches, "w", encoding="utf-8") as file:
        for batch in picked:
            for pair in batch:
                file.write("\t".join(" ".join(map(str, ids)) for ids in pair) + "\n")
            file.write("\n")


def describe(path):
    """Real tokens and what padding makes of them."""
    with open(path, encoding="utf-8") as file:
        batches = [block.splitlines() for block in file.read().split("\n\n") if block]
    real, padded, sentences = [0, 0], [0, 0], 0
    for batch in batches:
        lengths = [[len(half.split()) for half in line.split("\t")] for line in batch]
        sentences += len(batch)
        for side in (0, 1):
            real[side] += sum(length[side] for length in lengths)
            padded[side] += len(batch) * max(length[side] for length in lengths)
    return (
        f"{len(batches)} batches, {sentences} sentences, {real[1]} target tokens; "
        f"padding of sources {padded[0] / real[0]:.3f}, of targets {padded[1] / real[1]:.3f}"
    )


def run(command, threads, key):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)[key]


def compare(chosen, compute, vocabulary):
    """Medians of both programs, run in turn, and the median of their ratios."""
    key = "target_tokens_per_processor_second" if chosen.processor_time else "median_target_tokens_per_second"
    shared = ["--batches", chosen.batches, "--vocabulary", str(vocabulary), "--threads", str(chosen.threads)]
    shared += ["--steps", str(chosen.steps)]
    ours = [chosen.program] + shared + (["--bfloat16"] if compute == "bfloat16" else [])
    peer = [chosen.python, os.path.join(HERE, "train_transformer_peer.py")] + shared + ["--dtype", compute]
    pairs = [(run(ours, chosen.threads, key), run(peer, chosen.threads, key)) for _ in range(chosen.pairs)]
    return [
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[0] / pair[1] for pair in pairs),
    ]


def main():
    chosen = arguments()
    if not os.path.exists(chosen.batches):
        if chosen.multi30k is None:
            sys.exit(f"{chosen.batches} does not exist; --multi30k FOLDER would make it")
        write_batches(chosen)
    unit = "processor second" if chosen.processor_time else "second"
    print(f"{describe(chosen.batches)}; {chosen.threads} threads, target tokens a {unit}\n")
    print("| compute | vocabulary | plumb | PyTorch | ratio | at least | to reach |\n|---|---|---|---|---|---|---|")
    for compute in chosen.compute:
        for vocabulary in chosen.vocabulary:
            mine, theirs, ratio = compare(chosen, compute, vocabulary)
            least, reach = WANTED.get((compute, vocabulary), ("", ""))
            print(
                f"| {compute} | {vocabulary:,} | {mine:.1f} | {theirs:.1f} | {ratio:.2f} | {least} | {reach} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
