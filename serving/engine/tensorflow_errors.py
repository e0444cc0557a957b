"""What TensorFlow's errors say, in one sentence."""

from __future__ import annotations

import re


def reason(error: Exception) -> str:
    """The sentence in a TensorFlow error, without node names and the stack of the graph that raised it."""
    lines = [re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", line).strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Graph execution error", "Detected at", "Node:"))]
    return (told[0] if told else type(error).__name__).rstrip(". ")
