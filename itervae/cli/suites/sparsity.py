"""The suite `sparsity`: how sparse codes are over data and over units."""

from typing import Any

from torch import Tensor

from itervae.cli.suites.base import CodeSuite
from itervae.evaluation.codes import Codes
from itervae.evaluation.summaries import sparsity


class Sparsity(CodeSuite):
    """Lifetime and population sparsity of mean and sample, zeros and activity."""

    def measure(self, codes: Codes, x: Tensor) -> dict[str, Any]:
        return sparsity(codes)

    def cells(self, found: dict[str, Any]) -> dict[str, str]:
        cells: dict[str, str] = {}
        for kind in ("mean", "sample"):
            if (part := found.get(kind)) is not None:
                cells[f"lifetime, {kind}"] = f"{part['lifetime']:.3f}"
                cells[f"population, {kind}"] = "" if part["population"] is None else f"{part['population']:.3f}"
        cells["zeros"] = f"{found['share_zero']:.3f}"
        cells["activity"] = f"{found['activity']:.2f}"
        return cells


SPARSITY = Sparsity()
