"""What is wrong with a command line, in one sentence instead of tyro's box."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from voc_cls.errors import UsageError

NUMBERS = {"INT": "a whole number", "FLOAT": "a number"}


def reject(event: Any, program: str, args: Sequence[str], printed: Callable[[Sequence[str]], str]) -> None:
    """Raises UsageError for an event of `tyro._errors` that it knows. printed: what tyro prints for other `args`."""
    commands = re.findall(r"^[│ ] +• (\w+)", printed(["--help"]), re.MULTILINE)
    chosen = [argument for argument in args[:1] if argument in commands]
    argument, problem = getattr(event, "argument", None), ""
    if words := getattr(event, "tokens", None) or getattr(event, "unrecognized_tokens", None):
        word = next((word for word in words if word.startswith("-")), words[0]).partition("=")[0]
        flags = re.findall(r"^[│ ] (--[\w-]+)", printed([*chosen, "--help"]), re.MULTILINE)
        close = " or ".join(get_close_matches(word, [*flags, *commands], 2, cutoff=0.75))
        problem = f"{word}: no such {'flag' if word[0] == '-' else 'argument'}{close and f' (did you mean {close}?)'}"
    elif type(event).__name__ in ("MissingArgs", "MissingSubcommand"):
        arguments = [entry.arg for entry in getattr(event, "missing_arguments", ())]
        missing = [f"{one.display_name()} ({re.split('[.:;](?: |$)', one.field.helptext)[0]})" for one in arguments]
        problem = f"missing: {', and '.join(missing) or 'one of the commands ' + ', '.join(commands)}"
    elif argument is not None and getattr(event, "reason", "") == "too_few_values":
        problem = f"{argument.display_name()}: a value is missing, {argument.lowered.metavar}"
    elif argument is not None:
        value = getattr(event, "value", "") or re.sub(r".*: |[\[\]'\"]", "", event.message.splitlines()[-1])
        kind = argument.lowered.metavar.partition("}")[0].replace(",", ", ")
        kind = next((NUMBERS[name] for name in NUMBERS if name in kind), kind.replace("[", "").replace("{", "one of "))
        problem = f"{'' if argument.is_positional() else argument.lowered.name_or_flags[0]} {value}: must be {kind}"
    if problem:
        raise UsageError(f"{problem.strip()}; see `{' '.join([program, *chosen])} --help`")

