"""The least error at no larger L1: how much better a code could explain its datum without costing
more, proved, and without a threshold being named.

For data y = x − b and a code of L1 norm τ = Σ_k |a_k| it is

    P(τ) = min ½‖y − Φa‖²   over all a with Σ_k |a_k| ≤ τ (and a ≥ 0, where codes are so).

The lasso at a threshold θ has its answer as soon as its own code has the norm τ, which falls
continuously with θ: it is bracketed, datum by datum. A convex combination of the codes at both ends
of a bracket is a code of norm τ, whose error is at least P(τ). Any vector ν proves a bound from
below, by duality, with c = max(0, max_k φ_kᵀν), or of |φ_kᵀν| where codes have any sign:

    P(τ) ≥ y·ν − ½‖ν‖² − τc        at the best multiple of ν:  ½ max(0, y·ν − τc)² / ‖ν‖².
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itervae.arguments import check_kind, check_positive
from itervae.arrays import as_tensor
from itervae.errors import InputError
from itervae.evaluation.checks import batches, check_measured
from itervae.inference import Optimal, State, infer
from itervae.inference.energies.linear import decoder_terms
from itervae.inference.energies.rounding import HALF, SPARE, residual
from itervae.model import (
    Dense,
    GenerativeModel,
    SparseCodingSettings,
    SparsityPrior,
    full_precision,
    sparse_coding_model,
)
from itervae.showing import Shown

ROUNDS = 60
"""Thresholds that are tried for a datum, at most."""
EDGE = 0.1
"""Share of a bracket from each of its ends within which no threshold is tried."""
FALL = 0.3
"""Factor from one threshold to the next while all codes have a norm below τ."""
FLOOR = 1e-12
"""Errors are not told apart any finer than this share of ½‖y‖²."""


@dataclass(frozen=True, repr=False)
class LeastErrors(Shown):
    """Codes against the best of no larger L1 norm, per datum (N,), float64, errors in squared units
    of the data.

    Attributes:
        weight: Σ|a| of the code, the L1 norm τ that no other exceeds.
        power: ½‖x − b‖², the error without any code.
        error: ½‖x − b − Φa‖² of the code.
        least: the error of a code that was found.
        proved: the error that no code of no larger norm is below.
        active, least_active: nonzero coefficients of the code, and of the one that was found.
    """

    weight: Tensor
    power: Tensor
    error: Tensor
    least: Tensor
    proved: Tensor
    active: Tensor
    least_active: Tensor


@full_precision
@torch.no_grad()
def least_errors(
    model: GenerativeModel,
    x: Tensor,
    codes: Tensor,
    *,
    tolerance: float = 1e-4,
    advance: Callable[[int], None] = lambda count: None,
) -> LeastErrors:
    """The least error of any code of no larger L1 norm than those given, proved per datum.

    Args:
        model: sparse coding with a soft threshold, which plays no part, and a dense dictionary. For
            atoms of unit norm, as `load_sae` has them, Σ|a| is Σ_k ‖w_k‖ a_k of the codes of the
            sparse autoencoder.
        x: data (N, D).
        codes: a (N, K) of any engine, `infer(model, engine, x).posterior.mean`.
        tolerance: at most this share of its error is left between what was found and what is
            proved; data that do not reach it keep a wider gap.
        advance: called with the number of data that are done.

    Raises:
        InputError: another model, or data or codes that do not fit.
    """
    model, x = check_measured(model, (), x)
    check_seen(x)
    prior: Any = model.prior
    check_kind("the prior of the model", prior, SparsityPrior, "that of sparse coding, such as load_sae gives")
    if prior.hard or "dense dictionary" not in model.capabilities:
        raise InputError(
            "the least error was asked of a hard threshold or a convolutional dictionary; expected a soft threshold "
            "and a dense dictionary: use such a model"
        )
    tolerance, codes = check_positive("tolerance", tolerance), as_tensor("codes", codes, model.beta)
    if codes.shape != (len(x), model.latents):
        raise InputError(f"codes have shape {tuple(codes.shape)}; expected {(len(x), model.latents)}, one row a datum")
    if not prior.signed and bool((codes < 0).any()):
        raise InputError("codes are negative, and those of this model are not; pass posterior.mean of its engine")
    search = _Search(model, tolerance)
    parts = []
    for rows, a in zip(batches(model, x), batches(model, codes), strict=True):
        parts.append(search(model.standard(rows.double()), a.double()))
        advance(len(rows))
    return LeastErrors(*map(torch.cat, zip(*parts, strict=True)))


def check_seen(x: Tensor) -> None:
    """Refuse data with values that were not seen, of which no least error is proved here."""
    if bool(x.isnan().any()):
        raise InputError(
            "data have values that were not seen, and the least error is of whole data; leave such data out, or name a "
            "threshold for the gap of engines in Python"
        )


class _Search:
    """The least errors of a batch of data.

    The lasso of y at a threshold of its own for each datum is that of y/θ at the threshold 1, in
    units of θ.
    """

    def __init__(self, model: GenerativeModel, tolerance: float) -> None:
        prior, operator = model.prior, model.standard_operator(torch.float64)
        assert isinstance(prior, SparsityPrior)
        assert isinstance(operator, Dense)
        self.signed, self.tolerance = prior.signed, tolerance
        settings = SparseCodingSettings(model.latents, 1.0, signed=prior.signed, unit_norm=False)
        self.model = sparse_coding_model(operator.dictionary, settings, model.shape).requires_grad_(False)
        self.operator = decoder_terms(self.model, torch.float64).operator  # that of its solver

    def __call__(self, y: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        weight, power = a.abs().sum(1), 0.5 * y.square().sum(1)
        error, _, slope = self._bounds(y, a, weight)
        low, high = torch.zeros_like(weight), self._largest(self.operator.adjoint(y))
        codes_low, codes_high = torch.zeros_like(a), torch.zeros_like(a)
        best, least, proved = a.clone(), error.clone(), torch.zeros_like(error)
        theta = self._largest(slope).minimum((1 - EDGE) * high).maximum(FALL * high)
        enough = self.tolerance * error + FLOOR * power
        left = torch.arange(len(y), device=y.device)
        for _ in range(ROUNDS):
            tried = self._between(codes_low[left], codes_high[left], weight[left])
            upper, lower, _ = self._bounds(y[left], tried, weight[left])
            better = upper < least[left]
            best[left[better]], least[left[better]] = tried[better], upper[better]
            proved[left] = proved[left].maximum(lower).minimum(least[left])
            open_ = least[left] - proved[left] > enough[left]
            left, tried = left[open_], tried[open_]
            if not len(left):
                break
            at = theta[left]
            found = self._solve(y[left], at, tried, enough[left])
            larger = found.abs().sum(1) > weight[left]
            codes_low[left[larger]], low[left[larger]] = found[larger], at[larger]
            codes_high[left[~larger]], high[left[~larger]] = found[~larger], at[~larger]
            theta[left] = self._next(
                low[left], high[left], codes_low[left].abs().sum(1), codes_high[left].abs().sum(1), weight[left]
            )
        return weight, power, error, least, proved, (a != 0).sum(1), (best != 0).sum(1)

    def _largest(self, slope: Tensor) -> Tensor:
        """max_k φ_kᵀν (B,), or of its size; not below 0."""
        return (slope.abs() if self.signed else slope).amax(1).clamp_min(0)

    def _between(self, low: Tensor, high: Tensor, weight: Tensor) -> Tensor:
        """The combination of two codes whose L1 norm is τ; that at the higher threshold, of no
        larger norm, where the other is not known yet."""
        larger, smaller = low.abs().sum(1), high.abs().sum(1)
        share = ((weight - smaller) / (larger - smaller)).where(larger > weight, 0).clamp(0, 1)
        code = torch.lerp(high, low, share[:, None])
        norm = code.abs().sum(1).maximum(weight).clamp_min(torch.finfo(weight.dtype).tiny)
        return code * (weight / norm)[:, None]

    def _next(self, low: Tensor, high: Tensor, larger: Tensor, smaller: Tensor, weight: Tensor) -> Tensor:
        """The threshold where a line through the norms at both ends has the norm τ."""
        share = (weight - smaller) / (larger - smaller).clamp_min(torch.finfo(weight.dtype).tiny)
        share = share.clamp(EDGE, 1 - EDGE)
        return torch.where(low > 0, torch.lerp(high, low, share), FALL * high)

    def _solve(self, y: Tensor, theta: Tensor, start: Tensor, enough: Tensor) -> Tensor:
        """The codes of the lasso, each datum at its own threshold, from some codes on."""
        unit = theta[:, None]
        state = State(start / unit + start.sign())
        tolerance = 0.02 * (enough / theta.square()).min().item()
        return infer(self.model, Optimal(tolerance=tolerance), y / unit, state=state).posterior.mean * unit

    def _bounds(self, y: Tensor, a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The error of codes a (B, K), from above; the bound of P(τ) that their residual proves, in
        both cases with what rounding can have done; and Φᵀr (B, K)."""
        active, size = (a != 0).sum(1), a.abs()
        r = residual(y, a, self.operator, active.double())
        room = HALF * (SPARE + 2 * max(a.shape[1], y.shape[1]))
        product = a * r.slope
        explained = product.sum(1) - room * product.abs().sum(1) - (size * r.error).sum(1)
        largest = self._largest(r.slope.abs() + r.error if self.signed else r.slope + r.error)
        rise = (1 - room) * r.norm.square() + explained - r.off * r.norm - (1 + room) * weight * largest
        proved = 0.5 * (rise.clamp_min(0) / ((1 + room) * r.norm).clamp_min(torch.finfo(y.dtype).tiny)).square()
        return 0.5 * (r.norm + r.off).square() * (1 + room), (1 - room) * proved, r.slope
