"""Sparse coding with many atoms: seconds and the peak of memory until the duality gap of every
datum is at most 1e-4 of its energy, each side in a process of its own. 2000 synthetic data of 768
values, 1% of 16,384 random atoms active, against scikit-learn and spams on the first of them; then
500 data of 65,536 atoms, as many of them active, by ours alone. Gaps are recomputed in float64.
`scaled` is the time of the first 4 data, with all that is done once, and 1996 times what one more
takes. The peak is that of the process, data and libraries included. Last, what the third training
update of a dictionary of 16,384 atoms spends its seconds on, by `Optimal` and `Envelope`.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from benchmarks.apart import measured, peak
from benchmarks.figures import Point, exactly, ratios_figure
from benchmarks.lasso import gaps_of
from benchmarks.machine import Setup
from benchmarks.peers import PEERS, Problem, fits
from torch import Tensor

from itervae.inference import Envelope, Optimal, infer
from itervae.model import SparseCodingSettings, build_model, sparse_coding_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 200
DATA, FEWER, FIRST, GAP, ACTIVE, AT_ONCE = 2000, 500, 4, 1e-4, 164, 100
CELLS = [(768, 16_384, True), (768, 16_384, False), (768, 65_536, False), (2304, 65_536, False)]
"""D, K and whether codes have any sign."""
THRESHOLD = 3.0
SIDES = [
    ("spams lars", "float32", {}, 100),
    ("spams lars", "float64", {}, 100),
    ("spams cd", "float32", {"tol": 1e-3, "itermax": 200}, DATA),
    ("scikit-learn cd", "float32", {"tol": 1e-5}, 100),
]
"""A peer, its precision and setting, and how many data it solves. scikit-learn's LARS is ended by
the system for want of memory, with 10 data and 15 GB free."""
LIMIT = 300.0
"""Seconds after which a peer is stopped."""


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    for size, latents, signed in CELLS[:1] if setup.quick else CELLS:
        count = 20 if setup.quick else DATA if latents == CELLS[0][1] else FEWER
        what = f"D {size}, K {latents}, {'signed' if signed else 'non-negative'}"
        own = measured("large", "ours", size, latents, signed, count, device=setup.device)
        yield {"suite": "large", "what": what, "side": "Optimal", "data": count, **own, "scaled": own["seconds"]}
        if latents == CELLS[0][1] and not setup.quick:
            for name, precision, setting, few in SIDES:
                yield {
                    "suite": "large",
                    "what": what,
                    "side": f"{name}, {precision}",
                    "data": few,
                    **_peer(name, precision, setting, size, latents, signed, few),
                }
    size, latents, signed = CELLS[0]
    count = 20 if setup.quick else BATCH
    took = measured("large", "update", size, latents, signed, count, device=setup.device)
    yield {
        "suite": "large",
        "part": "update",
        "what": f"D {size}, K {latents}",
        "side": "Optimal",
        "data": count,
        **took,
    }


def _peer(name: str, *given: Any) -> dict[str, Any]:
    signed, empty = given[4], np.empty((0, 0))
    if why := fits(name, Problem(empty, empty, THRESHOLD, signed)):
        return {"note": why}
    try:
        found = measured("large", "theirs", name, *given, device="cpu", limit=LIMIT)
    except RuntimeError as error:
        return {"note": f"failed: {str(error).splitlines()[-1]}"}
    return {"note": f"not done in {LIMIT:g} s"} if found is None else found


def synthetic(size: int, latents: int, signed: bool, count: int) -> tuple[Tensor, Tensor]:
    """Data (count, D), and the atoms (D, K) of unit norm: 164 codes active in the mean, normal (or
    their absolute values) times 4, and noise of standard deviation 0.3; a part at a time, so that
    making them is no peak of memory."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(size, latents, generator=generator)
    atoms /= torch.linalg.vector_norm(atoms, dim=0)
    parts = []
    for first in range(0, count, AT_ONCE):
        shape = min(AT_ONCE, count - first), latents
        codes = (torch.rand(shape, generator=generator) < ACTIVE / latents) * torch.randn(shape, generator=generator)
        noise = 0.3 * torch.randn(shape[0], size, generator=generator)
        parts.append(4 * (codes if signed else codes.abs()) @ atoms.mT + noise)
    return torch.cat(parts), atoms


def ours(size: int, latents: int, signed: bool, count: int, device: str) -> dict[str, Any]:
    """What `Optimal` takes."""
    x, atoms = synthetic(size, latents, signed, count)
    settings = SparseCodingSettings(latents, THRESHOLD, signed=signed, unit_norm=False)
    model = sparse_coding_model(atoms, settings, (size,)).requires_grad_(False).to(device)
    x = x.to(device)
    # a tolerance is one number for all data: that of the datum of least energy, as few of them show
    few = infer(model, Optimal(tolerance=1.0), x[:20])
    least = 0.5 * float(model.free_energy(x[:20], few.posterior).total.min())
    started = time.perf_counter()
    found = infer(model, Optimal(tolerance=GAP * least), x)
    seconds = time.perf_counter() - started
    largest, at_end, active = 0.0, peak(device), 0
    for rows, u, proof in zip(x.split(AT_ONCE), found.posterior.u.split(AT_ONCE), _parts(found), strict=True):
        posterior = model.posterior(u)
        energy = model.free_energy(rows, posterior).total
        largest = max(largest, float((proof / energy).max()))
        active += int((posterior.mean != 0).sum())
    return {"seconds": seconds, "peak GB": at_end / 1e9, "largest gap": largest, "active": active / count / latents}


def _parts(found: Any) -> tuple[Tensor, ...]:
    return found.stats["certificate"].split(AT_ONCE)


def update(size: int, latents: int, signed: bool, count: int, device: str) -> dict[str, Any]:
    """Seconds of the parts of the third update of a random dictionary."""
    x = synthetic(size, latents, signed, count)[0].to(device)
    model = build_model(SparseCodingSettings(latents, THRESHOLD, signed=signed), (size,), 0).to(device)
    optimizer, times = torch.optim.Adam(model.parameters(), 1e-3), []
    for _ in range(3):
        times = [time.perf_counter()]
        found = infer(model, Optimal(tolerance=0.1), x, gradient=Envelope())
        times.append(time.perf_counter())
        model.free_energy(x, found.posterior).total.mean().backward()
        times.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
    inference, gradient, step = np.diff(times).tolist()
    used = (found.posterior.mean != 0).any(0).double().mean().item()
    return {"inference s": inference, "gradient s": gradient, "optimizer s": step, "atoms in use": used}


def theirs(
    name: str, precision: str, setting: dict[str, float], size: int, latents: int, signed: bool, count: int, device: str
) -> dict[str, Any]:
    """What a peer takes."""
    x, atoms = (value.numpy() for value in synthetic(size, latents, signed, count))
    atoms, x = np.asfortranarray(atoms.astype(precision)), np.ascontiguousarray(x.astype(precision))

    def solve(rows: np.ndarray) -> tuple[np.ndarray, float]:
        started = time.perf_counter()
        codes = PEERS[name].solve(Problem(rows, atoms, THRESHOLD, signed), setting)
        return codes, time.perf_counter() - started

    _, first = solve(x[:FIRST])
    codes, seconds = solve(x)
    at_end = peak(device)
    given = (torch.from_numpy(np.ascontiguousarray(value)) for value in (x, atoms, codes))
    gap, energy = gaps_of(*given, THRESHOLD, signed)
    return {
        "seconds": seconds,
        "peak GB": at_end / 1e9,
        "largest gap": float((gap / energy).max()),
        "active": float((codes != 0).mean()),
        "scaled": first + (DATA - FIRST) * (seconds - first) / (count - FIRST),
    }


def figure(rows: list[dict[str, Any]]) -> "Figure":
    own = {row["what"]: row["scaled"] for row in rows if row["side"] == "Optimal" and "scaled" in row}
    timed = [row for row in rows if "scaled" in row]
    panels: dict[str, list[Point]] = {}
    for row in [row for row in timed if row["side"] != "Optimal"] or timed:
        point = Point(row["side"], row["side"].partition(",")[0], exactly(row["scaled"] / own[row["what"]]))
        panels.setdefault(row["what"], []).append(point)
    return ratios_figure(panels, "time over that of Optimal", "above 1 ours is faster", columns=2)
