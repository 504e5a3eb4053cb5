#!/usr/bin/env python3
"""One training step in PyTorch, timed: the work of perf/train_step.c. Prints one JSON object."""

import argparse
import contextlib
import json
import os
import resource
import sys
import time
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer_networks  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet50", choices=peer_networks.NAMES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--size", type=int, default=32, help="rows and columns of an image")
    parser.add_argument("--width", type=int, default=0, help="as model.width")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--memory-format", default="nchw", choices=["nchw", "channels_last"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", action="store_true", help="torch.compile, max-autotune with CUDA graphs")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    return parser.parse_args()


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    base_bytes = peak_bytes()  # what the library itself takes
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True  # times the engines of each convolution, as plumb does
    layout = torch.channels_last if chosen.memory_format == "channels_last" else torch.contiguous_format
    net = peer_networks.network(chosen.network, classes=chosen.classes, size=chosen.size, width=chosen.width)
    net = net.to(device=chosen.device, memory_format=layout).train()
    # The fastest that this torch has: one loop over all parameters where it knows how.
    try:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
        fused = True
    except (TypeError, RuntimeError):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        fused = False
    images = torch.randn(chosen.batch, 3, chosen.size, chosen.size).to(device=chosen.device, memory_format=layout)
    labels = torch.randint(0, chosen.classes, (chosen.batch,)).to(chosen.device)
    forward = net
    if chosen.compile:
        # Beside CUDA graphs of its own, max-autotune times kernels for every convolution and product.
        forward = torch.compile(net, mode="max-autotune")

    def cast():
        if chosen.dtype == "bfloat16":
            return torch.autocast(chosen.device, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def step():
        optimizer.zero_grad(set_to_none=True)
        with cast():
            logits = forward(images)
        loss = functional.cross_entropy(logits.float(), labels, reduction="sum")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2)
        optimizer.step()
        return loss.detach()

    for _ in range(chosen.warmup):
        step().item()
    # On a GPU the host runs ahead of the device, as it does in a training loop that reads the loss now and then.
    together = min(10, chosen.steps) if chosen.device == "cuda" else 1
    seconds = []
    loss = 0.0
    for _ in range(max(1, chosen.steps // together)):
        start = time.perf_counter()
        for _ in range(together):
            last = step()
        loss = last.item()
        seconds.append((time.perf_counter() - start) / together)
    best, median = min(seconds), sorted(seconds)[len(seconds) // 2]
    print(
        json.dumps(
            {
                "program": "torch " + torch.__version__,
                "network": chosen.network,
                "batch": chosen.batch,
                "threads": chosen.threads,
                "compute": chosen.dtype,
                "memory_format": chosen.memory_format,
                "device": torch.cuda.get_device_name() if chosen.device == "cuda" else "cpu",
                "compiled": chosen.compile,
                "fused_optimizer": fused,
                "steps": chosen.steps,
                "images_per_second": chosen.batch / median,
                "best_images_per_second": chosen.batch / best,
                "peak_bytes": peak_bytes(),
                "base_bytes": base_bytes,
                "loss": loss / chosen.batch,
            }
        )
    )


if __name__ == "__main__":
    main()
