"""Grey images from what a user has: a folder of pictures, one picture, or a stack in a .npy or .npz file."""

import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from itervae.data.arrays import ARRAY_SUFFIXES, content_hash, named, read_array
from itervae.data.progress import watched
from itervae.data.whitening import is_constant
from itervae.errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".iml")
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R Rec. 601
HATEREN_SHAPE = (1024, 1536)  # rows, columns of a .iml file
ROUNDING = 1e-6  # by how much a float image may leave [0, 1] and still count as rounded

# What Pillow and the two readers below raise for a damaged file. Anything else is a fault of the program and passes.
UNREADABLE = (OSError, EOFError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image without its pixels: its position in the stack, or in the sorted list of files; what
    messages call it; (H, W); the hash of its content."""

    number: int
    name: str
    size: tuple[int, int]
    content: str


@dataclass(frozen=True)
class ImageSet:
    """Images that were looked at once, and are read again, one by one, when they are used.

    Attributes:
        images: what is known of each.
        read: number to array, (H, W) or (H, W, 3): uint8, uint16, or floats in [0, 1].
        skipped: files that could not be read.
        constant: images dropped because every pixel is equal.
        content: hash of all that was read.
    """

    images: list[ImageFacts]
    read: Callable[[int], np.ndarray]
    skipped: int
    constant: int
    content: str

    def __len__(self) -> int:
        return len(self.images)

    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of every image."""
        return [image.size for image in self.images]

    def grey(self, index: int) -> Tensor:
        """Image number `index` of this set as grey in [0, 1]: (H, W) float32.

        Raises:
            InputError: it is no longer what it was.
        """
        facts = self.images[index]
        try:
            with warnings.catch_warnings(action="ignore"):  # it was read before, and what there is to say was said
                image = self.read(facts.number)
        except UNREADABLE as error:
            raise InputError(f"{facts.name} could be read at first and no longer ({error}); bring it back.") from error
        if content_hash([image]) != facts.content:
            raise InputError(f"{facts.name} changed since it was first read; start again when it is at rest.")
        return to_grey(image)


def to_grey(image: np.ndarray) -> Tensor:
    """Grey in [0, 1], (H, W) float32, of an (H, W) or (H, W, 3) image: uint8 / 255, uint16 / 65535, or floats."""
    scale = {"u1": 255.0, "u2": 65535.0}.get(image.dtype.str[1:], 1.0)
    values = torch.from_numpy(image.astype(np.float32)) / scale
    if values.dim() == 3:
        values = values @ torch.tensor(LUMA)
    return values.clamp_(0, 1)


def read_images(path: Path, key: str | None, patch_size: int) -> ImageSet:
    """Read a folder of pictures (nested folders too, sorted by path), one picture, or a stack of images.

    Constant images, and pictures of a folder that cannot be read, are left out with a warning and counted.

    Args:
        path: a folder; a picture (.png, .jpg, .tif, .bmp, .webp, .gif, .pgm, or van Hateren's .iml); a .npy or .npz.
        key: name of an array of a .npz file.
        patch_size: the smallest side that an image may have.

    Raises:
        InputError: nothing there, nothing readable, an image smaller than the patch, all images constant, or values
            that are no intensities.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES and not path.is_dir():
        return images_from_array(read_array(path, key), named(path, key), patch_size)
    if key is not None:
        raise InputError(f"the key '{key}' does not apply to {path}; only a .npz file has named arrays.")
    if path.is_dir():
        files = list(_pictures_in(path))
        if not files:
            raise InputError(f"{path} holds no picture; put files of one of {', '.join(PICTURE_SUFFIXES)} there.")
    elif path.is_file():
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            fitting = ", ".join((*PICTURE_SUFFIXES, *ARRAY_SUFFIXES))
            raise InputError(f"{path} has the suffix '{path.suffix}'; give a folder or a file of one of {fitting}.")
        files = [path]
    else:
        raise InputError(f"{path} does not exist; give a folder of pictures, a picture, or a .npy or .npz file.")

    def read(number: int) -> np.ndarray:
        file = files[number]
        return _read_iml(file) if file.suffix.lower() == ".iml" else _read_picture(file)

    return _looked_at(read, [str(file) for file in files], patch_size)


def images_from_array(array: np.ndarray, where: str, patch_size: int) -> ImageSet:
    """Images of a stack (N, H, W) or (N, H, W, 3), or a single (H, W) or (H, W, 3).

    Three dimensions of which the last is 3 are one picture in colour.

    Raises:
        InputError: another shape; a type other than uint8, uint16 and floats; floats that leave [0, 1]; and as in
            `read_images`.
    """
    colour = array.ndim in (3, 4) and array.shape[-1] == 3
    if array.ndim == 2 or (array.ndim == 3 and colour):
        array = array[None]
    elif array.ndim != 3 and not colour:
        raise InputError(f"{where} has shape {array.shape}; images are (N, H, W), (N, H, W, 3), (H, W) or (H, W, 3).")
    if not array.size:
        raise InputError(f"{where} is empty, of shape {array.shape}; give at least one image.")
    if array.dtype.kind == "f":
        _check_range(array, where)
    elif array.dtype.str[1:] not in ("u1", "u2"):
        raise InputError(
            f"{where} holds {array.dtype} values; images are uint8, uint16 or floats in [0, 1]: convert them."
        )
    names = [f"image {number} of {where}" for number in range(len(array))]
    return _looked_at(array.__getitem__, names, patch_size)


def _looked_at(read: Callable[[int], np.ndarray], names: list[str], patch_size: int) -> ImageSet:
    """Read every image once, and keep what there is to know but its pixels."""
    kept, problems, flat = [], [], []

    def whole() -> Iterator[np.ndarray]:
        for number, name in enumerate(watched(names, len(names), "reading images")):
            try:
                image = read(number)
            except UNREADABLE as error:
                problems.append(f"{name} ({error})")
                continue
            height, width = image.shape[:2]
            if min(height, width) < patch_size:
                raise InputError(
                    f"{name} has {height}x{width} pixels, less than a patch of {patch_size}x{patch_size}; remove it "
                    "or give a smaller --patch-size."
                )
            if bool(is_constant(to_grey(image))):
                flat.append(name)
            else:
                kept.append(ImageFacts(number, name, (height, width), content_hash([image])))
            yield image

    content = content_hash(whole())
    if len(problems) == len(names):
        raise InputError(f"no picture could be read: {some(problems)}; check or replace the files.")
    if problems:
        warnings.warn(f"{len(problems)} of {len(names)} pictures skipped: {some(problems)}", stacklevel=3)
    if not kept:
        raise InputError(f"{flat[0]} is constant, and so is every other image; give images with structure.")
    if flat:
        warnings.warn(f"{len(flat)} constant images left out: {some(flat)}", stacklevel=3)
    return ImageSet(kept, read, len(problems), len(flat), content)


def _pictures_in(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        # Hidden files and folders are caches and resource forks, not the user's pictures.
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file() and not hidden:
            yield file


def _read_picture(file: Path) -> np.ndarray:
    """The first frame of a picture: 8 or 16 bits, floats, or (H, W, 3) colour at 8 bits, which is what Pillow reads."""
    with Image.open(file) as picture:
        if picture.format == "TIFF" and getattr(picture, "n_frames", 1) > 1:
            warnings.warn(f"only the first page of {file} is read", stacklevel=3)
        mode = picture.mode
        if mode in ("1", "LA"):
            return np.asarray(picture.convert("L"))
        if mode == "L":
            return np.asarray(picture)
        if mode == "F":
            values = np.asarray(picture)
            _check_range(values, "it")
            return values
        if mode.startswith("I"):
            values = np.asarray(picture)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError(f"32-bit integers from {values.min()} to {values.max()}; save it with 16 bits")
            return values.astype(np.uint16)
        return np.asarray(picture.convert("RGB"))


def _read_iml(file: Path) -> np.ndarray:
    """A file of van Hateren and van der Schaaf (1998): 1024 rows of 1536 big-endian uint16, linear, no header.

    The scale of the intensity was set by the camera for each picture, so each is divided by its own maximum.
    """
    size, expected = file.stat().st_size, 2 * HATEREN_SHAPE[0] * HATEREN_SHAPE[1]
    if size != expected:
        raise ValueError(f"{size} bytes, where a .iml file has {expected}")
    values = np.fromfile(file, dtype=">u2").reshape(HATEREN_SHAPE).astype(np.float32)
    return values / max(values.max(), 1)


def _check_range(values: np.ndarray, where: str) -> None:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{where} holds NaN or infinite pixels; remove or replace them.")
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise InputError(
            f"{where} holds floats from {low:g} to {high:g}, but intensities lie in [0, 1]; divide by the largest "
            "possible intensity, or save as uint8 or uint16."
        )


def some(items: list[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
