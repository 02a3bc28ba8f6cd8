"""The suite `knn`: what a few labels tell by nearest neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from itervae.cli.suites.base import LabelledSuite
from itervae.evaluation.neighbours import BUDGETS, fitting_budgets, nearest_neighbours
from itervae.plotting import Lines, Panel


class Neighbours(LabelledSuite):
    """The vote of the 5 nearest neighbours by number of labels; the figure shows the first read-out
    that a run has."""

    def note(self, num: int) -> str | None:
        unfit = [str(budget) for budget in BUDGETS if budget not in fitting_budgets(num)]
        if not unfit:
            return None
        return f"{num} data leave a pool of {num // 2} to draw labels from: {', '.join(unfit)} labels left out"

    def score(self, features: Tensor, labels: Tensor, seed: int) -> list[dict[str, Any]]:
        return [asdict(score) for score in nearest_neighbours(features, labels, seed)]

    def cells(self, found: list[dict[str, Any]]) -> dict[str, str]:
        return {f"{point['labels']} labels": f"{point['accuracy']:.3f}" for point in found}

    def panel(self, runs: Mapping[str, Any], readouts: Sequence[str], reference: Any) -> Panel | None:
        first = {name: next(readout for readout in readouts if readout in found) for name, found in runs.items()}
        shown = f", read-out {' or '.join(dict.fromkeys(first.values()))}" if first else ""
        return Lines(
            {name: _line(runs[name][readout]) for name, readout in first.items()},
            f"5 nearest neighbours{shown}",
            "number of labels",
            "accuracy (bars: s.d. over draws)",
            None if reference is None else _line(reference),
        )


def _line(points: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([point["labels"] for point in points]),
        np.array([point["accuracy"] for point in points]),
        np.array([np.nan if point["sd"] is None else point["sd"] for point in points]),
    )


NEIGHBOURS = Neighbours()
