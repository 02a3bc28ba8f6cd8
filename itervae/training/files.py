"""The files of a run folder by their names, and which checkpoint a target names."""

import os
from pathlib import Path

from itervae.errors import InputError
from itervae.paths import check_path
from itervae.saes.folders import is_sae

LAST, BEST = "checkpoint_last.pt", "checkpoint_best.pt"
CONFIG = "config.yaml"
SUMMARY, FAILURE = "summary.json", "failure.json"
METRICS = "metrics.jsonl"
LOCK = ".lock"
OWN = (CONFIG, SUMMARY, FAILURE, METRICS, LOCK)
"""Files of a run that are no checkpoints and no pictures."""


def is_of_run(path: Path) -> bool:
    """Whether a file, there or not, would be one by which a run goes on or is looked at."""
    mine = path.name in OWN or path.suffix == ".pt" or path.name.startswith("events.out.")
    return mine and ((path.parent / CONFIG).is_file() or (path.parent / LAST).is_file())


def find_checkpoint(target: str | Path) -> Path:
    """The checkpoint that `target` names: itself, or the best (else the last) of a run folder."""
    target = check_path(target)
    if not os.path.isdir(target):
        return target
    return next((target / name for name in (BEST, LAST) if (target / name).is_file()), target / BEST)


def check_there(path: Path, others: str = "") -> None:
    """Refuse a checkpoint that is no file; `others` is what else could have been named."""
    if is_sae(path.parent):
        raise InputError(
            f"{path.parent} is the folder of a sparse autoencoder, and a run of itervae train is expected here; use "
            "it with itervae gap, itervae infer or `freeze`, or in Python itervae.load_sae"
        )
    if not os.path.isfile(path):
        begun = (path.parent / CONFIG).is_file() and path.name in (LAST, BEST)
        raise InputError(
            f"there is no checkpoint at {path}; expected a run folder of itervae train or a .pt file of one{others}"
            + (f": begin it again with itervae train --config {path.parent}/config.yaml --run-dir {path.parent}")
            * begun
        )
