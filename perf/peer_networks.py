"""The networks of models/ in PyTorch, for comparisons of speed and accuracy: same layers, names and initialisation."""

import math

import torch
from torch import nn
from torch.nn import functional


def convolution(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class Block(nn.Module):
    """relu(F(x) + shortcut(x)): F of two 3x3 convolutions, or of 1x1, 3x3, 1x1 with four times the channels."""

    def __init__(self, inputs, channels, stride, bottleneck, projection):
        super().__init__()
        outputs = 4 * channels if bottleneck else channels
        sizes = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        self.depth, self.projection = len(sizes), projection
        previous = inputs
        for index, (kernel, step) in enumerate(sizes, 1):
            width = outputs if index == self.depth else channels
            setattr(self, f"conv{index}", convolution(previous, width, kernel, step))
            setattr(self, f"bn{index}", nn.BatchNorm2d(width))
            previous = width
        shortcut = []
        if stride != 1 or inputs != outputs:
            shortcut = [convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)]
        setattr(self, projection, nn.Sequential(*shortcut))

    def forward(self, x):
        y = x
        for index in range(1, self.depth + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            if index < self.depth:
                y = functional.relu(y)
        y += getattr(self, self.projection)(x)
        return functional.relu(y)


class Residual(nn.Module):
    def __init__(self, blocks, stem, channels, bottleneck, projection, pool, classes, colours, he=False):
        super().__init__()
        self.conv1, self.bn1 = convolution(colours, stem, 3), nn.BatchNorm2d(stem)
        self.stages, self.pool = len(blocks), pool
        expansion, inputs = 4 if bottleneck else 1, stem
        for stage, count in enumerate(blocks):
            width = channels << stage
            layers = []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(Block(inputs, width, stride, bottleneck, projection))
                inputs = expansion * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs * pool * pool, classes)
        if he:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                    nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(functional.adaptive_avg_pool2d(x, self.pool).flatten(1))


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), convolution(inputs, 4 * growth, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(4 * growth), convolution(4 * growth, growth, 3)

    def forward(self, x):
        y = self.conv1(functional.relu(self.bn1(x)))
        y = self.conv2(functional.relu(self.bn2(y)))
        return torch.cat([y, x], 1)


class Transition(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(inputs), convolution(inputs, inputs // 2, 1)

    def forward(self, x):
        return functional.avg_pool2d(self.conv(functional.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    def __init__(self, blocks, growth, classes, colours):
        super().__init__()
        channels = 2 * growth
        self.conv1, self.stages = convolution(colours, channels, 3), len(blocks)
        for stage, count in enumerate(blocks, 1):
            layers = [DenseLayer(channels + index * growth, growth) for index in range(count)]
            setattr(self, f"dense{stage}", nn.Sequential(*layers))
            channels += count * growth
            if stage < self.stages:
                setattr(self, f"trans{stage}", Transition(channels))
                channels //= 2
        self.bn, self.linear = nn.BatchNorm2d(channels), nn.Linear(channels, classes)

    def forward(self, x):
        x = self.conv1(x)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"dense{stage}")(x)
            if stage < self.stages:
                x = getattr(self, f"trans{stage}")(x)
        x = functional.relu(self.bn(x))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Flat(nn.Module):
    def __init__(self, size, classes, colours):
        super().__init__()
        self.fc = nn.Linear(colours * size * size, classes)

    def forward(self, x):
        return self.fc(x.flatten(1))


RESNETS = {
    "resnet8": ([1, 1, 1], False, 16),
    "resnet18": ([2, 2, 2, 2], False, 64),
    "resnet34": ([3, 4, 6, 3], False, 64),
    "resnet50": ([3, 4, 6, 3], True, 64),
    "resnet101": ([3, 4, 23, 3], True, 64),
    "resnet110": ([3, 4, 26, 3], True, 64),
    "resnet152": ([3, 8, 36, 3], True, 64),
}
DENSENETS = {"densenet121": [6, 12, 24, 16], "densenet169": [6, 12, 32, 32]}
NAMES = [*RESNETS, "tiny_imagenet_resnet50", "wide_resnet", *DENSENETS, "linear"]


def network(name, classes=10, colours=3, size=32, width=0, blocks=None, depth=26, widen=10):
    """The settings of the same names: width is model.width, blocks model.blocks; 0 and None as published."""
    if name in RESNETS:
        published, bottleneck, channels = RESNETS[name]
        channels = width or channels
        return Residual(blocks or published, channels, channels, bottleneck, "shortcut", 1, classes, colours)
    if name == "tiny_imagenet_resnet50":
        channels = width or 64
        return Residual(blocks or [3, 4, 6, 3], channels, channels, True, "downsample", 2, classes, colours, he=True)
    if name == "wide_resnet":
        stem = width or 16
        count = (depth - 2) // 6
        return Residual([count] * 3, stem, stem * widen, False, "downsample", 1, classes, colours, he=True)
    if name in DENSENETS:
        return DenseNet(blocks or DENSENETS[name], width or 32, classes, colours)
    if name == "linear":
        return Flat(size, classes, colours)
    raise SystemExit(f"there is no network {name}; known: {', '.join(NAMES)}")
