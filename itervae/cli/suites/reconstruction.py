"""The suite `reconstruction`: how well codes reconstruct, and at which free energy."""

from typing import Any

from torch import Tensor

from itervae.cli.suites.base import RECONSTRUCTION, CodeSuite
from itervae.evaluation.codes import Codes
from itervae.evaluation.summaries import reconstruction


class Reconstruction(CodeSuite):
    """Errors of the decoded mean and sample, KL, free energy, and the largest certificate."""

    table = RECONSTRUCTION

    def measure(self, codes: Codes, x: Tensor) -> dict[str, Any]:
        return reconstruction(codes, x)

    def cells(self, found: dict[str, Any]) -> dict[str, str]:
        cells: dict[str, str] = {}
        for kind in ("mean", "sample"):
            if (part := found.get(kind)) is not None:
                cells[f"R² {kind}"] = "" if part["r2"] is None else f"{part['r2']:.3f}"
                cells[f"error {kind}"] = f"{part['error']:.2f} ± {part['error_se']:.2g}"
        cells["KL"] = f"{found['kl']:.2f}"
        cells["free energy"] = f"{found['free_energy']:.2f} ± {found['free_energy_se']:.2g}"
        if (certificate := found["certificate_max"]) is not None:
            cells["certificate"] = f"{certificate:.2g}"
        return cells


RECONSTRUCTION = Reconstruction()
