"""How good gradient estimators are: bias, variance and direction, against the rate and against the
temperature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from itervae.errors import InputError
from itervae.plotting.arrays import numbers
from itervae.plotting.canvas import DPI, INK, QUIET, WIDTH
from itervae.plotting.gaps import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURES = {"bias": "relative bias", "variance": "relative variance", "cosine": "cosine"}
STYLES = ("-", (0, (4, 1.5)), (0, (1, 1)))
"""Estimators of one family share a colour and differ in these."""
BOUND: dict[str, Any] = {"marker": "v", "markersize": 3.5, "markeredgewidth": 0, "linestyle": "none", "alpha": 0.4}


@dataclass(frozen=True)
class GradientErrors:
    """Errors of one estimator's gradients, by rate and by temperature.

    Args:
        bias: ‖E g − g*‖ / ‖g*‖ (R, T), or (R, 1) where no temperature applies; NaN where it was not
            told from 0.
        bias_bound: what the bias does not exceed where it is NaN (R, T); not looked at elsewhere.
        bias_se: standard error of the bias (R, T).
        variance: E‖g − E g‖² / ‖g*‖² (R, T).
        variance_se: its standard error (R, T).
        cosine: mean cosine of one gradient with g* (R, T).
        cosine_se: its standard error (R, T).
        family: estimators of one family share a colour.
    """

    bias: np.ndarray
    bias_bound: np.ndarray
    bias_se: np.ndarray
    variance: np.ndarray
    variance_se: np.ndarray
    cosine: np.ndarray
    cosine_se: np.ndarray
    family: str


def estimators_figure(
    errors: Mapping[str, GradientErrors],
    rates: Sequence[float],
    temperatures: Sequence[float],
    at_temperatures: Sequence[float],
    at_rates: Sequence[float],
) -> "Figure":
    """Small multiples: rows of bias, variance and cosine; a column per temperature, then one per
    rate.

    The columns on the left have the rate on their horizontal axis, those on the right the
    temperature, over which an estimator that has none is level, its bars on the left alone. Bars
    are two standard errors. A bias that was not told from 0 is a pale triangle at its bound. Other
    values that are not finite, or that have no place on a logarithmic axis, are left out.

    Args:
        errors: estimator → its errors.
        rates: (R,), spikes, increasing.
        temperatures: (T,), increasing.
        at_temperatures: those of the temperatures that get a column.
        at_rates: those of the rates that get a column.

    Raises:
        InputError: no estimator, shapes that do not fit, or a column for a rate or temperature that
            was not measured.
    """
    from itervae.plotting.shown import Figure

    if not errors:
        raise InputError("there is no estimator to draw; pass the errors of at least one")
    across_rates, across_temperatures = _increasing(rates, "rates"), _increasing(temperatures, "temperatures")
    drawn = {name: _checked(name, one, len(rates), len(temperatures)) for name, one in errors.items()}
    level = {name for name, one in errors.items() if np.shape(one.bias)[1] == 1 < len(temperatures)}
    columns = [("rate", at, _place(at, across_temperatures, "temperature")) for at in at_temperatures]
    columns += [("temperature", at, _place(at, across_rates, "rate")) for at in at_rates]
    if not columns:
        raise InputError("there is no column to draw; name at least one temperature or rate")

    figure = Figure(figsize=(WIDTH / DPI, 5.2), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(MEASURES), len(columns), sharey="row", sharex="col", squeeze=False)
    styles = _styles(drawn)
    for row, measure in zip(grid, MEASURES, strict=True):
        for axes, (over, _, index) in zip(row, columns, strict=True):
            at = across_rates if over == "rate" else across_temperatures
            for name, one in drawn.items():
                pick = (slice(None), index) if over == "rate" else (index, slice(None))
                _draw(axes, name, one, measure, pick, at, styles[name], over == "temperature" and name in level)
            _dress(axes, measure, at)
        row[0].set_ylabel(MEASURES[measure], color=INK, fontsize=8)
        _limit(row[0], drawn, measure)
    for index, (over, value, _) in enumerate(columns):
        symbol = "τ" if over == "rate" else "λ"
        grid[0, index].set_title(f"{symbol} = {value:.3g}", fontsize=8, color=INK)
        grid[-1, index].set_xlabel("rate λ (spikes)" if over == "rate" else "temperature τ", fontsize=8, color=INK)
    handles, names = grid[1, 0].get_legend_handles_labels()
    handles = [handle[0] for handle in handles]  # lines with markers, without their error bars
    if any(np.isnan(one.bias).any() for one in drawn.values()):
        (bound,) = grid[0, 0].plot([], [], color=QUIET, **BOUND)
        handles, names = [*handles, bound], [*names, "bias not told from 0: bound"]
    figure.legend(
        handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=7.5, labelcolor=INK, handlelength=3
    )
    return figure


def _increasing(values: Sequence[float], name: str) -> np.ndarray:
    array = numbers(np.asarray(values), name)
    if array.ndim != 1 or not len(array) or not (array > 0).all() or not (np.diff(array) > 0).all():
        raise InputError(f"{name} are {list(values)}; expected positive numbers in increasing order")
    return array


def _place(value: float, among: np.ndarray, name: str) -> int:
    near = np.flatnonzero(np.isclose(among, value, rtol=1e-6))
    if not len(near):
        raise InputError(f"{name} {value:g} was not measured; expected one of {', '.join(f'{a:g}' for a in among)}")
    return int(near[0])


def _checked(name: str, errors: GradientErrors, rates: int, temperatures: int) -> GradientErrors:
    """Float64 arrays (R, T), level over temperatures where none applies."""
    columns = {}
    for label in (field.name for field in fields(GradientErrors) if field.name != "family"):
        value = numbers(getattr(errors, label), f"{label} of {name}")
        if value.shape not in ((rates, temperatures), (rates, 1)):
            raise InputError(
                f"{label} of {name} has shape {value.shape}; expected ({rates}, {temperatures}), or ({rates}, 1) where "
                "no temperature applies"
            )
        columns[label] = np.broadcast_to(value, (rates, temperatures))
    return GradientErrors(**columns, family=errors.family)


def _styles(errors: Mapping[str, GradientErrors]) -> dict[str, dict[str, Any]]:
    """Colour by family, dashes by the place among those of the family."""
    colours: dict[str, str] = {}
    seen: dict[str, int] = {}
    styles = {}
    for name, one in errors.items():
        place = seen.get(one.family, 0)
        seen[one.family] = place + 1
        colour = colours.setdefault(one.family, COLOURS[len(colours) % len(COLOURS)])
        styles[name] = {"color": colour, "linestyle": STYLES[place % len(STYLES)]}
    return styles


def _draw(
    axes: "Axes",
    name: str,
    errors: GradientErrors,
    measure: str,
    pick: tuple[Any, Any],
    at: np.ndarray,
    style: dict[str, Any],
    level: bool,
) -> None:
    """One line; a level one has no markers and no bars, and its bound stands at the right end
    alone."""
    values, spread = getattr(errors, measure)[pick], 2 * getattr(errors, f"{measure}_se")[pick]
    if measure != "cosine":
        values = np.where(values > 0, values, np.nan)
        spread = np.minimum(spread, 0.9 * values)  # a bar down to 0 has no end on a logarithmic axis
    axes.errorbar(
        at,
        values,
        yerr=None if level else np.nan_to_num(spread),
        linewidth=1.1,
        elinewidth=0.7,
        marker="" if level else "o",
        markersize=2,
        label=name,
        **style,
    )
    if measure == "bias":
        unknown = np.flatnonzero(np.isnan(errors.bias[pick]))[-1 if level else None :]
        axes.plot(at[unknown], errors.bias_bound[pick][unknown], color=style["color"], **BOUND)


def _dress(axes: "Axes", measure: str, at: np.ndarray) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_xlim(at[0] / 1.25, at[-1] * 1.25)
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if measure != "cosine":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, colors=QUIET)


def _limit(axes: "Axes", errors: Mapping[str, GradientErrors], measure: str) -> None:
    """Limits by hand: bars do not count."""
    if measure == "cosine":
        lowest = min(np.nanmin(one.cosine, initial=0.0) for one in errors.values())
        axes.set_ylim(min(-0.02, 1.1 * lowest), 1.03)
        return
    values = np.concatenate([getattr(one, measure).ravel() for one in errors.values()])
    if measure == "bias":
        values = np.concatenate([values, *(one.bias_bound[np.isnan(one.bias)] for one in errors.values())])
    values = values[values > 0]
    if len(values):
        axes.set_ylim(values.min() / 1.5, 1.5 * values.max())
