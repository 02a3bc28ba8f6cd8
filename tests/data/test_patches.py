"""Cutting patches: the right pixels, every position equally likely, nothing without variance."""

import numpy as np
import pytest
import torch

from itervae.data.patches import PatchPool, PatchSource, tile_image
from itervae.data.pixels import Pixels
from itervae.data.pools import MIN_VARIANCE
from itervae.errors import InputError


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pool(*images, size=4):
    pixels = Pixels(torch.cat([image.flatten() for image in images]), 1.0)
    return PatchPool(pixels, [tuple(image.shape) for image in images], size)


def patch_source(seed=0, images=None, **settings):
    images = [noise(30, 40), noise(20, 25, seed=1)] if images is None else images
    return PatchSource("images", pool(*images), pool(noise(20, 20, seed=2)), seed, **settings)


def test_every_position_of_images_of_different_size_is_cut_once():
    images = [noise(5, 9), noise(4, 4, seed=1), noise(7, 6, seed=2)]
    patches = pool(*images)
    positions = torch.arange(patches.positions)
    image, row, column = patches.locate(positions)
    expected = [(i, r, c) for i, p in enumerate(images) for r in range(p.shape[0] - 3) for c in range(p.shape[1] - 3)]
    assert list(zip(image.tolist(), row.tolist(), column.tolist(), strict=True)) == expected
    for (i, r, c), patch in zip(expected, patches.cut(positions), strict=True):
        original = images[i][r : r + 4, c : c + 4].flatten()
        torch.testing.assert_close(patch, original - original.mean())


def test_positions_are_equally_likely():
    patches = pool(noise(5, 9), noise(8, 8, seed=1))  # 2·6 + 5·5 positions
    counts = np.zeros(patches.positions)
    signature = {tuple(patch.tolist()): i for i, patch in enumerate(patches.cut(torch.arange(patches.positions)))}
    drawn, _ = patches.sample(np.random.default_rng(0), 20_000)
    for patch in drawn.tolist():
        counts[signature[tuple(patch)]] += 1
    expected = 20_000 / patches.positions
    assert np.abs(counts - expected).max() < 5 * expected**0.5


def test_a_batch_depends_only_on_seed_index_and_size():
    expected = [patch_source().batch(index, 50) for index in range(6)]
    other = patch_source()
    for index in (5, 0, 3, 3, 1):
        assert torch.equal(other.batch(index, 50), expected[index])
    assert not torch.equal(expected[0], expected[1])
    assert not torch.equal(patch_source(seed=1).batch(0, 50), expected[0])


def test_patches_have_mean_zero_and_the_declared_shape():
    source = patch_source(validation_patches=70)
    assert source.shape == (4, 4)
    assert source.dim == 16
    assert source.batch(0, 9).shape == (9, 16)
    assert source.validation.shape == (70, 16)
    for x in (source.batch(0, 500), source.validation):
        assert x.dtype == torch.float32
        assert x.mean(1).abs().max() < 1e-6
    assert patch_source().validation.shape == (2000, 16)


def test_validation_is_the_same_for_every_seed():
    assert torch.equal(patch_source(seed=0).validation, patch_source(seed=5).validation)


def test_patches_that_are_cut_once_are_all_seen_in_every_epoch():
    """The same ones for every seed, each at a position of the images, in an order of its own; a
    batch is what processes make of it, and straddles epochs."""
    images = [noise(9, 11), noise(8, 8, seed=1)]
    source = patch_source(0, images, patches=60)
    epochs = [torch.cat([source.batch(index, 20) for index in range(first, first + 3)]) for first in (0, 3)]
    sets = [{tuple(patch) for patch in epoch.tolist()} for epoch in epochs]
    assert sets[0] == sets[1]
    assert not torch.equal(*epochs)
    drawn = pool(*images)
    assert sets[0] <= {tuple(patch) for patch in drawn.cut(torch.arange(drawn.positions)).tolist()}
    other = patch_source(1, images, patches=60)
    whole = other.batch(1, 40)
    seen = torch.cat([other.batch(0, 40), whole[:20]])
    assert {tuple(patch) for patch in seen.tolist()} == sets[0]
    assert not torch.equal(seen, epochs[0])
    assert torch.equal(torch.cat([other.batch(1, 40, slice(0, 13)), other.batch(1, 40, slice(13, 40))]), whole)
    assert other.describe()["train_patches"] == 60
    assert "train_patches" not in patch_source().describe()


def test_patches_without_variance_are_drawn_again_and_counted():
    image = noise(40, 83)
    image[:, :40] = 0.7  # 37 of 80 columns of corners see only this
    image[:, :40] += torch.arange(40) * 1e-7  # rounding does not make it a datum
    source = patch_source(images=[image])
    assert source.dropped == 0
    batches = [source.batch(index, 2000) for index in range(5)]
    assert all(batch.square().mean(1).min() >= MIN_VARIANCE for batch in batches)
    share = 37 / 80
    expected, spread = 10_000 * share / (1 - share), (10_000 * share) ** 0.5 / (1 - share)
    assert abs(source.dropped - expected) < 5 * spread
    assert torch.equal(patch_source(images=[image]).batch(3, 2000), batches[3])
    assert source.describe()["dropped_patches"] == source.dropped


def test_images_without_any_patch_are_refused():
    with pytest.raises(InputError, match="hardly any of the 289 patches of side 4"):
        patch_source(images=[torch.full((20, 20), 0.5)])


def test_tiles_cover_the_image_without_overlap():
    image = noise(9, 14)
    patches, corners = tile_image(image, 4)
    assert corners.tolist() == [[0, 0], [0, 4], [0, 8], [4, 0], [4, 4], [4, 8]]
    for patch, (row, column) in zip(patches, corners.tolist(), strict=True):
        original = image[row : row + 4, column : column + 4].flatten()
        torch.testing.assert_close(patch, original - original.mean())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_seed_means_the_same_patches_on_every_device():
    image = noise(40, 83)
    image[:, :40] = 0.7  # some patches are drawn again
    pools = [PatchPool(Pixels(image.flatten().to(device), 1.0), [(40, 83)], 4) for device in ("cpu", "cuda")]
    sources = [PatchSource("images", one, one, 0, device=one.pixels.values.device) for one in pools]
    batches = [source.batch(3, 500) for source in sources]
    assert batches[1].is_cuda
    torch.testing.assert_close(batches[1].cpu(), batches[0])
    assert sources[0].dropped == sources[1].dropped > 0
