"""The figure of error against L1: what it shades is below every line of support."""

import numpy as np

from itervae.plotting import frontier_figure


def test_nothing_above_a_line_of_support_is_shaded():
    """Of error (4 − t)²/2 at a norm t the price is 4 − t: the lines touch the parabola."""
    norms = [3.0, 1.0, 2.0]
    points = [(t, (4 - t) ** 2 / 2, (4 - t) ** 2 / 2, 4 - t) for t in norms]
    axes = frontier_figure(points, {"encoder": (2.0, 5.0)}).axes[0]
    shaded = axes.collections[0].get_paths()[0].vertices
    assert (shaded[:, 1] <= (4 - shaded[:, 0]) ** 2 / 2 + 1e-9).all()
    for t in norms:
        assert np.isclose(shaded[np.isclose(shaded[:, 0], t), 1].max(), (4 - t) ** 2 / 2)
    line, dot = axes.lines
    assert list(line.get_xdata()) == [1, 2, 3]
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (2.0, 5.0)
    assert "encoder: 5" in [text.get_text() for text in axes.get_legend().get_texts()]
