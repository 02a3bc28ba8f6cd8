"""Tubes: windows of P × P pixels through T successive frames, cut from whitened video at random places.

Every frame is filtered as images are (see `whitening`), but not scaled to unit variance by itself: a moment of low
contrast, such as a fade, stays one. One scale, from the training sequences alone, gives them unit variance together.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from itervae.data.decoding import Clips
from itervae.data.images import some
from itervae.data.patches import MAX_REDRAWS, MIN_VARIANCE
from itervae.data.scenes import split_scenes
from itervae.data.source import FIXED_SEED, TRAINING, VALIDATION, Source, check_batch, held_out, random_stream
from itervae.data.whitening import filter_image
from itervae.errors import InputError

VALIDATION_TUBES = 500
CHUNK_FRAMES = 64  # filtered together, which bounds the memory of the Fourier transform


class Tubes(Protocol):
    """What tubes are drawn from.

    Attributes:
        frames, patch_size: T and P.
        count: scenes.
        positions: how many places there are, the size of the set.
    """

    frames: int
    patch_size: int
    count: int
    positions: int

    def draw(self, generator: np.random.Generator, count: int) -> Tensor:
        """`count` random tubes, each frame minus its mean: (count, T, P²) float32."""
        ...


class TubePool:
    """All tubes of a set of scenes, each place in space and time equally likely.

    The frames lie one after the other in one flat float32 tensor, four bytes a pixel, so that tubes of scenes of
    different sizes are cut by a single advanced indexing. A scene that follows another is never reached from it.

    Args:
        scenes: (n, H, W) tensors, consumed one by one.
        sizes: (n, H, W) of each, none smaller than the tube.
        frames, patch_size: T and P.
        device: where the frames live.
    """

    def __init__(
        self,
        scenes: Iterable[Tensor],
        sizes: Sequence[tuple[int, int, int]],
        frames: int,
        patch_size: int,
        device: str | torch.device = "cpu",
    ):
        self.frames, self.patch_size, self.count = frames, patch_size, len(sizes)
        size = torch.tensor(sizes)
        times, rows, columns = (size - torch.tensor([frames, patch_size, patch_size]) + 1).unbind(1)
        ends = size.prod(1).cumsum(0)
        self._ends = (times * rows * columns).cumsum(0).to(device)
        self._rows, self._columns = rows.to(device), columns.to(device)
        self._height, self._width = size[:, 1].to(device), size[:, 2].to(device)
        self._offset = (ends - size.prod(1)).to(device)
        self.positions = int(self._ends[-1])
        self.pixels = torch.empty(int(ends[-1]), dtype=torch.float32, device=device)
        for scene, end in zip(scenes, ends.tolist(), strict=True):
            self.pixels[end - scene.numel() : end] = scene.reshape(-1)

    def locate(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scene, first frame, row and column of each position in 0 .. positions − 1: four (B,) int64."""
        scene = torch.searchsorted(self._ends, positions, right=True)
        inside = positions - torch.where(scene > 0, self._ends[scene - 1], 0)
        columns = self._columns[scene]
        places = self._rows[scene] * columns
        place = inside % places
        return scene, inside // places, place // columns, place % columns

    def cut(self, positions: Tensor) -> Tensor:
        """The tube at each position, each frame minus its mean: (B,) int64 to (B, T, P²) float32."""
        scene, time, row, column = self.locate(positions)
        width = self._width[scene]
        area = self._height[scene] * width
        corner = self._offset[scene] + time * area + row * width + column
        steps, side = (torch.arange(n, device=self.pixels.device) for n in (self.frames, self.patch_size))
        patch = width[:, None, None] * side[:, None] + side  # (B, P, P)
        index = (corner[:, None] + area[:, None] * steps)[:, :, None] + patch.flatten(1)[:, None]
        tubes = self.pixels[index]
        return tubes.sub_(tubes.mean(2, keepdim=True))

    def draw(self, generator: np.random.Generator, count: int) -> Tensor:
        # Drawn on the CPU whatever the device, so that a seed means the same tubes everywhere.
        return self.cut(torch.from_numpy(generator.integers(self.positions, size=count)).to(self.pixels.device))


class TubeSource(Source):
    """Tubes at random places, cut afresh for every batch, each frame minus its mean.

    A datum is one frame, of `shape` (P, P); `batch` gives (size, T, P²) and `validation` is (N, T, P²). A tube without
    variance in any frame is drawn again and counted in `dropped`.

    Args:
        name: see `Source`.
        train, validation: where the tubes of each come from; they share no pixel.
        seed: seed of the training tubes.
        facts: what `describe` adds to the counts.
        validation_tubes: how many tubes are drawn for validation, once, the same for every seed.

    Raises:
        InputError: hardly any tube has variance.
    """

    def __init__(
        self,
        name: str,
        train: Tubes,
        validation: Tubes,
        seed: int,
        *,
        facts: dict[str, int | float | str | bool] | None = None,
        validation_tubes: int = VALIDATION_TUBES,
    ):
        self.name, self.seed, self.frames = name, seed, train.frames
        self.shape = (train.patch_size, train.patch_size)
        self.pool, self.validation_pool = train, validation
        self._facts = facts or {}
        self.validation, self.dropped = _sample(validation, random_stream(FIXED_SEED, VALIDATION), validation_tubes)
        _sample(train, random_stream(seed, VALIDATION), 1)  # scenes without any tube are refused now, not in training

    @property
    def held_share(self) -> float:
        return self.validation_pool.positions / (self.pool.positions + self.validation_pool.positions)

    def batch(self, index: int, size: int) -> Tensor:
        check_batch(index, size)
        tubes, dropped = _sample(self.pool, random_stream(self.seed, TRAINING, index), size)
        self.dropped += dropped
        return tubes

    def describe(self) -> dict[str, int | float | str | bool]:
        return {
            "data": self.name,
            "shape": "x".join(map(str, self.shape)),
            "frames": self.frames,
            "train_scenes": self.pool.count,
            "train_positions": self.pool.positions,
            "validation_scenes": self.validation_pool.count,
            "validation_tubes": len(self.validation),
            "dropped_tubes": self.dropped,
            **self._facts,
        }


def video_source(
    clips: Clips,
    seed: int,
    *,
    frames: int = 16,
    patch_size: int = 16,
    held: float | Sequence[str] = 0.2,
    device: str | torch.device = "cpu",
) -> TubeSource:
    """Tubes of the clips' scenes; whole sequences are held out for validation.

    A sequence is a clip. Of a single clip it is a scene, called NAME#0, NAME#1, ..., since nothing else is left to
    divide. Scenes of fewer than `frames` frames, or smaller than the patch, are counted and left out.

    Args:
        clips: as from `read_clips`.
        seed: of the training tubes.
        frames, patch_size: T and P of the tubes.
        held: names of the sequences to hold out, or the share of them, chosen at random but the same for every seed.
        device: where the frames live.

    Raises:
        InputError: no scene is long enough; an unknown sequence; nothing left to train on, or to hold out; a frames
            below 1, a patch_size below 2 or a share outside (0, 1).
    """
    if frames < 1 or patch_size < 2:
        raise InputError(f"tubes of {frames} frames of side {patch_size} cannot be cut; give at least 1 and 2.")
    sequences = {clip.name: split_scenes(clip.frames) for clip in clips.clips}
    if len(sequences) == 1:
        ((name, scenes),) = sequences.items()
        sequences = {f"{name}#{number}": [scene] for number, scene in enumerate(scenes)}
    every = [scene for scenes in sequences.values() for scene in scenes]
    usable = {name: [s for s in scenes if _fits(s, frames, patch_size)] for name, scenes in sequences.items()}
    usable = {name: scenes for name, scenes in usable.items() if scenes}
    if not usable:
        longest = max(every, key=len)
        raise InputError(
            f"no scene gives a tube of {frames} frames of {patch_size}x{patch_size} pixels; the longest has "
            f"{len(longest)} frames of {longest.shape[1]}x{longest.shape[2]}: give longer clips, fewer frames or a "
            "smaller patch."
        )
    train_names, held_names = _divide(list(usable), list(sequences), held)
    pools = []
    for names in (train_names, held_names):
        scenes = [scene for name in names for scene in usable[name]]
        pools.append(TubePool(_filtered(scenes), [s.shape for s in scenes], frames, patch_size, device))
    variance = float(pools[0].pixels.square().mean(dtype=torch.float64))
    if not variance > MIN_VARIANCE:
        raise InputError("the frames of the training sequences are constant; give video with structure.")
    for pool in pools:
        pool.pixels /= variance**0.5
    facts = {
        "content": clips.content,
        "skipped_files": len(clips.skipped),
        "partial_clips": sum(bool(clip.note) for clip in clips.clips),
        "skipped_scenes": len(every) - sum(map(len, usable.values())),
        "train_sequences": len(train_names),
        "validation_sequences": ", ".join(held_names),
        "scale": variance**-0.5,
    }
    return TubeSource("video", pools[0], pools[1], seed, facts=facts)


def _fits(scene: np.ndarray, frames: int, patch_size: int) -> bool:
    return len(scene) >= frames and min(scene.shape[1:]) >= patch_size


def _divide(usable: list[str], known: list[str], held: float | Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the training and of the held-out sequences."""
    if isinstance(held, str):
        held = [held]
    if isinstance(held, Sequence):
        for name in held:
            if name not in known:
                raise InputError(f"no sequence is called '{name}'; name one of {', '.join(known)}.")
            if name not in usable:
                raise InputError(f"the sequence '{name}' has no tube; hold out another or use fewer frames.")
        left = [name for name in usable if name not in held]
        if not held or not left:
            raise InputError(
                f"{len(held)} of {len(usable)} sequences are held out ({some(list(held))}); hold out at least one and "
                "leave at least one."
            )
        return left, [name for name in usable if name in held]
    if not 0 < held < 1:
        raise InputError(f"a share of {held} of the sequences cannot be held out; give a number between 0 and 1.")
    if len(usable) == 1:
        raise InputError(f"there is one sequence, {usable[0]}, and none to hold out; give a second clip.")
    train, validation = held_out(len(usable), held, "sequences")
    return [usable[index] for index in train], [usable[index] for index in validation]


def _filtered(scenes: list[np.ndarray]) -> Iterator[Tensor]:
    for scene in scenes:
        parts = []
        for start in range(0, len(scene), CHUNK_FRAMES):
            grey = torch.from_numpy(scene[start : start + CHUNK_FRAMES].astype(np.float64) / 255)
            parts.append(filter_image(grey).float())
        yield torch.cat(parts)


def _sample(pool: Tubes, generator: np.random.Generator, count: int) -> tuple[Tensor, int]:
    """`count` random tubes (count, T, P²), and how many without variance were drawn again."""
    tubes = pool.draw(generator, count)
    dropped = 0
    for _ in range(MAX_REDRAWS):
        flat = (tubes.square().mean((1, 2)) < MIN_VARIANCE).nonzero().flatten()
        if not len(flat):
            return tubes, dropped
        dropped += len(flat)
        tubes[flat] = pool.draw(generator, len(flat))
    raise InputError(
        f"hardly any of the {pool.positions} tubes of side {pool.patch_size} has variance; give video with more "
        "structure, or a larger patch."
    )
