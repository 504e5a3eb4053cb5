#!/usr/bin/env python3
"""The PyTorch side of perf/time_to_bleu.py: trains the small Transformer of configs/multi30k.yaml and keeps the model of each epoch.

Writes into --output what a run of plumb has: a line of metrics.jsonl an epoch, whose seconds are those of training alone, and
checkpoints/epoch-NNNN.model.safetensors with fairseq's names, which plumb translate takes by --checkpoint. The network is that of
perf/train_transformer_peer.py in its fastest form; its first values are those of models/transformer.h.
"""

import argparse
import gzip
import json
import math
import os
import random
import struct
import sys
import time

import sentencepiece
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from train_transformer_peer import SMOOTHING, Batch, Network  # noqa: E402

END, WARM_UP, RATE, DECAY = 2, 400, 1e-3, 0.7


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--multi30k", required=True, help="the folder of train.en.gz and train.de.gz")
    parser.add_argument("--subwords", required=True, help="the SentencePiece model")
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=0, help="end earlier: after so many steps")
    parser.add_argument("--tokens", type=int, default=2000, help="positions of a batch, of either side")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--attention", default="own", choices=["fused", "own"])
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    # Of configs/multi30k.yaml.
    chosen.width, chosen.inner, chosen.heads, chosen.layers, chosen.dropout = 256, 1024, 4, 3, 0.2
    return chosen


def read_pairs(chosen, pieces):
    sides = []
    for language in ("en", "de"):
        with gzip.open(os.path.join(chosen.multi30k, f"train.{language}.gz"), "rt", encoding="utf-8", newline="\n") as file:
            sides.append([ids + [END] for ids in pieces.encode([line.rstrip("\r\n") for line in file])])
    return list(zip(*sides, strict=True))


def make_batches(pairs, tokens):
    """Of pairs of equal lengths, in another order each epoch, so many that neither side has more positions, padding included."""
    order = random.sample(pairs, len(pairs))
    order.sort(key=lambda pair: (len(pair[1]), len(pair[0])))
    batches, longest = [[]], [0, 0]
    for pair in order:
        longest = [max(longest[side], len(pair[side])) for side in (0, 1)]
        if (len(batches[-1]) + 1) * max(longest) > tokens:
            batches.append([])
            longest = [len(side) for side in pair]
        batches[-1].append(pair)
    random.shuffle(batches)
    return batches


def initialise(net):
    for module in net.modules():
        if isinstance(module, nn.Linear):
            # Queries, keys and values of one matrix [3 width, width], wherever they stand.
            ends = sum(module.weight.shape)
            if module.weight.shape[0] % module.weight.shape[1] == 0 and module.weight.shape[0] in (2 * net.width, 3 * net.width):
                ends = 4 * net.width
            nn.init.uniform_(module.weight, -math.sqrt(6 / ends), math.sqrt(6 / ends))
            nn.init.zeros_(module.bias)
    for layer in net.decoder:
        nn.init.uniform_(layer.cross.project.weight, -math.sqrt(6 / (4 * net.width)), math.sqrt(6 / (4 * net.width)))


def named_weights(net):
    """Of each parameter its name in fairseq; queries, keys and values apart."""
    yield "encoder.embed_tokens.weight", net.embedding
    for stack, layers in (("encoder", net.encoder), ("decoder", net.decoder)):
        for index, layer in enumerate(layers):
            prefix = f"{stack}.layers.{index}."
            parts = [("fc1", layer.first), ("fc2", layer.second)]
            parts += [("self_attn.out_proj", layer.attention.out), ("self_attn_layer_norm", layer.norms[0]), ("final_layer_norm", layer.norms[-1])]
            joint = [("self_attn", "qkv", layer.attention.project)]
            if layer.cross is not None:
                parts += [("encoder_attn.out_proj", layer.cross.out), ("encoder_attn_layer_norm", layer.norms[1])]
                joint += [("encoder_attn", "q", layer.cross.project), ("encoder_attn", "kv", layer.cross.memory)]
            for name, module in parts:
                yield prefix + name + ".weight", module.weight
                yield prefix + name + ".bias", module.bias
            for attention, letters, module in joint:
                for kind in ("weight", "bias"):
                    for letter, part in zip(letters, getattr(module, kind).chunk(len(letters))):
                        yield f"{prefix}{attention}.{letter}_proj.{kind}", part


def write_model(net, path):
    header, data, at = {}, [], 0
    for name, tensor in named_weights(net):
        data.append(tensor.detach().float().contiguous().numpy().tobytes())
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(data[-1])]}
        at += len(data[-1])
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def learning_rate(step, total):
    """Of step 1, 2, ...: schedule linear of engine/optim/schedule.c."""
    done = (step - 1 - (1 - DECAY) * total) / (DECAY * total)
    return RATE * min(step / WARM_UP, 1 - min(max(done, 0), 1))


def train_epoch(chosen, net, optimizer, batches, first, total):
    sums = [0.0, 0]
    for index, pairs in enumerate(batches):
        optimizer.param_groups[0]["lr"] = learning_rate(first + index + 1, total)
        batch = Batch(pairs)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=chosen.dtype == "bfloat16"):
            logits = net(batch)
        loss = functional.cross_entropy(logits.float(), batch.label, label_smoothing=SMOOTHING)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        sums[0] += loss.item() * len(batch.label)
        sums[1] += len(batch.label)
    return sums


def main():
    chosen = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    random.seed(chosen.seed)
    pieces = sentencepiece.SentencePieceProcessor(model_file=chosen.subwords)
    chosen.vocabulary = pieces.get_piece_size()
    pairs = read_pairs(chosen, pieces)
    net = Network(chosen).train()
    initialise(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, betas=(0.9, 0.98), eps=1e-9, fused=True)
    os.makedirs(os.path.join(chosen.output, "checkpoints"))
    done = 0
    for epoch in range(1, chosen.epochs + 1):
        start = time.perf_counter()
        batches = make_batches(pairs, chosen.tokens)
        total = chosen.epochs * len(batches)
        if chosen.steps:
            batches = batches[: chosen.steps - done]
        loss, tokens = train_epoch(chosen, net, optimizer, batches, done, total)
        seconds = time.perf_counter() - start
        done += len(batches)
        write_model(net, os.path.join(chosen.output, "checkpoints", f"epoch-{epoch:04}.model.safetensors"))
        line = {"epoch": epoch, "step": done, "train": {"loss": loss / tokens}, "seconds": seconds, "tokens_per_second": tokens / seconds}
        with open(os.path.join(chosen.output, "metrics.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if chosen.steps and done >= chosen.steps:
            break


if __name__ == "__main__":
    main()
