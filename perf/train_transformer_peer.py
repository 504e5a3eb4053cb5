#!/usr/bin/env python3
"""Training steps of a Transformer in PyTorch, timed: the work of perf/train_transformer.c. Prints one JSON object.

What is fastest in PyTorch on a CPU: layers of one's own with queries, keys and values in one product; in float32
scaled_dot_product_attention, in bfloat16 (autocast) plain products, since the backward of the former is several times
slower there; the loss of real tokens only; fused Adam. --attention chooses the other.
"""

import argparse
import json
import math
import os
import time
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

SMOOTHING, START = 0.1, 1


class Attention(nn.Module):
    def __init__(self, width, heads, fused, own):
        super().__init__()
        self.heads, self.own = heads, own
        self.project = nn.Linear(width, (3 if fused else 1) * width)
        self.memory = None if fused else nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def split(self, x, parts):
        rows, positions, _ = x.shape
        return x.view(rows, positions, parts, self.heads, -1).permute(2, 0, 3, 1, 4)

    def forward(self, x, memory, mask, causal=False):
        if memory is None:
            query, key, value = self.split(self.project(x), 3)
        else:
            (query,) = self.split(self.project(x), 1)
            key, value = self.split(self.memory(memory), 2)
        if self.own:
            weights = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            weights = (weights if mask is None else weights + mask).softmax(-1)
            made = weights.to(value.dtype) @ value
        else:
            made = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.out(made.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, chosen, decodes):
        super().__init__()
        width, self.dropout = chosen.width, chosen.dropout
        self.attention = Attention(width, chosen.heads, True, chosen.attention == "own")
        self.cross = Attention(width, chosen.heads, False, chosen.attention == "own") if decodes else None
        self.first, self.second = nn.Linear(width, chosen.inner), nn.Linear(chosen.inner, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if decodes else 2))

    def join(self, norm, x, made):
        return self.norms[norm](x + functional.dropout(made, self.dropout))

    def forward(self, x, mask, memory=None, memory_mask=None):
        causal = memory is not None and not self.attention.own
        x = self.join(0, x, self.attention(x, None, None if causal else mask, causal))
        if memory is not None:
            x = self.join(1, x, self.cross(x, memory, memory_mask))
        return self.join(-1, x, self.second(functional.relu(self.first(x))))


class Network(nn.Module):
    def __init__(self, chosen):
        super().__init__()
        self.width, self.dropout = chosen.width, chosen.dropout
        self.embedding = nn.Parameter(torch.randn(chosen.vocabulary, chosen.width) / math.sqrt(chosen.width))
        self.encoder = nn.ModuleList(Layer(chosen, False) for _ in range(chosen.layers))
        self.decoder = nn.ModuleList(Layer(chosen, True) for _ in range(chosen.layers))
        place = torch.arange(1024.0)[:, None]
        rate = torch.exp(torch.arange(0, chosen.width, 2.0) * (-math.log(10000) / chosen.width))
        self.register_buffer("positions", torch.stack([(place * rate).sin(), (place * rate).cos()], 2).flatten(1))

    def embed(self, ids):
        x = functional.embedding(ids, self.embedding) * math.sqrt(self.width) + self.positions[: ids.shape[1]]
        return functional.dropout(x, self.dropout)

    def forward(self, batch):
        memory, x = self.embed(batch.source), self.embed(batch.target)
        for layer in self.encoder:
            memory = layer(memory, batch.source_mask)
        for layer in self.decoder:
            x = layer(x, batch.causal_mask, memory, batch.source_mask)
        return x.flatten(0, 1)[batch.real] @ self.embedding.t()


class Batch:
    """Pairs of sentences, padded to the longest of each side."""

    def __init__(self, pairs):
        source = [torch.tensor(pair[0]) for pair in pairs]
        label = [torch.tensor(pair[1]) for pair in pairs]
        pad = nn.utils.rnn.pad_sequence
        self.source = pad(source, batch_first=True)
        labels = pad(label, batch_first=True, padding_value=-1)
        self.target = pad([torch.cat([torch.tensor([START]), ids[:-1]]) for ids in label], batch_first=True)
        length = torch.tensor([len(ids) for ids in source])
        positions = torch.arange(self.source.shape[1])
        self.source_mask = torch.zeros(len(pairs), 1, 1, len(positions))
        self.source_mask.masked_fill_((positions >= length[:, None])[:, None, None], -math.inf)
        self.causal_mask = torch.full([labels.shape[1]] * 2, -math.inf).triu(1)
        self.real = (labels.flatten() >= 0).nonzero()[:, 0]
        self.label = labels.flatten()[self.real]


def read_batches(path):
    """The form of train_transformer's --batches."""
    with open(path, encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    pairs = [[line.split("\t") for line in block.split("\n") if line] for block in blocks]
    return [Batch([[list(map(int, half.split())) for half in pair] for pair in block]) for block in pairs if block]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", required=True, help="as perf/train_transformer.c describes")
    parser.add_argument("--vocabulary", type=int, default=10000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--inner", type=int, default=2048)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--attention", choices=["fused", "own"], help="default: the faster")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each batch")
    parser.add_argument("--warmup", type=int, default=1)
    chosen = parser.parse_args()
    chosen.attention = chosen.attention or ("own" if chosen.dtype == "bfloat16" else "fused")
    return chosen


def main():
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    net = Network(chosen).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    batches = read_batches(chosen.batches)
    seconds, processor = [[] for _ in batches], 0.0
    for step in range(chosen.warmup + chosen.steps):
        for index, batch in enumerate(batches):
            start, processor_start = time.perf_counter(), time.process_time()
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=chosen.dtype == "bfloat16"):
                logits = net(batch)
            loss = functional.cross_entropy(logits.float(), batch.label, label_smoothing=SMOOTHING)
            loss.backward()
            optimizer.step()
            value = loss.item()
            if step >= chosen.warmup:
                seconds[index].append(time.perf_counter() - start)
                processor += time.process_time() - processor_start
    tokens = sum(len(batch.label) for batch in batches)
    print(
        json.dumps(
            {
                "program": "torch " + torch.__version__,
                "threads": chosen.threads,
                "compute": chosen.dtype,
                "attention": chosen.attention,
                "batches": len(batches),
                "tokens": tokens,
                "median_target_tokens_per_second": tokens / sum(sorted(each)[len(each) // 2] for each in seconds),
                "best_target_tokens_per_second": tokens / sum(min(each) for each in seconds),
                "target_tokens_per_processor_second": tokens * chosen.steps / processor,
                "parameters": sum(parameter.numel() for parameter in net.parameters()),
                "peak_mib": int(open(f"/proc/{os.getpid()}/status").read().split("VmHWM:")[1].split()[0]) // 1024,
                "loss": value,
            }
        )
    )


if __name__ == "__main__":
    main()
