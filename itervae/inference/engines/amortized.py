"""One-shot amortized inference: an encoder that gives the posterior as a residual on the prior.

Kingma & Welling (2014), "Auto-encoding variational Bayes"; Vafaii, Galor & Yates (2024), "Poisson
variational autoencoder": log λ = log r + encoder(x), the encoder giving log δr.
"""

from typing import Any

from torch import nn

from itervae.arguments import check_fields, check_kind
from itervae.distributions import SparsityCost
from itervae.errors import InputError
from itervae.inference.checks import check_fit
from itervae.inference.engine import Engine, State
from itervae.inference.engines.encoders import encoder_for, values_taken
from itervae.inference.engines.place_encoders import PlaceEncoder
from itervae.inference.problem import Problem
from itervae.inference.settings import AmortizedSettings
from itervae.model import GenerativeModel


class Amortized(Engine):
    """One pass of an encoder, which gives the posterior as a residual on the prior:

        u = clamp(u of the prior + encoder(x))

    with the soft clamp of the family (`Family.clamp`: log-rates and log-scales above 5). It is
    applied once, so KL and sample see the same posterior. `stats["clamped"]` has the number of
    parameters of each datum that hit it. Of sparse coding the encoder gives the residual on the
    drive of the LCA, u = Φᵀx + encoder(x), and a = T(u). Of counts under a Poisson likelihood the
    encoder is given log(1 + x).

    Args:
        encoder: module from x (B, D) to (B, P): log δr of a Poisson; or a `PlaceEncoder`, which
            goes along with a convolutional dictionary to data of any size.
    """

    learned = True
    Settings = AmortizedSettings

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        check_kind("encoder", encoder, nn.Module, "a module; Amortized.build makes one by its name")
        self.encoder = encoder

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "Amortized":
        check_fields(settings, cls.Settings)
        check_fit(cls, model)
        return cls(encoder_for(settings.encoder, model, shape))

    def init(self, problem: Problem, state: State | None) -> State:
        x, start = problem.x, problem.start()
        if isinstance(problem.prior, SparsityCost):  # no threshold is crossed at 0, and nothing would be learned there
            seen, operator = problem.model.observed(x, problem.precision, x.dtype)
            start = start + operator.adjoint(seen)
        size = values_taken(self.encoder)
        if size not in (None, x.shape[1]):
            raise InputError(
                f"the encoder of {type(self).__name__} takes {size} values per datum, and these have {x.shape[1]} "
                "values; train one on this model"
            )
        seen = problem.model.likelihood.seen(x).to(next(self.encoder.parameters(), x).dtype)
        encoder = self.encoder
        answer = encoder.answer(problem.model, seen) if isinstance(encoder, PlaceEncoder) else encoder(seen)
        residual = answer.to(x.dtype)
        if residual.shape != start.shape:
            raise InputError(
                f"the encoder of {type(self).__name__} gives {tuple(residual.shape)} for {len(x)} data; expected "
                f"{tuple(start.shape)}, the parameters of this model: train one on this model"
            )
        u = start + residual
        u, clamped = problem.prior.clamp(u)  # pyright: ignore[reportAttributeAccessIssue]
        return State(u, diagnostics={"clamped": clamped})
