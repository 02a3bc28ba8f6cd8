"""A figure as the bytes of a file: PNG, PDF or SVG."""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
FORMATS = (".png", ".pdf", ".svg")
"""Endings of the names of pictures, which say what is written."""
_EDITABLE: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "itervae"}
"""Settings of matplotlib for files whose text stays text, and that are the same each time."""


def drawn(figure: "Figure", kind: str = ".png") -> bytes:
    """A figure as the bytes of a file of that kind, one of `FORMATS`."""
    from matplotlib import rc_context

    _as_written(figure)
    content = io.BytesIO()
    dated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(kind)
    with rc_context(_EDITABLE):
        figure.savefig(content, format=kind[1:], dpi=DPI, metadata=dated)
    return content.getvalue()


def _as_written(figure: "Figure") -> None:
    """Take nothing for a formula, as runs and files may be called anything; but for ticks, which
    have powers of ten."""
    from matplotlib.text import Text

    ticks = {text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in axis.findobj(Text)}
    for text in set(figure.findobj(Text)) - ticks:
        text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue]
