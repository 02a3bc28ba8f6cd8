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
    frontier: Sequence[tuple[float, float, float, float]], dots: Mapping[str, tuple[float, float]]
) -> "Figure":
    """The frontier of error against L1, a line, and what lies above it as dots.

    No codes are below a line through each point (L1, proved error) of slope −θ, as their energy
    would be less than the least: what lies below any of these lines is shaded.

    Args:
        frontier: of the best codes at some thresholds, in any order, the L1 norm, the error, the
            error proved to be the least at that norm, and the threshold θ; means over data.
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
    norm, error, proved, threshold = points.T
    grid = np.union1d(np.linspace(0, norm[-1], 400), norm)
    bound = (proved - threshold * (grid[:, None] - norm)).max(1).clip(0)
    axes.fill_between(grid, 0, bound, color="#e4e4e4", linewidth=0, label="no codes are here, which is proved")
    axes.plot(norm, error, "o-", color=INK, linewidth=1.0, markersize=2.5, label="best codes, one price for all data")
    for (name, (at, height)), colour in zip(dots.items(), COLOURS * len(dots), strict=False):
        axes.plot([at], [height], "o", color=colour, label=f"{name}: {height:.3g}")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.set_xlabel("weighted L1 norm of the code, mean over data", color=INK)
    axes.set_ylabel("error ½‖x − x̂‖², mean over data", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return figure
