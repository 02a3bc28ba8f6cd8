"""A user's own pictures, film or rows as inputs to a trained run: prepared as the run prepared what
it was trained on. A run with a convolutional dictionary takes pictures whole, of any size; any
other the patches that they are tiled with.

What was fitted on the training data, such as the scale of whitened frames, is the run's
(`Source.fitted`) and not that of the new input. Nothing is guessed from values: an array of two
dimensions is rows, pictures are picture files, stacks of three dimensions or asked for, and what
was taken for what is said (`Inputs.taken`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from itervae.data.arrays import large_rows
from itervae.data.decoding import read_clips
from itervae.data.images import ImageSet, images_from_array, read_images
from itervae.data.origins import VIDEO_SUFFIXES
from itervae.data.patches import tile_image, whitened
from itervae.data.photographs import prepare_images
from itervae.data.pictures import CHANNELS, check_intensities, to_grey, white_level
from itervae.data.prepared import Inputs
from itervae.data.recordings import check_rate, prepared
from itervae.data.rows import flattened
from itervae.data.scenes import scene_cuts
from itervae.data.settings import DataSettings
from itervae.data.shards import Array, is_sharded, read_data
from itervae.data.source import Fitted
from itervae.data.whitening import filter_image
from itervae.errors import InputError
from itervae.formats import is_array_file

Kind = Literal["rows", "images", "video"]
_PICTURES = ("photos", "images", "cifar16", "video", "drift")  # the data whose runs see patches of pictures


@dataclass(frozen=True)
class Preparation:
    """How a run prepared its data, to prepare others the same way.

    Attributes:
        settings: of its data.
        shape: of a datum, D = prod(shape).
        fitted: what was fitted on its training data.
        atoms: K of a dictionary file, whose atoms may lie in its rows by mistake.
        atom_size: largest side of the atoms of a convolutional dictionary, which takes data of any
            size; None of another.

    Example:
        run = itervae.load("runs/my-run")
        inputs = run.prepare("clip.mp4")  # or (N, H, W) of uint8, uint16, or floats in [0, 1]
        posterior = itervae.infer(run.model, run.engine, inputs.x).posterior
    """

    settings: DataSettings
    shape: tuple[int, ...]
    fitted: Fitted = field(default_factory=dict)
    atoms: int | None = None
    atom_size: int | None = None

    def __call__(self, given: Any, kind: Kind | None = None, key: str | None = None) -> Inputs:
        """Prepare a file, or an array; pictures that are taken whole have to be of one size (`each`
        takes others).

        Raises:
            InputError: as `each`, or pictures of several sizes.
        """
        found = self.each(given, kind, key)
        if len(found) > 1:
            sizes = ", ".join(dict.fromkeys("x".join(map(str, part.x.shape[-2:])) for part in found))
            raise InputError(
                f"the pictures are of {sizes} pixels; prepare them by `each`, which gives those of each size."
            )
        return found[0]

    def each(self, given: Any, kind: Kind | None = None, key: str | None = None) -> list[Inputs]:
        """Prepare a file, or an array: one `Inputs` or, of pictures of several sizes that are taken
        whole, one for each size, in order.

        Args:
            given: a path, or an array or tensor: rows (N, D), one picture, a stack (N, H, W), in
                colour (N, H, W, 3).
                Of a run on video a stack is film, its frames in order.
            kind: what to take it for, where that is not what its shape or suffix says.
            key: name of the array in a file that holds several.

        Raises:
            InputError: it cannot be read, its shape fits nothing that the run takes, or values are
                out of range.
        """
        if not isinstance(given, str | Path):
            if key is not None:
                raise InputError(f"the key '{key}' does not apply to an array; leave it out.")
            array = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
            return self._of_array(array, "the array", kind)
        path = Path(given).expanduser()
        rows = kind == "rows" or not self._on_pictures
        if is_array_file(path) or (rows and is_sharded(path)):
            check_rate(path, self.fitted)
            return self._of_array(*read_data(path, key), kind)
        if not self._on_pictures:
            raise InputError(
                f"{path} is no file of an array (.npy, .csv, .mat, ...), but this run takes arrays {self._rows}; save "
                "the data as such."
            )
        if kind == "rows":
            raise InputError(f"{path} holds pictures, which are no rows; leave out `as=rows`.")
        film = path.suffix.lower() in VIDEO_SUFFIXES or (path.is_dir() and self.settings.data == "video")
        if kind == "video" or (kind is None and film):
            return self._clip(path)
        white, colour = self.fitted.get("white"), self.settings.colour
        return self._pictures(read_images(path, key, self._checked, white=white, colour=colour), str(path))

    @property
    def side(self) -> int:
        """Side of a patch, pixels."""
        return self.shape[-1]

    @property
    def _least(self) -> int:
        """The smallest side that a picture may have."""
        return self.side if self.atom_size is None else self.atom_size

    @property
    def _checked(self) -> int:
        """The smallest side that one may have when it is read; `_whole` looks at others."""
        return self.side if self.atom_size is None else 1

    @property
    def _on_pictures(self) -> bool:
        fits = len(self.shape) == (3 if self.settings.colour else 2)
        return self.settings.data in _PICTURES and fits and (self.atom_size is not None or self.shape[-2] == self.side)

    @property
    def _rows(self) -> str:
        """The shapes of rows, for messages."""
        dim, several = prod(self.shape), len(self.shape) > 1
        found = f"(N, {dim})" + (f" or (N, {', '.join(map(str, self.shape))})" if several else "")
        return found if self.atom_size is None else found + ", or such of another size in their own shape"

    def _of_array(self, array: Array, where: str, kind: Kind | None) -> list[Inputs]:
        dim = prod(self.shape)
        fits = array.ndim > 1 and array.shape[1:] in ((dim,), tuple(self.shape), (1, *self.shape))
        if kind is None:
            kind = "rows" if array.ndim == 2 or fits or not self._on_pictures else None
        if kind == "rows":
            return [self._of_rows(array, where, fits)]
        array = np.asarray(array)
        if not self._on_pictures:
            raise InputError(
                f"{where} was to be taken as {kind}, but this run takes arrays {self._rows}; leave that out."
            )
        colour = array.ndim in (3, 4) and array.shape[-1] == CHANNELS
        sides = array.shape[-3:-1] if colour else array.shape[-2:]
        if array.ndim not in (2, 3, 4) or (array.ndim == 4 and not colour) or min(sides, default=0) < self._least:
            raise InputError(
                f"{where} has shape {array.shape}, but this run takes {self._rows}, or pictures of at least "
                f"{self._least}x{self._least} pixels, (N, H, W) or (N, H, W, 3); reshape or crop it."
            )
        film = self.settings.data == "video" and kind in (None, "video") and array.ndim - colour == 3
        if film:
            return self._film(array, where)
        if kind == "video":
            raise InputError(
                f"{where} of shape {array.shape} is no film for this run; give a stack (T, H, W) to a run on video."
            )
        white, colour = self.fitted.get("white"), self.settings.colour
        return self._pictures(images_from_array(array, where, self._checked, white=white, colour=colour), where)

    def _of_rows(self, array: Array, where: str, fits: bool) -> Inputs:
        dim = prod(self.shape)
        if not fits and self._another_size(array.shape):
            return self._sized(array, where)
        if not fits:
            remedy = "reshape or crop it"
            if array.ndim == 2 and array.shape[0] == dim:
                remedy = "transpose it, as its rows are what should be columns"
            elif array.ndim == 2 and array.shape[1] == self.atoms:
                remedy = "if the atoms lie in the rows of the dictionary, as those of scikit-learn do, say `atoms=rows`"
            elif self.atoms is not None and array.ndim > 2 and prod(array.shape[1:]) == dim:
                remedy = f"give the shape of an atom, `shape={' '.join(map(str, array.shape[1:]))}`"
            elif array.ndim == 2 and self._on_pictures and min(array.shape) >= self.side:
                remedy = "reshape it or, if it is one picture, take it as images (`as=images`)"
            raise InputError(f"{where} has shape {array.shape}, but this run takes {self._rows}; {remedy}.")
        x = large_rows(flattened(array), where, self.settings.divide_by, self.settings.missing == "nan")
        low, high = float(x.min()), float(x.max())
        if self.settings.data.partition(":")[0] in ("mnist", "torchvision") and not 0 <= low <= high <= 1:
            raise InputError(
                f"{where} holds values from {low:g} to {high:g}, but this run takes intensities in [0, 1]; divide by "
                "the largest possible intensity, such as 255."
            )
        scale = self.settings.divide_by
        how = "as they are" if scale == 1 else f"divided by {scale:g} as those of the run"
        if self.settings.data == "recordings":
            x, how = prepared(x[:].unflatten(1, self.shape), self.fitted).flatten(1), "prepared as those of the run"
        return Inputs(x, taken=f"{where} was taken for {len(x)} rows of {dim} values, {how}")

    def _another_size(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape holds signals as those of the run, but of another size."""
        if self.atom_size is None or len(shape) != 1 + len(self.shape) or 0 in shape:
            return False
        return len(self.shape) < 3 or shape[1] == self.shape[0]

    def _sized(self, array: Array, where: str) -> Inputs:
        scale, size = self.settings.divide_by, "x".join(map(str, array.shape[1:]))
        x = large_rows(flattened(array), where, scale, self.settings.missing == "nan")[:].unflatten(1, array.shape[1:])
        if self.settings.data == "recordings":
            taken = f"{where} was taken for {len(x)} recordings of {size} values, whole, prepared as those of the run"
            return Inputs(prepared(x, self.fitted), taken=taken)
        how = "as they are" if scale == 1 else f"divided by {scale:g} as those of the run"
        return Inputs(x, taken=f"{where} was taken for {len(x)} data of {size} values, whole, {how}")

    def _clip(self, path: Path) -> list[Inputs]:
        clips = read_clips(path, white=self.fitted.get("white"))
        if len(clips.clips) != 1:
            names = ", ".join(clip.name for clip in clips.clips[:3])
            raise InputError(f"{path} holds {len(clips.clips)} clips ({names}, ...); give one at a time.")
        frames = clips.clips[0].frames
        if min(frames.shape[1:]) < self._least:
            raise InputError(
                f"{path} has frames of {frames.shape[1]}x{frames.shape[2]} pixels, less than "
                f"{'a patch' if self.atom_size is None else 'an atom'} of {self._least}x{self._least}; give a larger "
                "one."
            )
        if self.settings.data == "video":
            return self._film(frames, str(path))
        images = images_from_array(frames, str(path), self._checked, colour=self.settings.colour)
        return self._pictures(images, str(path))

    def _film(self, frames: np.ndarray, where: str) -> list[Inputs]:
        """Frames (T, H, W) or (T, H, W, 3) in order, all of them, whitened as `video` does."""
        if frames.dtype.kind == "f":
            check_intensities(frames, where)
        deep = frames.dtype.str[1:] == "u2"
        white = self.fitted.get("white") or (white_level(int(frames.max())) if deep else None)
        grey = (to_grey(frame, white) for frame in frames)
        scenes = (0, *scene_cuts(frames)) if frames.dtype == np.uint8 and frames.ndim == 3 else (0,)
        return [self._tiles(grey, list(range(len(frames))), where, scenes)]

    def _pictures(self, images: ImageSet, where: str) -> list[Inputs]:
        numbers = [facts.number for facts in images.images]
        if self.settings.data == "video":
            return [self._tiles(map(images.grey, range(len(images))), numbers, where, None)]
        if self.atom_size is not None:
            return self._whole(images, numbers, where)
        return [self._tiles(prepare_images(images, self.settings), numbers, where, None)]

    def _whole(self, images: ImageSet, numbers: list[int], where: str) -> list[Inputs]:
        """Whole pictures in order, neighbours of one size together."""
        sizes, found = images.sizes(), []
        for facts in images.images:
            if min(facts.size) < self._least:
                raise InputError(
                    f"{facts.name} has {facts.size[0]}x{facts.size[1]} pixels, less than an atom of "
                    f"{self._least}x{self._least}; leave it out, or give a larger one."
                )
        pixels = dict.fromkeys(f"{height}x{width}" for height, width in sizes)
        of = " and ".join(pixels) if len(pixels) < 4 else "several sizes of"
        what = f"{len(sizes)} whole picture{'s' * (len(sizes) > 1)} of {of} pixels"
        taken = f"{where} was taken for {what}, prepared as those of the run"
        for _, group in groupby(range(len(sizes)), key=lambda index: sizes[index]):
            members = list(group)
            positions = torch.tensor([[numbers[index], 0, 0] for index in members])
            found.append(Inputs(torch.stack(list(prepare_images(images, self.settings, members))), positions, taken))
        return found

    def _tiles(
        self, pictures: Iterable[Tensor], numbers: list[int], where: str, scenes: tuple[int, ...] | None
    ) -> Inputs:
        """Patches of pictures that are prepared or, for a run on video, grey in [0, 1]; for a
        convolutional dictionary whole pictures, of one size."""
        video = self.settings.data == "video"
        x, positions, sizes = [], [], set()
        for number, picture in zip(numbers, pictures, strict=True):
            sizes.add("x".join(map(str, picture.shape[-2:])))
            image = filter_image(picture.double()).float() if video else picture
            if self.atom_size is None:
                patches, corners = tile_image(image, self.side)
            else:
                patches, corners = image[None], torch.zeros(1, 2, dtype=torch.int64)
            x.append(patches * self.fitted["scale"] if video else whitened(patches, self.fitted.get("zca")))
            positions.append(torch.cat([torch.full((len(corners), 1), number), corners], 1))
        what = "frames of film" if scenes is not None else "picture" if len(x) == 1 else "pictures"
        how = "whitened as the frames that the run was trained on" if video else "prepared as those of the run"
        pixels = sizes.pop() if len(sizes) == 1 else "several sizes of"
        if self.atom_size is not None and sizes:
            raise InputError(f"{where} holds pictures of several sizes; give those of one size at a time.")
        cut = "whole" if self.atom_size else f"in {sum(map(len, x))} patches of {self.side}x{self.side}"
        return Inputs(
            torch.cat(x),
            torch.cat(positions),
            f"{where} was taken for {len(x)} {what} of {pixels} pixels, {how}, {cut}",
            scenes,
        )
