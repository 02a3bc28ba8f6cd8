"""What the encoder of a sparse autoencoder loses: its error against the least at no larger L1, and
the frontier of error against L1."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from itervae.errors import InputError
from itervae.evaluation.checks import batches
from itervae.evaluation.least_error import FALL, LeastErrors, check_seen, least_errors
from itervae.inference import Engine, Optimal, infer
from itervae.model import GenerativeModel
from itervae.showing import Shown

FITTED_ON = 256
"""Data on which a threshold is fitted, and the frontier is drawn, at most."""
CLOSE = 1e-3
"""Share of the norm to which a threshold is fitted."""
LEAST = 1e-6
"""Thresholds are not tried below this share of the largest that leaves any unit active."""
AROUND = (0.125, 0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0)
"""Thresholds of the frontier, in units of the one at the encoder's norm."""


@dataclass(frozen=True, repr=False)
class FrontierPoint(Shown):
    """The codes of least energy at one threshold, means over data: their L1 norm Σ|a|, their error
    ½‖x − b − Φa‖², and the error that no codes of no larger mean norm are below."""

    threshold: float
    weight: float
    error: float
    proved: float


@dataclass(frozen=True, repr=False)
class EncoderLoss(Shown):
    """What an encoder loses to the best codes of no larger L1 norm, proved per datum.

    Attributes:
        num: of data.
        unexplained: share of the variance of the data that its codes leave, Σ‖x − x̂‖² / Σ‖x − x̄‖².
        unexplained_least: the share that the best codes found leave.
        unexplained_proved: the share that no codes of no larger norm are below.
        removable: share of the encoder's error that better codes remove, 1 − least/error.
        removable_median, removable_p90, removable_p99, removable_max: the same of each datum.
        weight_mean: mean L1 norm Σ|a|.
        error_mean, least_mean, proved_mean: means of ½‖x − b − Φa‖².
        active_mean, active_p99, least_active_mean, least_active_p99: number of nonzero
            coefficients, L0.
        certificate_max: largest least − proved, as a share of the encoder's error.
        not_proved: data of which more than the tolerance is left.
        frontier: error against L1 of the best codes, means over at most 256 data.
        arrays: per datum (N,).
    """

    num: int
    unexplained: float
    unexplained_least: float
    unexplained_proved: float
    removable: float
    removable_median: float
    removable_p90: float
    removable_p99: float
    removable_max: float
    weight_mean: float
    error_mean: float
    least_mean: float
    proved_mean: float
    active_mean: float
    active_p99: float
    least_active_mean: float
    least_active_p99: float
    certificate_max: float
    not_proved: int
    frontier: list[FrontierPoint]
    arrays: dict[str, Tensor] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those per datum."""
        found = asdict(self)
        del found["arrays"]
        return found


@torch.no_grad()
def encoder_loss(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    *,
    tolerance: float = 1e-4,
    advance: Callable[[int], None] = lambda count: None,
) -> EncoderLoss:
    """Measure what the codes of an engine lose to the best of no larger L1 norm.

    Args:
        model: sparse coding with a soft threshold, which plays no part here.
        engine: such as the encoder of `load_sae`.
        x: data (N, D).
        tolerance, advance: as `least_errors`.

    Raises:
        InputError: as `least_errors`.
    """
    codes = encoded(model, engine, x)
    found = least_errors(model, x, codes, tolerance=tolerance, advance=advance)
    error, least, proved = found.error, found.least, found.proved
    variance = 0.5 * (x.double() - x.double().mean(0)).square().sum()
    removable = 1 - least / error.clamp_min(torch.finfo(error.dtype).tiny)
    left = (least - proved) / error.clamp_min(torch.finfo(error.dtype).tiny)
    median, p90, p99 = (removable.quantile(share).item() for share in (0.5, 0.9, 0.99))
    active, least_active = found.active.double(), found.least_active.double()
    some = x[:FITTED_ON]
    weight = codes[:FITTED_ON].double().abs().sum(1).mean().item()
    curve = []
    if weight > 0:
        fitted, _ = fitted_threshold(model, some, weight)
        curve = frontier(model, some, [scale * fitted for scale in AROUND])
    return EncoderLoss(
        num=len(x),
        unexplained=(error.sum() / variance).item(),
        unexplained_least=(least.sum() / variance).item(),
        unexplained_proved=(proved.sum() / variance).item(),
        removable=(1 - least.sum() / error.sum()).item(),
        removable_median=median,
        removable_p90=p90,
        removable_p99=p99,
        removable_max=removable.max().item(),
        weight_mean=found.weight.mean().item(),
        error_mean=error.mean().item(),
        least_mean=least.mean().item(),
        proved_mean=proved.mean().item(),
        active_mean=active.mean().item(),
        active_p99=active.quantile(0.99).item(),
        least_active_mean=least_active.mean().item(),
        least_active_p99=least_active.quantile(0.99).item(),
        certificate_max=left.max().item(),
        not_proved=int((least - proved > tolerance * error).sum()),
        frontier=curve,
        arrays={name: getattr(found, name) for name in LeastErrors.__dataclass_fields__},
    )


def encoded(model: GenerativeModel, engine: Engine, x: Tensor) -> Tensor:
    """The codes (N, K) of data (N, D)."""
    check_seen(x)
    return torch.cat([infer(model, engine, part).posterior.mean for part in batches(model, x)])


@torch.no_grad()
def frontier(model: GenerativeModel, x: Tensor, thresholds: Sequence[float]) -> list[FrontierPoint]:
    """The frontier of error against L1: the codes of least energy at each threshold θ.

    Their mean error is the least that codes of their mean norm have, to the certificate: any others
    have E = error + θ·norm of at least theirs.

    Args:
        model: sparse coding with a soft threshold, in whose place others are tried.
        x: data (N, D).
        thresholds: θ > 0.
    """
    model, points = _apart(model), []
    for threshold in thresholds:
        weight, error, certificate = _optimum(model, x, threshold)
        points.append(FrontierPoint(threshold, weight, error, error - certificate))
    return points


@torch.no_grad()
def fitted_threshold(model: GenerativeModel, x: Tensor, weight: float) -> tuple[float, float]:
    """The threshold θ at which the codes of least energy have a mean L1 norm Σ|a| of `weight`, and
    the norm that they have there, which is `weight` to 0.1 %, or less where none is as large.

    Args:
        model: sparse coding with a soft threshold, in whose place others are tried.
        x: data (N, D).
        weight: a mean L1 norm > 0.

    Raises:
        InputError: no weight.
    """
    if not weight > 0:
        raise InputError(
            "the encoder leaves all units of these data silent, so that no threshold can be fitted; name one, or "
            "other data"
        )
    drives = (model.operator(torch.float64).adjoint(model.standard(part.double())) for part in batches(model, x))
    largest = max(drive.abs().max().item() for drive in drives)
    low, high, larger, smaller, threshold = 0.0, largest, 0.0, 0.0, FALL * largest
    model = _apart(model)
    while True:
        norm, _, _ = _optimum(model, x, threshold)
        if abs(norm - weight) <= CLOSE * weight or threshold <= LEAST * largest:
            break
        if norm > weight:
            low, larger = threshold, norm
        else:
            high, smaller = threshold, norm
        share = min(max((weight - smaller) / (larger - smaller), 0.1), 0.9) if low else 0.0
        threshold = high + share * (low - high) if low else FALL * high
    return threshold, norm


def _apart(model: GenerativeModel) -> GenerativeModel:
    """A copy of a model with the same decoder, to be given other thresholds."""
    return copy.deepcopy(model, {id(model.decoder): model.decoder})


def _optimum(model: GenerativeModel, x: Tensor, threshold: float) -> tuple[float, float, float]:
    """Means over data at a threshold: the L1 norm of the codes of least energy, their error, and
    how much energy they may have above the least."""
    model.prior.threshold.fill_(threshold)  # pyright: ignore[reportCallIssue]
    norms, errors, certificates = [], [], []
    for part in batches(model, x):
        y = part.double()
        tolerance = 1e-6 * 0.5 * model.standard(y).square().sum(1).mean().item()
        found = infer(model, Optimal(tolerance=tolerance), y)
        a = found.posterior.mean
        norms.append(a.abs().sum(1))
        errors.append(0.5 * model.operator(torch.float64).residual(model.standard(y), a).square().sum(1))
        certificates.append(found.stats["certificate"])
    norm, error, certificate = (torch.cat(values).mean().item() for values in (norms, errors, certificates))
    return norm, error, certificate
