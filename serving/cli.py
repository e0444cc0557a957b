"""voc-serve: argument handling, and how the process ends."""

from __future__ import annotations

import logging
import os
import sys

from voc_cls.console import parse, run


def main() -> None:
    """Entry point of voc-serve."""
    code = run("voc-serve", _serve)
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread may still be inside TensorFlow, loading or computing what nobody waits for any more; the interpreter's
    # own way out would wait for it.
    os._exit(code)


def _serve() -> None:
    from serving.config import ServeConfig

    config = parse(ServeConfig, "voc-serve", "A gRPC predictor for an exported model.")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    import asyncio

    from serving.server import serve

    asyncio.run(serve(config))
