"""The peer of benchmarks/training.py and gpu_check.py: VGG-16 in PyTorch, Adam, sigmoid cross-entropy, channels last.

    python benchmarks/peers/vgg_torch.py float32|bfloat16 BATCH [compiled]

On the GPU if there is one. Reads a number of steps from each line of the input, runs them, and prints images per
second.
"""

from __future__ import annotations

import os
import sys
import time

import torch
from torch import nn

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
CLASSES = 20


def vgg_16() -> nn.Sequential:
    """TF-Slim's vgg_16: fc6 and fc7 are convolutions."""
    layers: list[nn.Module] = []
    channels = 3
    for filters, convolutions in BLOCKS:
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    for inputs, kernel in ((512, 7), (4096, 1)):
        layers += [nn.Conv2d(inputs, 4096, kernel), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Conv2d(4096, CLASSES, 1), nn.Flatten())


def main(precision: str, batch: int, compiled: bool) -> None:
    """Serves rounds of training steps."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # the fastest convolutions for these shapes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = vgg_16().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    loss = nn.BCEWithLogitsLoss()
    images = (50 * torch.randn(batch, 3, 224, 224, device=device)).contiguous(memory_format=torch.channels_last)
    targets = (torch.rand(batch, CLASSES, device=device) < 0.1).float()
    network = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(images)
        loss(logits.float(), targets).backward()
        optimizer.step()

    def finish() -> float:
        """The time when all steps are done."""
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    step()
    finish()
    card = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    print(f"PyTorch {torch.__version__} on {card}", flush=True)
    for line in sys.stdin:
        steps = int(line)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        print(steps * batch / (finish() - started), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "compiled" in sys.argv[3:])
