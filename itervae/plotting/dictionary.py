"""The dictionary: atoms as images, or as rows of a heat map where data are no images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import as_images, datum_shape, matrix, numbers, what_channels
from itervae.plotting.canvas import (
    INK,
    MARGIN,
    QUIET,
    RED,
    STEPS,
    WIDTH,
    blank,
    font_size,
    grey,
    header,
    header_height,
    mosaic,
    picture,
    wide_columns,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 1024
"""The most atoms that a figure shows."""


def tile_atoms(
    dictionary: np.ndarray,
    shape: Sequence[int],
    order: np.ndarray | Sequence[int] | None = None,
    columns: int | None = None,
) -> np.ndarray:
    """Atoms as one image, each scaled by its own largest absolute value, zero mid-grey.

    Args:
        dictionary: (D, K), one atom a column.
        shape: (H, W) of an atom, H·W = D; (3, H, W), which is in colour; or (C, H, W), whose
            channels are drawn side by side.
        order: the atoms to show, as indices, first to last; all as they stand where None.
        columns: atoms per row; about twice as wide as tall where None.

    Returns:
        (rows · (H + 1) + 1, columns · (W + 1) + 1) in [0, 1], in colour (…, 3). Borders and missing
        atoms of the last row are 1 (white), an atom of zeros is 0.5, and a value that is not finite
        is NaN.

    Raises:
        InputError: shapes that do not fit, indices that are no atoms, or fewer than one column.
    """
    atoms = matrix(dictionary, "the dictionary", "(D, K), one atom a column").T  # (K, D)
    atoms, shape = as_images(atoms, shape, "the dictionary")
    if len(shape) < 2:
        raise InputError(f"shape is {shape}; expected (H, W) to tile atoms as images: use dictionary_figure for others")
    if order is not None:
        atoms = atoms[_indices(order, len(atoms))]
    if columns is None:
        columns = wide_columns(len(atoms), shape)
    if columns < 1:
        raise InputError(f"columns is {columns}; expected a number ≥ 1, or None to let the picture choose")
    largest = np.nan_to_num(np.abs(atoms)).max(1, keepdims=True)
    largest[largest == 0] = 1.0
    return mosaic(grey(atoms, largest, signed=True).reshape(-1, *shape), columns)


def dictionary_figure(
    dictionary: np.ndarray, shape: Sequence[int], usage: np.ndarray | None = None, title: str = ""
) -> "Figure":
    """All atoms of a dictionary, or the first 1024 and a line that says so.

    Images are tiled by `tile_atoms`. Other data are drawn as a heat map, an atom a row, on one
    colour scale.

    Args:
        dictionary: (D, K), one atom a column; values that are not finite are drawn in red.
        shape: (H, W) of an atom, (3, H, W) in colour, (C, H, W), whose channels are drawn side by
            side, or (D,).
        usage: (K,) mean rate of each atom over the data; atoms are then sorted, most used first.
        title: a title, if any.

    Raises:
        InputError: shapes that do not fit.
    """
    dictionary = matrix(dictionary, "the dictionary", "(D, K), one atom a column")
    size, count = dictionary.shape
    shape = datum_shape(shape, size, "the dictionary")
    order = np.arange(count)
    if usage is not None:
        usage = numbers(usage, "usage")
        if usage.shape != (count,):
            raise InputError(f"usage has shape {usage.shape}; expected ({count},), the mean rate of each atom")
        order = np.argsort(-usage, kind="stable")  # NaN goes last
    order = order[:MOST]

    many = f"{count} atom{'s' * (count > 1)}" if len(order) == count else f"{len(order)} of {count} atoms"
    note = many + (", most used first (mean rate over the data)" if usage is not None else "")
    red = "" if np.isfinite(dictionary[:, order]).all() else "; red: not finite"
    if len(shape) > 1:
        channels, drawn = what_channels(shape), as_images(dictionary.T, shape, "the dictionary")[1]
        scale = "scale, grey is zero" if len(drawn) == 3 else "grey scale"
        note += f"{channels and ', ' + channels}; each on its own {scale}{red}"
        return picture(tile_atoms(dictionary, shape, order), title, note, max(1, 200 // drawn[1]))
    return _heat_map(dictionary[:, order].T, title, note + red, ranked=usage is not None)


def _heat_map(atoms: np.ndarray, title: str, note: str, ranked: bool) -> "Figure":
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    count, size = atoms.shape
    # whole pixels a cell, as far as there is room: no row is lost and all look alike
    down, across = max(1, min(100, 800 // count)), max(1, round(1300 / size))
    height, width = down * count, across * size
    left, right, bottom = 130, 200, 100
    page = max(WIDTH, left + width + right)
    top = header_height(page, title)
    figure = blank(page, top + height + bottom)
    header(figure, left, title, note)
    full = top + height + bottom

    largest = np.nan_to_num(np.abs(atoms)).max() or 1.0
    colours = colormaps["PuOr_r"].with_extremes(bad=RED)
    axes = figure.add_axes((left / page, bottom / full, width / page, height / full))
    image = axes.imshow(
        np.ma.masked_invalid(atoms),
        cmap=colours,
        vmin=-largest,
        vmax=largest,
        interpolation="nearest",
        aspect="auto",
        extent=(-0.5, size - 0.5, count - 0.5 + ranked, -0.5 + ranked),  # ranks count from 1,
    )
    axes.set_xlabel("dimension", fontsize=font_size(page, 8), color=INK)
    axes.set_ylabel("rank by mean rate" if ranked else "atom", fontsize=font_size(page, 8), color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=STEPS, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(max(1, min(8, height // 60)), steps=STEPS, integer=True, min_n_ticks=1))
    scale_height = min(height, 500)
    bar_axes = figure.add_axes(
        ((left + width + MARGIN) / page, 1 - (top + scale_height) / full, 24 / page, scale_height / full)
    )
    bar = figure.colorbar(image, cax=bar_axes)
    bar.locator = MaxNLocator(4, steps=STEPS, symmetric=True)
    bar.set_label("value", fontsize=font_size(page, 8), color=INK)
    for part in (axes, bar_axes):
        part.tick_params(labelsize=font_size(page, 7), colors=QUIET, labelcolor=INK, length=3, width=0.6)
        for spine in part.spines.values():
            spine.set_visible(False)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _indices(order: np.ndarray | Sequence[int], count: int) -> np.ndarray:
    found = np.asarray(order)
    whole = found.ndim == 1 and found.size > 0 and found.dtype.kind in "iu"
    if not whole or found.min() < 0 or found.max() >= count:
        raise InputError(
            f"order is {np.array2string(found, threshold=8)}; expected a list of atoms, integers from 0 to {count - 1}"
        )
    return found
