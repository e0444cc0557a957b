"""Where the time of one request went, so that the parts add up to the whole."""

from __future__ import annotations

from collections import Counter, defaultdict

from serving.request_context import Stage

PRECEDENCE: tuple[Stage, ...] = ("engine", "decode", "queue", "decode_queue")
"""Of several stages that the images of a request are in at a moment, the one that the moment counts for: work before
waiting."""
SHOWN = ("receive", "decode_queue", "decode", "queue", "engine", "answer", "unfinished")
MOST_SPANS = 4096
"""Spans kept before they are summed up: a stream may have images for hours."""


class StageTimes:
    """Each moment of a request counts for one stage.

    `receive` is the time in which none of its images is here: until the first begins, and while a stream waits for its
    caller; `answer` is what follows the last, and `unfinished` that of a request that failed, maybe within a stage.
    """

    def __init__(self, begin: float) -> None:
        """`begin`: of the request, seconds of time.monotonic()."""
        self.images = 0
        """Images that went through the engine."""
        self.runtime: float | None = None
        """Seconds from the first image's entry into the queue to the last one's exit from the engine, if any."""
        self._queued_at = 0.0
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._summed_up_to = begin
        self._spans: set[tuple[float, float, Stage]] = set()  # those of a batch are the same for its images

    def add(self, stage: Stage, begin: float, end: float) -> None:
        """An image was in a stage."""
        self.images += stage == "engine"
        if stage in ("queue", "engine"):
            self._queued_at = min(self._queued_at or begin, begin)
            self.runtime = max(self.runtime or 0.0, end - self._queued_at)
        self._spans.add((begin, end, stage))
        if len(self._spans) > MOST_SPANS:
            self._sum_up()

    def until(self, end: float, failed: bool = False) -> dict[str, float]:
        """Seconds in each stage of a request that has ended; empty for one without images."""
        self._sum_up()
        if self._spent:
            self._spent["unfinished" if failed else "answer"] += max(0.0, end - self._summed_up_to)
        return {stage: self._spent[stage] for stage in SHOWN if self._spent[stage]}

    def _sum_up(self) -> None:
        changes = sorted([(begin, 1, stage) for begin, _, stage in self._spans]
                         + [(end, -1, stage) for _, end, stage in self._spans])
        running: Counter[Stage] = Counter()
        for moment, change, stage in changes:
            counts_for = next((one for one in PRECEDENCE if running[one]), "receive")
            self._spent[counts_for] += max(0.0, moment - self._summed_up_to)
            self._summed_up_to = max(self._summed_up_to, moment)
            running[stage] += change
        self._spans.clear()
