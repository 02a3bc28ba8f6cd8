"""What codes are worth, run by run: their active units, and what is read out of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import numbers
from itervae.plotting.canvas import DPI, INK, QUIET, WIDTH
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE = QUIET
SPREAD = 0.7
"""Width over which the runs stand side by side at one read-out."""


Points = tuple[np.ndarray, np.ndarray, np.ndarray]


class Panel(Protocol):
    """A panel of the figure."""

    def draw(self, axes: "Axes", colours: Mapping[str, str]) -> None:
        """Draw all runs, each in its colour (by name)."""
        ...


@dataclass(frozen=True)
class Histogram:
    """Units by their KL, as outlines that may cross; active units are to the right of a line.

    Args:
        counts: run → units in each bin of log10 KL (bins,).
        edges: of the bins (bins + 1,).
        threshold: KL above which a unit is active, nats.
    """

    counts: Mapping[str, np.ndarray]
    edges: np.ndarray
    threshold: float = 0.01

    def draw(self, axes: "Axes", colours: Mapping[str, str]) -> None:
        edges = numbers(np.array(self.edges), "edges")
        low, high = np.inf, -np.inf
        for name, given in self.counts.items():
            counts = numbers(given, f"the counts of {name}")
            if counts.shape != (len(edges) - 1,) or not counts.sum() > 0:
                raise InputError(
                    f"the counts of {name} have shape {counts.shape} and sum {counts.sum():g}; expected "
                    f"({len(edges) - 1},), one for each bin, of at least one unit"
                )
            axes.stairs(counts / counts.sum(), edges, color=colours[name], linewidth=1.5, zorder=2.5)
            axes.stairs(counts / counts.sum(), edges, color=colours[name], fill=True, alpha=0.12, zorder=2)
            held = np.flatnonzero(counts)
            low, high = min(low, float(edges[held[0]])), max(high, float(edges[held[-1] + 1]))
        at = math.log10(self.threshold)
        axes.axvline(at, color=INK, linewidth=0.9, linestyle="--")
        axes.set_xlim(min(low, at - 1) - 0.25, max(high, at + 1) + 0.25)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
        within = axes.get_xaxis_transform()
        active = f" active, > {self.threshold:g} nats"
        axes.text(at, 0.99, active, transform=within, fontsize=7, color=INK, va="top")
        axes.set_xlabel("log10 of a unit's KL (nats)", fontsize=8.5, color=INK)
        _name(axes, "units by their KL", "share of units")


@dataclass(frozen=True)
class Lines:
    """A line a run over a logarithmic axis.

    Args:
        points: run → places (L,), values (L,), and their standard deviations (L,), NaN where there
            is none.
        title: of the panel.
        x_label, y_label: of its axes.
        reference: the same, of what the runs are compared with.
    """

    points: Mapping[str, Points]
    title: str
    x_label: str
    y_label: str
    reference: Points | None = None

    def draw(self, axes: "Axes", colours: Mapping[str, str]) -> None:
        from matplotlib.ticker import NullFormatter, NullLocator

        ticks: set[float] = set()

        def line(points: Points, **style: Any) -> None:
            x, y, sd = (numbers(part, self.title) for part in points)
            ticks.update(x)
            axes.errorbar(x, y, yerr=np.nan_to_num(sd), linewidth=1.3, elinewidth=0.9, capsize=2, markersize=4, **style)

        if self.reference is not None:
            line(self.reference, color=REFERENCE, linestyle="--", marker="s", markerfacecolor="white")
        for name, points in self.points.items():
            line(points, color=colours[name], marker="o")
        axes.set_xscale("log")
        shown: list[float] = []
        for tick in sorted(ticks, reverse=True):  # the largest keeps its place; those too close to read are left out
            if not shown or tick < shown[-1] / 1.4:
                shown.append(tick)
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(self.x_label, fontsize=8.5, color=INK)
        _name(axes, self.title, self.y_label)


@dataclass(frozen=True)
class Dots:
    """Dots over names, the runs side by side at each.

    Args:
        scores: run → name → value.
        title: of the panel.
        label: of its axis.
        reference: value of what the runs are compared with, a line.
    """

    scores: Mapping[str, Mapping[str, float]]
    title: str
    label: str
    reference: float | None = None

    def draw(self, axes: "Axes", colours: Mapping[str, str]) -> None:
        names = list(dict.fromkeys(name for scores in self.scores.values() for name in scores))
        runs = list(colours)
        step = SPREAD / max(len(runs), 1)
        for run, scores in self.scores.items():
            at = [names.index(name) + (runs.index(run) - (len(runs) - 1) / 2) * step for name in scores]
            axes.plot(at, list(scores.values()), "o", color=colours[run], markersize=5)
        if self.reference is not None:
            axes.axhline(self.reference, color=REFERENCE, linestyle="--", linewidth=1.1)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
        for boundary in range(len(names) - 1):
            axes.axvline(boundary + 0.5, color="#ececec", linewidth=0.6)
        axes.margins(y=0.15)
        _name(axes, self.title, self.label)


def evaluation_figure(runs: Sequence[str], panels: Sequence[Panel], reference: str | None = None) -> "Figure":
    """The panels side by side; a run has one colour in all of them.

    Args:
        runs: their names.
        panels: what to draw, one at least.
        reference: name of what the runs are compared with, drawn in grey.

    Raises:
        InputError: no run, no panel, or counts that do not fit their bins.
    """
    from itervae.plotting.shown import Figure

    if not runs or not panels:
        raise InputError(
            f"there are {len(runs)} runs with {len(panels)} measures to draw; expected at least one run with units, "
            "neighbours, shattering or a readout"
        )
    colours = dict(zip(runs, COLOURS * len(runs), strict=False))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(WIDTH / DPI * (0.62 if columns == 1 else 1), 2.9 * rows + 0.5), dpi=DPI, layout="constrained"
    )
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr]
    for axes, panel in zip(grid, panels, strict=False):
        panel.draw(axes, colours)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK)
        axes.grid(axis="y", color="#ececec", linewidth=0.6)
        axes.set_axisbelow(True)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _legend(figure, colours, reference, columns)
    return figure


def _name(axes: "Axes", title: str, label: str) -> None:
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_ylabel(label, fontsize=8.5, color=INK)


def _legend(figure: "Figure", colours: Mapping[str, str], reference: str | None, columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, marker="o", markersize=5, linewidth=1.5) for colour in colours.values()]
    if reference is not None:
        handles.append(Line2D([], [], color=REFERENCE, linestyle="--", linewidth=1.3))
    labels = [*colours, *([reference] if reference is not None else [])]
    room = 130 if columns == 2 else 75  # characters in a row
    across = next(count for count in (4, 3, 2, 1) if count == 1 or count * (max(map(len, labels)) + 8) < room)
    figure.set_figheight(figure.get_figheight() + 0.18 * -(-len(labels) // across))
    figure.legend(handles, labels, loc="outside lower center", ncols=across, frameon=False, fontsize=8, labelcolor=INK)
