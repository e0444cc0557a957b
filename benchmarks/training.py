"""Images per second of VGG-16 training, all layers: our step, PyTorch's step, and voc-train's whole loop.

    python -m venv peers && peers/bin/pip install torch --index-url <PyTorch's CPU wheels>
    python benchmarks/training.py --torch peers/bin/python [--precision float32 bfloat16] [--steps 3] [--rounds 3]

Each contestant is a separate process that has warmed up. They take turns of a few steps; the others wait meanwhile.
Compare the ratios of the medians, not absolute times. Without --torch only ours are measured.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from contestant import PEERS, Contestant


@dataclass(frozen=True)
class Benchmark:
    """What to compare."""

    torch: Path | None = None
    """A Python that has PyTorch."""
    precision: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Number formats."""
    batch: int = 32
    """Pictures in a step."""
    steps: int = 3
    """Steps in a turn."""
    rounds: int = 3
    """Turns of each."""


def main(benchmark: Benchmark) -> None:
    """Runs the turns and prints the table."""
    for precision in benchmark.precision:
        ours = (sys.executable, PEERS / "vgg_keras.py", precision, benchmark.batch)
        contestants = [Contestant("step", *ours, "bare"), Contestant("loop", *ours, "loop")]
        if benchmark.torch is not None:
            contestants.append(Contestant("PyTorch", benchmark.torch, PEERS / "vgg_torch.py", precision,
                                          benchmark.batch))
        for _ in range(benchmark.rounds):
            for contestant in contestants:
                contestant.turn(benchmark.steps)
        step, loop, *torch = contestants
        print(f"\n{precision}: images/s, median of {benchmark.rounds} turns of {benchmark.steps} steps")
        for contestant in contestants:
            contestant.leave()
            turns = ", ".join(f"{speed:.2f}" for speed in contestant.speeds)
            print(f"  {contestant.name:<10}{contestant.speed:8.2f}   ({turns})")
        print(f"  loop / step      {loop.speed / step.speed:.2f}")
        for peer in torch:
            print(f"  step / PyTorch   {step.speed / peer.speed:.2f}")
        print(flush=True)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
