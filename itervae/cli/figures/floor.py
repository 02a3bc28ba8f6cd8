"""From where on gaps are drawn: smaller ones are not known."""

import math
from collections.abc import Mapping
from pathlib import Path

from itervae.cli.gap import ESTIMATE_FLOOR
from itervae.errors import InputError

LEAST_FLOOR = 1e-12
"""Nats that float64 resolves of a free energy of some hundreds; a smaller certificate says no
more."""


def floor(certificates: Mapping[Path, float | None]) -> tuple[float, bool]:
    """The largest certificate, nats, and whether all optima have one: None stands for an
    estimate."""
    for path, certificate in certificates.items():
        if certificate is not None and not math.isfinite(certificate):
            raise InputError(
                f"the largest certificate in {path} is not finite, so its optimum is not known; measure again on data "
                "and a dictionary that are finite"
            )
    certified = None not in certificates.values()
    known = [certificate for certificate in certificates.values() if certificate is not None]
    return max([*known, LEAST_FLOOR if certified else ESTIMATE_FLOOR]), certified
