"""Timing by turns: what is compared runs alternately within one process, so that a busy machine slows both alike."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of every run of every side, one after the other in each round; a first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(-1, rounds):
        for name, side in sides.items():
            if device != "cpu":
                torch.cuda.synchronize()
            started = time.perf_counter()
            side()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_ >= 0:
                found[name].append(time.perf_counter() - started)
    return found


def ratio(times: Mapping[str, list[float]], one: str, other: str) -> dict[str, float]:
    """The ratio of two sides: of their medians, and the quartiles of that of each round."""
    rounds = sorted(a / b for a, b in zip(times[one], times[other], strict=True))
    low, _, high = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else rounds * 3
    return {"median": statistics.median(times[one]) / statistics.median(times[other]), "low": low, "high": high}


def machine(device: str) -> dict[str, object]:
    """What the figures depend on."""
    if device != "cpu":
        processor = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.exists() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else platform.processor() or platform.machine()
    return {
        "processor": processor,
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "load_before": os.getloadavg()[0],  # busy cores stretch every figure
    }
