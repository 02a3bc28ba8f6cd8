"""What in a path is a clip: a video, a folder of numbered pictures, or a stack."""

from dataclasses import dataclass
from pathlib import Path

from itervae.data.folders import files_below, natural
from itervae.data.pictures import PICTURE_SUFFIXES
from itervae.data.remarks import left_out
from itervae.errors import InputError
from itervae.formats import FORMATS, array_names, is_array_file

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".ogv", ".flv", ".wmv", ".mpg", ".mpeg")
VIDEO_SUFFIXES += (".mts", ".m2ts", ".gif")
FRAME_SUFFIXES = tuple(suffix for suffix in PICTURE_SUFFIXES if suffix not in (".gif", ".iml"))


@dataclass(frozen=True)
class Origin:
    """Where a clip comes from: its files, in order, or the array `key` of a file."""

    name: str
    files: list[Path]
    key: str | None = None

    @property
    def kind(self) -> str:
        """A "stack", a "video" or "pictures"."""
        if is_array_file(self.files[0]):
            return "stack"
        return "video" if self.files[0].suffix.lower() in VIDEO_SUFFIXES else "pictures"


def find_origins(path: Path) -> tuple[list[Origin], list[str]]:
    """The clips of a path, sorted by name, and what is to be said of files that are none.

    Raises:
        InputError: nothing there, or nothing that is video.
    """
    if path.is_file():
        suffix = path.suffix.lower()
        if is_array_file(path) and (keys := _keys(path)):
            return [Origin(key, [path], key) for key in keys], []
        if suffix not in VIDEO_SUFFIXES and not is_array_file(path):
            fitting = ", ".join((*VIDEO_SUFFIXES, *FORMATS))
            raise InputError(f"{path} has the suffix '{path.suffix}'; give a folder or a file of one of {fitting}.")
        return [Origin(path.name, [path])], []
    if not path.is_dir():
        raise InputError(f"{path} does not exist; give a video, a folder of them, or a .npz or .npy of stacks.")
    videos, others = [], []
    pictures: dict[Path, list[Path]] = {}
    for file in files_below(path):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(file)
        elif file.suffix.lower() in FRAME_SUFFIXES:
            pictures.setdefault(file.parent, []).append(file)
        else:
            others.append(file)
    origins = [Origin(file.relative_to(path).as_posix(), [file]) for file in videos]
    beside = pictures.keys() & {file.parent for file in videos}
    for parent in pictures.keys() - beside:
        name = path.name if parent == path else parent.relative_to(path).as_posix()
        origins.append(Origin(name, sorted(pictures[parent], key=natural)))
    if not origins:
        raise InputError(
            f"{path} holds no video; put files of one of {', '.join(VIDEO_SUFFIXES)} or folders of frames "
            f"({', '.join(FRAME_SUFFIXES)}) there."
        )
    posters = [file for parent in beside for file in pictures[parent]]
    beside_video = "beside a video, not taken for frames"
    said = left_out(posters, f"picture {beside_video}", f"pictures {beside_video}")
    said += left_out(others, "file that is neither video nor frame", "files that are neither video nor frames")
    return sorted(origins, key=lambda origin: origin.name), said


def _keys(path: Path) -> list[str] | None:
    """The arrays of a file that names them; none where it is damaged, which is said when it is
    read."""
    try:
        return array_names(path)
    except InputError:
        return None
