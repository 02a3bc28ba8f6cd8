"""What carryover buys on sequences: the free energy over frames, and against steps per frame."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import numbers
from itervae.plotting.canvas import DPI, INK, QUIET
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
"""Panels side by side."""
MOST = 48
"""Sequences drawn, at most: a taller picture could not be written."""
LONGEST = 34
"""Letters of a name that fit above a panel."""


def sequence_figure(report: Mapping[str, Any]) -> "Figure":
    """Above, the free energy of each frame at its best posterior, a panel for each sequence; below,
    that of filters with a few steps per frame, as a dotted line the optimum, and as a dashed one an
    engine of one pass.

    Args:
        report: as `itervae sequence --json` writes it: `sequences` → name → carryover →
            `free_energy` (T,), `optimum` and `at_steps`, nats per frame. Numbers that are not
            finite, or null, are left out.

    Raises:
        InputError: no sequence, or something else than numbers.
    """
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    from itervae.plotting.shown import Figure

    sequences = report["sequences"]
    if not sequences:
        raise InputError("there is no sequence to draw; pass the report of at least one")
    names = list(sequences)[:MOST]
    columns = min(COLUMNS, len(names))
    bands = -(-len(names) // columns)
    width = max(2.7 * columns + 0.6, 4.8)
    figure = Figure(figsize=(width, 4.4 * bands), dpi=DPI, layout="constrained")
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
        every: set[int] = set()
        for number, (carryover, found) in enumerate(sequences[name].items()):
            style = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.4}
            energy, (optimum, *values) = (
                numbers(np.array(value), f"the free energy of {carryover} on {name}")
                for value in (found["free_energy"], [found["optimum"], *found["at_steps"].values()])
            )
            if energy.ndim != 1 or not len(energy):
                raise InputError(
                    f"the free energy of {carryover} on {name} has shape {energy.shape}; expected (T,) with a frame at "
                    "least"
                )
            frames.plot(np.arange(1, len(energy) + 1), energy, label=carryover, **style)
            at = {int(count): value for count, value in zip(found["at_steps"], values, strict=True)}
            steps.axhline(optimum, color=style["color"], linewidth=1, linestyle=":")
            if 0 in at:
                steps.axhline(at.pop(0), linestyle="--", **style)
            steps.plot(list(at), list(at.values()), marker="o", markersize=3, **style)
            every |= at.keys()
        if len(every) > 1:
            steps.set_xscale("log")
            steps.xaxis.set_minor_locator(NullLocator())
        steps.xaxis.set_major_locator(FixedLocator(sorted(every)))
        steps.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        frames.set_title(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…", fontsize=9, color=INK)
        frames.xaxis.set_major_locator(MaxNLocator(integer=True))
        frames.set_xlabel("frame", fontsize=8)
        steps.set_xlabel("steps per frame", fontsize=8)
        if not column:
            frames.set_ylabel("free energy at\nthe optimum, nats", fontsize=8)
            steps.set_ylabel("free energy,\nnats per frame", fontsize=8)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    wide = max(1, min(6, int(width * 15 / (max(map(len, labels), default=0) + 7))))
    figure.set_figheight(4.4 * bands + 0.35 + 0.17 * -(-len(labels) // wide))
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=wide, frameon=False, fontsize=8)
    notes = ["prior of a frame", "dotted: every frame at its optimum"]
    if any("0" in found["at_steps"] for found in sequences[names[0]].values()):
        notes.append("dashed: one pass")
    if len(names) < len(sequences):
        notes.append(f"the first {len(names)} of {len(sequences)} sequences")
    legend.set_title("; ".join(notes))
    legend.get_title().set(fontsize=7.5, color=QUIET)
    return figure
