"""The lasso of one convolutional datum on a working set, compiled by numba: coordinate descent, and
Newton steps by conjugate gradients.

A coefficient a_i is that of an atom at a place. It sees no more of the datum than its atom covers,
so a sweep of coordinate descent over n coefficients costs n times the size of an atom, whatever
there is beside them: no Gram matrix is needed. After some sweeps the signs change little, and what
is left is a linear system on the coefficients that are not 0, with one sign each. Some steps of
conjugate gradients on it are tried; coefficients whose sign would turn are set to 0, and where E
does not fall the step is halved. Neither lets E rise.

Shapes: atoms (K, C, w1, w2, w3); a datum (C, S1, S2, S3), with dimensions of size 1 where there are
fewer than three. `weight` w is the precision of each value, and `pull` w·(x − Φa), so that φ_iᵀpull
is minus the gradient of ½‖√w(x − Φa)‖². All numbers are float64.
"""

from typing import no_type_check

import numpy as np
from numba import njit

SWEEPS = 10
"""Sweeps of coordinate descent before a Newton step."""
STEPS = 10
"""Steps of conjugate gradients in a Newton step."""
ENOUGH = 1e-3
"""Share of its squared residual from which on a linear system counts as solved."""
HALVINGS = 3
"""How often a Newton step is halved where E does not fall, before it is given up."""

compiled = njit(nogil=True, cache=True, fastmath=True, error_model="numpy")


@compiled
@no_type_check
def solve(atoms, weight, pull, maps, first, norms, code, threshold, signed, tolerance, most):
    """Minimize ½‖√w(x − Φa)‖² + θ‖a‖₁ over some coefficients until the duality gap of what only
    they explain is below the tolerance.

    Args:
        atoms, weight, pull: as above; `pull` follows the code.
        maps: the atom of each coefficient (n,).
        first: where it begins in each of the three dimensions (n, 3); negative before the datum.
        norms: Σ w φ² of the part of it inside (n,).
        code: the coefficients to start from (n,), in whose place the answer is put.
        threshold: θ > 0.
        signed: whether coefficients may be negative.
        tolerance: of the gap.
        most: number of sweeps after which it ends anyway.
    """
    done = 0
    while done < most:
        for _ in range(SWEEPS):
            largest, cost, used = _sweep(atoms, weight, pull, maps, first, norms, code, threshold, signed)
            done += 1
            scale = min(1.0, threshold / max(largest, 1e-300))
            if (1.0 - scale) ** 2 * _misfit(weight, pull) + cost - scale * used <= tolerance:
                return
        _newton(atoms, weight, pull, maps, first, code, threshold)


@compiled
@no_type_check
def _sweep(atoms, weight, pull, maps, first, norms, code, threshold, signed):
    """Set each coefficient to its best, one after the other; the largest |φᵀpull|, θ‖a‖₁ and
    Σ a·φᵀpull, as seen on the way."""
    largest = cost = used = 0.0
    for i in range(len(maps)):
        if norms[i] <= 0:
            continue
        slope, old = _seen(atoms, pull, maps[i], first[i]), code[i]
        largest = max(largest, abs(slope) if signed else slope)
        cost += threshold * abs(old)
        used += old * slope
        goal = slope + norms[i] * old
        new = 0.0
        if goal > threshold:
            new = (goal - threshold) / norms[i]
        elif signed and goal < -threshold:
            new = (goal + threshold) / norms[i]
        if new != old:
            code[i] = new
            _add(atoms, weight, pull, maps[i], first[i], old - new)
    return largest, cost, used


@compiled
@no_type_check
def _newton(atoms, weight, pull, maps, first, code, threshold):
    """Go to where E is least for these signs, as far as some steps of conjugate gradients come."""
    count = len(code)
    step, residual, along, image = np.zeros(count), np.zeros(count), np.zeros(count), np.empty_like(pull)
    for i in range(count):
        if code[i] != 0:
            residual[i] = along[i] = _seen(atoms, pull, maps[i], first[i]) - threshold * np.sign(code[i])
    square = begun = _square(residual)
    for _ in range(STEPS):
        _explain(atoms, weight, image, maps, first, along)
        curvature = 0.0
        back = np.zeros(count)
        for i in range(count):
            if code[i] != 0:
                back[i] = _seen(atoms, image, maps[i], first[i])
                curvature += along[i] * back[i]
        if curvature <= 0:
            break
        for i in range(count):
            step[i] += square / curvature * along[i]
            residual[i] -= square / curvature * back[i]
        last, square = square, _square(residual)
        if square <= ENOUGH * begun:
            break
        for i in range(count):
            along[i] = residual[i] + square / last * along[i]
    before, new, changed = _energy(weight, pull, code, threshold), np.empty(count), np.empty_like(pull)
    for halving in range(HALVINGS + 1):
        for i in range(count):
            new[i] = code[i] + step[i] / 2.0**halving
            if new[i] * code[i] <= 0:
                new[i] = 0.0
        _explain(atoms, weight, image, maps, first, new - code)
        changed[:] = pull - image
        if _energy(weight, changed, new, threshold) < before:
            code[:] = new
            pull[:] = changed
            return


@compiled
@no_type_check
def _seen(atoms, values, atom, first):
    """φᵀ values, of one atom at one place."""
    _, channels, width1, width2, width3 = atoms.shape
    _, size1, size2, size3 = values.shape
    begin1, begin2, begin3 = first[0], first[1], first[2]
    low, high = max(0, -begin3), min(width3, size3 - begin3)
    found = 0.0
    for c in range(channels):
        for i in range(max(0, -begin1), min(width1, size1 - begin1)):
            for j in range(max(0, -begin2), min(width2, size2 - begin2)):
                line = atoms[atom, c, i, j, low:high]
                there = values[c, begin1 + i, begin2 + j, begin3 + low : begin3 + high]
                for k in range(high - low):
                    found += line[k] * there[k]
    return found


@compiled
@no_type_check
def _add(atoms, weight, values, atom, first, amount):
    """Add w·φ·amount to values, of one atom at one place."""
    _, channels, width1, width2, width3 = atoms.shape
    _, size1, size2, size3 = values.shape
    begin1, begin2, begin3 = first[0], first[1], first[2]
    low, high = max(0, -begin3), min(width3, size3 - begin3)
    for c in range(channels):
        for i in range(max(0, -begin1), min(width1, size1 - begin1)):
            for j in range(max(0, -begin2), min(width2, size2 - begin2)):
                line = atoms[atom, c, i, j, low:high]
                there = values[c, begin1 + i, begin2 + j, begin3 + low : begin3 + high]
                trust = weight[c, begin1 + i, begin2 + j, begin3 + low : begin3 + high]
                for k in range(high - low):
                    there[k] += amount * trust[k] * line[k]


@compiled
@no_type_check
def _explain(atoms, weight, image, maps, first, code):
    """w·Φa, into `image`."""
    image[:] = 0
    for i in range(len(maps)):
        if code[i] != 0:
            _add(atoms, weight, image, maps[i], first[i], code[i])


@compiled
@no_type_check
def _misfit(weight, pull):
    """½‖√w(x − Φa)‖²."""
    total, trust, values = 0.0, weight.ravel(), pull.ravel()
    for i in range(len(values)):
        if trust[i] > 0:
            total += values[i] * values[i] / trust[i]
    return 0.5 * total


@compiled
@no_type_check
def _energy(weight, pull, code, threshold):
    cost = 0.0
    for value in code:
        cost += abs(value)
    return _misfit(weight, pull) + threshold * cost


@compiled
@no_type_check
def _square(values):
    total = 0.0
    for value in values:
        total += value * value
    return total
