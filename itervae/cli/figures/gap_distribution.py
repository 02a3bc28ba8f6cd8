"""The figure `gap-distribution`: gaps over the data."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from itervae.cli.figures.base import FigureOf
from itervae.cli.figures.floor import floor
from itervae.cli.figures.reports import complete, merged
from itervae.errors import InputError
from itervae.plotting import gap_figure

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(kw_only=True)
class GapDistribution(FigureOf):
    """The share of data above a gap, from `itervae gap --save`."""

    EXPECTED = "an .npz file of itervae gap --save"

    def draw(self) -> "matplotlib.figure.Figure":
        found, certificates = {}, {}
        for path in self.inputs:
            arrays = _arrays(path)
            found[path], certificates[path] = complete(path, lambda arrays=arrays: _gaps(arrays))
        return gap_figure(merged(found), *floor(certificates))


def _gaps(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float | None]:
    """The gap of every engine, (N,) nats, and the largest certificate; None for an estimate."""
    optimum = arrays["free_energy_optimal"]
    named = {key.removeprefix("free_energy "): value for key, value in arrays.items() if key.startswith("free_energy ")}
    largest = float(np.max(arrays["certificate"])) if "certificate" in arrays else None
    return {name: value - optimum for name, value in named.items()}, largest


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `itervae gap --save`."""
    if not path.is_file():
        raise InputError(f"there is no file at {path}; write it with itervae gap --save")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        how = "" if "pickle" in str(error) else f" ({error})"  # NumPy takes anything unknown for a pickle
        raise InputError(f"{path} cannot be read as .npz{how}; write it again with itervae gap --save") from error
    optimum = arrays.get("free_energy_optimal")
    if optimum is None or optimum.ndim != 1 or not optimum.size:
        raise InputError(f"{path} has no array free_energy_optimal (N,); expected what itervae gap --save writes")
    return arrays
