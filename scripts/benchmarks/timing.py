"""Timing by turns: what is compared runs alternately within one process, so that a busy machine
slows both alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

BUDGET = {"cpu": 30.0, "cuda": 2.0}
"""Seconds for the runs of one cell: fewer rounds, at least one, where a round takes long."""

Times = Mapping[str, list[float]]
Spread = dict[str, float]


def clock(call: Callable[[], object], device: str) -> float:
    """Seconds of one call, with all that it starts on a GPU."""
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of every run of every side, one after the other in each round; a first round warms
    up."""
    for side in sides.values():
        clock(side, device)  # what is done once, such as compiling, says nothing of how long a round takes
    found: dict[str, list[float]] = {name: [] for name in sides}
    started = time.perf_counter()
    for done in range(1, rounds + 1):
        for name, side in sides.items():
            found[name].append(clock(side, device))
        if (time.perf_counter() - started) * (done + 1) / done > BUDGET[device]:
            break
    return found


def spread(values: Sequence[float], scale: float = 1.0) -> Spread:
    """Median and quartiles, times a scale."""
    ordered = sorted(scale * value for value in values)
    low, median, high = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    return {"median": median, "low": low, "high": high}


def ratio(times: Times, one: str, other: str) -> Spread:
    """The ratio of two sides in each round: its median and quartiles."""
    return spread([a / b for a, b in zip(times[one], times[other], strict=True)])
