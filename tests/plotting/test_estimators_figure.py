"""The picture of gradient estimators: lines are the errors given, and a bias that is not known is a
bound."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from itervae.errors import InputError
from itervae.plotting import GradientErrors, estimators_figure, save

RATES, TEMPERATURES = (0.1, 1.0, 10.0), (0.05, 0.2, 0.5, 1.0)


def errors(family="eat", columns=4, seed=0):
    draw = np.random.default_rng(seed)
    shape = (len(RATES), columns)
    bias, variance = draw.uniform(0.05, 0.5, shape), draw.uniform(1, 50, shape)
    cosine = draw.uniform(0.1, 0.9, shape)
    return GradientErrors(bias, 2 * bias, 0.1 * bias, variance, 0.1 * variance, cosine, np.full(shape, 0.02), family)


def drawn(axes):
    """The line with markers of each estimator by its label, and its bars."""
    containers, names = axes.get_legend_handles_labels()
    return {name: container for name, container in zip(names, containers, strict=True) if len(container) == 3}


def panels(figure, columns):
    return np.array(figure.axes).reshape(3, columns)


def test_lines_and_bars_are_the_errors_given():
    given = {"a": errors(), "b": errors("score", seed=1)}
    grid = panels(estimators_figure(given, RATES, TEMPERATURES, (0.2, 1.0), (10.0,)), 3)
    places = [(RATES, (slice(None), 1)), (RATES, (slice(None), 3)), (TEMPERATURES, (2, slice(None)))]
    for row, measure in zip(grid, ("bias", "variance", "cosine"), strict=True):
        for axes, (at, pick) in zip(row, places, strict=True):
            for name, one in given.items():
                line, _, (bars,) = drawn(axes)[name]
                np.testing.assert_array_equal(line.get_xdata(), at)
                np.testing.assert_array_equal(line.get_ydata(), getattr(one, measure)[pick])
                ends = np.array([segment[:, 1] for segment in bars.get_segments()])
                expected = 4 * getattr(one, f"{measure}_se")[pick]
                np.testing.assert_allclose(ends[:, 1] - ends[:, 0], expected)
    assert [axes.get_title() for axes in grid[0]] == ["τ = 0.2", "τ = 1", "λ = 10"]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["relative bias", "relative variance", "cosine"]
    assert {axes.get_xscale() for axes in grid.flat} == {"log"}
    assert [row[0].get_yscale() for row in grid] == ["log", "log", "linear"]


def test_an_estimator_without_temperature_is_level_over_it():
    one = errors("score", columns=1)
    one.bias[1, 0] = np.nan
    figure = estimators_figure({"a": errors(), "score": one}, RATES, TEMPERATURES, (0.2,), (1.0,))
    for row, measure in zip(panels(figure, 2), ("bias", "variance", "cosine"), strict=True):
        left, right = (drawn(axes)["score"] for axes in row)
        values = getattr(one, measure)[:, 0]
        np.testing.assert_array_equal(left[0].get_ydata(), values)
        np.testing.assert_array_equal(right[0].get_ydata(), np.full(4, values[1]))
        assert right[0].get_marker() == ""
        assert not right[2]  # bars
    bounds = triangles(panels(figure, 2)[0, 1])
    assert [(x.tolist(), y.tolist()) for x, y in bounds] == [([1.0], [one.bias_bound[1, 0]])]


def triangles(axes):
    """Places of the bounds drawn, per estimator that has any."""
    found = [line.get_data() for line in axes.get_lines() if line.get_marker() == "v"]
    return [(np.asarray(x), np.asarray(y)) for x, y in found if len(x)]


def test_a_bias_that_is_not_known_is_a_bound():
    one = errors()
    one.bias[0, 1] = one.bias_se[0, 1] = np.nan
    figure = estimators_figure({"a": one}, RATES, TEMPERATURES, (0.05, 0.2), (0.1,))
    grid = panels(figure, 3)
    assert not triangles(grid[0, 0])
    for axes, at in ((grid[0, 1], 0.1), (grid[0, 2], 0.2)):
        ((x, y),) = triangles(axes)
        assert (x.tolist(), y.tolist()) == ([at], [one.bias_bound[0, 1]])
        assert np.isnan(drawn(axes)["a"][0].get_ydata()).sum() == 1
    assert not any(triangles(axes) for axes in grid[1:].flat)
    assert any("bound" in text.get_text() for text in figure.legends[0].get_texts())
    whole = estimators_figure({"a": errors()}, RATES, TEMPERATURES, (0.05,), ())
    assert not any("bound" in text.get_text() for text in whole.legends[0].get_texts())


def test_everything_lies_within_the_limits():
    low, high = errors(), errors(seed=1)
    high.bias[:] *= 100
    high.bias[0, 0], high.bias_bound[0, 0] = np.nan, 1e-4
    low.cosine[1, 1] = -0.4
    grid = panels(estimators_figure({"a": low, "b": high}, RATES, TEMPERATURES, (0.05, 0.2), ()), 2)
    bottom, top = grid[0, 0].get_ylim()
    assert 1e-5 < bottom < 1e-4
    assert np.nanmax(high.bias) < top
    assert grid[2, 0].get_ylim()[0] < -0.4
    assert all(len({axes.get_ylim() for axes in row}) == 1 for row in grid)


def test_family_is_colour_and_dashes_tell_apart():
    given = {"a": errors(), "b": errors(), "c": errors("score")}
    figure = estimators_figure(given, RATES, TEMPERATURES, (0.2,), ())
    lines = {name: container[0] for name, container in drawn(figure.axes[0]).items()}
    assert to_hex(lines["a"].get_color()) == to_hex(lines["b"].get_color()) != to_hex(lines["c"].get_color())
    assert lines["a"].get_linestyle() == lines["c"].get_linestyle() != lines["b"].get_linestyle()


def test_values_without_a_place_are_left_out():
    one = errors()
    one.variance[0, 0], one.cosine[1, 0] = 0.0, np.inf
    grid = panels(estimators_figure({"a": one}, RATES, TEMPERATURES, (0.05,), ()), 1)
    assert np.isnan(drawn(grid[1, 0])["a"][0].get_ydata()).tolist() == [True, False, False]
    assert np.isnan(drawn(grid[2, 0])["a"][0].get_ydata()).tolist() == [False, True, False]


def test_it_is_written(tmp_path):
    given = {"a": errors(), "score": errors("score", columns=1)}
    save(estimators_figure(given, RATES, TEMPERATURES, (0.05, 1.0), (0.1, 10.0)), tmp_path / "estimators.png")
    assert (tmp_path / "estimators.png").stat().st_size > 20_000


def test_errors():
    given = {"a": errors()}
    with pytest.raises(InputError, match="no estimator to draw"):
        estimators_figure({}, RATES, TEMPERATURES, (0.2,), ())
    with pytest.raises(InputError, match="no column to draw"):
        estimators_figure(given, RATES, TEMPERATURES, (), ())
    with pytest.raises(InputError, match=r"temperature 0\.3 was not measured; expected one of 0\.05, 0\.2, 0\.5, 1"):
        estimators_figure(given, RATES, TEMPERATURES, (0.3,), ())
    with pytest.raises(InputError, match="rate 7 was not measured"):
        estimators_figure(given, RATES, TEMPERATURES, (), (7.0,))
    with pytest.raises(InputError, match=r"rates are .*increasing order"):
        estimators_figure(given, RATES[::-1], TEMPERATURES, (0.2,), ())
    with pytest.raises(InputError, match=r"cosine of a has shape \(2, 4\); expected \(3, 4\), or \(3, 1\)"):
        estimators_figure({"a": replace(errors(), cosine=np.ones((2, 4)))}, RATES, TEMPERATURES, (0.2,), ())
