"""Peak memory of one training update against steps, for each way back through inference."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from itervae.inference import GRADIENTS, FISTAUnrolled, Truncate, infer
from itervae.model import PoissonVAESettings, build_model

STEPS = (20, 100, 300, 1000)
BATCH, SIDE, LATENTS = 200, 16, 512


def run(device: str, rounds: int, quick: bool) -> Iterator[dict[str, object]]:
    """One row for each gradient mode and number of steps, each in a process of its own."""
    for name in GRADIENTS:
        for steps in STEPS[:2] if quick else STEPS:
            command = [sys.executable, str(Path(__file__).parents[1] / "benchmark"), "--memory-of", name, str(steps)]
            command += ["--device", device]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            yield {"suite": "memory", "what": name, "steps": steps, "peak MB": float(done.stdout) / 1e6}


def growth(name: str, steps: int, device: str) -> float:
    """Bytes that one update adds to the peak of this process."""
    model = build_model(PoissonVAESettings(latents=LATENTS), (SIDE, SIDE), 0).to(device)
    x = torch.randn(BATCH, SIDE * SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    gradient = Truncate(5) if name == "truncate" else GRADIENTS[name]()

    def update(steps: int, x: torch.Tensor) -> None:
        found = infer(model, FISTAUnrolled(steps), x, gradient=gradient)
        model.free_energy(x, found.posterior).total.mean().backward()

    update(2, x[:2])
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        update(steps, x)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # forget earlier peaks
    before = _peak()
    update(steps, x)
    return _peak() - before


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
