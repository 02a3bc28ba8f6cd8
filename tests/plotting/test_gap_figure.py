"""The picture of gaps over data: the curve is the share of data above each gap."""

import numpy as np
import pytest

from itervae.errors import InputError
from itervae.plotting import gap_figure


def test_curve_is_the_share_of_data_above():
    gap = np.array([0.5, 1e-9, 4.0, 2.0, np.nan])
    figure = gap_figure({"engine": gap}, floor=1e-6)
    (line, end, _) = figure.axes[0].get_lines()
    assert line.get_drawstyle() == "steps-pre"  # up to a gap the share is that of the data that have at least it
    np.testing.assert_allclose(line.get_xdata(), [1e-6, 0.5, 2.0, 4.0])
    np.testing.assert_allclose(line.get_ydata(), [0.8, 0.8, 0.6, 0.4])  # NaN counts as above all
    np.testing.assert_allclose([end.get_xdata(), end.get_ydata()], [[4.0], [0.4]])
    assert "1 not finite" in figure.axes[0].get_legend().get_texts()[0].get_text()


def test_errors():
    with pytest.raises(InputError, match="no engine to draw"):
        gap_figure({}, 1e-6)
    with pytest.raises(InputError, match=r"shape \(2, 2\); expected \(N,\)"):
        gap_figure({"a": np.zeros((2, 2))}, 1e-6)


def test_gaps_below_the_certificate_are_said_to_be():
    figure = gap_figure({"exact": np.zeros(3), "other": np.array([1e-9, 1.0])}, floor=1e-6)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["exact (mean 0 nats; all at most 1e-06)", "other (mean 0.5 nats)"]
