"""Calls in a process of their own, where the growth of the peak of memory says what a call
takes."""

import contextlib
import importlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

COMMAND = Path(__file__).parents[1] / "benchmark"


def measured(suite: str, function: str, *arguments: Any, device: str, limit: float | None = None) -> Any:
    """What `function(*arguments, device)` of a suite answers, which looks at its `peak` of memory:
    on a CPU in a new process with as many threads, or None where that takes more seconds than the
    limit; on a GPU here, as its allocator counts each tensor. Plain values both ways."""
    given = json.dumps([*arguments, device])
    if device != "cpu":
        return json.loads(answer(suite, function, given))
    command = [sys.executable, str(COMMAND), "--threads", str(torch.get_num_threads())]
    command += ["--apart", suite, function, given]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        why = "\nkilled, as where there is no memory left" if done.returncode < 0 else ""
        raise RuntimeError(f"{suite}.{function}{(*arguments, device)} failed:\n{done.stderr}{why}")
    return json.loads(done.stdout.splitlines()[-1])


def answer(suite: str, function: str, arguments: str) -> str:
    """The other end: the answer as JSON."""
    return json.dumps(getattr(importlib.import_module(f"benchmarks.{suite}"), function)(*json.loads(arguments)))


def growth(call: Callable[[], object], device: str) -> int:
    """Bytes that a call adds to the peak of memory."""
    before = peak(device, restart=True)
    call()
    return peak(device) - before


def peak(device: str, restart: bool = False) -> int:
    """The most memory allocated on a GPU, or the largest resident set of this process, bytes; with
    `restart`, forget earlier peaks first where that is possible.

    On Linux not from `getrusage`, whose figure a process inherits from the one that started it.
    """
    if device != "cpu":
        if restart:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        if restart:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
