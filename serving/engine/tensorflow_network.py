"""A version's network on TensorFlow: its variables frozen to constants, in a session of its own.

Frozen, oneDNN keeps the weights in the order it wants them (VGG-16, 2 pictures, 2 cores: 8.8 → 15.2 pictures/s). A
session, not tf.function: threads and precision belong to it. It lives in the process of serving.engine.worker.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import tensorflow as tf

from serving.engine.engine import Inputs, Scores
from serving.engine.tensorflow_errors import reason
from serving.errors import ServeError

v1 = tf.compat.v1

BFLOAT16_CPU_FLAGS = ("avx512_bf16", "amx_bf16")
"""Instructions with which oneDNN multiplies bfloat16 faster than float32."""
BFLOAT16_OPTIMIZER = "auto_mixed_precision_onednn_bfloat16"
CPU_INFO = Path("/proc/cpuinfo")


class Precision(StrEnum):
    """In what the network is computed; weights, inputs and outputs are float32 in any case."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    AUTO = "auto"


def choose_precision(wanted: Precision, cpu_info: Path = CPU_INFO) -> Precision:
    """`auto` becomes bfloat16 where the CPU has instructions for it; ServeError if it was asked for and has none."""
    able = not _gpu() and cpu_info.exists() and any(
        re.search(rf"\b{flag}\b", cpu_info.read_text()) for flag in BFLOAT16_CPU_FLAGS)
    if wanted is Precision.AUTO:
        return Precision.BFLOAT16 if able else Precision.FLOAT32
    if wanted is Precision.BFLOAT16 and not able:
        raise ServeError(f"--precision bfloat16 needs a CPU with {' or '.join(BFLOAT16_CPU_FLAGS)} and no GPU, and "
                         "this machine is none: pass float32 or auto")
    return wanted


class TensorFlowNetwork:
    """The signature `predict_tensors` of one exported version, loaded and frozen."""

    def __init__(self, version_folder: Path, precision: Precision, threads: int) -> None:
        self._precision = choose_precision(precision)
        self._threads = threads
        v1.logging.set_verbosity(v1.logging.ERROR)  # or it warns that sessions are of the old world
        try:
            graph_def, signature = _frozen(version_folder)
            graph = v1.Graph()
            with graph.as_default():
                v1.import_graph_def(graph_def, name="")
        except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
            raise ServeError(f"{version_folder} cannot be loaded ({reason(error)}): export the model again with "
                             "voc-export") from error
        self._session = v1.Session(graph=graph, config=self._config())
        self._run = self._session.make_callable(
            [signature.outputs["probabilities"].name, signature.outputs["logits"].name],
            [signature.inputs["inputs"].name])

    @property
    def description(self) -> str:
        """Library, device, precision and threads."""
        return f"TensorFlow {tf.__version__}, {'GPU' if _gpu() else 'CPU'}, {self._precision}, {self._threads} threads"

    def predict(self, inputs: Inputs) -> Scores:
        """float32 [N, size, size, 3] through the network."""
        probabilities, logits = self._run(inputs)
        return Scores(probabilities, logits)

    def _config(self) -> Any:
        """Threads and precision of the session; on a CPU only those of TensorFlow's graph optimisers that matter.

        Each of its twenty copies the weights: with VGG-16's 537 MB of the fc head the first call took 45 to 80 s and
        10 GB, with these three 15 to 25 s and 7 to 9 GB, at the same speed afterwards.
        """
        config = v1.ConfigProto(intra_op_parallelism_threads=self._threads, inter_op_parallelism_threads=self._threads)
        config.gpu_options.allow_growth = True
        config.experimental.optimize_for_static_graph = True  # or the session keeps one more copy of the weights
        if not _gpu():
            lower = [BFLOAT16_OPTIMIZER] if self._precision is Precision.BFLOAT16 else []
            config.graph_options.rewrite_options.optimizers.extend(["function", *lower, "constfold", "remap"])
            config.graph_options.rewrite_options.meta_optimizer_iterations = 1
        return config


def start_threads(threads: int) -> None:
    """Starts the pools of threads that all sessions of this process share; TensorFlow sizes them once, by the cores
    that it may use when its first session starts."""
    config = v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    config.gpu_options.allow_growth = True
    with v1.Graph().as_default(), v1.Session(config=config) as session:
        session.run(v1.matmul(v1.ones((64, 64)), v1.ones((64, 64))))


def _frozen(version_folder: Path) -> tuple[Any, Any]:
    """(the graph of `predict_tensors` with constants for variables, its signature)."""
    with v1.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.load(session, ["serve"], str(version_folder))
        signature = meta_graph.signature_def["predict_tensors"]
        outputs = sorted({tensor.name.split(":")[0] for tensor in signature.outputs.values()})
        needed = v1.graph_util.extract_sub_graph(meta_graph.graph_def, outputs)
        return v1.graph_util.convert_variables_to_constants(session, needed, outputs), signature



def _gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))
