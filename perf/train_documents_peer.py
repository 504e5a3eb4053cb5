#!/usr/bin/env python3
"""Training steps of the network for documents in PyTorch, timed: the work of perf/train_documents.c. Prints one JSON object.

Convolutions are those of images of one row in channels_last, which on a CPU is faster than nn.Conv1d.
"""

import argparse
import json
import time
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20001, 100, padding_idx=0)
        self.embedding.weight.requires_grad_(False)
        self.conv1 = nn.Conv2d(100, 128, (1, 5))
        self.conv2 = nn.Conv2d(128, 128, (1, 5))
        self.conv3 = nn.Conv2d(128, 128, (1, 5))
        self.pool = nn.MaxPool2d((1, 5), stride=1)
        self.dense = nn.Linear(128, 128)
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(128, 20)

    def forward(self, ids):
        x = self.embedding(ids)[:, None].permute(0, 3, 1, 2)  # channels_last as it lies in memory
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.conv3(x)).flatten(2).max(2).values
        return self.output(self.dropout(torch.relu(self.dense(x))))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--positions", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    return parser.parse_args()


def main():
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    net = Network().to(memory_format=torch.channels_last).train()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3, fused=True)
    ids = torch.randint(1, 20001, (chosen.batch, chosen.positions))
    labels = torch.randint(0, 20, (chosen.batch,))
    seconds, processor = [], 0.0
    for step in range(chosen.warmup + chosen.steps):
        start, processor_start = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=chosen.dtype == "bfloat16"):
            logits = net(ids)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        value = loss.item()
        if step >= chosen.warmup:
            seconds.append(time.perf_counter() - start)
            processor += time.process_time() - processor_start
    print(
        json.dumps(
            {
                "program": "torch " + torch.__version__,
                "compute": chosen.dtype,
                "threads": chosen.threads,
                "batch": chosen.batch,
                "documents_per_second": chosen.batch / sorted(seconds)[len(seconds) // 2],
                "best_documents_per_second": chosen.batch / min(seconds),
                "documents_per_processor_second": chosen.batch * chosen.steps / processor,
                "loss": value,
            }
        )
    )


if __name__ == "__main__":
    main()
