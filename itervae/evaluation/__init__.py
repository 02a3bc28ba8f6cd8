"""Evaluation: how good a posterior is, measured against the best one."""

from itervae.evaluation.gap import EngineGap, GapReport, OptimalReport, amortization_gap
from itervae.evaluation.marginal import MarginalReport, marginal_likelihood

__all__ = [
    "EngineGap",
    "GapReport",
    "MarginalReport",
    "OptimalReport",
    "amortization_gap",
    "marginal_likelihood",
]
