"""Files as inputs to a trained run: rows as they are, images prepared and tiled, everything else refused by shape."""

import numpy as np
import pytest
import torch
from PIL import Image

from itervae.data import DataSettings, load_inputs
from itervae.data.images import to_grey
from itervae.data.whitening import standardize_image, whiten_image
from itervae.errors import InputError

PHOTOS = DataSettings()


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
    inputs = load_inputs(saved(tmp_path, array), None, PHOTOS, (16, 16))
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
        ("photos", noise(5, 7), (16, 16), r"has shape \(5, 7\), but this run takes \(N, 256\) or \(N, 16, 16\), or im"),
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
    with pytest.raises(InputError, match=r"x.png is no .npy or .npz file, but this run takes arrays \(N, 784\)"):
        load_inputs(tmp_path / "x.png", None, DataSettings(data="mnist"), (28, 28))
    with pytest.raises(InputError, match="gone does not exist"):
        load_inputs(tmp_path / "gone", None, PHOTOS, (16, 16))
    with pytest.raises(InputError, match="has 28x28 pixels, less than a patch of 32x32"):
        load_inputs(tmp_path / "x.png", None, PHOTOS, (32, 32))
