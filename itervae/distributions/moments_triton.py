"""The pass over (B, K) of the exact free energy, forward and back, compiled by Triton for a GPU.

`moments` has the equations, and runs these. Forward, a program takes one datum; back, a tile of
data and latents, and leaves its sums over the data for the gradient in a prior that they share, and
in the norms. So a pass is one kernel, and another that adds up the tiles. Exponentials are made
here: they cost less than to read them. Those of float32 are the fast ones, to |u|·6e-8. Under
TRITON_INTERPRET=1 it runs on a CPU.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from itervae.kernels.launch import rows

MOST, PER_WARP = 1024, 128
"""Largest block of latents forward, and latents of a block for each warp."""
TILE, WARPS = (16, 64), 8
"""Data and latents of a program back, and its warps."""


@triton.jit
@no_type_check
def _series(d):
    """e^d − 1 − d near d = 0: Σ dⁿ·12!/n! over 12!, n = 2 to 12, all of which float32 has too."""
    total = d + 12.0
    total = total * d + 132.0
    total = total * d + 1320.0
    total = total * d + 11880.0
    total = total * d + 95040.0
    total = total * d + 665280.0
    total = total * d + 3991680.0
    total = total * d + 19958400.0
    total = total * d + 79833600.0
    total = total * d + 239500800.0
    return d * d * (total / 479001600.0)


@triton.jit
@no_type_check
def _growth(d):
    """e^d − 1 and e^d − 1 − d, without cancellation."""
    near, beyond, grown = tl.abs(d) < 0.25, _series(d), tl.exp(d)
    return tl.where(near, d + beyond, grown - 1), tl.where(near, beyond, grown - 1 - d)


@triton.jit
@no_type_check
def _poisson(u, log_r):
    """λ, the KL, and its derivatives by log λ and log r, which is r − λ."""
    d, rate = log_r - u, tl.exp(u)
    near, below, beyond, small = tl.abs(d) < 0.25, d > 0, _series(d), tl.exp(-tl.abs(d))
    larger = tl.exp(tl.where(below, log_r, u))  # r or λ: the other over it cannot overflow
    kl = larger * tl.where(below, 1 - small * (1 + d), small - 1 - d)
    lack = larger * tl.where(below, 1 - small, small - 1)
    return rate, tl.where(near, rate * beyond, kl), -rate * d, tl.where(near, rate * (d + beyond), lack)


@triton.jit
@no_type_check
def _gaussian(location, log_scale, own, own_scale):
    """v, the KL, and its derivatives by location and log-scale of the posterior, and of the
    prior."""
    inverse = tl.exp(-own_scale)
    distance = (location - own) * inverse
    growth, excess = _growth(2 * (log_scale - own_scale))
    square, slope = distance * distance, distance * inverse
    return tl.exp(2 * log_scale), 0.5 * (excess + square), slope, growth, -slope, -growth - square


@triton.jit
@no_type_check
def _laplace(location, log_scale, own, own_scale):
    """As `_gaussian`."""
    inverse, log_ratio = tl.exp(-own_scale), log_scale - own_scale
    distance, ratio = (location - own) * inverse, tl.exp(log_ratio)
    growth, excess = _growth(log_ratio)
    far = tl.abs(distance)
    t = far * tl.exp(tl.where(log_ratio < -60.0, 60.0, -log_ratio))  # no overflow, for a scale next to 0
    t = tl.where(t > 1e6, 1e6, t)  # where e^−t·(1 + t) is 0
    fallen, beyond = _growth(-t)  # e^−t − 1, and e^−t − 1 + t
    moved = tl.where(t > 1, far + ratio * fallen, ratio * beyond)
    slope = -fallen * inverse
    slope = tl.where(distance < 0, -slope, slope)
    # of ratio·(t + e^−t − 1) + ratio − 1 − log ratio, where ratio·t does not change
    bent = tl.where(t < 0.25, beyond * (1 + t) - t * t, tl.exp(-t) * (1 + t) - 1)
    return 2 * tl.exp(2 * log_scale), moved + excess, slope, growth + ratio * bent, -slope, -moved - growth


@triton.jit
@no_type_check
def _load(array_at, at, here):
    return tl.load(array_at + at, mask=here, other=0.0)


@triton.jit
@no_type_check
def _moments(
    u_at, prior_at, norms_at, mean_at, spread_at, kl_at, u_stride, prior_stride,
    LATENTS: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A datum. Latents beyond the last are read as 0, which gives a KL of 0."""
    row = tl.program_id(0).to(tl.int64)
    spread = tl.zeros([BLOCK], dtype=u_at.dtype.element_ty)
    cost = spread
    for first in range(0, LATENTS, BLOCK):
        k = first + tl.arange(0, BLOCK)
        here, at, start = k < LATENTS, row * u_stride + k, row * prior_stride + k
        mean, own = _load(u_at, at, here), _load(prior_at, start, here)
        if KIND == "poisson":
            mean, kl, _, _ = _poisson(mean, own)
            variance = mean
        else:
            log_scale, own_scale = _load(u_at, at + LATENTS, here), _load(prior_at, start + LATENTS, here)
            if KIND == "gaussian":
                variance, kl, _, _, _, _ = _gaussian(mean, log_scale, own, own_scale)
            else:
                variance, kl, _, _, _, _ = _laplace(mean, log_scale, own, own_scale)
        tl.store(mean_at + row * LATENTS + k, mean, mask=here)
        spread += _load(norms_at, k, here) * variance
        cost += kl
    tl.store(spread_at + row, tl.sum(spread))
    tl.store(kl_at + row, tl.sum(cost))


@triton.jit
@no_type_check
def _moments_back(
    u_at, prior_at, norms_at, pull_at, to_spread_at, to_kl_at, out_at, each_at, sums_at,
    size, u_stride, prior_stride, pull_stride, spread_stride, kl_stride,
    LATENTS: tl.constexpr, KIND: tl.constexpr, PARTS: tl.constexpr, PULL: tl.constexpr, SPREAD: tl.constexpr,
    KL: tl.constexpr, EACH: tl.constexpr, SHARED: tl.constexpr, NORMS: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A tile. `out` and `each`, the gradients in the parameters of posterior and prior, are (B,
    parts · K); of `sums` (tiles, SHARED + NORMS, K) the first rows are of the prior.
    """
    tile = tl.program_id(0).to(tl.int64)
    row, k = tile * ROWS + tl.arange(0, ROWS), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside, across = row < size, k < LATENTS
    here = inside[:, None] & across[None, :]
    at, start = row[:, None] * u_stride + k[None, :], row[:, None] * prior_stride + k[None, :]
    first, own = _load(u_at, at, here), _load(prior_at, start, here)
    to_spread, to_kl = tl.zeros([ROWS, 1], dtype=first.dtype), tl.zeros([ROWS, 1], dtype=first.dtype)
    if SPREAD:
        to_spread = _load(to_spread_at, row * spread_stride, inside)[:, None]
    if KL:
        to_kl = _load(to_kl_at, row * kl_stride, inside)[:, None]
    pull = tl.zeros([ROWS, BLOCK], dtype=first.dtype)
    if PULL:
        pull = _load(pull_at, row[:, None] * pull_stride + k[None, :], here)
    weighed = to_spread * _load(norms_at, k, across)[None, :]
    to = row[:, None] * (PARTS * LATENTS) + k[None, :]
    sums = sums_at + tile * ((SHARED + NORMS) * LATENTS) + k
    if KIND == "poisson":
        variance, _, slope, to_own = _poisson(first, own)
        to_first = (pull + weighed) * variance + to_kl * slope
    else:
        second, own_scale = _load(u_at, at + LATENTS, here), _load(prior_at, start + LATENTS, here)
        if KIND == "gaussian":
            variance, _, slope, bent, to_own, to_scale = _gaussian(first, second, own, own_scale)
        else:
            variance, _, slope, bent, to_own, to_scale = _laplace(first, second, own, own_scale)
        to_first = pull + to_kl * slope
        tl.store(out_at + to + LATENTS, 2 * weighed * variance + to_kl * bent, mask=here)
        if EACH:
            tl.store(each_at + to + LATENTS, to_kl * to_scale, mask=here)
        if SHARED > 0:
            tl.store(sums + LATENTS, tl.sum(to_kl * to_scale, axis=0), mask=across)
    tl.store(out_at + to, to_first, mask=here)
    if EACH:
        tl.store(each_at + to, to_kl * to_own, mask=here)
    if SHARED > 0:
        tl.store(sums, tl.sum(to_kl * to_own, axis=0), mask=across)
    if NORMS:
        tl.store(sums + SHARED * LATENTS, tl.sum(to_spread * variance, axis=0), mask=across)


@torch.library.custom_op(
    "itervae::moments",
    mutates_args=(),
    schema="(Tensor u, Tensor prior, Tensor norms, str kind) -> (Tensor, Tensor, Tensor)",
)
def moments(u: Tensor, prior: Tensor, norms: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """The mean (B, K), the spread (B,) and the KL (B,) of a `kind` of posterior.

    Args:
        u: parameters of the posterior (B, parts · K).
        prior: those of the prior, (parts · K,) or as `u`.
        norms: c (K,).
        kind: "poisson", "gaussian" or "laplace".
    """
    u, prior = rows(u), rows(prior)
    found = _empty_moments(u, prior, norms, kind)
    latents = len(norms)
    block = min(MOST, triton.next_power_of_2(latents))
    kernel: Any = _moments[(len(u),)]
    with torch.cuda.device_of(u):  # which need not be the current one
        kernel(
            u, prior, norms.contiguous(), *found, u.stride(0), _stride(prior),
            LATENTS=latents, KIND=kind, BLOCK=block, num_warps=max(1, min(8, block // PER_WARP)),
        )  # fmt: skip
    return found


@torch.library.custom_op(
    "itervae::moments_back",
    mutates_args=(),
    schema="(Tensor u, Tensor prior, Tensor norms, Tensor? to_mean, Tensor? to_spread, Tensor? to_kl, str kind, "
    "bool needs_prior, bool needs_norms) -> (Tensor, Tensor, Tensor)",
)
def moments_back(
    u: Tensor,
    prior: Tensor,
    norms: Tensor,
    to_mean: Tensor | None,
    to_spread: Tensor | None,
    to_kl: Tensor | None,
    kind: str,
    needs_prior: bool,
    needs_norms: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient in `u`, that in a prior of each datum (B, parts · K), and the sums of each tile
    (tiles, …, K) of those in a prior that all share and in the norms; empty where not needed."""
    u, prior = rows(u), rows(prior)
    out, each, sums = _empty_gradients(u, prior, norms, to_mean, to_spread, to_kl, kind, needs_prior, needs_norms)
    latents = len(norms)
    grads = [grad if grad is None else rows(grad) if grad.ndim == 2 else grad for grad in (to_mean, to_spread, to_kl)]
    high, wide = TILE[0], min(TILE[1], triton.next_power_of_2(latents))
    kernel: Any = _moments_back[(triton.cdiv(len(u), high), triton.cdiv(latents, wide))]
    with torch.cuda.device_of(u):
        kernel(
            u, prior, norms.contiguous(), *(u if grad is None else grad for grad in grads), out, each, sums,
            len(u), u.stride(0), _stride(prior), *(0 if grad is None else grad.stride(0) for grad in grads),
            LATENTS=latents, KIND=kind, PARTS=u.shape[1] // latents,
            **dict(zip(("PULL", "SPREAD", "KL"), (grad is not None for grad in grads), strict=True)),
            EACH=len(each) > 0, SHARED=sums.shape[1] - needs_norms, NORMS=needs_norms,
            ROWS=high, BLOCK=wide, num_warps=WARPS,
        )  # fmt: skip
    return out, each, sums


@moments.register_fake
def _empty_moments(u: Tensor, prior: Tensor, norms: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    return u.new_empty(len(u), len(norms)), u.new_empty(len(u)), u.new_empty(len(u))


@moments_back.register_fake
def _empty_gradients(
    u: Tensor,
    prior: Tensor,
    norms: Tensor,
    to_mean: Tensor | None,
    to_spread: Tensor | None,
    to_kl: Tensor | None,
    kind: str,
    needs_prior: bool,
    needs_norms: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    latents, shared = len(norms), needs_prior and prior.ndim == 1
    summed = (u.shape[1] // latents if shared else 0) + needs_norms
    each = u.shape if needs_prior and not shared else (0,)
    return u.new_empty(u.shape), u.new_empty(each), u.new_empty(-(-len(u) // TILE[0]), summed, latents)


def _stride(prior: Tensor) -> int:
    """Numbers from the prior of a datum to that of the next."""
    return prior.stride(0) if prior.ndim == 2 else 0
