"""The picture of error against sparsity: points are those given, styles say what they are."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from itervae.errors import InputError
from itervae.plotting import Curve, rate_distortion_figure, save

P = 5


def curve(kind="mean", family="LCA", scale=1.0, zeros=True):
    sparsity = np.linspace(0.3, 0.8, P)
    return Curve(
        lifetime_sparsity=sparsity,
        share_zero=sparsity**2 if zeros else np.full(P, np.nan),
        error=scale * np.linspace(10.0, 100.0, P),
        error_se=np.linspace(1.0, 2.0, P),
        setting=[f"β {index}" for index in range(P)],
        kind=kind,
        family=family,
    )


def drawn(axes):
    """The line with markers of each curve by its label."""
    containers, names = axes.get_legend_handles_labels()
    return {name: container for name, container in zip(names, containers, strict=True)}


def test_points_and_bars_are_those_given():
    given = {"a": curve(), "b": curve("counts", scale=2.0)}
    left, right = rate_distortion_figure(given).axes
    for name, expected in given.items():
        for axes, at in ((left, expected.lifetime_sparsity), (right, expected.share_zero)):
            line, _, (bars,) = drawn(axes)[name]
            np.testing.assert_array_equal(line.get_xdata(), at)
            np.testing.assert_array_equal(line.get_ydata(), expected.error)
            ends = np.array([segment[:, 1] for segment in bars.get_segments()])
            np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * expected.error_se)
    assert left.get_ylim()[0] < 0
    assert left.get_ylim()[1] > 200


def test_family_is_colour_and_kind_is_fill():
    given = {
        "mean": curve(),
        "counts": curve("counts"),
        "again": curve(scale=2.0),
        "other": curve(family="sparse coding", scale=0.5),
    }
    lines = {name: container[0] for name, container in drawn(rate_distortion_figure(given).axes[0]).items()}
    colours = {name: to_hex(line.get_color()) for name, line in lines.items()}
    assert colours["mean"] == colours["counts"] == colours["again"] != colours["other"]
    assert to_hex(lines["mean"].get_markerfacecolor()) == colours["mean"]
    assert lines["counts"].get_markerfacecolor() == "white"
    assert lines["mean"].get_marker() != lines["again"].get_marker()  # both filled, of one colour


def test_curves_without_zeros_are_on_the_left_alone():
    left, right = rate_distortion_figure({"Poisson": curve(), "Gaussian": curve(family="g", zeros=False)}).axes
    assert set(drawn(left)) == {"Poisson", "Gaussian"}
    assert set(drawn(right)) == {"Poisson"}
    assert len(rate_distortion_figure({"Gaussian": curve(zeros=False)}).axes) == 1


def test_explained_variance_is_on_the_right_edge():
    figure = rate_distortion_figure({"a": curve()}, variance=200.0)
    figure.draw_without_rendering()
    left, right = figure.axes
    (axis,) = right.child_axes
    for error in (0.0, 50.0, 100.0):  # at the same height of the picture
        height = right.transData.transform((0.5, error))[1]
        assert axis.transData.transform((0.5, 1 - error / 200))[1] == pytest.approx(height)
    assert not left.child_axes
    assert not any(axes.child_axes for axes in rate_distortion_figure({"a": curve()}).axes)


def test_settings_stand_at_the_ends_and_the_middle():
    left, right = rate_distortion_figure({"a": curve()}).axes
    assert {(note.get_text(), note.xy) for note in left.texts} == {
        ("β 0", (0.3, 10.0)),
        ("β 2", (0.55, 55.0)),
        ("β 4", (0.8, 100.0)),
    }
    assert not right.texts


def test_settings_cover_neither_each_other_nor_a_line():
    crowd = {f"{index}": curve(family=f"family {index}", scale=1 + 0.1 * index) for index in range(9)}
    for one in crowd.values():
        one.setting[:] = [f"a long setting {place}" for place in range(P)]
    figure = rate_distortion_figure(crowd)
    axes = figure.axes[0]
    boxes = [note.get_window_extent() for note in axes.texts]
    assert 3 <= len(boxes) < 27  # some are there, and not all
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for one in crowd.values():
        points = axes.transData.transform(np.stack([one.lifetime_sparsity, one.error], 1))
        along = np.concatenate([np.linspace(*ends, 50) for ends in pairwise(points)])
        assert not any(box.contains(*point) for box in boxes for point in along)


def single(sparsity, error, text):
    at, none = np.array([sparsity]), np.array([np.nan])
    return Curve(at, none, np.array([error]), none, [text], "mean", text)


def test_settings_that_meet_from_both_sides_move_apart():
    """Two on the left and one on the right edge, which is written to its left and below."""
    long = "{} a setting with a very long name, of no use at all"
    given = ((0.1, 50.0), (0.9, 50.0), (0.1, 46.8))
    curves = {str(place): single(*at, long.format(place)) for place, at in enumerate(given)}
    notes = rate_distortion_figure(curves).axes[0].texts
    boxes = [note.get_window_extent() for note in notes]
    assert len(boxes) == 3
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_setting_is_nearer_to_its_own_point_than_to_another():
    points = {"low": (0.5, 50.0), "high": (0.5, 51.2)}
    axes = rate_distortion_figure({name: single(*at, name) for name, at in points.items()}).axes[0]
    heights = {name: axes.transData.transform(at)[1] for name, at in points.items()}
    middles = {note.get_text(): np.mean(note.get_window_extent().intervaly) for note in axes.texts}
    assert middles["low"] < heights["low"] < heights["high"] < middles["high"]


def test_a_family_names_a_setting_once():
    left = rate_distortion_figure({"mean": curve(), "counts": curve("counts", scale=2.0)}).axes[0]
    texts = [note.get_text() for note in left.texts]
    assert sorted(texts) == ["β 0", "β 2", "β 4"]


def test_points_that_are_not_finite_are_counted():
    broken = curve()
    broken.error[1] = np.inf
    line = drawn(rate_distortion_figure({"a": broken}).axes[0])["a (1 point not finite)"][0]
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, True, False, False, False])


def test_it_is_written(tmp_path):
    save(rate_distortion_figure({"a": curve(), "b": curve("counts")}, 250.0), tmp_path / "rate.png")
    assert (tmp_path / "rate.png").stat().st_size > 10_000


def test_errors():
    with pytest.raises(InputError, match="no curve to draw"):
        rate_distortion_figure({})
    with pytest.raises(InputError, match="kind of a is 'median'; expected one of mean, counts"):
        rate_distortion_figure({"a": curve("median")})
    with pytest.raises(InputError, match=r"error_se of a has shape \(3,\) and there are 5 settings"):
        rate_distortion_figure({"a": replace(curve(), error_se=np.ones(3))})
    nothing = np.zeros(0)
    with pytest.raises(InputError, match="at least one point"):
        rate_distortion_figure({"a": Curve(nothing, nothing, nothing, nothing, [], "mean", "LCA")})
    for variance in (0.0, -1.0, np.nan):
        with pytest.raises(InputError, match="expected a positive number, or None"):
            rate_distortion_figure({"a": curve()}, variance)
