"""The figure `rate-distortion`: reconstruction error against sparsity."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itervae.cli.figures.base import FigureOf
from itervae.cli.figures.reports import complete, numbers, report
from itervae.plotting import Curve, rate_distortion_figure

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(kw_only=True)
class RateDistortion(FigureOf):
    """Reconstruction error against sparsity, from `itervae rate-distortion --json`."""

    EXPECTED = "the JSON report of itervae rate-distortion --json"
    MOST = 1

    def draw(self) -> "matplotlib.figure.Figure":
        (path,) = self.inputs
        content = report(path, "rate-distortion", "itervae rate-distortion --json")
        curves, variance = complete(path, lambda: (_curves(content["points"]), float(content["variance"])))
        return rate_distortion_figure(curves, variance)


def _curves(points: list[dict[str, Any]]) -> dict[str, Curve]:
    """Points with the same `curve`, by their `order`."""
    together: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        together.setdefault(point["curve"], []).append(point)
    curves = {}
    for name, members in together.items():
        members.sort(key=lambda point: point["order"])
        columns = {
            key: numbers([point[key] for point in members])
            for key in ("lifetime_sparsity", "share_zero", "error", "error_se")
        }
        setting = [str(point["setting"]) for point in members]
        curves[name] = Curve(**columns, setting=setting, kind=members[0]["kind"], family=members[0]["family"])
    return curves
