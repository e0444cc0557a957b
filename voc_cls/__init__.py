"""voc-cls: fine-tune an ImageNet network on PASCAL VOC, evaluate, export and serve it."""

__version__ = "0.4.0"
