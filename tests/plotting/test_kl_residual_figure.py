"""The picture of the KL of Poisson rates: f(δ) against known values and against the KL of the
distributions."""

import numpy as np
import pytest
from scipy.stats import poisson

from itervae.plotting import kl_residual_figure, save
from itervae.plotting.kl_residual import kl_residual


def test_known_values():
    e = np.e
    ratio = np.array([0.0, 1.0, e, 1 / e, 4.0])
    expected = [1.0, 0.0, 1.0, 1 - 2 / e, 4 * np.log(4) - 3]
    np.testing.assert_allclose(kl_residual(ratio), expected, atol=1e-15)


@pytest.mark.parametrize(("rate", "prior"), [(0.5, 2.0), (3.0, 1.2), (0.05, 0.5)])
def test_the_prior_rate_times_f_is_the_kl(rate, prior):
    counts = np.arange(100)
    kl = (poisson.pmf(counts, rate) * (poisson.logpmf(counts, rate) - poisson.logpmf(counts, prior))).sum()
    assert prior * kl_residual(rate / prior) == pytest.approx(kl, rel=1e-12)


def test_lines_are_f_and_its_approximations():
    left, right = kl_residual_figure().axes
    for axes, to_ratio in ((left, lambda at: at), (right, np.exp)):
        exact, rough = (line for line in axes.get_lines() if not line.get_label().startswith("_"))
        np.testing.assert_allclose(exact.get_ydata(), kl_residual(to_ratio(exact.get_xdata())))
        prior = 1.0 if axes is left else 0.0
        np.testing.assert_allclose(rough.get_ydata(), 0.5 * (rough.get_xdata() - prior) ** 2)
        near = np.abs(exact.get_xdata() - prior) < 0.1
        assert near.sum() > 5
        # both agree to second order, so what is between them is of third
        np.testing.assert_allclose(exact.get_ydata()[near], rough.get_ydata()[near], atol=0.1**3 / 2)


def test_it_is_written(tmp_path):
    save(kl_residual_figure(), tmp_path / "kl.png")
    assert (tmp_path / "kl.png").stat().st_size > 10_000
