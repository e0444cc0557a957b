"""A bar for work on many images, on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def picture_bar(title: str, enabled: bool = True) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """(start with a number of pictures, one more is done) of a bar on stdout, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    with Progress(TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn(),
                  console=console, transient=True, disable=not (enabled and console.is_terminal)) as progress:
        task = progress.add_task(title, total=None)
        yield lambda pictures: progress.update(task, total=pictures), lambda: progress.advance(task)
