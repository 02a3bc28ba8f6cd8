"""Dictionaries learned from scratch, K = 512, on 60,000 whitened patches of 16×16 pixels, by one
thread of a CPU: the energy of held-out patches at its certified optimum, against seconds. Of sparse
coding (θ = 1, signed) ours as a command, from its start to its end, against spams' trainDL and
scikit-learn's MiniBatchDictionaryLearning, whose seconds are of learning alone. Of the P-VAE, with
20 LCA steps, the ways in which --dictionary-steps goes. A run is made anew for each number of
seconds, since schedules end with the budget.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from benchmarks.figures import Line, exactly, lines_figure
from benchmarks.machine import Setup
from benchmarks.problems import STACK
from torch import Tensor

from itervae import load
from itervae.data import DataSettings, load_source
from itervae.inference import Optimal, infer
from itervae.model import SparseCodingSettings, build_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATCHES, HELD_OUT, LATENTS, BATCH, THRESHOLD = 60_000, 1000, 512, 512, 1.0
BUDGETS = {"sparse coding": (5, 15, 45), "P-VAE": (5, 10, 20, 40, 150)}
"""Seconds."""
WAYS = ("both", "closed-form", "gradient")
SPARSE = ["--model", "sparse-coding", "--signed", "--threshold", str(THRESHOLD)]


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    x, held_out = patches(2000 if setup.quick else PATCHES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for part, budgets in BUDGETS.items():
            for budget in (2,) if setup.quick else budgets:
                for what, learned in _sides(part, x, budget):
                    yield {"suite": "dictionary", "part": part, "budget": budget, **_row(what, learned, held_out)}
    finally:
        torch.set_num_threads(threads)


def patches(count: int) -> tuple[Tensor, Tensor]:
    """Patches for learning (count, 256) and of held-out images (1000, 256): of two photographs
    where ITERVAE_DATA names no folder of pictures."""
    stack, settings = Path(os.environ.get("ITERVAE_DATA", "")) / STACK, DataSettings()
    if stack.is_file():
        settings = DataSettings(data="images", data_path=stack, data_key="train", val_key="val")
    source = load_source(settings, seed=0)
    return source.batch(0, count), source.validation[:HELD_OUT]


def _sides(part: str, x: Tensor, budget: float) -> Iterator[tuple[str, Any]]:
    if part == "P-VAE":
        for way in WAYS:
            yield way, ours(x, budget, "--dictionary-steps", way)
        return
    for way in WAYS:
        yield f"ours, {way}", ours(x, budget, *SPARSE, "--dictionary-steps", way)
    if find_spec("spams") is not None:
        yield "spams", spams(x, budget)
    yield "scikit-learn", scikit_learn(x, budget)


def ours(x: Tensor, budget: float, *options: str) -> tuple[Any, float]:
    """The model that `itervae train` leaves after so many seconds, start and end of the process
    included, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", x.numpy())
        command = [sys.executable, "-m", "itervae", "train", "--data", "array", "--data-path", f"{folder}/x.npy"]
        command += ["--latents", str(LATENTS), "--batch-size", str(BATCH), "--threads", "1", "--device", "cpu"]
        command += ["--validate-every", "1000000", "--run-dir", f"{folder}/run", *options]
        root = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, "PYTHONPATH": root}
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--minutes", str(budget / 60)], capture_output=True, text=True, env=environment
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
        return load(f"{folder}/run").model, seconds


def spams(x: Tensor, budget: float) -> tuple[Any, float]:
    """The dictionary of spams' trainDL after so many seconds."""
    import spams

    data = np.asfortranarray(x.numpy().T.astype(np.float64))
    started = time.perf_counter()
    settings = {"K": LATENTS, "lambda1": THRESHOLD, "numThreads": 1, "batchsize": BATCH, "mode": 2, "verbose": False}
    atoms = spams.trainDL(data, iter=-budget, **settings)
    return of_atoms(atoms), time.perf_counter() - started


def scikit_learn(x: Tensor, budget: float) -> tuple[Any, float]:
    """The components of MiniBatchDictionaryLearning after so many seconds."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    learner = MiniBatchDictionaryLearning(
        LATENTS, alpha=THRESHOLD, batch_size=BATCH, fit_algorithm="lars", n_jobs=1, random_state=0
    )
    data, order = x.numpy(), np.random.default_rng(0)
    started = time.perf_counter()
    while time.perf_counter() - started < budget:
        learner.partial_fit(data[order.integers(len(data), size=BATCH)])
    return of_atoms(learner.components_.T), time.perf_counter() - started


def of_atoms(atoms: np.ndarray) -> Any:
    """A model of sparse coding with these atoms (D, K)."""
    model = build_model(SparseCodingSettings(latents=LATENTS, threshold=THRESHOLD, signed=True), (len(atoms),))
    with torch.no_grad():
        model.decoder.weight.copy_(torch.from_numpy(np.ascontiguousarray(atoms)))
    return model.requires_grad_(False)


def _row(what: str, learned: tuple[Any, float], held_out: Tensor) -> dict[str, Any]:
    model, seconds = learned
    found = infer(model, Optimal(), held_out)
    energy = model.free_energy(held_out, found.posterior).total
    return {
        "what": what,
        "seconds": seconds,
        "held-out energy": energy.mean().item(),
        "standard error": (energy.std() / len(energy) ** 0.5).item(),
        "largest certificate": found.stats["certificate"].max().item(),
    }


def figure(rows: list[dict[str, Any]]) -> "Figure":
    panels: dict[str, list[Line]] = {}
    for part in BUDGETS:
        own = [row for row in rows if row.get("part") == part]
        for name in dict.fromkeys(row["what"] for row in own):
            line = [row for row in own if row["what"] == name]
            x, y = [row["budget"] for row in line], [exactly(row["held-out energy"]) for row in line]
            panels.setdefault(part, []).append(Line(name, x, y))
    return lines_figure(panels, "seconds", "energy of held-out patches at its optimum")
