"""Which data a run reads, and how they are prepared: one flat record for the command line and for
configs."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from itervae.arguments import AtLeast, OneOf, nearest
from itervae.data.kinds import SOURCES, SYNTHETIC, SourceKind, source_kind
from itervae.data.synthetic_settings import SyntheticSettings
from itervae.errors import InputError

MOST_ZCA = 4096
"""Values of the largest patch that ZCA whitens; work and memory of its matrix grow fast with
them."""
ALWAYS = ("data", "download")
"""Settings that every kind of data has."""
_PLACES = (
    "data_path", "data_key", "val_path", "val_key", "val_sequences",
    "labels", "labels_key", "val_labels", "val_labels_key",
)  # fmt: skip
"""Settings that name a file, or a part of one."""


@dataclass(frozen=True)
class DataSettings(SyntheticSettings):
    """Which data to read, and how to prepare them."""

    ADVANCED = (
        "val_path", "val_key", "val_share", "val_sequences", "labels_key", "val_labels", "val_labels_key", "missing",
        "patches", "whitening", "local_contrast", "contrast_rule", "download", *SYNTHETIC,
    )  # fmt: skip
    """Settings that few runs need; the help leaves them out, unless it is --help-all."""

    data: Annotated[str, OneOf(SOURCES, members=True)] = "photos"
    """Two photographs that come with scikit-learn, your own images, rows or images of your own
    array, MNIST, CIFAR-10, or labelled pictures of torchvision, such as
    torchvision:FashionMNIST; windows of recordings; synthetic data of a known dictionary; as
    sequences your own video, or windows that drift over the two photographs as the eye does."""
    data_path: Path | None = None
    """images: a folder of pictures, one picture, or a stack in the file of an array; array: a file
    (.npy, .npz, .csv, .mat, .h5, .hdf5, .safetensors, idx) of (N, D), (N, H, W) or (N, C, H, W),
    or a folder or pattern of .npy or .safetensors files, one after the other; recordings: a .wav
    file, a folder of them, or an array (N, T) or (N, C, T); video: a file
    (.mp4, .mov, .avi, .mkv, .webm, .gif, ...), a folder of them or of folders of frames, or stacks
    (.npz); torchvision: the folder of its files, if they are there."""
    data_key: str | None = None
    """Name of the array inside a file (.npz, .mat, .h5) that holds several."""
    val_path: Path | None = None
    """A separate validation set, in the same forms as data_path."""
    val_key: str | None = None
    """Name of the validation array; without val_path it is looked for in data_path."""
    val_share: float = 0.2
    """Share of images, rows or, for a single picture, columns held out where no validation set is
    named."""
    shape: tuple[int, ...] | None = None
    """Shape of a datum in an array of flat rows, H W or C H W, for pictures and convolutions; an
    array (N, H, W) or (N, C, H, W) has its own."""
    divide_by: float = 1.0
    """What the values of an array are divided by, such as 255 for bytes."""
    missing: Literal["nan"] | None = None
    """What stands for a value that was not seen: nan, which is refused otherwise. Such values weigh
    nothing in the free energy."""
    labels: Path | None = None
    """File with the class of each datum of an array, whole numbers or words, for evaluate; in any
    format of arrays."""
    labels_key: str | None = None
    """Name of the array of labels; without --labels it is looked for in data_path."""
    val_labels: Path | None = None
    """The same of a separate validation set."""
    val_labels_key: str | None = None
    """Name of its array; without --val-labels it is looked for where the validation set is."""
    patch_size: int = 16
    """Side of the square patches cut from images, in pixels; of recordings the samples of a
    window."""
    patches: Annotated[int | None, AtLeast(1)] = None
    """Number of training patches, cut once and then visited in a new order in every epoch, as
    published (some 100,000); by default every batch is cut anew."""
    frames: int = 16
    """video, drift: frames of a sequence that is cut out for training or validation."""
    val_sequences: str | None = None
    """video: the sequences held out, as a comma-separated list of their names, or as a share of
    them; by default 0.2. all, where a run is measured, holds out every one. A sequence is a clip;
    of a single clip it is a scene, NAME#0, NAME#1, ...; of a single scene the end is held out.
    Names may hold commas; one that is a number is given as '7,'."""
    colour: bool = False
    """Keep the colour of pictures, three channels; otherwise they become grey. A grey picture then
    has three equal channels."""
    whiten: bool = True
    """Whiten images before patches are cut; otherwise they are only centred and scaled to unit
    variance."""
    whitening: Literal["filter", "zca"] = "filter"
    """How: filter is a band-pass filter of whole pictures, channel by channel; zca makes the values
    of patches uncorrelated, colours too, by a matrix (Σ + εI)^(−1/2) of the training patches, which
    the run keeps."""
    local_contrast: bool = False
    """Normalize the contrast of each pixel's neighbourhood, after whitening."""
    contrast_rule: Literal["divisive", "published"] = "divisive"
    """How --local-contrast does it: divisive divides by the contrast in a Gaussian of 4 pixels;
    published, as for the P-VAE, subtracts the local mean and divides by the local contrast, at
    least the image's mean contrast, both in a Gaussian of 3 pixels, cut to 13x13."""
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
        if source_kind(self.data) is None:
            raise self._unknown()
        read = self.kind.reads
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in (*ALWAYS, *read) or (value == field.default and field.name not in given):
                continue
            words = " ".join(map(str, value)) if isinstance(value, tuple) else value
            fitting = ", ".join(name for name, kind in SOURCES.items() if field.name in kind.reads)
            raise InputError(
                f"`{field.name}={words}` does not apply to `data={self.data}`; leave it out, or use `data={fitting}`."
            )

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: an unknown kind of data, a setting that this kind does not read, a missing
                data_path, or a val_share or patch_size out of range.
        """
        self.check_read()
        if "data_path" in self.kind.reads and self.kind.place and self.data_path is None:
            raise InputError(f"`data={self.data}` needs `data_path`, but none is given; name the file or folder.")
        if not 0 < self.val_share < 1:
            raise InputError(f"`val_share={self.val_share}` is not a share; give a number between 0 and 1.")
        if self.separate and self.val_share != DataSettings.val_share:
            raise InputError(
                f"`val_share={self.val_share}` does not apply where `val_path` or `val_key` names the validation "
                "set; leave one of them out."
            )
        self._check_array()
        if self.patch_size < 2:
            raise InputError(f"`patch_size={self.patch_size}` is too small; give a side of at least 2 pixels.")
        if self.patches is not None and self.patches < 1:
            raise InputError(f"`patches={self.patches}` cuts nothing to train on; expected at least 1.")
        if self.contrast_rule != DataSettings.contrast_rule and not self.local_contrast:
            raise InputError(
                f"`contrast_rule={self.contrast_rule}` says how local contrast is normalized, and it is not; add "
                "`local_contrast=True`, or leave the rule out."
            )
        if self.frames < 1:
            raise InputError(f"`frames={self.frames}` is too few; give at least 1.")
        self._check_pictures()
        self.held_sequences()
        self.check_synthetic()

    def _check_pictures(self) -> None:
        """Refuse ways to prepare pictures that exclude each other."""
        if self.local_contrast and self.colour:
            raise InputError(
                "`local_contrast=True` normalizes the contrast of grey pictures, and `colour=True` keeps colour; leave "
                "one of them out."
            )
        if self.local_contrast and self.whitening == "zca":
            raise InputError(
                "`local_contrast=True` normalizes pictures that are whitened, and `whitening=zca` whitens patches; "
                "leave one of them out."
            )
        if not self.whiten and self.whitening == "zca":
            raise InputError(
                "`whitening=zca` says how images are whitened, and `whiten=False` that they are not; leave one of them "
                "out."
            )
        values = self.patch_size**2 * (3 if self.colour else 1)
        if self.whitening == "zca" and values > MOST_ZCA:
            raise InputError(
                f"`whitening=zca` needs a matrix of {values}x{values} for patches of {values} values, and at most "
                f"{MOST_ZCA} are taken; give a smaller `patch_size`, or use `whitening=filter`."
            )

    def check_pictures(self) -> None:
        """Refuse what is for patches alone, where pictures are taken whole.

        Raises:
            InputError: ZCA.
        """
        if self.whitening == "zca":
            raise InputError(
                "`whitening=zca` whitens patches, and a convolutional dictionary takes whole pictures; use "
                "`whitening=filter`, or a decoder of patches."
            )

    def _check_array(self) -> None:
        """Refuse settings of an array that are out of range or miss each other."""
        if self.shape is not None and (len(self.shape) not in (2, 3) or min(self.shape) < 1):
            raise InputError(
                f"`shape={' '.join(map(str, self.shape))}` is no shape of images; give H W or C H W, whole numbers ≥ 1."
            )
        if not 0 < self.divide_by < math.inf:
            raise InputError(f"`divide_by={self.divide_by}` is no positive number; give one, such as 255 for bytes.")
        if self.labelled and self.separate and not self.val_labelled:
            raise InputError(
                "`labels` are those of `data_path`, and the validation set, which is measured, is another; add its own "
                "with `val_labels` or `val_labels_key`."
            )
        if self.val_labelled and not self.separate:
            raise InputError(
                "`val_labels` are those of a separate validation set, and none is named; give `labels`, or name the "
                "set with `val_path` or `val_key`."
            )

    def _unknown(self) -> InputError:
        """The error of a kind of data that is none."""
        kinds = [f"{name}:{kind.member}" if kind.member else name for name, kind in SOURCES.items()]
        hint = "" if self.data in SOURCES else nearest(self.data.partition(":")[0], SOURCES)
        return InputError(f"`data={self.data}` is unknown; {hint}choose one of {', '.join(kinds)}.")

    @property
    def kind(self) -> SourceKind:
        """The kind of data.

        Raises:
            InputError: there is none of that name.
        """
        if (found := source_kind(self.data)) is None:
            raise self._unknown()
        return found

    @property
    def filtered(self) -> bool:
        """Whether whole pictures are whitened, by the filter."""
        return self.whiten and self.whitening == "filter"

    @property
    def separate(self) -> bool:
        """Whether the validation set is another array than the training set."""
        return self.val_path is not None or self.val_key is not None

    @property
    def labelled(self) -> bool:
        """Whether labels of the training set are named."""
        return self.labels is not None or self.labels_key is not None

    @property
    def val_labelled(self) -> bool:
        """Whether labels of a separate validation set are named."""
        return self.val_labels is not None or self.val_labels_key is not None

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
            read = found.reads if (found := source_kind(kind)) else ()
            kept = {name: value for name, value in kept.items() if name in read and name not in _PLACES}
        elif "data_path" in given:
            kept = {name: value for name, value in kept.items() if name not in _PLACES}
        chosen = DataSettings(**{**kept, **given, "data": kind})
        chosen.check_read(given)
        return chosen

    @property
    def sequential(self) -> bool:
        """Whether these are sequences of frames."""
        return self.kind.sequential

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
                f"`val_sequences={self.val_sequences}` is not a share; give a number between 0 and 1, or "
                f"'{self.val_sequences},' for the sequence of that name."
            )
        return share


def check_window(window: int, frames: int) -> None:
    """Refuse a window outside 1 .. T."""
    if not 1 <= window <= frames:
        raise InputError(f"`window={window}` does not fit sequences of {frames} frames; give 1 to {frames}.")
