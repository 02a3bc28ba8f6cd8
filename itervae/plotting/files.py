"""Writing a figure."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itervae.errors import InputError
from itervae.files import write_bytes
from itervae.paths import check_path
from itervae.plotting.canvas import DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FORMATS = (".png", ".pdf", ".svg")
"""Endings of the names of pictures, which say what is written."""
_EDITABLE: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "itervae"}
"""Settings of matplotlib for files whose text stays text, and that are the same each time."""


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
    _as_written(figure)
    content = io.BytesIO()
    dated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(kind)
    with _settings():
        figure.savefig(content, format=kind[1:], dpi=DPI, metadata=dated)
    write_bytes(path, content.getvalue())


def _settings() -> Any:
    """matplotlib's settings while a file is written."""
    from matplotlib import rc_context

    return rc_context(_EDITABLE)


def _as_written(figure: "Figure") -> None:
    """Take nothing for a formula, as runs and files may be called anything; but for ticks, which
    have powers of ten."""
    from matplotlib.text import Text

    ticks = {text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in axis.findobj(Text)}
    for text in set(figure.findobj(Text)) - ticks:
        text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue]
