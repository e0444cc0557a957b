"""What a network starts from: a weight file, the best weights of an earlier run, or random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from voc_cls.console import say
from voc_cls.data.dataset import Task
from voc_cls.errors import UsageError, WeightsError
from voc_cls.nets.network import Network, build_network
from voc_cls.nets.registry import Head, Normalisation, Resize, net_spec, normalisation_of
from voc_cls.training.config import UNKNOWN, NetworkConfig
from voc_cls.training.devices import POLICIES, policy
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import load_weights
from voc_cls.weights.load import NamedWeights, load_weights_file, network_digest, restore

RANDOM = "none"


@dataclass(frozen=True)
class WeightsSource:
    """What `weights` names, opened once. At most one of `file` and `run` is given; without both it is random."""

    name: str
    file: NamedWeights | None = None
    run: RunFolder | None = None

    @classmethod
    def open(cls, weights: str, net: str, entry: str | None = None) -> WeightsSource:
        """Opens a weight file for the network `net`, the folder of an earlier run, or "none"; WeightsError.

        entry: as of `select_network`, for weight files alone.
        """
        run = RunFolder(Path(weights))
        if weights != RANDOM and not run.config.is_file():
            return cls(weights, load_weights_file(Path(weights), net, entry))
        if entry is not None:
            raise UsageError(f"`weights_entry` {entry} is for a weight file: omit it with `weights` {weights}")
        return cls(weights) if weights == RANDOM else cls(weights, run=run)

    def normalisation(self, net: str) -> Normalisation:
        """Mean and divisor of the pixels that the weights were trained with; the network's own where unknown."""
        if self.run is not None:
            recorded: Normalisation = self.run.read_config()["network"].get("normalisation", "auto")
        else:
            recorded = "auto" if self.file is None else self.file.normalisation
        return normalisation_of(net_spec(net).preprocessing) if recorded == "auto" else recorded

    def restore(self, network: Network, exclude: Sequence[str], classes: Sequence[str], task: Task | None,
                console: Console) -> str | None:
        """Gives `network`, but for the scopes in `exclude`, these weights; returns their SHA-256, None for random ones.

        An earlier run has to share the labels `classes` and, where it is known already, the task.
        """
        if self.run is not None:
            if exclude:
                raise UsageError(f"`exclude` {' '.join(exclude)}: an earlier run's weights are taken whole; omit it")
            check_same_kind(self.run, network, tuple(classes), task)
            load_weights(network, self.run, "best")
            say(console, f"weights: the best of {self.run.path}, with its head")
            return network_digest(network)
        if self.file is None:
            console.print("weights: random")
            return None
        restore(network, self.file, exclude, show=console.print)
        for note in self.file.notes:
            say(console, f"note: {note}")
        return self.file.digest()


def check_same_kind(run: RunFolder, network: Network, classes: tuple[str, ...], task: Task | None) -> None:
    """WeightsError where an earlier run has another network, head, classes or, where it is known already, task."""
    recorded = run.read_config()
    differences: tuple[tuple[str, Any, Any], ...] = (
        ("`net`", network.spec.name, recorded["network"]["net"]),
        ("`cut`", network.spec.cut, recorded["network"].get("cut")),
        ("`head`", network.head, recorded["network"]["head"]),
        ("the task", task, task and Task(recorded["provenance"]["task"])),
        ("classes", ", ".join(classes), ", ".join(run.read_labels())))
    for name, here, there in differences:
        if here != there:
            raise WeightsError(f"`weights` {run.path}: that run has {name} {there}, this one {here}; start from a run "
                               "of the same kind, or from a checkpoint")


@dataclass(frozen=True)
class CreatedNetwork(Network):
    """A network that remembers how it got its weights: what a config.yaml needs to repeat it."""

    config: NetworkConfig
    seed: int
    digest: str | None
    """SHA-256 of the restored weights; None for random ones."""
    created: str
    """SHA-256 of all its weights; another one now means that it has been trained since."""


def create_network(config: NetworkConfig, classes: Sequence[str], precision: str = "float32", seed: int = 0
                   ) -> CreatedNetwork:
    """`voc_cls.create_network`."""
    source = WeightsSource.open(config.weights, config.net, config.weights_entry)
    if config.normalisation == "auto":
        config = replace(config, normalisation=source.normalisation(config.net))
    with seeded(seed):
        built = build_network(config.net, config.head, len(classes), policy(precision), config.image_size,
                              config.normalisation, config.cut, config.resize)
    digest = source.restore(built, config.exclude, tuple(classes), None, Console(quiet=True))
    return CreatedNetwork(**vars(built), config=config, seed=seed, digest=digest, created=network_digest(built))


def describe_network(network: Network, trainable: str, seed: int) -> tuple[NetworkConfig, str, str | None, str]:
    """What a run from Python records of its network before it trains: settings, precision, digest of the restored
    weights; and why these do not create it again, if they do not. `seed`: of the run, which would draw random weights.
    """
    spec, now = network.spec, network_digest(network)
    policies = {layer.dtype_policy.name for layer in network.model.layers}
    precision = next((name for name, dtype in POLICIES.items() if name != "float32" and dtype in policies), "float32")
    pixels, head = spec.preprocessing, cast("Head", network.head)
    config = NetworkConfig(str(UNKNOWN), None, spec.name, head, spec.cut, pixels.size, normalisation_of(pixels),
                           cast("Resize", pixels.resize), trainable=trainable)
    if not isinstance(network, CreatedNetwork):
        return config, precision, now, "its network was not made by `create_network`"
    config = replace(config, exclude=network.config.exclude)
    if network.created != now:
        return config, precision, now, "its network had been trained before"
    if network.seed != seed:
        return config, precision, now, (f"its network was created with seed={network.seed}, the run has seed={seed}; "
                                        "use one seed for both")
    config = replace(config, weights=network.config.weights, weights_entry=network.config.weights_entry)
    return config, precision, network.digest, ""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, layers draw their initial weights and dropout states from `seed`; afterwards all is as it was before.

    Keras takes the seed of each initialiser and generator without a seed from Python's `random`.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
