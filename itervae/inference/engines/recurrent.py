"""Learned recurrent refinement of the posterior, for any family and any decoder.

Marino, Yue & Mandt (2018), "Iterative amortized inference": a network sees where inference stands and the gradient of F
there, and says what step to take. Here it is a gated recurrent cell (Cho et al. 2014, "Learning phrase
representations") of each latent, the same for all, that modulates a natural-gradient or proximal step; so it
runs with any number of latents.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from itervae.arguments import check_fields, check_whole
from itervae.errors import InputError
from itervae.inference.checks import check_fit
from itervae.inference.energies.base import Energy
from itervae.inference.energies.family import FamilyEnergy, Slope
from itervae.inference.energies.poisson import LARGEST, LEAK, PoissonEnergy
from itervae.inference.energies.sampled import SampledEnergy
from itervae.inference.engine import State
from itervae.inference.engines.descent import START_CURVATURE
from itervae.inference.engines.lca import LARGEST_SAMPLED
from itervae.inference.engines.learned import MODULATIONS, REACH, LearnedProximal, proximal_features, squash
from itervae.inference.problem import Problem
from itervae.model import GenerativeModel

FEATURES = 6
"""Of each parameter of a latent."""
RECOVERY = 0.8
"""The damping after a step that raised F falls by this factor a step."""
ROUNDING = 8
"""Rises of F below so many units in its last place are rounding."""
CHANCE = 2.0
"""Rises of a sampled F below so many standard deviations are left to chance."""


@dataclass
class RecurrentSettings:
    """Settings of `recurrent`."""

    steps: int = 5
    """Number of inference steps."""
    hidden: int = 16
    """Width of the memory of each latent."""


class Cell(nn.Module):
    """A gated recurrent unit for each latent, with the same weights for all; its answer is zero before training.

    Args:
        parts: parameters of each latent (`Family.parts`).
        hidden: width of the memory.
    """

    reach: Tensor

    def __init__(self, parts: int, hidden: int) -> None:
        super().__init__()
        self.unit = nn.GRUCell(parts * FEATURES, hidden)
        self.out = nn.Linear(hidden, parts * MODULATIONS)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("reach", torch.tensor(REACH), persistent=False)

    def forward(self, features: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Modulations (B, parts · K, 3) and the new memory (B, K, H), from features (B, parts · K, 6)."""
        batch, latents, width = hidden.shape
        parts = features.shape[1] // latents  # sizes are written out, as an empty batch leaves none to be found
        by_latent = features.unflatten(1, (parts, latents)).transpose(1, 2)  # (B, K, parts, 6)
        new = self.unit(by_latent.reshape(batch * latents, parts * FEATURES), hidden.reshape(batch * latents, width))
        out = self.out(new).view(batch, latents, parts, MODULATIONS).transpose(1, 2).flatten(1, 2)
        return self.reach * out.tanh(), new.view(batch, latents, width)


class Recurrent(LearnedProximal):
    """A step of known form whose size, bias and momentum α, δ, γ a recurrent cell of each latent chooses.

    Poisson with a linear decoder: the proximal step of `LearnedProximal`, with its safeguards, and steps of the LCA
    after the last. Otherwise natural-gradient steps, g the natural gradient of F (of a Poisson ∂F/∂λ) and h the
    curvature cλ/σ² of a Poisson, 0 of other families,

        Δu = clip( −(g − βδ) / (d e^{2α} (4β + 4h)), ±4 ) + γ·(last Δu)        ±2 where F is sampled

    A step that raises F is taken back and d doubled (d ≥ 1). Where F is sampled, that is a rise by more than two
    standard deviations of the difference of two draws, var F ≈ Σ_k var z_k (∂F/∂z_k)², and not while the engine is
    trained, as it would learn nothing from such steps; and after the n steps that it is trained for the k-th step is
    n/k of what the cell says, as the noise of the gradient asks for (Robbins & Monro 1951). `stats["rejected"]` counts
    the steps taken back.
    """

    requires = frozenset({"variational posterior"})
    Settings = RecurrentSettings

    def __init__(self, steps: int = 5, hidden: int = 16, parts: int = 1) -> None:
        super().__init__(steps)
        check_whole("hidden", hidden, 1)
        check_whole("parts", parts, 1)
        self.hidden, self.parts = hidden, parts
        self.cell = Cell(parts, hidden)

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "Recurrent":
        check_fields(settings, cls.Settings)
        check_fit(cls, model)
        return cls(**vars(settings), parts=model.prior().parts)

    def init(self, problem: Problem, state: State | None) -> State:
        parts = getattr(problem.prior, "parts", 1)
        if parts != self.parts:
            raise InputError(
                f"{type(self).__name__} was made for {self.parts} parameters of each latent, and this model has "
                f"{parts}; make it with parts={parts}"
            )
        if isinstance(problem.energy, PoissonEnergy):
            return super().init(problem, state)
        u = problem.start() if state is None else state.u
        memory = {} if state is None else dict(state.memory)
        if "damping" not in memory:
            memory = {"damping": torch.ones_like(u[:, :1]), "velocity": torch.zeros_like(u)}
        counts = {"rejected": torch.zeros_like(u[:, 0])}
        return State(u, memory, _slope(problem.energy, u), counts, age=0 if state is None else state.age)

    def step(self, problem: Problem, state: State) -> State:
        if isinstance(problem.energy, PoissonEnergy):
            return super().step(problem, state)
        return self._natural_step(problem, state)

    def modulate(self, energy: PoissonEnergy, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        return self._ask(proximal_features(energy, state), state, state.u.shape[1])

    def _ask(self, features: Tensor, state: State, latents: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The cell's modulations (B, P, 3) and its new memory."""
        dtype = self.cell.out.weight.dtype
        hidden = state.memory.get("hidden", state.u.new_zeros(len(state.u), latents, self.hidden))
        modulation, hidden = self.cell(features.to(dtype), hidden.to(dtype))
        return modulation.to(state.u.dtype), {"hidden": hidden.to(state.u.dtype)}

    def _natural_step(self, problem: Problem, state: State) -> State:
        model, memory, old = problem.model, state.memory, state.point
        assert isinstance(old, Slope)
        beta, damping = model.beta.to(state.u.dtype), memory["damping"]
        features = _features(old, state.u - problem.start(), memory["velocity"], beta)
        modulation, kept = self._ask(features, state, model.latents)
        log_size, bias, momentum = modulation.unbind(-1)
        flow = (old.gradient - beta * bias) / (damping * (LEAK * beta + START_CURVATURE * old.curvature))
        largest = LARGEST if problem.energy.exact else LARGEST_SAMPLED
        flow = (flow * torch.exp(-2 * log_size)).clamp(-largest, largest)
        change = momentum * memory["velocity"] - flow.where(flow.isfinite(), 0)
        age = state.age + 1
        taught = self.training and torch.is_grad_enabled() and not problem.energy.exact
        if not problem.energy.exact:
            change = change * min(1.0, self.steps / age)
        u = problem.feasible(state.u + change)
        new = _slope(problem.energy, u)
        rejected = ~(new.value <= old.value + _doubt(old, new))[:, None] & (not taught)
        damping = torch.where(rejected, 2 * damping, (RECOVERY * damping).clamp_min(1))
        return State(
            torch.where(rejected, state.u, u),
            {"damping": damping, "velocity": torch.where(rejected, 0, change), **kept},
            Slope(
                torch.where(rejected[:, 0], old.value, new.value),
                torch.where(rejected, old.gradient, new.gradient),
                torch.where(rejected, old.curvature, new.curvature),
                torch.where(rejected[:, 0], old.noise, new.noise),
            ),
            {"rejected": state.counts["rejected"] + rejected[:, 0]},
            age=age,
        )


def _doubt(old: Slope, new: Slope) -> Tensor:
    """Rises of F that say nothing (B,): rounding, and differences of two draws that chance may bring.

    A step too far is noisy as well; so the noise is that of the quieter of the two."""
    rounding = ROUNDING * torch.finfo(old.value.dtype).eps * old.value.abs()
    return rounding + CHANCE * 2**0.5 * torch.minimum(old.noise, new.noise)


def _slope(energy: Energy, u: Tensor) -> Slope:
    if isinstance(energy, FamilyEnergy):
        return energy.evaluate(u)
    assert isinstance(energy, SampledEnergy)
    point = energy.evaluate(u)
    slope = point.smooth - 0.5 * point.diagonal  # that of −log p(x | z) in z
    noise = (point.mean * slope.square()).sum(-1).sqrt()
    return Slope(point.value, point.gradient, point.diagonal * point.mean, noise)


def _features(slope: Slope, moved: Tensor, velocity: Tensor, beta: Tensor) -> Tensor:
    """What the cell sees of each parameter (B, P, 6): how far it is from the prior, the gradient as it is and by its
    logarithm, the curvature, the last step; and of its datum: the mean size of the gradient."""
    gradient = slope.gradient / beta
    size = gradient.abs()
    return torch.stack(
        [
            moved / 5,
            squash(gradient) / 2,
            gradient.sign() * torch.log1p(size) / 3,
            torch.log1p(slope.curvature / beta).expand_as(moved),
            velocity,
            (torch.log1p(size.mean(-1, keepdim=True)) / 3).expand_as(moved),
        ],
        -1,
    )
