"""Images, grey or in colour, from what a user has: a folder of pictures, one picture, or a stack in
the file of an array."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from itervae.data.arrays import content_hash
from itervae.data.folders import files_below
from itervae.data.pictures import (
    CHANNELS,
    PICTURE_SUFFIXES,
    UNREADABLE,
    Picture,
    check_intensities,
    pages,
    read_picture,
    to_colour,
    to_grey,
    white_level,
)
from itervae.data.progress import watched
from itervae.data.remarks import Tally, left_out, remarks
from itervae.data.whitening import is_constant
from itervae.errors import InputError
from itervae.formats import FORMATS, is_array_file, named, read_array


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image without its pixels: its position in the stack, or in the sorted
    list of files and their pages; what messages call it; (H, W); the hash of its content."""

    number: int
    name: str
    size: tuple[int, int]
    content: str


@dataclass(frozen=True)
class ImageSet:
    """Images that were looked at once, and are read again, one by one, when they are used.

    Attributes:
        images: what is known of each.
        read: number to picture.
        skipped: files that could not be read.
        constant: images dropped because every pixel is equal.
        content: hash of all that was read.
        white: the white level of 16-bit pictures, None where there are none.
        colour: whether they are wanted in colour, three channels each, or in grey.
    """

    images: list[ImageFacts]
    read: Callable[[int], Picture]
    skipped: int
    constant: int
    content: str
    white: float | None = None
    colour: bool = False

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
        return to_grey(self._values(index), self.white)

    def intensities(self, index: int) -> Tensor:
        """The same in colour where that is wanted, (3, H, W), else (H, W).

        Raises:
            InputError: it is no longer what it was.
        """
        return to_colour(self._values(index), self.white) if self.colour else self.grey(index)

    def _values(self, index: int) -> np.ndarray:
        facts = self.images[index]
        try:
            with warnings.catch_warnings(action="ignore"):  # it was read before, and what there is to say was said
                image = self.read(facts.number).values
        except UNREADABLE as error:
            raise InputError(f"{facts.name} could be read at first and no longer ({error}); bring it back.") from error
        if content_hash([image]) != facts.content:
            raise InputError(f"{facts.name} changed since it was first read; start again when it is at rest.")
        return image


def read_images(
    path: Path, key: str | None, patch_size: int, *, white: float | None = None, colour: bool = False
) -> ImageSet:
    """Read a folder of pictures (nested folders and links too, sorted by path), one picture, or a
    stack of images.

    Every page of a TIFF file is an image; of an animated picture the first frame is. Constant
    images, and pictures of a folder that cannot be read, are left out. What is left out, and how
    pictures became grey, or grey ones became three channels, is said by a warning.

    Args:
        path: a folder; a picture (.png, .jpg, .tif, .bmp, .webp, .gif, .pgm, or van Hateren's
            .iml); a file of an array.
        key: name of an array of a file that holds several.
        patch_size: the smallest side that an image may have.
        white: the white level of 16-bit pictures; by default that of the set, see `white_level`.
        colour: whether they are wanted in colour.

    Raises:
        InputError: nothing there, nothing readable, an image smaller than the patch, all images
            constant, or values that are no intensities.
    """
    if is_array_file(path):
        return images_from_array(read_array(path, key), named(path, key), patch_size, white=white, colour=colour)
    if key is not None:
        raise InputError(f"the key '{key}' does not apply to {path}; only a file of several arrays has named ones.")
    said = []
    if path.is_dir():
        below = files_below(path)
        files = [file for file in below if file.suffix.lower() in PICTURE_SUFFIXES]
        if not files:
            raise InputError(f"{path} holds no picture; put files of one of {', '.join(PICTURE_SUFFIXES)} there.")
        said = left_out(set(below) - set(files), "file that is no picture", "files that are no pictures")
    elif path.is_file():
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            fitting = ", ".join((*PICTURE_SUFFIXES, *FORMATS))
            raise InputError(f"{path} has the suffix '{path.suffix}'; give a folder or a file of one of {fitting}.")
        files = [path]
    else:
        raise InputError(f"{path} does not exist; give a folder of pictures, a picture, or the file of an array.")
    places = [(file, page) for file in files for page in pages(file)]
    names = [str(file) if not page else f"page {page + 1} of {file}" for file, page in places]
    return _looked_at(lambda number: read_picture(*places[number]), names, patch_size, white, colour, said)


def images_from_array(
    array: np.ndarray,
    where: str,
    patch_size: int,
    *,
    white: float | None = None,
    colour: bool = False,
    quiet: bool = False,
) -> ImageSet:
    """Images of a stack (N, H, W) or (N, H, W, 3), or a single (H, W) or (H, W, 3).

    Three dimensions of which the last is 3 are one picture in colour.

    Args:
        array: uint8, uint16, booleans, or floats in [0, 1].
        where: how messages call it.
        patch_size, white, colour: as in `read_images`.
        quiet: whether it is known that they become grey, as of photographs that come with a
            package.

    Raises:
        InputError: another shape; another type; floats that leave [0, 1]; and as in `read_images`.
    """
    coloured = array.ndim in (3, 4) and array.shape[-1] == CHANNELS
    if array.ndim == 2 or (array.ndim == 3 and coloured):
        array = array[None]
    elif array.ndim != 3 and not coloured:
        raise InputError(f"{where} has shape {array.shape}; images are (N, H, W), (N, H, W, 3), (H, W) or (H, W, 3).")
    if not array.size:
        raise InputError(f"{where} is empty, of shape {array.shape}; give at least one image.")
    names = [f"image {number} of {where}" for number in range(len(array))]
    if array.dtype.kind == "f":
        for name, image in zip(names, array, strict=True):
            check_intensities(image, name)
    elif array.dtype != bool and array.dtype.str[1:] not in ("u1", "u2"):
        raise InputError(
            f"{where} holds {array.dtype} values; images are uint8, uint16, booleans or floats in [0, 1]: convert them."
        )
    return _looked_at(lambda number: Picture(array[number]), names, patch_size, white, colour, None if quiet else [])


def _looked_at(
    read: Callable[[int], Picture],
    names: list[str],
    patch_size: int,
    white: float | None,
    colour: bool,
    said: list[str] | None,
) -> ImageSet:
    """Read every image once, and keep what there is to know but its pixels; `said` None: without a
    word on greys."""
    kept, problems, flat, tally = [], [], [], Tally()

    def whole() -> Iterator[np.ndarray]:
        for number, name in enumerate(watched(names, len(names), "reading images")):
            try:
                picture = read(number)
            except UNREADABLE as error:
                problems.append(f"{name} ({error})")
                continue
            image = picture.values
            height, width = image.shape[:2]
            if min(height, width) < patch_size:
                raise InputError(
                    f"{name} has {height}x{width} pixels, less than a patch of {patch_size}x{patch_size}; remove it "
                    "or give a smaller `patch_size`."
                )
            if bool(is_constant(to_colour(image) if colour else to_grey(image)).all()):
                flat.append(name)
            else:
                kept.append(ImageFacts(number, name, (height, width), content_hash([image])))
                tally.add(picture)
            yield image

    content = content_hash(whole())
    if len(problems) == len(names):
        raise InputError(f"no picture could be read: {some(problems)}; check or replace the files.")
    if not kept:
        raise InputError(f"{flat[0]} is constant, and so is every other image; give images with structure.")
    level = (white or white_level(tally.peak)) if tally.deep else None
    if said is not None:
        said = [*said, *remarks([tally], level, white is not None, "pictures", colour)]
    for line in said or []:
        warnings.warn(line, stacklevel=3)
    if problems:
        warnings.warn(f"{len(problems)} of {len(names)} pictures skipped: {some(problems)}", stacklevel=3)
    if flat:
        warnings.warn(f"{len(flat)} constant images left out: {some(flat)}", stacklevel=3)
    return ImageSet(kept, read, len(problems), len(flat), content, level, colour)


def some(items: list[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
