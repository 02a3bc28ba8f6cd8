"""The suite `shattering`: whether any two groups of the classes can be told apart linearly."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from itervae.cli.suites.base import LabelledSuite
from itervae.evaluation.downstream import shattering
from itervae.plotting import Dots, Panel


class Shattering(LabelledSuite):
    """Mean accuracy over all balanced splits of the classes into two groups."""

    def score(self, features: Tensor, labels: Tensor, seed: int) -> dict[str, Any]:
        return asdict(shattering(features, labels))

    def cells(self, found: dict[str, Any]) -> dict[str, str]:
        return {"shattering": accuracy(found)}

    def panel(self, runs: Mapping[str, Any], readouts: Sequence[str], reference: Any) -> Panel | None:
        return accuracies(runs, "shattering: all balanced splits of the classes", reference)


def accuracy(found: Mapping[str, Any]) -> str:
    """The accuracy of classifiers; a star where some were stopped."""
    return f"{found['accuracy']:.3f}" + ("*" if found["not_converged"] else "")


def accuracies(runs: Mapping[str, Any], title: str, reference: Any) -> Panel:
    """The accuracy of each run at each read-out, and of the pixels."""
    scores = {name: {readout: s["accuracy"] for readout, s in found.items()} for name, found in runs.items()}
    return Dots(scores, title, "accuracy", None if reference is None else reference["accuracy"])


SHATTERING = Shattering()
