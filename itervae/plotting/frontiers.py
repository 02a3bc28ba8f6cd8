"""Error against L1: the frontier of the best codes, and encoders above it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from itervae.errors import InputError
from itervae.plotting.canvas import DPI, INK
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def frontier_figure(
    frontier: Sequence[tuple[float, float, float]], dots: Mapping[str, tuple[float, float]]
) -> "Figure":
    """The frontier of error against L1, a line, and what lies on it or above as dots.

    Args:
        frontier: L1 norm, error, and the error that is proved to be the least at that norm, of
            points in any order; means over data.
        dots: name → L1 norm and error.

    Raises:
        InputError: a frontier of fewer than two points.
    """
    from itervae.plotting.shown import Figure

    points = np.array(sorted(frontier), dtype=float)
    if len(points) < 2:
        raise InputError(f"the frontier has {len(points)} points; expected at least two: pass more thresholds")
    figure = Figure(figsize=(6.0, 4.2), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    norm, error, proved = points.T
    axes.plot(norm, error, color=INK, linewidth=1.2, label="best codes of this mean L1")
    axes.fill_between(norm, 0, np.minimum(proved, error), color="#eeeeee", linewidth=0, label="proved: no code is here")
    for (name, (at, height)), colour in zip(dots.items(), COLOURS * len(dots), strict=False):
        axes.plot([at], [height], "o", color=colour, label=f"{name}: {height:.3g}")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.set_xlabel("weighted L1 norm of the code, mean over data", color=INK)
    axes.set_ylabel("error ½‖x − x̂‖², mean over data", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return figure
