"""Semi-amortized inference: an encoder's answer, refined by the steps of another engine.

Kim, Wiseman, Miller, Sontag & Rush (2018), "Semi-amortized variational autoencoders". Encoder and
steps are trained together, through the steps.
"""

from dataclasses import replace
from typing import Any

import torch

from itervae.arguments import check_fields, check_kind
from itervae.inference.checks import check_engine, check_fit
from itervae.inference.engine import Engine, Recipe, State
from itervae.inference.engines.amortized import Amortized
from itervae.inference.engines.ista import FISTAUnrolled, ISTAUnrolled
from itervae.inference.engines.lca import LCAUnrolled
from itervae.inference.engines.lista import LISTA
from itervae.inference.engines.recurrent import Recurrent
from itervae.inference.problem import Problem
from itervae.inference.settings import AmortizedSettings, SemiAmortizedSettings
from itervae.model import GenerativeModel

REFINERS: dict[str, type[Engine]] = {
    "fista-unrolled": FISTAUnrolled,
    "recurrent": Recurrent,
    "lca-unrolled": LCAUnrolled,
    "ista-unrolled": ISTAUnrolled,
    "lista": LISTA,
}
"""Engines that may follow the encoder; by default the first that fits the model."""


class SemiAmortized(Engine):
    """Steps of another engine from the better of two starts per datum: the encoder's answer and the
    prior.

    An encoder is catastrophically wrong on a few inputs, and several steps of a solver do not
    repair these; so each datum starts where F is lower. F is exact where it has a closed form, else
    the mean of a few draws.

    In training every datum starts from the encoder, which learns nothing from a datum that starts
    elsewhere. The loss includes F of the start, so that the encoder's answer is a fair rival of the
    prior afterwards.

    `stats["from_prior"]` says which data started from the prior; `stats["clamped"]` is that of
    `Amortized`.

    Args:
        encoder: gives the first start.
        refine: engine of the steps.
    """

    learned = True
    recipe = Recipe(loss="steps", learned_start=True)
    Settings = SemiAmortizedSettings

    def __init__(self, encoder: Amortized, refine: Engine) -> None:
        super().__init__()
        check_kind("encoder", encoder, Amortized, "an engine Amortized(encoder)")
        check_engine(refine)
        self.encoder, self.refine = encoder, refine
        self.steps = refine.steps

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "SemiAmortized":
        check_fields(settings, cls.Settings)
        fitting = (name for name, kind in REFINERS.items() if kind.requires <= model.capabilities)
        kind = REFINERS[settings.refine or next(fitting)]
        check_fit(kind, model)
        start = settings.start_encoder or ("conv" if model.convolutional else "mlp")
        encoder = Amortized.build(AmortizedSettings(start), model, shape)
        return cls(encoder, kind.build(kind.Settings(steps=settings.steps), model, shape))

    def init(self, problem: Problem, state: State | None) -> State:
        if state is not None:
            begun = self.refine.init(problem, state)
            none = torch.zeros_like(begun.u[:, 0], dtype=torch.long)
            return replace(begun, diagnostics=begun.diagnostics | {"clamped": none, "from_prior": none})
        guess = self.encoder.init(problem, None)
        prior = problem.start()
        better = torch.ones_like(prior[:, :1], dtype=torch.bool)
        if not (self.training and torch.is_grad_enabled()):
            better = (problem.free_energy(guess.u) <= problem.free_energy(prior))[:, None]
        begun = self.refine.init(problem, State(torch.where(better, guess.u, prior)))
        return replace(
            begun, diagnostics=begun.diagnostics | guess.diagnostics | {"from_prior": (~better[:, 0]).long()}
        )

    def step(self, problem: Problem, state: State) -> State:
        if not problem.energy.exact:  # there are no second derivatives to send back; each step is taught by its own F
            state = replace(state, u=state.u.detach())
        new = self.refine.step(problem, state)
        return replace(new, diagnostics=state.diagnostics | new.diagnostics)

    def repeat(self, problem: Problem, state: State, steps: int) -> State:
        if type(self).step is not SemiAmortized.step or not self.fuses(problem, state):
            return super().repeat(problem, state, steps)
        new = self.refine.repeat(problem, state, steps)
        return replace(new, diagnostics=state.diagnostics | new.diagnostics)

    def fuses(self, problem: Problem, state: State) -> bool:
        return self.refine.fuses(problem, state)
