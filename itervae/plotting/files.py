"""Writing a figure."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from itervae.errors import InputError
from itervae.files import write_bytes
from itervae.paths import check_path
from itervae.plotting.canvas import DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: "Figure", path: str | Path) -> None:
    """Write a PNG at 200 dots per inch; `path` holds the whole picture or what it held before,
    never half a file.

    At this resolution one pixel of an image covers a whole number of pixels of the file.

    Raises:
        InputError: the name does not end in .png, or the file cannot be written; what stood at
            `path` is untouched.
    """
    path = check_path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"the picture's name is {path}; expected one that ends in .png: figures are written as PNG")
    _as_written(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    write_bytes(path, content.getvalue())


def _as_written(figure: "Figure") -> None:
    """Take nothing for a formula, as runs and files may be called anything; but for ticks, which
    have powers of ten."""
    from matplotlib.text import Text

    ticks = {text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in axis.findobj(Text)}
    for text in set(figure.findobj(Text)) - ticks:
        text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue]
