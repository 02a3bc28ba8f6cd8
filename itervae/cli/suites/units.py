"""The suite `units`: how many units are active."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from itervae.cli.suites.base import CodeSuite
from itervae.evaluation.codes import Codes
from itervae.evaluation.units import ACTIVE, active_units
from itervae.plotting import Histogram, Panel


class Units(CodeSuite):
    """Units whose own KL is above a threshold; a sparse code has no KL."""

    of_points = False

    def measure(self, codes: Codes, x: Tensor) -> dict[str, Any] | None:
        return None if codes.unit_kl is None else asdict(active_units(codes.unit_kl))

    def cells(self, found: dict[str, Any]) -> dict[str, str]:
        return {"active": f"{found['active']}/{found['latents']}"}

    def panel(self, runs: Mapping[str, Any], readouts: Sequence[str], reference: Any) -> Panel | None:
        counts = {name: np.array(found["counts"]) for name, found in runs.items()}
        edges = next(iter(runs.values()))["log10_edges"]
        return Histogram(counts, np.array(edges), ACTIVE)


UNITS = Units()
