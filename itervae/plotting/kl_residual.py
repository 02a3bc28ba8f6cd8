"""What a spike costs: the KL of Poisson rates as a function of their ratio alone."""

from typing import TYPE_CHECKING

import numpy as np

from itervae.plotting.canvas import DPI, INK, QUIET, WIDTH
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIGHEST = 4.0
"""Top of the vertical axis, nats."""


def kl_residual(ratio: np.ndarray) -> np.ndarray:
    """f(δ) = 1 − δ + δ log δ, nats: KL(Pois(λ) ‖ Pois(r)) = r·f(λ/r).

    Args:
        ratio: δ ≥ 0, any shape; f(0) = 1, the limit.
    """
    ratio = np.asarray(ratio, dtype=np.float64)
    return 1 - ratio + ratio * np.log(np.where(ratio > 0, ratio, 1.0))


def kl_residual_figure() -> "Figure":
    """f(δ) = 1 − δ + δ log δ with its quadratic approximations, against δ = λ/r and against log δ.

    The KL of Poisson rates is r·f(δ): the prior rate is in front, so the same relative change costs
    a unit more the more it is expected to fire. Near δ = 1 it is quadratic; silence costs r nats,
    and no more.
    """
    from itervae.plotting.shown import Figure

    figure = Figure(figsize=(WIDTH / DPI, 3.4), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.06})
    ratio = np.linspace(0, 4, 401)
    log_ratio = np.linspace(-4, 2, 401)
    exact = {"color": COLOURS[0], "linewidth": 1.8, "zorder": 3}
    rough = {"color": COLOURS[1], "linewidth": 1.4, "linestyle": "--"}
    left.plot(ratio, kl_residual(ratio), label="f(δ) = 1 − δ + δ log δ", **exact)
    left.plot(ratio, (ratio - 1) ** 2 / 2, label="½ (δ − 1)²", **rough)
    left.set_xlabel("δ = λ / r", color=INK)
    left.set_ylabel("f = KL / r (nats per spike of the prior)", color=INK)
    left.plot(0, 1, "o", color=COLOURS[0], markersize=5, clip_on=False, zorder=4)
    left.annotate("silence:\nr nats", (0, 1), (8, 3), textcoords="offset points", fontsize=8, color=QUIET)
    right.plot(log_ratio, kl_residual(np.exp(log_ratio)), label="f(δ)", **exact)
    right.plot(log_ratio, log_ratio**2 / 2, label="½ (log δ)²", **rough)
    right.set_xlabel("log δ = log λ − log r", color=INK)
    left.set(xlim=(0, 4), xticks=range(5), yticks=range(5))
    right.set_xlim(-4, 2)
    for axes, prior in ((left, 1.0), (right, 0.0)):
        axes.set_ylim(0, HIGHEST)
        axes.axvline(prior, color=QUIET, linewidth=0.6, linestyle=":")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper center")
    return figure
