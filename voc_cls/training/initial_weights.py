"""What a network starts from: a weight file, the best weights of an earlier run, or random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from voc_cls.data.dataset import Task
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.errors import UsageError, WeightsError
from voc_cls.nets.network import Network, build_network
from voc_cls.nets.registry import NORMALISATIONS, Normalisation, net_spec
from voc_cls.training.config import UNKNOWN, NetworkConfig
from voc_cls.training.devices import POLICIES, policy
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import load_weights
from voc_cls.weights.load import NamedWeights, load_weights_file
from voc_cls.weights.restore import network_digest, restore

RANDOM = "none"
"""The `weights` that are random."""


@dataclass(frozen=True)
class WeightsSource:
    """What `weights` names, opened once. At most one of `file` and `run` is given; without both it is random."""

    name: str
    file: NamedWeights | None = None
    run: RunFolder | None = None

    @classmethod
    def open(cls, weights: str, net: str) -> WeightsSource:
        """Opens a weight file for the network `net`, the folder of an earlier run, or "none".

        Raises:
            WeightsError: for a path that is not a weight file.
        """
        if weights == RANDOM:
            return cls(weights)
        run = RunFolder(Path(weights))
        return cls(weights, run=run) if run.config.is_file() else cls(weights, load_weights_file(Path(weights), net))

    def normalisation(self, net: str) -> Normalisation:
        """Mean and divisor of the pixels that the weights were trained with; the network's own where unknown."""
        if self.run is not None:
            recorded: Normalisation = self.run.read_config()["network"].get("normalisation", "auto")
        else:
            recorded = "auto" if self.file is None else self.file.normalisation
        return normalisation_of(net_spec(net).preprocessing) if recorded == "auto" else recorded

    def restore(self, network: Network, exclude: Sequence[str], classes: Sequence[str], task: Task | None,
                console: Console) -> str | None:
        """Gives `network` these weights and prints what they are.

        Args:
            network: the network, with random weights.
            exclude: scopes that keep them.
            classes: labels of the network, which an earlier run has to share.
            task: the same; None where it is not known yet.
            console: where the table of restored layers goes.

        Returns:
            SHA-256 of the weights; None for random ones.
        """
        if self.run is not None:
            return self._continue(self.run, network, exclude, classes, task, console)
        if self.file is None:
            console.print("weights: random")
            return None
        restore(network, self.file, exclude, show=console.print)
        return self.file.digest()

    def _continue(self, run: RunFolder, network: Network, exclude: Sequence[str], classes: Sequence[str],
                  task: Task | None, console: Console) -> str:
        """The best weights of the run, head and all."""
        recorded = run.read_config()
        differences: tuple[tuple[str, Any, Any], ...] = (
            ("`net`", network.spec.name, recorded["network"]["net"]),
            ("`head`", network.head, recorded["network"]["head"]),
            ("the task", task, task and Task(recorded["provenance"]["task"])),
            ("classes", tuple(classes), run.read_labels()))
        for name, here, there in differences:
            if here != there:
                raise WeightsError(f"`weights` {run.path}: that run has {name} {_text(there)}, this one {_text(here)}; "
                                   "start from a run of the same kind, or from a checkpoint")
        if exclude:
            raise UsageError(f"`exclude` {' '.join(exclude)}: an earlier run's weights are taken whole; omit it")
        load_weights(network, run, "best")
        console.print(f"weights: the best of {run.path}, with its head", highlight=False, markup=False, soft_wrap=True)
        return network_digest(network)


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class Origin:
    """How a network got the weights that it had when it was created: what a config.yaml needs to repeat it."""

    weights: str
    exclude: tuple[str, ...]
    seed: int
    digest: str | None
    """SHA-256 of the restored weights; None for random ones."""
    created: str
    """SHA-256 of all its weights; another one now means that it has been trained since."""


@dataclass(frozen=True)
class CreatedNetwork(Network):
    """A network that remembers where its weights came from."""

    origin: Origin


def create_network(net: str = "vgg_16", *, classes: Sequence[str], head: str = "fc", weights: Path | str | None = None,
                   image_size: int | None = None, normalisation: Normalisation = "auto", precision: str = "float32",
                   exclude: Sequence[str] = (), seed: int = 0, console: Console | None = None) -> CreatedNetwork:
    """Builds a network with a new head and restores its weights.

    Args:
        net: name of the network, such as "vgg_16" or "resnet_v1_50".
        classes: the labels, in the order of the network's outputs.
        head: "fc" (the paper's own), "gap" or "gap+max" (the pooled last grid, for files with convolutions only).
        weights: a weight file of any known format, the folder of an earlier run with the same head, or None for random
            weights.
        image_size: height and width of the input, pixels; None: the network's own.
        normalisation: mean and divisor of the pixels; "auto": what the weights were trained with.
        precision: number format of the layers that are trained: "float32", "bfloat16" or "float16".
        exclude: scopes that are not restored, such as "fc6"; the head never is, except from an earlier run.
        seed: of the random weights and of the dropout. The global generators stay as they are.
        console: where the table of restored layers is printed; None: nowhere.

    Raises:
        UsageError: for a network, head, size or scope that does not exist.
        WeightsError: for a file that cannot be read or does not fit.
    """
    source = WeightsSource.open(RANDOM if weights is None else str(Path(weights).absolute()), net)
    if normalisation == "auto":
        normalisation = source.normalisation(net)
    with seeded(seed):
        built = build_network(net, head, len(classes), policy(precision), image_size, normalisation)
    digest = source.restore(built, exclude, tuple(classes), None, console or Console(quiet=True))
    origin = Origin(source.name, tuple(exclude), seed, digest, network_digest(built))
    return CreatedNetwork(built.spec, built.head, built.model, built.entries, built.grid, origin)


@dataclass(frozen=True)
class NetworkDescription:
    """What a run from Python records of its network; `not_repeatable` says why that does not create it again."""

    config: NetworkConfig
    precision: str
    digest: str | None
    not_repeatable: str


def describe_network(network: Network, trainable: str, seed: int) -> NetworkDescription:
    """Describes a network before it is trained.

    Args:
        network: from `create_network`, or built in another way, which cannot be repeated.
        trainable: what of it will be trained.
        seed: that of the training, from which a repeated run would draw its random weights.
    """
    spec, now = network.spec, network_digest(network)
    policies = {layer.dtype_policy.name for layer in network.model.layers}
    precision = next((name for name, dtype in POLICIES.items() if name != "float32" and dtype in policies), "float32")
    head: Any = network.head  # one of HEADS
    config = NetworkConfig(str(UNKNOWN), spec.name, head, spec.preprocessing.size,
                           normalisation_of(spec.preprocessing), (), trainable)
    origin = network.origin if isinstance(network, CreatedNetwork) else None
    if origin is None:
        return NetworkDescription(config, precision, now, "its network was not made by `create_network`")
    config = replace(config, exclude=origin.exclude)
    if origin.created != now:
        return NetworkDescription(config, precision, now, "its network had been trained before")
    if origin.seed != seed:
        return NetworkDescription(config, precision, now, f"its network was created with seed={origin.seed}, the run "
                                  f"has seed={seed}; use one seed for both")
    return NetworkDescription(replace(config, weights=origin.weights), precision, origin.digest, "")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, layers draw their initial weights and dropout states from `seed`; afterwards all is as it was before.

    Keras takes the seed of each initialiser and generator that has none of its own from Python's `random`.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def normalisation_of(preprocessing: Preprocessing) -> Normalisation:
    """The name of a mean and divisor; "auto" for a network whose own are not among the known ones."""
    names: dict[Any, Normalisation] = {values: name for name, values in NORMALISATIONS.items()}  # type: ignore[misc]
    return names.get((preprocessing.mean, preprocessing.std), "auto")
