"""The picture of gaps that close: lines are the traces, and nothing is finer than the
certificate."""

import numpy as np
import pytest

from itervae.errors import InputError
from itervae.plotting import Trace, gap_steps_figure, save

FLOOR = 1e-6


def trace(steps=4, seconds=True, scale=1.0):
    mean = scale * 10.0 ** -np.arange(steps + 1)
    times = 0.01 * np.arange(1, steps + 2)
    return Trace(np.arange(steps + 1), mean, 0.1 * mean, 3 * mean, times if seconds else None)


def lines(axes):
    """The lines of engines by their label."""
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_lines_and_bands_are_the_traces():
    given = {"lca": trace(), "ista": trace(3, scale=5.0)}
    figure = gap_steps_figure(given, FLOOR)
    left, right = figure.axes
    assert (left.get_yscale(), right.get_xscale(), left.get_xscale()) == ("log", "log", "linear")
    for name, expected in given.items():
        for axes, at in ((left, expected.steps), (right, expected.seconds)):
            line = lines(axes)[name]
            np.testing.assert_array_equal(line.get_xdata(), at)
            np.testing.assert_array_equal(line.get_ydata(), expected.mean)
    for band, expected in zip(left.collections, given.values(), strict=True):
        corners = band.get_paths()[0].vertices
        for edge in (expected.low, expected.high):
            for point in zip(expected.steps, edge, strict=True):
                assert np.isclose(corners, point, rtol=1e-12).all(1).any()


def test_values_below_the_certificate_lie_on_it_and_it_is_marked():
    mean = np.array([1.0, 1e-3, 1e-9, -1e-9, 0.0])
    figure = gap_steps_figure({"lca": Trace(np.arange(5), mean, mean, mean, None)}, FLOOR)
    (axes,) = figure.axes  # no panel of time without times
    np.testing.assert_array_equal(lines(axes)["lca"].get_ydata(), [1.0, 1e-3, FLOOR, FLOOR, FLOOR])
    assert any(list(line.get_ydata()) == [FLOOR, FLOOR] for line in axes.get_lines())
    assert axes.get_ylim()[0] < FLOOR
    assert [text.get_text() for text in axes.texts] == ["F* is known to 1e-6 nats"]


def test_an_estimated_optimum_is_not_called_known():
    low = np.array([1.0, 1e-9])
    axes = gap_steps_figure({"lca": Trace(np.arange(2), low, low, low)}, 1e-3, certified=False).axes[0]
    assert "estimate" in axes.get_ylabel()
    assert not any("known" in text.get_text() for text in axes.texts)
    assert "estimate" not in gap_steps_figure({"lca": trace()}, FLOOR).axes[0].get_ylabel()


def test_a_floor_far_below_leaves_no_empty_decades():
    axes = gap_steps_figure({"lca": trace(1)}, 1e-9).axes[0]
    assert axes.get_ylim()[0] > 1e-4
    assert not axes.texts


def test_an_engine_of_one_pass_is_a_marker_with_a_bar_and_a_line_across():
    once = Trace(np.array([0]), np.array([19.0]), np.array([2.0]), np.array([40.0]), np.array([0.004]))
    left, right = gap_steps_figure({"amortized": once, "lca": trace()}, FLOOR).axes
    for axes, at in ((left, 0), (right, 0.004)):
        marker = lines(axes)["amortized"]
        assert (list(marker.get_xdata()), list(marker.get_ydata())) == ([at], [19.0])
        assert marker.get_marker() == "D"
        drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]
        assert ([at, at], [2.0, 40.0]) in drawn
        assert ([0, 1], [19.0, 19.0]) in drawn  # from edge to edge


def test_an_engine_without_times_is_on_the_left_alone():
    untimed = Trace(np.array([0]), np.array([7.0]), np.array([2.0]), np.array([9.0]), None)
    left, right = gap_steps_figure({"a": trace(), "b": trace(seconds=False), "c": untimed}, FLOOR).axes
    assert set(lines(left)) == {"a", "b", "c"}
    assert set(lines(right)) == {"a"}
    assert any(list(line.get_ydata()) == [7.0, 7.0] for line in right.get_lines())  # to compare with all the same


def test_what_is_not_finite_is_left_out_and_counted():
    mean = np.array([5.0, np.inf, np.nan, 0.5])
    high = np.array([6.0, np.inf, 2.0, 1.0])
    figure = gap_steps_figure({"lca": Trace(np.arange(4), mean, 0.1 * np.ones(4), high, np.arange(4.0))}, FLOOR)
    left, right = figure.axes
    drawn = lines(left)["lca (2 steps not finite)"]
    np.testing.assert_array_equal(drawn.get_ydata(), [5.0, np.nan, np.nan, 0.5])
    band = left.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == left.get_ylim()[1]  # larger than any other
    drawn = lines(right)["lca (2 steps not finite)"]
    np.testing.assert_array_equal(drawn.get_xdata(), [np.nan, 1, 2, 3])  # 0 seconds have no logarithm


def test_an_engine_that_is_never_finite_is_drawn_without_points(tmp_path):
    nothing = np.full(3, np.nan)
    figure = gap_steps_figure({"lca": Trace(np.arange(3), nothing, nothing, nothing, nothing)}, FLOOR)
    save(figure, tmp_path / "nan.png")
    assert list(lines(figure.axes[0])) == ["lca (3 steps not finite)"]


def test_many_steps_get_a_logarithmic_axis():
    assert gap_steps_figure({"lca": trace(100)}, FLOOR).axes[0].get_xscale() == "linear"
    assert gap_steps_figure({"lca": trace(200)}, FLOOR).axes[0].get_xscale() == "symlog"


def test_it_is_written(tmp_path):
    save(gap_steps_figure({"lca": trace(), "fista": trace(6)}, FLOOR), tmp_path / "steps.png")
    assert (tmp_path / "steps.png").stat().st_size > 10_000


def test_errors():
    with pytest.raises(InputError, match="no engine to draw"):
        gap_steps_figure({}, FLOOR)
    for floor in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="expected a positive number of nats"):
            gap_steps_figure({"lca": trace()}, floor)
    short = Trace(np.arange(4), np.ones(4), np.ones(3), np.ones(4))
    with pytest.raises(InputError, match=r"low of lca has shape \(3,\) and its steps \(4,\)"):
        gap_steps_figure({"lca": short}, FLOOR)
    empty = np.zeros(0)
    with pytest.raises(InputError, match=r"steps of lca have shape \(0,\)"):
        gap_steps_figure({"lca": Trace(empty, empty, empty, empty)}, FLOOR)


def test_every_time_lies_within_the_panel():
    """A one-shot engine may be far quicker than the first step of the others."""
    traces = {
        "encoder": Trace(np.array([0]), *(np.array([v]) for v in (1.0, 0.5, 2.0)), seconds=np.array([1e-4])),
        "solver": Trace(
            np.arange(3), *(np.array([3.0, 1.0, 0.1]) for _ in range(3)), seconds=np.array([0.1, 0.2, 0.3])
        ),
    }
    left, right = gap_steps_figure(traces, 1e-6).axes[1].get_xlim()
    assert left < 1e-4
    assert right > 0.3
