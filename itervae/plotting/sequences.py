"""What carryover buys on sequences: the free energy over frames, and against steps per frame."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itervae.errors import InputError
from itervae.plotting.canvas import DPI, INK, QUIET
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
"""Panels side by side."""


def sequence_figure(report: Mapping[str, Any]) -> "Figure":
    """Above, the free energy of each frame at its best posterior, a panel for each sequence; below, that of filters
    with a few steps per frame, and as a dotted line the optimum.

    Args:
        report: as `itervae sequence --json` writes it: `sequences` → name → carryover → `free_energy` (T,), `optimum`
            and `at_steps`, nats per frame.

    Raises:
        InputError: no sequence.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

    sequences = report["sequences"]
    if not sequences:
        raise InputError("there is no sequence to draw; pass the report of at least one")
    names = list(sequences)
    columns = min(COLUMNS, len(names))
    bands = -(-len(names) // columns)
    figure = Figure(figsize=(2.7 * columns + 0.6, 4.4 * bands + 0.5), dpi=DPI, layout="constrained")
    grid = figure.subplots(2 * bands, columns, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for index, name in enumerate(names):
        band, column = divmod(index, columns)
        frames, steps = grid[2 * band, column], grid[2 * band + 1, column]
        for axes in (frames, steps):
            axes.set_axis_on()
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#ececec", linewidth=0.6)
            axes.tick_params(labelsize=7)
        for number, (carryover, found) in enumerate(sequences[name].items()):
            colour = COLOURS[number % len(COLOURS)]
            energy = found["free_energy"]
            frames.plot(range(1, len(energy) + 1), energy, color=colour, linewidth=1.4, label=carryover)
            at = {int(count): value for count, value in found["at_steps"].items()}
            steps.axhline(found["optimum"], color=colour, linewidth=1, linestyle=":")
            steps.plot(list(at), list(at.values()), color=colour, linewidth=1.4, marker="o", markersize=3)
            if max(at) > 1:
                steps.set_xscale("log")
                steps.xaxis.set_major_locator(FixedLocator(list(at)))
                steps.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
                steps.xaxis.set_minor_formatter(NullFormatter())
        frames.set_title(name, fontsize=9, color=INK)
        frames.xaxis.set_major_locator(MaxNLocator(integer=True))
        frames.set_xlabel("frame", fontsize=8)
        steps.set_xlabel("steps per frame", fontsize=8)
        if not column:
            frames.set_ylabel("free energy at the optimum, nats", fontsize=8)
            steps.set_ylabel("free energy, nats per frame", fontsize=8)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    legend.set_title("prior of a frame; dotted: every frame at its optimum")
    legend.get_title().set(fontsize=7.5, color=QUIET)
    return figure
