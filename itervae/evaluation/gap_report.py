"""What is said of the amortization gap: the report of `itervae.evaluation.amortization_gap`."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from itervae.evaluation.marginal import MarginalReport
from itervae.evaluation.optimum import OptimalReport
from itervae.showing import Shown

SCHEMA = 1
"""Version of the JSON report."""


@dataclass(frozen=True, repr=False)
class GapTrace(Shown):
    """The gap before the first step and after each (steps + 1 entries): its mean over data, 10th
    and 90th percentile, nats; and the time taken up to there, seconds per 1000 data, between start
    and end in proportion to the steps."""

    mean: list[float]
    p10: list[float]
    p90: list[float]
    seconds_per_1000: list[float]


@dataclass(frozen=True, repr=False)
class EngineGap(Shown):
    """One engine against the best posterior. Gaps in nats per datum; `gap_se` is the standard error
    of the mean; `spikes_mean` is the mean of Σ_k |E z_k|. All statistics are over the data whose
    free energy is finite; `non_finite` counts the others. Of sparse coding energies and gaps are in
    squared units of the data, `kl_mean` is the mean of its cost, and there is no
    `share_above_1_nat`."""

    steps: int
    free_energy_mean: float
    gap_mean: float
    gap_se: float
    gap_median: float
    gap_p99: float
    gap_max: float
    share_above_1_nat: float | None
    non_finite: int
    seconds_per_1000: float
    reconstruction_mean: float
    kl_mean: float
    spikes_mean: float
    trace: GapTrace | None = None
    """Where a trace was asked for, and the engine takes the same steps for every datum."""


@dataclass(frozen=True, repr=False)
class ApproximationReport(MarginalReport):
    """The bounds of −log p(x) with the best posterior as proposal, and the approximation gap F* −
    (−log p(x)), nats, from the last of them. It is a lower bound where F* is certified, since the
    last bound is still above −log p(x); an estimate of F* may be above F*, and then it is
    neither."""

    gap_mean: float
    gap_se: float


@dataclass(frozen=True, repr=False)
class GapReport(Shown):
    """The report of `amortization_gap`; `arrays` holds free energies and certificates per datum."""

    num: int
    observation_variance: float | None
    beta: float
    optimal: OptimalReport
    engines: dict[str, EngineGap]
    arrays: dict[str, Tensor] = field(repr=False)
    approximation: ApproximationReport | None = None

    def to_dict(self, data: str) -> dict[str, Any]:
        """The JSON report, schema 1: plain values, `data` naming what was measured on."""
        engines = {name: {k: v for k, v in asdict(gap).items() if v is not None} for name, gap in self.engines.items()}
        return {
            "schema": SCHEMA,
            "data": data,
            "num": self.num,
            "observation_variance": self.observation_variance,
            "beta": self.beta,
            "optimal": {name: value for name, value in asdict(self.optimal).items() if value is not None},
            "engines": engines,
            "approximation": None if self.approximation is None else asdict(self.approximation),
        }
