"""What the figures depend on: the machine, versions, load; and how fast its memory and matrix
products are."""

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from benchmarks.timing import clock, spread

PACKAGES = {"torch": "torch", "numpy": "numpy", "scikit-learn": "scikit-learn", "spams": "spams-bin", "celer": "celer"}
PROBED = {"cpu": (1 << 26, 2048), "cuda": (1 << 30, 8192)}
"""Bytes copied and side of the matrices multiplied, to find the speed of a device."""


@dataclass(frozen=True)
class Setup:
    """What a suite is told: where to run, at most how often, whether only the small cells, and the
    `speeds` of the device (see `speeds`)."""

    device: str
    rounds: int
    quick: bool
    speeds: Mapping[str, float]


def facts(device: str) -> dict[str, object]:
    """The machine, the versions, the number of threads, and how busy it was before."""
    if device != "cpu":
        processor = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else platform.processor() or platform.machine()
    return {
        "processor": processor,
        "device": device,
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(package) for name, package in PACKAGES.items()},
        "cuda": torch.version.cuda if device != "cpu" else None,
        "date": time.strftime("%Y-%m-%d"),
        "load before": os.getloadavg()[0],  # busy cores stretch every figure
    }


def version(package: str) -> str:
    """Its version, or that it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def speeds(device: str) -> dict[str, float]:
    """Bytes per second of a large copy, read and written, and operations per second of a large
    product in float32; on a GPU with TF32 too. Best of five: what a figure is held against is what
    the device can do."""
    size, side = PROBED[device]
    source = torch.zeros(size // 4, device=device)
    target, matrix = torch.empty_like(source), torch.ones(side, side, device=device)

    def best(call, amount: float) -> float:
        clock(call, device)
        return amount / min(clock(call, device) for _ in range(5))

    found = {"bytes/s": best(lambda: target.copy_(source), 2.0 * size)}
    found["flop/s"] = best(lambda: matrix @ matrix, 2.0 * side**3)
    if device != "cpu":
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        found["flop/s, TF32"] = best(lambda: matrix @ matrix, 2.0 * side**3)
        torch.set_float32_matmul_precision(before)
    return found


def achieved(seconds: list[float], moved: float, operations: float, setup: Setup) -> dict[str, object]:
    """GB/s and TFLOP/s of calls that move at least so many bytes and do so many operations, and
    their time over the least that the device could take: the larger of bytes over its bandwidth and
    operations over its products in float32."""
    least = max(moved / setup.speeds["bytes/s"], operations / setup.speeds["flop/s"])
    found = spread(seconds)
    return {
        "GB/s": moved / found["median"] / 1e9,
        **({"TFLOP/s": operations / found["median"] / 1e12} if operations else {}),
        "over the device": spread(seconds, 1 / least),
    }


def free_memory(device: str) -> float:
    """Bytes."""
    if device != "cpu":
        torch.cuda.empty_cache()  # what earlier cells left is free too
        return float(torch.cuda.mem_get_info()[0])
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
