"""The course of a training run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from itervae.errors import InputError
from itervae.plotting.canvas import DPI, INK, QUIET, RED, STEPS, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, PURPLE = ("#0072b2", "#9dcbe8"), ("#d55e00", "#f4c19f"), ("#7b4f9d", "#cdb8dd")
"""Colours of a quantity, told apart by colour-blind readers: validation, and single batches of
training behind it."""
SKIP = 0.05
"""Share of a run, from its start, that does not set the limits of a vertical axis."""
FAR = 1e6
"""Certificates above this, in nats, are cut off: they say nothing more."""

Records = Sequence[Mapping[str, Any]]
Series = tuple[np.ndarray, np.ndarray]  # updates and values


@dataclass(frozen=True)
class Line:
    """One quantity of a panel: what is drawn, and the updates of values that are not finite."""

    name: str
    colours: tuple[str, str]
    train: Series
    validation: Series
    bad: list[float]


@dataclass(frozen=True)
class Panel:
    """Quantities on one vertical axis: keys in the records (the first that a record has), name and
    colours of each."""

    label: str
    lines: tuple[tuple[tuple[str, ...], str, tuple[str, str]], ...]
    log: bool = False


NAMES = ("free energy", "KL", "spikes")


def _panels(names: tuple[str, str, str], unit: str) -> tuple[Panel, ...]:
    total, cost, activity = names
    each, bound = f"{unit} per datum".strip(), unit or "per datum"
    return (
        Panel(f"{total} ({each})", ((("free_energy",), total, BLUE),)),
        Panel(each, ((("reconstruction",), "reconstruction", BLUE), (("kl",), cost, ORANGE))),
        Panel(f"{activity} per datum", ((("spikes",), activity, BLUE),)),
        Panel(f"certificate of inference ({bound})", ((("residual", "certificate"), "residual", BLUE),), log=True),
    )


SCHEDULES = ((("lr",), "learning rate", BLUE), (("beta",), "β", ORANGE), (("temperature",), "temperature", PURPLE))


def training_figure(records: Records, names: tuple[str, str, str] = NAMES, unit: str = "nats") -> "Figure":
    """Free energy, its parts, spikes, the certificate of inference and schedules against
    parameter updates.

    Limits leave the first 5 % of the run and rare outliers out of account. A value that is missing
    is left out, and so is a panel without any. One that is not finite (null in the file) is a red
    tick at the bottom of its panel, except for the certificate, which not every engine has.

    Args:
        records: lines of `metrics.jsonl`: an `update` each and any of `free_energy`,
            `reconstruction`, `kl` (nats per datum), `spikes` (per datum), `residual` or
            `certificate` (nats), `lr`, `beta`, `temperature`. `split` is "train" where it is
            missing; of other splits only "validation" is drawn.
        names: what the objective, its second part (`kl`) and the activity (`spikes`) are called.
        unit: of the objective, its parts and the residual; empty for none.

    Raises:
        InputError: no record holds an update and a finite value of any of these.
    """
    from matplotlib.lines import Line2D

    from itervae.plotting.shown import Figure  # takes a second to import

    train = [record for record in records if record.get("split", "train") == "train"]
    validation = [record for record in records if record.get("split") == "validation"]
    panels = [(panel, lines) for panel in _panels(names, unit) if (lines := _lines(panel, train, validation))]
    schedules = [(name, colours, drawn) for keys, name, colours in SCHEDULES if len((drawn := _series(train, keys))[0])]
    count = len(panels) + bool(schedules)
    if not count:
        raise InputError(
            f"none of the {len(records)} records has an update and a finite value of free_energy or the like; pass "
            "lines of the metrics.jsonl of a run that has logged some"
        )
    columns = 2 if count in (2, 4) else min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH / DPI, 2.1 * rows + 0.3), dpi=DPI, facecolor="white", layout="constrained")
    grid = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for (panel, lines), axes in zip(panels, grid, strict=False):
        _draw(axes, panel, lines)
    if schedules:
        _draw_schedules(grid[count - 1], schedules)
    for axes in grid[:count]:
        _finish(axes)
    for axes in grid[count:]:
        axes.set_axis_off()

    everything = [line for _, lines in panels for line in lines]
    marks = []
    if any(len(line.train[0]) for line in everything):
        marks.append(Line2D([], [], color="#b0b0b0", lw=1.0, label="training batch"))
    if any(len(line.validation[0]) for line in everything):
        marks.append(Line2D([], [], color="#444444", lw=1.2, marker="o", ms=3, label="validation"))
    if any(line.bad for line in everything):
        marks.append(Line2D([], [], color=RED, lw=0, marker="|", ms=6, label="not finite"))
    if marks and count < len(grid):
        grid[count].legend(handles=marks, loc="center left", frameon=False, fontsize=8, labelcolor=INK)
    elif marks:
        figure.legend(
            handles=marks, loc="outside upper right", ncols=3, frameon=False, fontsize=8, labelcolor=INK, borderpad=0
        )
    return figure


def _lines(panel: Panel, train: Records, validation: Records) -> list[Line]:
    """What there is to draw in a panel; nothing where no value is finite."""
    lines = []
    for keys, name, colours in panel.lines:
        batches, held = _series(train, keys, panel.log), _series(validation, keys, panel.log)
        bad = [] if panel.log else _not_finite([*train, *validation], keys)
        if len(batches[0]) or len(held[0]):
            lines.append(Line(name, colours, batches, held, bad))
    return lines


def _draw(axes: "Axes", panel: Panel, lines: list[Line]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    for line in lines:
        (updates, values), (strong, light) = line.train, line.colours
        style: dict[str, Any] = {"color": light if len(line.validation[0]) else strong, "lw": 0.8, "ms": 3}
        if len(updates):
            axes.plot(updates, values, marker="o" if len(updates) == 1 else None, label=f"{line.name}, train", **style)
    for line in lines:  # over all training lines
        updates, values = line.validation
        style = {"color": line.colours[0], "lw": 1.2, "ms": 2.5}
        if len(updates):
            marker = "o" if len(updates) <= 60 else None
            axes.plot(updates, values, marker=marker, label=f"{line.name}, validation", **style)
    if len(lines) > 1:
        names = [Line2D([], [], color=line.colours[0], lw=1.5, label=line.name) for line in lines]
        axes.legend(handles=names, frameon=False, fontsize=7, labelcolor=INK, loc="best")
    axes.set_ylabel(panel.label)
    if panel.log:
        axes.set_yscale("log")
        if max(values.max() for line in lines for _, values in (line.train, line.validation) if len(values)) > FAR:
            axes.set_ylim(top=FAR)  # bounds of a posterior that is far off may be near the largest number there is
            axes.set_ylabel(f"{panel.label}, cut at {FAR:.0e}")
        return
    axes.set_ylim(*_limits([drawn for line in lines for drawn in (line.train, line.validation)]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    bad = [update for line in lines for update in line.bad]
    at_bottom: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    if bad:
        axes.plot(bad, np.zeros(len(bad)), "|", color=RED, ms=6, label="not finite", **at_bottom)


def _draw_schedules(axes: "Axes", schedules: list[tuple[str, tuple[str, str], Series]]) -> None:
    """Settings that change during the run, each relative to its own largest value."""
    for (name, (colour, _), (updates, values)), style in zip(schedules, ("-", "--", ":"), strict=False):
        largest = np.abs(values).max() or 1.0
        marker = "o" if len(values) == 1 else None
        label = f"{name}, largest {largest:.2g}"
        axes.plot(updates, values / largest, style, color=colour, lw=1.3, marker=marker, ms=3, label=label)
    axes.set_ylim(min(axes.get_ylim()[0], -0.03), 1.55)  # room for the legend
    axes.set_yticks((0, 0.5, 1))
    axes.set_ylabel("schedule / its largest value")
    axes.legend(frameon=False, fontsize=7, labelcolor=INK, loc="upper left")


def _finish(axes: "Axes") -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("updates")
    axes.xaxis.label.set(fontsize=8, color=INK)
    axes.yaxis.label.set(fontsize=8, color=INK)
    axes.yaxis.get_offset_text().set(fontsize=7, color=INK)
    axes.tick_params(which="both", labelsize=7, colors=QUIET, labelcolor=INK, length=2.5, width=0.6)
    axes.tick_params(labelbottom=True)  # all, so that rows are alike where the last is incomplete
    axes.grid(axis="y", color="#ececec", lw=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(linewidth=0.6, color=QUIET)


def _series(records: Records, keys: tuple[str, ...], log: bool = False) -> Series:
    """Updates and finite values (positive ones where log) of a quantity, in the order of the
    records."""
    found = [(u, v) for u, v in _numbers(records, keys) if math.isfinite(v) and (v > 0 or not log)]
    return np.array([update for update, _ in found]), np.array([value for _, value in found])


def _not_finite(records: Records, keys: tuple[str, ...]) -> list[float]:
    return [update for update, value in _numbers(records, keys) if not math.isfinite(value)]


def _numbers(records: Records, keys: tuple[str, ...]) -> list[tuple[float, float]]:
    """(update, value) of each record that has both; null, as a file has it for any value not
    finite, is NaN."""
    names = ((record, next((key for key in keys if key in record), None)) for record in records)
    pairs = [(record["update"], record[name]) for record, name in names if name is not None and "update" in record]
    return [
        (float(update), math.nan if value is None else float(value))
        for update, value in pairs
        if isinstance(update, Real) and math.isfinite(update) and (value is None or isinstance(value, Real))
    ]


def _limits(drawn: Sequence[Series]) -> tuple[float, float]:
    """Lowest and highest value of a vertical axis, from the later part of the run, rare outliers
    aside."""
    drawn = [(updates, values) for updates, values in drawn if len(updates)]
    last = max(updates.max() for updates, _ in drawn)
    lows, highs = [], []
    for updates, values in drawn:
        later = values[updates >= SKIP * last]
        later = later if len(later) else values[-1:]
        low, middle, high = np.quantile(later, (0.1, 0.5, 0.9), method="nearest")
        lows.append(max(later.min(), low - 4 * (middle - low)))
        highs.append(min(later.max(), high + 4 * (high - middle)))
    low, high = min(lows), max(highs)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return float(low - margin), float(high + margin)
