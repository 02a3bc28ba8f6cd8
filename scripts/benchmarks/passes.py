"""The exact free energy of a posterior and its gradient, with the soft clamp of what an encoder
gives: its passes over (B, K) in compiled code, over the same in tensors. Values are compared first;
where they differ by more than rounding, the suite fails.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from benchmarks.machine import Setup
from benchmarks.timing import alternate, ratio, spread
from torch import Tensor

from itervae.distributions import clamp, moments
from itervae.model import GenerativeModel, build_model, misfit
from itervae.model.settings import GaussianVAESettings, LaplaceVAESettings, PoissonVAESettings, VAESettings

SIDE, LATENTS = 16, 512
FAMILIES: dict[str, type[VAESettings]] = {
    "poisson": PoissonVAESettings,
    "gaussian": GaussianVAESettings,
    "laplace": LaplaceVAESettings,
}
ROUNDING = 1e-4
"""Difference of two gradients, over the largest number of each, that rounding may make."""


def in_tensors(call: Callable[[], Any]) -> Any:
    """What a call gives without compiled code in the passes."""
    with ExitStack() as stack:
        for module in (moments, clamp, misfit):
            stack.enter_context(patch.object(module, "compilable", lambda value: False))
        return call()


def passes(model: GenerativeModel, x: Tensor, u: Tensor) -> list[Tensor]:
    """The mean free energy, and its gradient in the parameters of posterior, prior and decoder."""
    bent, _ = model.prior().clamp(u)
    total = model.free_energy(x, model.posterior(bent)).total.mean()
    return [total, *torch.autograd.grad(total, [u, *model.parameters()])]


def apart(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, over the largest number of each tensor."""
    pairs = zip(found, expected, strict=True)
    return max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)


def run(batch: int, setup: Setup) -> Iterator[dict[str, Any]]:
    """A row for each family."""
    generator = torch.Generator().manual_seed(0)
    for name, settings in FAMILIES.items():
        model = build_model(settings(latents=LATENTS, prior="learned"), (SIDE, SIDE), 0).to(setup.device)
        x = torch.randn(batch, SIDE**2, generator=generator).to(setup.device)
        start = model.prior().u.detach().cpu()
        u = (start + torch.randn(batch, len(start), generator=generator)).to(setup.device)
        u[0, -3:] = torch.tensor([4.9, 5.1, 7.0])  # around the limit of the clamp
        ours = partial(passes, model, x, u.requires_grad_())
        theirs = partial(in_tensors, ours)
        off = apart(ours(), theirs())
        if not off <= ROUNDING:
            raise RuntimeError(f"{name}, batch {batch}: compiled code and tensors differ by {off:.2g}")
        times = alternate({"ours": ours, "in tensors": theirs}, setup.rounds, setup.device)
        yield {
            "suite": "train",
            "part": "passes",
            "what": f"free energy and its gradient, {name}",
            "batch": batch,
            "ms": spread(times["ours"], 1e3),
            "over the same in tensors": ratio(times, "ours", "in tensors"),
            "apart": off,
        }
