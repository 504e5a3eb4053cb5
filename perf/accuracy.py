#!/usr/bin/env python3
"""Does training work? The same small ResNet, images and recipe in plumb and in PyTorch, several seeds each: test errors side by side.

usage: accuracy.py [--plumb build/plumb] [--seeds 3] [--epochs 15] [--train 5000] [KEY=VALUE ...]

Needs torch and NumPy; run it with a Python that has it. The images are Fashion-MNIST of Debian's dataset-fashion-mnist.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import numpy  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer_networks  # noqa: E402

FOLDER = "/usr/share/datasets/fashion-mnist"
MEAN, DEVIATION = 0.2860, 0.3530


def read_idx(folder, name, header):
    for base in (folder, FOLDER):
        path = os.path.join(base, name + ".gz")
        if os.path.exists(path):
            with gzip.open(path) as file:
                return torch.frombuffer(bytearray(file.read()[header:]), dtype=torch.uint8)
    sys.exit("cannot find %s.gz in %s" % (name, folder))


def images_and_labels(folder, split):
    images = read_idx(folder, split + "-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28)
    labels = read_idx(folder, split + "-labels-idx1-ubyte", 8).long()
    return (images.float() / 255 - MEAN) / DEVIATION, labels


def train_in_torch(options, seed, train, test):
    torch.manual_seed(seed)
    net = peer_networks.network("resnet8", classes=10, colours=1, size=28, width=16)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    images, labels = train
    for epoch in range(options.epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * 0.1 ** sum(epoch >= drop for drop in options.drops)
        net.train()
        order = torch.randperm(len(labels))
        for first in range(0, len(order), 128):
            chosen = order[first:first + 128]
            optimizer.zero_grad()
            functional.cross_entropy(net(images[chosen]), labels[chosen], reduction="sum").backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2)
            optimizer.step()
    net.eval()
    with torch.no_grad():
        wrong = sum(int((net(test[0][i:i + 500]).argmax(1) != test[1][i:i + 500]).sum()) for i in range(0, len(test[1]), 500))
    return wrong / len(test[1])


def train_in_plumb(options, seed, folder):
    run = os.path.join(folder, "seed%d" % seed)
    command = [options.plumb, "train", os.path.join(os.path.dirname(__file__), "..", "configs", "fashion_mnist.yaml"), "--run", run,
               "--quiet", "seed=%d" % seed, "epochs=%d" % options.epochs, "schedule.epochs=%s" % options.drops,
               "dataset.train_limit=%d" % options.train, "evaluate.every=0", "evaluate.bootstrap=0"] + options.settings
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(run, "evaluation.json")) as file:
        return json.load(file)["before"]["error"]


def row(name, errors):
    spread = statistics.stdev(errors) if len(errors) > 1 else float("nan")
    print("%-8s %6.2f %% +- %.2f   (%s)" % (name, 100 * statistics.mean(errors), 100 * spread,
                                            ", ".join("%.2f" % (100 * e) for e in errors)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plumb", default="build/plumb")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--train", type=int, default=5000, help="training images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", default=FOLDER)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="for plumb")
    options = parser.parse_args()
    options.drops = sorted({options.epochs * 3 // 5, options.epochs * 4 // 5})
    torch.set_num_threads(options.threads)
    images, labels = images_and_labels(options.data, "train")
    test = images_and_labels(options.data, "t10k")
    # plumb's split: the published shuffle, its first tenth held out.
    order = numpy.arange(len(labels))
    numpy.random.RandomState(1).shuffle(order)
    chosen = torch.from_numpy(order[len(labels) // 10:][:options.train])
    train = images[chosen], labels[chosen]
    peer, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, options.seeds + 1):
            peer.append(train_in_torch(options, seed, train, test))
            ours.append(train_in_plumb(options, seed, folder))
    print("ResNet-8 on %d images of Fashion-MNIST, %d epochs, cross-entropy, test error over %d seeds" %
          (options.train, options.epochs, options.seeds))
    row("torch", peer)
    row("plumb", ours)
    print("torch is version %s" % torch.__version__)


main()
