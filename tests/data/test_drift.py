"""Drifting windows: motion with the stated statistics, the right pixels, nothing shared with
validation."""

import numpy as np
import pytest
import torch

from itervae.data.drift import FINE, DriftPool, drift_source, gaze, interpolate_image
from itervae.data.pixels import Pixels
from itervae.errors import InputError


@pytest.mark.parametrize("shape", [(12, 16), (11, 15), (12, 15)])
def test_interpolation_is_exact_for_waves_and_keeps_the_pixels(shape):
    def wave(row, column):
        phase = 2 * np.pi * (2 * row[:, None] / shape[0] + 3 * column / shape[1])
        return torch.from_numpy(np.cos(phase + 0.7) + 0.5)

    fine = interpolate_image(wave(np.arange(shape[0]), np.arange(shape[1])), 4)
    torch.testing.assert_close(fine, wave(np.arange(4 * shape[0]) / 4, np.arange(4 * shape[1]) / 4))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(interpolate_image(noise, 4)[::4, ::4], noise)


def test_drift_is_brownian():
    size = np.full((20_000, 2), 1e6)  # borders are out of reach
    x = gaze(np.random.default_rng(0), size, 5, drift=0.5, saccades=0.0)
    for t in (1, 2, 4):
        moved = x[:, t] - x[:, 0]
        assert np.abs(moved.mean(0)).max() < 4 * 0.5 * (t / 20_000) ** 0.5
        assert moved.var() == pytest.approx(0.25 * t, rel=4 * (2 / 40_000) ** 0.5)


def test_saccades_are_a_poisson_process():
    size = np.full((20_000, 2), 1e6)
    x = gaze(np.random.default_rng(0), size, 6, drift=0.0, saccades=0.3)
    jumped = (np.abs(np.diff(x, axis=1)) > 1e-3).any(2)  # mirrors round
    share = 1 - np.exp(-0.3)
    assert jumped.mean() == pytest.approx(share, abs=4 * (share * (1 - share) / jumped.size) ** 0.5)
    assert np.corrcoef(jumped[:, 0], jumped[:, 1])[0, 1] == pytest.approx(0, abs=4 / 20_000**0.5)


def test_the_gaze_stays_inside_and_is_uniform():
    size = np.tile([3.0, 0.0], (20_000, 1))
    x = gaze(np.random.default_rng(0), size, 30, drift=2.0, saccades=0.0)
    assert 0 <= x.min() <= x.max() <= 3
    assert (x[..., 1] == 0).all()  # a region as wide as the patch leaves no room
    counts = np.histogram(x[:, -1, 0], bins=6, range=(0, 3))[0]
    assert np.abs(counts - 20_000 / 6).max() < 4 * (20_000 / 6) ** 0.5


def test_windows_show_the_region_they_stand_on():
    # Pixel values tell the place: row + 1000 · column of the fine grid, for two regions of
    # different size.
    regions = [
        torch.arange(FINE * h)[:, None] + 1000.0 * torch.arange(FINE * w) + 1e6 * n
        for n, (h, w) in enumerate(((9, 7), (6, 12)))
    ]
    pixels = Pixels(torch.cat([region.flatten() for region in regions]), 1.0)
    pool = DriftPool(pixels, [tuple(region.shape) for region in regions], 5, 4)
    assert pool.positions == 6 * 4 + 3 * 9
    tubes = pool.cut(pool.draw(np.random.default_rng(0), 300))
    assert tubes.shape == (300, 5, 16)
    side = FINE * (torch.arange(4.0) - 1.5)
    expected = (side[:, None] + 1000 * side).flatten()  # minus the mean every place looks alike
    torch.testing.assert_close(tubes, expected.expand(300, 5, 16), atol=1.0, rtol=0)  # 2e6 in float32


def test_batches_depend_only_on_seed_and_index_and_show_motion():
    source = drift_source(0)
    x = source.batch(3, 200)
    assert x.shape == (200, 16, 256)
    assert source.validation.shape == (500, 16, 256)
    assert source.held_share == pytest.approx(0.2, abs=0.05)
    assert torch.equal(drift_source(0).batch(3, 200), x)
    assert torch.equal(drift_source(1).validation, source.validation)
    assert not torch.equal(drift_source(1).batch(3, 200), x)
    assert not torch.equal(source.batch(4, 200), x)
    assert x.mean(2).abs().max() < 1e-5
    centred = x.flatten(0, 1).square().mean()
    assert 0.5 < centred < 1.5  # photographs of unit variance
    near, far = ((x[:, lag:] * x[:, : 16 - lag]).mean() / centred for lag in (1, 15))
    assert near > 0.5 > far


def test_what_leaves_no_room_is_refused():
    with pytest.raises(InputError, match=r"share of 0\.001"):
        drift_source(0, val_share=0.001)
    with pytest.raises(InputError, match="tubes of 0 frames"):
        drift_source(0, frames=0)
