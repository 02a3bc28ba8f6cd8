"""The figures: one module per figure, from plain arrays and records to a matplotlib Figure.

Nothing here opens a window, selects a backend or changes a default of matplotlib, which is imported only when a figure
is made. A value that is not finite is drawn in red and not refused: the picture of a diverged model is worth seeing.
"""

from itervae.plotting.curves import training_figure
from itervae.plotting.dictionary import dictionary_figure, tile_atoms
from itervae.plotting.files import save
from itervae.plotting.gaps import gap_figure
from itervae.plotting.reconstructions import reconstructions_figure
from itervae.plotting.samples import samples_figure

__all__ = [
    "dictionary_figure",
    "gap_figure",
    "reconstructions_figure",
    "samples_figure",
    "save",
    "tile_atoms",
    "training_figure",
]
