"""Fine-tune an ImageNet network for multi-label PASCAL VOC classification, evaluate it and ask it."""

from voc_cls.version import __version__

__all__ = ["__version__"]
