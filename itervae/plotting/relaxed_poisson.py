"""What the temperature does to relaxed Poisson samples."""

from collections.abc import Mapping
from math import lgamma
from typing import TYPE_CHECKING

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import numbers
from itervae.plotting.canvas import DPI, INK, QUIET, WIDTH
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 5
"""Bins per count, an odd number: every integer is the middle of a bin, and half-integers are the
middles between."""
TAIL = 1e-4
"""Probability of the counts left out on either side."""


def poisson_pmf(counts: np.ndarray, rate: float) -> np.ndarray:
    """exp(k log λ − λ − log k!), the probability of each count k.

    Args:
        counts: whole numbers ≥ 0, any shape.
        rate: λ > 0, spikes.
    """
    counts = np.asarray(counts, dtype=np.float64)
    factorials = np.array([lgamma(count + 1) for count in counts.flat]).reshape(counts.shape)
    return np.exp(counts * np.log(rate) - rate - factorials)


def relaxed_poisson_figure(samples: Mapping[float, np.ndarray], rate: float) -> "Figure":
    """Histograms of relaxed samples, one panel per temperature, coldest on top, with the integer
    Poisson over each.

    Bars are shares of the draws in bins a fifth of a count wide, centred on the integers: on the
    same scale as the probabilities, which they reach as the temperature goes to 0. A draw that is
    not finite is counted in the caption.

    Args:
        samples: temperature → draws (N,), spikes.
        rate: λ > 0 of all of them, spikes.

    Raises:
        InputError: no temperature, no draws, or a rate that is not positive.
    """
    from itervae.plotting.shown import Figure

    if not samples:
        raise InputError("there is no temperature to draw; pass the samples of at least one")
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(f"rate is {rate}; expected a positive number of spikes")
    first, last = _counts(rate)
    counts = np.arange(first, last + 1)
    expected = poisson_pmf(counts, rate)
    edges = np.arange((last - first + 1) * BINS + 1) / BINS + first - 0.5

    figure = Figure(figsize=(0.75 * WIDTH / DPI, 1.05 * len(samples) + 0.8), dpi=DPI, layout="constrained")
    panels = list(figure.subplots(len(samples), 1, sharex=True, sharey=True, squeeze=False).flat)
    for axes, temperature in zip(panels, sorted(samples), strict=True):
        draws = numbers(samples[temperature], f"samples at temperature {temperature}")
        if draws.ndim != 1 or not len(draws):
            raise InputError(f"samples at temperature {temperature} have shape {draws.shape}; expected (N,), N ≥ 1")
        finite = draws[np.isfinite(draws)]
        share = np.histogram(finite, edges)[0] / len(draws)
        axes.stairs(share, edges, fill=True, color=COLOURS[6], alpha=0.9, label="relaxed samples")
        axes.vlines(counts, 0, expected, color=COLOURS[1], linewidth=0.9)
        axes.plot(counts, expected, "o", color=COLOURS[1], markersize=3, label="Poisson probability")
        axes.text(
            0.99,
            0.97,
            _caption(temperature, finite, len(draws)),
            transform=axes.transAxes,
            fontsize=8,
            color=INK,
            ha="right",
            va="top",
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    panels[0].set_ylim(0, None)
    panels[0].set_xlim(edges[0], edges[-1])
    panels[-1].set_xlabel("z (spikes)", color=INK)
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.supylabel(f"share of draws in bins of {1 / BINS:g} spikes", fontsize=10, color=INK)
    handles, names = panels[0].get_legend_handles_labels()
    title = f"rate λ = {rate:.4g} spikes"
    legend = figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=8, title=title)
    legend.get_title().set(fontsize=9, color=QUIET)
    return figure


def _counts(rate: float) -> tuple[int, int]:
    """First and last count shown: all but a tail of probability `TAIL` on either side."""
    most = int(rate + 10 * np.sqrt(rate) + 10)
    below = np.cumsum(poisson_pmf(np.arange(most + 1), rate))
    return int(np.searchsorted(below, TAIL)), int(np.searchsorted(below, 1 - TAIL))


def _caption(temperature: float, finite: np.ndarray, total: int) -> str:
    parts = [f"τ = {temperature:g}"]
    if len(finite):
        parts.append(f"mean {finite.mean():.2f}, variance {finite.var():.2f}")
    if len(finite) < total:
        parts.append(f"{total - len(finite)} of {total} not finite")
    return "\n".join(parts)
