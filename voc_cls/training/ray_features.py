"""The features of a frozen backbone, computed by the workers of a Ray cluster: the same rows, in the same order."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.nets.network import Network, build
from voc_cls.ray_cluster import connected
from voc_cls.training.backbone import BATCH_SIZE, FrozenBackbone, View, frozen_backbone
from voc_cls.training.devices import accelerators

TASK_VIEWS = 2 * BATCH_SIZE


class Worker:
    """An actor that holds the backbone."""

    def __init__(self, spec: Any, head: str, classes: int, weights: Any, first: str, precision: str, engine: Any
                 ) -> None:
        """weights: a reference to those of the whole network; the others as for `build` and `frozen_backbone`."""
        import ray

        network = build(spec, head, classes)
        network.model.set_weights(ray.get(weights))
        self.backbone = frozen_backbone(network, first, precision).on(engine)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        """Pickled views → the bytes of their features, as Arrow has no bfloat16."""
        rows = np.concatenate(list(self.backbone.compute(pickle.loads(task["views"][0]))))
        return {"rows": rows.view(np.uint8).reshape(len(rows), -1)}


def by_workers(network: Network, first: str, backbone: FrozenBackbone
               ) -> Callable[[Sequence[View]], Iterator[npt.NDArray[Any]]]:
    """What `backbone.compute` does for the backbone of `network` before the scope `first`, on a Ray cluster."""
    def compute(views: Sequence[View]) -> Iterator[npt.NDArray[Any]]:
        tasks = [{"views": pickle.dumps(views[start:start + TASK_VIEWS])}
                 for start in range(0, len(views), TASK_VIEWS)]
        output = backbone.model.output
        with connected() as ray:
            ray.data.DataContext.get_current().execution_options.preserve_order = True
            weights = ray.put(network.model.get_weights())
            results = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
                Worker, batch_size=1, num_cpus=1, num_gpus=bool(accelerators()),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=len(tasks), max_tasks_in_flight_per_actor=2),
                fn_constructor_args=(network.spec, network.head, network.classes, weights, first, backbone.precision,
                                     backbone.engine))
            for batch in results.iter_batches(batch_size=TASK_VIEWS):
                rows = np.ascontiguousarray(batch["rows"])
                yield rows.view(output.dtype).reshape(-1, *output.shape[1:])

    return compute
