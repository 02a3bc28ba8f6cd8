"""Small multiples: one small panel of lines for each datum that is not an image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from itervae.plotting.canvas import DPI, INK, MARGIN, QUIET, RED, STEPS, WIDTH, header, header_height

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4


def line_panels(
    lines: dict[str, tuple[np.ndarray, str, int]],
    captions: Sequence[str],
    limits: Sequence[tuple[float, float]],
    title: str,
    note: str,
) -> "Figure":
    """A panel of lines over the dimensions of each datum.

    Args:
        lines: by name: values (N, D), their colour and which lie on top (larger numbers). NaN is a
            red tick below.
        captions: a short text over each of the N panels.
        limits: lowest and highest value of each panel.
        title: a title, if any.
        note: a line of explanation.
    """
    from matplotlib.ticker import MaxNLocator

    from itervae.plotting.shown import Figure  # takes a second to import

    count, size = next(iter(lines.values()))[0].shape
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    shared = len(set(limits)) == 1
    figure = Figure(figsize=(WIDTH / DPI, 1.15 * rows + 0.9), dpi=DPI, facecolor="white", layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=shared, squeeze=False)
    marker = "o" if size <= 16 else None  # a single value has no line
    at = np.arange(size)
    for index, panel in enumerate(grid.flat):
        if index >= count:
            panel.set_axis_off()
            continue
        for name, (values, colour, layer) in lines.items():
            panel.plot(at, values[index], color=colour, lw=0.9, marker=marker, ms=2, label=name, zorder=2 + layer)
            bad = at[np.isnan(values[index])]
            panel.plot(bad, np.zeros(len(bad)), "|", color=RED, ms=5, transform=panel.get_xaxis_transform())
        panel.set_ylim(*limits[index])
        panel.set_title(captions[index], fontsize=7, color=INK, loc="left", pad=2)
        panel.xaxis.set_major_locator(MaxNLocator(3, steps=STEPS, integer=True, min_n_ticks=1))
        panel.yaxis.set_major_locator(MaxNLocator(2, steps=STEPS))
        panel.tick_params(labelsize=6.5, colors=QUIET, length=2, width=0.6)
        panel.tick_params(labelbottom=index // columns == rows - 1)
        for side, spine in panel.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set(linewidth=0.6, color=QUIET)
    figure.supxlabel("dimension", fontsize=8, color=INK)
    figure.supylabel("value", fontsize=8, color=INK)
    if len(lines) > 1:
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, names, loc="outside upper left", ncols=len(names), frameon=False, fontsize=8, labelcolor=INK
        )
    if title or note:
        header(figure, MARGIN, title, note)
        taken = header_height(WIDTH, title) / DPI / figure.get_figheight()
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - taken))  # type: ignore[union-attr]
    return figure
