"""Validation: held-out data at τ = 0."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from itervae.inference import certificate
from itervae.training.tasks import Task


@torch.no_grad()
def validate(task: Task, seed: int, stop: Callable[[], bool] = lambda: False) -> dict[str, float]:
    """Means over held-out data at τ = 0, with the model's current β: nats, spikes, certificate,
    that β.

    The free energy is exact where it has a closed form, else that of integer counts, always with
    the same seed; of sequences per frame, over all frames. Its standard error is that of
    independent data, or sequences. Empty where `stop` says so between two batches. Each process
    looks at its own part of the data.
    """
    model, gather = task.model, task.processes.gather
    generator = task.processes.generator(model.beta.device, seed)
    columns: dict[str, list[Tensor]] = {}
    parts = 0
    for part in task.evaluate(generator):
        if stop():
            return {}
        energy = model.free_energy(part.x, part.posterior, part.prior, generator=generator)
        found = {
            "free_energy": energy.total,
            "free_energy_beta_1": energy.reconstruction + energy.kl,
            "reconstruction": energy.reconstruction,
            "kl": energy.kl,
            "spikes": part.posterior.mean.abs().sum(-1),
            "share_zero": part.posterior.share_zero.mean(-1),
            "certificate": certificate(model, part.x, part.posterior, part.prior),
        }
        for name, value in found.items():
            columns.setdefault(name, []).append(value)
        parts += 1
    joined = {name: gather(torch.cat(values)).double() for name, values in columns.items()}
    energies = columns["free_energy"]  # (B,) of each part; T parts in a row are of the same sequences
    together = [
        torch.stack(energies[start : start + task.frames]).double().mean(0) for start in range(0, parts, task.frames)
    ]
    weight = {"beta": model.beta.item()} if "variational posterior" in model.capabilities else {}
    independent, energy = gather(torch.cat(together)), joined["free_energy"]
    return {name: value.mean().item() for name, value in joined.items()} | {
        "free_energy_se": independent.std().item() / len(independent) ** 0.5 if len(independent) > 1 else math.nan,
        "free_energy_p99": energy.quantile(0.99).item(),
        "free_energy_max": energy.max().item(),
        "certificate_max": joined["certificate"].max().item(),
        "non_finite": int((~energy.isfinite()).sum()),
        **weight,
    }
