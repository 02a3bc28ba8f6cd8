"""Natural-gradient steps on the free energy of any family and decoder, with size, bias and momentum
chosen by a function, such as a network, that is handed to them.

Amari (1998), "Natural gradient works efficiently in learning"; Marino, Yue & Mandt (2018),
"Iterative amortized inference".
"""

from collections.abc import Callable

import torch
from torch import Tensor

from itervae.inference.energies.base import Energy
from itervae.inference.energies.family import FamilyEnergy, Slope
from itervae.inference.energies.poisson import LARGEST, LEAK
from itervae.inference.energies.sampled import SampledEnergy
from itervae.inference.engine import Engine, State
from itervae.inference.engines.descent import START_CURVATURE
from itervae.inference.engines.lca import LARGEST_SAMPLED
from itervae.inference.engines.learned import squash
from itervae.inference.problem import Problem

FEATURES = 6
"""Number of features that `natural_features` gives of each parameter of a latent."""
RECOVERY = 0.8
"""Factor by which the damping d falls, down to 1, at each step that is not taken back."""
ROUNDING = 8
"""Units in the last place of F below which a rise is rounding."""
CHANCE = 2.0
"""Rise of a sampled F, in standard deviations of the difference of two draws, up to which it is put
down to chance and the step is kept."""

Ask = Callable[[Tensor, State, int], tuple[Tensor, dict[str, Tensor]]]
"""A function of features (B, P, 6), a state and K that gives modulations (B, P, 3), and memory to
carry on besides."""


class NaturalDescent(Engine):
    """Natural-gradient steps whose log-size α, bias δ and momentum γ of each parameter come from a
    function `ask`:

        Δu = clip( −(g − βδ) / (d e^{2α} (4β + 4h)), ±4 ) + γ·(last Δu)

    g is the natural gradient of F (∂F/∂λ of a Poisson), h the curvature beyond the leak where it is
    known (cλ/σ² of a sampled Poisson), else 0; d ≥ 1 is a damping per datum. A step that raises F
    is taken back and d doubled; after any other step d falls again.

    Where F is sampled, three things differ. The clip is at ±2. A rise counts only beyond two
    standard deviations of the difference of two draws, var F ≈ Σ_k var z_k (∂F/∂z_k)², and no step
    is taken back while the engine is trained, as it would learn nothing from it. Beyond the n steps
    that it is trained for, the k-th step is scaled by n/k, so that the noise of the gradient
    averages out (Robbins & Monro 1951).

    Args:
        steps: n.
        ask: gives α, δ, γ (B, P, 3); see `Ask`.
    """

    requires = frozenset({"variational posterior"})

    def __init__(self, steps: int, ask: Ask) -> None:
        super().__init__()
        self.steps, self.ask = steps, ask

    def init(self, problem: Problem, state: State | None) -> State:
        u = problem.start() if state is None else state.u
        memory = {} if state is None else dict(state.memory)
        if "damping" not in memory:
            memory = {"damping": torch.ones_like(u[:, :1]), "velocity": torch.zeros_like(u)}
        diagnostics = {"rejected": torch.zeros_like(u[:, 0])}
        count = 0 if state is None else state.step_count
        return State(u, memory, _slope(problem.energy, u), diagnostics, step_count=count)

    def step(self, problem: Problem, state: State) -> State:
        model, memory, old = problem.model, state.memory, state.point
        assert isinstance(old, Slope)
        beta, damping = model.beta.to(state.u.dtype), memory["damping"]
        features = natural_features(old, state.u - problem.start(), memory["velocity"], beta)
        modulation, kept = self.ask(features, state, model.latents)
        log_size, bias, momentum = modulation.unbind(-1)
        flow = (old.gradient - beta * bias) / (damping * (LEAK * beta + START_CURVATURE * old.curvature))
        largest = LARGEST if problem.energy.exact else LARGEST_SAMPLED
        flow = (flow * torch.exp(-2 * log_size)).clamp(-largest, largest)
        change = momentum * memory["velocity"] - flow.where(flow.isfinite(), 0)
        count = state.step_count + 1
        taught = self.training and torch.is_grad_enabled() and not problem.energy.exact
        if not problem.energy.exact:
            change = change * min(1.0, self.steps / count)
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
            {"rejected": state.diagnostics["rejected"] + rejected[:, 0]},
            step_count=count,
        )


def _doubt(old: Slope, new: Slope) -> Tensor:
    """The rise of F (B,) below which it says nothing: rounding, and what chance may bring between
    two draws. A step too far is noisy as well; so the noise is that of the quieter of the two."""
    rounding = ROUNDING * torch.finfo(old.value.dtype).eps * old.value.abs()
    return rounding + CHANCE * 2**0.5 * torch.minimum(old.noise, new.noise)


def _slope(energy: Energy, u: Tensor) -> Slope:
    if isinstance(energy, FamilyEnergy):
        return energy.evaluate(u)
    assert isinstance(energy, SampledEnergy)
    point = energy.evaluate(u)
    slope = point.data_gradient - 0.5 * point.diagonal  # that of −log p(x | z) in z
    noise = (point.mean * slope.square()).sum(-1).sqrt()
    return Slope(point.value, point.gradient, point.diagonal * point.mean, noise)


def natural_features(slope: Slope, moved: Tensor, velocity: Tensor, beta: Tensor) -> Tensor:
    """The features of each parameter that a network sees (B, P, 6).

    They are how far it is from the prior, the gradient as it is and by its logarithm, the curvature
    and the last step; and, the same for all parameters of a datum, the mean size of the gradient.
    """
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
