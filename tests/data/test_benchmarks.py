"""MNIST and small grey CIFAR-10: splits that never move, and a clear word where the files are
missing."""

import os
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch

from itervae.data import DataSettings, load_source
from itervae.errors import InputError

MNIST = DataSettings(data="mnist")
CIFAR = DataSettings(data="cifar16")


def shared(name):
    root = os.environ.get("ITERVAE_DATA")
    if not root or not (Path(root) / name).exists():
        pytest.skip(f"needs {name} in the folder named by ITERVAE_DATA")
    return Path(root)


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    monkeypatch.delenv("ITERVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_mnist_is_divided_once_and_for_all():
    root = shared("MNIST/raw/train-images-idx3-ubyte")
    source, other = load_source(MNIST, 0), load_source(MNIST, 1)
    assert (source.shape, source.dim, source.binary) == ((28, 28), 784, True)
    assert source.train.shape == (50_000, 784)
    assert source.validation.shape == (10_000, 784)
    assert source.labels.shape == (50_000,)
    assert torch.equal(source.validation, other.validation)
    assert not torch.equal(source.batch(0, 20), other.batch(0, 20))
    assert source.train.amin() == 0
    assert source.train.amax() == 1

    raw = np.fromfile(root / "MNIST/raw/train-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 784)
    labels = np.fromfile(root / "MNIST/raw/train-labels-idx1-ubyte", np.uint8)[8:]
    x = (torch.cat([source.train, source.validation]) * 255).round().byte().numpy()
    y = torch.cat([source.labels, source.validation_labels]).numpy()

    def multiset(images, digits):
        return sorted(image.tobytes() + bytes([digit]) for image, digit in zip(images, digits, strict=True))

    assert multiset(x, y) == multiset(raw, labels)


def test_the_mnist_test_set_is_read_on_demand():
    root = shared("MNIST/raw/t10k-images-idx3-ubyte")
    x, labels = load_source(MNIST, 0).load_test()
    raw = np.fromfile(root / "MNIST/raw/t10k-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 784)
    assert torch.equal(x, torch.from_numpy(raw) / 255)
    assert labels.shape == (10_000,)


def test_cifar16_gives_white_patches(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "cifar10_4000.npz", x=images, y=np.zeros(30))
    monkeypatch.setenv("ITERVAE_DATA", str(tmp_path))
    source = load_source(CIFAR, 0)
    assert (source.name, source.shape) == ("cifar16", (16, 16))
    assert source.describe()["validation_areas"] == 6
    x = source.batch(0, 2000)
    assert x.mean(1).abs().max() < 1e-5
    assert 0.8 < x.square().mean() < 1.2
    with pytest.raises(InputError, match="has no test set"):
        source.load_test()


def test_cifar16_reads_the_shared_images():
    shared("cifar10_4000.npz")
    source = load_source(CIFAR, 0)
    assert source.describe()["train_areas"] + source.describe()["validation_areas"] == 4000
    assert source.validation.shape == (2000, 256)


@pytest.mark.parametrize(
    ("settings", "looked_for"),
    [(MNIST, "MNIST/raw/train-images-idx3-ubyte was not found"), (CIFAR, "cifar10_4000.npz was found")],
)
def test_missing_files_are_named_and_not_fetched(tmp_path, monkeypatch, settings, looked_for):
    def refuse(*_, **__):
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setenv("ITERVAE_DATA", str(tmp_path))
    with pytest.raises(InputError, match=f"{tmp_path}/.*{looked_for}"):
        load_source(settings, 0)
    monkeypatch.delenv("ITERVAE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=f"{tmp_path}/itervae/.*{looked_for}"):
        load_source(DataSettings(data=settings.data, download=False), 0)


@pytest.mark.parametrize("settings", [MNIST, CIFAR])
def test_a_download_without_network_says_what_to_do(no_data, monkeypatch, settings):
    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(InputError, match=r"could not be fetched .*(no network|check the connection).*ITERVAE_DATA"):
        load_source(settings, 0)


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("out of memory")])
@pytest.mark.parametrize("settings", [MNIST, CIFAR])
def test_other_faults_are_not_hidden(no_data, monkeypatch, settings, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.datasets.MNIST.download", broken)
    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", broken)
    with pytest.raises(type(error)) as caught:
        load_source(settings, 0)
    assert caught.value is error


def test_truncated_mnist_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte").write_bytes(b"short")
    monkeypatch.setenv("ITERVAE_DATA", str(tmp_path))
    with pytest.raises(InputError, match="train-images-idx3-ubyte has 5 bytes instead of 47040016"):
        load_source(MNIST, 0)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("train-images-idx3", 3, 4),
        ("train-images-idx3", 7, 0x61),
        ("train-images-idx3", 15, 27),
        ("t10k-labels-idx1", 3, 3),
    ],
)
def test_a_damaged_mnist_header_is_named(tmp_path, monkeypatch, name, place, value):
    """Of the right size, with a wrong magic number or count."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, shape in (("train", (60_000, 28, 28)), ("t10k", (10_000, 28, 28))):
        images, labels = (
            bytearray.fromhex("0000080300000000000000000000") + bytes(2),
            bytearray.fromhex("0000080100000000"),
        )
        images[4:8], labels[4:8] = (shape[0].to_bytes(4, "big"),) * 2
        images[11], images[15] = 28, 28
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images + bytes(shape[0] * 784))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels + bytes(shape[0]))
    monkeypatch.setenv("ITERVAE_DATA", str(tmp_path))
    assert load_source(MNIST, 0).validation.shape == (10_000, 784)
    with (folder / f"{name}-ubyte").open("r+b") as file:
        file.seek(place)
        file.write(bytes([value]))
    with pytest.raises(InputError, match=rf"{name}-ubyte begins with 0000080\w+ instead of 0000080\w+; delete it"):
        load_source(MNIST, 0)


def test_damaged_cifar_is_reported(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setenv("ITERVAE_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"CIFAR-10 could not be fetched or read .*not found or corrupted"):
        load_source(CIFAR, 0)
