"""The suite `readout`: the class, read out linearly."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from itervae.cli.suites.base import LabelledSuite
from itervae.cli.suites.shattering import accuracies, accuracy
from itervae.evaluation.downstream import linear_readout
from itervae.plotting import Panel


class LinearReadout(LabelledSuite):
    """Accuracy of one linear classifier of all classes."""

    def score(self, features: Tensor, labels: Tensor, seed: int) -> dict[str, Any]:
        return asdict(linear_readout(features, labels))

    def cells(self, found: dict[str, Any]) -> dict[str, str]:
        return {"readout": accuracy(found)}

    def panel(self, runs: Mapping[str, Any], readouts: Sequence[str], reference: Any) -> Panel | None:
        return accuracies(runs, "linear readout of all classes", reference)


READOUT = LinearReadout()
