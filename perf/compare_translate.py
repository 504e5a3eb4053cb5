#!/usr/bin/env python3
"""plumb translate beside CTranslate2 on the same weights and lines, run in turn. Prints Markdown.

    python3 perf/compare_translate.py runs/m30k --source test_2016_flickr.en --reference test_2016_flickr.de
    python3 perf/compare_translate.py runs/base --source test_2016_flickr.en --tokens 14 --compute bfloat16 --peer float32 int8

RUN is a run of plumb train with a SentencePiece model. Its last checkpoint, whose names are fairseq's, becomes a model of
CTranslate2: the same positions, the same vocabulary, the same rules of search (--rules ctranslate2, length penalty alpha 0.6).
plumb has one rank of one thread a core, CTranslate2 one worker of one thread a core.

Seconds are those of the whole text; of plumb, less those of a run that translates one line (its start; CTranslate2 has loaded
its model before). Where other work runs beside, --ranks 1 compares processor time, which it lengthens least. Tokens are those of the hypotheses given back, without end tokens. --tokens N: every translation has N of
them, as weights of a short training end anywhere. The Python needs ctranslate2, sentencepiece and numpy.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import ctranslate2
import numpy
import sentencepiece

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--source", required=True)
    parser.add_argument("--reference", help="without it no BLEU")
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "plumb"))
    parser.add_argument("--compute", nargs="+", default=["float32"], help="plumb's: float32, bfloat16")
    parser.add_argument("--peer", nargs="+", default=["float32"], help="CTranslate2's: float32, int8")
    parser.add_argument("--batch", type=int, default=32, help="sentences at a time, of both")
    parser.add_argument("--ranks", type=int, default=os.cpu_count())
    parser.add_argument("--rules", default="ctranslate2", help="plumb's; others than CTranslate2's give other texts")
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


# ---- the model of CTranslate2 ----


def read_weights(run):
    folder = os.path.join(run, "checkpoints")
    files = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if re.fullmatch(r"step-\d+\.model\.safetensors", name)]
    if not files:
        sys.exit(f"compare_translate.py: {folder} holds no checkpoint")
    with open(files[-1], "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    return {
        name: numpy.frombuffer(data[slice(*tensor["data_offsets"])], numpy.float32).reshape(tensor["shape"])
        for name, tensor in header.items()
        if tensor["dtype"] == "F32"
    }


def set_linear(spec, weights, names):
    """Some layers side by side."""
    spec.weight = numpy.concatenate([weights[f"{name}.weight"] for name in names])
    if f"{names[0]}.bias" in weights:
        spec.bias = numpy.concatenate([weights[f"{name}.bias"] for name in names])


def set_norm(spec, weights, name):
    spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]


def set_attention(spec, weights, name, parts):
    for linear, layers in zip(spec.linear, parts):
        set_linear(linear, weights, [f"{name}.{layer}" for layer in layers])
    set_norm(spec.layer_norm, weights, f"{name}_layer_norm")


def set_layer(spec, weights, name, decodes):
    set_attention(spec.self_attention, weights, f"{name}.self_attn", [["q_proj", "k_proj", "v_proj"], ["out_proj"]])
    if decodes:
        set_attention(spec.attention, weights, f"{name}.encoder_attn", [["q_proj"], ["k_proj", "v_proj"], ["out_proj"]])
    set_linear(spec.ffn.linear_0, weights, [f"{name}.fc1"])
    set_linear(spec.ffn.linear_1, weights, [f"{name}.fc2"])
    set_norm(spec.ffn.layer_norm, weights, f"{name}.final_layer_norm")


def positions(count, width):
    """Interleaved sines and cosines, as plumb's default."""
    angles = numpy.arange(count)[:, None] * 10000.0 ** -(numpy.arange(width // 2) / (width / 2))
    table = numpy.empty((count, width), numpy.float32)
    table[:, 0::2], table[:, 1::2] = numpy.sin(angles), numpy.cos(angles)
    return table


def convert(run, model, folder):
    weights = read_weights(run)
    with open(os.path.join(run, "config.yaml"), encoding="utf-8") as config:
        text = config.read()
    heads = int(re.search(r"heads: (\d+)", text).group(1))
    if "halves" in text or "learned" in text or "pre_norm: true" in text:
        sys.exit("compare_translate.py: positions must be interleaved, and layers post-norm")
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("decoder.layers."))
    spec = ctranslate2.specs.TransformerSpec.from_config(layers, heads, pre_norm=False)
    table = weights["encoder.embed_tokens.weight"]
    for stack, embeddings, name in ((spec.encoder, spec.encoder.embeddings[0], "encoder"), (spec.decoder, spec.decoder.embeddings, "decoder")):
        embeddings.weight = table
        stack.position_encodings.encodings = positions(512, table.shape[1])
        for index, layer in enumerate(stack.layer):
            set_layer(layer, weights, f"{name}.layers.{index}", name == "decoder")
    spec.decoder.projection.weight = table
    pieces = SPECIAL + [model.id_to_piece(i) for i in range(len(SPECIAL), model.get_piece_size())]
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.add_source_eos = True
    spec.config.decoder_start_token = "<s>"
    spec.validate()
    spec.optimize()
    os.makedirs(folder)
    spec.save(folder)
    return f"{layers}+{layers} layers, width {table.shape[1]}, {table.shape[0]:,} pieces"


# ---- the two programs ----


def clocks(chosen, who):
    """Seconds on the clock, or with one rank of the processor (who: resource.RUSAGE_...)."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime if chosen.ranks == 1 else time.monotonic()


class Peer:
    def __init__(self, folder, compute, chosen, model, lines):
        self.name = f"CTranslate2 {ctranslate2.__version__}, {compute}"
        self.model, self.chosen = model, chosen
        self.source = [model.encode(line, out_type=str) for line in lines]
        self.translator = ctranslate2.Translator(folder, device="cpu", compute_type=compute, inter_threads=chosen.ranks, intra_threads=1)
        self.seconds = []

    def run(self):
        length = {"max_decoding_length": 256}
        if self.chosen.tokens:
            length = {"max_decoding_length": self.chosen.tokens, "min_decoding_length": self.chosen.tokens}
        begun = clocks(self.chosen, resource.RUSAGE_SELF)
        results = self.translator.translate_batch(self.source, beam_size=4, length_penalty=0.6, max_batch_size=self.chosen.batch, **length)
        self.seconds.append(clocks(self.chosen, resource.RUSAGE_SELF) - begun)
        tokens = [result.hypotheses[0] for result in results]
        return [self.model.decode(one) for one in tokens], sum(map(len, tokens))


class Plumb:
    def __init__(self, compute, chosen, lines):
        self.name = f"plumb, {compute}"
        self.chosen = chosen
        rank = ["mpirun", "--allow-run-as-root", "--bind-to", "core", "-n", str(chosen.ranks)] if chosen.ranks > 1 else []
        length = ["--max-length", "256"]
        if chosen.tokens:
            length = ["--max-length", str(chosen.tokens), "--min-length", str(chosen.tokens - 1), "--limit", "cut"]
        self.command = rank + [chosen.program, "translate", chosen.run, "--rules", chosen.rules, "--compute", compute, "--batch", str(chosen.batch)] + length
        self.lines, self.seconds, self.tokens = lines, [], chosen.tokens * len(lines)
        self.environment = dict(os.environ, OMP_NUM_THREADS="1")

    def translate(self, lines, *options):
        begun = clocks(self.chosen, resource.RUSAGE_CHILDREN)
        done = subprocess.run(self.command + list(options), input="\n".join(lines) + "\n", env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.split("\n")[:-1], clocks(self.chosen, resource.RUSAGE_CHILDREN) - begun

    def run(self):
        if not self.tokens:
            for line in self.translate(self.lines, "--json")[0]:
                best = json.loads(line)["hypotheses"][0]
                self.tokens += len(best["tokens"]) - best["ended"]
        _, start = self.translate(self.lines[:1])
        text, seconds = self.translate(self.lines)
        self.seconds.append(seconds - start)
        return text, self.tokens


def bleu(program, reference, lines):
    done = subprocess.run([program, "bleu", reference, "-b", "-w", "2"], input="\n".join(lines) + "\n", stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def main():
    chosen = arguments()
    with open(chosen.source, encoding="utf-8") as source:
        lines = source.read().split("\n")[:-1]
    model = sentencepiece.SentencePieceProcessor(model_file=os.path.join(chosen.run, "subwords.model"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.path.join(scratch, "model")
        what = convert(chosen.run, model, folder)
        mine = [Plumb(compute, chosen, lines) for compute in chosen.compute]
        peers = [Peer(folder, compute, chosen, model, lines) for compute in chosen.peer]
        results = {}
        for _ in range(chosen.rounds):
            for one in peers + mine:
                results[one] = one.run()
    peer_texts = [results[peer][0] for peer in peers]
    print(f"{what}; {len(lines):,} lines, beam 4, {chosen.batch} sentences at a time, {chosen.ranks} of one thread, medians of {chosen.rounds} in turn\n")
    seconds = "processor second" if chosen.ranks == 1 else "second"
    print(f"| | output tokens a {seconds} | BLEU | lines as " + " | lines as ".join(peer.name for peer in peers) + " | " + " | ".join(f"times {peer.name}" for peer in peers) + " |")
    print("|" + "---|" * (3 + 2 * len(peers)))
    speed = {one: results[one][1] / statistics.median(one.seconds) for one in results}
    for one in peers + mine:
        text, tokens = results[one]
        score = f"{bleu(chosen.program, chosen.reference, text):.2f}" if chosen.reference else ""
        same = [f"{sum(a == b for a, b in zip(text, other)):,}" for other in peer_texts]
        ratios = [f"{speed[one] / speed[peer]:.2f}" for peer in peers]
        print(f"| {one.name} | {speed[one]:,.0f} ({tokens:,} tokens) | {score} | " + " | ".join(same) + " | " + " | ".join(ratios) + " |")


if __name__ == "__main__":
    main()
