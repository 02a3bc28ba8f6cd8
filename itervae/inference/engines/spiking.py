"""Inference by spikes: the dynamics of the iterative Poisson VAE.

Vafaii, Galor & Yates (2025), "Brain-like variational inference". Beliefs are updated online: the
prior of a step is the posterior of the step before, so the free energy of one step from log-rates
u' to u is

    F_t(u) = E‖x − Φz‖² / 2σ² + β KL(Pois e^u ‖ Pois e^{u'}),      z ~ Pois(e^u)

At u = u' the KL and its derivative vanish, whatever β, and the natural gradient (for a Poisson
rate: that in λ) leaves

    −∂F_t/∂λ = Φᵀ(x − Φλ)/σ² − c/2σ²

Spikes z in place of λ estimate it without bias, and drive the membrane potentials u:

    u ← u + η [ Φᵀ(x − Φz)/σ² − c/2σ² ] / (1 + 4η·c·λ/σ²),    z ~ Pois(e^u) drawn anew at each step

The published update, to be had as the rule "published", is u ← u + η[Φᵀ(x − Φz)/σ² − e^b], with η
and b learned. In place of the constant e^b stands c/2σ² by default, the cost of the spikes' own
variance that the free energy calls for. The divisor, near 1 for latents that are all but silent,
makes the step semi-implicit, as in `lca-unrolled`: the published step diverges where ηcλ/σ² is
large. It moves no point where the expected drive is 0.

Neither has a leak towards the prior of the first step. So the expected drive rests where the
reconstruction term is least over all rates, not at the posterior of least F under the static prior:
potentials of latents that explain nothing sink for ever, and with many steps the KL to the static
prior grows.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itervae.arguments import check_choice, check_fields, check_positive, check_whole
from itervae.distributions.registry import MAX_LOG_RATE
from itervae.errors import InputError
from itervae.inference.energies.base import SolvableEnergy
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.engine import Engine, Recipe, State
from itervae.inference.engines.descent import START_CURVATURE
from itervae.inference.engines.lca import LARGEST_SAMPLED, NEWEST
from itervae.inference.problem import Problem
from itervae.inference.settings import SpikingLCASettings
from itervae.model import GenerativeModel

TEMPERATURE = 0.1
"""Temperature of the relaxed counts whose gradient the spikes take."""
START_BIAS = -3.0
"""Where the biases of the published rule start."""
SOFT_CHANGE, SOFT_POTENTIAL, SOFT_LEAST = 7.0, 8.0, -8.0
"""The published clamps of the change in a step, of the potential, and of both from below."""
LOWEST, HIGHEST, RISE = 2.0, 10.0, 0.5
"""Where clamps rise from and to, in what share of the training."""


class SpikingLCA(Engine):
    """The iterative Poisson VAE: integer spikes, drawn anew at each step, drive the potentials.

    It starts from the log-rates of the prior. In one step no potential changes by more than 2 nats.
    None rises above 10, beyond which counts cannot be drawn; `stats["clamped"]` counts the units
    that the last step would have taken there. With `clamps` soft, as in the published code, they
    are bent instead: a change Δu becomes s(Δu, 7) and a potential s(u + Δu, 8), with

        s(v, c) = c − log(1 + exp(c − max(v, −8)))

    below c everywhere, near v well below c; `stats["clamped"]` counts those above 8. With `clamps`
    rising both c are 2 when training begins, 10 from its half on, and what they have come to is
    kept with the engine; it begins at 10 where nothing trains it.

    Under the rule "published" log η and the bias b of each latent, or each map of a convolutional
    dictionary, are parameters, which start at 0 and −3 as there.

    With a linear decoder the gradient goes back through time by way of the spikes: these are
    integer counts, in training as well, with the derivative of the relaxed counts of the same
    arrivals (straight-through). For other models `SampledEnergy` gives the drive at counts z
    without gradient; the gradient then goes back through the potentials alone.
    """

    requires = frozenset({"Poisson family"})
    stochastic = True
    recipe = Recipe(loss="sequence")
    Settings = SpikingLCASettings

    def __init__(
        self,
        steps: int = SpikingLCASettings.steps,
        step_size: float | None = SpikingLCASettings.step_size,
        rule: str = SpikingLCASettings.rule,
        clamps: str = SpikingLCASettings.clamps,
        units: int = 0,
    ) -> None:
        super().__init__()
        check_choice("clamps", clamps, ("hard", "soft", "rising"))
        check_choice("rule", rule, ("derived", "published"))
        check_whole("steps", steps, 1)
        check_whole("units", units)
        self.steps, self.clamps, published = steps, clamps, rule == "published"
        size = check_positive("step_size", (1.0 if published else 0.05) if step_size is None else step_size)
        if published and not units:
            raise InputError("units is 0, and the published rule has a bias of each; expected the latents of the model")
        self.step_size = size
        self.limit: Tensor | None
        self.register_buffer("limit", torch.tensor(HIGHEST) if clamps == "rising" else None)
        self.log_size = nn.Parameter(torch.tensor(math.log(size))) if published else None
        self.bias = nn.Parameter(torch.full((units,), START_BIAS)) if published else None

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "SpikingLCA":
        check_fields(settings, cls.Settings)
        return cls(**vars(settings), units=model.prior.maps)

    def follow(self, progress: float) -> None:
        if self.limit is not None:
            self.limit.fill_(LOWEST + (HIGHEST - LOWEST) * min(1.0, progress / RISE))

    def init(self, problem: Problem, state: State | None) -> State:
        assert isinstance(problem.energy, SolvableEnergy)  # made here, since steps share it
        return _bounded(problem.start(), {}) if state is None else _bounded(state.u, dict(state.memory))

    def step(self, problem: Problem, state: State) -> State:
        u, memory = state.u, state.memory
        assert isinstance(problem.energy, SolvableEnergy)
        driven, diagonal = drive(problem.energy, problem.model, u, problem.generator)
        if not problem.energy.exact:
            # the mean of earlier draws: this one's goes with this one's drive, and would turn it
            drawn, diagonal = diagonal, memory.get("diagonal", diagonal)
            memory = {"diagonal": torch.lerp(diagonal, drawn, NEWEST)}
        if self.bias is None or self.log_size is None:
            change = self.step_size * driven / (1 + self.step_size * START_CURVATURE * diagonal * u.exp())
        else:
            change = self.log_size.exp() * (driven + diagonal / 2 - self._cost(problem.model))
        if self.clamps == "hard":
            return _bounded(u + change.clamp(-LARGEST_SAMPLED, LARGEST_SAMPLED), memory)
        most, highest = (SOFT_CHANGE, SOFT_POTENTIAL) if self.limit is None else (self.limit, self.limit)
        u = u + _bent(change, most)
        return State(_bent(u, highest), memory, diagnostics={"clamped": (u > highest).sum(-1)})

    def _cost(self, model: GenerativeModel) -> Tensor:
        """e^b (K,)."""
        assert self.bias is not None
        if len(self.bias) != model.prior.maps:
            raise InputError(
                f"the biases of {type(self).__name__} are of {len(self.bias)} units, and this model has "
                f"{model.prior.maps}; train it on this model, or use the rule derived"
            )
        return model.prior.everywhere(self.bias.exp())


def drive(
    energy: SolvableEnergy, model: GenerativeModel, u: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """An unbiased draw of −∂(reconstruction)/∂λ (B, K) at log-rates u, and the diagonal of the
    curvature of the reconstruction term.

    The draw is made from one count z ~ Pois(e^u) per latent. The diagonal is c/σ² (K,) of a linear
    decoder, else a draw of it (B, K).
    """
    if isinstance(energy, LinearEnergy):
        z = model.posterior(u, TEMPERATURE).rsample(generator=generator, relaxation="straight-through")
        return -energy.quadratic.gradient(z)[0], energy.quadratic.diagonal
    draw = energy.evaluate(u)
    return -draw.data_gradient, draw.diagonal


def _bent(v: Tensor, limit: float | Tensor) -> Tensor:
    """The published clamp s(v, c)."""
    return limit - F.softplus(limit - v.clamp_min(SOFT_LEAST))


def _bounded(u: Tensor, memory: dict[str, Tensor]) -> State:
    clamped = (u > MAX_LOG_RATE).sum(-1)
    return State(u.clamp_max(MAX_LOG_RATE), memory, diagnostics={"clamped": clamped})
