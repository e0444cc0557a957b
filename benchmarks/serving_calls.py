"""Results of a set of calls: their rate, latencies and statuses."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

UNANSWERED = frozenset({"DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE", "UNKNOWN", "TimeoutError",
                        "ServerDisconnectedError", "ServerTimeoutError"})
"""Statuses of a call to which the server said nothing: its time was up, or the connection broke."""


@dataclass(frozen=True)
class Call:
    """One call; times in s, `begin` as time.monotonic() has it in every process of the machine."""

    begin: float
    seconds: float
    status: str

    @property
    def end(self) -> float:
        """When the answer was there."""
        return self.begin + self.seconds

    @property
    def answered(self) -> bool:
        """Whether it has its labels."""
        return self.status == "OK"


def calls_of(answer: dict[str, Any]) -> list[Call]:
    """What the callers' process answered, in the order of the calls' beginnings."""
    return sorted((Call(*call) for call in answer["calls"]), key=lambda call: call.begin)


def begun(calls: Iterable[Call], since: float, until: float = float("inf")) -> list[Call]:
    """The calls that began in that time."""
    return [call for call in calls if since <= call.begin <= until]


def ended(calls: Iterable[Call], since: float, until: float) -> list[Call]:
    """The calls that ended in that time."""
    return [call for call in calls if since <= call.end <= until]


def throughput(calls: Iterable[Call]) -> float:
    """Answers per second: the slope of their number over time.

    Answers come in bursts, a batch at a time. Number divided by time would be off by up to a batch, which is a tenth
    of what VGG-16 computes in ten seconds; the slope of a staircase is the same wherever it is cut.
    """
    ends = sorted(call.end for call in calls if call.answered)
    return statistics.linear_regression(ends, range(len(ends))).slope if len(ends) > 1 else 0.0


def percentile(calls: Iterable[Call], share: float) -> float:
    """Seconds within which `share` (0 to 1) of the answered calls were answered; NaN if none was."""
    seconds = sorted(call.seconds for call in calls if call.answered)
    return seconds[min(len(seconds) - 1, int(share * len(seconds)))] if seconds else float("nan")


def share(calls: Sequence[Call], *statuses: str) -> float:
    """Share of the calls, 0 to 1, that ended with one of the statuses."""
    return sum(call.status in statuses for call in calls) / len(calls) if calls else float("nan")


def statuses(calls: Iterable[Call]) -> dict[str, int]:
    """How many calls ended with which status, the most frequent first."""
    return dict(Counter(call.status for call in calls).most_common())
