"""Reading pictures: every format and depth to the same grey, and a clear word for what cannot be
read."""

import numpy as np
import pytest
import torch
from PIL import Image

from itervae.data.images import images_from_array, read_images, to_grey
from itervae.errors import InputError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*which becomes grey", "ignore:16-bit pictures whose", "ignore:left out"
)  # what is said is tested in test_pictures.py and test_folders.py


def picture(height=20, width=24, seed=0, channels=()):
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def wide(values):
    """The same intensities at 16 bits: 255·257 = 65535."""
    return values.astype(np.uint16) * 257


def read_one(path, patch_size=16):
    images = read_images(path, None, patch_size)
    assert len(images) == 1
    return images.grey(0)


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "bmp", "gif", "pgm", "PNG"])
def test_lossless_formats_give_the_same_grey(tmp_path, suffix):
    values = picture()
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    grey = read_one(tmp_path / f"x.{suffix}")
    assert grey.dtype == torch.float32
    torch.testing.assert_close(grey, torch.from_numpy(values / 255).float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_formats_are_read(tmp_path, suffix):
    smooth = np.add.outer(np.arange(0, 100, 5), np.arange(0, 120, 5)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / f"x.{suffix}", quality=95)
    torch.testing.assert_close(
        read_one(tmp_path / f"x.{suffix}"), torch.from_numpy(smooth / 255).float(), atol=0.03, rtol=0
    )


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_8_and_16_bits_are_equal(tmp_path, suffix):
    values = picture()
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    Image.fromarray(wide(values)).save(tmp_path / f"b.{suffix}")
    assert torch.equal(read_one(tmp_path / f"a.{suffix}"), read_one(tmp_path / f"b.{suffix}"))
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", wide(values).astype(">u2"))
    assert torch.equal(read_one(tmp_path / "a.npy"), read_one(tmp_path / "b.npy"))


def test_colour_becomes_rec_601_luma(tmp_path):
    values = picture(channels=(3,))
    expected = torch.from_numpy(values / 255 @ np.array([0.299, 0.587, 0.114])).float()
    Image.fromarray(values).save(tmp_path / "rgb.png")
    np.save(tmp_path / "rgb.npy", values / 255)
    for name in ("rgb.png", "rgb.npy"):
        torch.testing.assert_close(read_one(tmp_path / name), expected, atol=1e-6, rtol=0)


def test_float_tiff_palette_and_bilevel(tmp_path):
    values = picture()
    Image.fromarray((values / 255).astype(np.float32)).save(tmp_path / "f.tif")
    torch.testing.assert_close(read_one(tmp_path / "f.tif"), torch.from_numpy(values / 255).float())
    Image.fromarray(values > 127).save(tmp_path / "b.png")
    assert torch.equal(read_one(tmp_path / "b.png"), torch.from_numpy(values > 127).float())
    Image.fromarray((values / 25).astype(np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(InputError, match=r"f.tif \(it holds floats from 0 to 10.2"):
        read_one(tmp_path / "f.tif")


def test_van_hateren_files_are_big_endian_rows_without_header(tmp_path):
    values = np.arange(1024 * 1536, dtype=np.int64).reshape(1024, 1536) % 4000
    values.astype(">u2").tofile(tmp_path / "imk00001.iml")
    grey = read_one(tmp_path / "imk00001.iml")
    torch.testing.assert_close(grey, torch.from_numpy(values / 3999).float())
    (tmp_path / "short.iml").write_bytes(b"12")
    with pytest.raises(InputError, match=r"2 bytes, where a \.iml file has 3145728"):
        read_one(tmp_path / "short.iml")


@pytest.mark.parametrize(
    ("shape", "count", "size"),
    [((5, 18, 20), 5, (18, 20)), ((4, 18, 20, 3), 4, (18, 20)), ((18, 20), 1, (18, 20)), ((18, 20, 3), 1, (18, 20))],
)
def test_stacks_and_single_images(shape, count, size):
    images = images_from_array(np.random.default_rng(0).random(shape), "x", 16)
    assert images.sizes() == [size] * count
    assert images.grey(0).shape == size


def test_a_folder_is_read_sorted_and_nested_without_hidden_files(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".cache").mkdir()
    for seed, name in enumerate(["b/2.png", "a.png", "c.jpg", ".cache/x.png", "._c.jpg"]):
        Image.fromarray(picture(seed=seed, width=20 + seed)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    images = read_images(tmp_path, None, 16)
    assert [width for _, width in images.sizes()] == [21, 20, 22]
    assert [image.number for image in images.images] == [0, 1, 2]
    assert images.skipped == 0


def test_unreadable_pictures_are_skipped_with_a_count(tmp_path):
    for seed, name in enumerate("abc"):
        Image.fromarray(picture(seed=seed)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"1 of 3 pictures skipped: .*a\.png"):
        images = read_images(tmp_path, None, 16)
    assert (len(images), images.skipped, [image.number for image in images.images]) == (2, 1, [1, 2])
    torch.testing.assert_close(images.grey(0), to_grey(picture(seed=1)))
    for name in "bc":
        (tmp_path / f"{name}.png").write_text("no picture")
    with pytest.raises(InputError, match=r"no picture could be read: .*a\.png"):
        read_images(tmp_path, None, 16)


def test_constant_images_are_left_out_with_a_count():
    stack = np.stack([picture(channels=(3,)), np.full((20, 24, 3), 200, np.uint8), picture(seed=1, channels=(3,))])
    with pytest.warns(UserWarning, match="1 constant images left out: image 1 of x"):
        images = images_from_array(stack, "x", 16)
    assert (len(images), images.constant, [image.number for image in images.images]) == (2, 1, [0, 2])
    with pytest.raises(InputError, match="image 0 of x is constant, and so is every other"):
        images_from_array(stack[1:2], "x", 16)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 20, 20), np.nan), r"image 0 of .* holds nan at row 0, column 0, no finite number"),
        (np.random.default_rng(0).random((2, 20, 20)) * 255, "but intensities lie in .* divide by"),
        (np.random.default_rng(0).random((2, 20, 20)) - 0.5, "but intensities lie in"),
        (np.ones((2, 20, 20), np.int64), "holds int64 values"),
        (np.full((2, 20, 20), 1e39), r"floats from 1e\+39 to 1e\+39, the one farthest out at row 0, column 0, but"),
        (np.zeros((2, 3, 20, 20)), r"has shape \(2, 3, 20, 20\); images are"),
        (np.zeros(20), r"has shape \(20,\)"),
        (np.zeros((0, 20, 20)), "is empty"),
        (picture(12, 40), "image 0 of .* has 12x40 pixels, less than a patch of 16x16"),
        (np.array([["a"]]), "holds values of type"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=message):
        read_images(tmp_path / "x.npy", None, 16)


def test_paths_and_keys_that_do_not_fit_are_refused(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "x.png")
    Image.fromarray(picture(10, 10)).save(tmp_path / "small.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("")
    np.savez_compressed(tmp_path / "x.npz", a=picture(), b=picture(seed=1))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:300])
    for name, key, message in [
        ("gone", None, "gone does not exist"),
        ("gone.npz", None, "gone.npz is not a file"),
        ("x.txt", None, "has the suffix '.txt'"),
        ("empty", None, "empty holds no picture"),
        ("x.png", "a", "the key 'a' does not apply"),
        ("empty", "a", "the key 'a' does not apply"),
        ("small.png", None, r"small.png has 10x10 pixels, less than a patch of 16x16"),
        ("x.npz", None, "holds the arrays a, b"),
        ("x.npz", "c", "has no array 'c'; it holds a, b"),
        ("cut.npz", "a", "cut.npz cannot be read"),
    ]:
        with pytest.raises(InputError, match=message):
            read_images(tmp_path / name, key, 16)
