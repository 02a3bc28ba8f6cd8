"""The pass over (B, K) of the exact free energy, forward and back, compiled by numba for a CPU.

`moments` has the equations, and runs these. Arrays are float32 or float64 and contiguous, (B, K)
unless said otherwise; parameters of location-scale families are (B, 2K), those of a prior (1 or B,
…). Exponentials are taken before by torch, whose loops over them are vector code.

Forward, `spread` and `kl` (B,) are filled; `norms` is c (K,), and `series` has the numbers 1/2!,
1/3!, …, 1/12!. Back, `out` is filled with the gradient in u, from those in the mean (1 or B, K),
the spread and the KL (B,).
"""

from typing import Any, no_type_check

import numpy as np
from numba import njit, prange

_options: Any = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}
compiled = njit(cache=True, **_options)
compiled_parallel = njit(cache=True, parallel=True, **_options)
"""Decorators of functions whose sums may be made in any order."""

ZERO, ONE, TWO, HALF = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5)
NEAR, FAR = np.float32(0.25), np.float32(1e6)
"""|d| below which e^d − 1 − d is summed as a series, as the difference would cancel, and a distance
in scales at which e^−t·(1 + t) is 0. All of these
are exact in float32, so that they widen no product."""


@njit(inline="always", **_options)
@no_type_check
def _series(d, series):
    """e^d − 1 − d, near d = 0."""
    s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12 = series
    near = s8 + d * (s9 + d * (s10 + d * (s11 + d * s12)))
    near = s2 + d * (s3 + d * (s4 + d * (s5 + d * (s6 + d * (s7 + d * near)))))
    return d * d * near


@njit(inline="always", **_options)
@no_type_check
def _beyond(d, exp_d, series):
    """e^d − 1 − d, from d and e^d."""
    return _series(d, series) if abs(d) < NEAR else exp_d - ONE - d


@compiled_parallel
@no_type_check
def poisson(parts, u, rate, prior, prior_rate, norms, series, spread, kl):
    for part in prange(parts):
        first, last = len(u) * part // parts, len(u) * (part + 1) // parts
        poisson_rows(first, last, u, rate, prior, prior_rate, norms, series, spread, kl)


@compiled
@no_type_check
def poisson_rows(first, last, u, rate, prior, prior_rate, norms, series, spread, kl):
    for row in range(first, last):
        log_r, r = prior[min(row, len(prior) - 1)], prior_rate[min(row, len(prior) - 1)]
        cost = weighted = ZERO
        for k in range(u.shape[1]):
            mean, d = rate[row, k], log_r[k] - u[row, k]
            # r = λe^d, so that the KL is λ(e^d − 1 − d); r/λ itself might overflow
            cost += mean * _series(d, series) if abs(d) < NEAR else r[k] - mean - mean * d
            weighted += norms[k] * mean
        spread[row], kl[row] = weighted, cost


@compiled_parallel
@no_type_check
def poisson_back(parts, u, rate, prior, prior_rate, norms, to_mean, to_spread, to_kl, out):
    for part in prange(parts):
        first, last = len(u) * part // parts, len(u) * (part + 1) // parts
        poisson_back_rows(first, last, u, rate, prior, prior_rate, norms, to_mean, to_spread, to_kl, out)


@compiled
@no_type_check
def poisson_back_rows(first, last, u, rate, prior, prior_rate, norms, to_mean, to_spread, to_kl, out):
    for row in range(first, last):
        log_r, pull = prior[min(row, len(prior) - 1)], to_mean[min(row, len(to_mean) - 1)]
        spread, kl = to_spread[row], to_kl[row]
        for k in range(u.shape[1]):
            out[row, k] = rate[row, k] * (pull[k] + spread * norms[k] + kl * (u[row, k] - log_r[k]))


@compiled_parallel
@no_type_check
def gaussian(parts, u, variance, prior, precision, norms, series, spread, kl):
    for part in prange(parts):
        first, last = len(u) * part // parts, len(u) * (part + 1) // parts
        gaussian_rows(first, last, u, variance, prior, precision, norms, series, spread, kl)


@compiled
@no_type_check
def gaussian_rows(first, last, u, variance, prior, precision, norms, series, spread, kl):
    """`variance` s², `precision` 1/S² (1 or B, K)."""
    latents = u.shape[1] // 2
    for row in range(first, last):
        start, tight = prior[min(row, len(prior) - 1)], precision[min(row, len(prior) - 1)]
        cost = weighted = ZERO
        for k in range(latents):
            d = TWO * (u[row, latents + k] - start[latents + k])
            moved = u[row, k] - start[k]
            cost += HALF * (_beyond(d, variance[row, k] * tight[k], series) + moved * moved * tight[k])
            weighted += norms[k] * variance[row, k]
        spread[row], kl[row] = weighted, cost


@compiled_parallel
@no_type_check
def gaussian_back(parts, u, variance, prior, precision, norms, to_mean, to_spread, to_kl, out):
    for part in prange(parts):
        first, last = len(u) * part // parts, len(u) * (part + 1) // parts
        gaussian_back_rows(first, last, u, variance, prior, precision, norms, to_mean, to_spread, to_kl, out)


@compiled
@no_type_check
def gaussian_back_rows(first, last, u, variance, prior, precision, norms, to_mean, to_spread, to_kl, out):
    latents = u.shape[1] // 2
    for row in range(first, last):
        start, tight = prior[min(row, len(prior) - 1)], precision[min(row, len(prior) - 1)]
        pull, spread, kl = to_mean[min(row, len(to_mean) - 1)], to_spread[row], to_kl[row]
        for k in range(latents):
            out[row, k] = pull[k] + kl * (u[row, k] - start[k]) * tight[k]
            own = variance[row, k]
            out[row, latents + k] = TWO * spread * norms[k] * own + kl * (own * tight[k] - ONE)


@compiled_parallel
@no_type_check
def laplace(parts, u, scale, decay, prior, inverse, norms, series, spread, kl):
    for part in prange(parts):
        first, last = len(u) * part // parts, len(u) * (part + 1) // parts
        laplace_rows(first, last, u, scale, decay, prior, inverse, norms, series, spread, kl)


@compiled
@no_type_check
def laplace_rows(first, last, u, scale, decay, prior, inverse, norms, series, spread, kl):
    """`scale` s, `decay` e^−t with t = |μ − m|/s, `inverse` 1/S (1 or B, K)."""
    latents = u.shape[1] // 2
    for row in range(first, last):
        start, tight = prior[min(row, len(prior) - 1)], inverse[min(row, len(prior) - 1)]
        cost = weighted = ZERO
        for k in range(latents):
            far, own = abs(u[row, k] - start[k]), scale[row, k]
            ratio, log_ratio = own * tight[k], u[row, latents + k] - start[latents + k]
            # ratio·(e^−t − 1 + t), in which a scale next to 0 makes no infinity
            near = ratio * _beyond(-far / own, decay[row, k], series)
            moved = near if far < own else far * tight[k] + ratio * (decay[row, k] - ONE)
            cost += moved + _beyond(log_ratio, ratio, series)
            weighted += norms[k] * own * own
        spread[row], kl[row] = TWO * weighted, cost


@compiled_parallel
@no_type_check
def laplace_back(parts, u, scale, decay, prior, inverse, norms, to_mean, to_spread, to_kl, out):
    for part in prange(parts):
        first, last = len(u) * part // parts, len(u) * (part + 1) // parts
        laplace_back_rows(first, last, u, scale, decay, prior, inverse, norms, to_mean, to_spread, to_kl, out)


@compiled
@no_type_check
def laplace_back_rows(first, last, u, scale, decay, prior, inverse, norms, to_mean, to_spread, to_kl, out):
    latents = u.shape[1] // 2
    for row in range(first, last):
        start, tight = prior[min(row, len(prior) - 1)], inverse[min(row, len(prior) - 1)]
        pull, spread, kl = to_mean[min(row, len(to_mean) - 1)], to_spread[row], to_kl[row]
        for k in range(latents):
            moved, own, e = u[row, k] - start[k], scale[row, k], decay[row, k]
            slope = ONE - e if moved > 0 else e - ONE
            out[row, k] = pull[k] + kl * slope * tight[k]
            # of ratio·(t + e^−t − 1) + ratio − 1 − log ratio, where ratio·t does not change
            t = min(abs(moved) / own, FAR)
            change = own * tight[k] * e * (ONE + t) - ONE
            out[row, latents + k] = TWO * TWO * spread * norms[k] * own * own + kl * change
