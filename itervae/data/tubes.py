"""Tubes: windows of P × P pixels through T successive frames, cut at random places, as a source of
sequences.

A datum of a source of tubes is one frame; what is trained on are windows of frames, in order, each
with the word on which rows begin a new sequence with it. A window is a part of a tube, or, as a
stream, of a scene from its start to its end.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from itervae.data.pixels import Pixels
from itervae.data.pools import MIN_VARIANCE, Pool, PoolSource
from itervae.data.settings import check_window
from itervae.data.source import (
    FIXED_SEED,
    NOTHING_FITTED,
    TRAINING,
    VALIDATION,
    Fitted,
    Source,
    check_batch,
    deliver,
    random_stream,
)
from itervae.errors import InputError

VALIDATION_TUBES = 500


class TubePool(Pool):
    """All tubes of a set of scenes, each place in space and time equally likely.

    The frames lie one after the other in one flat float32 tensor, four bytes a pixel, so that tubes
    of scenes of different sizes are cut by a single advanced indexing. A scene that follows another
    is never reached from it.

    Args:
        pixels: of the scenes.
        sizes: (n, H, W) of each scene, none smaller than the tube.
        frames: T.
        patch_size: P, or height and width of another window than a square.
        scale: factor of every tube.
    """

    kind = "tubes"

    def __init__(
        self,
        pixels: Pixels,
        sizes: Sequence[tuple[int, int, int]],
        frames: int,
        patch_size: int | tuple[int, int],
        scale: float = 1.0,
    ):
        self.pixels, self.scale, device = pixels, scale, pixels.values.device
        self.sides = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
        self.frames, self.patch_size, self.count, self.sizes = frames, max(self.sides), len(sizes), list(sizes)
        size = torch.tensor(sizes)
        times, rows, columns = (size - torch.tensor([frames, *self.sides]) + 1).unbind(1)
        ends = size.prod(1).cumsum(0)
        self._ends = (times * rows * columns).cumsum(0).to(device)
        self._rows, self._columns = rows.to(device), columns.to(device)
        self._length, self._height, self._width = size.to(device).unbind(1)
        self._offset = (ends - size.prod(1)).to(device)
        self.positions = int(self._ends[-1])

    def whole(self) -> "TubePool":
        """All windows in time of the same scenes, of whole frames.

        Raises:
            InputError: scenes of different sizes.
        """
        sides = list(dict.fromkeys((height, width) for _, height, width in self.sizes))
        if len(sides) > 1:
            raise InputError(f"the held-out scenes are of {_sizes(sides)} pixels; hold out those of one size.")
        return TubePool(self.pixels, self.sizes, self.frames, sides[0], self.scale)

    def locate(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scene, first frame, row and column of each position in 0 .. positions − 1: four (B,)
        int64."""
        scene = torch.searchsorted(self._ends, positions, right=True)
        inside = positions - torch.where(scene > 0, self._ends[scene - 1], 0)
        columns = self._columns[scene]
        places = self._rows[scene] * columns
        place = inside % places
        return scene, inside // places, place // columns, place % columns

    def draw(self, generator: np.random.Generator, count: int) -> Tensor:
        return torch.from_numpy(generator.integers(self.positions, size=count))

    def cut(self, places: Tensor) -> Tensor:
        """The tube at each position, each frame minus its mean: (B,) int64 to (B, T, P²)
        float32."""
        return self.window(*self.locate(places.to(self.pixels.values.device)), self.frames)

    def window(self, scene: Tensor, time: Tensor, row: Tensor, column: Tensor, frames: int) -> Tensor:
        """So many frames from each place on, each minus its mean: four (B,) int64 to (B, frames,
        P²) float32."""
        width = self._width[scene]
        area = self._height[scene] * width
        corner = self._offset[scene] + time * area + row * width + column
        steps, side = (torch.arange(n, device=corner.device) for n in (frames, self.sides[0]))
        starts = (corner[:, None] + area[:, None] * steps)[:, :, None] + (width[:, None] * side)[:, None]
        tubes = self.pixels.take_runs(starts, self.sides[1])
        return tubes.sub_(tubes.mean(2, keepdim=True)).mul_(self.scale)

    def left(self, scene: Tensor, time: Tensor) -> Tensor:
        """Frames of each scene from `time` on (B,)."""
        return self._length[scene] - time


class TubeSource(PoolSource):
    """Tubes at random places, cut afresh for every batch, each frame minus its mean.

    A datum is one frame, of `shape` (P, P); `batch` gives (size, T, P²) and `validation` is (N, T,
    P²), the held-out sequences in turn. A tube without variance in any frame is drawn again and
    counted in `dropped`.

    Args:
        name: see `Source`.
        train: where the training tubes come from; None where all is held out.
        held: where those of each held-out sequence come from, by its name; they share no pixel with
            `train`.
        seed: seed of the training tubes.
        facts: what `describe` adds to the counts.
        validation_tubes: how many tubes are drawn for validation, once, the same for every seed.
        device: where batches are wanted, wherever the frames are.
        fitted: see `Source`.

    Raises:
        InputError: hardly any tube has variance.
    """

    def __init__(
        self,
        name: str,
        train: Pool | None,
        held: Mapping[str, Pool],
        seed: int,
        frames: int,
        *,
        facts: dict[str, int | float | str | bool] | None = None,
        validation_tubes: int = VALIDATION_TUBES,
        device: str | torch.device = "cpu",
        fitted: Fitted = NOTHING_FITTED,
    ):
        self.name, self.seed, self.frames, self.fitted = name, seed, frames, fitted
        self.shape = (next(iter(held.values())).patch_size,) * 2
        self.pool, self.held = train, held
        self.held_positions = sum(pool.positions for pool in held.values())
        self.device = torch.empty(0, device=device).device  # with its number
        self._facts = facts or {}
        self._streams: Streams | None = None
        self._latest: tuple[tuple[int, int, slice], Tensor] | None = None
        each = self.sequences(-(-validation_tubes // len(held)))
        self.validation = torch.stack(list(each.values()), 1).flatten(0, 1)
        if train is not None:  # scenes without any tube are refused now, not in training
            train.sample(random_stream(seed, VALIDATION), 1)

    def sequences(self, count: int) -> dict[str, Tensor]:
        """`count` tubes of each held-out sequence, by its name: (count, T, P²), the same for every
        seed."""
        found = {}
        for number, (name, pool) in enumerate(self.held.items()):
            tubes, dropped = pool.sample(random_stream(FIXED_SEED, VALIDATION, number), count)
            found[name] = tubes.to(self.device)
            self.dropped += dropped
        return found

    def whole_sequences(self, count: int) -> dict[str, Tensor]:
        """`count` windows in time of each held-out sequence, by its name, of whole frames: (count,
        T, H, W), evenly spaced, the first one at its beginning.

        Raises:
            InputError: data that are not cut from film, film of different sizes, or fewer windows.
        """
        pools = {name: pool.whole() for name, pool in self.held.items() if isinstance(pool, TubePool)}
        if len(pools) < len(self.held):
            raise InputError(f"`data={self.name}` is not cut from film, which has whole frames; leave out `whole`.")
        sides = list(dict.fromkeys(pool.sides for pool in pools.values()))
        if len(sides) > 1:
            raise InputError(f"the held-out sequences are of {_sizes(sides)} pixels; hold out those of one size.")
        for name, pool in pools.items():
            if pool.positions < count:
                raise InputError(
                    f"{name} has {pool.positions} windows of {self.frames} frames, not {count}; ask for fewer."
                )
        each = {name: torch.linspace(0, pool.positions - 1, count).round().long() for name, pool in pools.items()}
        return {name: pool.cut(each[name]).unflatten(2, sides[0]).to(self.device) for name, pool in pools.items()}

    def check_windows(self, window: int, stream: bool) -> None:
        """Refuse a window outside 1 .. T, and a stream of data that have no scenes."""
        check_window(window, self.frames)
        if stream and not isinstance(self.pool, TubePool):
            raise InputError(f"`stream` follows scenes of a video, and `data={self.name}` has none; leave it out.")

    def windows(
        self, index: int, size: int, window: int, stream: bool = False, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Window number `index` of each of `size` sequences, a pure function of (seed, index, size,
        window, stream).

        Without `stream` the tubes of `batch` are gone through, T frames each, and then those of the
        next batch; the last window of a tube is shorter where `window` does not divide T. A stream
        follows a scene to its end.

        Returns:
            frames (size, window, P²), and where they begin a new sequence (size,) bool, rather than
            to go on with that of index − 1; with `rows`, those of both alone, the others not being
            read.

        Raises:
            InputError: see `check_windows`.
        """
        self.check_windows(window, stream)
        if stream:
            assert isinstance(self.pool, TubePool)
            if self._streams is None or self._streams.size != size or self._streams.window != window:
                self._streams = Streams(self.pool, self.seed, size, window)
            frames, begins = self._streams.at(index, rows)
            return deliver(frames, self.device), deliver(begins, self.device)
        check_batch(index, size)
        tube, part = divmod(index, -(-self.frames // window))
        if self._latest is None or self._latest[0] != (tube, size, rows):
            self._latest = (tube, size, rows), self.batch(tube, size, rows)
        frames = self._latest[1][:, part * window : (part + 1) * window]
        return frames, torch.full((len(frames),), part == 0, device=frames.device)

    def describe(self) -> dict[str, int | float | str | bool]:
        return {
            "data": self.name,
            "shape": "x".join(map(str, self.shape)),
            "frames": self.frames,
            "train_scenes": self.pool.count if self.pool is not None else 0,
            "train_positions": self.pool.positions if self.pool is not None else 0,
            "validation_scenes": sum(pool.count for pool in self.held.values()),
            "validation_tubes": len(self.validation),
            "dropped_tubes": self.dropped,
            **self._facts,
        }


class Streams:
    """Scenes in order, for state that is carried from window to window: a row stays at its place in
    the frame and goes on until no whole window is left of the scene, then begins another one,
    anywhere.

    A new row begins within the first window of a scene, longer scenes with more places being more
    likely. Going forward costs nothing; going back, or resuming, replays the few numbers drawn
    before.
    """

    def __init__(self, pool: TubePool, seed: int, size: int, window: int) -> None:
        self.pool, self.seed, self.size, self.window = pool, seed, size, window
        self._index = -1
        self._place = self._begins = torch.empty(0)  # (4, B): scene, time, row and column

    def at(self, index: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """As `TubeSource.windows`."""
        check_batch(index, self.size)
        if index < self._index:
            self._index = -1
        while self._index < index:
            self._index += 1
            self._place, self._begins = self._next(random_stream(self.seed, TRAINING, self._index))
        scene, time, row, column = self._place[:, rows]
        return self.pool.window(scene, time, row, column, self.window), self._begins[rows]

    def _next(self, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        device = self.pool.pixels.values.device
        drawn = self.pool.draw(generator, self.size).to(device)
        scene, _, row, column = self.pool.locate(drawn)
        time = torch.from_numpy(generator.integers(self.window, size=self.size)).to(device)
        # a short scene must hold a whole window from there
        time = torch.minimum(time, self.pool.left(scene, torch.zeros_like(time)) - self.window)
        new = torch.stack([scene, time, row, column])
        if self._index == 0:
            return new, torch.ones(self.size, dtype=torch.bool, device=device)
        on = self._place.clone()
        on[1] += self.window
        begins = self.pool.left(on[0], on[1]) < self.window
        return torch.where(begins, new, on), begins


def _sizes(sides: Sequence[tuple[int, int]]) -> str:
    return " and ".join("x".join(map(str, each)) for each in sides)


def typical(tubes: Tensor) -> int:
    """Which tube (N, T, D) to show: the one whose contrast is most like that of the training data
    in each frame, with the least mean of |log variance|."""
    return int(tubes.square().mean(2).clamp_min(MIN_VARIANCE).log().abs().mean(1).argmin())


class Stills(Source):
    """Single frames of a source of tubes, the first of each, as data without order."""

    def __init__(self, tubes: TubeSource) -> None:
        self.name, self.shape, self.validation = tubes.name, tubes.shape, tubes.validation[:, 0]
        self.device, self.fitted, self._tubes = tubes.device, tubes.fitted, tubes

    @property
    def ahead(self) -> bool:
        return self._tubes.ahead

    @property
    def held_share(self) -> float:
        return self._tubes.held_share

    def batch(self, index: int, size: int, rows: slice = slice(None)) -> Tensor:
        return self._tubes.batch(index, size, rows)[:, 0]

    def describe(self) -> dict[str, int | float | str | bool]:
        return self._tubes.describe()
