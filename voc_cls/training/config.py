"""Everything `voc-train` can be told, with its defaults: the command line and config.yaml are this, and no more."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from voc_cls.data.dataset import DifficultPolicy
from voc_cls.errors import UsageError

LARGEST_SEED = 2**32 - 1  # NumPy's legacy generator, which Keras seeds too


@dataclass(frozen=True)
class DatasetConfig:
    """Which pictures."""

    root: Path
    """Folder of the data set: for voc, the one that holds Annotations, ImageSets and JPEGImages."""
    data: Literal["voc"] = "voc"
    """Kind of data set."""
    train_split: str = "trainval"
    """Pictures to train on: ImageSets/Main/<split>.txt."""
    eval_split: str = "test"
    """Pictures to report the average precision on, once, at the end; `none` to skip it."""
    val_split: str = "none"
    """Pictures to watch while training: the best weights are those with the highest mean AP on them."""
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    """What a picture is for a class of which it holds only difficult objects (the VOC protocol ignores it)."""


@dataclass(frozen=True)
class NetworkConfig:
    """Which network, from which weights."""

    weights: str
    """TF-Slim checkpoint to start from (`voc-weights fetch` gets one), or `none` for random weights."""
    net: str = "vgg_16"
    """Network."""
    head: Literal["fc", "gap"] = "fc"
    """fc: fc6, fc7 and m_fc8, as in the paper. gap: average of the last convolutions' grid, L2-normalised, then m_fc8:
    for weight files that hold the convolutions only."""
    exclude: tuple[str, ...] = ()
    """Scopes that are not restored from the file, such as fc6 fc7; the head never is."""
    trainable: str = "all"
    """head, all, or <scope>+ such as conv5+: that scope and all that follow are trained, the others are frozen."""


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained. Steps, learning rate and L2 follow from --trainable and --head where they are not given."""

    steps: int | None = None
    """Training steps, a batch each. Default: 6000, the lecture's; 3000 for --trainable head."""
    batch_size: int = 32
    """Pictures in a step."""
    lr: float | None = None
    """Adam's learning rate. Default: 1e-5, the lecture's; 2e-3 for --trainable head."""
    l2: float | None = None
    """Factor of the squared kernels in the loss. Default: 0; 5e-4 for the gap head trained alone."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the layers that are trained; the weights, the head and the loss are float32 in each."""
    inference_precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The same for layers that only run forward (a frozen trunk, evaluation); auto: bfloat16 where the hardware has
    it."""
    flip: bool = True
    """Mirror half of the pictures, drawn anew in every epoch (--no-flip to leave it)."""
    trunk_memory_gb: float = 4.0
    """The outputs of a frozen trunk are computed once and kept, if they fit in this much memory (GB; while they are
    computed it takes about three times that)."""
    seed: int = 0
    """Of the initial weights, the order of the pictures, the flips and the dropout: same seed, same run."""


@dataclass(frozen=True)
class RunConfig:
    """Where it goes."""

    out: Path
    """The run folder: config, weights, metrics."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint."""
    config: Path | None = None
    """YAML file with values for any of these flags (a run's own config.yaml will do); flags win over it."""


@dataclass(frozen=True)
class TrainConfig:
    """Fine-tune an ImageNet network to tell the classes of your pictures."""

    dataset: DatasetConfig
    network: NetworkConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(out=Path("runs/voc")))

    def resolved(self) -> TrainConfig:
        """With the defaults that depend on other values filled in, and every value checked."""
        default = recipe(self.network.trainable, self.network.head)
        training = replace(self.training, **{name: value for name, value in asdict(default).items()
                                             if getattr(self.training, name) is None})
        for name, least in (("steps", 1), ("batch_size", 1), ("l2", 0), ("seed", 0)):
            if not getattr(training, name) >= least:  # not: NaN
                raise UsageError(f"--{name.replace('_', '-')} {getattr(training, name)}: must be at least {least}")
        if not 0 < (training.lr or 0) < math.inf:
            raise UsageError(f"--lr {training.lr}: must be above 0")
        if training.seed > LARGEST_SEED:
            raise UsageError(f"--seed {training.seed}: must be at most {LARGEST_SEED}")
        weights = self.network.weights
        return replace(
            self,
            dataset=replace(self.dataset, root=self.dataset.root.absolute()),  # a run is used from other folders too
            network=replace(self.network, weights=weights if weights == "none" else str(Path(weights).absolute())),
            training=training,
        )


@dataclass(frozen=True)
class Recipe:
    """The defaults that go together."""

    steps: int
    lr: float
    l2: float


def recipe(trainable: str, head: str) -> Recipe:
    """Sensible steps, learning rate and L2 penalty for what is trained."""
    if trainable != "head":
        return Recipe(steps=6000, lr=1e-5, l2=0.0)  # the lecture's
    # docs/decisions.md: chosen by cross-validation on trainval of the real VOC2007 part
    return Recipe(steps=3000, lr=2e-3, l2=5e-4 if head == "gap" else 0.0)


def to_dict(config: Any) -> Any:
    """A config as plain YAML values."""
    if is_dataclass(config):
        return {entry.name: to_dict(getattr(config, entry.name)) for entry in fields(config)}
    if isinstance(config, Path):
        return str(config)
    if isinstance(config, Enum):
        return config.value
    return list(config) if isinstance(config, tuple) else config
