"""Data beside what the model makes of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import as_images, datum_shape, matrix, what_channels
from itervae.plotting.canvas import (
    INK,
    MARGIN,
    QUIET,
    WIDTH,
    add_pixels,
    blank,
    font_size,
    grey,
    header,
    header_height,
    mosaic,
)
from itervae.plotting.multiples import line_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 32
"""The most data that a figure shows."""
COLUMNS = 8
LABELS = 0.14
"""Share of the width for the names of the rows."""
NAMES = {"reconstruction": "reconstruction\nof the mean code", "sampled counts": "reconstruction of\nsampled counts"}


def reconstructions_figure(
    x: np.ndarray,
    reconstruction: np.ndarray,
    shape: Sequence[int],
    residual: bool = True,
    captions: Sequence[str] | None = None,
    *,
    sampled: np.ndarray | None = None,
    filled: np.ndarray | None = None,
    share: float = 1.0,
) -> "Figure":
    """Data, reconstruction and residual, one below the other, all of one datum on the datum's own
    scale.

    The largest absolute value of the datum sets the scale: signed data run from −m to m with zero
    mid-grey, data without a negative value from 0 to m. The residual, data minus reconstruction,
    always runs from −m to m. Data that are not images are drawn as lines. The first 32 data are
    shown. Values that are not finite are drawn in red.

    Args:
        x: (N, D) data.
        reconstruction: (N, D) decoded mean rate.
        shape: (H, W) of a datum, (3, H, W) in colour, (C, H, W), whose channels are drawn side by
            side, or (D,).
        residual: whether to show it.
        captions: N short texts, such as the free energy; where None, R² of each reconstruction per
            datum: 1 − ‖x − x̂‖²/‖x − m‖², m the mean of the datum's own values.
        sampled: (N, D) decoded sampled counts, if they are to be shown too.
        filled: (N, D) the data with what is missing filled in, likewise.
        share: of the values of an image that the scale is to hold, in place of all: of whole
            pictures a few values are far from the rest, and are drawn black or white.

    Raises:
        InputError: shapes that do not fit, or not one caption per datum.
    """
    x = matrix(x, "x", "(N, D)")
    shape = datum_shape(shape, x.shape[1], "x")
    rows = {"data": x, "reconstruction": _like(x, reconstruction, "reconstruction")}
    if sampled is not None:
        rows["sampled counts"] = _like(x, sampled, "sampled")
    if filled is not None:
        rows["filled in"] = _like(x, filled, "filled")
    if captions is None:
        captions = [_r_squared(*pair) for pair in zip(x, rows["reconstruction"], strict=True)]
    if len(captions) != len(x):
        raise InputError(f"captions has {len(captions)} texts for {len(x)} data; pass one for each, or None for R²")
    if residual:
        rows["residual"] = x - rows["reconstruction"]

    note = f"first {MOST} of {len(x)} data" if len(x) > MOST else ""
    rows = {name: values[:MOST] for name, values in rows.items()}
    captions = [str(caption) for caption in captions[:MOST]]
    if len(shape) == 1:
        return _lines(rows, captions, note)
    note = "; ".join(part for part in (note, what_channels(shape)) if part)
    drawn = {name: as_images(values, shape, name) for name, values in rows.items()}
    return _images({name: values for name, (values, _) in drawn.items()}, captions, drawn["data"][1], note, share)


def _images(
    rows: dict[str, np.ndarray], captions: list[str], shape: tuple[int, ...], note: str, share: float
) -> "Figure":
    x = rows["data"]
    signed = bool((x < 0).any())
    scale = _largest(x, rows["reconstruction"])[:, None]
    if share < 1:
        held = np.quantile(np.nan_to_num(np.abs(x)), share, axis=1)[:, None]
        scale = np.where(held > 0, held, scale)
    shown = [grey(v, scale, signed or name == "residual").reshape(-1, *shape) for name, v in rows.items()]
    note = "; ".join(part for part in (note, _explain(rows, signed, share, len(shape) == 3)) if part)

    count = min(COLUMNS, len(x))
    bands = [slice(start, start + count) for start in range(0, len(x), count)]
    zoom = max(1, min(160 // shape[1], round((1 - LABELS) * WIDTH / (COLUMNS * (shape[1] + 1) + 1))))
    across, down = (shape[1] + 1) * zoom, (shape[0] + 1) * zoom
    page = max(round((count * across + zoom + 2 * MARGIN) / (1 - LABELS)), 1000)
    labels = MARGIN + round(LABELS * page)
    line = round(52 * page / WIDTH)  # of captions
    band_height = len(rows) * down + zoom + line
    top = header_height(page, "")
    full = top + len(bands) * band_height + MARGIN
    figure = blank(page, full)
    header(figure, labels + zoom, "", note)
    for band in bands:
        images = np.concatenate([values[band] for values in shown])
        add_pixels(figure, mosaic(images, len(shown[0][band])), labels, top, zoom)
        for row, name in enumerate(rows):
            y = top + (row + 0.5) * down
            size = font_size(page, 8)
            figure.text(
                (labels - 10) / page,
                1 - y / full,
                NAMES.get(name, name),
                fontsize=size,
                color=INK,
                ha="right",
                va="center",
            )
        for column, caption in enumerate(captions[band]):
            at = labels + (column + 0.5) * across
            y = top + len(rows) * down + zoom + 6
            size = font_size(page, 7)
            figure.text(at / page, 1 - y / full, caption, fontsize=size, color=QUIET, ha="center", va="top")
        top += band_height
    return figure


def _explain(rows: dict[str, np.ndarray], signed: bool, share: float, colour: bool) -> str:
    largest = "the largest |value| of each datum" if share == 1 else f"which {share:.1%} of |values| are below"
    note = f"{'each colour' if colour else 'grey'}: {'−m' if signed else '0'} to m, {largest}"
    if "residual" in rows and not signed:
        note += ", residual −m to m"
    if not all(np.isfinite(values).all() for values in rows.values()):
        missing = np.isnan(rows["data"]).any() and all(np.isfinite(v).all() for n, v in rows.items() if n != "data")
        note += "; red: missing" if missing and "filled in" in rows else "; red: not finite"
    return note


def _lines(rows: dict[str, np.ndarray], captions: list[str], note: str) -> "Figure":
    colours = {"data": INK, "reconstruction": "#0072b2", "sampled counts": "#e69f00", "filled in": "#009e73"}
    colours["residual"] = "#b0b0b0"
    layers = {"residual": 0, "filled in": 1, "data": 2, "sampled counts": 3, "reconstruction": 4}
    lines = {name: (values, colours[name], layers[name]) for name, values in rows.items()}
    limits = []
    for index, largest in enumerate(_largest(rows["data"], rows["reconstruction"])):
        values = np.concatenate([values[index] for values in rows.values()])
        values = np.clip(values[np.isfinite(values)], -2 * largest, 2 * largest)  # what diverged leaves the panel
        low, high = (values.min(), values.max()) if values.size else (-1.0, 1.0)
        margin = 0.08 * (high - low) or 0.08 * largest
        limits.append((low - margin, high + margin))
    return line_panels(lines, captions, limits, "", note)


def _like(x: np.ndarray, value: np.ndarray, name: str) -> np.ndarray:
    array = matrix(value, name, "(N, D)")
    if array.shape != x.shape:
        raise InputError(f"{name} has shape {array.shape} and x {x.shape}; expected the same shape: one row per datum")
    return array


def _largest(x: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """The scale of each datum: its own, so that a diverged reconstruction does not hide it."""
    own = np.nan_to_num(np.abs(x)).max(1)
    other = np.nan_to_num(np.abs(reconstruction)).max(1)
    return np.where(own > 0, own, np.where(other > 0, other, 1.0))


def _r_squared(x: np.ndarray, reconstruction: np.ndarray) -> str:
    """R² of one datum as a caption: a dash where it is not defined."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        value = 1 - ((x - reconstruction) ** 2).sum() / ((x - x.mean()) ** 2).sum()
    if not np.isfinite(value):
        return "R² –"
    return "R² < −9" if value < -9 else f"R² {value + 1e-9:.2f}".replace("-", "−")  # no minus before 0.00
