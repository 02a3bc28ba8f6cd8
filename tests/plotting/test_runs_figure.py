"""The picture of several runs: lines hold their values, and a bad start does not flatten them."""

import numpy as np
import pytest

from itervae.errors import InputError
from itervae.plotting import runs_figure, save


def run(last, count=40, first=1e6):
    """Seconds, and a free energy that falls from `first` to `last`."""
    seconds = 10.0 * np.arange(1, count + 1)
    energy = last + 20 * np.exp(-seconds / 100)
    energy[0] = first
    return seconds, energy


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_lines_hold_the_values(tmp_path):
    runs = {"one": run(150.0), "two": run(140.0)}
    figure = runs_figure(runs)
    for line, (seconds, energy) in zip(figure.axes[0].get_lines(), runs.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), seconds)
        np.testing.assert_array_equal(line.get_ydata(), energy)
    assert figure.axes[0].get_xscale() == "linear"
    assert labels(figure) == ["one (last 150.4)", "two (last 140.4)"]
    save(figure, tmp_path / "runs.png")


def test_the_axis_shows_all_but_what_is_far_above():
    low, high = runs_figure({"one": run(150.0), "two": run(140.0)}).axes[0].get_ylim()
    assert 135 < low < 140.4
    assert 150 + 20 * np.exp(-0.2) < high < 180  # the second value of the first run, not its first
    figure = runs_figure({"one": run(150.0), "two": run(140.0), "lost": (np.array([5.0]), np.array([1e9]))})
    assert figure.axes[0].get_ylim()[1] < 180
    assert labels(figure)[2] == "lost (last 1e+09; above the axis)"


def test_values_that_are_not_finite_are_left_out_and_counted():
    figure = runs_figure({"one": (np.array([1.0, 2.0, 3.0]), np.array([5.0, np.nan, np.inf]))})
    (line,) = figure.axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [1])
    assert labels(figure) == ["one (last 5; 2 not finite)"]


def test_a_logarithmic_axis_of_time_leaves_out_its_zero():
    figure = runs_figure({"one": (np.array([0.0, 10.0]), np.array([5.0, 4.0]))}, log_time=True)
    (line,) = figure.axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [10])
    assert figure.axes[0].get_xscale() == "log"


def test_errors():
    with pytest.raises(InputError, match="no run to draw"):
        runs_figure({})
    with pytest.raises(InputError, match=r"seconds of shape \(2,\) and free energies \(3,\)"):
        runs_figure({"a": (np.zeros(2), np.zeros(3))})
    with pytest.raises(InputError, match="run a has no finite free energy"):
        runs_figure({"a": (np.ones(2), np.full(2, np.nan))})
