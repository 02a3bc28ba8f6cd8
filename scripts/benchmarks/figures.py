"""The figures of the suites: ratios as points with their spread, and lines, in the style of
`itervae.plotting`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from itervae.plotting.canvas import DPI, INK, QUIET, WIDTH
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Spread = Mapping[str, float]


class Point(NamedTuple):
    """A ratio, in the row of its `label`, in the colour of its `series`; `hollow` tells two kinds
    apart."""

    label: str
    series: str
    value: Spread
    hollow: bool = False


class Line(NamedTuple):
    """Values (median, low, high) against x."""

    name: str
    x: Sequence[float]
    y: Sequence[Spread]


def ratios_figure(panels: Mapping[str, Sequence[Point]], axis: str, note: str = "", columns: int = 3) -> "Figure":
    """Ratios on a logarithmic axis: a row a label, the median a dot, the quartiles a bar, a line at
    1."""
    from matplotlib.lines import Line2D

    rows = -(-len(panels) // min(columns, len(panels)))
    longest = max(len({point.label for point in points}) for points in panels.values())
    figure, grid = _grid(len(panels), columns, rows * (0.7 + 0.26 * longest) + 0.7)
    names = list(dict.fromkeys(point.series for points in panels.values() for point in points))
    colours = dict(zip(names, COLOURS * len(names), strict=False))
    for axes, (title, points) in zip(grid, panels.items(), strict=False):
        labels = list(dict.fromkeys(point.label for point in points))
        axes.axvline(1, color=QUIET, linewidth=0.8, linestyle="--")
        for point in points:
            value, index = point.value, names.index(point.series)
            aside = 0.6 * ((index + 0.5) / len(names) - 0.5)  # no two series on one line
            reach = [[value["median"] - value["low"]], [value["high"] - value["median"]]]
            style = {"color": colours[point.series], "markersize": 4, "linewidth": 1.0}
            face = "white" if point.hollow else colours[point.series]
            axes.errorbar(
                value["median"],
                labels.index(point.label) + aside,
                xerr=[[max(0.0, side[0])] for side in reach],
                fmt="o",
                markerfacecolor=face,
                **style,
            )
        axes.set_xscale("log")
        _plain(axes.xaxis)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        _finish(axes, title, "x")
        axes.set_xlabel(axis, fontsize=8, color=INK)
    marks = [Line2D([], [], color=colours[name], marker="o", lw=0, ms=4, label=name) for name in names]
    if len(names) > 1:
        figure.legend(handles=marks, loc="outside lower center", ncols=min(4, len(names)), frameon=False, fontsize=8)
    if note:
        figure.suptitle(note, fontsize=7.5, color=QUIET)
    return figure


def lines_figure(panels: Mapping[str, Sequence[Line]], x: str, y: str, log: bool = True) -> "Figure":
    """Lines with bands of their quartiles. Both axes logarithmic, or neither, with a dashed line at
    y = x."""
    figure, grid = _grid(len(panels), 3, 3.4)
    names = list(dict.fromkeys(line.name for lines in panels.values() for line in lines))
    colours = dict(zip(names, COLOURS * len(names), strict=False))
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        for line in lines:
            colour = colours[line.name]
            low, median, high = ([value[key] for value in line.y] for key in ("low", "median", "high"))
            axes.fill_between(line.x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(line.x, median, color=colour, linewidth=1.4, marker="o", markersize=3.5, label=line.name)
        across = sorted({value for line in lines for value in line.x})
        if log:
            axes.set(xscale="log", yscale="log")
            _plain(axes.yaxis)
        else:
            axes.plot(across, across, color=QUIET, linewidth=0.8, linestyle="--")
            axes.set_ylim(bottom=0)
        axes.set_xticks(across, [f"{value:g}" for value in across], minor=False)
        axes.set_xticks([], minor=True)
        _finish(axes, title, "y")
        axes.set_xlabel(x, fontsize=8, color=INK)
        axes.set_ylabel(y, fontsize=8, color=INK)
        axes.legend(frameon=False, fontsize=7, labelcolor=INK)
    return figure


def exactly(value: float) -> Spread:
    """A figure without spread."""
    return {"median": value, "low": value, "high": value}


def _grid(count: int, columns: int, height: float) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure  # takes a second to import

    columns = min(columns, count)
    width = WIDTH / DPI * (1.0 if columns > 1 else 0.75)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    grid = list(figure.subplots(-(-count // columns), columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid


def _plain(axis: "Axis") -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, or at powers where there are
    many, as numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _finish(axes: "Axes", title: str, grid: str) -> None:
    axes.set_title(title, fontsize=8.5, color=INK)
    axes.tick_params(which="both", labelsize=7, colors=QUIET, labelcolor=INK, length=2.5, width=0.6)
    axes.grid(axis=grid, color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
