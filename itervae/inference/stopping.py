"""Inference that stops datum by datum: each goes on until its own certificate is below the engine's
tolerance."""

import torch
from torch import Tensor

from itervae.inference.certificates import proved
from itervae.inference.energies.base import Point
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.engine import Engine, State
from itervae.inference.problem import Problem

PROGRESS = 0.9
"""Share of the certificate at the last progress: a new certificate below it is progress."""


@torch.no_grad()
def until_certified(problem: Problem, engine: Engine, state: State | None, steps: int) -> tuple[State, Tensor, Tensor]:
    """Step until each datum's certificate is below the engine's tolerance, its patience is spent or
    `steps` steps are taken; finished data leave the batch.

    Returns:
        The best state of each datum, the number of its steps (B,) and its certificate (B,).
    """
    size, device = len(problem.x), problem.x.device
    tolerance, patience = engine.tolerance, engine.patience
    assert tolerance is not None
    best = _Best(size, device)
    rows = torch.arange(size, device=device)
    state = engine.init(problem, state)
    taken = torch.zeros(size, dtype=torch.long, device=device)
    last = problem.x.new_full((size, 2), torch.inf)  # certificate and energy at the last progress
    waited = torch.zeros(size, dtype=torch.long, device=device)  # looks since
    done = 0
    while True:
        proof, energy = proved(problem, state.u.detach()), _energy(state, rows)
        resolution = _resolution(problem, state)
        taken[rows] = done
        best.update(rows, state, proof, energy, resolution)
        progress = (proof < PROGRESS * last[rows, 0]) | (energy < last[rows, 1] - resolution)
        last[rows[progress]] = torch.stack([proof, energy], 1)[progress]
        waited[rows] = torch.where(progress, 0, waited[rows] + 1)
        unfinished = ~(proof <= tolerance)
        if patience is not None:
            unfinished &= waited[rows] < patience
        left = unfinished.nonzero().squeeze(1)
        if not len(left) or done >= steps:
            break
        if len(left) < len(rows):
            rows, problem = rows[left], problem.select(left)
            diagnostics = {name: value[left] for name, value in state.diagnostics.items()}
            state = engine.resume(problem, state.map(lambda value, left=left: value[left]), diagnostics)
        state, count = engine.advance(problem, state, steps - done)
        done += count

    found, certificate = best.state(state.step_count), best.values["certificate"]
    if patience is not None:
        found.diagnostics["stalled"] = ~(certificate <= tolerance) & (waited >= patience)
    return found, taken, certificate


class _Best:
    """The best state of each datum so far: that of the least energy and, of what rounding cannot
    tell apart, of the least certificate."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self.device = size, device
        self.values: dict[str, Tensor] = {}
        self._energy: Tensor | None = None

    def update(self, rows: Tensor, state: State, proof: Tensor, energy: Tensor, resolution: Tensor | float) -> None:
        """Take in the state of some data, where it is better than what is there.

        Args:
            rows: which data.
            state: theirs.
            proof: their certificates (B,).
            energy: E (B,).
            resolution: difference of E (B,) below which rounding cannot tell two states apart.
        """
        if self._energy is None:
            self._energy = energy.new_full((self.size,), torch.inf)
            better = torch.ones_like(rows, dtype=torch.bool)
        else:
            least, seen = self._energy[rows], self.values["certificate"][rows]
            level = (proof < seen) & (energy <= least + resolution)
            better = (energy < least - resolution) | level | ~seen.isfinite()
        self._energy[rows[better]] = energy[better]
        here = {"u": state.u, "certificate": proof}
        here |= {f"memory {name}": value for name, value in state.memory.items()}
        here |= {f"diagnostic {name}": value for name, value in state.diagnostics.items()}
        for name, value in here.items():
            kept = self.values.setdefault(name, value.new_zeros(self.size, *value.shape[1:]))
            kept[rows[better]] = value[better]

    def state(self, step_count: int) -> State:
        """The best state of all data."""
        memory, diagnostics = self._named("memory "), self._named("diagnostic ")
        return State(self.values["u"], memory, diagnostics=diagnostics, step_count=step_count)

    def _named(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in self.values.items() if name.startswith(prefix)}


def _energy(state: State, rows: Tensor) -> Tensor:
    """The energy of the state (B,); inf where the engine keeps none."""
    if isinstance(state.point, Point):
        return state.point.value
    return state.u.new_full((len(rows),), torch.inf)


def _resolution(problem: Problem, state: State) -> Tensor | float:
    """The difference of E (B,) below which it is rounding."""
    return problem.energy.tolerance(state.point) if isinstance(problem.energy, LinearEnergy) and state.point else 0.0
