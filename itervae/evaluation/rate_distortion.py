"""Rate and distortion: reconstruction error against sparsity, of Poisson VAEs and of classic sparse
coding.

The comparison of Vafaii, Galor & Yates (2024), "Poisson variational autoencoder", section on the
amortization gap, with like set against like: the decoded mean rate and decoded spike counts are
curves of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itervae.arguments import check_seed
from itervae.errors import InputError
from itervae.evaluation.checks import check_measured, check_varied
from itervae.evaluation.explained import r_squared, standard_error
from itervae.evaluation.sparsity import lifetime_sparsity
from itervae.inference import Engine, infer
from itervae.model import GenerativeModel

SCHEMA = 1
KIND = "rate-distortion"
BATCH = 1000


@dataclass(frozen=True)
class RatePoint:
    """One code of the data.

    `curve` names the points that belong together, `family` the curves that do; `setting` says what
    was varied, and `order` is its value. `kind`: "mean" decodes mean rates or coefficients,
    "counts" spike counts. `error` ‖x − x̂‖² is summed over pixels, its mean over data; `error_se`
    is the standard error, `error_median` the median; `r2_pooled` and `r2_per_datum` are R² by
    its two definitions, about the mean of all data and about each datum's own (see `r_squared`).
    `lifetime_sparsity` is the mean over units. `share_zero` is the share of zeros among the
    coefficients or counts, None for mean rates, which are never 0. `certificate_max` is the largest
    proved distance from the best code, in the units of the objective, where there is one.
    """

    curve: str
    family: str
    kind: str
    setting: str
    order: float
    lifetime_sparsity: float
    share_zero: float | None
    error: float
    error_se: float
    error_median: float
    r2_pooled: float | None
    r2_per_datum: float | None
    certificate_max: float | None


@torch.no_grad()
def rate_points(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    *,
    family: str,
    setting: str,
    order: float,
    steps: int | None = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> list[RatePoint]:
    """The points of one model and engine: one of a sparse code; of a Poisson VAE that of mean rates
    and that of counts.

    Args:
        model: generative model.
        engine: inference engine that fits it.
        x: data (N, D), N ≥ 2.
        family, setting, order: see `RatePoint`.
        steps: inference steps; the engine's own where None.
        seed: of the counts.
        advance: called with the number of data done.

    Raises:
        InputError: fewer than two data, or data that are all the same.
    """
    model, x = check_measured(model, (engine,), x)
    check_seed(seed)
    if len(x) < 2:
        raise InputError(f"there are {len(x)} data; expected at least 2, over which sparsity is measured")
    check_varied(x)
    generator = torch.Generator(x.device).manual_seed(seed)
    poisson = "Poisson family" in model.capabilities
    if not poisson and "variational posterior" in model.capabilities:
        raise InputError(
            f"the model has a {type(model.prior).__name__}; rate and distortion are compared between Poisson VAEs and "
            "sparse coding: leave it out, or use itervae evaluate"
        )
    codes: dict[str, list[Tensor]] = {}
    errors: dict[str, list[Tensor]] = {}
    certificates = []
    for batch in x.split(BATCH):
        inference = infer(model, engine, batch, steps=steps, generator=generator)
        certificates.append(inference.stats["certificate"])
        found = {"mean": inference.posterior.mean}
        if poisson:
            found["counts"] = inference.posterior.sample(generator=generator)
        for kind, code in found.items():
            codes.setdefault(kind, []).append(code)
            errors.setdefault(kind, []).append((batch - model.decode(code)).double().square().sum(-1))
        advance(len(batch))
    certificate = torch.cat(certificates).max().item()
    points = []
    for kind, values in codes.items():
        code, error = torch.cat(values), torch.cat(errors[kind])
        share = r_squared(error, x)
        zeros = None if poisson and kind == "mean" else (code == 0).double().mean().item()
        points.append(
            RatePoint(
                curve=f"{family}, {'spike counts' if kind == 'counts' else 'mean rate'}" if poisson else family,
                family=family,
                kind=kind,
                setting=setting,
                order=order,
                lifetime_sparsity=lifetime_sparsity(code).mean().item(),
                share_zero=zeros,
                error=error.mean().item(),
                error_se=standard_error(error),
                error_median=error.median().item(),
                r2_pooled=share.pooled,
                r2_per_datum=share.per_datum,
                certificate_max=certificate if np.isfinite(certificate) else None,
            )
        )
    return points


def matched_error(points: Sequence[RatePoint], sparsity: float) -> float | None:
    """The error of a curve at that lifetime sparsity, interpolated linearly; None outside the range
    of the curve."""
    ordered = sorted(points, key=lambda point: point.lifetime_sparsity)
    at = np.array([point.lifetime_sparsity for point in ordered])
    if not len(at) or not at[0] <= sparsity <= at[-1]:
        return None
    return float(np.interp(sparsity, at, [point.error for point in ordered]))


def curves(points: Sequence[RatePoint]) -> dict[str, list[RatePoint]]:
    """The points by curve, each in the order of what was varied."""
    found: dict[str, list[RatePoint]] = {}
    for point in points:
        found.setdefault(point.curve, []).append(point)
    return {name: sorted(members, key=lambda point: point.order) for name, members in found.items()}


def report(points: Sequence[RatePoint], data: str, num: int, variance: float) -> dict[str, Any]:
    """The JSON report: plain values."""
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "data": data,
        "num": num,
        "variance": variance,
        "points": [vars(point) for point in points],
    }
