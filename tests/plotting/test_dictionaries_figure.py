"""Dictionaries side by side: each panel shows its own atoms, in their order, under its name."""

import numpy as np
import pytest

from itervae import InputError
from itervae.plotting import dictionaries_figure, tile_atoms


def test_each_panel_shows_its_dictionary():
    draw = np.random.default_rng(0)
    shown = {name: draw.normal(size=(16, 9)) for name in ("poisson", "gaussian", "lca", "ista", "laplace")}
    figure = dictionaries_figure(shown, (4, 4), {"lca": "9 atoms"})
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in panels] == list(shown)
    for axes, atoms in zip(panels, shown.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), tile_atoms(atoms, (4, 4), columns=3))
    assert [text.get_text() for text in panels[2].texts] == ["9 atoms"]
    assert not panels[0].texts


def test_errors():
    with pytest.raises(InputError, match="there is no dictionary to draw"):
        dictionaries_figure({}, (4, 4))
    with pytest.raises(InputError, match="shape"):
        dictionaries_figure({"one": np.ones((16, 2))}, (4, 5))
