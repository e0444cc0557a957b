"""Forks voc-train from a process that has imported Keras with JAX: ranks start in a moment. For test_distribution.py.

Reads a line of JSON for each thing to do and answers with a line of JSON:
{"arguments", "environment", "output", "errors"} starts voc-train and gives its process id; {"pid", "block"} gives the
exit code of that process, null while it runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from voc_cls.console import import_tensorflow

import_tensorflow()
import voc_cls.evaluation.tables  # noqa: E402
import voc_cls.training.session  # noqa: E402, F401
from voc_cls.cli.train import main  # noqa: E402


def serve() -> dict[str, Any] | None:
    """Does what is asked, and ends what runs when nobody asks any more; in a forked process returns what to run."""
    running = set()
    for line in sys.stdin:
        asked = json.loads(line)
        if "pid" in asked:
            pid, status = os.waitpid(asked["pid"], 0 if asked["block"] else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        else:
            answer = os.fork()
            if answer == 0:
                return asked
            running.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    return None


def become(asked: dict[str, Any]) -> None:
    """Turns a forked process into one that a launcher has started."""
    for path, flags, descriptor in ((os.devnull, os.O_RDONLY, 0), (asked["output"], os.O_WRONLY | os.O_CREAT, 1),
                                    (asked["errors"], os.O_WRONLY | os.O_CREAT, 2)):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["voc-train", *asked["arguments"]]


if __name__ == "__main__":
    todo = serve()
    if todo is None:
        os._exit(0)  # at once: TensorFlow and JAX take seconds to take leave
    become(todo)
    main()
