"""The figures of this package: matplotlib's, which notebooks show without being told how."""

from matplotlib.figure import Figure as Plain

from itervae.plotting.formats import drawn


class Figure(Plain):
    """A figure of matplotlib that a notebook shows where a cell ends with it."""

    def _repr_png_(self) -> bytes:
        return drawn(self)
