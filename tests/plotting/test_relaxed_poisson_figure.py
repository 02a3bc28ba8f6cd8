"""The picture of relaxed samples: stems are the Poisson probabilities, bars the shares of draws."""

import numpy as np
import pytest
from scipy.stats import poisson

from itervae.errors import InputError
from itervae.plotting import relaxed_poisson_figure, save
from itervae.plotting.relaxed_poisson import poisson_pmf


def stems(axes):
    """Counts and heights of the dots on the stems."""
    (line,) = axes.get_lines()
    return line.get_xdata(), line.get_ydata()


@pytest.mark.parametrize("rate", [0.01, 0.7, 3.0, 50.0, 3000.0])
def test_pmf_is_that_of_scipy(rate):
    counts = np.arange(int(3 * rate) + 10)
    np.testing.assert_allclose(poisson_pmf(counts, rate), poisson.pmf(counts, rate), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("rate", [0.3, 3.0, 200.0])
def test_stems_are_the_probabilities_of_nearly_all_counts(rate):
    axes = relaxed_poisson_figure({0.1: np.array([rate])}, rate).axes[0]
    counts, heights = stems(axes)
    np.testing.assert_allclose(heights, poisson.pmf(counts, rate), rtol=1e-9)
    assert 0.9997 < heights.sum() <= 1
    tops = [segment[1] for segment in axes.collections[0].get_segments()]
    np.testing.assert_array_equal(tops, np.stack([counts, heights], 1))


def test_integer_draws_fill_the_bins_of_their_count():
    draws = np.repeat([0.0, 1.0, 2.0, 2.5], (4, 3, 2, 1))
    axes = relaxed_poisson_figure({0.05: draws}, 1.0).axes[0]
    values, edges, _ = axes.patches[0].get_data()
    middles = (edges[:-1] + edges[1:]) / 2
    filled = values > 0
    np.testing.assert_allclose(values[filled], [0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(middles[filled][:3], [0, 1, 2], atol=1e-12)
    assert abs(middles[filled][3] - 2.5) <= 0.1 + 1e-12


def test_panels_are_ordered_by_temperature_and_share_an_axis():
    samples = {1.0: np.full(10, 3.2), 0.02: np.full(10, 3.0), 0.5: np.array([3.0, 4.0, np.nan, np.inf])}
    figure = relaxed_poisson_figure(samples, 3.0)
    captions = [axes.texts[0].get_text().split("\n") for axes in figure.axes]
    assert [caption[0] for caption in captions] == ["τ = 0.02", "τ = 0.5", "τ = 1"]
    assert captions[1][1:] == ["mean 3.50, variance 0.25", "2 of 4 not finite"]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    values, _, _ = figure.axes[1].patches[0].get_data()
    assert sorted(values[values > 0]) == [0.25, 0.25]  # of all draws, finite or not
    values, edges, _ = figure.axes[2].patches[0].get_data()
    (place,) = np.flatnonzero(values)
    assert edges[place] < 3.2 < edges[place + 1]
    assert values[place] == 1


def test_it_is_written(tmp_path):
    draws = np.random.default_rng(0).poisson(3.0, 500).astype(float)
    save(relaxed_poisson_figure({0.1: draws, 0.5: draws}, 3.0), tmp_path / "relaxed.png")
    assert (tmp_path / "relaxed.png").stat().st_size > 10_000


def test_errors():
    with pytest.raises(InputError, match="no temperature to draw"):
        relaxed_poisson_figure({}, 3.0)
    for rate in (0.0, -1.0, np.nan):
        with pytest.raises(InputError, match="expected a positive number of spikes"):
            relaxed_poisson_figure({0.1: np.ones(3)}, rate)
    for draws in (np.ones((2, 2)), np.zeros(0)):
        with pytest.raises(InputError, match=r"samples at temperature 0\.1 have shape"):
            relaxed_poisson_figure({0.1: draws}, 3.0)
