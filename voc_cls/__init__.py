"""Fine-tune an ImageNet network to tell the classes of images, evaluate it, export it. See docs/python.md.

```python
import voc_cls as vc

data = vc.load_dataset("VOCdevkit/VOC2007")
train, val = data["trainval"].split(0.15, seed=0)
net = vc.create_network("vgg_16", classes=train.classes, head="gap", weights=vc.fetch_weights("vgg_16_conv"))
run = vc.train(net, train, val, trainable="head", out="runs/voc")
report = vc.evaluate(run, data["test"])
vc.export(run, "models/voc")
```
"""

from voc_cls.api import create_network, evaluate, export, fetch_weights, load_dataset, open_run, train
from voc_cls.version import __version__

__all__ = ["__version__", "create_network", "evaluate", "export", "fetch_weights", "load_dataset", "open_run", "train"]
