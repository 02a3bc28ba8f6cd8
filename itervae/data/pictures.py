"""One picture of a file, read the same way for stills and for frames.

Pictures that look the same give the same data: turned upright as their EXIF orientation says, laid
over white where they are transparent, colour with three equal channels as grey. 16-bit greys have
no white of their own, as many cameras fill 12 or 14 of the bits: their white level is taken from
the whole set, see `white_level`.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from itervae.arrays import at
from itervae.errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".iml")
CHANNELS = 3  # red, green and blue
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R Rec. 601
HATEREN_SHAPE = (1024, 1536)  # rows, columns of a .iml file
ROUNDING = 1e-6  # by how much a float image may leave [0, 1] and still count as rounded
ANIMATED = ("GIF", "PNG", "WEBP")  # formats whose later frames are moments, not pictures of their own
SUBFILE = 254  # the tag of a page of a TIFF file that is a smaller copy (bit 0) or a mask (bit 2) of another

# What Pillow and the two readers below raise for a damaged file. Anything else is a fault of the
# program and passes.
UNREADABLE = (OSError, EOFError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Picture:
    """A picture as it was read.

    Attributes:
        values: (H, W) or (H, W, 3): uint8, uint16, booleans, or floats in [0, 1].
        transparent: whether it was laid over white.
        shallow: whether it is colour of 16 bits, of which 8 were read.
        later: frames of an animated picture that follow this one.
    """

    values: np.ndarray
    transparent: bool = False
    shallow: bool = False
    later: int = 0

    @property
    def peak(self) -> int:
        """The largest value of a picture of 16 bits, 0 of any other."""
        return int(self.values.max()) if is_deep(self.values) else 0


def is_deep(values: np.ndarray) -> bool:
    """Whether an array holds 16-bit pictures."""
    return values.dtype.kind == "u" and values.dtype.itemsize == 2


def white_level(peak: int) -> float:
    """The least 2^b − 1, b from 8 to 16, that no value of a set of 16-bit pictures exceeds."""
    return float(2 ** max(8, peak.bit_length()) - 1)


def to_grey(values: np.ndarray, white: float | None = None) -> Tensor:
    """Grey in [0, 1], (H, W) float32, of a picture (H, W) or (H, W, 3).

    uint8 is divided by 255, uint16 by the white level (65535 where there is none), and colour is
    weighted as luma.
    """
    grey = _scaled(values, white)
    if grey.dim() == 3:
        grey = grey @ torch.tensor(LUMA)
    return grey.clamp_(0, 1)


def to_colour(values: np.ndarray, white: float | None = None) -> Tensor:
    """Red, green and blue in [0, 1], (3, H, W) float32, of a picture (H, W), whose channels are
    equal, or (H, W, 3); scaled as `to_grey` does."""
    colour = _scaled(values, white).clamp_(0, 1)
    return colour.movedim(2, 0).contiguous() if colour.dim() == 3 else colour.expand(CHANNELS, -1, -1)


def _scaled(values: np.ndarray, white: float | None) -> Tensor:
    scale = {"u1": 255.0, "u2": white or 65535.0}.get(values.dtype.str[1:], 1.0)
    return torch.from_numpy(values.astype(np.float32)) / scale


def pages(file: Path) -> list[int]:
    """The pages of a file that are pictures of their own: of a TIFF file all but reduced copies and
    masks, else the first."""
    if file.suffix.lower() not in (".tif", ".tiff"):
        return [0]
    found = []
    try:
        with Image.open(file) as picture:
            for page in range(getattr(picture, "n_frames", 1)):
                picture.seek(page)
                if not getattr(picture, "tag_v2", {}).get(SUBFILE, 0) & 0b101:
                    found.append(page)
    except UNREADABLE:  # those that can be read; what cannot is said when it is
        pass
    return found or [0]


def read_picture(file: Path, page: int = 0) -> Picture:
    """A page of a picture file.

    Raises:
        One of UNREADABLE: it is damaged, or holds what is no intensity.
    """
    if file.suffix.lower() == ".iml":
        return Picture(_read_iml(file))
    # from a stream: an uncompressed TIFF file that Pillow 13 knows by name it maps, and garbles if
    # it lies on its side
    with file.open("rb") as stream, Image.open(stream) as picture:
        later = getattr(picture, "n_frames", 1) - 1 if picture.format in ANIMATED else 0
        picture.seek(page)
        deep = ";16" in str(picture.tile)  # the bits that are stored, not those that Pillow reads
        scaled = picture.format == "PPM"
        picture.load()  # a TIFF turns itself, and no longer says that it must be
        picture = ImageOps.exif_transpose(picture)
        if picture.has_transparency_data:
            values, transparent = _over_white(picture)
        elif picture.mode in ("1", "L"):
            values, transparent = np.asarray(picture.convert("L")), False
        elif picture.mode == "F":
            values, transparent = np.asarray(picture), False
            check_intensities(values, "it")
        elif picture.mode.startswith("I"):
            values, transparent = _sixteen_bits(np.asarray(picture), scaled), False
        else:
            values, transparent = np.asarray(picture.convert("RGB")), False
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    return Picture(values, transparent, deep and values.dtype == np.uint8, later)


def over_white(rgba: np.ndarray) -> tuple[np.ndarray, bool]:
    """RGBA laid over white: (H, W, 4) uint8 to (H, W, 3) uint8, and whether any of it is
    transparent."""
    alpha = rgba[..., 3:].astype(np.uint32)
    mixed = (alpha * rgba[..., :3] + 255 * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8), bool((alpha < 255).any())


def check_intensities(values: np.ndarray, where: str) -> None:
    """Refuse floats outside [0, 1].

    Raises:
        InputError: a value beyond, or none at all; it is named with its place.
    """
    low, high = float(values.min()), float(values.max())
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return
    finite = np.isfinite(values)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0].tolist())
        raise InputError(f"{where} holds {values[index]}{at(index)}, no finite number; remove or replace such pixels.")
    index = np.unravel_index(int((values.argmax if high > 1 + ROUNDING else values.argmin)()), values.shape)
    place = at(tuple(map(int, index)))
    raise InputError(
        f"{where} holds floats from {low:g} to {high:g}, the one farthest out{place}, but intensities lie in [0, 1]; "
        "divide by the largest possible intensity, or save as uint8 or uint16."
    )


def _over_white(picture: Image.Image) -> tuple[np.ndarray, bool]:
    if picture.mode.startswith("I"):
        raise ValueError("16 bits with a transparent grey; save it without transparency")
    return over_white(np.asarray(picture.convert("RGBA")))


def _sixteen_bits(values: np.ndarray, scaled: bool) -> np.ndarray:
    """uint16, or floats where Pillow has divided by the white level that the file states, as that
    of a .pgm."""
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"32-bit integers from {values.min()} to {values.max()}; save it with 16 bits")
    return values.astype(np.float32) / np.float32(65535) if scaled else values.astype(np.uint16)


def _read_iml(file: Path) -> np.ndarray:
    """A file of van Hateren and van der Schaaf (1998): 1024 rows of 1536 big-endian uint16, linear,
    no header.

    The scale of the intensity was set by the camera for each picture, so each is divided by its own
    maximum.
    """
    size, expected = file.stat().st_size, 2 * HATEREN_SHAPE[0] * HATEREN_SHAPE[1]
    if size != expected:
        raise ValueError(f"{size} bytes, where a .iml file has {expected}")
    values = np.fromfile(file, dtype=">u2").reshape(HATEREN_SHAPE).astype(np.float32)
    return values / max(values.max(), 1)
