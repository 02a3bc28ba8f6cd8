"""Draws from a model's prior."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from itervae.plotting.arrays import as_images, matrix, what_channels
from itervae.plotting.canvas import INK, grey, mosaic, picture, wide_columns
from itervae.plotting.multiples import line_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LINES, MOST_IMAGES = 32, 144
"""The most samples that a figure shows."""


def samples_figure(samples: np.ndarray, shape: Sequence[int], title: str = "") -> "Figure":
    """Samples in a grid, all on one scale; lines where data are not images.

    The scale m is the 99.9th percentile of the absolute values: samples run from −m to m with zero
    mid-grey, or from 0 to m where none is negative; lines have limits of the same kind. The first
    144 images or 32 lines are shown. Values that are not finite are drawn in red.

    Args:
        samples: (N, D).
        shape: (H, W) of a sample, (3, H, W) in colour, (C, H, W), whose channels are drawn side by
            side, or (D,).
        title: a title, if any.

    Raises:
        InputError: shapes that do not fit.
    """
    samples = matrix(samples, "samples", "(N, D)")
    channels, (samples, shape) = what_channels(shape), as_images(samples, shape, "samples")
    total, samples = len(samples), samples[: MOST_LINES if len(shape) == 1 else MOST_IMAGES]
    finite = samples[np.isfinite(samples)]
    largest = float(np.quantile(np.abs(finite), 0.999)) if finite.size else 0.0
    largest = largest or 1.0
    signed = bool((finite < 0).any())

    note = f"{total} sample{'s' * (total > 1)}" if len(samples) == total else f"{len(samples)} of {total} samples"
    if len(shape) == 1:
        low, high = np.quantile(finite, (0.001, 0.999)) if finite.size else (-1.0, 1.0)
        margin = 0.08 * (high - low) or 0.08 * largest
        limits = [(float(low - margin), float(high + margin))] * len(samples)
        return line_panels({"sample": (samples, INK, 0)}, [""] * len(samples), limits, title, note)
    note += channels and "; " + channels
    note += (
        f"; one {'' if len(shape) == 3 else 'grey '}scale, {-largest if signed else 0:.3g} to {largest:.3g}".replace(
            "-", "−"
        )
    )
    if finite.size < samples.size:
        note += "; red: not finite"
    image = mosaic(grey(samples, largest, signed).reshape(-1, *shape), wide_columns(len(samples), shape))
    return picture(image, title, note, max(1, 200 // shape[1]))
