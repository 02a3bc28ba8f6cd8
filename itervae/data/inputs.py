"""A user's file as input to a trained run: rows as they are, or images prepared as the run prepared its own."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from itervae.data.arrays import ARRAY_SUFFIXES, as_rows, named, read_array
from itervae.data.images import ImageSet, images_from_array, read_images
from itervae.data.patches import tile_image
from itervae.data.photographs import prepare_images
from itervae.data.settings import DataSettings
from itervae.errors import InputError

_TILED = ("photos", "images", "cifar16")  # the data whose runs see patches of prepared images


@dataclass(frozen=True)
class Inputs:
    """What a trained run encodes.

    Attributes:
        x: (N, D) float32, on the CPU.
        positions: (N, 3) int64, the number of the image in its stack or sorted folder, and the row and column of the
            upper left pixel of the patch; None where the rows were given as they are.
    """

    x: Tensor
    positions: Tensor | None


def load_inputs(path: Path, key: str | None, settings: DataSettings, shape: tuple[int, ...]) -> Inputs:
    """Read a file for a run trained with `settings` on data of `shape`, D = prod(shape).

    An array (N, D) is taken as it is, and so is (N, *shape), flattened. Anything else must be images for a run on
    patches: they are whitened as `settings` say and tiled into patches that do not overlap, each minus its mean. An
    (N, D) array is always rows, even where it could be one image of D columns.

    Raises:
        InputError: the file cannot be read, its shape fits none of these, or a run on MNIST gets values outside [0, 1].
    """
    path = Path(path).expanduser()
    dim, side = prod(shape), shape[0]
    tiled = settings.data in _TILED
    rows = f"(N, {dim})" + (f" or (N, {', '.join(map(str, shape))})" if len(shape) > 1 else "")
    if path.suffix.lower() in ARRAY_SUFFIXES and not path.is_dir():
        array = read_array(path, key)
        where = named(path, key)
        if array.ndim > 1 and array.shape[1:] in ((dim,), tuple(shape)):
            return Inputs(_rows(array.reshape(len(array), dim), where, settings), None)
        sides = array.shape[:-1] if array.ndim in (3, 4) and array.shape[-1] == 3 else array.shape
        if not tiled or len(sides) not in (2, 3) or min(sides[-2:]) < side:
            images = f", or images of at least {side}x{side} pixels" if tiled else ""
            raise InputError(f"{where} has shape {array.shape}, but this run takes {rows}{images}; reshape or crop it.")
        return _tiles(images_from_array(array, where, side), settings, side)
    if not tiled:
        raise InputError(f"{path} is no .npy or .npz file, but this run takes arrays {rows}; save the data as such.")
    return _tiles(read_images(path, key, side), settings, side)


def _rows(array: np.ndarray, where: str, settings: DataSettings) -> Tensor:
    x = as_rows(array, where)
    low, high = x.aminmax()
    if settings.data == "mnist" and not 0 <= low <= high <= 1:
        raise InputError(
            f"{where} holds values from {low:g} to {high:g}, but this run takes intensities in [0, 1]; divide by the "
            "largest possible intensity, such as 255."
        )
    return x


def _tiles(images: ImageSet, settings: DataSettings, patch_size: int) -> Inputs:
    x, positions = [], []
    for facts, image in zip(images.images, prepare_images(images, settings), strict=True):
        patches, corners = tile_image(image, patch_size)
        x.append(patches)
        positions.append(torch.cat([torch.full((len(corners), 1), facts.number), corners], 1))
    return Inputs(torch.cat(x), torch.cat(positions))
