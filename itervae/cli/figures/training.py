"""The figure `training`: runs against the clock."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from itervae.cli.figures.base import FigureOf
from itervae.cli.figures.reports import complete, numbers
from itervae.errors import InputError
from itervae.plotting import runs_figure
from itervae.training.metrics import read_metrics

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(kw_only=True)
class Training(FigureOf):
    """Held-out free energy against seconds of training, from run folders of `itervae train`."""

    EXPECTED = "run folders of itervae train"

    log_time: bool = False
    """Logarithmic axis of seconds."""

    def draw(self) -> "matplotlib.figure.Figure":
        times = Counter(path.resolve().name for path in self.inputs)
        runs = {}
        for path in self.inputs:
            name = path.resolve().name
            runs[name if times[name] == 1 else str(path)] = _validations(path)
        return runs_figure(runs, self.log_time)


def _validations(run_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and free energy, nats, of each validation of a run."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"there is no metrics.jsonl in {run_dir}; name a run folder of itervae train")
    found = [record for record in read_metrics(path) if record["split"] == "validation"]
    if not found:
        raise InputError(f"{path} has no validation yet; wait for the first, or leave {run_dir} out")
    seconds, energy = (
        complete(path, lambda key=key: numbers([record[key] for record in found])) for key in ("seconds", "free_energy")
    )
    return seconds, energy
