"""Pictures made of pixels: mosaics of images, placed so that each of their pixels covers whole
pixels of the file.

Sizes are in pixels of the file at `DPI`. Text grows with the width of a picture, so that every
picture reads alike when a page scales it to the same width.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from itervae.plotting.formats import DPI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 1600
"""The width aimed at: twice that of a README, for sharp text."""
MARGIN = 16
INK = "#222222"
QUIET = "#666666"
RED = "#d7191c"
"""The colour of values that are not finite."""
STEPS = (1, 2, 2.5, 5, 10)
"""Distances of ticks, times a power of ten."""


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Images side by side with borders of 1 pixel, row by row from the top left.

    Args:
        images: (N, H, W), or in colour (N, H, W, 3), values in [0, 1], or NaN.
        columns: images per row.

    Returns:
        (rows · (H + 1) + 1, columns · (W + 1) + 1), in colour with a last axis of 3; borders and
        the rest of an incomplete last row are 1 (white).
    """
    count, height, width, *colour = images.shape
    rows = -(-count // columns)
    down, across = rows * (height + 1), columns * (width + 1)
    cells = np.ones((rows * columns, height + 1, width + 1, *colour))
    cells[:count, 1:, 1:] = images
    joined = cells.reshape(rows, columns, height + 1, width + 1, *colour).swapaxes(1, 2)
    page = np.ones((down + 1, across + 1, *colour))
    page[:down, :across] = joined.reshape(down, across, *colour)
    return page


def wide_columns(count: int, shape: tuple[int, ...]) -> int:
    """Images per row, about 32 at most: a mosaic twice as wide as tall, with no incomplete row
    where one is near."""
    ideal = min(math.sqrt(2 * count * shape[0] / shape[1]), 32)

    def distance(columns: int) -> tuple[float, int]:
        return round(abs(math.log(columns / ideal)), 1), -columns  # of two as near, the wider

    near = [c for c in range(1, count + 1) if count % c == 0 and 0.6 < c / ideal < 1.7]
    return min(near, key=distance) if near else min(count, math.ceil(ideal))


def grey(values: np.ndarray, scale: np.ndarray | float, signed: bool) -> np.ndarray:
    """Values to [0, 1]: from −scale to scale with zero mid-grey where signed, else from 0 to scale;
    NaN stays."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        shown = values / scale
    return np.clip(0.5 + 0.5 * shown if signed else shown, 0.0, 1.0)


def picture(image: np.ndarray, title: str, note: str, largest_scale: int) -> "Figure":
    """A mosaic under a title and a line of explanation, at most `largest_scale` file pixels for
    each of its own."""
    scale = max(1, min(largest_scale, round(WIDTH / image.shape[1])))
    height, width = image.shape[0] * scale, image.shape[1] * scale
    page = max(width, 1000) + 2 * MARGIN
    top = header_height(page, title)
    figure = blank(page, top + height + MARGIN)
    header(figure, MARGIN + scale, title, note)
    add_pixels(figure, image, MARGIN, top, scale)
    return figure


def blank(width: int, height: int) -> "Figure":
    """An empty white figure of that many pixels."""
    from itervae.plotting.shown import Figure  # takes a second to import

    # a thousandth of a pixel more, since the number of pixels is rounded down
    return Figure(figsize=((width + 1e-3) / DPI, (height + 1e-3) / DPI), dpi=DPI, facecolor="white")


def font_size(page_width: int, points: float) -> float:
    """Points that look like `points` in a picture of `WIDTH` pixels once both are scaled to the
    same width."""
    return points * page_width / WIDTH


def header_height(page_width: int, title: str) -> int:
    """Pixels that `header` takes."""
    return round((98 if title else 54) * page_width / WIDTH)


def header(figure: "Figure", left: int, title: str, note: str) -> None:
    """A title, if any, and a line of explanation at the top of a figure."""
    width, height = (round(side * DPI) for side in figure.get_size_inches())
    line = 44 * width / WIDTH
    top = 16 * width / WIDTH
    if title:
        figure.text(left / width, 1 - top / height, title, fontsize=font_size(width, 10), color=INK, va="top")
        top += line
    figure.text(left / width, 1 - top / height, note, fontsize=font_size(width, 8), color=QUIET, va="top")


def add_pixels(figure: "Figure", image: np.ndarray, left: int, top: int, scale: int) -> "Axes":
    """Draw grey values in [0, 1], or colours of three such, NaN in red, `scale` pixels wide each,
    with no interpolation."""
    from matplotlib import colormaps, colors

    width, height = (round(side * DPI) for side in figure.get_size_inches())
    rows, columns = image.shape[0] * scale, image.shape[1] * scale
    axes = figure.add_axes((left / width, 1 - (top + rows) / height, columns / width, rows / height))
    colours = colormaps["gray"].with_extremes(bad=RED)
    if image.ndim == 3:
        image = np.where(np.isnan(image).any(-1, keepdims=True), colors.to_rgb(RED), image)
    axes.imshow(
        np.ma.masked_invalid(image),
        cmap=colours,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        aspect="auto",
    )
    axes.set_axis_off()
    return axes
