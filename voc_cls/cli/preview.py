"""voc-data preview: training pictures as the network sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from voc_cls.console import import_tensorflow
from voc_cls.data.augmentation import AugmentationConfig
from voc_cls.data.dataset import DataKind, DifficultPolicy
from voc_cls.errors import UsageError


@dataclass(frozen=True)
class Preview:
    """Draw training pictures into a PNG file, original and augmented.

    Example:
      voc-data preview --root VOCdevkit/VOC2007 --augment lecture
    """

    root: Path
    """Path of the data set; see voc-data check --help."""
    data: DataKind = "voc"
    """Kind of data set."""
    split: str | None = None
    """The split of the pictures. Default: the training split of voc-train."""
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    """voc only: how to label a picture that contains only difficult objects of a class."""
    net: str = "vgg_16"
    """Network whose input size is used."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    pictures: int = 6
    """Number of pictures, one per row, chosen at random; mixup and CutMix combine them with each other."""
    variants: int = 5
    """Augmented variants of each picture."""
    seed: int = 0
    """Random seed: the same seed draws the same sheet."""
    out: Path = Path("preview.png")
    """PNG file to write."""

    def run(self) -> None:
        """Draws, then prints where."""
        augmentation = self.augmentation.resolved()
        for name, least, most in (("pictures", 1, 100), ("variants", 1, 20), ("seed", 0, None)):
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                limits = f"at least {least}" if most is None else f"from {least} to {most}"
                raise UsageError(f"--{name} {value}: must be {limits}")
        from voc_cls.data.load import default_splits, read_dataset
        from voc_cls.data.preview import draw_preview, preview
        from voc_cls.nets.registry import net_spec

        preprocessing = net_spec(self.net).preprocessing
        split = self.split or default_splits(self.data, self.root)[0]
        dataset = read_dataset(self.data, self.root, split, self.difficult)
        import_tensorflow()
        shown = preview(dataset, self.pictures, self.variants, augmentation, preprocessing, self.seed)
        draw_preview(self.out, shown, dataset.classes, f"{dataset.name}: training pictures as {self.net} sees them",
                     f"left: as they are; then {self.variants} variants each, {_flags(self.augmentation)}, seed "
                     f"{self.seed}")
        print(f"{self.out}: {len(shown.names)} pictures, {self.variants} variants of each")


def _flags(config: AugmentationConfig) -> str:
    """The flags of `config`, without those that are not set."""
    default, given = AugmentationConfig(), []
    for name, value in vars(config).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            given.append(f"--{flag}" if value else f"--no-{flag}")
        elif name == "augment" or value != getattr(default, name):
            given.append(f"--{flag} {value}")
    return " ".join(given)
