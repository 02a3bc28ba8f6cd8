"""Evaluation: how good a posterior is, measured against the best one."""

from itervae.evaluation.gap import EngineGap, GapReport, GapTrace, amortization_gap
from itervae.evaluation.marginal import MarginalReport, marginal_likelihood
from itervae.evaluation.optimum import OptimalReport
from itervae.evaluation.rate_distortion import RatePoint, rate_points
from itervae.evaluation.sparsity import lifetime_sparsity

__all__ = [
    "EngineGap",
    "GapReport",
    "GapTrace",
    "MarginalReport",
    "OptimalReport",
    "RatePoint",
    "amortization_gap",
    "lifetime_sparsity",
    "marginal_likelihood",
    "rate_points",
]
