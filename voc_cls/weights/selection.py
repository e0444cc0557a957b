"""Which tensors of a file are the network's: trainers put them under a key, behind a prefix, beside averaged ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from voc_cls.errors import WeightsError
from voc_cls.weights.diff import shortened
from voc_cls.weights.tensors import KEY, WeightFile

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What DataParallel, torch.compile, FSDP and activation checkpointing put before the names of the layers within."""
WRAPPER = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(WRAPPERS)})\.")
AVERAGED = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?)(?![a-z])", re.IGNORECASE)
"""In a key or prefix: the weights are a moving average of those of the training."""


def select_network(file: WeightFile, marks: Collection[str], entry: str | None = None) -> tuple[WeightFile, str]:
    """The file with the tensors of one network under their bare names, and a sentence on what was taken.

    `marks` are tensors by which a naming scheme recognises a network. `entry` is the key or prefix of the network, such
    as "model_ema"; None: the only network, but for averages. WeightsError for an entry that is not there, and where the
    choice is not clear.
    """
    starts = list(dict.fromkeys(_starts_of_networks(file.tensors, marks)))
    if not starts:
        starts = list(dict.fromkeys(_dictionary(name) for name in file.tensors))
    start = _choose(file, starts, entry) if starts else ""
    dictionary = _dictionary(start)
    within = [name for name in file.tensors if name.startswith(start) and KEY not in name.removeprefix(start)]
    within.sort(key=lambda name: WRAPPER.search(name.removeprefix(start)) is None)  # of x and module.x the bare x
    names = {WRAPPER.sub("", name.removeprefix(start)): name for name in within}
    taken = tuple(names.values())
    for name in sorted(file.tensors.keys() - set(names.values())):  # such as a head outside the backbone
        bare = name.removeprefix(dictionary)
        if name.startswith(dictionary) and KEY not in bare:
            names[f"{bare} beside {start.removeprefix(dictionary)}" if bare in names else bare] = name
    if (len(starts) <= 1 and len(names) == len(file.tensors)
            and all(bare == name for bare, name in names.items())):
        return file, ""
    selected = WeightFile(file.path, file.format, {bare: file.tensors[name] for bare, name in names.items()},
                          lambda bare: file.read(names[bare]))
    return selected, _note(file, start, starts, taken)


def _starts_of_networks(names: Iterable[str], marks: Iterable[str]) -> Iterable[str]:
    """What stands before each tensor that marks a network; of two marks that fit, before the longer one."""
    between = rf"\.(?:(?:{'|'.join(WRAPPERS)})\.)*"
    patterns = [re.compile(rf"(|.*(?:\.|{KEY})){between.join(map(re.escape, mark.split('.')))}")
                for mark in sorted(marks, key=len, reverse=True)]
    for name in names:
        match = next(filter(None, (pattern.fullmatch(name) for pattern in patterns)), None)
        if match is not None:
            yield match[1]


def _choose(file: WeightFile, starts: Collection[str], entry: str | None) -> str:
    chosen = [start for start in starts if entry is None or f".{entry}." in f".{_label(start)}."]
    if not chosen:
        raise WeightsError(f"{file.path} has no weights under `weights_entry` {entry}; it has {_listed(starts)}")
    plain = [start for start in chosen if not AVERAGED.search(start)] or chosen
    outermost = min(plain, key=len)
    if not all(start.startswith(outermost) for start in plain):
        raise WeightsError(f"{file.path} has weights of several networks: {_listed(chosen)}; choose with "
                           "`weights_entry`")
    return outermost


def _note(file: WeightFile, start: str, starts: Collection[str], taken: Iterable[str]) -> str:
    """What was taken and what was not."""
    dictionary, others = _dictionary(start), [other for other in starts if other != start]
    wrappers = {match[0] for name in taken if name.startswith(start)
                for match in WRAPPER.finditer(name.removeprefix(start))}
    prefixes = " and ".join(filter(None, (start.removeprefix(dictionary), *sorted(wrappers))))
    return (f"{file.path.name}: took the weights" + (f" under the key {_label(dictionary)}" if dictionary else "")
            + (f", without the prefix {prefixes} of their names" if prefixes else "")
            + (f"; the file also has {_listed(others)}: choose with `weights_entry`" if others else ""))


def _dictionary(name: str) -> str:
    """The keys before a name, or before a prefix."""
    return name[:name.rfind(KEY) + len(KEY)] if KEY in name else ""


def _label(start: str) -> str:
    """As `weights_entry` names it."""
    return start.replace(KEY, ".").rstrip(".")


def _listed(starts: Iterable[str]) -> str:
    return shortened([_label(start) or "names without key or prefix" for start in starts], 12)
