"""The course of several training runs against the clock."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import numbers
from itervae.plotting.canvas import DPI, INK, QUIET
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FENCE = 1.5
"""Values this many interquartile ranges above the upper quartile do not set the limit of the axis
(Tukey 1977)."""


def runs_figure(runs: Mapping[str, tuple[np.ndarray, np.ndarray]], log_time: bool = False) -> "Figure":
    """Held-out free energy against wall-clock seconds, one line a run.

    The vertical axis goes from the least value to Tukey's fence above the upper quartile of all
    values, or the largest below it, so that a start far above does not flatten the rest. The legend
    gives each run's last value, says where all of a run lies above the axis, and how many of its
    values are not finite; those are left out.

    Args:
        runs: run → seconds since its start (N,) and free energy there (N,), nats per datum.
        log_time: a logarithmic axis of seconds, without the points at 0.

    Raises:
        InputError: no run, shapes do not fit, or a run without a finite value.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    from itervae.plotting.shown import Figure

    if not runs:
        raise InputError("there is no run to draw; pass at least one")
    drawn, bad = {}, {}
    for name, (seconds, energy) in runs.items():
        seconds, energy = numbers(seconds, f"the seconds of {name}"), numbers(energy, f"the free energy of {name}")
        if seconds.ndim != 1 or energy.shape != seconds.shape:
            raise InputError(
                f"{name} has seconds of shape {seconds.shape} and free energies {energy.shape}; expected (N,) each"
            )
        shown = np.isfinite(energy) & (seconds > 0 if log_time else np.isfinite(seconds))
        if not shown.any():
            raise InputError(f"run {name} has no finite free energy at a known time; leave it out")
        drawn[name], bad[name] = (seconds[shown], energy[shown]), int(np.isnan(energy).sum())

    low, high = _limits(np.concatenate([energy for _, energy in drawn.values()]))
    figure = Figure(figsize=(7.0, 4.2), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for index, (name, (seconds, energy)) in enumerate(drawn.items()):
        notes = [f"last {energy[-1]:.4g}"]
        if energy.min() > high:
            notes.append("above the axis")
        if bad[name]:
            notes.append(f"{bad[name]} not finite")
        marker = "o" if len(seconds) <= 60 else None
        axes.plot(
            seconds,
            energy,
            color=COLOURS[index % len(COLOURS)],
            linestyle=("-", "--", ":")[index // len(COLOURS) % 3],
            linewidth=1.4,
            marker=marker,
            markersize=2.5,
            label=f"{name} ({'; '.join(notes)})",
        )
    axes.set_ylim(low, high)
    if log_time:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("seconds of training", color=INK)
    axes.set_ylabel("held-out free energy (nats per datum)", color=INK)
    axes.tick_params(which="both", colors=QUIET, labelcolor=INK)
    axes.grid(axis="y", color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value of the vertical axis."""
    lower, upper = np.quantile(values, (0.25, 0.75))
    low, high = values.min(), values[values <= upper + FENCE * (upper - lower)].max()
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return float(low - margin), float(high + margin)
