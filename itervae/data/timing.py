"""The time steps of a video: what its packets say of them, and frames at equal steps.

What is carried from frame to frame assumes equal steps. Where the times vary, as of phones, screens
and animated pictures, every step takes the frame that is nearest in time.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import median
from typing import TypeVar

import av
from av.error import FFmpegError

SLACK_STEPS = 3  # by how many steps, or seconds, a whole file may end before what it promises
SLACK_SECONDS = 0.1
MOST_STEPS = 10  # per frame; beyond, the times are taken for wrong ones
REORDERED = 4  # frames within which times are put in order

Frame = TypeVar("Frame")


@dataclass(frozen=True)
class Timing:
    """What is known of a video without decoding it, in seconds.

    Attributes:
        step: between frames that follow each other; None where the times are missing or jump.
        end: of the last packet of any stream.
        promised: the end that the file announces, 0 where it announces none.
        longest: the longest time between two frames.
    """

    step: float | None
    end: float
    promised: float
    longest: float

    @property
    def whole(self) -> bool:
        """Whether the file goes to the end that it announces."""
        return self.end >= self.promised - max(SLACK_STEPS * (self.step or 0), SLACK_SECONDS)


def read_timing(file: Path) -> Timing:
    """The times of all packets of a video file.

    Raises:
        FFmpegError: it cannot be opened.
    """
    times, end = [], 0.0
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        promised = float(container.duration or 0) / av.time_base
        if stream.frames and stream.average_rate and container.format.name == "avi":
            promised = float(stream.frames / stream.average_rate)  # FFmpeg cuts the duration to the length of the file
        try:
            for packet in container.demux():
                time = packet.dts if packet.pts is None else packet.pts
                if time is None or packet.time_base is None:
                    continue
                end = max(end, float((time + (packet.duration or 0)) * packet.time_base))
                if packet.stream.index == stream.index:
                    times.append(float(time * packet.time_base))
        except FFmpegError:  # said where the frames are decoded
            pass
    times.sort()
    gaps = [after - before for before, after in pairwise(times) if after > before]
    return Timing(_step(gaps), end, promised, max(gaps, default=0.0))


def _step(gaps: list[float]) -> float | None:
    """The mean step, a gap counting as the whole number of steps next to it: exact whatever times
    were rounded to."""
    if not gaps:
        return None
    usual = median(gaps)
    steps = sum(round(gap / usual) for gap in gaps)
    return sum(gaps) / steps if steps <= MOST_STEPS * (len(gaps) + 1) else None


class Evenly:
    """Frames at equal steps: each the one nearest in time.

    Attributes:
        repeated, dropped: how many frames were given again, and not at all.
    """

    def __init__(self) -> None:
        self.repeated = self.dropped = 0

    def __call__(self, timed: Iterator[tuple[float | None, Frame]], step: float | None) -> Iterator[Frame]:
        """The frames of a video, of which each has its time in seconds; as they are where there is
        no step."""
        if step is None:
            yield from (frame for _, frame in timed)
            return
        latest: tuple[float, Frame] | None = None
        start, given = 0.0, 0  # given: steps that have their frame
        for time, frame in _in_order(timed, step):
            if latest is None:
                start = time
            else:
                middle = (latest[0] + time) / 2 - start  # until there, the latest is nearer
                count = max(0, ceil(middle / step) - given)
                yield from self._times(latest[1], count)
                given += count
            latest = time, frame
        if latest is not None:
            yield from self._times(latest[1], max(0, round((latest[0] - start) / step) + 1 - given))

    def _times(self, frame: Frame, count: int) -> Iterator[Frame]:
        self.repeated += max(0, count - 1)
        self.dropped += not count
        for _ in range(count):
            yield frame


def _in_order(timed: Iterator[tuple[float | None, Frame]], step: float) -> Iterator[tuple[float, Frame]]:
    """Frames come as they are shown, but their times may not: of an .avi they are guessed, and
    those of neighbours exchanged. A frame without a time comes a step after the one before."""
    frames: deque[Frame] = deque()
    times: list[float] = []  # of these, the least first
    last = -step
    for time, frame in timed:
        last = last + step if time is None else time
        frames.append(frame)
        heappush(times, last)
        if len(frames) > REORDERED:
            yield heappop(times), frames.popleft()
    while frames:
        yield heappop(times), frames.popleft()
