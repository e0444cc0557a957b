"""Every variable of a network as TF-Slim has it: name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from voc_cls.console import import_tensorflow
from voc_cls.nets.registry import NetSpec

Shape = tuple[int, ...]


@cache
def slim_shapes(spec: NetSpec, classes: int | None = None) -> Mapping[str, Shape]:
    """TF-Slim name → shape of all variables of TF-Slim's network with `classes` logits (default: its ImageNet's).

    The classifier is TF-Slim's (`spec.slim_head`), and Inception v3, v4 and ResNet v2 have their auxiliary one
    (AuxLogits). The network is built without values, which takes seconds and no memory. Imports Keras.
    """
    import_tensorflow()  # quietly, before Keras does
    import keras

    from voc_cls.nets.inception import AUXILIARY, auxiliary_logits
    from voc_cls.nets.layers import slim_name
    from voc_cls.nets.network import build

    classes = classes or spec.imagenet_classes
    with keras.StatelessScope(initialize_variables=False):
        network = build(spec, "fc", classes)
        outputs = [network.model.output]
        if spec.family in AUXILIARY:
            with keras.name_scope(spec.scope):
                outputs.append(auxiliary_logits(spec.family, network.entries["Mixed_7a"], classes, "float32"))
        weights = keras.Model(network.model.input, outputs).weights
    shapes = {spec.slim_path(name): tuple(variable.shape) for variable in weights
              if (name := slim_name(variable)) is not None}
    matrices = {spec.path(f"{scope}/weights") for scope in spec.matrices}
    return {name: shape[2:] if name in matrices else shape for name, shape in shapes.items()}
