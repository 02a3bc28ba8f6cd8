"""Writing a figure."""

from pathlib import Path
from typing import TYPE_CHECKING

from itervae.errors import InputError
from itervae.files import write_bytes
from itervae.paths import check_path
from itervae.plotting.formats import FORMATS, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: "Figure", path: str | Path) -> None:
    """Write a picture as its name says: .png at 200 dots per inch, .pdf or .svg with lines and text
    that can be edited; `path` holds the whole picture or what it held before, never half a file.

    At this resolution one pixel of an image covers a whole number of pixels of a .png.

    Raises:
        InputError: the name ends in something else, or the file cannot be written; what stood at
            `path` is untouched.
    """
    path = check_path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise InputError(f"the picture's name is {path}; expected one that ends in {', '.join(FORMATS)}")
    write_bytes(path, drawn(figure, kind))
