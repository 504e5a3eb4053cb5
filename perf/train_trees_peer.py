"""The work of perf/train_trees.c in PyTorch: Tree-LSTM training on SST, level by level over a batch of trees, every node
classified, dropout 0.5, AdaGrad on the weights and plain SGD on the rows of the word vectors.

    train_trees_peer.py FILE [--batch 25] [--steps 60] [--warmup 10] [--threads 0] [--output-gate] [--cached]

Levels are planned in Python for each batch, as a user of PyTorch would; --cached plans all batches before the clock starts.
Prints one JSON object.
"""
import argparse
import gzip
import json
import random
import statistics
import time

import torch
from torch import nn

WIDTH, MEMORY, CLASSES = 300, 150, 5


def read_trees(path):
    """A tree is a list of nodes in post-order: (label, left, right, word, height)."""
    opener = gzip.open if path.endswith(".gz") else open
    trees = []
    with opener(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            tokens = line.rstrip("\n").replace("(", " ( ").replace(")", " ) ").split(" ")
            tokens = [token for token in tokens if token]
            nodes, at = [], 0

            def node():
                nonlocal at
                label = int(tokens[at + 1])
                at += 2
                if tokens[at] == "(":
                    left, right = node(), node()
                    nodes.append((label, left, right, None, 1 + max(nodes[left][4], nodes[right][4])))
                else:
                    nodes.append((label, -1, -1, tokens[at], 0))
                    at += 1
                at += 1
                return len(nodes) - 1

            node()
            trees.append(nodes)
    return trees


def plan(batch, ids):
    """Nodes of all trees sorted by height: words of leaves, then the children of each level, and all labels."""
    levels = [[] for _ in range(1 + max(nodes[-1][4] for nodes in batch))]
    for t, nodes in enumerate(batch):
        for n, node in enumerate(nodes):
            levels[node[4]].append((t, n))
    place, words, labels, children = {}, [], [], []
    for height, level in enumerate(levels):
        left, right = [], []
        for key in level:
            node = batch[key[0]][key[1]]
            place[key] = len(labels)
            labels.append(node[0])
            if height == 0:
                words.append(ids[node[3]])
            else:
                left.append(place[key[0], node[1]])
                right.append(place[key[0], node[2]])
        if height > 0:
            children.append((torch.tensor(left), torch.tensor(right)))
    return torch.tensor(words), children, torch.tensor(labels)


class TreeLstm(nn.Module):
    def __init__(self, output_gate):
        super().__init__()
        self.gates = 5 if output_gate else 4
        self.leaf = nn.Linear(WIDTH, 2 * MEMORY)
        self.composer = nn.Linear(2 * MEMORY, self.gates * MEMORY)
        self.classifier = nn.Linear(MEMORY, CLASSES)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, children):
        c, o = self.leaf(x).chunk(2, 1)
        h = torch.sigmoid(o) * torch.tanh(c)
        for left, right in children:
            gates = self.composer(torch.cat([h[left], h[right]], 1)).chunk(self.gates, 1)
            new_c = (torch.sigmoid(gates[0]) * torch.tanh(gates[3]) + torch.sigmoid(gates[1]) * c[left]
                     + torch.sigmoid(gates[2]) * c[right])
            new_h = torch.tanh(new_c)
            if self.gates == 5:
                new_h = torch.sigmoid(gates[4]) * new_h
            h, c = torch.cat([h, new_h]), torch.cat([c, new_c])
        return self.classifier(self.dropout(h))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    for name, default in (("batch", 25), ("steps", 60), ("warmup", 10), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output-gate", action="store_true")
    parser.add_argument("--cached", action="store_true")
    options = parser.parse_args()
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    trees = read_trees(options.file)
    random.Random(1).shuffle(trees)
    ids = {}
    for nodes in trees:
        for node in nodes:
            if node[3] is not None:
                ids.setdefault(node[3], len(ids) + 1)
    torch.manual_seed(1)
    embedding = nn.Embedding(len(ids) + 1, WIDTH, sparse=True)
    nn.init.normal_(embedding.weight, std=0.1)
    model = TreeLstm(options.output_gate)
    optimizers = (torch.optim.Adagrad(model.parameters(), lr=0.05, weight_decay=1e-4),
                  torch.optim.SGD(embedding.parameters(), lr=0.1))
    loss_of = nn.CrossEntropyLoss(reduction="sum")
    batches = [trees[i:i + options.batch] for i in range(0, len(trees) - options.batch + 1, options.batch)]
    count = options.warmup + options.steps
    plans = [plan(batches[i % len(batches)], ids) for i in range(count)] if options.cached else None
    seconds = []
    for i in range(count):
        start = time.perf_counter()
        words, children, labels = plans[i] if options.cached else plan(batches[i % len(batches)], ids)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = loss_of(model(embedding(words), children), labels) / options.batch
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        value = loss.item()
        if i >= options.warmup:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"program": f"torch {torch.__version__}", "batch": options.batch, "threads": torch.get_num_threads(),
                      "trees_per_second": options.batch * len(seconds) / sum(seconds),
                      "median_trees_per_second": options.batch / statistics.median(seconds),
                      "best_trees_per_second": options.batch / min(seconds), "loss": value}))


if __name__ == "__main__":
    main()
