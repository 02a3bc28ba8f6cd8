"""Sparse coding to a true primal-dual gap, against other solvers of the lasso: milliseconds per
1000 data, one row for each dictionary, sign, sparsity, start and gap. Every side's gap is
recomputed in float64, over all its data, and is in the file with its setting and the number of its
data: 2000, of which scikit-learn lars and celer, which take long, solve the first 100. A ratio is
of the fastest of ours over the faster precision of a peer: below 1 ours is faster. Warm: from the
solution at 1.1 times the threshold. On a GPU one dictionary, 10% active and cold starts, and peers
stay on the CPU.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from benchmarks.figures import Point, ratios_figure
from benchmarks.machine import Setup
from benchmarks.peers import PEERS, Problem, Side, fits, sides
from benchmarks.problems import real_problem
from benchmarks.timing import alternate, clock, ratio, spread
from torch import Tensor

from itervae.inference import Engine, FISTAUnrolled, ISTAUnrolled, LCAUnrolled, Optimal, State, infer
from itervae.model import GenerativeModel, SparseCodingSettings, sparse_coding_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE, LATENTS, DATA = 256, 512, 2000
GAPS = (1e-2, 1e-4, 1e-6)
# numbers that float32 holds exactly, or single precision would solve another problem
THRESHOLDS = {
    ("learned", True): {"3%": 2.125, "10%": 0.6875},
    ("learned", False): {"3%": 1.875, "10%": 0.5625},
    ("random", True): {"3%": 1.375, "10%": 0.5625},
    ("random", False): {"3%": 1.375, "10%": 0.4375},
}
WARMER = 1.1
MOST_STEPS = 20_000
OURS = "ours"
HOPELESS = 1.5
"""An engine of fixed steps is given up where it takes so many times as long as `Optimal`."""


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    count = 200 if setup.quick else DATA
    found = real_problem(count)
    kinds = ["learned"] if found else ["random"]
    labels = ["3%"] if setup.quick else ["10%"]
    if not setup.quick and setup.device == "cpu":
        kinds, labels = list(dict.fromkeys([*kinds, "random"])), ["3%", "10%"]
    for kind, label, signed in product(kinds, labels, (True, False)):
        threshold = THRESHOLDS[kind, signed][label]
        x, atoms = (found[1], found[0].dictionary) if found and kind == "learned" else random_data(count, signed)
        cold = Cell(x.to(setup.device), atoms, threshold, signed)
        starts = {"cold": cold} | ({} if setup.device != "cpu" else {"warm": cold.warmed()})
        for start, cell in starts.items():
            what = {"suite": "lasso", "what": f"{kind}, {'signed' if signed else 'non-negative'}, {label}"}
            yield from rows({**what, "start": start}, cell, setup)


def random_data(count: int, signed: bool) -> tuple[Tensor, Tensor]:
    """4% of the codes active, normal (or their absolute values) times 4, and noise of standard
    deviation 0.3."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(SIZE, LATENTS, generator=generator), dim=0)
    active = (torch.rand(count, LATENTS, generator=generator) < 0.04) * torch.randn(count, LATENTS, generator=generator)
    noise = 0.3 * torch.randn(count, SIZE, generator=generator)
    return 4 * (active if signed else active.abs()) @ atoms.mT + noise, atoms


class Cell:
    """A problem, as ours and as peers take it, and the sides that reach a gap on it."""

    def __init__(self, x: Tensor, atoms: Tensor, threshold: float, signed: bool, start: Tensor | None = None) -> None:
        self.x, self.threshold, self.signed, self.start = x, threshold, signed, start
        self.model = _model(atoms, threshold, signed).to(x.device)
        self.atoms = self.model.operator(torch.float64).dictionary.detach().cpu()  # the truth, for every side
        codes = None if start is None else self.model.posterior(start).mean.double().cpu().numpy()
        self.problem = Problem(x.double().cpu().numpy(), self.atoms.numpy(), threshold, signed, codes)

    def warmed(self) -> "Cell":
        """The same from the solution at a larger threshold θ': potentials whose subgradient is
        scaled with θ."""
        warmer = _model(self.atoms.float(), WARMER * self.threshold, self.signed).to(self.x.device)
        found = infer(warmer, Optimal(MOST_STEPS, 1e-9), self.x.double())
        codes = found.posterior.mean
        potentials = codes + (found.state.u - codes) / WARMER
        return Cell(self.x, self.atoms.float(), self.threshold, self.signed, potentials)

    def gap(self, codes: np.ndarray) -> float:
        """The largest over data."""
        x = self.x[: len(codes)].double().cpu()
        return largest_gap(x, self.atoms, torch.from_numpy(np.ascontiguousarray(codes)), self.threshold, self.signed)

    def solve(self, engine: Engine, dtype: torch.dtype) -> np.ndarray:
        with torch.no_grad():
            start = None if self.start is None else State(self.start.to(dtype))
            return infer(self.model, engine, self.x.to(dtype), state=start).posterior.mean.cpu().numpy()

    def ours(self, gaps: tuple[float, ...], device: str) -> dict[float, list[Side]]:
        """Ours that reach each gap: `Optimal`, which stops datum by datum, and engines of fixed
        steps, the fewest that do (by fives)."""
        found, limits = {}, {}
        for gap in gaps:
            solve = partial(self.solve, Optimal(MOST_STEPS, gap), torch.float64)
            found[gap] = [Side("Optimal", f"tolerance {gap:g}, float64", len(self.x), solve)]
            limits[gap] = HOPELESS * clock(solve, device)
        for kind, dtype in product((LCAUnrolled, FISTAUnrolled, ISTAUnrolled), (torch.float32, torch.float64)):
            for gap, steps in self.fewest_steps(kind, dtype, limits, device).items():
                setting = f"{steps} steps, {str(dtype).removeprefix('torch.')}"
                solve = partial(self.solve, kind(steps), dtype)
                found[gap].append(Side(kind.__name__, setting, len(self.x), solve))
        return found

    def fewest_steps(self, kind: type, dtype: torch.dtype, limits: dict[float, float], device: str) -> dict[float, int]:
        """For each gap, from the largest on, that is reached in the seconds that `limits` has for
        it."""
        state, x = None if self.start is None else State(self.start.to(dtype)), self.x.to(dtype)
        found, steps, spent, left = {}, 0, 0.0, dict(limits)
        while left := {gap: limit for gap, limit in left.items() if spent < limit and gap not in found}:
            answers = []

            def more(state=state, answers=answers) -> None:
                with torch.no_grad():
                    answers.append(infer(self.model, kind(5), x, state=state))

            spent += clock(more, device)
            state, steps = answers[0].state, steps + 5
            reached = self.gap(answers[0].posterior.mean.cpu().numpy())
            found |= {gap: steps for gap in left if reached <= gap}
        return found


def rows(what: dict[str, Any], cell: Cell, setup: Setup) -> Iterator[dict[str, Any]]:
    """A row for each gap; all sides of all gaps take turns."""
    gaps = GAPS[:2] if setup.quick else GAPS
    unfit = {name: why for name in PEERS if (why := fits(name, cell.problem))}
    searched = {name: reaching(cell, name, gaps) for name in PEERS if name not in unfit}
    reached = {name: found for name, (found, _) in searched.items()}
    unfit |= {name: f"came to a gap of {least:.1e}" for name, (_, least) in searched.items()}
    reached[OURS] = cell.ours(gaps, setup.device)
    every = {side.key: side for found in reached.values() for sides in found.values() for side in sides}
    answers = {key: side.solve() for key, side in every.items()}
    true = {key: cell.gap(codes) for key, codes in answers.items()}
    seconds = alternate({key: side.solve for key, side in every.items()}, setup.rounds, setup.device)
    per_1000 = {key: [1e6 * value / every[key].data for value in values] for key, values in seconds.items()}
    exact = min((key for key in every if every[key].name == "Optimal"), key=true.__getitem__)
    what = {**what, "active": float((answers[exact] != 0).mean())}
    for gap in gaps:
        good = {name: [side.key for side in found[gap] if true[side.key] <= gap] for name, found in reached.items()}
        best = {name: min(keys, key=lambda key: np.median(per_1000[key])) for name, keys in good.items() if keys}
        row: dict[str, Any] = {**what, "gap": gap, "ours": "gap not reached"}
        if OURS in best:
            row |= {"ours": every[best[OURS]].name, "ms per 1000": spread(per_1000[best[OURS]])}
        for name in PEERS:
            both = OURS in best and name in best
            row[f"over {name}"] = ratio(per_1000, best[OURS], best[name]) if both else unfit[name]
        row["rounds"] = len(next(iter(seconds.values())))
        row["detail"] = {
            key: {"ms per 1000": spread(per_1000[key]), "gap": true[key], "data": every[key].data}
            for keys in good.values()
            for key in keys
        }
        yield row


def reaching(cell: Cell, name: str, gaps: tuple[float, ...]) -> tuple[dict[float, list[Side]], float]:
    """For each gap the loosest setting of a peer that reaches it, in each precision; and the least
    gap that it came to."""
    found: dict[float, list[Side]] = {gap: [] for gap in gaps}
    least = float("inf")
    for candidates in sides(name, cell.problem):
        left = list(gaps)
        for side in candidates:
            reached = cell.gap(side.solve())
            least = min(least, reached)
            while left and reached <= left[0]:
                found[left.pop(0)].append(side)
            if not left:
                break
    return found, least


def largest_gap(x: Tensor, atoms: Tensor, codes: Tensor, threshold: float, signed: bool) -> float:
    """Largest duality gap over data; infinite where a code is negative that may not be."""
    if not signed and bool((codes < 0).any()):
        return float("inf")
    return float(gaps_of(x, atoms, codes, threshold, signed)[0].max())


def gaps_of(x: Tensor, atoms: Tensor, codes: Tensor, threshold: float, signed: bool) -> tuple[Tensor, Tensor]:
    """Duality gaps (N,), float64, P(a) − D(ν), with ν = s(x − Φa) scaled into the dual's
    constraints, and the energies P(a) (N,)."""
    x, atoms, codes = (value.double() for value in (x, atoms, codes))
    residual = x - codes @ atoms.mT
    inner = residual @ atoms
    most = (inner.abs() if signed else inner).amax(1).clamp_min(threshold)
    dual_point = residual * (threshold / most)[:, None]
    primal = 0.5 * residual.square().sum(1) + threshold * codes.abs().sum(1)
    dual = 0.5 * x.square().sum(1) - 0.5 * (x - dual_point).square().sum(1)
    return primal - dual, primal


def _model(atoms: Tensor, threshold: float, signed: bool) -> GenerativeModel:
    settings = SparseCodingSettings(latents=atoms.shape[1], threshold=threshold, shrinkage="soft", signed=signed)
    return sparse_coding_model(atoms.detach(), settings, (len(atoms),)).requires_grad_(False)


def figure(rows: list[dict[str, Any]]) -> "Figure":
    panels: dict[str, list[Point]] = {}
    for row in rows:
        points = panels.setdefault(f"{row['what'].partition(', ')[0]}, gap {row['gap']:g}", [])
        for name in PEERS:
            value, label = row[f"over {name}"], row["what"].partition(", ")[2]
            if isinstance(value, dict):
                points.append(Point(label, name, value, hollow=row["start"] == "warm"))
    return ratios_figure(panels, "time of ours over theirs", "below 1 ours is faster; filled: cold, hollow: warm start")
