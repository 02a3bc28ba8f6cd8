"""The amortization gap of engines, over data."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import numbers
from itervae.plotting.canvas import DPI, INK, QUIET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b4f9d", "#e69f00", "#56b4e9", "#555555")
"""Colours that colour-blind readers can tell apart (Okabe & Ito 2008)."""


def gap_figure(
    gaps: Mapping[str, np.ndarray], floor: float, certified: bool = True, symbol: str = "F", unit: str = "nats"
) -> "Figure":
    """The distribution of each engine's gap over data: the share of data with at least some gap,
    both axes logarithmic. It ends at a dot, the datum with the largest.

    A tail that a mean would hide is a line that reaches far to the right. Infinite and undefined
    gaps count as larger than any other; the legend says how many there are.

    Args:
        gaps: engine → gap of each datum (N,), nats.
        floor: certificate of the optimum, nats: gaps are not known any finer and are drawn from
            there on.
        certified: whether F* is proved; an estimate is named as one on the axis.
        symbol, unit: of the energy, as the axis names it: F in nats; E of sparse coding, in squared
            units of the data.

    Raises:
        InputError: no engine, or an engine without data.
    """
    from itervae.plotting.shown import Figure

    if not gaps:
        raise InputError("there is no engine to draw; pass the gaps of at least one")
    figure = Figure(figsize=(7.0, 4.2), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for (name, values), colour in zip(gaps.items(), COLOURS * len(gaps), strict=False):
        gap = numbers(values, f"the gap of {name}")
        if gap.ndim != 1 or not len(gap):
            raise InputError(f"the gap of {name} has shape {gap.shape}; expected (N,) with at least one datum")
        ordered = np.sort(np.where(np.isnan(gap), np.inf, np.maximum(gap, floor)))
        share = 1 - np.arange(len(ordered)) / len(ordered)  # of data with at least this gap
        bad = int((~np.isfinite(ordered)).sum())
        below = int((ordered <= floor).sum())
        more = f"; all at most {floor:.0e}" * (below == len(gap)) + f"; {bad} not finite" * bool(bad)
        label = f"{name} (mean {np.nanmean(gap):.2g} {unit}".rstrip() + f"{more})"
        known = slice(below, len(ordered) - bad)  # what is not known any finer is no line
        at, height = ordered[known], share[known]
        axes.step([floor, *at], [*height[:1], *height] if len(at) else [np.nan], where="pre", color=colour, label=label)
        axes.plot(at[-1:], height[-1:], "o", color=colour, markersize=3)
    if unit == "nats":
        axes.axvline(1.0, color=QUIET, linewidth=0.6, linestyle=":")
        axes.text(1.0, 0.98, " 1 nat", color=QUIET, fontsize=7, va="top", transform=axes.get_xaxis_transform())
    axes.set(xscale="log", yscale="log", xlim=(floor, None), ylim=(None, 1.05))
    unit = unit or "squared units of the data"
    estimated = "" if certified else f", {symbol}* an estimate"
    axes.set_xlabel(f"amortization gap {symbol} − {symbol}* ({unit}){estimated}", color=INK)
    axes.set_ylabel("share of data with at least that gap", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure
