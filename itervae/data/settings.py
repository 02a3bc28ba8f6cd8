"""Which data a run reads, and how they are prepared: one flat record for the command line and for
configs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import torch

from itervae.arguments import OneOf
from itervae.data.source import Fitted, Source
from itervae.errors import InputError


@dataclass(frozen=True)
class SourceKind:
    """A kind of data: how it is read, and which settings that takes.

    Attributes:
        load: makes the source of some settings, a seed, a device, and what was fitted on training
            data.
        reads: the settings that it reads, beside `data` and `download`; others are refused.
    """

    load: Callable[["DataSettings", int, str | torch.device, Fitted], Source]
    reads: tuple[str, ...]

    @property
    def sequential(self) -> bool:
        """Whether these are sequences of frames."""
        return "frames" in self.reads


SOURCES: dict[str, SourceKind] = {}
"""The kinds of data by name, as `itervae.data.registry` lists them."""
ALWAYS = ("data", "download")
"""Settings that every kind of data has."""
_PLACES = ("data_path", "data_key", "val_path", "val_key", "val_sequences")
"""Settings that name a file, or a part of one."""


@dataclass(frozen=True)
class DataSettings:
    """Which data to read, and how to prepare them."""

    ADVANCED = ("val_path", "val_key", "val_share", "val_sequences", "local_contrast", "download")
    """Settings that few runs need; the help leaves them out, unless it is --help-all."""

    data: Annotated[str, OneOf(SOURCES)] = "photos"
    """Two photographs that come with scikit-learn, your own images, rows of your own array, MNIST,
    or grey CIFAR-10; as sequences your own video, or windows that drift over the two photographs as
    the eye does."""
    data_path: Path | None = None
    """images: a folder of pictures, one picture, or a stack (.npy, .npz); array: an (N, D) array
    (.npy, .npz); video: a file (.mp4, .mov, .avi, .mkv, .webm, .gif, ...), a folder of them or of
    folders of frames, or stacks (.npz)."""
    data_key: str | None = None
    """Name of the array inside an .npz file; needed where the file holds several."""
    val_path: Path | None = None
    """A separate validation set, in the same forms as data_path."""
    val_key: str | None = None
    """Name of the validation array; without val_path it is looked for in data_path."""
    val_share: float = 0.2
    """Share of images, rows or, for a single picture, columns held out where no validation set is
    named."""
    patch_size: int = 16
    """Side of the square patches cut from images, in pixels."""
    frames: int = 16
    """video, drift: frames of a sequence that is cut out for training or validation."""
    val_sequences: str | None = None
    """video: the sequences held out, as a comma-separated list of their names, or as a share of
    them; by default 0.2. all, where a run is measured, holds out every one. A sequence is a clip;
    of a single clip it is a scene, NAME#0, NAME#1, ...; of a single scene the end is held out.
    Names may hold commas; one that is a number is given as '7,'."""
    whiten: bool = True
    """Whiten images before patches are cut; otherwise they are only centred and scaled to unit
    variance."""
    local_contrast: bool = False
    """Divide each pixel by the contrast of its neighbourhood (divisive normalization)."""
    download: bool = True
    """Fetch mnist or cifar16 where they are missing; never done where ITERVAE_DATA names a
    folder."""

    def check_read(self, given: Collection[str] = ()) -> None:
        """Refuse a setting that this kind of data does not read, and an unknown kind. `download` is
        exempt: it only ever forbids something.

        Args:
            given: names of settings known to have been given, beside those that differ from their
                defaults.
        """
        if self.data not in SOURCES:
            raise InputError(f"--data {self.data} is unknown; choose one of {', '.join(SOURCES)}.")
        read = SOURCES[self.data].reads
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in (*ALWAYS, *read) or (value == field.default and field.name not in given):
                continue
            flag = field.name.replace("_", "-")
            text = f"--no-{flag}" if value is False else f"--{flag}" if value is True else f"--{flag} {value}"
            fitting = ", ".join(name for name, kind in SOURCES.items() if field.name in kind.reads)
            raise InputError(f"{text} does not apply to --data {self.data}; leave it out, or use --data {fitting}.")

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: an unknown kind of data, a setting that this kind does not read, a missing
                data_path, or a val_share or patch_size out of range.
        """
        self.check_read()
        if "data_path" in SOURCES[self.data].reads and self.data_path is None:
            raise InputError(f"--data {self.data} needs --data-path, but none is given; name the file or folder.")
        if not 0 < self.val_share < 1:
            raise InputError(f"--val-share {self.val_share} is not a share; give a number between 0 and 1.")
        if (self.val_path is not None or self.val_key is not None) and self.val_share != DataSettings.val_share:
            raise InputError(
                f"--val-share {self.val_share} does not apply where --val-path or --val-key names the validation "
                "set; leave one of them out."
            )
        if self.patch_size < 2:
            raise InputError(f"--patch-size {self.patch_size} is too small; give a side of at least 2 pixels.")
        if self.frames < 1:
            raise InputError(f"--frames {self.frames} is too few; give at least 1.")
        self.held_sequences()

    def overlaid(self, given: Mapping[str, Any]) -> "DataSettings":
        """These settings with others in their place, by name.

        Of another kind of data, what that kind reads too stays as it is, but for the place; of
        another file, all but what names a part of the old one.

        Raises:
            InputError: a setting is given that the kind of data does not read, whatever its value.
        """
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        kind = given.get("data", self.data)
        if kind != self.data:
            read = SOURCES[kind].reads if kind in SOURCES else ()
            kept = {name: value for name, value in kept.items() if name in read and name not in _PLACES}
        elif "data_path" in given:
            kept = {name: value for name, value in kept.items() if name not in _PLACES}
        found = DataSettings(**{**kept, **given, "data": kind})
        found.check_read(given)
        return found

    @property
    def sequential(self) -> bool:
        """Whether these are sequences of frames."""
        return SOURCES[self.data].sequential

    def held_sequences(self) -> float | list[str]:
        """`val_sequences` as a share, or as the list of names that it is, to be divided where names
        are known.

        Raises:
            InputError: a share outside (0, 1).
        """
        if self.val_sequences is None:
            return DataSettings.val_share
        if self.val_sequences == "all":
            return 1.0
        try:
            share = float(self.val_sequences)
        except ValueError:
            return [self.val_sequences]
        if not 0 < share < 1:
            raise InputError(
                f"--val-sequences {self.val_sequences} is not a share; give a number between 0 and 1, or "
                f"'{self.val_sequences},' for the sequence of that name."
            )
        return share
