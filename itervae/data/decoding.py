"""Video as grey frames: decoded once, into a cache of memory-mapped files.

A clip of the cache is one .npy file of (T, H, W) uint8, so that long videos need no memory,
followed by what is to be said of it, as JSON. Its name is a hash of the bytes it was made from and
of the settings: a file that was moved or copied is found again, one that was edited is not mistaken
for the old one. Reading all bytes for the hash costs little beside decoding them, and, unlike size
and time of change, cannot be wrong.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from itervae.data.cache import cache_folder, no_cache, open_cache
from itervae.data.frames import (
    Findings,
    peak_of,
    picture_frames,
    reduced,
    reduced_shape,
    stack_frames,
    video_frames,
)
from itervae.data.images import some
from itervae.data.origins import Origin, find_origins
from itervae.data.pictures import UNREADABLE, white_level
from itervae.data.remarks import Tally, remarks
from itervae.errors import InputError
from itervae.files import replacing

SHORT_SIDE = 160  # pixels
MIN_PARTIAL = 5  # frames that a damaged video must still give
CACHE_VERSION = 2  # part of every name: raise it where the same file is to give other frames
_HEADER = 128  # bytes of the head of a .npy file, fixed so that the number of frames can be filled in at the end


@dataclass(frozen=True)
class Clip:
    """One clip of grey frames.

    Attributes:
        name: path inside the folder that was read, name of the file, or key of the stack.
        frames: (T, H, W) uint8, memory-mapped, read-only.
        note: what is missing of a damaged video, else empty.
    """

    name: str
    frames: np.ndarray
    note: str = ""


@dataclass(frozen=True)
class Clips:
    """What was read from a path.

    Attributes:
        clips: sorted by name.
        skipped: (name, reason) of what could not be read.
        folder: the cache.
        size: bytes that these clips take there.
        content: hash of all clips and settings.
        white: the white level of 16-bit pictures and stacks, None where there are none.
        remarks: lines to say: how they became grey and got equal steps of time, and what of the
            path is not read.
    """

    clips: list[Clip]
    skipped: list[tuple[str, str]]
    folder: Path
    size: int
    content: str
    white: float | None = None
    remarks: list[str] = field(default_factory=list)


def read_clips(
    path: Path,
    *,
    short_side: int = SHORT_SIDE,
    white: float | None = None,
    cache: Path | None = None,
    advance: Callable[[int, int, str], None] | None = None,
) -> Clips:
    """Read video as grey uint8 frames at equal steps of time, from the cache where they were
    decoded before.

    Args:
        path: a video (.mp4, .mov, .avi, .mkv, .webm, .gif, ...); a folder of videos, or of folders
            of frames (.png, .jpg, .tif, ..., in the order of the numbers in their names), nested,
            linked to or not; a .npz or .npy of stacks (T, H, W), uint8, uint16, booleans, or floats
            in [0, 1]. Pictures that lie beside a video are not taken for frames.
        short_side: pixels of the shorter side; larger frames are reduced to it, smaller ones are
            left as they are.
        white: the white level of 16-bit pictures and stacks; by default that of all of them, see
            `white_level`.
        cache: see `cache_folder`.
        advance: called as advance(done, total, name) before each clip, and once at the end with an
            empty name.

    Raises:
        InputError: nothing there, no video, nothing readable, a cache that cannot be written, or a
            short_side below 8.
    """
    if short_side < 8:
        raise InputError(f"a shorter side of {short_side} pixels is too small; give at least 8.")
    folder = cache_folder(cache) / "video"
    origins, said = find_origins(Path(path).expanduser())
    open_cache(folder)
    digests: dict[Path, bytes] = {}
    level = white or _common_white(origins, folder, digests)
    clips, skipped, files, found = [], [], [], []
    for done, origin in enumerate(origins):
        if advance:
            advance(done, len(origins), origin.name)
        try:
            key = _key(origin, digests, short_side, None if origin.kind == "video" else level)
            file = folder / f"{key}.npy"
            if (kept := _kept(file)) is None:
                _decode(origin, short_side, level, file)
                kept = _kept(file)
            assert kept is not None
        except InputError as error:
            skipped.append((origin.name, str(error)))
            continue
        except OSError as error:
            raise no_cache(folder, error) from error
        clips.append(Clip(origin.name, kept[0], kept[1].note))
        files.append(file)
        found.append(kept[1])
    if advance:
        advance(len(origins), len(origins), "")
    if not clips:
        reasons = some([f"{name} ({reason})" for name, reason in skipped])
        raise InputError(f"no video of {path} can be used: {reasons}; check or replace the files.")
    content = hashlib.sha256("".join(file.stem for file in files).encode()).hexdigest()[:16]
    tallies = [findings.tally for findings in found]
    level = level if any(tally.deep for tally in tallies) else None
    said = [*said, *remarks(tallies, level, white is not None, "clips"), *_steps(clips, found)]
    return Clips(clips, skipped, folder, sum(file.stat().st_size for file in files), content, level, said)


def _common_white(origins: list[Origin], folder: Path, digests: dict[Path, bytes]) -> float | None:
    """The white level of all 16-bit pictures and stacks, None where there are none. What cannot be
    read has no say."""
    peak = 0
    for origin in origins:
        if origin.kind == "video":
            continue
        try:
            file = folder / f"{_key(origin, digests)}.peak"  # so that it is looked for once
            found = int(file.read_bytes()) if file.exists() else peak_of(origin.files, origin.key)
        except UNREADABLE:
            continue
        try:
            if not file.exists():
                with replacing(file) as stream:
                    stream.write(str(found).encode())
        except OSError as error:
            raise no_cache(folder, error) from error
        peak = max(peak, found)
    return white_level(peak) if peak else None


def _key(origin: Origin, digests: dict[Path, bytes], *settings: object) -> str:
    """Name of a clip in the cache. `digests` keeps the hashes of files, since one .npz may hold
    many clips."""
    digest = hashlib.sha256(repr((CACHE_VERSION, *settings, origin.key, len(origin.files))).encode())
    for file in origin.files:
        if file not in digests:
            try:
                with file.open("rb") as stream:
                    digests[file] = hashlib.file_digest(stream, "sha256").digest()
            except OSError as error:
                raise InputError(f"{file} cannot be opened ({error})") from error
        digest.update(digests[file])
    return digest.hexdigest()[:32]


def _decode(origin: Origin, short_side: int, white: float | None, file: Path) -> None:
    """Write the frames of a clip to `file`, whole or not at all."""
    found = Findings()
    if origin.kind == "stack":
        frames = stack_frames(origin.files[0], origin.key, white, found)
    elif origin.kind == "video":
        frames = video_frames(origin.files[0], found)
    else:
        frames = picture_frames(origin.files, white, found)
    count, shape = 0, None
    with replacing(file) as stream:
        stream.write(bytes(_HEADER))
        for frame in frames:
            if shape is None:
                shape = frame.shape
            if frame.shape != shape:
                raise InputError(
                    f"frame {count} has {frame.shape[0]}x{frame.shape[1]} pixels and those before have "
                    f"{shape[0]}x{shape[1]}; give frames of one size"
                )
            stream.write(reduced(frame, short_side).tobytes())
            count += 1
        if shape is None or (found.note and count < MIN_PARTIAL):
            raise InputError(found.note or "it has no frame")
        stream.write(json.dumps(asdict(found)).encode())
        _fill_header(stream, (count, *reduced_shape(shape, short_side)))


def _kept(file: Path) -> tuple[np.ndarray, Findings] | None:
    """A clip of the cache; None where it is not there, or damaged."""
    try:
        frames = np.load(file, mmap_mode="r")
        with file.open("rb") as stream:
            stream.seek(_HEADER + frames.size)
            found = json.load(stream)
        return frames, Findings(**{**found, "tally": Tally(**found["tally"])})
    except (FileNotFoundError, EOFError, ValueError, TypeError, KeyError):
        return None


def _steps(clips: list[Clip], found: list[Findings]) -> list[str]:
    """The lines to say of frame times that vary."""
    said = []
    varied = [(clip.name, one) for clip, one in zip(clips, found, strict=True) if one.rate]
    if varied:
        names = some([f"{name} to {one.rate:.3g} a second" for name, one in varied])
        repeated, dropped = sum(one.repeated for _, one in varied), sum(one.dropped for _, one in varied)
        said.append(
            f"the frame times of {len(varied)} of {len(clips)} clips vary; brought to equal steps, each with the frame "
            f"nearest in time: {names} ({repeated} frames repeated, {dropped} left out)"
        )
    wild = [f"{clip.name} by {one.longest:.3g} s" for clip, one in zip(clips, found, strict=True) if one.longest]
    if wild:
        said.append(f"the frame times jump too far to be believed, and frames are taken as they follow: {some(wild)}")
    return said


def _fill_header(stream: IO[bytes], shape: tuple[int, int, int]) -> None:
    """The head of a .npy file, format 1.0: magic, length, and a dictionary padded to a fixed
    size."""
    fields = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    stream.seek(0)
    stream.write(b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + fields.ljust(_HEADER - 11).encode())
    stream.write(b"\n")
