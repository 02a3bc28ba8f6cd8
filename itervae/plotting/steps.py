"""How the amortization gap closes: against inference steps, and against time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import numbers
from itervae.plotting.canvas import DPI, INK, QUIET, WIDTH
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINEAR = 100
"""With more steps than this their axis is logarithmic beyond 1, or the first ones could not be told
apart."""
MOST_MARKED = 40
"""With more steps than this they have no markers."""
EMPTY = 100.0
"""The floor is left out of sight where every value is more than this many times above it."""


@dataclass(frozen=True)
class Trace:
    """The gap F − F* of one engine before its first step and after each, in nats; one entry for an
    engine of one pass.

    Args:
        steps: steps done (S + 1,).
        mean: mean gap over data (S + 1,).
        low: 10th percentile over data (S + 1,).
        high: 90th percentile over data (S + 1,).
        seconds: time taken so far (S + 1,), seconds per 1000 data, if it was measured.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seconds: np.ndarray | None = None


def gap_steps_figure(traces: Mapping[str, Trace], floor: float, certified: bool = True) -> "Figure":
    """The amortization gap against inference steps and, where an engine has times, against time.

    A line is the mean over data, the band around it the 10th to 90th percentile. An engine of one
    pass is a marker with that range as error bars, and a dotted line to compare the others with. A
    mean that is not finite is left out and counted in the legend; a 90th percentile that is not,
    with a finite 10th, reaches the top. A time of 0 has no place on a logarithmic axis and is left
    out.

    Args:
        traces: engine → its trace.
        floor: certificate of the optimum, nats: gaps are not known any finer, and smaller ones are
            drawn at it.
        certified: whether it is one; False where F* is an estimate, which the figure then says.

    Raises:
        InputError: no engine, lengths that do not fit, or a floor that is not positive.
    """
    from itervae.plotting.shown import Figure

    if not traces:
        raise InputError("there is no engine to draw; pass the trace of at least one")
    if not (np.isfinite(floor) and floor > 0):
        raise InputError(f"floor is {floor}; expected a positive number of nats: pass the largest certificate")
    drawn = {name: _clamped(name, trace, floor) for name, trace in traces.items()}
    timed = any(trace.seconds is not None for trace in drawn.values())
    most = max(int(trace.steps.max()) for trace in drawn.values())
    limits, seen = _limits(list(drawn.values()), floor)

    figure = Figure(figsize=(WIDTH / DPI * (1 if timed else 0.7), 4.2), dpi=DPI, layout="constrained")
    panels = list(figure.subplots(1, 1 + timed, sharey=True, squeeze=False).flat)
    for axes, time in zip(panels, (False, True), strict=False):
        axes.set(yscale="log", ylim=limits)
        axes.axhline(floor, color=QUIET, linewidth=0.8, linestyle="--")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#ececec", linewidth=0.6)
        axes.set_axisbelow(True)
        singles = 0
        for index, (name, trace) in enumerate(drawn.items()):
            colour = COLOURS[index % len(COLOURS)]
            style = "-" if index < len(COLOURS) else "--"
            if len(trace.steps) > 1:
                marker = "o" if most <= MOST_MARKED else ""
                _draw_line(axes, name, trace, time, limits[1], color=colour, linestyle=style, marker=marker)
            else:
                _draw_single(axes, name, trace, time, colour, singles, limits[1])
                singles += 1
    _label(panels, most, certified)
    if timed:  # limits by hand: a marker set aside does not count when axes find their own
        times = np.concatenate([trace.seconds for trace in drawn.values() if trace.seconds is not None])
        times = times[np.isfinite(times) & (times > 0)]
        if len(times):
            panels[1].set_xlim(times.min() / 1.4, 1.4 * times.max())
    if seen:
        at = (0.99, np.sqrt(floor * limits[0]))
        panels[0].text(
            *at,
            f"F* is known to {floor:.2g} nats".replace("e-0", "e-") if certified else "smaller gaps are drawn here",
            transform=panels[0].get_yaxis_transform(),
            fontsize=7,
            color=QUIET,
            ha="right",
            va="center",
        )
    handles, names = panels[0].get_legend_handles_labels()
    columns = next(c for c in (4, 3, 2, 1) if c == 1 or c * (max(map(len, names)) + 8) < (135 if timed else 94))
    figure.set_figheight(3.9 + 0.17 * -(-len(names) // columns))
    title = "mean over data; band or bar: 10th to 90th percentile"
    legend = figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    legend.set_title(title)
    legend.get_title().set(fontsize=7.5, color=QUIET)
    return figure


def _clamped(name: str, trace: Trace, floor: float) -> Trace:
    """The trace as checked float64 arrays, no gap below the floor, NaN where not finite."""
    steps = numbers(trace.steps, f"the steps of {name}")
    if steps.ndim != 1 or not len(steps):
        raise InputError(f"the steps of {name} have shape {steps.shape}; expected (S + 1,): pass 0 to S")
    columns = {}
    for label in ("mean", "low", "high", "seconds"):
        value = getattr(trace, label)
        columns[label] = None if value is None else numbers(value, f"{label} of {name}")
        if value is not None and columns[label].shape != steps.shape:
            raise InputError(
                f"{label} of {name} has shape {columns[label].shape} and its steps {steps.shape}; pass one per step"
            )
    gaps = {label: np.maximum(columns[label], floor) for label in ("mean", "low", "high")}
    return Trace(steps, **gaps, seconds=columns["seconds"])


def _limits(traces: list[Trace], floor: float) -> tuple[tuple[float, float], bool]:
    """Limits of the gap axis, and whether the floor is within them."""
    values = np.concatenate([v for trace in traces for v in (trace.mean, trace.low, trace.high)])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (floor, 1e3 * floor)
    seen = bool(low <= EMPTY * floor)
    high = max(2 * high, 10 * low)
    below = floor if seen else low
    return (float(below * (below / high) ** 0.07), float(high)), seen  # room below for the words


def _label(panels: "list[Axes]", most: int, certified: bool) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

    panels[0].set_ylabel(f"amortization gap F − F*{'' if certified else ' estimate'} (nats)", color=INK)
    panels[0].set_xlabel("inference steps", color=INK)
    panels[0].yaxis.set_major_locator(LogLocator(numticks=12))
    if most > MOST_LINEAR:
        panels[0].set_xscale("symlog", linthresh=1, linscale=0.5)
        panels[0].set_xlim(-0.25, 1.15 * most)
        panels[0].xaxis.set_major_formatter(ScalarFormatter())
    else:
        panels[0].set_xlim(-0.04 * max(most, 1), 1.02 * max(most, 1))
        panels[0].xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if len(panels) > 1:
        panels[1].set_xscale("log")
        panels[1].xaxis.set_minor_formatter(NullFormatter())
        panels[1].set_xlabel("time (s per 1000 data)", color=INK)


def _across(trace: Trace, time: bool) -> np.ndarray | None:
    """Where the points lie on the horizontal axis: NaN for those that have no place on it, None
    without times."""
    if not time:
        return trace.steps
    return None if trace.seconds is None else np.where(trace.seconds > 0, trace.seconds, np.nan)


def _draw_line(axes: "Axes", name: str, trace: Trace, time: bool, top: float, **style: Any) -> None:
    at = _across(trace, time)
    if at is None:
        return
    bad = int(np.isnan(trace.mean).sum())
    label = name + (f" ({bad} step{'s' * (bad > 1)} not finite)" if bad else "")
    high = np.where(np.isnan(trace.high), top, trace.high)  # larger than any other
    inside = np.isfinite(at)
    axes.fill_between(at[inside], trace.low[inside], high[inside], color=style["color"], alpha=0.13, linewidth=0.5)
    axes.plot(at, trace.mean, linewidth=1.4, markersize=2.5, label=label, **style)


def _draw_single(axes: "Axes", name: str, trace: Trace, time: bool, colour: str, before: int, top: float) -> None:
    """One pass: `before` such engines stand beside it, so each is moved a few points aside to be
    seen."""
    from matplotlib.transforms import ScaledTranslation

    label = name + (" (not finite)" if np.isnan(trace.mean[0]) else "")
    axes.axhline(trace.mean[0], color=colour, linewidth=0.8, linestyle=":")
    at = _across(trace, time)
    if at is None:
        return
    aside = ScaledTranslation(0 if time else 5 * before / 72, 0, axes.figure.dpi_scale_trans)
    style = {"color": colour, "transform": axes.transData + aside, "clip_on": False}
    high = np.where(np.isnan(trace.high), top, trace.high)
    axes.plot(
        np.repeat(at, 2),
        np.concatenate([trace.low, high]),
        linewidth=1.2,
        marker="_",
        markersize=5,
        **style,
    )
    axes.plot(at, trace.mean, linestyle="none", marker="D", markersize=4.5, label=label, **style)
