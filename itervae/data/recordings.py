"""Recordings, signals in time of one or more channels: cut into windows at random for training, and
encoded whole.

A recording is minus its mean, channel by channel, and all are scaled by one number to unit variance
of the training data.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from itervae.arrays import as_float32
from itervae.data.arrays import content_hash
from itervae.data.pixels import Pixels, keep_pixels
from itervae.data.pools import Pool, PoolSource
from itervae.data.settings import DataSettings
from itervae.data.source import FIXED_SEED, VALIDATION, Fitted, held_out, random_stream
from itervae.errors import InputError
from itervae.formats import is_array_file, named, read_array, sample_rate

VALIDATION_WINDOWS = 2000
RATE = "rate"
"""Samples a second, of recordings whose files say so."""


class WindowPool(Pool):
    """All windows of a set of recordings, each start equally likely.

    Args:
        pixels: the recordings one after the other, channel by channel.
        lengths: of each, none shorter than the window.
        channels: C.
        patch_size: samples of a window.
    """

    kind = "windows"

    def __init__(self, pixels: Pixels, lengths: Sequence[int], channels: int, patch_size: int) -> None:
        self.pixels, self.count, self.patch_size = pixels, len(lengths), patch_size
        length = torch.tensor(lengths, device=pixels.values.device)
        self._length, self._offset = length, channels * (length.cumsum(0) - length)
        self._ends = (length - patch_size + 1).cumsum(0)
        self._channel = torch.arange(channels, device=length.device)
        self.positions = int(self._ends[-1])

    def draw(self, generator: np.random.Generator, count: int) -> Tensor:
        return torch.from_numpy(generator.integers(self.positions, size=count))

    def cut(self, places: Tensor) -> Tensor:
        """The window at each start, its channels in a row: (B,) int64 to (B, C · P) float32."""
        places = places.to(self._ends.device)
        which = torch.searchsorted(self._ends, places, right=True)
        start = places - torch.where(which > 0, self._ends[which - 1], 0)
        first = (self._offset[which] + start)[:, None] + self._length[which][:, None] * self._channel
        return self.pixels.take_runs(first, self.patch_size)


class RecordingSource(PoolSource):
    """Windows of recordings at random starts, cut afresh for every batch."""

    def __init__(
        self,
        train: Sequence[Tensor],
        held: Sequence[Tensor],
        settings: DataSettings,
        seed: int,
        device: str | torch.device,
        fitted: Fitted,
        facts: dict[str, int | float | str | bool],
    ) -> None:
        channels, window = train[0].shape[0], settings.patch_size
        self.name, self.seed, self.fitted = "recordings", seed, fitted
        self.shape = (window,) if channels == 1 else (channels, window)
        pools = []
        for part in (train, held):
            lengths = [recording.shape[1] for recording in part]
            pixels = keep_pixels(part, channels * sum(lengths), ("recordings", facts["content"], lengths), device)
            pools.append(WindowPool(pixels, lengths, channels, window))
        self.pool, self.held_positions = pools[0], pools[1].positions
        drawn, self.dropped = pools[1].sample(random_stream(FIXED_SEED, VALIDATION), VALIDATION_WINDOWS)
        self.validation = drawn.to(device)
        self.device, self._held, self._facts = self.validation.device, held, facts

    def held_pictures(self) -> list[Tensor]:
        """The recordings that are held out, whole: each (T,), or (C, T)."""
        return [recording[0] if len(recording) == 1 else recording for recording in self._held]

    def describe(self) -> dict[str, int | float | str | bool]:
        assert self.pool is not None
        return {
            "data": self.name,
            "shape": "x".join(map(str, self.shape)),
            "train_recordings": self.pool.count,
            "train_positions": self.pool.positions,
            "validation_recordings": len(self._held),
            "validation_windows": len(self.validation),
            "dropped_windows": self.dropped,
            **self._facts,
        }


def recordings_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> RecordingSource:
    """The recordings of a file or a folder; a fixed random share of them is for validation, of a
    single one its end.

    Raises:
        InputError: what is no recording, recordings of different channels or sample rates, or
            shorter than a window.
    """
    assert settings.data_path is not None  # `DataSettings.check` has seen to it
    path, window = Path(settings.data_path).expanduser(), settings.patch_size
    recordings, rate, content = read_recordings(path, settings.data_key)
    if len(recordings) == 1:
        (whole,) = recordings
        first = round((1 - settings.val_share) * whole.shape[1])
        train, held = [whole[:, :first]], [whole[:, first:]]
    else:
        chosen = held_out(len(recordings), settings.val_share, "recordings")
        train, held = ([recordings[index] for index in part] for part in chosen)
    for part in (*train, *held):
        if part.shape[1] < window:
            raise InputError(
                f"{path} holds a recording, or a part that is trained on or held out, of {part.shape[1]} samples; give "
                f"longer ones, or a `patch_size` of at most that, in place of {window}."
            )
    train, held = ([part - part.mean(1, keepdim=True) for part in parts] for parts in (train, held))
    scale = fitted.get("scale") or _scale(train, path)
    kept = {"scale": scale} | ({} if rate is None else {RATE: float(rate)})
    train, held = ([scale * part for part in parts] for parts in (train, held))
    return RecordingSource(train, held, settings, seed, device, kept, {"path": str(path), "content": content})


def read_recordings(path: Path, key: str | None) -> tuple[list[Tensor], int | None, str]:
    """The recordings (C, T) of a file or a folder, their sample rate if they have one, and the hash
    of their content."""
    if not path.is_dir():
        array = read_array(path, key)
        if array.ndim not in (2, 3) or not array.size:
            raise InputError(
                f"{named(path, key)} has shape {array.shape}; recordings are (N, T), or (N, C, T) of C channels: "
                "reshape it."
            )
        rows = as_float32(array, named(path, key))
        found = [row[None] if row.ndim == 1 else row for row in rows]
        return found, sample_rate(path) if path.suffix.lower() == ".wav" else None, content_hash([array])
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".wav" and is_array_file(file))
    if not files:
        raise InputError(f"{path} is a folder without .wav files; name one that has some, or a file.")
    arrays = [read_array(file) for file in files]
    for file, array in zip(files, arrays, strict=True):
        if array.shape[:-1] != arrays[0].shape[:-1] or sample_rate(file) != sample_rate(files[0]):
            raise InputError(
                f"{file} has {_channels(array)} at {sample_rate(file)} samples a second, and {files[0]} "
                f"{_channels(arrays[0])} at {sample_rate(files[0])}; give recordings that are alike."
            )
    found = [as_float32(array, str(file))[0] for file, array in zip(files, arrays, strict=True)]
    found = [row[None] if row.ndim == 1 else row for row in found]
    return found, sample_rate(files[0]), content_hash(arrays)


def prepared(recordings: Tensor, fitted: Fitted) -> Tensor:
    """Recordings (N, ..., T) as those of a run: minus their means, in its scale."""
    return fitted["scale"] * (recordings - recordings.mean(-1, keepdim=True))


def check_rate(path: Path, fitted: Fitted) -> None:
    """Refuse a recording of another sample rate than those of a run."""
    if RATE in fitted and path.suffix.lower() == ".wav" and sample_rate(path) != fitted[RATE]:
        raise InputError(
            f"{path} has {sample_rate(path)} samples a second, and the run was trained at {fitted[RATE]:g}; resample "
            "it."
        )


def _channels(array: np.ndarray) -> str:
    return "one channel" if array.ndim == 2 else f"{array.shape[1]} channels"


def _scale(train: Sequence[Tensor], path: Path) -> float:
    total = sum(float(part.double().square().sum()) for part in train)
    if not total:
        raise InputError(f"{path} holds nothing but silence to train on; give recordings that vary.")
    return (total / sum(part.numel() for part in train)) ** -0.5
