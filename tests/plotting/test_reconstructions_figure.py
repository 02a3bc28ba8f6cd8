"""Data, reconstruction and residual on the scale of each datum; samples of the prior on one
scale."""

import numpy as np
import pytest
from PIL import Image

from itervae.errors import InputError
from itervae.plotting import reconstructions_figure, samples_figure, save

SHAPE = (4, 3)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def cells(axes, count):
    """The images of a mosaic, (rows, columns, H, W), without borders; NaN where masked."""
    image = np.ma.filled(axes.images[0].get_array(), np.nan)
    height, width = SHAPE
    rows = (len(image) - 1) // (height + 1)
    return image[1:, 1:].reshape(rows, height + 1, count, width + 1).swapaxes(1, 2)[:, :, :height, :width]


def test_rows_are_data_reconstruction_counts_and_residual_on_one_scale():
    x, noise = normal(5, 12), normal(5, 12, seed=1)
    x *= np.array([1, 10, 100, 0.1, 1e-3])[:, None]
    reconstruction, sampled = 0.5 * x, 0.25 * x + 0 * noise
    figure = reconstructions_figure(x, reconstruction, SHAPE, sampled=sampled)
    found = cells(figure.axes[0], 5).reshape(4, 5, 12)
    largest = np.abs(x).max(1, keepdims=True)
    for row, values in enumerate((x, reconstruction, sampled, x - reconstruction)):
        np.testing.assert_allclose(found[row], 0.5 + 0.5 * values / largest, atol=1e-12)
    words = [text.get_text() for text in figure.texts]
    assert [word.replace("\n", " ") for word in words[1:5]] == [
        "data",
        "reconstruction of the mean code",
        "reconstruction of sampled counts",
        "residual",
    ]


def test_data_without_a_negative_value_run_from_black_to_white_and_their_residual_stays_symmetric():
    x = np.abs(normal(2, 12))
    found = cells(reconstructions_figure(x, 0.5 * x, SHAPE).axes[0], 2).reshape(3, 2, 12)
    largest = x.max(1, keepdims=True)
    np.testing.assert_allclose(found[0], x / largest)
    np.testing.assert_allclose(found[1], 0.5 * x / largest)
    np.testing.assert_allclose(found[2], 0.5 + 0.25 * x / largest)


def test_a_diverged_reconstruction_does_not_hide_the_datum_and_nan_is_kept():
    x = normal(3, 12)
    reconstruction = x.copy()
    reconstruction[0] *= 1e300
    reconstruction[1, 4] = -np.inf
    found = cells(reconstructions_figure(x, reconstruction, SHAPE).axes[0], 3).reshape(3, 3, 12)
    np.testing.assert_allclose(found[0], 0.5 + 0.5 * x / np.abs(x).max(1, keepdims=True))
    assert set(np.unique(found[1, 0])) == {0.0, 1.0}
    assert np.isnan(found[1:, 1, 4]).all()
    assert np.isnan(found).sum() == 2


def test_captions_are_r_squared_or_those_given():
    x = np.array([[1.0, 2, 3, 4], [0, 0, 0, 0], [1, 2, 3, 4], [1, 2, 3, 4]])
    reconstruction = np.array([[1.0, 2, 3, 5], [0, 0, 0, 1], [100, 0, 0, 0], [np.nan, 2, 3, 4]])
    words = [text.get_text() for text in reconstructions_figure(x, reconstruction, (2, 2)).texts]
    assert words[-4:] == ["R² 0.80", "R² –", "R² < −9", "R² –"]
    figure = reconstructions_figure(x, reconstruction, (2, 2), captions=["F 1", "F 2", "F 3", "F 4"])
    assert [text.get_text() for text in figure.texts][-4:] == ["F 1", "F 2", "F 3", "F 4"]


def test_without_residual_and_with_more_data_than_a_row_holds():
    figure = reconstructions_figure(normal(10, 12), normal(10, 12), SHAPE, residual=False)
    assert len(figure.axes) == 2
    assert "residual" not in [text.get_text() for text in figure.texts]
    figure = reconstructions_figure(normal(40, 12), normal(40, 12), SHAPE)
    assert len(figure.axes) == 4
    assert "first 32 of 40 data" in figure.texts[0].get_text()


@pytest.mark.parametrize("count", [1, 5000])
def test_words_stay_within_the_picture(count, tmp_path):
    x = np.abs(normal(count, 12))
    x[0, 0] = np.nan
    figure = reconstructions_figure(x, x, SHAPE, sampled=x)
    save(figure, tmp_path / "picture.png")
    width, height = figure.bbox.size
    for text in figure.texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height


def test_other_data_are_lines():
    x = normal(5, 20)
    reconstruction = 0.9 * x
    reconstruction[1, 3] = np.nan
    figure = reconstructions_figure(x, reconstruction, (20,))
    for index in range(5):
        panel = figure.axes[index]
        lines = {line.get_label(): line for line in panel.get_lines()}
        np.testing.assert_array_equal(lines["data"].get_ydata(), x[index])
        np.testing.assert_array_equal(lines["reconstruction"].get_ydata(), reconstruction[index])
        np.testing.assert_array_equal(lines["residual"].get_ydata(), x[index] - reconstruction[index])
        low, high = panel.get_ylim()
        assert low < x[index].min() < x[index].max() < high
    marked = [line for line in figure.axes[1].get_lines() if line.get_marker() == "|"]
    assert {float(at) for line in marked for at in line.get_xdata()} == {3.0}


def test_samples_share_one_scale():
    samples = np.array([[-2.0] * 12, [1.0] * 12])
    figure = samples_figure(samples, SHAPE, "Samples")
    found = cells(figure.axes[0], 2).reshape(2, 12)
    np.testing.assert_allclose(found, [[0.0] * 12, [0.75] * 12])
    assert figure.texts[1].get_text() == "2 samples; one grey scale, −2 to 2"
    assert figure.texts[0].get_text() == "Samples"
    found = cells(samples_figure(np.abs(samples), SHAPE, "").axes[0], 2).reshape(2, 12)
    np.testing.assert_allclose(found, [[1.0] * 12, [0.5] * 12])


@pytest.mark.parametrize("value", [0.0, np.nan, 1e300])
def test_constant_or_not_finite_samples_are_drawn(value, tmp_path):
    for shape in (SHAPE, (12,)):
        figure = samples_figure(np.full((3, 12), value), shape, "")
        save(figure, tmp_path / "samples.png")
        with Image.open(tmp_path / "samples.png") as image:
            assert np.asarray(image.convert("L")).std() > 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: reconstructions_figure(normal(2, 12), normal(3, 12), SHAPE),
        lambda: reconstructions_figure(normal(2, 12), normal(2, 12), (3, 3)),
        lambda: reconstructions_figure(normal(12), normal(12), SHAPE),
        lambda: reconstructions_figure(normal(2, 12), normal(2, 12), SHAPE, captions=["one"]),
        lambda: reconstructions_figure(normal(2, 12), normal(2, 12), SHAPE, sampled=normal(2, 11)),
        lambda: samples_figure(normal(2, 12), (12, 2), ""),
        lambda: samples_figure(normal(0, 12), SHAPE, ""),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(InputError, match=r"expected|pass"):
        call()
