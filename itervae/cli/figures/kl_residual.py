"""The figure `kl-residual`: what a rate costs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from itervae.cli.figures.base import Figure
from itervae.plotting import kl_residual_figure

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(kw_only=True)
class KLResidual(Figure):
    """What a rate costs in KL, by its ratio to the prior rate."""

    def draw(self) -> "matplotlib.figure.Figure":
        return kl_residual_figure()
