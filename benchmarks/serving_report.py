"""The tables of benchmarks/serving.py: ratios within a round, with their median and range over the rounds."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from serving_calls import UNANSWERED


@dataclass(frozen=True)
class EngineTurn:
    """Decoder and network without a server."""

    network: float
    """Pictures/s of the network, on decoded pictures."""
    with_decoding: float
    """Pictures/s with the decoder threads beside it."""
    lone: float
    """Median seconds for one picture alone, decoded and computed."""


@dataclass(frozen=True)
class ServerTurn:
    """A server and all its callers, then a lone one. Times in s."""

    speed: float
    """Answers/s."""
    p50: float
    p99: float
    failed: float
    """Share of the calls without an answer."""
    lone: float
    """Median latency of the lone caller."""
    callers_share: float | None = None
    """Of the machine's processor time, taken by all callers; None: not measured."""


@dataclass(frozen=True)
class SaturationTurn:
    """voc-serve at twice its capacity. Times in s."""

    offered: float
    """Calls/s."""
    lag: float
    """By how much the callers were late at most."""
    answered: float
    """Share of the calls."""
    refused: float
    """Share of the calls that got RESOURCE_EXHAUSTED."""
    statuses: dict[str, int]
    """Of all calls, those that filled the queue included."""
    p50: float
    """Of the calls that were answered."""
    p99: float
    bound: float
    """2 × queue ÷ throughput of the same round."""

    @property
    def unanswered(self) -> int:
        """Calls that neither got their labels nor were refused."""
        return sum(count for status, count in self.statuses.items() if status in UNANSWERED)


@dataclass(frozen=True)
class Round:
    """One turn of each."""

    engine: EngineTurn
    servers: dict[str, ServerTurn]
    """voc-serve first."""
    saturation: SaturationTurn


@dataclass(frozen=True)
class Report:
    """All that was measured."""

    settings: dict[str, Any]
    batch_size: int
    """The engine's best."""
    rounds: tuple[Round, ...]

    def over_rounds(self, value: Callable[[Round], float], digits: int = 2) -> str:
        """Median and range of a value of each round."""
        values = [value(one) for one in self.rounds]
        low, middle, high = min(values), statistics.median(values), max(values)
        return f"{middle:.{digits}f}" + (f" ({low:.{digits}f}–{high:.{digits}f})" if len(values) > 1 else "")


def show(report: Report) -> int:
    """Prints the tables and the results; 1 if a limit was missed, else 0."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    names = list(report.rounds[0].servers)
    console.print(_speeds(report, names), _latencies(report, names), _saturation(report, names[0]))
    if len(names) > 1:
        console.print(_peers(report, names))
    slowest = max(one.servers[names[0]].p99 / one.saturation.bound for one in report.rounds)
    unanswered = sum(one.saturation.unanswered for one in report.rounds)
    lag = max(one.saturation.lag for one in report.rounds)
    if lag > 0.1:
        console.print(f"note: the callers of the open loop were up to {lag:.1f} s late, which its latencies include")
    verdicts = {"p99 within 2 × queue ÷ throughput in every round": slowest <= 1,
                "no call unanswered at twice the capacity": unanswered == 0}
    for text, reached in verdicts.items():
        console.print(f"{text}: {'reached' if reached else 'missed'}")
    return 0 if all(verdicts.values()) else 1


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _speeds(report: Report, names: list[str]) -> Table:
    settings = report.settings
    table = _table(f"{settings['precision']}, {settings['threads']} threads, batches of up to "
                   f"{settings['max_batch_size']}, {settings['callers']} callers; median and range of "
                   f"{len(report.rounds)} rounds of {settings['seconds']:g} s",
                   "÷ network alone", "÷ decoding + network", "images/s, this machine", "calls failed")
    alone = f"network alone, batches of {report.batch_size}"
    table.add_row(alone, "1", "", report.over_rounds(lambda one: one.engine.network, 1))
    table.add_row("decoding + network", report.over_rounds(lambda one: one.engine.with_decoding / one.engine.network),
                  "1", report.over_rounds(lambda one: one.engine.with_decoding, 1))
    for name in names:
        def turn(one: Round, name: str = name) -> ServerTurn:
            return one.servers[name]
        table.add_row(name, report.over_rounds(lambda one: turn(one).speed / one.engine.network),
                      report.over_rounds(lambda one: turn(one).speed / one.engine.with_decoding),
                      report.over_rounds(lambda one: turn(one).speed, 1),
                      report.over_rounds(lambda one: turn(one).failed, 3))
    return table


def _latencies(report: Report, names: list[str]) -> Table:
    table = _table("Latency, ms, this machine", "all callers: p50", "p99", "a single caller: median",
                   "of that beyond decoding + network")
    table.add_row("decoding + network", "", "", report.over_rounds(lambda one: one.engine.lone * 1e3, 1), "0")
    for name in names:
        def turn(one: Round, name: str = name) -> ServerTurn:
            return one.servers[name]
        table.add_row(name, report.over_rounds(lambda one: turn(one).p50 * 1e3, 0),
                      report.over_rounds(lambda one: turn(one).p99 * 1e3, 0),
                      report.over_rounds(lambda one: turn(one).lone * 1e3, 1),
                      report.over_rounds(lambda one: (turn(one).lone - one.engine.lone) * 1e3, 1))
    return table


def _saturation(report: Report, ours: str) -> Table:
    table = _table("voc-serve under load", "")
    rows: list[tuple[str, Callable[[Round], float], int]] = [
        ("2 × queue ÷ throughput, s", lambda one: one.saturation.bound, 2),
        (f"p99 of {report.settings['callers']} callers, s", lambda one: one.servers[ours].p99, 2),
        ("p99 ÷ that bound", lambda one: one.servers[ours].p99 / one.saturation.bound, 2),
        ("open loop: calls offered ÷ capacity", lambda one: one.saturation.offered / one.servers[ours].speed, 2),
        ("share successful", lambda one: one.saturation.answered, 3),
        ("share RESOURCE_EXHAUSTED", lambda one: one.saturation.refused, 3),
        ("share of other statuses", lambda one: abs(1 - one.saturation.answered - one.saturation.refused), 3),
        ("calls unanswered", lambda one: one.saturation.unanswered, 0),
        ("p50 of the successful, s", lambda one: one.saturation.p50, 2),
        ("p99 of the successful, s", lambda one: one.saturation.p99, 2),
        ("p99 of the successful ÷ that bound", lambda one: one.saturation.p99 / one.saturation.bound, 2)]
    for name, value, digits in rows:
        table.add_row(name, report.over_rounds(value, digits))
    return table


def _peers(report: Report, names: list[str]) -> Table:
    ours, *peers = names
    table = _table("voc-serve ÷ peer", "images/s", "p99 of all callers", "single caller's latency")
    for peer in peers:
        def ratio(value: Callable[[ServerTurn], float], peer: str = peer) -> str:
            return report.over_rounds(lambda one: value(one.servers[ours]) / value(one.servers[peer]))
        table.add_row(peer, ratio(lambda turn: turn.speed), ratio(lambda turn: turn.p99),
                      ratio(lambda turn: turn.lone))
    return table
