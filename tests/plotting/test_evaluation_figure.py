"""The picture of codes: what is drawn is what was measured, and a run has one colour everywhere."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from itervae.errors import InputError
from itervae.plotting import Dots, Histogram, Lines, evaluation_figure, save

EDGES = np.linspace(-4, 2, 7)
LABELS = np.array([50.0, 200.0, 1000.0])
COUNTS = np.array([0, 0, 3, 1, 4, 0])
SD = np.array([0.03, 0.01, np.nan])
RUNS = {"poisson": 0.0, "gaussian": 0.1, "coding": 0.05}
"""Run → how much better it is than the first."""


def histogram(runs=RUNS, edges=EDGES):
    return Histogram(dict.fromkeys(runs, COUNTS), edges, 0.01)


def lines(runs=RUNS, reference=None):
    values = {name: (LABELS, np.array([0.5, 0.6, 0.7]) + shift, SD) for name, shift in runs.items()}
    return Lines(values, "neighbours", "number of labels", "accuracy", reference)


def dots(runs=RUNS, slope=0.01, reference=None):
    """At two read-outs; coding has the second alone."""
    scores = {
        name: {readout: 0.8 + slope * place + shift for place, readout in enumerate(("residual", "mean"))}
        for name, shift in runs.items()
    }
    if "coding" in scores:
        scores["coding"] = {"mean": 0.85}
    return Dots(scores, "dots", "accuracy", reference)


def test_everything_measured_is_drawn():
    pixels = (LABELS, LABELS / 2000, LABELS * np.nan)
    figure = evaluation_figure([*RUNS], [histogram(), lines(reference=pixels), dots(reference=0.9), dots()], "pixels")
    units, neighbours, shattering, readout = figure.axes
    values, edges, _ = units.patches[0].get_data()
    np.testing.assert_allclose(values, np.array([0, 0, 3, 1, 4, 0]) / 8)
    np.testing.assert_allclose(edges, EDGES)
    assert -2.0 in [line.get_xdata()[0] for line in units.get_lines()]  # log10 of the threshold
    assert units.get_xlim()[0] < -2 < 1 < units.get_xlim()[1]

    reference, first, second, _ = neighbours.containers
    np.testing.assert_allclose(reference[0].get_ydata(), LABELS / 2000)
    np.testing.assert_allclose(second[0].get_ydata(), [0.6, 0.7, 0.8])
    ends = np.array([segment[:, 1] for segment in first[2][0].get_segments()])
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], [0.06, 0.02, 0.0], atol=1e-12)
    assert neighbours.get_xscale() == "log"
    assert [text.get_text() for text in neighbours.get_xticklabels()] == ["1000", "200", "50"]
    assert neighbours.get_title(loc="left") == "neighbours"

    np.testing.assert_allclose([dots.get_ydata() for dots in shattering.get_lines()[:2]], [[0.8, 0.81], [0.9, 0.91]])
    assert [text.get_text() for text in shattering.get_xticklabels()] == ["residual", "mean"]
    coding = shattering.get_lines()[2].get_xdata()
    assert 0.5 < coding[0] < 1.5  # over the second read-out
    assert shattering.get_lines()[3].get_ydata()[0] == 0.9  # the reference
    np.testing.assert_allclose(readout.get_lines()[2].get_ydata(), [0.85])

    for index, name in enumerate(RUNS):
        colours = {
            to_hex(units.patches[2 * index].get_edgecolor()),
            to_hex(neighbours.containers[1 + index][0].get_color()),
            to_hex(shattering.get_lines()[index].get_color()),
            to_hex(readout.get_lines()[index].get_color()),
            to_hex(figure.legends[0].legend_handles[index].get_color()),
        }
        assert len(colours) == 1, name
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*RUNS, "pixels"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_panel_that_is_given_is_drawn_and_no_other(number):
    figure = evaluation_figure([*RUNS], [histogram(), lines(), dots()][:number])
    assert sum(axes.axison for axes in figure.axes) == number


def test_dots_of_runs_stand_apart_and_texts_inside(tmp_path):
    runs = {f"a run with a long name {index}": 0.0 for index in range(9)}
    figure = evaluation_figure([*runs], [histogram(runs), lines(runs), dots(runs), dots(runs)])
    figure.draw_without_rendering()
    places = [line.get_xdata()[0] for line in figure.axes[2].get_lines()[:9]]
    assert np.diff(places).min() > 0.05
    assert -0.5 < min(places) < max(places) < 0.5
    page = figure.bbox
    legend = figure.legends[0].get_window_extent()
    assert page.x0 <= legend.x0 <= legend.x1 <= page.x1
    assert not any(legend.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    save(figure, tmp_path / "evaluation.png")
    assert (tmp_path / "evaluation.png").stat().st_size > 20_000


def test_numbers_of_labels_that_are_close_are_not_written_over_each_other():
    labels = np.array([50.0, 100.0, 500.0, 600.0])
    panel = Lines({"run": (labels, labels / 1000, labels * np.nan)}, "neighbours", "number of labels", "accuracy")
    axes = evaluation_figure(["run"], [panel]).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["600", "100", "50"]


def test_errors():
    with pytest.raises(InputError, match="0 runs with 0 measures to draw"):
        evaluation_figure([], [])
    with pytest.raises(InputError, match="1 runs with 0 measures"):
        evaluation_figure(["run"], [])
    with pytest.raises(InputError, match=r"the counts of run have shape \(6,\) .*expected \(4,\)"):
        evaluation_figure(["run"], [histogram(["run"], EDGES[:5])])
