"""Arrivals of Poisson processes on a CPU, by code that numba compiles: `arrivals` says what is
drawn, and `arrivals_triton` draws the same on a GPU.

The units of a row lie side by side on one axis, unit k from Σ_{j<k} λ_j to Σ_{j≤k} λ_j, and the
arrivals of all of them in an interval of time are one Poisson process along it: gaps between them
are exponential, and the work is that of the arrivals. Each row has its own stream of random
numbers, SplitMix64 (Steele, Lea & Flood 2014) from a start that is a function of seed and row, so
that a draw does not depend on the number of threads.
"""

import math
from typing import Any, no_type_check

import numpy as np
from numba import njit, prange

_options: Any = {"cache": True, "nogil": True, "error_model": "numpy"}
compiled = njit(**_options)
compiled_parallel = njit(parallel=True, **_options)

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
BITS, LEFT, RIGHT, LAST = np.uint64(11), np.uint64(30), np.uint64(27), np.uint64(31)
UNIT = 2.0**-53


@compiled
@no_type_check
def _mixed(state):
    """64 random bits of a state of SplitMix64."""
    value = (state ^ (state >> LEFT)) * FIRST
    value = (value ^ (value >> RIGHT)) * SECOND
    return value ^ (value >> LAST)


@compiled_parallel
@no_type_check
def add_window(parts, rate, start, length, temperature, cubic, integer, seed, z, pathwise):
    for part in prange(parts):
        first, last = len(rate) * part // parts, len(rate) * (part + 1) // parts
        add_window_rows(first, last, rate, start, length, temperature, cubic, integer, seed, z, pathwise)


@compiled
@no_type_check
def add_window_rows(first, last, rate, start, length, temperature, cubic, integer, seed, z, pathwise):
    """Add to z (B, K) the arrivals in [`start`, `start` + `length`], and to `pathwise` (B, K, or
    nothing) their ∂z/∂log λ.

    Args:
        first, last: rows.
        rate: λ (B, K).
        cubic: the cubic indicator, else the sigmoid.
        integer: arrivals before t = 1 are counted instead.
        seed: a random number, uint64.
    """
    sloped = pathwise.size > 0
    for row in range(first, last):
        state = _mixed(seed + np.uint64(row) * GOLDEN)
        reached = 0.0
        state += GOLDEN
        arrival = -math.log(((_mixed(state) >> BITS) + np.uint64(1)) * UNIT) / length
        for k in range(rate.shape[1]):
            reached += rate[row, k]
            while arrival < reached:
                state += GOLDEN
                time = start + length * ((_mixed(state) >> BITS) * UNIT)
                v = (1.0 - time) / temperature
                if cubic:
                    bounded = min(max(v, -1.0), 1.0)
                    value, slope = 0.5 + bounded * (0.75 - 0.25 * bounded * bounded), 0.75 * (1.0 - bounded * bounded)
                else:
                    value = 1.0 / (1.0 + math.exp(-v))
                    slope = value * (1.0 - value)
                if integer:
                    value = 1.0 if time < 1.0 else 0.0
                z[row, k] += value
                if sloped:
                    pathwise[row, k] += slope * time / temperature
                state += GOLDEN
                arrival -= math.log(((_mixed(state) >> BITS) + np.uint64(1)) * UNIT) / length
