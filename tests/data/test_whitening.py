"""Whitening against a second implementation, on images with a known answer, and at its limits."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.datasets import load_sample_image

from itervae.data import DataSettings, load_source
from itervae.data.whitening import (
    filter_gain,
    local_contrast_normalize,
    standardize_image,
    subtract_and_divide_contrast,
    whiten_image,
)
from itervae.errors import InputError


def gain(f):
    return f * np.exp(-((f / 0.4) ** 4))


def noise(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(32, 32), (31, 40), (40, 31), (33, 27)])
def test_whitening_matches_a_full_complex_transform(shape):
    image = noise(*shape)
    height, width = shape
    f_y = np.array([(k if k < height / 2 else k - height) / height for k in range(height)])
    f_x = np.array([(k if k < width / 2 else k - width) / width for k in range(width)])
    log_image = np.log(image.numpy() + 0.05)
    spectrum = np.fft.fft2(log_image - log_image.mean()) * gain(np.sqrt(f_y[:, None] ** 2 + f_x[None] ** 2))
    expected = np.fft.ifft2(spectrum).real
    expected /= expected.std()
    np.testing.assert_allclose(whiten_image(image).numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(whiten_image(image.float()).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("slow", "fast"), [((4, 0), (0, 16)), ((0, 2), (20, 0)), ((3, 5), (10, 30))])
def test_a_sinusoid_is_scaled_by_the_gain_at_its_frequency(slow, fast):
    size = 64
    y, x = np.mgrid[:size, :size]
    waves = [np.cos(2 * np.pi * (ky * y + kx * x) / size) for ky, kx in (slow, fast)]
    image = np.exp(np.log(0.4) + 0.1 * (waves[0] + waves[1])) - 0.05  # equal amplitudes in log(I + .05)
    white = whiten_image(torch.from_numpy(image)).numpy()
    amplitude = [np.mean(white * wave) for wave in waves]
    expected = gain(np.hypot(*slow) / size) / gain(np.hypot(*fast) / size)
    assert amplitude[0] / amplitude[1] == pytest.approx(expected, rel=1e-9)
    rest = white - sum(2 * a * wave for a, wave in zip(amplitude, waves, strict=True))
    assert np.abs(rest).max() < 1e-9


def test_the_gain_lies_in_fft_order():
    table = filter_gain(8, 10).numpy()
    assert table[0, 0] == 0
    assert table[0, 1] == table[0, -1] == pytest.approx(gain(0.1))
    assert table[4, 0] == pytest.approx(gain(0.5))
    assert table[2, -3] == pytest.approx(gain(np.hypot(0.25, 0.3)))
    line = filter_gain(1, 1000).numpy()[0, :500]
    assert line.argmax() / 1000 == pytest.approx(0.4 / 4**0.25, abs=1e-3)


@pytest.mark.parametrize("prepare", [whiten_image, standardize_image])
def test_each_image_has_mean_zero_and_unit_variance_by_itself(prepare):
    images = noise(3, 20, 30) * torch.tensor([1.0, 0.1, 0.01]).view(3, 1, 1)
    before = images.clone()
    out = prepare(images)
    assert torch.equal(images, before)
    torch.testing.assert_close(out.mean((1, 2)), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(out.square().mean((1, 2)), torch.ones(3).double())
    for image, one in zip(images, out, strict=True):
        torch.testing.assert_close(prepare(image), one, atol=1e-12, rtol=0)
    assert prepare(images.float()).dtype == torch.float32


@pytest.mark.parametrize("prepare", [whiten_image, standardize_image])
def test_a_constant_image_is_refused(prepare):
    with pytest.raises(InputError, match="constant"):
        prepare(torch.full((16, 16), 0.3))
    with pytest.raises(InputError, match="is no image"):
        prepare(torch.zeros(16, 16, dtype=torch.uint8))


def test_local_contrast_follows_its_formula_everywhere():
    image = noise(12, 15) - 0.5
    sigma = 1.5
    out = local_contrast_normalize(image, sigma)
    y, x = np.mgrid[:12, :15]
    for row, column in [(0, 0), (6, 7), (11, 3), (2, 14)]:
        window = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
        window[(abs(y - row) > 4) | (abs(x - column) > 4)] = 0  # 3 sigma, rounded
        energy = (window * image.numpy() ** 2).sum() / window.sum()
        assert out[row, column].item() == pytest.approx(image[row, column].item() / np.sqrt(0.01 + energy), rel=1e-9)


def test_local_contrast_is_stable_at_zero_and_evens_out_contrast():
    assert torch.equal(local_contrast_normalize(torch.zeros(2, 20, 20)), torch.zeros(2, 20, 20))
    image = noise(60, 120) - 0.5
    image[:, :60] *= 0.5
    image[:, 60:] *= 5
    out = local_contrast_normalize(image)
    ratio = out[:, 80:].std() / out[:, :40].std()
    assert 1 < ratio < 1.5  # from 10
    with pytest.raises(InputError, match="sigma 0"):
        local_contrast_normalize(image, 0)


def test_the_published_local_contrast_is_that_of_scipy_on_photographs():
    image = whiten_image(torch.from_numpy(load_sample_image("china.jpg")[:200, :240].mean(-1) / 255))
    u = np.linspace(-1, 1, 13)
    window = np.exp(-(u[:, None] ** 2 + u**2) / 0.5)  # as the published code writes it
    window /= window.sum()

    def local(values, weight):
        return ndimage.convolve(values, window, mode="constant") / weight

    def published(x, weight):
        v = x - local(x, weight)
        sigma = np.sqrt(local(v**2, weight))
        return v, sigma, v / np.maximum(sigma, sigma.mean())

    out = subtract_and_divide_contrast(image[None])[0].numpy()
    weight = ndimage.convolve(np.ones(image.shape), window, mode="constant")
    np.testing.assert_allclose(out, published(image.numpy(), weight)[2], atol=1e-9)
    # with zeros outside, as published, it is the same inside, but for the floor
    v, sigma, _ = published(image.numpy(), 1.0)
    inside = np.s_[12:-12, 12:-12]
    floor = published(image.numpy(), weight)[1].mean()
    np.testing.assert_allclose(out[inside], (v / np.maximum(sigma, floor))[inside], atol=1e-9)
    assert abs(floor / sigma.mean() - 1) < 0.05


def test_the_variance_of_natural_patches_is_the_documented_one():
    root = os.environ.get("ITERVAE_DATA")
    if not root or not (Path(root) / "bsds_gray.npz").is_file():
        pytest.skip("needs bsds_gray.npz in the folder named by ITERVAE_DATA")
    settings = DataSettings(data="images", data_path=Path(root) / "bsds_gray.npz", data_key="val")
    source = load_source(settings, 0)
    x = torch.cat([source.batch(index, 5000) for index in range(10)])
    variance = x.square().mean(1)
    assert abs(variance.mean() - 0.94) < 0.03 + 4 * variance.std() / len(x) ** 0.5
