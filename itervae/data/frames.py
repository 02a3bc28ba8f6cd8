"""Grey frames from a video, from a folder of pictures, or from a stack, one by one.

Errors are parts of a sentence whose subject is the clip, since whoever reads many clips names it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from PIL import Image

from itervae.data.pictures import UNREADABLE, check_intensities, is_deep, over_white, pages, read_picture, to_grey
from itervae.data.remarks import Tally
from itervae.data.rows import row_chunks
from itervae.data.timing import Evenly, read_timing
from itervae.errors import InputError
from itervae.formats import is_array_file, read_array

COLOUR = 24  # grey levels between the channels of a small copy; the rounding of codecs makes fewer of grey


@dataclass
class Findings:
    """What is to be said of a clip, known once its frames were read.

    Attributes:
        note: what is missing of a damaged video, else empty.
        rate: frames per second, where they were brought to equal steps.
        repeated, dropped: frames that were given again for that, or left out.
        longest: seconds between two frames of a video whose times jump too far for that, else 0.
        tally: of its pictures.
    """

    note: str = ""
    rate: float = 0
    repeated: int = 0
    dropped: int = 0
    longest: float = 0
    tally: Tally = field(default_factory=Tally)


def video_frames(file: Path, found: Findings) -> Iterator[np.ndarray]:
    """Grey frames (H, W) uint8 of a video, upright, at equal steps of time."""
    if not file.stat().st_size:
        raise InputError("the file is empty")
    count, reason = 0, None

    def timed(container: InputContainer) -> Iterator[tuple[float | None, np.ndarray]]:
        nonlocal count, reason
        try:
            for frame in container.decode(container.streams.video[0]):
                if frame.is_corrupt:
                    reason = ""
                    return
                if count & (count - 1) == 0 and not found.tally.colour:  # of frames 0, 1, 2, 4, 8, ...
                    found.tally.colour = int(_has_colour(frame))
                yield frame.time, _upright(frame, found.tally)
                count += 1
        except FFmpegError as error:
            reason = f" ({error.strerror})"

    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise InputError("it has no video stream")
            container.streams.video[0].thread_type = "AUTO"
            declared = container.streams.video[0].frames  # 0 where the file does not say
            timing, evenly = read_timing(file), Evenly()
            yield from evenly(timed(container), timing.step)
    except FFmpegError as error:
        found.note = f"only 0 of its frames can be decoded ({error.strerror}); it may be truncated"
        return
    if reason is not None or not timing.whole:
        reach = f"{count} of {declared if declared > count else 'its'} frames"
        if declared <= count and not timing.whole:
            reach += f", {timing.end:.1f} of {timing.promised:.1f} seconds,"
        found.note = f"only {reach} can be decoded{reason or ''}; it may be truncated"
    found.tally.count = count
    if evenly.repeated or evenly.dropped:
        found.rate, found.repeated, found.dropped = 1 / (timing.step or 1), evenly.repeated, evenly.dropped
    elif timing.step is None and count > 1:
        found.longest = timing.longest


def picture_frames(files: list[Path], white: float | None, found: Findings) -> Iterator[np.ndarray]:
    """Grey frames (H, W) uint8 of pictures, in the order given; of a TIFF file all pages."""
    for file in files:
        for page in pages(file):
            try:
                picture = read_picture(file, page)
            except UNREADABLE as error:
                raise InputError(f"its frame {file.name} cannot be read ({error})") from error
            found.tally.add(picture)
            yield _bytes(picture.values, white)


def stack_frames(file: Path, key: str | None, white: float | None, found: Findings) -> Iterator[np.ndarray]:
    """Frames (H, W) uint8 of an array (T, H, W) of uint8, uint16, booleans, or floats in [0, 1]."""
    stack = read_array(file, key)
    if stack.ndim != 3 or not stack.size:
        raise InputError(f"its shape is {stack.shape}, but a stack is (T, H, W), none of them 0")
    if stack.dtype.kind not in "fb" and stack.dtype.str[1:] not in ("u1", "u2"):
        raise InputError(f"it holds {stack.dtype} values; give uint8, uint16, booleans, or floats in [0, 1]")
    for number, frame in enumerate(stack):
        if stack.dtype.kind == "f":
            check_intensities(frame, f"its frame {number}")
        found.tally.count += 1
        if is_deep(frame):
            found.tally.deep += 1
            found.tally.peak = max(found.tally.peak, int(frame.max()))
        yield _bytes(frame, white)


def peak_of(files: list[Path], key: str | None) -> int:
    """The largest value of the 16-bit pictures of a stack or of picture files; 0 where none has 16
    bits.

    Raises:
        InputError: a stack that cannot be read.
        One of UNREADABLE: a picture that cannot be.
    """
    if is_array_file(files[0]):
        stack = read_array(files[0], key)
        return max(int(chunk.max()) for chunk in row_chunks(stack)) if is_deep(stack) and stack.size else 0
    peak = 0
    for file in files:
        with Image.open(file) as picture:  # its head alone
            deep = picture.mode.startswith("I")
        if deep:
            peak = max(peak, *(read_picture(file, page).peak for page in pages(file)))
    return peak


def reduced_shape(shape: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(H, W) with the shorter side reduced to so many pixels, never enlarged."""
    scale = min(1.0, short_side / min(shape))
    return round(shape[0] * scale), round(shape[1] * scale)


def reduced(frame: np.ndarray, short_side: int) -> np.ndarray:
    """Smoothed and resampled, by a triangle as wide as two new pixels, where the frame is larger
    than wanted."""
    height, width = reduced_shape(frame.shape, short_side)
    if (height, width) == frame.shape:
        return np.ascontiguousarray(frame)
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def _bytes(values: np.ndarray, white: float | None) -> np.ndarray:
    """A picture as grey uint8."""
    if values.dtype == np.uint8 and values.ndim == 2:
        return values
    return (to_grey(values, white) * 255).round().byte().numpy()


def _upright(frame: VideoFrame, tally: Tally) -> np.ndarray:
    """A frame of a video as grey uint8, turned as the container says; what is transparent is laid
    over white."""
    if any(component.is_alpha for component in frame.format.components):
        colour, transparent = over_white(frame.to_ndarray(format="rgba"))
        tally.transparent += transparent
        grey = _bytes(colour, None)
    else:
        grey = frame.to_ndarray(format="gray")
    return np.rot90(grey, round(frame.rotation / 90))  # both count against the clock


def _has_colour(frame: VideoFrame) -> bool:
    small = frame.reformat(width=32, height=32, format="rgb24").to_ndarray().astype(int)
    return bool((small.max(2) - small.min(2) > COLOUR).any())
