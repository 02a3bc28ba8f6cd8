"""Evaluation: how good a posterior is, measured against the best one."""

from itervae.evaluation.gap import EngineGap, GapReport, OptimalReport, amortization_gap

__all__ = ["EngineGap", "GapReport", "OptimalReport", "amortization_gap"]
