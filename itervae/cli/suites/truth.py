"""The suite `truth`: dictionary and codes beside those that synthetic data were made of."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from itervae.cli.suites.base import TruthSuite
from itervae.evaluation.truth import compare_truth


class Comparison(TruthSuite):
    """Mean correlation coefficient of codes and of atoms; precision, recall and F1 of firings, for
    common and rare features; dead units."""

    def compare(self, atoms: Tensor, codes: Tensor, true_atoms: Tensor, true_codes: Tensor) -> dict[str, Any]:
        return asdict(compare_truth(atoms, codes, true_atoms, true_codes))

    def cells(self, found: dict[str, Any]) -> dict[str, str]:
        firings = found["firings"]
        return {
            "MCC codes": f"{found['mcc']:.3f}",
            "MCC atoms": f"{found['mcc_atoms']:.3f}",
            "F1": f"{firings['f1']:.3f}",
            "dead": f"{found['dead']}/{found['units']}",
            "F1 common | rare": f"{found['common']['f1']:.3f} | {found['rare']['f1']:.3f}",
            "precision": f"{firings['precision']:.3f}",
            "recall": f"{firings['recall']:.3f}",
            "found": f"{found['found']:.3f}",
        }


TRUTH = Comparison()
