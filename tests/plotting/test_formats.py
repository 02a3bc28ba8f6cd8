"""Pictures as PNG, PDF and SVG."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from itervae import InputError
from itervae.plotting import dictionary_figure, save

BEGINS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture(scope="module")
def figure():
    return dictionary_figure(np.random.default_rng(0).normal(size=(16, 8)), (4, 4))


@pytest.mark.parametrize("ending", [*BEGINS, ".SVG"])
def test_the_name_says_what_is_written_and_it_is_the_same_each_time(ending, figure, tmp_path):
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    save(figure, first)
    save(figure, second)
    assert first.read_bytes().startswith(BEGINS[ending.lower()])
    assert first.read_bytes() == second.read_bytes()


def test_text_of_an_svg_stays_text(figure, tmp_path):
    save(figure, tmp_path / "a.svg")
    words = " ".join(
        "".join(each.itertext()) for each in ElementTree.parse(tmp_path / "a.svg").iter() if "text" in each.tag
    )
    assert any(text.get_text().split()[0] in words for text in figure.texts if text.get_text())


def test_another_ending_is_refused_and_nothing_is_written(figure, tmp_path):
    with pytest.raises(InputError, match=r"a.jpg; expected one that ends in .png, .pdf, .svg"):
        save(figure, tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_a_figure(figure):
    assert figure._repr_png_().startswith(BEGINS[".png"])
