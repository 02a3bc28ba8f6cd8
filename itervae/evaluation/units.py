"""Active units: one rule for every family of posteriors.

The rules of Vafaii, Galor & Yates (2024), "Poisson variational autoencoder", differ from family to
family. Here a unit is active if its own KL, averaged over the data, is above a threshold in nats.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.errors import InputError

ACTIVE = 0.01
"""A unit is active if its mean KL is above this, nats."""
THRESHOLDS = (0.001, ACTIVE, 0.1)
"""Thresholds at which the share of active units is reported, nats: how much the rule decides."""
LOWEST, HIGHEST, PER_DECADE = -8, 2, 4
"""Bins of the histogram, in log10 of nats."""


@dataclass(frozen=True)
class UnitReport:
    """Which of the units of a code carry information.

    `active` units of `latents`, the `fraction` of them; `fraction_above` that fraction at each of
    `THRESHOLDS`. `counts` is the histogram of log10 KL between `log10_edges`; its first and last
    bin also hold what lies beyond them (a KL of 0 is in the first). `kl` has the mean KL of every
    unit, nats, largest first.
    """

    latents: int
    active: int
    fraction: float
    fraction_above: dict[str, float]
    log10_edges: list[float]
    counts: list[int]
    kl: list[float]


def active_units(kl: Tensor) -> UnitReport:
    """Count active units:

        KL_k = mean over data of KL(q(z_k | x) ‖ p(z_k)) > 0.01 nats

    Args:
        kl: mean KL of each unit (K,), nats: `itervae.distributions.unit_kl` averaged over data.

    Raises:
        InputError: no unit, or a KL that is not finite.
    """
    if kl.ndim != 1 or not len(kl) or not kl.isfinite().all():
        raise InputError(
            f"the KL of units has shape {tuple(kl.shape)} and {(~kl.isfinite()).sum()} values that are not finite; "
            "expected (K,) finite nats"
        )
    kl = kl.double().cpu().sort(descending=True).values
    edges = torch.linspace(LOWEST, HIGHEST, PER_DECADE * (HIGHEST - LOWEST) + 1, dtype=torch.float64)
    smallest = 10.0**LOWEST
    # a KL of 0, or below it by rounding, belongs to the first bin
    position = ((kl.clamp_min(smallest).log10() - LOWEST) * PER_DECADE).floor().long()
    counts = torch.bincount(position.clamp(0, len(edges) - 2), minlength=len(edges) - 1)
    return UnitReport(
        latents=len(kl),
        active=int((kl > ACTIVE).sum()),
        fraction=(kl > ACTIVE).double().mean().item(),
        fraction_above={f"{threshold:g}": (kl > threshold).double().mean().item() for threshold in THRESHOLDS},
        log10_edges=edges.tolist(),
        counts=counts.tolist(),
        kl=kl.clamp_min(0).tolist(),
    )
