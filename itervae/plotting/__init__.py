"""The figures: one module per figure, from plain arrays and records to a matplotlib Figure.

Nothing here opens a window, selects a backend or changes a default of matplotlib, which is imported
only when a figure is made. A value that is not finite is drawn in red and not refused: the picture
of a diverged model is worth seeing.
"""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.plotting.curves import training_figure
    from itervae.plotting.dictionaries import dictionaries_figure
    from itervae.plotting.dictionary import dictionary_figure, tile_atoms
    from itervae.plotting.estimators import GradientErrors, estimators_figure
    from itervae.plotting.evaluation import Dots, Histogram, Lines, Panel, evaluation_figure
    from itervae.plotting.files import save
    from itervae.plotting.frontiers import frontier_figure
    from itervae.plotting.gaps import gap_figure
    from itervae.plotting.kl_residual import kl_residual_figure
    from itervae.plotting.rate_distortion import Curve, rate_distortion_figure
    from itervae.plotting.reconstructions import reconstructions_figure
    from itervae.plotting.relaxed_poisson import relaxed_poisson_figure
    from itervae.plotting.runs import runs_figure
    from itervae.plotting.samples import samples_figure
    from itervae.plotting.sequences import sequence_figure
    from itervae.plotting.spikes import save_animation, sequence_animation, spikes_figure
    from itervae.plotting.steps import Trace, gap_steps_figure

__all__ = [
    "Curve",
    "Dots",
    "GradientErrors",
    "Histogram",
    "Lines",
    "Panel",
    "Trace",
    "dictionaries_figure",
    "dictionary_figure",
    "estimators_figure",
    "evaluation_figure",
    "frontier_figure",
    "gap_figure",
    "gap_steps_figure",
    "kl_residual_figure",
    "rate_distortion_figure",
    "reconstructions_figure",
    "relaxed_poisson_figure",
    "runs_figure",
    "samples_figure",
    "save",
    "save_animation",
    "sequence_animation",
    "sequence_figure",
    "spikes_figure",
    "tile_atoms",
    "training_figure",
]
__getattr__, __dir__ = lazily(__name__)
