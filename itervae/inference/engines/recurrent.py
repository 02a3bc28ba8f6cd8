"""Learned recurrent refinement of the posterior, for any family and any decoder.

Marino, Yue & Mandt (2018), "Iterative amortized inference": a network sees where inference stands
and the gradient of F there, and says what step to take. Here it is a gated recurrent cell (Cho et
al. 2014, "Learning phrase representations") of each latent, the same for all, that modulates a
natural-gradient or proximal step; so it runs with any number of latents.
"""

from typing import Any

import torch
from torch import Tensor, nn

from itervae.arguments import check_fields, check_whole
from itervae.errors import InputError
from itervae.inference.checks import check_fit
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.engine import Engine, Recipe, State
from itervae.inference.engines.learned import MODULATIONS, REACH, LearnedProximal, proximal_features
from itervae.inference.engines.natural import FEATURES, Ask, NaturalDescent
from itervae.inference.problem import Problem
from itervae.inference.settings import RecurrentSettings
from itervae.model import GenerativeModel


class Cell(nn.Module):
    """A gated recurrent unit for each latent, with the same weights for all; its modulations are
    zero before training.

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
        """The modulations (B, parts · K, 3) and the new memory (B, K, H), from features (B, parts ·
        K, 6)."""
        batch, latents, width = hidden.shape
        parts = features.shape[1] // latents  # sizes are written out, as an empty batch leaves none to be found
        by_latent = features.unflatten(1, (parts, latents)).transpose(1, 2)  # (B, K, parts, 6)
        new = self.unit(by_latent.reshape(batch * latents, parts * FEATURES), hidden.reshape(batch * latents, width))
        out = self.out(new).view(batch, latents, parts, MODULATIONS).transpose(1, 2).flatten(1, 2)
        return self.reach * out.tanh(), new.view(batch, latents, width)


class CellProximal(LearnedProximal):
    """The proximal steps of `LearnedProximal` with modulations that are asked for.

    Args:
        steps: number of steps that it is trained for.
        ask: gives α, δ and γ (`natural.Ask`).
    """

    def __init__(self, steps: int, ask: Ask) -> None:
        super().__init__(steps)
        self.ask = ask

    def modulate(self, energy: LinearEnergy, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        return self.ask(proximal_features(energy, state), state, state.u.shape[1])


class Recurrent(Engine):
    """A step of known form whose size, bias and momentum α, δ, γ a recurrent cell of each latent
    chooses.

    Poisson with a linear decoder: the proximal step of `LearnedProximal`, with its safeguards, and
    steps of the LCA after the last. Otherwise the natural-gradient steps of `NaturalDescent`.
    `stats["rejected"]` counts the steps that were taken back.

    Args:
        steps: number of steps that it is trained for.
        hidden: width of the memory of each latent.
        parts: parameters of each latent (`Family.parts`).
    """

    requires = frozenset({"variational posterior"})
    learned = True
    recipe = Recipe(lr=0.01)
    Settings = RecurrentSettings

    def __init__(
        self, steps: int = RecurrentSettings.steps, hidden: int = RecurrentSettings.hidden, parts: int = 1
    ) -> None:
        super().__init__()
        check_whole("steps", steps, 1)
        check_whole("hidden", hidden, 1)
        check_whole("parts", parts, 1)
        self.steps, self.hidden, self.parts = steps, hidden, parts
        self.cell = Cell(parts, hidden)
        self._proximal, self._natural = CellProximal(steps, self._ask), NaturalDescent(steps, self._ask)

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
        return self._rule(problem).init(problem, state)

    def step(self, problem: Problem, state: State) -> State:
        return self._rule(problem).step(problem, state)

    def _rule(self, problem: Problem) -> Engine:
        return self._proximal if isinstance(problem.energy, PoissonEnergy) else self._natural

    def _ask(self, features: Tensor, state: State, latents: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The cell's modulations (B, P, 3) and its new memory."""
        dtype = self.cell.out.weight.dtype
        hidden = state.memory.get("hidden", state.u.new_zeros(len(state.u), latents, self.hidden))
        modulation, hidden = self.cell(features.to(dtype), hidden.to(dtype))
        return modulation.to(state.u.dtype), {"hidden": hidden.to(state.u.dtype)}
