"""The kinds of data by name, for command lines and configurations: how each is read, and which
settings that takes."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from itervae.data.synthetic_settings import SyntheticSettings
from itervae.registry import Listed


@dataclass(frozen=True)
class SourceKind:
    """A kind of data: how it is read, and which settings that takes.

    Attributes:
        load: makes the `Source` of some `DataSettings`, a seed, a device, and what was fitted on
            training data; or `Listed`, where it is.
        reads: the settings that it reads, beside `data` and `download`; others are refused.
        member: what follows the name and a colon, such as the CLASS of torchvision:CLASS; None
            where nothing does.
        place: whether `data_path` has to be given, where it is read.
    """

    load: Callable[[Any, int, Any, Any], Any] | Listed
    reads: tuple[str, ...]
    member: str | None = None
    place: bool = True

    @property
    def sequential(self) -> bool:
        """Whether these are sequences of frames."""
        return "frames" in self.reads


HERE = "itervae.data"
PREPARED = ("colour", "whiten", "whitening", "local_contrast", "contrast_rule")
PATCHES = ("patch_size", "patches", *PREPARED)
SYNTHETIC = tuple(field.name for field in fields(SyntheticSettings))
SOURCES: dict[str, SourceKind] = {
    "photos": SourceKind(Listed(f"{HERE}.photographs:photos_source"), reads=("val_share", *PATCHES)),
    "images": SourceKind(
        Listed(f"{HERE}.photographs:images_source"),
        reads=("data_path", "data_key", "val_path", "val_key", "val_share", *PATCHES),
    ),
    "array": SourceKind(
        Listed(f"{HERE}.arrays:array_source"),
        reads=(
            "data_path", "data_key", "val_path", "val_key", "val_share", "shape", "divide_by", "missing",
            "labels", "labels_key", "val_labels", "val_labels_key",
        ),
    ),
    "recordings": SourceKind(
        Listed(f"{HERE}.recordings:recordings_source"), reads=("data_path", "data_key", "val_share", "patch_size")
    ),
    "synthetic": SourceKind(Listed(f"{HERE}.synthetic:synthetic_source"), reads=("val_share", *SYNTHETIC)),
    "mnist": SourceKind(Listed(f"{HERE}.benchmarks:mnist_source"), reads=()),
    "cifar16": SourceKind(
        Listed(f"{HERE}.benchmarks:cifar16_source"), reads=("val_share", *PREPARED)
    ),
    "torchvision": SourceKind(
        Listed(f"{HERE}.torchvision_sets:torchvision_source"),
        reads=("data_path", "val_share", "colour"),
        member="CLASS",
        place=False,
    ),
    "video": SourceKind(
        Listed(f"{HERE}.video:load_video"), reads=("data_path", "patch_size", "frames", "val_sequences")
    ),
    "drift": SourceKind(Listed(f"{HERE}.drift:load_drift"), reads=("val_share", "patch_size", "frames")),
}  # fmt: skip
"""The kinds of data, in the order in which they are listed."""


def source_kind(data: str) -> SourceKind | None:
    """The kind of data of a name, NAME or NAME:MEMBER; None where there is none."""
    name, _, member = data.partition(":")
    kind = SOURCES.get(name)
    return kind if kind is not None and bool(member) == (kind.member is not None) else None
