"""Tiled atoms against a hand computation; the pixels of the written picture against the atoms."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from itervae.errors import InputError
from itervae.plotting import dictionary_figure, reconstructions_figure, samples_figure, save, tile_atoms

RED = (0xD7, 0x19, 0x1C)
exact = pytest.mark.skipif(
    tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11),
    reason="before matplotlib 3.11 some atoms are drawn a pixel wider",
)


def atoms(size, count, seed=0):
    return np.random.default_rng(seed).normal(size=(size, count))


def pixels(figure, path):
    save(figure, path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def drawn(figure, picture):
    """The grey levels (rows, columns) of a figure's only image in the written picture (rows,
    columns, 3)."""
    box = figure.axes[0].get_window_extent()
    left, right, below, above = (round(edge) for edge in (box.x0, box.x1, box.y0, box.y1))
    found = picture[len(picture) - above : len(picture) - below, left:right].astype(int)
    assert (found == found[..., :1]).all()
    return found[..., 0]


def test_tile_atoms_by_hand():
    dictionary = np.array([[2.0, 0.0, -1.0], [-4.0, 1.0, 0.0], [0.0, 0.5, 0.5], [4.0, -1.0, 1.0]])
    expected = np.array(
        [
            [1, 1.00, 1.0, 1, 1.00, 1.0, 1],
            [1, 0.75, 0.0, 1, 0.50, 1.0, 1],
            [1, 0.50, 1.0, 1, 0.75, 0.0, 1],
            [1, 1.00, 1.0, 1, 1.00, 1.0, 1],
            [1, 0.00, 0.5, 1, 1.00, 1.0, 1],
            [1, 0.75, 1.0, 1, 1.00, 1.0, 1],
            [1, 1.00, 1.0, 1, 1.00, 1.0, 1],
        ]
    )
    np.testing.assert_array_equal(tile_atoms(dictionary, (2, 2), columns=2), expected)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (7, 3, 3), (6, 3, 2), (5, 8, 1)])
def test_geometry_of_a_mosaic(count, columns, rows):
    image = tile_atoms(atoms(15, count), (5, 3), columns=columns)
    assert image.shape == (rows * 6 + 1, columns * 4 + 1)
    assert image.min() >= 0
    assert image.max() <= 1
    assert (image[::6] == 1).all()
    assert (image[:, ::4] == 1).all()


@pytest.mark.parametrize("count", [1, 2, 17, 64, 100, 512, 1024])
def test_columns_are_chosen_for_a_wide_picture(count):
    rows, columns = (side // 9 for side in tile_atoms(atoms(64, count), (8, 8)).shape)
    assert rows * columns >= count
    assert (rows - 1) * columns < count
    assert columns >= rows
    if count == 512:
        assert (rows, columns) == (16, 32)


def test_order_permutes_and_selects():
    dictionary, order = atoms(6, 9), np.array([4, 0, 8, 3])
    selected = tile_atoms(dictionary[:, order], (2, 3), columns=2)
    np.testing.assert_array_equal(tile_atoms(dictionary, (2, 3), order, columns=2), selected)


def test_scale_of_an_atom_does_not_matter_and_input_is_not_changed():
    dictionary = atoms(9, 4)
    before = dictionary.copy()
    image = tile_atoms(dictionary, (3, 3))
    scaled = tile_atoms(dictionary * np.array([0.5, 2.0, 1024.0, 2.0**-40]), (3, 3))
    np.testing.assert_array_equal(image, scaled)
    np.testing.assert_array_equal(dictionary, before)


def test_a_zero_atom_is_grey_and_values_that_are_not_finite_are_nan():
    dictionary = atoms(4, 3)
    dictionary[:, 0] = 0
    dictionary[:, 1] = (np.nan, np.inf, 1, -2)
    image = tile_atoms(dictionary, (2, 2), columns=3)
    np.testing.assert_array_equal(image[1:3, 1:3], np.full((2, 2), 0.5))
    np.testing.assert_array_equal(image[1:3, 4:6], [[np.nan, np.nan], [0.75, 0.0]])
    assert np.isfinite(image[:, 6:]).all()


@exact
def test_the_picture_holds_the_atoms_most_used_first(tmp_path):
    dictionary, usage = atoms(64, 32), np.random.default_rng(1).random(32)
    figure = dictionary_figure(dictionary, (8, 8), usage, "Dictionary")
    picture = pixels(figure, tmp_path / "dictionary.png")
    tiled = tile_atoms(dictionary, (8, 8), np.argsort(-usage))
    found = drawn(figure, picture)
    scale = found.shape[0] // tiled.shape[0]
    assert found.shape == (scale * tiled.shape[0], scale * tiled.shape[1])
    np.testing.assert_allclose(found, 255 * tiled.repeat(scale, 0).repeat(scale, 1), atol=2)  # Agg rounds
    words = " ".join(text.get_text() for text in figure.texts)
    assert "32 atoms, most used first" in words
    assert "Dictionary" in words


@exact
def test_not_finite_is_red_in_the_picture(tmp_path):
    dictionary = atoms(16, 8)
    assert not (pixels(dictionary_figure(dictionary, (4, 4)), tmp_path / "a.png") == RED).all(-1).any()
    dictionary[:, 2] = np.nan
    figure = dictionary_figure(dictionary, (4, 4))
    red = (pixels(figure, tmp_path / "b.png") == RED).all(-1)
    width = figure.axes[0].get_window_extent().width / tile_atoms(dictionary, (4, 4)).shape[1]
    assert red.sum() == 16 * round(width) ** 2
    assert "red: not finite" in figure.texts[-1].get_text()


def test_many_atoms_are_cut_and_said_to_be():
    figure = dictionary_figure(atoms(4, 1030), (2, 2))
    assert "1024 of 1030 atoms" in figure.texts[-1].get_text()


def test_other_data_are_a_heat_map_with_symmetric_colours(tmp_path):
    dictionary, usage = atoms(7, 5), np.array([0.1, 0.5, np.nan, 0.9, 0.2])
    dictionary[3, 1] = np.nan
    figure = dictionary_figure(dictionary, (7,), usage)
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), dictionary[:, [3, 1, 4, 0, 2]].T)
    assert image.get_clim() == pytest.approx((-np.nanmax(np.abs(dictionary)), np.nanmax(np.abs(dictionary))))
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("dimension", "rank by mean rate")
    assert (pixels(figure, tmp_path / "heat.png") == RED).all(-1).any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: tile_atoms(atoms(6, 2), (2, 2)),
        lambda: tile_atoms(atoms(6, 2), (6,)),
        lambda: tile_atoms(atoms(6, 2), (1, 1, 2, 3)),
        lambda: tile_atoms(np.zeros(6), (2, 3)),
        lambda: tile_atoms(np.zeros((6, 0)), (2, 3)),
        lambda: tile_atoms(atoms(6, 2), (2, 3), columns=0),
        lambda: tile_atoms(atoms(6, 2), (2, 3), order=[2]),
        lambda: tile_atoms(atoms(6, 2), (2, 3), order=[-1]),
        lambda: tile_atoms(atoms(6, 2), (2, 3), order=[0.5]),
        lambda: tile_atoms(np.array([["a", "b"]]), (1,)),
        lambda: tile_atoms(atoms(6, 2) + 1j, (2, 3)),
        lambda: dictionary_figure(atoms(6, 2), (2, 3), usage=np.ones(3)),
        lambda: dictionary_figure(atoms(6, 2), (5,)),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(InputError, match=r"expected|pass"):
        call()


def test_channels_are_tiled_side_by_side():
    values = np.random.default_rng(0).normal(size=(2 * 3 * 4, 5))
    joined = values.reshape(2, 3, 4, 5).transpose(1, 0, 2, 3).reshape(24, 5)  # (H, C·W) of each atom
    np.testing.assert_array_equal(tile_atoms(values, (2, 3, 4)), tile_atoms(joined, (3, 8)))


def test_three_channels_are_drawn_in_colour():
    """Each pixel of an atom has its red, green and blue, on the atom's one scale."""
    values = atoms(3 * 2 * 4, 5)
    tiled = tile_atoms(values, (3, 2, 4), columns=5)
    assert tiled.shape == (4, 26, 3)
    for index, atom in enumerate((values / np.abs(values).max(0)).T):
        expected = 0.5 + 0.5 * atom.reshape(3, 2, 4).transpose(1, 2, 0)
        np.testing.assert_allclose(tiled[1:3, 1 + 5 * index : 5 + 5 * index], expected)
    assert (tiled[0] == 1).all()
    values[3, 0] = np.nan
    figure = dictionary_figure(values, (3, 2, 4))
    image = figure.axes[0].images[0].get_array()
    assert figure.texts[-1].get_text() == "5 atoms; each on its own scale, grey is zero; red: not finite"
    assert ((image - np.array(RED) / 255) ** 2).sum(-1).argmin() == np.ravel_multi_index((1, 4), image.shape[:2])


def test_data_and_samples_of_three_channels_are_drawn_in_colour():
    x = np.random.default_rng(0).normal(size=(2, 24))
    figure = reconstructions_figure(x, 0.5 * x, (3, 2, 4))
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (10, 11, 3)
    largest = np.abs(x[1]).max()
    expected = 0.5 + 0.25 * x[1].reshape(3, 2, 4).transpose(1, 2, 0) / largest
    np.testing.assert_allclose(image[4:6, 6:10], expected)
    assert figure.texts[0].get_text().startswith("each colour: −m to m")
    figure = samples_figure(x, (3, 2, 4))
    assert figure.axes[0].images[0].get_array().shape[-1] == 3
    assert figure.texts[0].get_text().startswith("2 samples; one scale, −")
