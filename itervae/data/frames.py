"""Grey frames from a video, from a folder of pictures, or from a stack, one by one.

Errors are parts of a sentence whose subject is the clip, since whoever reads many clips names it.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from itervae.data.arrays import read_array
from itervae.data.images import ROUNDING, UNREADABLE
from itervae.errors import InputError


def video_frames(file: Path) -> Iterator[np.ndarray | str]:
    """Grey frames (H, W) uint8 of a video; at last, where some are missing, a sentence that says so."""
    count = declared = 0
    if not file.stat().st_size:
        raise InputError("the file is empty")
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise InputError("it has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            declared = stream.frames  # 0 where the file does not say
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    break
                yield frame.to_ndarray(format="gray")
                count += 1
            else:
                if count >= declared:
                    return
    except FFmpegError as error:
        yield f"only {count} of {declared or 'its'} frames can be decoded ({error.strerror}); it may be truncated"
        return
    yield f"only {count} of {declared or 'its'} frames can be decoded; it may be truncated"


def picture_frames(files: list[Path]) -> Iterator[np.ndarray]:
    """Grey frames (H, W) uint8 of pictures, in the order given."""
    for file in files:
        try:
            with Image.open(file) as picture:
                frame = np.asarray(picture.convert("L"))
        except UNREADABLE as error:
            raise InputError(f"its frame {file.name} cannot be read ({error})") from error
        yield frame


def stack_frames(file: Path, key: str | None) -> Iterator[np.ndarray]:
    """Frames (H, W) uint8 of an array (T, H, W) of uint8, or of floats in [0, 1]."""
    stack = read_array(file, key)
    if stack.ndim != 3 or not stack.size:
        raise InputError(f"its shape is {stack.shape}, but a stack is (T, H, W), none of them 0")
    if stack.dtype.kind != "f" and stack.dtype != np.uint8:
        raise InputError(f"it holds {stack.dtype} values; give uint8, or floats in [0, 1]")
    for number, frame in enumerate(stack):
        if stack.dtype.kind == "f":
            low, high = float(frame.min()), float(frame.max())
            if not np.isfinite([low, high]).all():
                raise InputError(f"its frame {number} holds NaN or infinite pixels; remove or replace them")
            if low < -ROUNDING or high > 1 + ROUNDING:
                raise InputError(
                    f"its frame {number} holds floats from {low:g} to {high:g}, but intensities lie in [0, 1]; divide "
                    "by the largest possible intensity"
                )
            frame = np.rint(frame.clip(0, 1) * 255).astype(np.uint8)
        yield frame


def reduced_shape(shape: tuple[int, ...], short_side: int) -> tuple[int, int]:
    """(H, W) with the shorter side reduced to so many pixels, never enlarged."""
    scale = min(1.0, short_side / min(shape))
    return round(shape[0] * scale), round(shape[1] * scale)


def reduced(frame: np.ndarray, short_side: int) -> np.ndarray:
    """Smoothed and resampled, by a triangle as wide as two new pixels, where the frame is larger than wanted."""
    height, width = reduced_shape(frame.shape, short_side)
    if (height, width) == frame.shape:
        return np.ascontiguousarray(frame)
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
