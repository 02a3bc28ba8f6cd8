"""What a step of `Descent` on a Poisson model does beside its products with Φ, fused for a CPU and
compiled by numba.

The steps of `LCAUnrolled`, `ISTAUnrolled` and `FISTAUnrolled`, without gradient and datum by datum:
what there is of a datum is read once before the product (`propose`) and once after it (`settle`).
Each function here is one in tensors, and a change of either is one of both:

    in tensors                                                      in compiled code
    LCADescent.propose, PoissonEnergy.flow_step                     propose, where `flow`
    ProximalDescent.propose, PoissonEnergy.proximal_step            propose, otherwise
    log_lambertw_exp (energies/lambertw.py)                         log_lambertw_exp
    Descent.step, PoissonEnergy.cost, Quadratic.value               settle
    descent.shortened, PoissonEnergy.between                        _cut and _gained, in settle
    LCADescent.velocity, ProximalDescent.velocity                   _repeat, in settle
    poisson_kl (distributions/poisson.py), in the certificate       gaps

exp and log are written out, after FDLIBM (Sun Microsystems 1993), since a loop with a call in it
would not become vector code.

Arrays are float32 or float64, contiguous, and (B, K) unless said otherwise. Everything is in one
file, and constants of other files are arguments, because numba's cache knows of changes in a
function's own file alone.
"""

import math
from typing import Any, no_type_check

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

_options: Any = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}
compiled = njit(nogil=True, cache=True, **_options)
compiled_parallel = njit(parallel=True, nogil=True, cache=True, **_options)
compiled_sums = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
"""Decorator of functions whose sums may be made in any order. Elsewhere order is kept: s − log a +
log a, say, would be left without its rounding."""

ONE, TWO = np.float32(1), np.float32(2)
"""Exact in float32, so that they widen no product."""
LEAST_SQUARE = np.float32(1e-30)
"""Smallest squared step that the curvature is divided by, as in `engines/descent.py`."""
NEAR, TERMS = np.float32(0.3), 14
"""Distance in nats within which a divergence is summed as a series, and the number of its terms."""
EXP = (0.16666666666666602, -2.7777777777015593e-3, 6.613756321437934e-5, -1.6533902205465252e-6, 4.1381367970572385e-8)
"""Coefficients of the rational approximation of e^r on |r| ≤ ½ log 2."""
LOG = (
    0.6666666666666735,
    0.3999999999940942,
    0.2857142874366239,
    0.22222198432149784,
    0.1818357216161805,
    0.15313837699209373,
    0.14798198605116586,
)
"""Coefficients of the series of log(1 + f) in s² = (f/(2 + f))²."""
POWER = (0.69511486, 0.22765367, 0.07705909)
"""2^t within 1e-4 for t in [0, 1]: 1 + c₁t + c₂t² + c₃t³."""
BELOW, ABOVE = (0.2621, 1.2209), (7.4401, 34.930, 11.5723)
"""W(e^s) within 1%, as `lambertw` has it: e^s(1 + b₁e^s)/(1 + b₂e^s) below s = 0, s + a₁ − a₃ +
a₂/(s + a₁) above."""


def exp(x: float) -> float:
    """e^x; 0 where it is subnormal, or next to it."""
    return math.exp(x)


def log(x: float) -> float:
    """log x, for a normal x > 0."""
    return math.log(x)


def log_lambertw_exp(s: float) -> float:
    """ℓ with ℓ + e^ℓ = s."""
    raise NotImplementedError("for numba's loops only")


def _of(kind: types.Type) -> tuple[Any, Any, int, int]:
    """The types of a number and of its bits, the bias of its exponent and the bits of its
    mantissa."""
    return (np.float32, np.int32, 127, 23) if kind == types.float32 else (np.float64, np.int64, 1023, 52)


def _log2(number: Any) -> tuple[Any, Any]:
    """log 2 as a sum, of which the first part times an exponent is exact."""
    if number is np.float32:
        return number(0.693359375), number(-2.12194440e-4)
    return number(6.93147180369123816490e-01), number(1.90821492927058770002e-10)


@overload(exp, jit_options=_options)
@no_type_check
def _exp(x):
    number, bits, bias, mantissa = _of(x)
    high, low = _log2(number)
    least, most = number((1.5 - bias) * math.log(2)), number(math.log(np.finfo(number).max))
    zero, half, one, two, infinity = (number(value) for value in (0, 0.5, 1, 2, math.inf))
    c1, c2, c3, c4, c5 = (number(value) for value in EXP)
    per_power = number(1 / math.log(2))

    @no_type_check
    def of(x):
        y = min(max(x, least), most)
        power = np.floor(y * per_power + half)
        above, below = y - power * high, power * low
        r = above - below
        square = r * r
        c = r - square * (c1 + square * (c2 + square * (c3 + square * (c4 + square * c5))))
        answer = one + (r * c / (two - c) - below + above)
        # the largest power of 2 is one too many: half of it, twice
        answer = (answer + answer) * bits((bits(power) + (bias - 1)) << mantissa).view(number)
        return zero if x < least else infinity if x > most else x if x != x else answer

    return of


@overload(log, jit_options=_options)
@no_type_check
def _log(x):
    number, bits, _, mantissa = _of(x)
    high, low = _log2(number)
    half, one, two = number(0.5), number(1), number(2)
    start = int(number(math.sqrt(0.5)).view(bits))
    c1, c2, c3, c4, c5, c6, c7 = (number(value) for value in LOG)

    @no_type_check
    def of(x):
        raw = number(x).view(bits)
        power = bits(bits(raw - start) >> mantissa)
        f, power = bits(raw - bits(power << mantissa)).view(number) - one, number(power)
        s = f / (two + f)
        square = s * s
        tail = c4 + square * (c5 + square * (c6 + square * c7))
        tail = square * (c1 + square * (c2 + square * (c3 + square * tail)))
        bend = half * f * f
        return power * high - ((bend - (s * (bend + tail) + power * low)) - f)

    return of


@overload(log_lambertw_exp, jit_options=_options, inline="always")
@no_type_check
def _log_lambertw_exp(s):
    number, bits, bias, mantissa = _of(s)
    twice = number is np.float64
    least = number(0.9 * math.log(np.finfo(number).tiny))
    p1, p2, p3 = (number(value) for value in POWER)
    b1, b2 = (number(value) for value in BELOW)
    a1, a2, a3 = (number(value) for value in ABOVE)
    zero, one, two, per_power = number(0), number(1), number(2), number(1 / math.log(2))
    half, third, fourth, fifth, sixth, seventh = (number(1 / n) for n in range(2, 8))

    @no_type_check
    def of(s):
        inside = max(s, least)
        power = min(inside, zero) * per_power
        whole = np.floor(power)
        rest = power - whole
        power = one + rest * (p1 + rest * (p2 + rest * p3))
        power *= bits((bits(whole) + bias) << mantissa).view(number)
        pole, negative = max(inside, zero) + a1, inside < zero
        over = power * (one + b1 * power) if negative else a2
        w = over / (one + b2 * power if negative else pole) + (zero if negative else pole - a3)
        ell = log(w)
        if twice:
            slope = one / (w + one)
            step = (inside - ell - w) * slope
            bend = slope * step
            e = two * third * step - bend
            share = step + half * step * bend * (one - e)
            tail = fourth - share * (fifth - share * (sixth - share * seventh))
            ell += share * (one - share * (half - share * (third - share * tail)))  # log(1 + share)
            w *= one + share
        slope = one / (w + one)
        step = (inside - ell - w) * slope
        bend = slope * step
        # by which w grows, at most 1%: step·(a − bend)/(a − 2 bend), a = 2 + 4/3 step, expanded
        e = two * third * step - bend
        share = step + half * step * bend * (one - e)
        ell += share * (one - share * (half - share * third))
        return ell if s >= least else s

    return of


@compiled_parallel
@no_type_check
def propose(parts, flow, inertial, point, memory, terms, new_u, new_mean):
    """Put the log-rates to try, and the rates, into `new_u` and `new_mean`; `parts` threads.

    Args:
        flow: whether the step is one of the LCA (`PoissonEnergy.flow_step`), else a proximal one.
        inertial: whether there is a last step to repeat a share of.
        point: u, mean, data_gradient, gradient, before the step.
        memory: damping (B, P), one for each place of a map, 1 if `flow`; momentum (B,), velocity
            and velocity_data_gradient (of any shape if not inertial; the last also if `flow`).
        terms: c/σ², the metric of proximal steps and log r (1 or B, K each), β, `LEAK`, `LARGEST`.
    """
    size = len(new_u)
    for part in prange(parts):
        propose_rows(
            size * part // parts, size * (part + 1) // parts, flow, inertial, point, memory, terms, new_u, new_mean
        )


@compiled
@no_type_check
def propose_rows(first, last, flow, inertial, point, memory, terms, new_u, new_mean):
    u, mean, data_gradient, gradient = point
    damping, momentum, velocity, velocity_data_gradient = memory
    diagonal, metric, prior, beta, leak, largest = terms
    latents, log_ratio, per_beta = u.shape[1], np.empty_like(metric[0]), ONE / beta
    for row in range(first, last):
        kappa, log_r, own = damping[row, 0], prior[min(row, len(prior) - 1)], metric[min(row, len(metric) - 1)]
        curvature = diagonal[min(row, len(diagonal) - 1)]
        if not flow and (row == first or len(metric) > 1):
            for k in range(latents):
                log_ratio[k] = log(beta / own[k])
        inertia = (momentum[row] - ONE) / _longer(momentum[row])
        if flow:
            for k in range(latents):
                step = -gradient[row, k] / (leak * beta + kappa * curvature[k] * mean[row, k])
                v = u[row, k] + min(max(step, -largest), largest) + inertia * velocity[row, k]
                new_u[row, k], new_mean[row, k] = v, exp(v)
        elif damping.shape[1] == 1:
            log_kappa = log(kappa)
            for k in range(latents):
                y, slope = mean[row, k], data_gradient[row, k]
                if inertial:
                    y += inertia * velocity[row, k]
                    slope += inertia * velocity_data_gradient[row, k]
                log_a = log_ratio[k] - log_kappa
                s = (kappa * own[k] * y - slope) * per_beta + (log_r[k] - log_a)
                new_u[row, k] = log_a + log_lambertw_exp(s)
        else:
            _shrink(
                inertia,
                inertial,
                damping[row],
                (mean[row], data_gradient[row]),
                (velocity[row], velocity_data_gradient[row]),
                (log_ratio, own, log_r, per_beta),
                new_u[row],
            )
        if not flow:
            for k in range(latents):
                new_mean[row, k] = exp(new_u[row, k])


@compiled
@no_type_check
def _shrink(inertia, inertial, damping, point, last_step, terms, new_u):
    """Proximal steps with a κ for each place (P,)."""
    mean, data_gradient = point
    velocity, turned = last_step
    log_ratio, own, log_r, per_beta = terms
    places = len(damping)
    log_kappa = np.empty_like(damping)
    for p in range(places):
        log_kappa[p] = log(damping[p])
    for start in range(0, len(mean), places):
        for p in range(places):
            k = start + p
            y, slope = mean[k], data_gradient[k]
            if inertial:
                y += inertia * velocity[k]
                slope += inertia * turned[k]
            log_a = log_ratio[k] - log_kappa[p]
            s = (damping[p] * own[k] * y - slope) * per_beta + (log_r[k] - log_a)
            new_u[k] = log_a + log_lambertw_exp(s)


@compiled
@no_type_check
def _longer(momentum):
    """The next of Nesterov's sequence."""
    return np.float32(0.5) + np.sqrt(np.float32(0.25) + momentum * momentum)


@compiled_parallel
@no_type_check
def settle(parts, rule, point, memory, terms, residual, limits, new, new_memory, rejected, seen):
    """Cut the steps that overshoot, take back those that raise F, and find κ and momentum of the
    next step.

    Args:
        rule: whether it is the LCA that steps, whether its step is a flow step, whether there is a
            last step to repeat, and whether this one will be.
        point: u, mean, data_gradient, gradient, value (B,), before the step.
        memory: as in `propose`.
        terms: c/σ² and log r (1 or B, K each), β, ‖x‖²/2σ² (B,), β Σ r (B,), `shift` (1 or B, K)
            and `weight` of `Quadratic.product`, and 1/2σ².
        residual: of `Quadratic.product` (B, D or 0).
        limits: `DECAY`, `LEAST` and `MOST`, `STILL` and the rounding of F in units of its size.
        new: u, mean and `Quadratic.product` at the end of the whole step, in whose place u, mean
            and data_gradient of the step taken are put, and where its gradient and value are put.
        new_memory: where damping, momentum, velocity and velocity_data_gradient are put; the last
            two if there is to be a step to repeat, velocity_data_gradient unless it is the LCA that
            steps.
        rejected: how many steps were taken back so far (B,), which is counted on.
        seen: where the sums of `descent.followed` are put (3, B, P) if there is more than one κ,
            which are not found here then; else (3, B, 0).
    """
    size = len(rejected)
    for part in prange(parts):
        first, last = size * part // parts, size * (part + 1) // parts
        settle_rows(first, last, rule, point, memory, terms, residual, limits, new, new_memory, rejected, seen)


@compiled_sums
@no_type_check
def settle_rows(first, last, rule, point, memory, terms, residual, limits, new, new_memory, rejected, places):
    lca, flow, inertial, repeated = rule
    u, mean, data_gradient, gradient, value = point
    damping, momentum, velocity, velocity_data_gradient = memory
    diagonal, prior, beta, offset, prior_mass, shift, weight, precision = terms
    decay, least, most, still, rounding = limits
    new_u, new_mean, new_smooth, new_gradient, new_value = new
    new_damping, new_momentum, new_velocity, new_velocity_data_gradient = new_memory
    latents, zero = u.shape[1], np.float32(0)
    inertial = inertial and not lca  # the LCA linearizes at the point itself
    for row in range(first, last):
        log_r, constant = prior[min(row, len(prior) - 1)], shift[min(row, len(shift) - 1)]
        own = diagonal[min(row, len(diagonal) - 1)]
        before = after = total = zero
        for k in range(latents):
            product, end = new_smooth[row, k], new_mean[row, k]
            slope, leak = product - constant[k], beta * (new_u[row, k] - log_r[k])
            new_smooth[row, k] = slope
            moved = end - mean[row, k]
            before += gradient[row, k] * moved
            after += (slope + leak) * moved
            total += (weight * product - constant[k] + leak - beta) * end
        misfit = offset[row] if residual.shape[1] == 0 else precision * _square(residual, row)
        total += misfit + prior_mass[row]
        fraction = before / (before - after) if before < 0 and after > 0 else ONE
        if fraction < 1:
            _cut(row, fraction, u, mean, data_gradient, new_u, new_mean, new_smooth)
            total = value[row] + _gained(row, u, mean, data_gradient, new_u, new_mean, new_smooth, log_r, beta)

        seen = size = square = zero
        longer = _longer(momentum[row])
        inertia = (momentum[row] - ONE) / longer if inertial else zero
        for k in range(latents):
            one, other, slope, new_slope = mean[row, k], new_mean[row, k], data_gradient[row, k], new_smooth[row, k]
            new_gradient[row, k] = new_slope + beta * (new_u[row, k] - log_r[k])
            if inertial:
                one += inertia * velocity[row, k]
                slope += inertia * velocity_data_gradient[row, k]
            seen += (new_slope - slope) * (other - one)
            size += other * other * own[k]
            square += (other - one) * (other - one) * own[k]
        worse = not (total <= value[row] + rounding * (abs(value[row]) + offset[row]))
        several = places.shape[2] > 0
        arrived = size > 0 and square <= still * size and not several
        if several:
            last_step = (velocity[row], velocity_data_gradient[row]) if inertial else (mean[row], mean[row])
            here = mean[row], data_gradient[row], new_mean[row], new_smooth[row], own
            _at_places(inertia, last_step, here, places[0, row], places[1, row], places[2, row])
        curvature = seen / max(square, LEAST_SQUARE)
        kappa = damping[row, 0] * (2.0 if worse else 1.0 if arrived else decay)
        if np.isfinite(curvature) and not arrived:
            kappa = max(kappa, curvature)
        restart = worse or arrived or (lca and after > 0)
        new_damping[row, 0] = min(max(kappa, least), most)
        new_momentum[row] = ONE if restart else longer
        new_value[row] = value[row] if worse else total
        if worse:
            rejected[row] += 1
            for kept, changed in ((u, new_u), (mean, new_mean), (data_gradient, new_smooth), (gradient, new_gradient)):
                _copy(row, kept, changed)
        if repeated:
            # the proximal step of the LCA is no direction to go on in
            _repeat(row, restart or (lca and not flow), u if lca else mean, new_u if lca else new_mean, new_velocity)
            if not lca:
                _repeat(row, restart, data_gradient, new_smooth, new_velocity_data_gradient)


@compiled_sums
@no_type_check
def _at_places(inertia, last_step, here, bent, size, square):
    """Sums over the latents at each place (P,)."""
    velocity, turned = last_step
    mean, data_gradient, new_mean, new_smooth, own = here
    count = len(bent)
    bent[:], size[:], square[:] = 0, 0, 0
    for start in range(0, len(mean), count):
        for p in range(count):
            k = start + p
            moved = new_mean[k] - mean[k] - inertia * velocity[k]
            bent[p] += (new_smooth[k] - data_gradient[k] - inertia * turned[k]) * moved
            size[p] += new_mean[k] * new_mean[k] * own[k]
            square[p] += moved * moved * own[k]


@compiled
@no_type_check
def _cut(row, fraction, u, mean, data_gradient, new_u, new_mean, new_smooth):
    """The point (1 − t)·old + t·new, for 0 ≤ t < 1 (`PoissonEnergy.between`)."""
    tiny, rest = np.finfo(u.dtype).tiny, ONE - fraction
    log_fraction, log_rest, near = np.log(fraction), np.log(rest), fraction < np.float32(0.5)
    for k in range(u.shape[1]):
        moved, turned = new_mean[row, k] - mean[row, k], new_smooth[row, k] - data_gradient[row, k]
        rate = mean[row, k] + fraction * moved if near else new_mean[row, k] - rest * moved
        larger = max(log_rest + u[row, k], log_fraction + new_u[row, k])
        new_u[row, k] = log(max(rate, tiny)) if rate > tiny else larger
        new_mean[row, k] = rate
        new_smooth[row, k] = data_gradient[row, k] + fraction * turned if near else new_smooth[row, k] - rest * turned


@compiled_sums
@no_type_check
def _square(residual, row):
    total = np.float32(0)
    for i in range(residual.shape[1]):
        total += residual[row, i] * residual[row, i]
    return total


@compiled_sums
@no_type_check
def _gained(row, u, mean, data_gradient, new_u, new_mean, new_smooth, log_r, beta):
    """By how much F rises: the trapezium rule is exact for the reconstruction term."""
    gained, half = np.float32(0), np.float32(0.5)
    for k in range(u.shape[1]):
        rate, new_rate = mean[row, k], new_mean[row, k]
        leak, new_leak = beta * (u[row, k] - log_r[k]), beta * (new_u[row, k] - log_r[k])
        gained += half * (new_rate - rate) * (new_smooth[row, k] + data_gradient[row, k])
        gained += (new_leak - beta) * new_rate - (leak - beta) * rate
    return gained


@compiled
@no_type_check
def _copy(row, old, new):
    for k in range(old.shape[1]):
        new[row, k] = old[row, k]


@compiled
@no_type_check
def _repeat(row, stopped, old, new, velocity):
    """The step taken, for the next one to repeat."""
    if stopped:
        velocity[row, :] = 0
    else:
        for k in range(old.shape[1]):
            velocity[row, k] = new[row, k] - old[row, k]


@compiled_parallel
@no_type_check
def gaps(parts, u, mean, slope, norm, prior, spread, relative, precision, single, gap):
    """Put Σ_k KL(Pois λ_k ‖ Pois λ_k e^−d_k) into `gap` (B,): `PoissonEnergy.certificate`, all
    float64.

    Args:
        parts: threads.
        u, mean: log λ and λ (B, K).
        slope: Φᵀr (B, K), with d = `spread` − `precision`·slope + u − log r.
        norm: ‖r‖ (B,).
        prior: log r (1 or B, K).
        spread: c/2σ²β (1 or B, K).
        relative: by what part of ‖r‖ d may be wrong (1 or B, K).
        precision: 1/σ²β.
        single: by what part of its terms d may be wrong.
    """
    for part in prange(parts):
        first, last = len(u) * part // parts, len(u) * (part + 1) // parts
        gaps_rows(first, last, u, mean, slope, norm, prior, spread, relative, precision, single, gap)


@compiled_sums
@no_type_check
def gaps_rows(first, last, u, mean, slope, norm, prior, spread, relative, precision, single, gap):
    for row in range(first, last):
        total, log_r = 0.0, prior[min(row, len(prior) - 1)]
        own, doubt = spread[min(row, len(spread) - 1)], relative[min(row, len(relative) - 1)]
        for k in range(u.shape[1]):
            rate, d = mean[row, k], own[k] - precision * slope[row, k] + (u[row, k] - log_r[k])
            error = norm[row] * doubt[k] + single * (2 * own[k] + abs(u[row, k]) + abs(log_r[k]))
            away = abs(d) + error
            d = away if d > error else -away
            series = 1.0  # e^−d − 1 + d = d²/2·(1 − d/3·(1 − d/4·(…))), where the difference cancels
            for n in range(TERMS, 2, -1):
                series = 1.0 - d * series / n
            called_for = exp(u[row, k] - d)
            far = called_for if np.isinf(called_for) else called_for - rate + rate * d
            total += far if abs(d) > NEAR else rate * d * d * series / 2
        gap[row] = total
