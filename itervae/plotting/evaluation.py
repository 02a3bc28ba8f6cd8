"""What codes are worth, run by run: their active units, and what is read out of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Evaluated:
    """What was measured of one run; what was not is None or empty.

    Args:
        counts: units in each bin of log10 KL (bins,).
        knn: numbers of labels (L,), accuracy (L,), and its standard deviation over draws (L,), NaN where there is none.
        knn_readout: which read-out `knn` is of.
        shattering: read-out → accuracy.
        readout: read-out → accuracy of all classes.
    """

    counts: np.ndarray | None = None
    knn: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    knn_readout: str = ""
    shattering: Mapping[str, float] = field(default_factory=dict)
    readout: Mapping[str, float] = field(default_factory=dict)


def evaluation_figure(
    runs: Mapping[str, Evaluated],
    edges: Sequence[float] = (),
    threshold: float = 0.01,
    reference: tuple[str, Evaluated] | None = None,
) -> "Figure":
    """A panel for each measure that some run has: units by KL, neighbours against labels, shattering, readout.

    A run has one colour in all panels.

    Args:
        runs: name → measures.
        edges: of the bins of log10 KL (bins + 1,).
        threshold: KL above which a unit is active, nats.
        reference: name and measures of what the codes are compared with, drawn in grey.

    Raises:
        InputError: no run, nothing measured, or counts that do not fit the bins.
    """
    from matplotlib.figure import Figure

    everything = [*runs.values(), *([reference[1]] if reference else [])]
    draw = {
        "counts": lambda axes: _units(axes, runs, numbers(np.array(edges), "edges"), threshold),
        "knn": lambda axes: _neighbours(axes, runs, reference),
        "shattering": lambda axes: _accuracies(axes, runs, reference, "shattering"),
        "readout": lambda axes: _accuracies(axes, runs, reference, "readout"),
    }
    panels = [name for name in draw if any(_has(measured, name) for measured in everything)]
    if not runs or not panels:
        raise InputError(
            f"there are {len(runs)} runs with {len(panels)} measures to draw; expected at least one run with units, "
            "neighbours, shattering or a readout"
        )
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(WIDTH / DPI * (0.62 if columns == 1 else 1), 2.9 * rows + 0.5), dpi=DPI, layout="constrained"
    )
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr]
    for axes, name in zip(grid, panels, strict=False):
        draw[name](axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK)
        axes.grid(axis="y", color="#ececec", linewidth=0.6)
        axes.set_axisbelow(True)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _legend(figure, [*runs], reference[0] if reference else None, columns)
    return figure


def _has(measured: Evaluated, name: str) -> bool:
    value = getattr(measured, name)
    return value is not None and len(value) > 0


def _units(axes: "Axes", runs: Mapping[str, Evaluated], edges: np.ndarray, threshold: float) -> None:
    """Share of units in each bin, as outlines that may cross; active units are to the right of a line."""
    low, high = np.inf, -np.inf
    for (name, measured), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
        if measured.counts is None:
            continue
        counts = numbers(measured.counts, f"the counts of {name}")
        if counts.shape != (len(edges) - 1,) or not counts.sum() > 0:
            raise InputError(
                f"the counts of {name} have shape {counts.shape} and sum {counts.sum():g}; expected "
                f"({len(edges) - 1},), one for each bin, of at least one unit"
            )
        axes.stairs(counts / counts.sum(), edges, color=colour, linewidth=1.5, zorder=2.5)
        axes.stairs(counts / counts.sum(), edges, color=colour, fill=True, alpha=0.12, zorder=2)
        held = np.flatnonzero(counts)
        low, high = min(low, float(edges[held[0]])), max(high, float(edges[held[-1] + 1]))
    at = math.log10(threshold)
    axes.axvline(at, color=INK, linewidth=0.9, linestyle="--")
    axes.set_xlim(min(low, at - 1) - 0.25, max(high, at + 1) + 0.25)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    axes.text(
        at,
        0.99,
        f" active, > {threshold:g} nats",
        transform=axes.get_xaxis_transform(),
        fontsize=7,
        color=INK,
        va="top",
    )
    axes.set_xlabel("log10 of a unit's KL (nats)", fontsize=8.5, color=INK)
    _name(axes, "units by their KL", "share of units")


def _name(axes: "Axes", title: str, label: str) -> None:
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_ylabel(label, fontsize=8.5, color=INK)


def _neighbours(axes: "Axes", runs: Mapping[str, Evaluated], reference: tuple[str, Evaluated] | None) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    ticks: set[float] = set()

    def line(measured: Evaluated, **style: Any) -> None:
        if measured.knn is None:
            return
        labels, accuracy, sd = (numbers(part, "neighbours") for part in measured.knn)
        ticks.update(labels)
        axes.errorbar(
            labels, accuracy, yerr=np.nan_to_num(sd), linewidth=1.3, elinewidth=0.9, capsize=2, markersize=4, **style
        )

    if reference is not None:
        line(reference[1], color=REFERENCE, linestyle="--", marker="s", markerfacecolor="white")
    for measured, colour in zip(runs.values(), COLOURS * len(runs), strict=False):
        line(measured, color=colour, marker="o")
    axes.set_xscale("log")
    shown: list[float] = []
    for tick in sorted(ticks, reverse=True):  # the largest keeps its place; numbers too close to read are left out
        if not shown or tick < shown[-1] / 1.4:
            shown.append(tick)
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    readouts = list(dict.fromkeys(measured.knn_readout for measured in runs.values() if measured.knn is not None))
    axes.set_xlabel("number of labels", fontsize=8.5, color=INK)
    of = f", read-out {' or '.join(readouts)}" if readouts else ""
    _name(axes, f"5 nearest neighbours{of}", "accuracy (bars: s.d. over draws)")


def _accuracies(
    axes: "Axes", runs: Mapping[str, Evaluated], reference: tuple[str, Evaluated] | None, which: str
) -> None:
    """Dots, the runs side by side at each read-out; the reference is a line."""
    names = list(dict.fromkeys(name for measured in runs.values() for name in getattr(measured, which)))
    step = SPREAD / max(len(runs), 1)
    for index, (measured, colour) in enumerate(zip(runs.values(), COLOURS * len(runs), strict=False)):
        scores = getattr(measured, which)
        at = [names.index(name) + (index - (len(runs) - 1) / 2) * step for name in scores]
        axes.plot(at, list(scores.values()), "o", color=colour, markersize=5)
    if reference is not None:
        for score in getattr(reference[1], which).values():
            axes.axhline(score, color=REFERENCE, linestyle="--", linewidth=1.1)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
    for boundary in range(len(names) - 1):
        axes.axvline(boundary + 0.5, color="#ececec", linewidth=0.6)
    axes.margins(y=0.15)
    title = (
        "shattering: all balanced splits of the classes" if which == "shattering" else "linear readout of all classes"
    )
    _name(axes, title, "accuracy")


def _legend(figure: "Figure", names: list[str], reference: str | None, columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker="o", markersize=5, linewidth=1.5)
        for _, colour in zip(names, COLOURS * len(names), strict=False)
    ]
    if reference is not None:
        handles.append(Line2D([], [], color=REFERENCE, linestyle="--", linewidth=1.3))
    labels = [*names, *([reference] if reference is not None else [])]
    room = 130 if columns == 2 else 75  # characters in a row
    across = next(count for count in (4, 3, 2, 1) if count == 1 or count * (max(map(len, labels)) + 8) < room)
    figure.set_figheight(figure.get_figheight() + 0.18 * -(-len(labels) // across))
    figure.legend(handles, labels, loc="outside lower center", ncols=across, frameon=False, fontsize=8, labelcolor=INK)
