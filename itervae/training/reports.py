"""What a run says of itself when it ends, well or not: `summary.json`, `failure.json`.

`summary.json` is written last of all, so a run that has one that says "finished" has everything
else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itervae.data import Source
from itervae.errors import InputError
from itervae.files import write_json
from itervae.inference import Engine
from itervae.model import Prior
from itervae.showing import Shown
from itervae.training.files import FAILURE, LAST, SUMMARY
from itervae.training.settings import RunSettings


@dataclass(frozen=True, repr=False)
class Summary(Shown):
    """What a finished or interrupted run came to; also `summary.json`."""

    run_dir: Path
    updates: int
    seconds: float
    finished: bool
    validation: dict[str, float]
    prior: type[Prior]
    """Class of the model's prior, which has the words and the unit of the numbers."""
    signal: int = 0
    """Number of the signal that asked the run to stop; 0 for none."""


def has_finished(run_dir: Path) -> bool:
    """Whether a run has ended and has left all that it leaves: a summary that cannot be read is
    none."""
    try:
        summary = json.loads((run_dir / SUMMARY).read_bytes())
        pictures = summary.get("pictures", [])  # not named by earlier versions
        return summary["finished"] is True and all((run_dir / name).is_file() for name in pictures)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return False


def diverged(run_dir: Path, update: int, x: Tensor, what: str) -> InputError:
    """Write what the offending batch was like; the error to raise. The last good checkpoint stays
    as it is."""
    low, high = x.min().item(), x.max().item()
    batch = {"size": len(x), "mean": x.mean().item(), "std": x.std().item(), "min": low, "max": high}
    write_json(run_dir / FAILURE, {"update": update, "what": what, "batch": batch})
    again = f"go on from {run_dir / LAST}" if (run_dir / LAST).is_file() else "begin again"
    return InputError(
        f"training diverged at update {update}: {what} (batch values {low:.3g} to {high:.3g}, see "
        f"{run_dir / FAILURE}); {again} with a smaller `lr`"
    )


def write_summary(
    summary: Summary,
    settings: RunSettings,
    source: Source,
    engine: Engine,
    processes: int = 1,
    pictures: Sequence[str] = (),
) -> None:
    """Write `summary.json`; `pictures` names the files of those that were drawn."""
    content: dict[str, Any] = {
        "updates": summary.updates,
        "seconds": round(summary.seconds, 1),
        "finished": summary.finished,
        "validation": summary.validation,
        "pictures": list(pictures),
        "data": source.describe(),
        "inference": settings.engine_name,
        "engine_parameters": sum(p.numel() for p in engine.parameters()),
        "device": str(source.validation.device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    write_json(summary.run_dir / SUMMARY, content)
