"""Every setting of a training, with its default: the command line and config.yaml are made of these dataclasses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from voc_cls.config import FlagOnly, Range, check_ranges, settings_of, typed
from voc_cls.data.augmentation import Augmentation, AugmentationConfig
from voc_cls.data.dataset import DataConfig, Dataset, DifficultPolicy, Task
from voc_cls.data.load import NONE, checked_roots, default_splits, known_kind, open_reader
from voc_cls.data.readers.csv import folds_of
from voc_cls.data.stratify import AUTO
from voc_cls.errors import UsageError
from voc_cls.files import cache_folder
from voc_cls.nets.registry import Head, Normalisation, Resize, net_spec
from voc_cls.training.devices import FeatureEngine, inference_precision

PART_SEED = 0
"""Draws the part that a fraction for `eval_split` takes: runs with other seeds have the same results to compare."""
UNKNOWN = Path("/unknown")
"""What a run from Python records as `root` or `weights` where it cannot be repeated: its provenance says why. Absolute,
so that the run can be resumed from any folder."""
SOLVED_WITH = ("solver", "l2", "seed")
"""The fields of TrainingConfig that mean something to L-BFGS."""
LEAST_INTERVAL = 50
"""Steps between two checkpoints at least, by default: with a frozen backbone an epoch may take milliseconds."""


@dataclass(frozen=True)
class DatasetConfig(DataConfig):
    """The data set. Its kind decides the task: voc is multi-label, cifar10 and folder are single-label, csv depends on
    its header."""

    train_split: str | None = None
    """Split to train on. voc: ImageSets/Main/<split>.txt, or without lists a subfolder such as train; csv: <split>.csv;
    folder: a subfolder; coco: instances_<split>.json. Default: trainval for voc, all pictures of a data set without
    splits, otherwise train, or the only split with a similar name (training_set, train2017)."""
    eval_split: str | None = None
    """Split for the final results, evaluated once after training; none: skip it. A fraction such as 0.2: that part of
    --train-split, excluded from training and the same for every --seed. Default: test, if there is one."""
    val_split: str = AUTO
    """Split to validate on during training: it selects the best weights (by mean AP; single-label: accuracy), and
    thresholds and calibration are fitted to it. auto: a part of --train-split, excluded from training; a fraction such
    as 0.2: the same with this instead of --val-fraction; none: no validation."""
    fold: Annotated[int | None, Range(0)] = None
    """Fold K of `voc-data split --folds`: train on train_K.csv, validate on val_K.csv, evaluate on test_K.csv if it
    exists (csv only); the lists may also be one for each class (train_dog_0.csv). Default: no folds."""
    val_fraction: Annotated[float, Range(0, 1)] = 0.15
    """Fraction of --train-split that --val-split auto takes, 0 to 1; stratified over the classes, drawn with --seed."""
    group: str = AUTO
    """Pictures that --val-split auto keeps on one side: a column of the CSV, or a regular expression with a capture
    group that is the same in their file names, such as '(.+)_\\d+' (with a / in it: in their paths). auto: Roboflow's
    variants of a picture (NAME.rf.HASH.jpg); none: every picture alone."""
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    """voc only: how to label a picture that contains only difficult objects of a class; the VOC protocol ignores it."""

    def checked(self) -> DatasetConfig:
        """With its splits named and its root absolute; what is named already stays as it is.

        UsageError for a fold that does not exist or contradicts the splits; DataError where there is no such data set.
        """
        if self.data is None:
            return replace(self, data=known_kind(None, self.root)).checked()
        train, val, evaluate = self.train_split, self.val_split, self.eval_split
        drawn = self.val_part is not None or fraction_of(evaluate) is not None
        if self.group not in (AUTO, NONE) and (self.fold is not None or not drawn):
            raise UsageError(f"`group` {self.group}: is for `val_split` auto, which draws pictures; omit one of them, "
                             "or draw the lists with `voc-data split`, which takes `group` too")
        if self.fold is not None:
            train, val = self._fold_splits(self.fold)
            if evaluate is None and f"test_{self.fold}" in open_reader(self.data, self.root).splits:
                evaluate = f"test_{self.fold}"
        if train is None or evaluate is None:
            default_train, default_evaluate = default_splits(self.data, self.root)
            train = train or default_train
            evaluate = evaluate or (NONE if default_evaluate == train else default_evaluate)
        # the root is absolute because a run is used from other folders too
        roots = tuple(path.absolute() for path in checked_roots(self.data, self.root))
        return replace(self, root=roots, train_split=train, val_split=val, eval_split=evaluate)

    @property
    def val_part(self) -> float | None:
        """The fraction of the training split to validate on; None where the validation split has a name."""
        return self.val_fraction if self.val_split == AUTO else fraction_of(self.val_split)

    def _fold_splits(self, fold: int) -> tuple[str, str]:
        train, val = f"train_{fold}", f"val_{fold}"
        if self.data != "csv":
            raise UsageError(f"`fold` {fold}: not for `data` {self.data}; make lists with `voc-data split --folds 5`, "
                             "which `data` csv reads")
        for name, given, harmless in (("train_split", self.train_split, (None, train)),
                                      ("val_split", self.val_split, (AUTO, val))):
            if given not in harmless:
                raise UsageError(f"`fold` {fold}: takes {train} and {val}, not `{name}` {given}; omit one of them")
        known = folds_of(self.root[0])
        if fold not in known:
            existing = f"the folds {', '.join(map(str, known))}; choose one of them" if known else (
                "no folds (train_1.csv with val_1.csv); make some with `voc-data split --folds 5`")
            raise UsageError(f"`fold` {fold}: {self.root[0]} has {existing}")
        return train, val


@dataclass(frozen=True)
class NetworkConfig:
    """The network and its initial weights."""

    weights: str = "auto"
    """Initial weights. auto: those of ImageNet for --net, fetched once; without --config, the settings of the network
    that are not given are then chosen by the pictures and the machine, and explained at the start. Or a file: a TF-Slim
    checkpoint, .npz, .npy, .h5, .keras, .pth, Lightning's .ckpt, .safetensors or .onnx (voc-weights fetch downloads
    one, voc-weights diff shows what fits). Or the folder of an earlier run with the same --head, whose best weights are
    used, head included (of a folder of --seeds, each seed takes its own run). none: random weights."""
    weights_entry: str | None = None
    """Key or prefix of the weights in their file, such as model_ema. Default: the only network; of a network and its
    moving average the network."""
    net: str = "vgg_16"
    """Network; voc-nets lists their sizes and accuracies."""
    head: Head = "fc"
    """Classification head. fc: the network's own (VGG, AlexNet: fc6, fc7, m_fc8; the others: global average
    pooling, m_logits). gap: L2-normalised global average pooling, for weight files that contain only the convolutions.
    gap+max: also the maximum, better for small objects. gap+max+lower: also the maximum of the grid before the last
    scope (VGG: conv4), good for frozen layers. csra: every class is scored at each place, where it scores highest
    counting more; for large images, such as 448 pixels. flatten: a dense layer on all values of the last grid."""
    cut: str | None = None
    """End the network behind this scope or pool, such as pool3 (VGG), block4 (ResNet) or Mixed_5b (Inception); the head
    follows it. VGG and AlexNet then need another --head than fc. Default: the whole network."""
    image_size: int | None = None
    """Height and width of the network's input, pixels. Default: the network's own (VGG: 224). A larger input shows
    smaller objects and costs time and memory with its square: 320 twice, 448 four times that of 224. Not for VGG and
    AlexNet with --head fc."""
    normalisation: Normalisation = "auto"
    """Mean and divisor of the pixels. auto: those that the weights were trained with (torchvision's files: torch),
    otherwise the network's own. vgg: minus 123.68, 116.78, 103.94. caffe: minus 123.68, 116.779, 103.939."""
    resize: Resize = "bilinear"
    """Interpolation to the network's size. bilinear-constant: the same with black beyond the picture's edges, which
    darkens the border of small pictures; scikit-image's mode="constant" in a lecture."""
    exclude: tuple[str, ...] = ()
    """Scopes that are not restored from the weight file, such as fc6 fc7, or the beginning of their names, such as fc.
    The head never is."""
    trainable: str = "all"
    """Layers to train: head; all; <scope>+ such as conv5+ for that scope and all later ones; or a regular expression
    that is searched for in the names of the scopes, such as 'conv5|m_fc8'. All other layers are frozen."""


@dataclass(frozen=True)
class TrainingConfig:
    """Duration and learning rate. The defaults of --steps, --lr and --l2 depend on --trainable, --head and
    --optimizer."""

    steps: Annotated[int | None, Range(1)] = None
    """Number of training steps, one batch each. Default: 6000, as in the lecture; 3000 for --trainable head."""
    batch_size: Annotated[int, Range(1)] = 32
    """Pictures per step."""
    lr: Annotated[float | None, Range(1e-30, 1e30)] = None
    """Learning rate. Default: 1e-5, as in the lecture; 2e-3 for --trainable head; 1e-3 for --optimizer sgd, momentum
    and adagrad."""
    solver: Literal["descent", "lbfgs"] | None = None
    """How the weights are found. descent: --optimizer, over --steps. lbfgs: for --trainable head with a convex loss
    and cached features, the optimum itself, in seconds; of these settings it takes --l2, chosen by 3-fold
    cross-validation on the training split unless given, and --seed, and refuses others. Default: lbfgs where it can be
    used and no other of these settings is given, otherwise descent."""
    head_init: Literal["random", "lbfgs"] = "random"
    """Initial weights of a new head that is trained with other layers. lbfgs: its optimum on the layers below as they
    are, by --solver lbfgs, so that its first gradients do not damage them (Kumar et al. 2022)."""
    optimizer: Literal["adam", "adamw", "sgd", "momentum", "adagrad", "rmsprop"] = "adam"
    """Optimiser. adamw: Adam with --weight-decay. sgd: plain gradient descent. momentum: the same with --momentum."""
    momentum: Annotated[float | None, Range(0, 0.9999)] = None
    """Momentum of --optimizer momentum. Default: 0.9."""
    weight_decay: Annotated[float | None, Range(0, 1e9)] = None
    """Decoupled weight decay of --optimizer adamw, on the kernels. Default: 0.004."""
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    """Learning-rate schedule. cosine: falls to 0 at the last step. plateau: multiplied by --plateau-factor when the
    validation score (--monitor; without validation the training loss) has not improved for --plateau-patience
    validations."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """Steps in which the learning rate rises linearly from 0, before the schedule starts (not with plateau)."""
    plateau_factor: Annotated[float, Range(1e-6, 0.999)] = 0.3
    """Factor of --schedule plateau, between 0 and 1."""
    plateau_patience: Annotated[int, Range(1)] = 5
    """Number of validations without improvement after which --schedule plateau lowers the learning rate."""
    early_stopping: Annotated[int | None, Range(1)] = None
    """Stop after this number of validations without improvement. Default: never."""
    min_delta: Annotated[float, Range(0, 1e9)] = 0.0
    """Smallest improvement that keeps --early-stopping waiting, in units of what --monitor watches, such as 1e-4."""
    monitor: Literal["score", "loss"] = "score"
    """What selects the best weights and decides the plateau and early stopping. score: the validation's mean AP;
    single-label: accuracy. loss: the validation's loss."""
    head_lr_multiplier: Annotated[float, Range(0, 1e9)] = 1.0
    """Learning-rate multiplier for new layers. It scales Adam's rate, not the gradient, which Adam would normalise
    away."""
    layer_decay: Annotated[float, Range(0, 1)] = 1.0
    """Learning-rate multiplier from each scope to the one before it, counted back from the last scope below the new
    layers; 1: the same rate everywhere."""
    l2: Annotated[float | None, Range(0, 1e9)] = None
    """Factor of the L2 penalty on the kernels. Default: 0; 5e-4 for a gap head that is trained alone."""
    bn_decay: Annotated[float | None, Range(0, 0.999999)] = None
    """Decay per step of the moving averages of batch normalisation, such as 0.99. Default: the network's own (ResNet:
    0.997, Inception: 0.9997)."""
    frozen_bn: Literal["keep", "update"] = "keep"
    """Batch normalisation of frozen layers. keep: uses its moving averages and leaves them as they are. update:
    normalises by the batch and updates them, as TF-Slim does if layers are frozen by leaving their variables out of
    the optimiser's list."""
    clip_norm: Annotated[float | None, Range(1e-30, 1e30)] = None
    """Largest global norm of the gradients; larger ones are scaled down. Default: no clipping."""
    accumulate: Annotated[int, Range(1)] = 1
    """Number of steps whose gradients are averaged before the weights are updated: a larger effective batch without
    more memory."""
    ema: Annotated[float | None, Range(0, 0.999999)] = None
    """Momentum of an exponential moving average of the weights, such as 0.999. Default: no average."""
    swa: Annotated[float | None, Range(0.001, 1)] = None
    """Last part of the steps over which the weights are averaged, each step counting the same, such as 0.25
    (stochastic weight averaging, Izmailov et al. 2018, with the rate of --schedule). Before it, the average is the
    weights themselves. Default: no average."""
    eval_weights: Literal["raw", "ema", "swa"] | None = None
    """Which weights are validated, saved and evaluated. Default: the average of --ema or --swa, otherwise raw."""
    interval: Annotated[int | None, Range(1)] = None
    """Steps between two validations; each also writes a checkpoint. Default: one epoch, at least 50 steps."""
    keep_checkpoints: Annotated[int, Range(1)] = 1
    """Number of checkpoints to keep for --resume; if one is unreadable, the one before it is used."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0  # NumPy's legacy generator, which Keras seeds too
    """Random seed for the initial weights, the validation split, the order of the pictures, augmentation and
    dropout."""

    @property
    def average(self) -> Literal["ema", "swa"] | None:
        """Which average of the weights is kept beside them."""
        return "ema" if self.ema is not None else "swa" if self.swa is not None else None


@dataclass(frozen=True)
class LossConfig:
    """The loss: the mean over the pictures and, for multi-label, over their classes that are not ignored."""

    loss: Literal["auto", "sigmoid", "softmax", "focal", "asymmetric", "hinge"] = "auto"
    """auto: softmax for single-label data sets, otherwise sigmoid. sigmoid: cross-entropy of each class independently.
    softmax: cross-entropy over all classes. focal (Lin et al. 2017): sigmoid with a lower weight for labels that are
    already predicted well. asymmetric (Ridnik et al. 2021): lower weights for negatives only, and none for very easy
    ones. hinge: the squared hinge loss of a linear support vector machine, which ranks better than it says
    probabilities; for a head alone."""
    focal_gamma: Annotated[float, Range(0, 100)] = 2.0
    """Exponent of --loss focal."""
    label_smoothing: Annotated[float, Range(0, 0.999)] = 0.0
    """Label smoothing, 0 to 1. sigmoid: moves both targets by half of it; softmax: spreads it over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: with sigmoid, the positives of a class get the same total weight as its negatives; with softmax, every
    class gets the same total weight."""

    def for_task(self, task: Task) -> LossConfig:
        """With `auto` replaced by what the task takes; UsageError where the loss is for the other task.

        The loss decides what the logits mean, so a data set of one class a picture takes softmax alone: everything
        that turns logits into probabilities, the export included, can then go by the task.
        """
        if self.loss == "auto":
            return replace(self, loss="sigmoid" if task is Task.MULTI_LABEL else "softmax")
        if (self.loss == "softmax") != (task.activation == "softmax"):
            images = {Task.SINGLE_LABEL: "every picture is of exactly one class",
                      Task.MULTI_LABEL: "a picture may show any number of classes"}[task]
            raise UsageError(f"`loss` {self.loss}: not for a {task.value} data set, in which {images}; omit it for "
                             f"{task.activation}")
        return self


@dataclass(frozen=True)
class ComputeConfig:
    """Number formats and caches."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the layers that are trained; weights, head and loss are always float32."""
    inference_precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of layers that only run forward (a frozen backbone, evaluation). auto: bfloat16 if the hardware
    supports it."""
    feature_engine: FeatureEngine | None = None
    """What computes the features of a frozen backbone, in --inference-precision. keras: Keras' backend. openvino: the
    package openvino. Default: the faster one, measured on two batches, if openvino is installed and there are at least
    1,000 pictures to compute on a CPU; otherwise keras. A resumed run keeps its engine."""
    cache: Literal["none", "memory", "disk"] = "none"
    """Cache the decoded and resized pictures (0.6 MB each at 224 pixels, 2.4 at 448); useful if decoding is slower than
    training."""
    cache_gb: Annotated[float, Range(0, 1e9)] = 16.0
    """Disk space for caches in --cache-dir, GB. The features of a frozen backbone are always cached there, also for
    later runs, if they fit; 0: compute them in every step."""


@dataclass(frozen=True)
class RunConfig:
    """Where the run is written and where it is computed; these flags do not change its result."""

    out: Path = Path("runs/voc")
    """Run folder, for the config, weights, metrics and report."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint."""
    seeds: Annotated[tuple[int, ...], Range(0, 2**32 - 1), FlagOnly()] = ()
    """Train once with each of these seeds instead of --seed, such as 0 1 2, into --out/seed-0 and so on; a table and
    seeds.json in --out have every result with its mean and spread. With --resume, seeds may be added."""
    config: Annotated[Path | None, FlagOnly()] = None
    """YAML file with values for any of these flags, such as a run's config.yaml. Flags and the variables VOC_TRAIN_…
    take precedence. Default: $VOC_TRAIN_CONFIG."""
    cache_dir: Path | None = None
    """Folder for caches. Default: $VOC_CACHE_DIR, otherwise ~/.cache/voc-cls."""
    ray: Annotated[bool, FlagOnly()] = False
    """Compute the features of a frozen backbone on all workers of a Ray cluster: that of $RAY_ADDRESS, or of `ray
    start` on this machine; otherwise on the cores of this machine (extra `ray`; docs/scale.md)."""
    workers: Annotated[int | None, Range(2), FlagOnly()] = None
    """Instead of here, train together in so many processes on the cluster of --ray; where one is lost, they continue
    from the last checkpoint. --out, pictures and weights must be on a file system that all machines share."""
    hosts: Annotated[int, Range(1)] = 1
    """Number of processes that train together, usually one per machine (KERAS_BACKEND=jax; docs/distributed.md)."""
    rank: int | None = None
    """Number of this process, from 0. Default: $VOC_RANK, $SLURM_PROCID or $JOB_COMPLETION_INDEX."""
    coordinator: str | None = None
    """HOST:PORT of rank 0, the same on every host. Default: $VOC_COORDINATOR."""
    mlflow: str | None = None
    """Track the run with MLflow, at this URI, such as http://tracking:5000; without one, at $MLFLOW_TRACKING_URI,
    otherwise in the file mlflow.db here (extra `mlflow`). --resume continues the same run of MLflow."""
    json: Annotated[bool, FlagOnly()] = False
    """Print the results on the evaluation split as JSON, 0 to 1, as evaluation.json has them, or what --doctor finds;
    all else goes to stderr."""
    doctor: Annotated[bool, FlagOnly()] = False
    """Print versions, devices and missing packages, then exit; no other flag is needed."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training depends on."""

    dataset: DatasetConfig
    network: NetworkConfig
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def checked(self) -> Self:
        """With the defaults that depend on other values filled in, and every value checked; reads no images.

        UsageError for values that cannot be used or contradict each other; DataError where there is no such data set.
        """
        solver = self.training.solver or (None if self._why_no_lbfgs() else "lbfgs")
        if solver == "lbfgs" and (reason := self._why_no_lbfgs()):
            raise UsageError(f"`solver` lbfgs: {reason}, or choose descent")
        defaults: dict[str, Any] = {"solver": solver} if solver == "lbfgs" else {
            **recipe(self.network.trainable, self.network.head, self.training.optimizer),
            "eval_weights": self.training.average or "raw"}
        training = replace(self.training, **{name: value for name, value in defaults.items()
                                             if getattr(self.training, name) is None})
        check_ranges(self.dataset, training, self.loss, self.compute, self.run)
        if solver != "lbfgs":
            check_combinations(training, self.dataset.val_split)
        if training.head_init == "lbfgs" and (reason := self._why_no_optimum()):
            raise UsageError(f"`head_init` lbfgs: {reason}")
        if self.augmentation.resolved().crop != "none" and self.compute.cache != "none":
            raise UsageError(f"`cache` {self.compute.cache}: keeps resized pictures, and `augment` "
                             f"{self.augmentation.augment} takes its part before they are; omit one of them")
        weights = self.network.weights
        weights = weights if weights in ("auto", "none") else str(Path(weights).absolute())
        network = replace(self.network, weights=weights,
                          cut=net_spec(self.network.net, self.network.image_size, cut=self.network.cut).cut)
        return replace(self, dataset=self.dataset.checked(), network=network, training=training)

    def _why_no_lbfgs(self) -> str:
        """What keeps the weights from being found by L-BFGS; empty if nothing does."""
        plain, views = TrainingConfig(), self.augmentation.resolved()
        descent = [name for name, value in vars(self.training).items()
                   if name not in SOLVED_WITH and value != getattr(plain, name)]
        if self.network.trainable != "head":
            return (f"only a head alone has an optimum that can be computed, not `trainable` {self.network.trainable}; "
                    "choose head")
        if descent:
            return f"has no `{descent[0]}`, which is of descent; omit it"
        if views.mixes or views.views is None or not self.compute.cache_gb:
            return "needs cached features; give `views` and `cache_gb`, omit `mixup` and `cutmix`"
        return self._why_no_optimum()

    def _why_no_optimum(self) -> str:
        """What keeps the optimum of a head from being computed, whatever is trained beside it."""
        if self.loss.loss in ("focal", "asymmetric"):
            return f"minimises a convex loss, not `loss` {self.loss.loss}; omit it"
        return "" if self.run.hosts == 1 else "runs in one process, not with `hosts`; omit it"

    def resolved(self, train: Dataset) -> ResolvedConfig:
        """With the defaults too that depend on the training images and on the device; from a config that was `checked`.
        UsageError where the loss is for the other task."""
        given = self.training
        epoch = -(-len(train) // given.batch_size)
        interval = given.interval or epoch * -(-LEAST_INTERVAL // epoch)
        descent = {"steps": given.steps or 0, "lr": given.lr or 0.0, "l2": given.l2 or 0.0,  # none with lbfgs
                   "eval_weights": given.eval_weights or "raw", "interval": interval}
        training = ResolvedTraining(**vars(given) | descent)
        return ResolvedConfig(self, training, self.augmentation.resolved(), self.loss.for_task(train.task),
                              inference_precision(self.compute.inference_precision), cache_folder(self.run.cache_dir))


@dataclass(frozen=True, kw_only=True)
class ResolvedTraining(TrainingConfig):
    """How long and how fast, with every default filled in."""

    steps: int
    lr: float
    l2: float
    eval_weights: Literal["raw", "ema", "swa"]
    interval: int


@dataclass(frozen=True)
class ResolvedConfig:
    """What a run goes by; made once, by `TrainConfig.resolved`."""

    settings: TrainConfig
    """What it was made of: for config.yaml, and for all that has no default to be resolved."""
    training: ResolvedTraining
    augmentation: Augmentation
    loss: LossConfig
    """Its `loss` is never "auto"."""
    inference_precision: str
    """float32, bfloat16 or float16: for layers that only run forward."""
    cache: Path
    """Folder of caches."""


def check_combinations(training: TrainingConfig, val_split: str) -> None:
    """UsageError where two settings contradict each other."""
    if training.ema is not None and training.swa is not None:
        raise UsageError(f"`swa` {training.swa:g}: not with `ema` {training.ema:g}, which is another average; omit one "
                         "of them")
    if training.eval_weights not in ("raw", training.average):
        value = {"ema": "0.999", "swa": "0.25"}[str(training.eval_weights)]
        raise UsageError(f"`eval_weights` {training.eval_weights}: there is no such average to evaluate; set "
                         f"`{training.eval_weights}` to {value}, or omit it")
    if training.warmup_steps and training.schedule == "plateau":
        raise UsageError(f"`warmup_steps` {training.warmup_steps}: not with `schedule` plateau, which sets the rate "
                         "itself; choose cosine or constant")
    if training.warmup_steps >= (training.steps or 0):
        raise UsageError(f"`warmup_steps` {training.warmup_steps}: must be below `steps` {training.steps}")
    if training.min_delta and training.early_stopping is None:
        raise UsageError(f"`min_delta` {training.min_delta:g}: is of `early_stopping`, which is off; give it a number "
                         "of validations, or omit both")
    for name, owner in (("momentum", "momentum"), ("weight_decay", "adamw")):
        if getattr(training, name) is not None and training.optimizer != owner:
            raise UsageError(f"`{name}` {getattr(training, name):g}: is of `optimizer` {owner}, not of "
                             f"{training.optimizer}; omit one of them")
    if training.early_stopping is not None and val_split == NONE:
        raise UsageError(f"`early_stopping` {training.early_stopping}: nothing is validated with `val_split` none; "
                         "omit one of them")


def recipe(trainable: str, head: str, optimizer: str) -> dict[str, Any]:
    """Sensible steps, learning rate and L2 penalty for what is trained, and Keras' own values of the optimiser."""
    values: dict[str, Any] = {"steps": 6000, "lr": 1e-5, "l2": 0.0}  # the lecture's
    if trainable == "head":
        # docs/decisions.md: chosen by cross-validation on trainval of the real VOC2007 part
        values = {"steps": 3000, "lr": 2e-3, "l2": 0.0 if head in ("fc", "flatten") else 5e-4}
    if optimizer in ("sgd", "momentum", "adagrad"):
        values["lr"] = 1e-3  # a step is then as long as the gradient, or falls with the sum of all before
    return values | {"momentum": {"momentum": 0.9}, "adamw": {"weight_decay": 0.004}}.get(optimizer, {})


def option_groups(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a training from Python, such as steps=500, as the groups that they belong to.
    UsageError for one that does not exist or has a value of a wrong type."""
    kinds: dict[str, Any] = {"training": TrainingConfig, "loss": LossConfig, "augmentation": AugmentationConfig,
                             "compute": ComputeConfig}
    settings = {setting.name: (group, setting.type) for group, kind in kinds.items()
                for setting in settings_of(kind) if setting.name != "precision"}  # the network has that
    values: dict[str, dict[str, Any]] = {group: {} for group in kinds}
    for name, value in options.items():
        if name not in settings:
            raise UsageError(f"`{name}`: there is no such option; known are {', '.join(sorted(settings))}")
        group, type_ = settings[name]
        values[group][name] = typed(value, type_, f"`{name}`")
    return {group: kind(**values[group]) for group, kind in kinds.items()}


def fraction_of(split: str | None) -> float | None:
    """0.2 for a split called 0.2, which is drawn from the training split; None for the name of a split."""
    return float(split) if split and re.fullmatch(r"0?\.\d+", split) and float(split) else None


def recorded_dataset(values: Mapping[str, Any]) -> DatasetConfig:
    """The data set of a run, from `dataset` in its config.yaml."""
    return DatasetConfig(**{setting.name: typed(values[setting.name], setting.type, f"dataset.{setting.name}")
                            for setting in settings_of(DatasetConfig) if setting.name in values})


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass of settings as plain YAML values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))  # paths and tuples are not plain
    return values
