"""A bar for what may take long: shown on standard error once it does, and gone when it is done."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PATIENCE = 3.0
"""Seconds that pass without a bar."""

T = TypeVar("T")


def progress_bar(what: str) -> Progress:
    """A bar of `what` and the description of its task; not started."""
    columns = (TextColumn(what + " {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def watched(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The same items, counted by a bar where that takes more than a few seconds."""
    bar = progress_bar(what)
    task = bar.add_task("", total=total)
    start = time.monotonic()
    try:
        for item in items:
            yield item
            bar.advance(task)
            if bar.console.is_terminal and time.monotonic() - start > PATIENCE:
                bar.start()  # has no effect from the second time on
    finally:
        if bar.live.is_started:
            bar.stop()
