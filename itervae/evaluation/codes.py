"""The codes of data under a model and an engine, and what is read out of them: one list for every
family."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.arguments import check_seed
from itervae.distributions import SparseCode, unit_kl
from itervae.evaluation.checks import batches, check_measured
from itervae.evaluation.readouts import CODE_READOUTS, POINT_READOUTS
from itervae.inference import Engine, certificate, infer
from itervae.model import GenerativeModel
from itervae.showing import Shown

FLOOR = -2.0
"""Residuals are clamped from below here, nats: how far below its prior a silent unit lies is no
information."""


@dataclass(frozen=True, repr=False)
class Codes(Shown):
    """The codes of N data with K units, and how well they reconstruct.

    A sparse code is a point estimate: its `sample`, `residual` and `unit_kl` are None, and its
    `free_energy` and `kl` are energy and sparsity cost.

    Attributes:
        family: of the posterior, such as "poisson".
        mean: E z (N, K).
        sample: one draw of z for each datum (N, K): integer counts of a Poisson.
        residual: location of the posterior minus that of the prior (N, K): log δr of a Poisson, μ −
            m of a Gaussian, log p − log π of a categorical.
        share_zero: probability of a zero, mean over data and units.
        unit_kl: KL of each unit's marginal posterior to its marginal prior, mean over data (K,),
            nats.
        error, sample_error: ‖x − x̂‖² of the decoded mean and of the decoded sample (N,), summed
            over dimensions.
        reconstruction, kl, free_energy: of each datum (N,), nats; the last at the model's beta.
        certificate: proved distance from the least free energy (N,), nats; NaN where there is no
            proof.
    """

    family: str
    mean: Tensor
    sample: Tensor | None
    residual: Tensor | None
    share_zero: float
    unit_kl: Tensor | None
    error: Tensor
    sample_error: Tensor | None
    reconstruction: Tensor
    kl: Tensor
    free_energy: Tensor
    certificate: Tensor

    @property
    def readouts(self) -> tuple[str, ...]:
        """The read-outs that this code has, in the order of `CODE_READOUTS`."""
        return POINT_READOUTS if self.residual is None else CODE_READOUTS

    def readout(self, name: str) -> Tensor:
        """Features (N, K): one of `readouts`.

        `residual`, `mean`, `sample` as above; `clamped` is the residual from −2 on; `root` is
        sign(E z)·√|E z|, which makes the noise of a count about the same at every rate.
        """
        if name == "root":
            return self.mean.sign() * self.mean.abs().sqrt()
        found = self.residual if name == "clamped" else getattr(self, name)
        assert found is not None, f"this code has no {name}"
        return found.clamp_min(FLOOR) if name == "clamped" else found


@torch.no_grad()
def encode(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    *,
    steps: int | None = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> Codes:
    """Infer the codes of all data, in batches.

    Args:
        model: generative model.
        engine: inference engine that fits it.
        x: data (N, D), or (N, *shape) of a convolutional dictionary.
        steps: inference steps; the engine's own where None.
        seed: of the samples.
        advance: called with the number of data done.

    Raises:
        InputError: as `infer`, no data, and a posterior that cannot be sampled.
    """
    model, x = check_measured(model, (engine,), x)
    check_seed(seed)
    generator = torch.Generator(x.device).manual_seed(seed)
    prior = model.prior()
    precise = copy.deepcopy(model).double()  # a proof needs more digits than inference
    columns: dict[str, list[Tensor]] = {}
    zeros = 0.0
    kl_of_units = torch.zeros(model.latents, dtype=torch.float64, device=x.device)
    for batch in batches(model, x):
        posterior = infer(model, engine, batch, steps=steps, generator=generator).posterior
        energy = model.free_energy(batch, posterior, generator=generator)
        found = {
            "mean": posterior.mean,
            "error": _squared_error(model, batch, posterior.mean),
            "reconstruction": energy.reconstruction,
            "kl": energy.kl,
            "free_energy": energy.total,
            "certificate": certificate(precise, batch.double(), posterior.like(posterior.u.double())),
        }
        if not isinstance(posterior, SparseCode):
            found["sample"] = posterior.sample(generator=generator)
            found["residual"] = posterior.location - prior.location
            found["sample_error"] = _squared_error(model, batch, found["sample"])
            kl_of_units += unit_kl(posterior, prior).double().sum(0)
        zeros += posterior.share_zero.double().sum().item()
        for name, value in found.items():
            columns.setdefault(name, []).append(value)
        advance(len(batch))
    joined: dict[str, Tensor | None] = {name: torch.cat(columns.pop(name)) for name in list(columns)}
    point = "sample" not in joined
    missing = dict.fromkeys(("sample", "residual", "sample_error")) if point else {}
    return Codes(
        family=model.prior.name,
        share_zero=zeros / (len(x) * model.latents),
        unit_kl=None if point else kl_of_units / len(x),
        **joined,  # pyright: ignore[reportArgumentType]
        **missing,  # pyright: ignore[reportArgumentType]
    )


def _squared_error(model: GenerativeModel, x: Tensor, z: Tensor) -> Tensor:
    error = (x - model.decode(z)).double().square()
    return (error.where(~x.isnan(), 0) if model.missing else error).sum(-1)
