"""Images as training data: what is held out shares no pixel with training, and everything is
prepared as asked."""

import numpy as np
import pytest
import torch
from PIL import Image

from itervae.data import DataSettings, load_source
from itervae.data.images import read_images
from itervae.data.photographs import prepare_images
from itervae.data.whitening import CONTRAST_RULES, standardize_image, whiten_image
from itervae.errors import InputError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def image_settings(path, **given):
    return DataSettings(data="images", data_path=path, **given)


def square(x, size=16):
    return x.view(-1, size, size)


@pytest.fixture(scope="module")
def photos():
    return load_source(DataSettings(), 0)


def test_photos_need_nothing_and_are_white(photos):
    assert (photos.name, photos.shape, photos.dim, photos.binary) == ("photos", (16, 16), 256, False)
    assert photos.labels is None
    assert photos.validation.shape == (2000, 256)
    x = photos.batch(0, 4000)
    assert x.dtype == torch.float32
    assert x.mean(1).abs().max() < 1e-5
    assert 0.7 < x.square().mean() < 1.3  # the regions of two photographs differ
    # Nearest neighbours of the raw photographs correlate by more than .9.
    patches = square(x)
    correlation = (patches[:, :, 1:] * patches[:, :, :-1]).mean() / patches.square().mean()
    assert correlation < 0.6


def test_photos_give_validation_a_band_of_columns(monkeypatch):
    # In columns 120 to 159 the intensity depends on the column only, elsewhere on the row only.
    height, width = 60, 200
    picture = np.broadcast_to(np.arange(height)[:, None], (height, width)).copy()
    picture[:, 120:160] = np.arange(40) * 3 + 100
    colour = np.repeat(picture[..., None], 3, 2).astype(np.uint8)
    pictures = type("Bunch", (), {"images": [colour, colour[::-1]]})
    monkeypatch.setattr("sklearn.datasets.load_sample_images", lambda: pictures)
    source = load_source(DataSettings(whiten=False), 0)
    train, validation = square(source.batch(0, 5000)), square(source.validation)
    assert (train - train[:, :, :1]).abs().max() == 0
    assert (validation - validation[:, :1]).abs().max() == 0
    assert train.var((1, 2)).min() > 0
    assert validation.var((1, 2)).min() > 0
    assert source.pool.positions == 2 * (120 - 15 + 40 - 15) * 45
    assert source.held_positions == 2 * (40 - 15) * 45


def test_a_single_image_is_divided_by_columns(tmp_path):
    # The intensity is the square of the column, so the first step of a patch tells which column it
    # starts at.
    width = 200
    image = np.broadcast_to((np.arange(width) / width) ** 2, (40, width))
    np.save(tmp_path / "x.npy", image)
    source = load_source(image_settings(tmp_path / "x.npy", whiten=False, val_share=0.3), 0)

    def first_column(x):
        step = (square(x)[:, 0, 1] - square(x)[:, 0, 0]).double() * image.std() * width**2
        return ((step - 1) / 2).round().long()

    train, validation = first_column(source.batch(0, 5000)), first_column(source.validation)
    assert sorted(set(train.tolist())) == [*range(0, 120 - 15), *range(180, 200 - 15)]
    assert sorted(set(validation.tolist())) == list(range(120, 180 - 15))


def test_several_images_are_held_out_whole(tmp_path):
    # Image i repeats itself every i + 2 columns: each patch tells which image it is from.
    stack = np.stack([np.broadcast_to(np.arange(60) % (i + 2) == 0, (40, 60)) for i in range(10)])
    np.save(tmp_path / "x.npy", stack.astype(np.uint8))
    settings = image_settings(tmp_path / "x.npy", whiten=False, patch_size=24)
    source = load_source(settings, 0)

    def periods(x):
        line = square(x, 24)[:, 0]
        repeats = torch.stack([(line[:, p:] - line[:, :-p]).abs().amax(1) < 1e-5 for p in range(2, 12)], 1)
        return set((repeats.int().argmax(1) + 2).tolist())

    train, validation = periods(source.batch(0, 5000)), periods(source.validation)
    assert len(validation) == 2
    assert not train & validation
    assert train | validation == set(range(2, 12))
    assert torch.equal(load_source(settings, 7).validation, source.validation)
    assert not torch.equal(load_source(settings, 7).batch(0, 50), source.batch(0, 50))


def test_a_named_validation_set_is_used(tmp_path):
    np.savez(tmp_path / "x.npz", t=noise(3, 40, 40), v=noise(2, 30, 30, seed=1))
    np.save(tmp_path / "t.npy", np.load(tmp_path / "x.npz")["t"])
    np.save(tmp_path / "v.npy", np.load(tmp_path / "x.npz")["v"])
    by_key = load_source(image_settings(tmp_path / "x.npz", data_key="t", val_key="v"), 0)
    by_path = load_source(image_settings(tmp_path / "t.npy", val_path=tmp_path / "v.npy"), 0)
    assert torch.equal(by_key.validation, by_path.validation)
    assert torch.equal(by_key.batch(0, 9), by_path.batch(0, 9))
    facts = by_key.describe()
    assert (facts["train_areas"], facts["validation_areas"]) == (3, 2)
    assert facts["content"] == by_path.describe()["content"] != facts["validation_content"]
    with pytest.raises(InputError, match="holds the training images themselves"):
        load_source(image_settings(tmp_path / "x.npz", data_key="t", val_path=tmp_path / "t.npy"), 0)


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("rule", [None, *CONTRAST_RULES])
def test_images_are_prepared_one_by_one_as_asked(whiten, rule, monkeypatch, tmp_path):
    monkeypatch.setattr("itervae.data.photographs.CHUNK_PIXELS", 2 * 20 * 24)
    for number, height in enumerate((20, 20, 20, 30, 20)):  # another size in between
        Image.fromarray(noise(height, 24, seed=number)).save(tmp_path / f"{number}.png")
    images = read_images(tmp_path, None, 16)
    contrast = {"local_contrast": True, "contrast_rule": rule} if rule else {}
    settings = DataSettings(whiten=whiten, **contrast)
    prepared = list(prepare_images(images, settings, [4, 0, 3, 2, 1]))
    for index, image in zip([4, 0, 3, 2, 1], prepared, strict=True):
        expected = whiten_image(images.grey(index)) if whiten else standardize_image(images.grey(index))
        if rule:
            expected = standardize_image(CONTRAST_RULES[rule](expected))
        torch.testing.assert_close(image, expected, atol=1e-5, rtol=1e-4)
        assert image.square().mean().item() == pytest.approx(1, rel=1e-5)


def test_settings_reach_the_patches(tmp_path):
    np.save(tmp_path / "x.npy", noise(4, 40, 40))
    contrast = {"local_contrast": True}
    given = [{}, {"whiten": False}, contrast, {**contrast, "contrast_rule": "published"}, {"patch_size": 8}]
    batches = [load_source(image_settings(tmp_path / "x.npy", **more), 0).batch(0, 20) for more in given]
    assert [batch.shape[1] for batch in batches] == [256, 256, 256, 256, 64]
    assert not torch.allclose(batches[0], batches[1])
    assert not torch.allclose(batches[0], batches[2])
    assert not torch.allclose(batches[2], batches[3])


def test_constant_images_are_dropped_before_the_division(tmp_path):
    np.save(tmp_path / "x.npy", np.stack([noise(40, 200), np.zeros((40, 200), np.uint8)]))
    with pytest.warns(UserWarning, match="1 constant images left out"):
        source = load_source(image_settings(tmp_path / "x.npy"), 0)
    assert source.describe()["constant_images"] == 1
    assert source.held_positions == (40 - 15) * 25  # by columns: one image is left


def test_regions_too_narrow_for_a_patch_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", noise(40, 60))
    with pytest.raises(InputError, match="divides an image of 40x60 into 48 and 12 columns, and patches need 16"):
        load_source(image_settings(tmp_path / "x.npy"), 0)


def test_photos_have_no_test_set(photos):
    with pytest.raises(InputError, match="`data=photos` has no test set"):
        photos.load_test()
