"""Evaluation: how good a posterior is, measured against the best one, and what its codes are
worth."""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.evaluation.codes import Codes, encode
    from itervae.evaluation.downstream import linear_readout, shattering
    from itervae.evaluation.explained import RSquared, r_squared
    from itervae.evaluation.frontiers import EncoderLoss, FrontierPoint, encoder_loss, fitted_threshold, frontier
    from itervae.evaluation.gap import amortization_gap
    from itervae.evaluation.gap_report import EngineGap, GapReport, GapTrace
    from itervae.evaluation.least_error import LeastErrors, least_errors
    from itervae.evaluation.marginal import MarginalReport, marginal_likelihood
    from itervae.evaluation.neighbours import nearest_neighbours
    from itervae.evaluation.optimum import OptimalReport
    from itervae.evaluation.rate_distortion import RatePoint, rate_points
    from itervae.evaluation.sparsity import lifetime_sparsity, population_sparsity
    from itervae.evaluation.truth import Firings, TruthReport, compare_truth
    from itervae.evaluation.units import active_units

__all__ = [
    "Codes",
    "EncoderLoss",
    "EngineGap",
    "Firings",
    "FrontierPoint",
    "GapReport",
    "GapTrace",
    "LeastErrors",
    "MarginalReport",
    "OptimalReport",
    "RSquared",
    "RatePoint",
    "TruthReport",
    "active_units",
    "amortization_gap",
    "compare_truth",
    "encode",
    "encoder_loss",
    "fitted_threshold",
    "frontier",
    "least_errors",
    "lifetime_sparsity",
    "linear_readout",
    "marginal_likelihood",
    "nearest_neighbours",
    "population_sparsity",
    "r_squared",
    "rate_points",
    "shattering",
]
__getattr__, __dir__ = lazily(__name__)
