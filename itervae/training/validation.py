"""Validation: held-out data at τ = 0."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from itervae.inference import Engine, certificate, infer
from itervae.model import GenerativeModel

EVALUATION_BATCH = 1000


@torch.no_grad()
def validate(
    model: GenerativeModel, engine: Engine, x: Tensor, seed: int, stop: Callable[[], bool] = lambda: False
) -> dict[str, float]:
    """Means over held-out data (N, D) at τ = 0, with the model's current β: nats, spikes, certificate.

    The free energy is exact where it has a closed form, else that of integer counts, always with the same seed. Empty
    where `stop` says so between two batches.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    columns: dict[str, list[Tensor]] = {}
    for batch in x.split(EVALUATION_BATCH):
        if stop():
            return {}
        inference = infer(model, engine, batch, generator=generator)
        energy = model.free_energy(batch, inference.posterior, generator=generator)
        rates = inference.posterior.mean
        found = {
            "free_energy": energy.total,
            "free_energy_beta_1": energy.reconstruction + energy.kl,
            "reconstruction": energy.reconstruction,
            "kl": energy.kl,
            "spikes": rates.abs().sum(-1),
            "share_zero": inference.posterior.share_zero.mean(-1),
            "certificate": certificate(model, batch, inference.posterior),
        }
        for name, value in found.items():
            columns.setdefault(name, []).append(value)
    joined = {name: torch.cat(values).double() for name, values in columns.items()}
    energy = joined["free_energy"]
    return {name: value.mean().item() for name, value in joined.items()} | {
        "free_energy_se": energy.std().item() / len(energy) ** 0.5 if len(energy) > 1 else math.nan,
        "free_energy_p99": energy.quantile(0.99).item(),
        "free_energy_max": energy.max().item(),
        "certificate_max": joined["certificate"].max().item(),
        "non_finite": int((~energy.isfinite()).sum()),
    }
