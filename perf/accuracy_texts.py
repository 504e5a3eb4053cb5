#!/usr/bin/env python3
"""Do documents and trees train as they should? The same network, data and recipe in plumb and in PyTorch, several seeds each: test
error and ECE side by side. Both programs measure the model of the best validation error.

usage: accuracy_texts.py trees --folder SST --vectors FILE [--plumb build/plumb] [--seeds 3] [--epochs 25] [KEY=VALUE ...]
       accuracy_texts.py documents --folder 20NEWS-BYDATE --vectors FILE ... [--epochs 12]

trees: configs/sst.yaml. documents: configs/newsgroups.yaml on the by-date split. Cross-entropy. Needs torch and NumPy; KEY=VALUE are
settings of plumb. A seed's PyTorch run takes several times as long as plumb's.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import train_documents_peer  # noqa: E402
import train_trees_peer  # noqa: E402

MEMORY = 150
CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "configs")


def read_vectors(path):
    vectors = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            word, *numbers = line.rstrip("\n").split(" ")
            vectors.setdefault(word, [float(number) for number in numbers])
    return vectors


def error_and_ece(probabilities, labels, bins=15):
    confidence, guess = probabilities.max(1)
    right = (guess == labels).double()
    where = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = [abs(float((confidence[where == b] - right[where == b]).sum())) for b in range(bins)]
    return 1 - float(right.mean()), sum(gaps) / len(labels)


def best_of(epochs, train_epoch, measure):
    """(error, ECE) of the test split after the epoch of the least validation error."""
    best = None
    for epoch in range(epochs):
        train_epoch()
        validation, test = measure("validation"), measure("test")
        print("  torch, epoch %d: validation error %.2f %%, test error %.2f %%, ECE %.2f %%"
              % (epoch + 1, 100 * validation[0], 100 * test[0], 100 * test[1]), file=sys.stderr, flush=True)
        if best is None or validation[0] < best[0]:
            best = (validation[0], *test)
    return best[1:]


# ---- trees ----

class Trees(nn.Module):
    """The cited code's network: each gate of an inner node is a sum of two linear layers."""

    def __init__(self, width):
        super().__init__()
        self.cell, self.leaf_gate = nn.Linear(width, MEMORY), nn.Linear(width, MEMORY)
        self.left = nn.ModuleList(nn.Linear(MEMORY, MEMORY) for _ in range(4))
        self.right = nn.ModuleList(nn.Linear(MEMORY, MEMORY) for _ in range(4))
        self.classifier, self.dropout = nn.Linear(MEMORY, 3), nn.Dropout(0.5)

    def forward(self, x, children):
        c = self.cell(x)
        h = torch.sigmoid(self.leaf_gate(x)) * torch.tanh(c)
        for left, right in children:
            i, f, g, u = (a(h[left]) + b(h[right]) for a, b in zip(self.left, self.right))
            new = torch.sigmoid(i) * torch.tanh(u) + torch.sigmoid(f) * c[left] + torch.sigmoid(g) * c[right]
            h, c = torch.cat([h, torch.tanh(new)]), torch.cat([c, new])
        return self.classifier(self.dropout(h))


def trees_in_torch(options, seed, vectors):
    torch.manual_seed(seed)
    draw = random.Random(seed)
    splits = {}
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        path = os.path.join(options.folder, name + ".txt")
        trees = train_trees_peer.read_trees(path if os.path.exists(path) else path + ".gz")
        for tree in trees:  # labels to negative, neutral, positive; words without backslashes
            tree[:] = [((node[0] > 1) + (node[0] > 2), node[1], node[2], node[3] and node[3].replace("\\", ""), node[4])
                       for node in tree]
        splits[split] = [tree for tree in trees if tree[-1][0] != 1]
    words = sorted({node[3] for trees in splits.values() for tree in trees for node in tree if node[3] is not None})
    ids = {word: i for i, word in enumerate(words)}
    width = len(next(iter(vectors.values())))
    embedding = nn.Embedding(len(words), width, sparse=True)
    with torch.no_grad():
        embedding.weight.uniform_(-0.05, 0.05)
        for word, i in ids.items():
            if word in vectors:
                embedding.weight[i] = torch.tensor(vectors[word])
    net = Trees(width)
    optimizers = (torch.optim.Adagrad(net.parameters(), lr=0.05, weight_decay=1e-4), torch.optim.SGD(embedding.parameters(), lr=0.1))

    def train_epoch():
        net.train()
        order = splits["train"][:]
        draw.shuffle(order)
        for first in range(0, len(order), 25):
            batch = order[first:first + 25]
            leaves, children, labels = train_trees_peer.plan(batch, ids)
            for optimizer in optimizers:
                optimizer.zero_grad()
            (functional.cross_entropy(net(embedding(leaves), children), labels, reduction="sum") / len(batch)).backward()
            for optimizer in optimizers:
                optimizer.step()

    def measure(split):
        net.eval()
        probabilities, labels = [], []
        with torch.no_grad():
            for tree in splits[split]:
                leaves, children, label = train_trees_peer.plan([tree], ids)
                logits = net(embedding(leaves), children)[-1]
                probabilities.append(torch.softmax(logits[[0, 2]].double(), 0))
                labels.append(int(label[-1]) // 2)
        return error_and_ece(torch.stack(probabilities), torch.tensor(labels))

    return best_of(options.epochs, train_epoch, measure)


# ---- documents ----

FILTER = str.maketrans({c: " " for c in "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n"})


def read_documents(folder):
    documents = []
    for label, group in enumerate(sorted(os.listdir(folder))):
        for name in sorted(os.listdir(os.path.join(folder, group))):
            if name.isdigit():
                with open(os.path.join(folder, group, name), encoding="latin-1") as file:
                    text = file.read()
                cut = text.find("\n\n")
                text = text[cut:] if cut > 0 else text
                documents.append((label, [word for word in text.lower().translate(FILTER).split(" ") if word]))
    return documents


def documents_in_torch(options, seed, vectors):
    torch.manual_seed(seed)
    draw = random.Random(seed)
    train = read_documents(os.path.join(options.folder, "20news-bydate-train"))
    held = set(random.Random(1).sample(range(len(train)), 900))
    splits = {"train": [d for i, d in enumerate(train) if i not in held], "validation": [train[i] for i in sorted(held)],
              "test": read_documents(os.path.join(options.folder, "20news-bydate-test"))}
    counts = {}
    for _, words in splits["train"]:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    kept = sorted(counts, key=lambda word: -counts[word])[:19999]
    ids = {word: i + 1 for i, word in enumerate(kept)}
    coded = {split: [(label, [ids[word] for word in words if word in ids][-1000:]) for label, words in documents]
             for split, documents in splits.items()}
    net = train_documents_peer.Network()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        net.embedding.weight.zero_()
        for word, i in ids.items():
            if word in vectors:
                net.embedding.weight[i] = torch.tensor(vectors[word])
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3)

    def tensors(batch):  # cut to the longest document and the 21 positions that change nothing
        length = min(1000, max(len(words) for _, words in batch) + 21)
        rows = [[0] * (length - len(words)) + words for _, words in batch]
        return torch.tensor(rows), torch.tensor([label for label, _ in batch])

    def train_epoch():
        net.train()
        order = coded["train"][:]
        draw.shuffle(order)
        batches = []
        for window in range(0, len(order), 128 * 32):  # documents of like lengths together, as plumb has them
            some = sorted(order[window:window + 128 * 32], key=lambda document: len(document[1]))
            batches += [some[first:first + 128] for first in range(0, len(some), 128)]
        draw.shuffle(batches)
        for batch in batches:
            rows, labels = tensors(batch)
            optimizer.zero_grad()
            functional.cross_entropy(net(rows), labels).backward()
            optimizer.step()

    def measure(split):
        net.eval()
        by_length = sorted(coded[split], key=lambda document: len(document[1]))
        probabilities, labels = [], []
        with torch.no_grad():
            for first in range(0, len(by_length), 128):
                rows, some = tensors(by_length[first:first + 128])
                probabilities.append(torch.softmax(net(rows).double(), 1))
                labels.append(some)
        return error_and_ece(torch.cat(probabilities), torch.cat(labels))

    return best_of(options.epochs, train_epoch, measure)


# ---- both ----

def in_plumb(options, seed, vectors, scratch):
    run = os.path.join(scratch, "seed%d" % seed)
    width = len(next(iter(vectors.values())))
    of_task = ["dataset.split=by_date"] if options.task == "documents" else []
    subprocess.run([options.plumb, "train", os.path.join(CONFIGS, {"trees": "sst", "documents": "newsgroups"}[options.task] + ".yaml"),
                    "--run", run, "--quiet", "seed=%d" % seed, "epochs=%d" % options.epochs, "dataset.folder=" + options.folder,
                    "vectors.file=" + options.vectors, "model.embedding_width=%d" % width, "evaluate.bootstrap=0"]
                   + of_task + options.settings, check=True, stdout=subprocess.DEVNULL)
    measured = os.path.join(run, "best.json")
    subprocess.run([options.plumb, "evaluate", run, "--checkpoint", "best", "--bootstrap", "0", "--json", measured], check=True,
                   stdout=subprocess.DEVNULL)
    with open(measured, encoding="utf-8") as file:
        before = json.load(file)["before"]
    return before["error"], before["ece"]


def row(name, results):
    def text(values):
        spread = " +- %.2f" % (100 * statistics.stdev(values)) if len(values) > 1 else ""
        return "%.2f%s  (%s)" % (100 * statistics.mean(values), spread, ", ".join("%.2f" % (100 * value) for value in values))
    errors, eces = zip(*results)
    return "%-8s error %% %s   ECE %% %s" % (name, text(errors), text(eces))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["trees", "documents"])
    parser.add_argument("--folder", required=True)
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--plumb", default="build/plumb")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    options.epochs = options.epochs or {"trees": 25, "documents": 12}[options.task]
    torch.set_num_threads(options.threads)
    options.settings.append("threads=%d" % options.threads)
    vectors = read_vectors(options.vectors)
    in_torch = {"trees": trees_in_torch, "documents": documents_in_torch}[options.task]
    results = {"plumb": [], "PyTorch": []}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(1, options.seeds + 1):
            results["plumb"].append(in_plumb(options, seed, vectors, scratch))
            results["PyTorch"].append(in_torch(options, seed, vectors))
    print("%s, cross-entropy, %d epochs, seeds 1 to %d; test split, the model of the best validation error" %
          (options.task, options.epochs, options.seeds))
    for name, values in results.items():
        print(row(name, values))


if __name__ == "__main__":
    main()
