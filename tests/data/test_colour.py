"""Colour: three channels from pictures to patches, each like grey and all on one scale; ZCA of
patches; and a run that prepares what comes later as its own data."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import inv, sqrtm

import itervae
from itervae import cli
from itervae.data import DataSettings, describe_fitted, fitted_alike, load_source
from itervae.data.images import images_from_array, read_images
from itervae.data.photographs import prepare_images
from itervae.data.source import FITTING, FIXED_SEED, held_out, random_stream
from itervae.data.whitening import standardize_image, whiten_image
from itervae.data.zca import SHRINKAGE, zca_matrix
from itervae.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*becomes grey", "ignore:left out")
FEW = ("--latents", 3, "--updates", 2, "--batch-size", 8, "--steps", 3, "--device", "cpu")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(*shape, seed=0):
    """Pictures in colour whose neighbours, and whose channels, are correlated."""
    values = np.random.default_rng(seed).normal(size=shape).cumsum(-3).cumsum(-2)
    values = values @ np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.1], [0.2, 0.3, 0.7]])
    values -= values.min()
    return np.round(255 * values / values.max()).astype(np.uint8)


def run(*args):
    cli.main([str(arg) for arg in args])


@pytest.fixture
def few_patches(monkeypatch):
    monkeypatch.setattr("itervae.data.patches.FITTING_PATCHES", 3000)
    monkeypatch.setattr("itervae.data.patches.CUT_AT_ONCE", 1000)


@pytest.mark.parametrize("prepare", [whiten_image, standardize_image])
def test_a_grey_picture_in_three_channels_is_the_grey_one_in_each(prepare):
    grey = torch.from_numpy(noise(2, 20, 24) / 255).float()
    found = prepare(grey[:, None].expand(-1, 3, -1, -1), True)
    torch.testing.assert_close(found, prepare(grey)[:, None].expand(-1, 3, -1, -1), atol=1e-6, rtol=0)


def test_one_scale_is_for_all_channels():
    """Each channel has mean 0, the picture variance 1, and contrasts keep their ratio."""
    picture = torch.from_numpy(noise(3, 20, 24) / 255)
    picture[1] = 0.2 + 0.25 * picture[0]
    picture[2] = 0.4  # without contrast of its own
    for prepare in (whiten_image, standardize_image):
        found = prepare(picture, True)
        torch.testing.assert_close(found.mean((-2, -1)), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
        torch.testing.assert_close(found.square().mean(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(found[1], 0.25 * found[0])
    assert found[2].abs().max() < 1e-12
    with pytest.raises(InputError, match="an image is constant"):
        whiten_image(torch.full((2, 3, 9, 9), 0.5), True)


def test_channels_are_red_green_and_blue_and_grey_pictures_have_three(tmp_path):
    colour = noise(20, 24, 3)
    Image.fromarray(colour).save(tmp_path / "a.png")
    Image.fromarray(noise(20, 24)).save(tmp_path / "b.png")
    with pytest.warns(UserWarning, match="1 of 2 pictures are grey, three equal channels in colour"):
        images = read_images(tmp_path, None, 16, colour=True)
    for channel in range(3):
        assert torch.equal(images.intensities(0)[channel], torch.from_numpy(colour[..., channel] / np.float32(255)))
        assert torch.equal(images.intensities(1)[channel], images.grey(1))
    alike = np.full((20, 24, 3), 100, np.uint8)
    alike[:10] = (100, 127, 27)  # of the same luma up to rounding, and not constant in colour
    assert len(images_from_array(alike, "x", 16, colour=True)) == 1


@pytest.mark.parametrize("whiten", [True, False])
def test_patches_are_cut_of_every_place_and_keep_their_colour(tmp_path, whiten):
    sizes = [(20, 24), (17, 30), (20, 24)]
    for number, size in enumerate(sizes):
        Image.fromarray(noise(*size, 3, seed=number)).save(tmp_path / f"{number}.png")
    settings = DataSettings(data="images", data_path=tmp_path, patch_size=12, colour=True, whiten=whiten)
    source = load_source(settings, 0)
    assert (source.shape, source.dim) == ((3, 12, 12), 432)
    (held,) = source.held_pictures()
    prepared = list(prepare_images(read_images(tmp_path, None, 12, colour=True), settings))
    train = [image for image in prepared if not torch.equal(image, held)]
    expected = []
    for image in train:
        _, height, width = image.shape
        for row in range(height - 11):
            for column in range(width - 11):
                patch = image[:, row : row + 12, column : column + 12].flatten()
                expected.append(patch - patch.mean())
    found = source.pool.cut(torch.arange(source.pool.positions))
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-6, rtol=0)
    assert found.mean(1).abs().max() < 1e-6
    assert found.unflatten(1, (3, -1)).mean(2).abs().max() > 0.05  # a channel keeps its mean


def test_the_pool_of_a_single_picture_and_cifar_are_in_colour(tmp_path, monkeypatch):
    np.savez(tmp_path / "cifar10_4000.npz", x=noise(6, 32, 32, 3))
    monkeypatch.setenv("ITERVAE_DATA", str(tmp_path))
    np.save(tmp_path / "one.npy", smooth(30, 90, 3))
    one = load_source(DataSettings(data="images", data_path=tmp_path / "one.npy", patch_size=8, colour=True), 0)
    assert [tuple(held.shape) for held in one.held_pictures()] == [(3, 30, 18)]
    for settings, shape in (
        (DataSettings(data="cifar16", colour=True), (3, 16, 16)),
        (DataSettings(data="images", data_path=tmp_path / "cifar10_4000.npz", data_key="x", colour=True), (3, 16, 16)),
    ):
        source = load_source(settings, 0)
        assert source.shape == shape
        assert source.batch(0, 5).shape == (5, 768)
        assert source.describe()["colour"] is True


def test_sets_of_torchvision_are_in_colour(monkeypatch):
    stack = noise(5, 6, 7, 3)
    pictures = [(Image.fromarray(values), number % 2) for number, values in enumerate(stack)]
    monkeypatch.setattr("itervae.data.torchvision_sets._data_set", lambda *_: pictures)
    with pytest.warns(UserWarning, match="5 pictures of 6x7 pixels, in colour, in"):
        source = load_source(DataSettings(data="torchvision:CIFAR10", colour=True), 0)
    assert source.shape == (3, 6, 7)
    train, _ = held_out(5, 0.2, "pictures")
    assert torch.equal(source.train, torch.from_numpy(stack[train].transpose(0, 3, 1, 2) / np.float32(255)).flatten(1))


def test_zca_is_the_inverse_root_of_the_covariance():
    """An independent computation by scipy; and the whitened covariance is Σ(Σ + εI)⁻¹."""
    x = np.random.default_rng(0).normal(size=(500, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    covariance = x.T @ x / 500
    shrunk = covariance + SHRINKAGE * np.trace(covariance) / 12 * np.eye(12)
    parts = torch.from_numpy(x).float().split(200)
    found = zca_matrix(parts).double().numpy()
    np.testing.assert_allclose(found, inv(sqrtm(shrunk)), rtol=1e-4, atol=1e-5)
    y = x @ found
    np.testing.assert_allclose(y.T @ y / 500, covariance @ inv(shrunk), atol=1e-4)


@pytest.mark.usefixtures("few_patches")
@pytest.mark.parametrize("colour", [True, False])
def test_zca_of_patches_is_fitted_once_and_whitens_validation_too(tmp_path, colour):
    stack = smooth(5, 30, 30, 3)
    np.save(tmp_path / "x.npy", stack)
    settings = DataSettings(data="images", data_path=tmp_path / "x.npy", patch_size=5, colour=colour, whitening="zca")
    source, other = load_source(settings, 0), load_source(settings, 7)
    plain = load_source(replace(settings, whitening="filter", whiten=False), 0)
    zca = source.fitted["zca"]
    assert fitted_alike(source.fitted, other.fitted)  # whatever the seed
    assert torch.equal(source.validation, plain.validation @ zca)
    assert torch.equal(source.batch(3, 50), plain.batch(3, 50) @ zca)
    given = load_source(settings, 0, fitted={"zca": 2 * zca})
    assert torch.equal(given.batch(3, 50), plain.batch(3, 50) @ (2 * zca))
    assert not fitted_alike(source.fitted, given.fitted)
    assert describe_fitted(source.fitted) == f"a matrix zca of {source.dim}x{source.dim}"
    generator = random_stream(FIXED_SEED, FITTING)  # the patches that it was fitted on
    x = torch.cat([plain.pool.sample(generator, 1000)[0] for _ in range(3)]).double()
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    kept = values / (values + SHRINKAGE * values.mean())
    y = x @ zca.double()
    torch.testing.assert_close(y.T @ y / len(y), (vectors * kept) @ vectors.T, atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="takes whole pictures; use `whitening=filter`"):
        source.held_pictures()


@pytest.mark.usefixtures("few_patches")
@pytest.mark.parametrize("whitening", ["filter", "zca"])
def test_a_run_prepares_what_comes_later_as_its_own_data(tmp_path, whitening, capsys):
    np.save(tmp_path / "x.npy", smooth(6, 20, 20, 3))
    data = ("--data", "images", "--data-path", tmp_path / "x.npy", "--colour", "--patch-size", 10)
    run("train", *data, "--whitening", whitening, *FEW, "--run-dir", tmp_path / "run")
    loaded = itervae.load(tmp_path / "run")
    assert loaded.model.shape == (3, 10, 10)
    source = load_source(loaded.settings.data, 0, fitted=loaded.prepare.fitted)
    trained, _ = held_out(6, 0.2, "images")
    found = loaded.prepare(np.load(tmp_path / "x.npy")[trained[1]])
    cut = source.pool.cut(121 + torch.tensor([0, 10, 110, 120]))  # the corners of the 11x11 places of the second image
    assert torch.equal(found.x, cut if whitening == "filter" else cut @ loaded.prepare.fitted["zca"])
    assert found.positions[:, 1:].tolist() == [[0, 0], [0, 10], [10, 0], [10, 10]]
    stack = np.load(tmp_path / "x.npy")
    np.save(tmp_path / "grey.npy", stack[..., 0])
    with pytest.warns(UserWarning, match="6 of 6 pictures are grey, three equal channels in colour"):
        run("infer", tmp_path / "run", "--input", tmp_path / "grey.npy", "--output", tmp_path / "o.npz")
    assert np.load(tmp_path / "o.npz")["reconstruction"].shape == (24, 300)
    few = ("--num", 10, "--engines", "lca-unrolled:2")
    if whitening == "zca":
        run("gap", tmp_path / "run", *few)
    with pytest.raises(SystemExit):
        run("gap", tmp_path / "run", *few, "--no-colour")
    assert ("of patches of 300 values" if whitening == "zca" else "have 100 values") in capsys.readouterr().err


def test_a_convolutional_run_takes_pictures_in_colour_whole(tmp_path, capsys):
    for number, size in enumerate([(20, 26), (24, 20), (20, 26)]):
        Image.fromarray(smooth(*size, 3, seed=number)).save(tmp_path / f"{number}.png")
    data = ("--data", "images", "--data-path", tmp_path, "--colour", "--patch-size", 12)
    atoms = ("--decoder", "convolutional", "--atom-size", 4, "--stride", 2)
    folder = tmp_path / "runs/run"
    run("train", *data, *atoms, *FEW, "--run-dir", folder)
    loaded = itervae.load(folder)
    assert loaded.model.operator().atoms.shape == (3, 3, 4, 4)
    pictures = sorted(tmp_path.glob("*.png"))
    images = list(prepare_images(read_images(tmp_path, None, 12, colour=True), loaded.settings.data))
    for picture, image in zip(pictures, images, strict=True):
        assert torch.equal(loaded.prepare(picture).x, image[None])
    run("infer", folder, "--input", tmp_path / "1.png", "--output", tmp_path / "o.npz", "--figure", tmp_path / "o.png")
    assert np.load(tmp_path / "o.npz")["reconstruction"].shape == (1, 3, 24, 20)
    few = ("--num", 1, "--engines", "lca-unrolled:2")
    run("export", folder, "--output", tmp_path / "phi.npz")
    run("infer", tmp_path / "phi.npz", "--input", tmp_path / "1.png", "--output", tmp_path / "p.npz")
    assert np.load(tmp_path / "p.npz")["reconstruction"].shape == (1, 3, 24, 20)
    capsys.readouterr()
    for given, said in (
        (("gap", folder, *few, "--whitening", "zca"), "a convolutional dictionary takes whole pictures"),
        (("gap", folder, *few, "--no-colour"), "shape is (12, 12); expected (3, N, N), as the atoms have it; give"),
        (("gap", folder, *few, "--no-colour", "--whole"), "expected (3, N, N), as the atoms have it; give"),
    ):
        with pytest.raises(SystemExit):
            run(*given)
        assert said in capsys.readouterr().err
