"""What a sparser code costs in reconstruction: error against two measures of sparsity."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import numbers
from itervae.plotting.canvas import DPI, INK, QUIET, WIDTH
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import BboxBase

KINDS = {"mean": "decoded mean", "counts": "decoded counts"}
MARKERS = "os^Dv"
"""Shapes of the curves that share a family and a kind."""
PLACES = ((5, 4, "left", "bottom"), (5, -4, "left", "top"), (-5, -4, "right", "top"), (-5, 4, "right", "bottom"))
"""Where a setting may stand beside its point, in points, in the order tried."""
GAP = 7
"""Pixels kept free around a setting: the radius of a marker."""


@dataclass(frozen=True)
class Curve:
    """Points of one method over a setting that makes it sparser.

    Args:
        lifetime_sparsity: (P,), 0 for a dense code and 1 for a silent one.
        share_zero: share of coefficients that are 0 (P,); NaN where it has no meaning.
        error: squared error summed over pixels, mean over data (P,).
        error_se: its standard error (P,).
        setting: P short texts, such as "β 1".
        kind: "mean" where the mean is decoded, "counts" where sampled counts are.
        family: curves of one family share a colour.
    """

    lifetime_sparsity: np.ndarray
    share_zero: np.ndarray
    error: np.ndarray
    error_se: np.ndarray
    setting: list[str]
    kind: str
    family: str


def rate_distortion_figure(curves: Mapping[str, Curve], variance: float | None = None) -> "Figure":
    """Reconstruction error against lifetime sparsity and, where a curve has one, against the share
    of zeros.

    Bars are one standard error. Filled markers are errors of the decoded mean, hollow ones of
    sampled counts. The first, last and middle point of a curve carry its setting where there is
    room. A point that is not finite is left out and counted in the legend.

    Args:
        curves: name → curve.
        variance: of the data, summed over pixels; an axis of the pooled R² = 1 − error / variance
            on the right where given.

    Raises:
        InputError: no curve, lengths that do not fit, an unknown kind, or a variance that is not
            positive.
    """
    from matplotlib.lines import Line2D

    from itervae.plotting.shown import Figure

    if not curves:
        raise InputError("there is no curve to draw; pass at least one")
    if variance is not None and not (np.isfinite(variance) and variance > 0):
        raise InputError(f"variance is {variance}; expected a positive number, or None for no axis of R²")
    checked = {name: _checked(name, curve) for name, curve in curves.items()}
    zeros = any(np.isfinite(curve.share_zero).any() for curve in checked.values())

    figure = Figure(figsize=(WIDTH / DPI * (1 if zeros else 0.7), 4.6), dpi=DPI, layout="constrained")
    panels = list(figure.subplots(1, 1 + zeros, sharey=True, squeeze=False).flat)
    styles = _styles(checked)
    for name, curve in checked.items():
        for axes, at in zip(panels, (curve.lifetime_sparsity, curve.share_zero), strict=False):
            if np.isfinite(at).any():
                _draw(axes, name, curve, at, styles[name])
    ends = np.concatenate([curve.error + np.nan_to_num(curve.error_se) for curve in checked.values()])
    top = np.nanmax(ends, initial=0.0) or 1.0
    panels[0].set_ylim(-0.02 * top, 1.08 * top)  # with markers and bars whole
    panels[0].set_ylabel("squared error, summed over pixels\n(units of the data, squared)", color=INK, fontsize=9)
    for axes, label in zip(panels, ("lifetime sparsity", "share of zeros"), strict=False):
        axes.set_xlabel(label, color=INK)
        axes.margins(x=0.08)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#ececec", linewidth=0.6)
        axes.set_axisbelow(True)
    if variance is not None:
        explained = (lambda error: 1 - error / variance, lambda share: (1 - share) * variance)
        axis = panels[-1].secondary_yaxis("right", functions=explained)
        axis.set_ylabel("pooled R² = 1 − error / variance", color=INK)

    containers, names = panels[0].get_legend_handles_labels()
    handles: list[Any] = [container[0] for container in containers]  # lines with markers, without their error bars
    if len({curve.kind for curve in checked.values()}) > 1:
        for kind, text in KINDS.items():
            fill = QUIET if kind == "mean" else "white"
            handles.append(Line2D([], [], color=QUIET, markerfacecolor=fill, marker="o", markersize=5, lw=0))
            names.append(text)
    columns = next(c for c in (4, 3, 2, 1) if c == 1 or c * (max(map(len, names)) + 8) < (135 if zeros else 94))
    figure.set_figheight(4.1 + 0.17 * -(-len(names) // columns))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=8, labelcolor=INK)
    _name_settings(figure, panels[0], checked, {name: style["color"] for name, style in styles.items()})
    return figure


def _checked(name: str, curve: Curve) -> Curve:
    """The curve as float64 arrays of one length, NaN where not finite."""
    if curve.kind not in KINDS:
        raise InputError(f"kind of {name} is {curve.kind!r}; expected one of {', '.join(KINDS)}")
    count = len(curve.setting)
    columns = {}
    for label in ("lifetime_sparsity", "share_zero", "error", "error_se"):
        columns[label] = numbers(getattr(curve, label), f"{label} of {name}")
        if columns[label].shape != (count,) or not count:
            raise InputError(
                f"{label} of {name} has shape {columns[label].shape} and there are {count} settings; pass one of each "
                "for every point, and at least one point"
            )
    return Curve(**columns, setting=list(curve.setting), kind=curve.kind, family=curve.family)


def _styles(curves: Mapping[str, Curve]) -> dict[str, dict[str, Any]]:
    """Colour by family, filled or hollow by kind, shape by the place among those alike."""
    colours: dict[str, str] = {}
    seen: dict[tuple[str, str], int] = {}
    styles = {}
    for name, curve in curves.items():
        colour = colours.setdefault(curve.family, COLOURS[len(colours) % len(COLOURS)])
        place = seen.get((curve.family, curve.kind), 0)
        seen[curve.family, curve.kind] = place + 1
        styles[name] = {
            "color": colour,
            "markerfacecolor": colour if curve.kind == "mean" else "white",
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": "-" if curve.kind == "mean" else "--",
        }
    return styles


def _draw(axes: "Axes", name: str, curve: Curve, at: np.ndarray, style: dict[str, Any]) -> None:
    bad = int((~(np.isfinite(curve.error) & np.isfinite(curve.lifetime_sparsity))).sum())
    label = name + (f" ({bad} point{'s' * (bad > 1)} not finite)" if bad else "")
    axes.errorbar(
        at,
        curve.error,
        yerr=np.nan_to_num(np.abs(curve.error_se)),
        linewidth=1.3,
        elinewidth=1.0,
        markersize=4.5,
        label=label,
        **style,
    )


def _name_settings(figure: "Figure", axes: "Axes", curves: Mapping[str, Curve], colours: Mapping[str, str]) -> None:
    """Write settings beside the first, last and middle points, where they cover no line and no
    other text.

    A setting that stands beside one curve of a family already is not written beside another.
    """
    figure.draw_without_rendering()  # settles where everything is, which a text must know to avoid it
    points = [axes.transData.transform(_points(curve)) for curve in curves.values()]
    markers, lines = np.concatenate(points), np.concatenate([_fill(line) for line in points])
    boxes: list[BboxBase] = []
    written: set[tuple[str, str]] = set()
    for place in ("first", "last", "middle"):
        for name, curve in curves.items():
            good = np.flatnonzero(np.isfinite(curve.lifetime_sparsity) & np.isfinite(curve.error))
            if not len(good):
                continue
            index = int({"first": good[0], "last": good[-1], "middle": good[len(good) // 2]}[place])
            text = curve.setting[index]
            if not text or (curve.family, text) in written:
                continue
            at = (curve.lifetime_sparsity[index], curve.error[index])
            box = _write(axes, at, text, colours[name], markers, lines, boxes)
            if box is not None:
                boxes.append(box)
                written.add((curve.family, text))


def _write(
    axes: "Axes",
    at: tuple[float, float],
    text: str,
    colour: str,
    markers: np.ndarray,
    lines: np.ndarray,
    boxes: "list[BboxBase]",
) -> "BboxBase | None":
    """Write a text at the first of `PLACES` that is free and nearer to its own marker than to any
    other.

    Returns:
        its box; None, and no text, where there is no such place.
    """
    own = axes.transData.transform(at)
    for right, up, horizontal, vertical in PLACES:
        note = axes.annotate(
            text, at, (right, up), textcoords="offset points", ha=horizontal, va=vertical, fontsize=7, color=colour
        )
        note.set_in_layout(False)
        box = note.get_window_extent()
        low, high = np.array(box.p0), np.array(box.p1)
        covers = ((lines > low - GAP) & (lines < high + GAP)).all(1).any() or any(map(box.overlaps, boxes))
        within = bool((axes.bbox.p0 <= low).all() and (high <= axes.bbox.p1).all())
        others = markers[np.hypot(*(markers - own).T) > 1]
        nearest = _distance(others, low, high).min(initial=np.inf)
        if within and not covers and _distance(own, low, high) < nearest:
            return box
        note.remove()
    return None


def _distance(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How far points (..., 2) are from a box."""
    return np.linalg.norm(np.maximum(np.maximum(low - points, points - high), 0), axis=-1)


def _points(curve: Curve) -> np.ndarray:
    points = np.stack([curve.lifetime_sparsity, curve.error], 1)
    return points[np.isfinite(points).all(1)]


def _fill(line: np.ndarray) -> np.ndarray:
    """Points (in pixels) along a line close enough together that no text fits between them."""
    if len(line) < 2:
        return line
    pieces = [
        start + (end - start) * np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / 5))[:, None]
        for start, end in pairwise(line)
    ]
    return np.concatenate(pieces)
