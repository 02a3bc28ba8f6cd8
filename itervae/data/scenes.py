"""Scene cuts of a clip: where one frame has nothing to do with the frame before, so that no
sequence may cross it.

The frames are compared as coarse pictures, means over blocks of an eighth of the shorter side:
motion within a scene changes these little, a cut changes them as much as single pixels. A cut is a
difference that is at once

- large for its surroundings: above 2.5 times the median of the eight differences before and the
  eight after;
- alone: above 1.75 times both neighbours. Fast motion lasts several frames, and a flash changes
  there and back;
- as large as between strangers: above .7 of the contrast. Two independent Gaussian pictures of
  equal standard deviation s differ by 2 s / sqrt(pi) = 1.13 s in the mean.

The three ask for ratios only, so neither the size nor the gain of a video matters. Cross-fades,
scenes of a single frame and cuts between two near equal views are not found.
"""

from itertools import pairwise

import numpy as np

from itervae.errors import InputError

BLOCKS = 8  # in the shorter side
REACH = 8  # differences on either side that make the local median
OVER_MEDIAN = 2.5
OVER_NEIGHBOURS = 1.75
OVER_CONTRAST = 0.7

# Frame rates are converted by repeating frames. A repeated frame differs by the noise of the codec,
# less than this many grey levels: it says nothing about motion and would draw the median to zero.
REPEATED = 0.5


def scene_cuts(frames: np.ndarray) -> list[int]:
    """The first frame of every scene but the first, of a clip (T, H, W) uint8; see the rule above.

    Raises:
        InputError: an array of another shape or type.
    """
    if frames.ndim != 3 or frames.dtype != np.uint8 or not frames.size:
        raise InputError(f"an array of shape {frames.shape} and {frames.dtype} is no clip; give (T, H, W) uint8.")
    coarse = np.stack([_coarse(frame) for frame in frames])
    difference = np.abs(np.diff(coarse, axis=0)).mean((1, 2))  # difference[t] is from frame t to t + 1
    variance = coarse.var((1, 2))
    contrast = np.sqrt((variance[1:] + variance[:-1]) / 2)

    moving = np.flatnonzero(difference > REPEATED)
    change = difference[moving]
    cuts = []
    for i, here in enumerate(change):
        around = np.concatenate([change[max(0, i - REACH) : i], change[i + 1 : i + 1 + REACH]])
        beside = np.concatenate([change[max(0, i - 1) : i], change[i + 1 : i + 2]])
        if (
            here > OVER_CONTRAST * contrast[moving[i]]
            and (not len(around) or here > OVER_MEDIAN * np.median(around))
            and (not len(beside) or here > OVER_NEIGHBOURS * beside.max())
        ):
            cuts.append(int(moving[i]) + 1)
    return cuts


def split_scenes(frames: np.ndarray) -> list[np.ndarray]:
    """The scenes of a clip (T, H, W) uint8, in order: views of it, at least one frame each, T
    frames together."""
    ends = [0, *scene_cuts(frames), len(frames)]
    return [frames[start:end] for start, end in pairwise(ends)]


def _coarse(frame: np.ndarray) -> np.ndarray:
    """Means over square blocks, (H, W) to about (8, 8 W / H); what fills no block is left out."""
    side = max(1, min(frame.shape) // BLOCKS)
    rows, columns = frame.shape[0] // side, frame.shape[1] // side
    blocks = frame[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return blocks.mean((1, 3), dtype=np.float64)
