"""Batches cut ahead of time: one thread makes the next ones while the current one is used.

A batch is a pure function of its index, so nothing changes but the time it takes.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Batches that are made beyond the one asked for."""


class Prefetcher(Generic[T]):
    """Calls a function of an index in a thread of its own, always in one, for the indices that are
    likely to be next.

    Args:
        make: a pure function of an index. What it raises, it raises where its value is asked for.
    """

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._made: dict[int, Future[T]] = {}

    def get(self, index: int) -> T:
        """The value at an index; those at the next are begun."""
        wanted = range(index, index + 1 + AHEAD)
        for other in self._made.keys() - set(wanted):
            self._made.pop(other).cancel()
        for number in wanted:
            if number not in self._made:
                self._made[number] = self._thread.submit(self._make, number)
        return self._made.pop(index).result()

    def close(self) -> None:
        """End the thread, which finishes what it is at, and no more."""
        self._made.clear()
        self._thread.shutdown(cancel_futures=True)
