"""Every error a person can cause, and nothing else.

VocError              exit code 1; the message is one sentence: the thing, what was found, what to do
├── UsageError        exit code 2; a flag or a config key is wrong
├── DataError         a picture, an annotation or a split
├── DownloadError     a file that does not come over the network
├── WeightsError      a weight file, or its fit to a network
├── RunError          a run folder
├── ExportError       an exported model
└── ClientError       a server that refuses, or cannot be reached
    └── CallError     (voc_cls.client) a call that was refused, with its gRPC status and request id

Interrupted           exit code 128 + signal: 143 after SIGTERM, 130 after Ctrl-C; what was done is saved

A message names a parameter in backticks, as in "`image_size` 12: must be at least 32"; the command line shows the
flag instead (console.with_flags).
"""

from __future__ import annotations

import json
import re
from signal import Signals


class VocError(Exception):
    """A problem that a person can put right; its message is what they are shown."""

    exit_code = 1


class UsageError(VocError):
    """A flag, or a key of a config file, has a value that cannot be used."""

    exit_code = 2


class DataError(VocError):
    """A data set, a picture or an annotation is not what it should be."""


class DownloadError(VocError):
    """A file cannot be fetched, is damaged, or is another one than expected."""


class WeightsError(VocError):
    """A weight file cannot be read, or does not fit the network."""


class RunError(VocError):
    """A run folder is missing, incomplete or belongs to something else."""


class ExportError(VocError):
    """A model cannot be exported, what was exported failed its verification, or an exported model cannot be read."""


class ClientError(VocError):
    """A server could not be reached, or refused a request."""


class Interrupted(BaseException):
    """A signal asked the process to end. Not an Exception, like KeyboardInterrupt: Keras would wrap it in another."""

    def __init__(self, number: Signals, then: str) -> None:
        super().__init__(f"stopped by {number.name}; {then}")
        self.exit_code = 128 + number


def reason(error: BaseException) -> str:
    """What a library says is wrong, for the brackets of a message: without Python's names, 300 characters at most."""
    text = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
    if isinstance(error, UnicodeDecodeError):
        text = f"byte {error.start:,} is not UTF-8 text"
    if mark := getattr(error, "problem_mark", None):  # YAML
        text = f"line {mark.line + 1}: {getattr(error, 'problem', '')}"
    # OpenVINO's lines but the last are places in its source; TensorFlow names nodes of its graph
    text = re.sub(r"(?s)^Exception from src/.*\n|\{\{.*?\}\}|\[Op:.*?\]|Graph execution error:", "", text.strip())
    return " ".join(text.split())[:300].rstrip(".! ") or type(error).__name__


def shown(value: object) -> str:
    """A value in a message: text in quotation marks, others as JSON and YAML write them."""
    return repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
