"""Files as inputs to a trained run: rows as they are, images prepared and tiled, everything else
refused by shape."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from itervae.data import DataSettings, Preparation, load_source
from itervae.data.images import to_grey
from itervae.data.whitening import standardize_image, whiten_image
from itervae.errors import InputError

PHOTOS = DataSettings()


def load_inputs(path, key, settings, shape, kind=None, fitted=None):
    return Preparation(settings, shape, fitted or {})(path, kind, key)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(tmp_path, array, name="x.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


def tiles(image, size):
    """Patches by slicing, row by row, each minus its mean."""
    corners = [
        (r, c) for r in range(0, image.shape[0] - size + 1, size) for c in range(0, image.shape[1] - size + 1, size)
    ]
    patches = torch.stack([image[r : r + size, c : c + size].flatten() for r, c in corners])
    return patches - patches.mean(1, keepdim=True), corners


def test_rows_are_taken_as_they_are(tmp_path):
    rows = np.random.default_rng(0).normal(size=(5, 256))
    for array in (rows, rows.reshape(5, 16, 16)):
        inputs = load_inputs(saved(tmp_path, array), None, PHOTOS, (16, 16))
        assert inputs.positions is None
        torch.testing.assert_close(inputs.x, torch.from_numpy(rows).float())
    np.savez(tmp_path / "x.npz", a=rows, b=rows + 1)
    inputs = load_inputs(tmp_path / "x.npz", "b", DataSettings(data="array", data_path=tmp_path), (256,))
    torch.testing.assert_close(inputs.x, torch.from_numpy(rows + 1).float())


@pytest.mark.parametrize("whiten", [True, False])
def test_a_stack_of_images_is_prepared_and_tiled(tmp_path, whiten):
    stack = noise(3, 40, 50)
    settings = DataSettings(whiten=whiten)
    inputs = load_inputs(saved(tmp_path, stack), None, settings, (16, 16))
    prepare = whiten_image if whiten else standardize_image
    expected, positions = [], []
    for number, image in enumerate(stack):
        patches, corners = tiles(prepare(to_grey(image)), 16)
        expected.append(patches)
        positions += [[number, row, column] for row, column in corners]
    torch.testing.assert_close(inputs.x, torch.cat(expected), atol=1e-5, rtol=1e-4)
    assert inputs.positions.tolist() == positions
    assert inputs.positions.dtype == torch.int64


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (1, 40, 50, 3)])
def test_single_and_colour_images_are_tiled(tmp_path, shape):
    array = noise(*shape)
    inputs = load_inputs(saved(tmp_path, array), None, PHOTOS, (16, 16), "images" if len(shape) == 2 else None)
    assert (
        "was taken for 1 picture of 40x50 pixels, prepared as those of the run, in 6 patches of 16x16" in inputs.taken
    )
    expected, _ = tiles(whiten_image(to_grey(array[0] if len(shape) == 4 else array)), 16)
    torch.testing.assert_close(inputs.x, expected, atol=1e-5, rtol=1e-4)


def test_pictures_are_tiled_with_their_number_in_the_folder(tmp_path):
    for index, name in enumerate("abc"):
        Image.fromarray(noise(32, 32 + 16 * index, seed=index)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(tmp_path / "b.png")
    with pytest.warns(UserWarning, match=r"1 constant images left out: .*b\.png"):
        inputs = load_inputs(tmp_path, None, PHOTOS, (16, 16))
    assert inputs.positions[:, 0].tolist() == [0] * 4 + [2] * 8
    one = load_inputs(tmp_path / "c.png", None, PHOTOS, (16, 16))
    torch.testing.assert_close(inputs.x[4:], one.x)
    assert one.positions[:, 0].unique().tolist() == [0]


@pytest.mark.parametrize(
    ("data", "array", "shape", "message"),
    [
        ("photos", noise(5, 255), (16, 16), r"has shape \(5, 255\)"),
        ("photos", noise(5, 7), (16, 16), r"has shape \(5, 7\), but this run takes \(N, 256\) or \(N, 16, 16\); resh"),
        ("photos", noise(2, 12, 40), (16, 16), r"has shape \(2, 12, 40\)"),
        ("photos", np.zeros(256), (16, 16), r"has shape \(256,\)"),
        ("photos", np.zeros((0, 256)), (16, 16), "is empty"),
        ("photos", np.full((2, 256), np.nan), (16, 16), "holds nan"),
        ("photos", noise(2, 40, 40).astype(float), (16, 16), "but intensities lie in"),
        ("mnist", noise(3, 28, 28), (28, 28), r"from 0 to 255, but this run takes intensities in \[0, 1\]"),
        ("mnist", noise(3, 40, 40), (28, 28), r"has shape \(3, 40, 40\), .* \(N, 784\) or \(N, 28, 28\); reshape"),
        ("array", noise(3, 40), (7,), r"has shape \(3, 40\), but this run takes \(N, 7\); reshape"),
    ],
)
def test_shapes_that_fit_nothing_are_refused(tmp_path, data, array, shape, message):
    settings = DataSettings(data=data)
    with pytest.raises(InputError, match=message):
        load_inputs(saved(tmp_path, array), None, settings, shape)


def test_mnist_takes_intensities(tmp_path):
    digits = noise(3, 28, 28) / 255
    inputs = load_inputs(saved(tmp_path, digits), None, DataSettings(data="mnist"), (28, 28))
    torch.testing.assert_close(inputs.x, torch.from_numpy(digits).float().flatten(1))


def test_files_that_fit_nothing_are_refused(tmp_path):
    Image.fromarray(noise(28, 28)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x.png is no file of an array .*, but this run takes arrays \(N, 784\)"):
        load_inputs(tmp_path / "x.png", None, DataSettings(data="mnist"), (28, 28))
    with pytest.raises(InputError, match="gone does not exist"):
        load_inputs(tmp_path / "gone", None, PHOTOS, (16, 16))
    with pytest.raises(InputError, match="has 28x28 pixels, less than a patch of 32x32"):
        load_inputs(tmp_path / "x.png", None, PHOTOS, (32, 32))


def test_two_dimensions_are_rows_and_never_a_picture(tmp_path):
    """Digits, counts, or the atoms of another program, all within [0, 1] and larger than a
    patch."""
    for shape in ((1000, 784), (300, 80), (64, 500)):
        rows = np.random.default_rng(0).random(shape)
        with pytest.raises(InputError, match=r"or, if it is one picture, take it as images \(`as=images`\)"):
            load_inputs(saved(tmp_path, rows), None, PHOTOS, (16, 16))
    for settings in (PHOTOS, DataSettings(data="array")):
        with pytest.raises(InputError, match=r"has shape \(256, 40\).*; transpose it"):
            load_inputs(saved(tmp_path, np.zeros((256, 40))), None, settings, (16, 16))
    found = load_inputs(saved(tmp_path, np.zeros((40, 256))), None, PHOTOS, (16, 16))
    assert found.taken.endswith("x.npy was taken for 40 rows of 256 values, as they are")
    with pytest.raises(InputError, match="this run takes arrays"):
        load_inputs(saved(tmp_path, np.zeros((40, 50))), None, DataSettings(data="array"), (50,), "images")


VIDEO = DataSettings(data="video", patch_size=8, frames=4)


def film(frames=12, seed=0):
    """Texture that moves by a pixel a frame."""
    scene = np.random.default_rng(seed).integers(40, 200, (24, 24 + frames), dtype=np.uint8)
    return np.stack([scene[:, time : time + 24] for time in range(frames)])


def test_film_is_prepared_with_the_scale_of_the_run(tmp_path):
    """Its patches are those that the run was trained and validated on, whatever else lies beside
    the clip."""
    np.savez(tmp_path / "clips.npz", a=film(), b=film(seed=1), c=3 * (film(seed=2) // 4))
    source = load_source(replace(VIDEO, data_path=tmp_path / "clips.npz", val_sequences="b"), 0)
    assert set(source.fitted) == {"scale"}
    inputs = Preparation(VIDEO, (8, 8), source.fitted)(film(seed=1))
    assert inputs.scenes == (0,)
    assert inputs.x.shape == (12 * 9, 64)
    tubes = inputs.sequences()
    assert tubes.shape == (9, 12, 64)
    torch.testing.assert_close(tubes[4, 5], inputs.x[5 * 9 + 4])
    for tube in source.sequences(5)["b"]:  # each frame of it at some place of the frame: here by its own cutting
        assert tube.shape == (4, 64)
    pool = source.held["b"]
    whole = pool.window(*(torch.tensor([value]) for value in (0, 0, 8, 8)), 12)[0]
    torch.testing.assert_close(whole, tubes[4])
    for name in ("x.npy", "x.npz"):
        (np.save if name.endswith("npy") else np.savez)(tmp_path / name, film(seed=1))
        torch.testing.assert_close(load_inputs(tmp_path / name, None, VIDEO, (8, 8), fitted=source.fitted).x, inputs.x)


def test_the_scale_of_a_run_is_used_for_other_clips_all_of_which_can_be_held_out(tmp_path):
    np.savez(tmp_path / "clips.npz", a=film(), b=film(seed=1))
    np.savez(tmp_path / "other.npz", d=film(seed=3), e=film(seed=4) // 8 + 90)
    own = load_source(replace(VIDEO, data_path=tmp_path / "clips.npz", val_sequences="b"), 0)
    other = replace(VIDEO, data_path=tmp_path / "other.npz")
    found = {}
    for held in ("all", "d", "e"):
        source = load_source(replace(other, val_sequences=held), 0, "cpu", own.fitted)
        assert source.fitted == own.fitted
        for name, pool in source.held.items():
            tube = pool.window(*(torch.tensor([value]) for value in (0, 0, 3, 5)), 12)
            torch.testing.assert_close(found.setdefault(name, tube), tube, rtol=0, atol=0)
    assert set(found) == {"d", "e"}
    everything = load_source(replace(other, val_sequences="all"), 0, "cpu", own.fitted)
    assert everything.describe()["train_sequences"] == 0
    assert everything.held_share == 1
    with pytest.raises(InputError, match="is held out, and nothing is left to train on"):
        everything.batch(0, 3)
    with pytest.raises(
        InputError, match="all sequences are held out, and the scale of whitening is fitted on the other"
    ):
        load_source(replace(other, val_sequences="all"), 0)


def test_pictures_of_sixteen_bits_take_the_white_level_of_the_run(tmp_path):
    stack = np.random.default_rng(0).integers(0, 4000, (3, 40, 40)).astype(np.uint16)
    np.save(tmp_path / "train.npy", stack)
    fitted = load_source(DataSettings(data="images", data_path=tmp_path / "train.npy"), 0).fitted
    assert fitted == {"white": 4095}
    dark = stack // 8
    found = load_inputs(saved(tmp_path, dark), None, PHOTOS, (16, 16), fitted=fitted)
    expected = [tiles(whiten_image(torch.from_numpy(image / 4095).float()), 16)[0] for image in dark]
    torch.testing.assert_close(found.x, torch.cat(expected), atol=1e-4, rtol=1e-3)


def test_a_large_array_is_read_by_the_batch(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 12))
    monkeypatch.setattr("itervae.data.arrays.SMALL", 100)
    found = load_inputs(saved(tmp_path, rows), None, DataSettings(data="array"), (12,))
    assert not isinstance(found.x, torch.Tensor)
    torch.testing.assert_close(found.x[7:19], torch.from_numpy(rows[7:19]).float())
    assert len(found.x) == 50
