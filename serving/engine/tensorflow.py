"""A version's network in TensorFlow, in the worker's process.

The variables are frozen to constants: then oneDNN keeps the weights in the order it wants them (VGG-16, batch 2,
2 cores: 8.8 → 15.2 images/s). Sessions, not tf.function: threads and precision belong to a session.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from serving.engine.process import Inputs, Scores
from serving.errors import ServeError
from voc_cls.errors import reason

v1 = tf.compat.v1
v1.logging.set_verbosity(v1.logging.ERROR)  # or it warns that sessions are deprecated

BFLOAT16_CPU_FLAGS = ("avx512_bf16", "amx_bf16")
"""CPU instructions with which oneDNN multiplies bfloat16 faster than float32."""
BFLOAT16_OPTIMIZER = "auto_mixed_precision_onednn_bfloat16"
CPU_INFO = Path("/proc/cpuinfo")


def choose_precision(wanted: str, cpu_info: Path = CPU_INFO) -> str:
    """`auto` becomes bfloat16 where the CPU has instructions for it; ServeError if bfloat16 is not supported.

    The number type of the computation only: weights, inputs and outputs are always float32.
    """
    supported = not _gpu() and cpu_info.exists() and any(
        re.search(rf"\b{flag}\b", cpu_info.read_text()) for flag in BFLOAT16_CPU_FLAGS)
    if wanted == "auto":
        return "bfloat16" if supported else "float32"
    if wanted == "bfloat16" and not supported:
        raise ServeError(f"`precision` bfloat16 needs a CPU with {' or '.join(BFLOAT16_CPU_FLAGS)} and no GPU, which "
                         "this machine does not have: choose float32 or auto")
    return wanted


class TensorFlowNetwork:
    """The signatures `predict_tensors` and, once it is called, `explain_tensors` of one version, loaded and frozen."""

    def __init__(self, version_folder: Path, precision: str, threads: int) -> None:
        self._precision = choose_precision(precision)
        self._threads, self._folder = threads, version_folder
        self._run = self._loaded("predict_tensors", ("probabilities", "logits"))
        self._explain: Any = None

    def _loaded(self, name: str, outputs: Sequence[str]) -> Any:
        """The function of a signature, inputs → `outputs`; ServeError."""
        version_folder = self._folder
        try:
            graph_def, signature = _frozen(version_folder, name)
            graph = v1.Graph()
            with graph.as_default():
                v1.import_graph_def(graph_def, name="")
        except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
            raise ServeError(f"{version_folder} cannot be loaded ({reason(error)}): export the model again with "
                             "voc-export") from error
        self._session = v1.Session(graph=graph, config=self._config())
        return self._session.make_callable([signature.outputs[output].name for output in outputs],
                                           [signature.inputs["inputs"].name])

    @property
    def description(self) -> str:
        return f"TensorFlow {tf.__version__}, {'GPU' if _gpu() else 'CPU'}, {self._precision}, {self._threads} threads"

    def choose_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """All: TensorFlow optimises its graph for each size at its first batch."""
        return sizes

    def predict(self, inputs: Inputs) -> Scores:
        """float32 [N, size, size, 3] through the network."""
        probabilities, logits = self._run(inputs)
        return Scores(probabilities, logits)

    def explain(self, inputs: Inputs) -> Scores:
        """float32 [1, size, size, 3] → all outputs."""
        if self._explain is None:
            self._explain = self._loaded("explain_tensors", ("probabilities", "logits", "heat_maps", "embedding"))
        return Scores(*self._explain(inputs))

    def _config(self) -> Any:
        """Threads and precision of the session; on a CPU only those of TensorFlow's graph optimisers that matter.

        Each of the twenty copies the weights: with the 537 MB of VGG-16's fc head the first call took 45 to 80 s and
        10 GB, with these three 15 to 25 s and 7 to 9 GB, at the same speed afterwards.
        """
        config = v1.ConfigProto(intra_op_parallelism_threads=self._threads, inter_op_parallelism_threads=self._threads)
        config.gpu_options.allow_growth = True
        config.experimental.optimize_for_static_graph = True  # or the session keeps one more copy of the weights
        if not _gpu():
            lower = [BFLOAT16_OPTIMIZER] if self._precision == "bfloat16" else []
            config.graph_options.rewrite_options.optimizers.extend(["function", *lower, "constfold", "remap"])
            config.graph_options.rewrite_options.meta_optimizer_iterations = 1
        return config


def start_threads(threads: int) -> None:
    """Starts the thread pools that all sessions of this process share.

    TensorFlow sizes them once, by the cores that it may use when its first session starts.
    """
    config = v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    config.gpu_options.allow_growth = True
    with v1.Graph().as_default(), v1.Session(config=config) as session:
        session.run(v1.matmul(v1.ones((64, 64)), v1.ones((64, 64))))


def _frozen(version_folder: Path, name: str) -> tuple[Any, Any]:
    """(the graph of the signature `name` with constants for variables, the signature)."""
    with v1.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.load(session, ["serve"], str(version_folder))
        signature = meta_graph.signature_def[name]
        outputs = sorted({tensor.name.split(":")[0] for tensor in signature.outputs.values()})
        needed = v1.graph_util.extract_sub_graph(meta_graph.graph_def, outputs)
        return v1.graph_util.convert_variables_to_constants(session, needed, outputs), signature


def _gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))
