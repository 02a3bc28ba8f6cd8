"""Several dictionaries side by side: a tile of atoms for each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from itervae.errors import InputError
from itervae.plotting.canvas import DPI, INK, QUIET, WIDTH
from itervae.plotting.dictionary import tile_atoms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4


def dictionaries_figure(
    dictionaries: Mapping[str, np.ndarray], shape: Sequence[int], notes: Mapping[str, str] | None = None
) -> "Figure":
    """A square tile of atoms for each dictionary, each atom scaled by its own largest absolute
    value, zero mid-grey.

    Args:
        dictionaries: by title, the atoms (D, n) to show, in their order.
        shape: (H, W) of an atom, H·W = D, or (3, H, W), in colour.
        notes: by title, a short line below it.

    Raises:
        InputError: no dictionary, or atoms that do not fit the shape.
    """
    from itervae.plotting.shown import Figure  # takes a second to import

    if not dictionaries:
        raise InputError("there is no dictionary to draw; expected at least one")
    columns = min(COLUMNS, len(dictionaries))
    rows = -(-len(dictionaries) // columns)
    side = WIDTH / DPI / columns
    figure = Figure(
        figsize=(WIDTH / DPI, rows * (side + (0.45 if notes else 0.25))),
        dpi=DPI,
        facecolor="white",
        layout="constrained",
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, atoms) in zip(grid.flat, dictionaries.items(), strict=False):
        image = tile_atoms(atoms, shape, columns=max(1, round(atoms.shape[1] ** 0.5)))
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9, color=INK, loc="left", pad=12 if notes else 4)
        if notes and title in notes:
            axes.text(0, 1.015, notes[title], transform=axes.transAxes, fontsize=6.5, color=QUIET, va="bottom")
    return figure
