"""Learned ISTA on the Poisson free energy: FISTA whose step sizes, thresholds and momentum are learned.

Gregor & LeCun (2010), "Learning fast approximations of sparse coding": iterations of ISTA as the layers of a network.
Here the shrinkage is the Lambert-W one and Φ stays that of the model, so a trained engine runs on any dictionary. Each
layer learns a few scalars, and a small network that modulates them by each latent's own state, as in iterative
amortized inference (Marino, Yue & Mandt 2018, "Iterative amortized inference").
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from itervae.errors import InputError
from itervae.inference.base import Problem
from itervae.inference.descent import choose, rises
from itervae.inference.energies import LinearEnergy, Point, PoissonEnergy
from itervae.inference.ista import FISTAUnrolled
from itervae.inference.state import State
from itervae.model import GenerativeModel

FEATURES = 6
REACH = (2.0, 3.0, 1.0)
"""Largest modulation of log-curvature, threshold and momentum by a network."""


@dataclass
class LISTASettings:
    """Settings of `lista`."""

    steps: int = 5
    """Number of inference steps, and of learned layers."""
    tied: bool = False
    """The same parameters in every layer."""
    hidden: int = 16
    """Width of the network that modulates the step of each latent; 0 for learned scalars alone."""
    matrices: bool = False
    """Also learn a full K×K matrix for each layer, which mixes the gradients of latents; it fits one dictionary
    only."""


class Layer(nn.Module):
    """What one layer learns, all zero before training but the inner weights of the network.

    Args:
        hidden: width of the network, 0 for none.
        mixed: K, to learn a matrix (K, K) besides; 0 for none.
    """

    reach: Tensor

    def __init__(self, hidden: int, mixed: int) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(3))
        self.register_buffer("reach", torch.tensor(REACH), persistent=False)
        self.network = None
        if hidden:
            self.network = nn.Sequential(nn.Linear(FEATURES, hidden), nn.SiLU(), nn.Linear(hidden, 3))
            for parameter in self.network[-1].parameters():
                nn.init.zeros_(parameter)
        self.mixing = nn.Parameter(torch.zeros(mixed, mixed)) if mixed else None

    def forward(self, features: Tensor) -> Tensor:
        """Modulation of log-curvature, threshold and momentum (B, K, 3), from features (B, K, 6)."""
        if self.network is None:
            return self.scalars.expand(*features.shape[:-1], 3)
        return self.scalars + self.reach * self.network(features).tanh()


class LISTA(FISTAUnrolled):
    """Learned proximal steps where they lower F, and steps of FISTA.

    Layer i gives α, δ and γ for each latent, by three scalars and a network of the latent's own state:

        h = e^α·κ·c/σ²      y = λ + (inertia + γ)·(last Δλ)      λ' = prox_h(y), with log r + δ in place of log r

    With κ and the inertia of `fista-unrolled`, which it is before training, exactly, and after its last layer. Where a
    learned step raises F, the datum takes the step of FISTA from the same point instead; so F never rises.
    """

    requires = frozenset({"Poisson family", "linear decoder", "Gaussian likelihood"})
    learned = True
    Settings = LISTASettings

    def __init__(
        self, steps: int = 5, tied: bool = False, hidden: int = 16, matrices: bool = False, latents: int = 0
    ) -> None:
        super().__init__(steps)
        if hidden < 0:
            raise InputError(f"hidden is {hidden}; expected a number ≥ 0 (0: learned scalars alone)")
        self.layers = nn.ModuleList(Layer(hidden, latents if matrices else 0) for _ in range(1 if tied else steps))

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "LISTA":
        return cls(**vars(settings), latents=model.latents)

    def init(self, problem: Problem, state: State | None) -> State:
        return replace(super().init(problem, state), age=0 if state is None else state.age)

    def step(self, problem: Problem, state: State) -> State:
        return replace(super().step(problem, state), age=state.age + 1)

    def candidate(self, energy: LinearEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Point, Tensor, Tensor]:
        if state.age >= self.steps:
            return super().candidate(energy, state, inertia)
        assert isinstance(energy, PoissonEnergy)
        learned, mean, smooth = self._learned_step(energy, state, inertia)
        new = energy.evaluate(learned)
        fista, point, fista_mean, fista_smooth = super().candidate(energy, state, inertia)
        risen = rises(energy, state.point, new)[:, None]
        return (
            torch.where(risen, fista, learned),
            choose(risen, point, new),
            torch.where(risen, fista_mean, mean),
            torch.where(risen, fista_smooth, smooth),
        )

    def _learned_step(self, energy: PoissonEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The u to try, and the mean and smooth gradient that the step is made from."""
        layer = self.layers[state.age % len(self.layers)]
        assert isinstance(layer, Layer)
        mean, smooth = state.point.mean, state.point.smooth
        modulation = layer(_features(energy, state).to(layer.scalars.dtype)).to(mean.dtype)
        log_curvature, threshold, momentum = modulation.unbind(-1)
        if "velocity" in state.memory:
            mean = mean + (inertia + momentum) * state.memory["velocity"]
            smooth = smooth + (inertia + momentum) * state.memory["velocity_smooth"]
        slope = smooth - energy.beta * threshold
        if layer.mixing is not None:
            if len(layer.mixing) != mean.shape[1]:
                raise InputError(
                    f"the matrices of this engine are for {len(layer.mixing)} latents and the model has "
                    f"{mean.shape[1]}; train it on this model, or without --matrices"
                )
            slope = slope + smooth @ layer.mixing.to(mean.dtype)
        return energy.proximal_step(mean, slope, log_curvature.exp() * self.metric(state)), mean, smooth


def _features(energy: PoissonEnergy, state: State) -> Tensor:
    """What a network sees of each latent (B, K, 6), each of order one: its log-rate relative to the prior, its
    gradient, its curvature and its last step, in units of the leak; and of its datum: the curvature of all, and κ."""
    point, beta = state.point, energy.beta
    curvature = point.diagonal * point.mean / beta
    moved = state.memory.get("velocity", torch.zeros_like(point.mean))
    load = curvature.sum(-1, keepdim=True)
    return torch.stack(
        [
            (state.u - energy.prior_log_rate) / 5,
            torch.asinh(point.gradient / beta) / 2,
            torch.log1p(curvature),
            torch.asinh(point.diagonal * moved / beta),
            (torch.log1p(load) / 3).expand_as(state.u),
            state.memory["damping"].log().expand_as(state.u),
        ],
        -1,
    )
