"""The suite `reconstruction`: how well codes reconstruct, and at which free energy."""

from typing import Any

from torch import Tensor

from itervae.cli.suites.base import RECONSTRUCTION, CodeSuite
from itervae.evaluation.codes import Codes
from itervae.evaluation.summaries import reconstruction


class Reconstruction(CodeSuite):
    """R² and error of the decoded mean and of a decoded sample, KL, free energy, and the largest
    certificate."""

    table = RECONSTRUCTION

    def measure(self, codes: Codes, x: Tensor) -> dict[str, Any]:
        return reconstruction(codes, x)

    def cells(self, found: dict[str, Any]) -> dict[str, str]:
        parts = {kind: found[kind] for kind in ("mean", "sample") if kind in found}
        cells = {
            f"R² {kind}": f"{_share(part['r2_pooled'])} | {_share(part['r2_per_datum'])}"
            for kind, part in parts.items()
        }
        cells["free energy"] = f"{found['free_energy']:.2f} ± {found['free_energy_se']:.2g}"
        cells["KL"] = f"{found['kl']:.2f}"
        for kind, part in parts.items():
            cells[f"error {kind}"] = f"{part['error']:.2f} ± {part['error_se']:.2g}"
        if (certificate := found["certificate_max"]) is not None:
            cells["certificate"] = f"{certificate:.2g}"
        return cells


def _share(r2: float | None) -> str:
    return "–" if r2 is None else f"{r2:.3f}"


RECONSTRUCTION = Reconstruction()
