"""MNIST, and CIFAR-10 as small photographs, from torchvision's files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from itervae.data.arrays import content_hash
from itervae.data.images import images_from_array
from itervae.data.patches import PatchSource
from itervae.data.photographs import preparation_of, shared_source
from itervae.data.settings import DataSettings
from itervae.data.source import FIXED_SEED, SPLIT, Fitted, RowSource, random_stream
from itervae.errors import InputError
from itervae.formats import read_array

MNIST_VALIDATION = 10_000
CIFAR_PATCH = 16
MNIST_FILES = {  # the names that torchvision gives them, and the shapes that they hold
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
CIFAR_ARCHIVE = "cifar10_4000.npz"  # the first 4000 training images as `x`, for machines without the whole set


def data_root(settings: DataSettings) -> tuple[Path, bool]:
    """Where torchvision's files lie, and whether missing ones may be fetched.

    `settings.data_path` or else ITERVAE_DATA names the folder where it is set, and then nothing is
    fetched; otherwise it is `itervae` in the user's cache (XDG_CACHE_HOME, else ~/.cache), and
    `settings.download` decides.
    """
    if settings.data_path is not None:
        return Path(settings.data_path).expanduser(), False
    if named := os.environ.get("ITERVAE_DATA"):
        return Path(named).expanduser(), False
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "itervae", settings.download


def mnist_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> RowSource:
    """MNIST digits as rows of 784 intensities in [0, 1].

    10,000 of the 60,000 training images, always the same, are for validation; `load_test` alone
    reads the test set.

    Raises:
        InputError: files that are missing, damaged, or cannot be fetched.
    """
    images, labels = _mnist(settings, train=True)
    order = torch.from_numpy(random_stream(FIXED_SEED, SPLIT).permutation(len(images)))
    held, kept = order[:MNIST_VALIDATION].sort().values, order[MNIST_VALIDATION:].sort().values

    def test() -> tuple[Tensor, Tensor | None]:
        test_images, test_labels = _mnist(settings, train=False)
        return _intensities(test_images), test_labels

    return RowSource(
        "mnist",
        (28, 28),
        _intensities(images[kept]),
        _intensities(images[held]),
        seed,
        labels=labels[kept],
        validation_labels=labels[held],
        binary=True,
        test=test,
        facts={"content": content_hash([images.numpy(), labels.numpy()])},
        device=device,
    )


def cifar16_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> PatchSource:
    """Patches of 16x16 from CIFAR-10's training images, prepared like photographs.

    A fixed random share of the images is held out. They are read from torchvision's
    `cifar-10-batches-py` or, where ITERVAE_DATA has none, from its cifar10_4000.npz.

    Raises:
        InputError: files that are missing, damaged, or cannot be fetched.
    """
    root, download = data_root(settings)
    batches, archive = root / "cifar-10-batches-py", root / CIFAR_ARCHIVE
    if batches.is_dir() or download:
        from torchvision.datasets import CIFAR10  # imported here: it takes seconds that other data need not wait

        with fetching("CIFAR-10", batches):
            pixels = CIFAR10(root, train=True, download=download).data
        where = str(batches)
    elif archive.is_file():
        pixels, where = read_array(archive, "x"), str(archive)
    else:
        raise InputError(
            f"CIFAR-10 is not there: neither {batches} nor {archive} was found; put one of them there, or leave out "
            "ITERVAE_DATA and `download=False` to have it fetched."
        )
    images = images_from_array(pixels, where, CIFAR_PATCH, colour=settings.colour, quiet=True)
    facts = {"constant_images": images.constant, **preparation_of(settings), "content": images.content}
    return shared_source("cifar16", images, settings, seed, device, fitted, facts)


def _mnist(settings: DataSettings, *, train: bool) -> tuple[Tensor, Tensor]:
    root, download = data_root(settings)
    folder = root / "MNIST" / "raw"
    missing = [name for name in MNIST_FILES if not (folder / name).is_file()]
    if missing and not download:
        raise InputError(
            f"MNIST is not there: {folder / missing[0]} was not found; put torchvision's files there, or leave out "
            "ITERVAE_DATA and `download=False` to have them fetched."
        )
    from torchvision.datasets import MNIST  # imported here: it takes seconds that other data need not wait

    with fetching("MNIST", folder):
        if missing:
            MNIST(root, download=True)
    for name, shape in MNIST_FILES.items():
        _check_idx(folder / name, shape)
    data = MNIST(root, train=train)
    return data.data, data.targets


def _check_idx(file: Path, shape: tuple[int, ...]) -> None:
    """Refuse a file that is not bytes of this shape in the format of MNIST: two zeros, 8 for bytes,
    the number of dimensions, and each of them as a big-endian integer of 4 bytes."""
    head = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    size = len(head) + prod(shape)
    if (found := file.stat().st_size) != size:
        raise InputError(f"{file} has {found} bytes instead of {size}; delete it and get it again.")
    with file.open("rb") as stream:
        if (start := stream.read(len(head))) != head:
            raise InputError(f"{file} begins with {start.hex()} instead of {head.hex()}; delete it and get it again.")


@contextmanager
def fetching(what: str, folder: Path) -> Iterator[None]:
    """Report what torchvision raises for files that it cannot fetch, or finds damaged; anything
    else passes."""
    try:
        yield
    except (OSError, HTTPException, RuntimeError) as error:
        # torchvision has no exception of its own: a RuntimeError is told by its words.
        words = ("Error downloading", "not found")
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        reason = " ".join(str(error).split()).partition(" You can use download=True")[0]
        raise InputError(
            f"{what} could not be fetched or read in {folder} ({reason}); check the connection and the folder, or "
            "name one that holds it with the environment variable ITERVAE_DATA."
        ) from error


def _intensities(images: Tensor) -> Tensor:
    """(N, 28, 28) uint8 to (N, 784) float32 in [0, 1]."""
    return images.flatten(1).float().div_(255)
