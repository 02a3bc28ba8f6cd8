"""Square patches of images: cut at random for training, tiled for encoding."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from itervae.data.pixels import Pixels
from itervae.data.pools import Pool, PoolSource
from itervae.data.source import (
    FITTING,
    FIXED_SEED,
    NOTHING_FITTED,
    PATCHES,
    VALIDATION,
    Epochs,
    Fitted,
    deliver,
    kept,
    random_stream,
)
from itervae.data.zca import zca_matrix
from itervae.errors import InputError
from itervae.memory import free_memory

VALIDATION_PATCHES = 2000
FITTING_PATCHES, CUT_AT_ONCE = 50_000, 5000
"""Training patches that ZCA is fitted on, the same for every seed of a run, and so many at once."""


class PatchPool(Pool):
    """All patches of a set of images, each position equally likely.

    The images lie one after the other in one flat tensor, so that images of different sizes are cut
    by a single advanced indexing.

    Args:
        pixels: of images of unit variance, row by row; of a row one channel after the other.
        sizes: (H, W) of each, none smaller than the patch.
        patch_size: side of a patch.
        channels: of each image; a patch (C, H, W) has them first.

    Attributes:
        shape: of a patch, (H, W) or, of several channels, (C, H, W).
        zca: (D, D) that patches are whitened with, None where they are not.
    """

    kind = "patches"

    def __init__(self, pixels: Pixels, sizes: Sequence[tuple[int, int]], patch_size: int, channels: int = 1):
        device = pixels.values.device
        height, width = torch.tensor(sizes).unbind(1)
        self.patch_size = patch_size
        self.shape = (patch_size,) * 2 if channels == 1 else (channels, patch_size, patch_size)
        self.zca: Tensor | None = None
        self.count = len(sizes)
        self._columns = (width - patch_size + 1).to(device)
        self._ends = ((height - patch_size + 1) * (width - patch_size + 1)).cumsum(0).to(device)
        self.positions = int(self._ends[-1])
        self._width = width.to(device)
        ends = (channels * height * width).cumsum(0)
        self._offset = (ends - channels * height * width).to(device)
        self.pixels = pixels
        self._channels = channels
        side = torch.arange(patch_size, device=device)
        self._lines = (torch.arange(channels, device=device)[:, None] + channels * side).flatten()

    def locate(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image, row and column of the upper left corner of each position in 0 .. positions − 1:
        three (B,) int64."""
        image = torch.searchsorted(self._ends, positions, right=True)
        before = torch.where(image > 0, self._ends[image - 1], 0)
        row = (positions - before) // self._columns[image]
        return image, row, (positions - before) - row * self._columns[image]

    def draw(self, generator: np.random.Generator, count: int) -> Tensor:
        return torch.from_numpy(generator.integers(self.positions, size=count))

    def cut(self, places: Tensor) -> Tensor:
        """The patch at each position, minus the mean of all of its values: (B,) int64 to (B, D)
        float32."""
        image, row, column = self.locate(places.to(self.pixels.values.device))
        width = self._width[image]
        corner = self._offset[image] + self._channels * row * width + column
        patches = self.pixels.take_runs(corner[:, None] + width[:, None] * self._lines, self.patch_size)
        return patches.sub_(patches.mean(1, keepdim=True))

    def sample(self, generator: np.random.Generator, count: int, rows: slice = slice(None)) -> tuple[Tensor, int]:
        drawn, dropped = super().sample(generator, count, rows)  # what has no variance has none before whitening
        return whitened(drawn, self.zca), dropped


def whitened(patches: Tensor, zca: Tensor | None) -> Tensor:
    """Patches (n, D), each minus its mean, whitened by a matrix (D, D), if there is one."""
    return patches if zca is None else patches @ zca.to(patches.device)


def fit_zca(pool: PatchPool) -> Tensor:
    """The matrix (D, D) that whitens the patches of training images."""
    return zca_matrix(_parts(pool, FITTING, FITTING_PATCHES))


def _parts(pool: PatchPool, purpose: int, count: int) -> Iterator[Tensor]:
    """`count` patches at random, the same for every seed of a run, some at a time."""
    generator = random_stream(FIXED_SEED, purpose)
    for first in range(0, count, CUT_AT_ONCE):
        yield pool.sample(generator, min(CUT_AT_ONCE, count - first))[0]


def _cut_once(pool: PatchPool, count: int) -> Tensor:
    """`count` training patches (count, D).

    Raises:
        InputError: they do not fit in memory.
    """
    size, free = 4 * count * prod(pool.shape), free_memory()
    if size > free:
        raise InputError(
            f"`patches={count}` take {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; give fewer, or "
            "leave it out, and every batch is cut anew."
        )
    patches = torch.empty(count, prod(pool.shape))
    for part, rows in zip(_parts(pool, PATCHES, count), patches.split(CUT_AT_ONCE), strict=True):
        rows.copy_(part)
    return patches


class PatchSource(PoolSource):
    """Patches at random positions, each minus its mean: cut afresh for every batch, or once.

    Args:
        name: see `Source`.
        train, validation: the images of each; they share no pixel.
        seed: seed of the training positions.
        facts: what `describe` adds to the counts.
        held: prepares the images of validation anew, for `held_pictures`.
        patches: how many are cut for training, once, the same for every seed; each epoch visits
            all of them. None cuts every batch afresh.
        validation_patches: how many patches are cut for validation, once, the same for every seed.
        device: where batches are wanted, wherever the images are.
        fitted: see `Source`.

    Raises:
        InputError: hardly any patch has variance, or `patches` do not fit in memory.
    """

    pool: PatchPool  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        name: str,
        train: PatchPool,
        validation: PatchPool,
        seed: int,
        *,
        facts: dict[str, int | float | str | bool] | None = None,
        held: Callable[[], Iterable[Tensor]] | None = None,
        patches: int | None = None,
        validation_patches: int = VALIDATION_PATCHES,
        device: str | torch.device = "cpu",
        fitted: Fitted = NOTHING_FITTED,
    ):
        self.name, self.seed, self.fitted = name, seed, fitted
        self.shape = train.shape
        self.pool, self.held_positions, self._held_areas = train, validation.positions, validation.count
        self._facts, self._held = facts or {}, held
        drawn, self.dropped = validation.sample(random_stream(FIXED_SEED, VALIDATION), validation_patches)
        self.validation = drawn.to(device)
        self.device = self.validation.device
        train.sample(random_stream(seed, VALIDATION), 1)  # images without any patch are refused now, not in training
        self._patches = None
        if patches is not None:
            self._patches, self._epochs = kept(_cut_once(train, patches), self.device), Epochs(patches, seed)

    def batch(self, index: int, size: int, rows: slice = slice(None)) -> Tensor:
        if self._patches is None:
            return super().batch(index, size, rows)
        chosen = self._epochs.batch(index, size, rows)
        return deliver(self._patches[chosen.to(self._patches.device)], self.device)

    @property
    def ahead(self) -> bool:
        return super().ahead if self._patches is None else self._patches.device != self.device

    def held_pictures(self) -> list[Tensor]:
        if self.settings is not None:
            self.settings.check_pictures()
        return super().held_pictures() if self._held is None else list(self._held())

    def describe(self) -> dict[str, int | float | str | bool]:
        return {
            "data": self.name,
            "shape": "x".join(map(str, self.shape)),
            "train_areas": self.pool.count,
            "train_positions": self.pool.positions,
            **({} if self._patches is None else {"train_patches": len(self._patches)}),
            "validation_areas": self._held_areas,
            "validation_patches": len(self.validation),
            "dropped_patches": self.dropped,
            **self._facts,
        }


def tile_image(image: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    """Cut an image (H, W) or (C, H, W) into patches that do not overlap, each minus its mean.

    Returns:
        patches (n, D), channel after channel, and corners (n, 2) int64, the row and column of the
        upper left pixel of each, row by row; pixels at the right and lower border that fill no
        patch are left out.
    """
    channels = image if image.dim() == 3 else image[None]
    rows, columns = image.shape[-2] // patch_size, image.shape[-1] // patch_size
    inside = channels[:, : rows * patch_size, : columns * patch_size]
    patches = rearrange(inside, "k (r p) (c q) -> (r c) (k p q)", p=patch_size, q=patch_size)
    corners = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)) * patch_size
    return patches - patches.mean(1, keepdim=True), corners
