"""Data cut at random from larger things, patches from images and tubes from video: drawing them,
and their source."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor

from itervae.data.pixels import Pixels
from itervae.data.source import TRAINING, Source, check_batch, deliver, random_stream
from itervae.errors import InputError

MIN_VARIANCE = 1e-10
"""Images have unit variance. What has less than this holds only the rounding of float32 (about
1e-14 for a flat region): it is no datum."""
MAX_REDRAWS = 1000
"""At most this often are data without variance drawn again, so that nearly empty images end in a
message, not a hang."""


class Pool(ABC):
    """Everything that can be drawn from a set of images or scenes.

    Attributes:
        kind: what is drawn, in words.
        patch_size: its side in pixels.
        count: images, regions or scenes.
        positions: how many places there are, the size of the set.
        pixels: what is cut from.
    """

    kind: ClassVar[str]
    patch_size: int
    count: int
    positions: int
    pixels: Pixels

    @abstractmethod
    def draw(self, generator: np.random.Generator, count: int) -> Tensor:
        """`count` random places: (count, …) int64, on the CPU, so that a seed means the same
        everywhere."""

    @abstractmethod
    def cut(self, places: Tensor) -> Tensor:
        """What is at each place (B, …), each patch minus its mean: (B, …, D) float32."""

    def sample(self, generator: np.random.Generator, count: int, rows: slice = slice(None)) -> tuple[Tensor, int]:
        """`rows` of `count` random ones, none without variance, and how many without were drawn
        again.

        In every round of drawing again there is a place for each of the `count`, used or not: so a
        row does not depend on which others are asked for, or have no variance.

        Raises:
            InputError: after 1000 draws some still have no variance.
        """
        drawn = self.cut(self.draw(generator, count)[rows].contiguous())
        dropped = 0
        for _ in range(MAX_REDRAWS):
            flat = (drawn.square().flatten(1).mean(1) < MIN_VARIANCE).nonzero().flatten()
            if not len(flat):
                return drawn, dropped
            dropped += len(flat)
            drawn[flat] = self.cut(self.draw(generator, count)[rows][flat.cpu()])
        raise InputError(
            f"hardly any of the {self.positions} {self.kind} of side {self.patch_size} has variance; give data with "
            "more structure, or a larger `patch_size`."
        )


class PoolSource(Source):
    """Data drawn afresh for every batch. Subclasses set `name`, `shape`, `device`, `pool`,
    `held_positions` and `seed`."""

    pool: Pool | None
    """What is trained on; None where all is held out."""
    held_positions: int
    seed: int

    @property
    def ahead(self) -> bool:
        if self.pool is None:
            return False
        pixels = self.pool.pixels
        return pixels.file is not None or pixels.values.device != self.device

    @property
    def held_share(self) -> float:
        return self.held_positions / ((self.pool.positions if self.pool is not None else 0) + self.held_positions)

    def batch(self, index: int, size: int, rows: slice = slice(None)) -> Tensor:
        check_batch(index, size)
        if self.pool is None:
            raise InputError(f"all of {self.name} is held out, and nothing is left to train on; hold out a part of it.")
        drawn, dropped = self.pool.sample(random_stream(self.seed, TRAINING, index), size, rows)
        self.dropped += dropped
        return deliver(drawn, self.device)
