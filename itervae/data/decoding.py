"""Video as grey frames: decoded once, into a cache of memory-mapped files.

A clip of the cache is one .npy file of (T, H, W) uint8, so that long videos need no memory, followed by a sentence on
what is missing of it, if anything is. Its name is a hash of the bytes it was made from and of the settings: a file that
was moved or copied is found again, one that was edited is not mistaken for the old one. Reading all bytes for the hash
costs little beside decoding them, and, unlike size and time of change, cannot be wrong.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from itervae.data.arrays import ARRAY_SUFFIXES
from itervae.data.cache import cache_folder, no_cache, open_cache, whole_file
from itervae.data.frames import picture_frames, reduced, reduced_shape, stack_frames, video_frames
from itervae.data.images import some
from itervae.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".gif")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")
SHORT_SIDE = 160  # pixels
MIN_PARTIAL = 5  # frames that a damaged video must still give
CACHE_VERSION = 1  # part of every name: raise it where the same file is to give other frames
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
    """

    clips: list[Clip]
    skipped: list[tuple[str, str]]
    folder: Path
    size: int
    content: str


@dataclass(frozen=True)
class _Origin:
    """Where a clip comes from: its files, in order, or the array `key` of a file."""

    name: str
    files: list[Path]
    key: str | None = None


def read_clips(
    path: Path,
    *,
    short_side: int = SHORT_SIDE,
    cache: Path | None = None,
    advance: Callable[[int, int, str], None] | None = None,
) -> Clips:
    """Read video as grey uint8 frames, from the cache where they were decoded before.

    Args:
        path: a video (.mp4, .avi, .webm, .mkv, .gif); a folder of videos, or of folders of frames (.png, .jpg, in the
            order of the numbers in their names), nested or not; a .npz or .npy of stacks (T, H, W), uint8 or floats
            in [0, 1]. Pictures that lie beside a video are not taken for frames.
        short_side: pixels of the shorter side; larger frames are reduced to it, smaller ones are left as they are.
        cache: see `cache_folder`.
        advance: called as advance(done, total, name) before each clip, and once at the end with an empty name.

    Raises:
        InputError: nothing there, no video, nothing readable, a cache that cannot be written, or a short_side below 8.
    """
    if short_side < 8:
        raise InputError(f"a shorter side of {short_side} pixels is too small; give at least 8.")
    folder = cache_folder(cache) / "video"
    origins = _origins(Path(path).expanduser())
    open_cache(folder)
    clips, skipped, files = [], [], []
    digests: dict[Path, bytes] = {}
    for done, origin in enumerate(origins):
        if advance:
            advance(done, len(origins), origin.name)
        try:
            file = folder / f"{_key(origin, short_side, digests)}.npy"
            if not file.exists():
                _decode(origin, short_side, file)
        except InputError as error:
            skipped.append((origin.name, str(error)))
            continue
        except OSError as error:
            raise no_cache(folder, error) from error
        frames = np.load(file, mmap_mode="r")
        with file.open("rb") as stream:
            stream.seek(_HEADER + frames.size)
            note = stream.read().decode()
        clips.append(Clip(origin.name, frames, note))
        files.append(file)
    if advance:
        advance(len(origins), len(origins), "")
    if not clips:
        reasons = some([f"{name} ({reason})" for name, reason in skipped])
        raise InputError(f"no video of {path} can be used: {reasons}; check or replace the files.")
    content = hashlib.sha256("".join(file.stem for file in files).encode()).hexdigest()[:16]
    return Clips(clips, skipped, folder, sum(file.stat().st_size for file in files), content)


def _origins(path: Path) -> list[_Origin]:
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix == ".npz" and zipfile.is_zipfile(path):
            with np.load(path) as stacks:
                if stacks.files:
                    return [_Origin(key, [path], key) for key in sorted(stacks.files)]
        if suffix not in (*VIDEO_SUFFIXES, *ARRAY_SUFFIXES):
            fitting = ", ".join((*VIDEO_SUFFIXES, *ARRAY_SUFFIXES))
            raise InputError(f"{path} has the suffix '{path.suffix}'; give a folder or a file of one of {fitting}.")
        return [_Origin(path.name, [path])]
    if not path.is_dir():
        raise InputError(f"{path} does not exist; give a video, a folder of them, or a .npz or .npy of stacks.")
    videos, pictures = [], {}
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if hidden or not file.is_file():
            continue
        if file.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(file)
        elif file.suffix.lower() in FRAME_SUFFIXES:
            pictures.setdefault(file.parent, []).append(file)
    origins = [_Origin(file.relative_to(path).as_posix(), [file]) for file in videos]
    for parent in pictures.keys() - {file.parent for file in videos}:
        name = path.name if parent == path else parent.relative_to(path).as_posix()
        origins.append(_Origin(name, sorted(pictures[parent], key=_natural)))
    if not origins:
        raise InputError(
            f"{path} holds no video; put files of one of {', '.join(VIDEO_SUFFIXES)} or folders of frames "
            f"({', '.join(FRAME_SUFFIXES)}) there."
        )
    return sorted(origins, key=lambda origin: origin.name)


def _natural(file: Path) -> list[tuple[int, str]]:
    """Frame 2 before frame 10: digits compare as numbers."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", file.stem)]


def _key(origin: _Origin, short_side: int, digests: dict[Path, bytes]) -> str:
    """Name of a clip in the cache. `digests` keeps the hashes of files, since one .npz may hold many clips."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {short_side} {origin.key} {len(origin.files)}".encode())
    for file in origin.files:
        if file not in digests:
            try:
                with file.open("rb") as stream:
                    digests[file] = hashlib.file_digest(stream, "sha256").digest()
            except OSError as error:
                raise InputError(f"{file} cannot be opened ({error})") from error
        digest.update(digests[file])
    return digest.hexdigest()[:32]


def _decode(origin: _Origin, short_side: int, file: Path) -> None:
    """Write the frames of a clip to `file`, whole or not at all."""
    if origin.files[0].suffix.lower() in ARRAY_SUFFIXES:
        frames = stack_frames(origin.files[0], origin.key)
    elif len(origin.files) == 1 and origin.files[0].suffix.lower() in VIDEO_SUFFIXES:
        frames = video_frames(origin.files[0])
    else:
        frames = picture_frames(origin.files)
    count, shape, note = 0, None, ""
    with whole_file(file) as stream:
        stream.write(bytes(_HEADER))
        for frame in frames:
            if isinstance(frame, str):
                note = frame
                break
            if shape is None:
                shape = frame.shape
            if frame.shape != shape:
                raise InputError(
                    f"frame {count} has {frame.shape[0]}x{frame.shape[1]} pixels and those before have "
                    f"{shape[0]}x{shape[1]}; give frames of one size"
                )
            stream.write(reduced(frame, short_side).tobytes())
            count += 1
        if shape is None or (note and count < MIN_PARTIAL):
            raise InputError(note or "it has no frame")
        stream.write(note.encode())
        _fill_header(stream, (count, *reduced_shape(shape, short_side)))


def _fill_header(stream: IO[bytes], shape: tuple[int, int, int]) -> None:
    """The head of a .npy file, format 1.0: magic, length, and a dictionary padded to a fixed size."""
    fields = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    stream.seek(0)
    stream.write(b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + fields.ljust(_HEADER - 11).encode())
    stream.write(b"\n")
