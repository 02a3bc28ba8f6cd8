"""The lasso of one datum after the other, compiled by numba: coordinate descent and Newton steps on
working sets.

Coordinate descent with the Gram matrix: Friedman, Hastie & Tibshirani (2010), "Regularization paths
for generalized linear models via coordinate descent". Working sets of the atoms that violate
optimality most: Massias, Gramfort & Salmon (2018), "Celer: a fast solver for the lasso with dual
extrapolation". On a working set a sweep of coordinate descent sets the signs, and a Newton step
goes to the minimum with these signs, where codes whose sign would turn are set to 0, or to the
first zero on the way, as in feature-sign search (Lee, Battle, Raina & Ng 2007). None of them lets E
rise. The Cholesky factor of the active atoms is kept while atoms are added.

`solve` reads the Gram matrix of all atoms; `settle` goes without, for many atoms: it makes that of
a working set of the atoms themselves.
"""

from typing import no_type_check

import numpy as np
from numba import njit

ROUNDS = 200
"""Largest number of working sets."""
TURNS = 30
"""Largest number of sweeps and Newton steps on one working set."""
SHARE = 0.5
"""Share of the way from the threshold to the largest |φ_kᵀ(x − Φa)|: atoms from there on enter the
working set."""
STILL = 1e-13
"""Share of the threshold below which a change of a gradient is rounding."""
DEPENDENT = 1e-12
"""Share of an atom's squared norm: the atom depends on others if what lies outside their span is at
most that."""
FAR = 1e300
"""A number larger than any share of a step, in place of infinity, which code compiled like this
does not know."""
CAPACITY = 40
"""Atoms in a working set for which there is room at first."""
ENTERING = 64
"""Atoms that may enter a working set at once where there is no Gram matrix; as many as are active
where these are more."""

SWEEPS = 30
"""Largest number of sweeps before the first Newton step where there is no Gram matrix."""

compiled = njit(nogil=True, cache=True, fastmath=True, error_model="numpy")


@compiled
@no_type_check
def solve(gram, drive, squares, a, data_gradient, threshold, signed, tolerance):
    """Minimize ½‖x − Φa‖² + θ‖a‖₁ for each datum until its duality gap is below the tolerance; all
    float64.

    Args:
        gram: ΦᵀΦ (K, K).
        drive: Φᵀx (B, K), and `squares`, ‖x‖² (B,).
        a: the codes to start from (B, K), in whose place the answer is put.
        data_gradient: where ΦᵀΦa − Φᵀx of the answer is put (B, K).
        threshold: θ > 0.
        signed: whether codes may be negative.
        tolerance: of E(a) − D(ν), as `LassoEnergy.certificate` has it.
    """
    latents = len(gram)
    room = min(latents, CAPACITY)
    atoms, active, factored = np.empty(latents, np.uint32), np.empty(latents, np.uint32), np.empty(latents, np.uint32)
    inside, residual = np.empty(latents, np.bool_), np.empty(latents)  # Φᵀ(x − Φa)
    code, old, inner = np.empty(latents), np.empty(latents), np.empty(latents)
    step, before = np.empty(latents), np.empty(latents)
    block, factor = np.empty((room, room)), np.empty((room, room))
    for row in range(len(a)):
        count = 0
        for k in range(latents):
            inside[k] = a[row, k] != 0
            if inside[k]:
                atoms[count], code[count] = k, a[row, k]
                count += 1
        _residual(residual, drive[row], gram, atoms, code, count)
        gathered = rows = 0  # of the block; of the factor
        for _ in range(ROUNDS):
            largest = _largest(residual, signed)
            if _gap(residual, drive[row], squares[row], atoms, code, count, threshold, largest) <= tolerance:
                break
            if largest > threshold:
                count = _enter(residual, inside, atoms, code, count, threshold + SHARE * (largest - threshold), signed)
            if count > room:
                room = min(latents, max(count, 2 * room))
                block, factor = _widened(block, gathered, room), _widened(factor, rows, room)
            for i in range(gathered, count):
                for j in range(i + 1):
                    block[i, j] = block[j, i] = gram[atoms[i], atoms[j]]
            entered, gathered = count > gathered, count
            for i in range(count):
                inner[i], old[i] = residual[atoms[i]], code[i]
            moved, rows = _minimize(
                block, inner, code, count, active, factored, factor, rows, step, before, threshold, signed
            )
            if not moved and not entered:
                break  # all that rounding lets it reach
            for i in range(count):
                old[i] = code[i] - old[i]
            _subtract(residual, gram, atoms, old, count)
        _residual(residual, drive[row], gram, atoms, code, count)  # anew, free of what rounding has added up to
        for k in range(latents):
            data_gradient[row, k] = -residual[k]
        for i in range(count):
            a[row, atoms[i]] = code[i]


@compiled
@no_type_check
def settle(library, weight, x, residual, slope, atoms, code, block, threshold, signed, tolerance):
    """A round for one datum: let the atoms that violate optimality most into its working set, and
    minimize ½‖x − Φa‖² + θ‖a‖₁ on that; all float64.

    Args:
        library: Φᵀ (K, D), its rows side by side.
        weight: ρ (D,) where the datum has diag(ρ)Φ, else (0,).
        x: the datum (D,).
        residual: x − Φa (D,) at the codes so far, in whose place the new one is put.
        slope: Φᵀ(x − Φa) (K,) at the codes so far.
        atoms: the working set (n,), and `code`, theirs (n,).
        block: the Gram matrix of atoms that it had before (m, m), m ≤ n.
        threshold: θ > 0.
        signed: whether codes may be negative.
        tolerance: of E(a) − D(ν), as `LassoEnergy.certificate` has it.

    Returns:
        The new set, its codes and its Gram matrix; and whether it is worth another round. If not,
        nothing has changed.
    """
    count, largest, square = len(atoms), _largest(slope, signed), 0.0
    for d in range(len(residual)):
        square += residual[d] * residual[d]
    scale = threshold / max(largest, threshold)
    gap = 0.5 * (1 - scale) ** 2 * square
    for i in range(count):
        gap += threshold * abs(code[i]) - scale * code[i] * slope[atoms[i]]
    if gap <= tolerance:
        return atoms, code, block, False
    number = 0
    for i in range(count):
        number += code[i] != 0
    new = _violators(slope, atoms, threshold, signed, max(ENTERING, number))
    atoms = np.concatenate((atoms, new))
    code, before = np.concatenate((code, np.zeros(len(new)))), len(block)
    count = len(atoms)
    held, inner = np.empty((count, len(x))), np.empty(count)
    for i in range(count):
        line = library[atoms[i]]
        inner[i] = slope[atoms[i]]
        for d in range(len(x)):
            held[i, d] = line[d] * weight[d] if len(weight) else line[d]
    block = _widened(block, before, count)
    _products(held, block, before, count)
    active, factored, factor = np.empty(count, np.uint32), np.empty(count, np.uint32), np.empty((count, count))
    step, old = np.empty(count), np.empty(count)
    moved = len(new) > 0
    for _ in range(SWEEPS):  # a Newton step costs as much as many of these where atoms are many
        for i in range(count):
            old[i] = code[i]
        if _sweep(block, inner, code, count, threshold, signed, True):
            moved = True
        turned = 0
        for i in range(count):
            turned += (old[i] > 0) != (code[i] > 0) or (old[i] < 0) != (code[i] < 0)
        if turned == 0:
            break
    further, _ = _minimize(block, inner, code, count, active, factored, factor, 0, step, old, threshold, signed)
    for d in range(len(x)):
        residual[d] = x[d]
    for i in range(count):
        if code[i] != 0:
            line, by = held[i], code[i]
            for d in range(len(x)):
                residual[d] -= by * line[d]
    return atoms, code, block, moved or further


@compiled
@no_type_check
def _violators(slope, atoms, threshold, signed, most):
    """The atoms outside the working set of which |φ_kᵀ(x − Φa)| is above the threshold: the largest
    of them, about as many as may enter."""
    inside = np.zeros(len(slope), np.bool_)
    for i in range(len(atoms)):
        inside[atoms[i]] = True
    found, size, number = np.empty(len(slope), np.uint32), np.empty(len(slope)), 0
    for k in range(len(slope)):
        violation = abs(slope[k]) if signed else slope[k]
        if violation > threshold and not inside[k]:
            found[number], size[number] = k, violation
            number += 1
    found, size = found[:number], size[:number]
    if number > most:
        found = found[size >= np.partition(size, number - most)[number - most]]
    return found


@compiled
@no_type_check
def _products(held, block, before, count):
    """Put the products of the atoms from `before` on with all into the block; two by two, as each
    number that is read is used twice then."""
    for i in range(before, count, 2):
        one, two = held[i], held[min(i + 1, count - 1)]
        for j in range(0, min(i + 2, count), 2):
            three, four = held[j], held[min(j + 1, count - 1)]
            p = q = r = s = 0.0
            for d in range(held.shape[1]):
                p += one[d] * three[d]
                q += one[d] * four[d]
                r += two[d] * three[d]
                s += two[d] * four[d]
            k, m = min(i + 1, count - 1), min(j + 1, count - 1)
            block[i, m] = block[m, i] = q
            block[k, m] = block[m, k] = s
            block[k, j] = block[j, k] = r
            block[i, j] = block[j, i] = p


@compiled
@no_type_check
def _residual(residual, drive, gram, atoms, code, count):
    for k in range(len(residual)):
        residual[k] = drive[k]
    _subtract(residual, gram, atoms, code, count)


@compiled
@no_type_check
def _subtract(residual, gram, atoms, change, count):
    for i in range(count):
        if change[i] != 0:
            line, by = gram[atoms[i]], change[i]
            for k in range(len(residual)):
                residual[k] -= by * line[k]


@compiled
@no_type_check
def _largest(residual, signed):
    largest = 0.0
    if signed:
        for k in range(len(residual)):
            largest = max(largest, abs(residual[k]))
    else:
        for k in range(len(residual)):
            largest = max(largest, residual[k])
    return largest


@compiled
@no_type_check
def _gap(residual, drive, square, atoms, code, count, threshold, largest):
    """½(1 − s)²‖x − Φa‖² + Σ_k (θ|a_k| − s a_k φ_kᵀ(x − Φa)), with ‖x − Φa‖² = ‖x‖² − a·(Φᵀx + Φᵀ(x
    − Φa))."""
    scale = threshold / max(largest, threshold)
    explained = slack = 0.0
    for i in range(count):
        k = atoms[i]
        explained += code[i] * (drive[k] + residual[k])
        slack += threshold * abs(code[i]) - scale * code[i] * residual[k]
    return 0.5 * (1 - scale) ** 2 * max(0.0, square - explained) + slack


@compiled
@no_type_check
def _enter(residual, inside, atoms, code, count, least, signed):
    """Add the atoms outside the working set whose φ_kᵀ(x − Φa) is at least `least` in size, with
    code 0; the new number of atoms in it."""
    for k in range(len(residual)):
        size = abs(residual[k]) if signed else residual[k]
        if size >= least and not inside[k]:
            atoms[count], code[count], inside[k] = k, 0.0, True
            count += 1
    return count


@compiled
@no_type_check
def _widened(square, used, size):
    new = np.empty((size, size))
    for i in range(used):
        for j in range(used):
            new[i, j] = square[i, j]
    return new


@compiled
@no_type_check
def _minimize(block, inner, code, count, active, factored, factor, rows, step, before, threshold, signed):
    """Lower E on a working set, towards its minimum there; whether anything has changed, and the
    rows of the factor."""
    moved = False
    for turn in range(TURNS):
        if not _sweep(block, inner, code, count, threshold, signed, turn == 0):
            break
        moved = True
        number = _active(code, count, active)
        rows = _factorize(block, active, number, factored, factor, rows)
        while rows < number:
            _leave_dependent(block, inner, code, count, active, rows, factor, step)
            number = _active(code, count, active)
            rows = _factorize(block, active, number, factored, factor, rows)
        _newton_direction(factor, inner, code, active, number, threshold, step)
        _step(block, inner, code, count, active, number, step, before, threshold)
    return moved, rows


@compiled
@no_type_check
def _sweep(block, inner, code, count, threshold, signed, silent):
    """One round of coordinate descent on a working set, or on those of its atoms that are not
    silent; whether anything has changed beyond rounding."""
    moved = False
    for i in range(count):
        if code[i] == 0 and not silent:
            continue
        line, before = block[i], code[i]
        norm = line[i]
        target = norm * before + inner[i]
        new = 0.0
        if norm > 0 and target > threshold:
            new = (target - threshold) / norm
        elif norm > 0 and signed and target < -threshold:
            new = (target + threshold) / norm
        change = new - before
        if abs(change) * norm > STILL * threshold or (new == 0 and before != 0):
            moved = True
            code[i] = new
            for j in range(count):
                inner[j] -= change * line[j]
    return moved


@compiled
@no_type_check
def _active(code, count, active):
    number = 0
    for i in range(count):
        if code[i] != 0:
            active[number] = i
            number += 1
    return number


@compiled
@no_type_check
def _factorize(block, active, number, factored, factor, rows):
    """Compute the Cholesky factor of the block of the active atoms, by rows, with reciprocals on
    its diagonal; the number of its rows.

    Rows that still hold are kept: of the `rows` there are, those up to the first where `factored`,
    the atoms that they were made for, differs from `active`. If an atom depends on those before it,
    the work stops: the answer is then the number of rows before it, and its own row is there but
    for the diagonal.
    """
    kept = 0
    while kept < rows and kept < number and active[kept] == factored[kept]:
        kept += 1
    for i in range(kept, number):
        factored[i] = active[i]
        line, new = block[active[i]], factor[i]
        left = line[active[i]]
        for j in range(i):
            other, value = factor[j], line[active[j]]
            for k in range(j):
                value -= new[k] * other[k]
            value *= other[j]
            new[j] = value
            left -= value * value
        if left <= DEPENDENT * line[active[i]]:
            return i
        new[i] = 1 / np.sqrt(left)
    return number


@compiled
@no_type_check
def _leave_dependent(block, inner, code, count, active, last, factor, step):
    """Set one code to 0 and leave Φa as it is, where an active atom, the `last`, depends on those
    before it.

    The codes move along this dependence, in the direction in which Σ_k |a_k| does not grow, until
    the first of them is 0.
    """
    for i in range(last):
        step[i] = -factor[last, i]
    for i in range(last - 1, -1, -1):
        step[i] *= factor[i, i]
        for k in range(i):
            step[k] -= factor[i, k] * step[i]
    step[last] = 1.0
    slope = 0.0
    for i in range(last + 1):
        slope += step[i] if code[active[i]] > 0 else -step[i]
    if slope > 0 or (slope == 0 and code[active[last]] > 0):
        for i in range(last + 1):
            step[i] = -step[i]
    share, first = FAR, last
    for i in range(last + 1):
        if step[i] * code[active[i]] < 0 and abs(code[active[i]] / step[i]) < share:
            share, first = abs(code[active[i]] / step[i]), i
    for i in range(last + 1):
        change = -code[active[i]] if i == first else share * step[i]
        _move(block, inner, code, count, active[i], change)
    code[active[first]] = 0.0


@compiled
@no_type_check
def _newton_direction(factor, inner, code, active, number, threshold, step):
    """Put into `step` the change that takes the active codes to the minimum of E at fixed signs."""
    for i in range(number):
        line = factor[i]
        value = inner[active[i]] - (threshold if code[active[i]] > 0 else -threshold)
        for k in range(i):
            value -= line[k] * step[k]
        step[i] = value * line[i]
    for i in range(number - 1, -1, -1):
        line = factor[i]
        step[i] *= line[i]
        for k in range(i):
            step[k] -= line[k] * step[i]


@compiled
@no_type_check
def _step(block, inner, code, count, active, number, step, before, threshold):
    """The whole step, with the codes whose sign would turn set to 0, if E falls; else as much of it
    as brings the first code to 0. Both let atoms leave."""
    share, first = 1.0, -1
    for i in range(number):
        size = abs(code[active[i]])
        if (code[active[i]] + step[i]) * code[active[i]] <= 0 and size < share * abs(step[i]):
            share, first = size / abs(step[i]), i
    fall = 0.0
    for i in range(number):
        k = active[i]
        before[i] = code[k]
        change = step[i] if (code[k] + step[i]) * code[k] > 0 else -code[k]
        fall += 0.5 * change * inner[k] + threshold * abs(code[k])
        _move(block, inner, code, count, k, change)
        fall += 0.5 * change * inner[k] - threshold * abs(code[k])
    if first >= 0 and not fall > 0:
        for i in range(number):
            target = 0.0 if i == first else before[i] + share * step[i]
            _move(block, inner, code, count, active[i], target - code[active[i]])
            code[active[i]] = target


@compiled
@no_type_check
def _move(block, inner, code, count, k, change):
    line = block[k]
    code[k] += change
    for j in range(count):
        inner[j] -= change * line[j]
