"""What a step of `Descent` on a Poisson model does beside its products with Φ, as programs of a
GPU, compiled by Triton.

A program takes one datum: it reads what there is of it once before the first product (`_propose`)
and once after each (`_settle`), and waits for nothing. After a product that another step follows,
`_settle` ends the one step and begins the next, so that a step is its products and one kernel.
`descent_triton.py` launches them. The table in `engines/fused.py` says what each function is in
tensors. Under TRITON_INTERPRET=1 they run on a CPU.

A latent costs the LCA 3 numbers read and 2 written before the first product, and 5 and 5 after
each. A row of more latents than a block is gone through in blocks, and read again from caches.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def log_lambertw_exp(s, LEAST: tl.constexpr):
    """ℓ with ℓ + e^ℓ = s: the first guess and the iterations of `energies/lambertw.py`."""
    inside = tl.maximum(s, LEAST)
    power = tl.exp(tl.minimum(inside, 80.0))
    low = power * (1 + 0.2621 * power) / (1 + 1.2209 * power)
    pole = tl.maximum(inside, -1.0) + 7.4401
    w = tl.minimum(low, 34.930 / pole + pole - 11.5723)
    ell = tl.log(w)
    for turn in tl.static_range(2 if s.dtype == tl.float64 else 1):
        if turn:
            w = tl.exp(ell)
        slope = 1 / (w + 1)
        step = (inside - ell - w) * slope
        bend = slope * step
        above = 2 + (4 / 3) * step - bend
        share = step * above / (above - bend)
        ell += share * (1 - share * (0.5 - share * (1 / 3)))
    return tl.where(s >= LEAST, ell, s)  # where e^s vanishes; NaN stays


@triton.jit
@no_type_check
def _load(array_at, at, here):
    return tl.load(array_at + at, mask=here, other=0.0)


@triton.jit
@no_type_check
def _tried(u_at, product_at, shift, at, here):
    """u, mean and data gradient at the end of the whole step; the mean is made again, as fast as it
    is read."""
    u = _load(u_at, at, here)
    return u, tl.where(here, tl.exp(u), 0.0), _load(product_at, at, here) - shift


@triton.jit
@no_type_check
def _longer(momentum):
    """The next of Nesterov's sequence."""
    return 0.5 + tl.sqrt(0.25 + momentum * momentum)


@triton.jit
@no_type_check
def _flowed(u, gradient, kappa, diagonal, beta, LEAK: tl.constexpr, LARGEST: tl.constexpr):
    """The log-rates after a step of the flow (`PoissonEnergy.flow_step`)."""
    step = -gradient / (LEAK * beta + kappa * diagonal * tl.exp(u))
    return u + tl.where(step > LARGEST, LARGEST, tl.where(step < -LARGEST, -LARGEST, step))  # NaN stays


@triton.jit
@no_type_check
def _shrunk(mean, slope, kappa, metric, log_r, beta, LEAST: tl.constexpr):
    """The log-rates after a proximal step (`PoissonEnergy.proximal_step`)."""
    curvature = kappa * metric
    log_a = tl.log(beta) - tl.log(curvature)
    return log_a + log_lambertw_exp((curvature * mean - slope) / beta + log_r - log_a, LEAST)


@triton.jit
@no_type_check
def _metric(metric_at, k, here):
    return tl.load(metric_at + k, mask=here, other=1.0)


@triton.jit
@no_type_check
def _put_to_try(u_at, mean_at, at, here, v):
    tl.store(u_at + at, v, mask=here)
    tl.store(mean_at + at, tl.exp(v), mask=here)


@triton.jit
@no_type_check
def _propose(
    u_at, mean_at, slope_at, gradient_at, damping_at, momentum_at, velocity_at, turned_at, diagonal_at, metric_at,
    prior_at, beta_at, new_u_at, new_mean_at, prior_stride,
    LATENTS: tl.constexpr, FLOW: tl.constexpr, INERTIAL: tl.constexpr, LEAK: tl.constexpr, LARGEST: tl.constexpr,
    LEAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    kappa, momentum, beta = tl.load(damping_at + row), tl.load(momentum_at + row), tl.load(beta_at)
    inertia = (momentum - 1) / _longer(momentum)
    for first in range(0, LATENTS, BLOCK):
        k = first + tl.arange(0, BLOCK)
        here, at = k < LATENTS, row * LATENTS + k
        if FLOW:
            u, gradient, diagonal = _load(u_at, at, here), _load(gradient_at, at, here), _load(diagonal_at, k, here)
            v = _flowed(u, gradient, kappa, diagonal, beta, LEAK, LARGEST) + inertia * _load(velocity_at, at, here)
        else:
            mean, slope = _load(mean_at, at, here), _load(slope_at, at, here)
            if INERTIAL:
                mean += inertia * _load(velocity_at, at, here)
                slope += inertia * _load(turned_at, at, here)
            log_r = _load(prior_at, row * prior_stride + k, here)
            v = _shrunk(mean, slope, kappa, _metric(metric_at, k, here), log_r, beta, LEAST)
        _put_to_try(new_u_at, new_mean_at, at, here, v)


@triton.jit
@no_type_check
def _leak(u, log_r, beta):
    return beta * (u - log_r)


@triton.jit
@no_type_check
def _square(residual_at, row, total, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    for first in range(0, SIZE, BLOCK):
        i = first + tl.arange(0, BLOCK)
        part = _load(residual_at, row * SIZE + i, i < SIZE)
        total += tl.sum(part * part)
    return total


@triton.jit
@no_type_check
def _cut(fraction, u, mean, slope, new_u, new_mean, new_slope, TINY: tl.constexpr):
    """The point (1 − t)·old + t·new for 0 < t < 1 (`PoissonEnergy.between`), the new one for t =
    1."""
    rest, near = 1 - fraction, fraction < 0.5
    moved, turned = new_mean - mean, new_slope - slope
    rate = tl.where(near, mean + fraction * moved, new_mean - rest * moved)
    turned = tl.where(near, slope + fraction * turned, new_slope - rest * turned)
    larger = tl.maximum(tl.log(rest) + u, tl.log(fraction) + new_u)
    v = tl.where(rate > TINY, tl.log(tl.maximum(rate, TINY)), larger)
    whole = fraction == 1
    return tl.where(whole, new_u, v), tl.where(whole, new_mean, rate), tl.where(whole, new_slope, turned)


@triton.jit
@no_type_check
def _gained(u, mean, slope, new_u, new_mean, new_slope, log_r, beta):
    """By how much F rises: the trapezium rule is exact for the reconstruction term."""
    gained = 0.5 * (new_mean - mean) * (new_slope + slope)
    return gained + (_leak(new_u, log_r, beta) - beta) * new_mean - (_leak(u, log_r, beta) - beta) * mean


@triton.jit
@no_type_check
def _repeat(stopped, old, new):
    """The step taken, for the next one to repeat."""
    return tl.where(stopped, 0.0, new - old)


@triton.jit
@no_type_check
def _settle(
    u_at, mean_at, slope_at, value_at, damping_at, momentum_at, velocity_at, turned_at, diagonal_at, prior_at, beta_at,
    offset_at, mass_at, shift_at, weight_at, precision_at, residual_at, metric_at,
    new_u_at, new_mean_at, new_slope_at, new_gradient_at, new_value_at, new_damping_at, new_momentum_at,
    new_velocity_at, new_turned_at, rejected_at, next_u_at, next_mean_at, prior_stride, shift_stride,
    LATENTS: tl.constexpr, SIZE: tl.constexpr, LCA: tl.constexpr, FLOW: tl.constexpr, INERTIAL: tl.constexpr,
    REPEATED: tl.constexpr, DECAY: tl.constexpr, LOWEST: tl.constexpr, HIGHEST: tl.constexpr, STILL: tl.constexpr,
    ROUNDING: tl.constexpr, LEAST_SQUARE: tl.constexpr, TINY: tl.constexpr, NEXT: tl.constexpr, LEAK: tl.constexpr,
    LARGEST: tl.constexpr, LEAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The end of a step and, where there is a NEXT one, what `_propose` does of it: its numbers are
    at hand."""
    row = tl.program_id(0).to(tl.int64)
    beta, weight, offset = tl.load(beta_at), tl.load(weight_at), tl.load(offset_at + row)
    value, damping, momentum = tl.load(value_at + row), tl.load(damping_at + row), tl.load(momentum_at + row)
    zero = 0 * beta
    before, after, total = zero, zero, zero
    for first in range(0, LATENTS, BLOCK):  # F at the end of the whole step, and its slopes along it
        k = first + tl.arange(0, BLOCK)
        here, at = k < LATENTS, row * LATENTS + k
        u, mean, slope = _load(u_at, at, here), _load(mean_at, at, here), _load(slope_at, at, here)
        log_r, shift = _load(prior_at, row * prior_stride + k, here), _load(shift_at, row * shift_stride + k, here)
        v, end, new_slope = _tried(new_u_at, new_slope_at, shift, at, here)
        moved, leak = end - mean, _leak(v, log_r, beta)
        before += tl.sum((slope + _leak(u, log_r, beta)) * moved)
        after += tl.sum((new_slope + leak) * moved)
        total += tl.sum((weight * (new_slope + shift) - shift + leak - beta) * end)
    if SIZE == 0:
        total += offset
    else:
        total += tl.load(precision_at) * _square(residual_at, row, zero, SIZE, BLOCK)
    total += tl.load(mass_at + row)
    overshoots = (before < 0) & (after > 0)
    fraction = tl.where(overshoots, before / (before - after), 1.0)

    longer = _longer(momentum)
    inertia = (momentum - 1) / longer
    gained, seen, size, square = zero, zero, zero, zero
    for first in range(0, LATENTS, BLOCK):  # the step that is taken
        k = first + tl.arange(0, BLOCK)
        here, at = k < LATENTS, row * LATENTS + k
        u, mean, slope = _load(u_at, at, here), _load(mean_at, at, here), _load(slope_at, at, here)
        log_r, shift = _load(prior_at, row * prior_stride + k, here), _load(shift_at, row * shift_stride + k, here)
        v, end, new_slope = _tried(new_u_at, new_slope_at, shift, at, here)
        diagonal = _load(diagonal_at, k, here)
        v, end, new_slope = _cut(fraction, u, mean, slope, v, end, new_slope, TINY)
        gained += tl.sum(_gained(u, mean, slope, v, end, new_slope, log_r, beta))
        if INERTIAL and not LCA:  # the LCA linearizes at the point itself
            mean += inertia * _load(velocity_at, at, here)
            slope += inertia * _load(turned_at, at, here)
        seen += tl.sum((new_slope - slope) * (end - mean))
        size += tl.sum(end * end * diagonal)
        square += tl.sum((end - mean) * (end - mean) * diagonal)
    total = tl.where(fraction < 1, value + gained, total)

    accepted = total <= value + ROUNDING * (tl.abs(value) + offset)  # NaN is not
    arrived = (size > 0) & (square <= STILL * size)
    curvature = seen / tl.maximum(square, LEAST_SQUARE)
    kappa = tl.where(accepted, tl.where(arrived, damping, DECAY * damping), 2 * damping)
    follows = (tl.abs(curvature) < float("inf")) & (arrived == 0)
    kappa = tl.where(follows, tl.maximum(kappa, curvature), kappa)
    restart = (accepted == 0) | arrived
    if LCA:
        restart = restart | (after > 0)

    kappa = tl.minimum(tl.maximum(kappa, LOWEST), HIGHEST)
    momentum = tl.where(restart, 1.0, longer)
    inertia = (momentum - 1) / _longer(momentum)

    for first in range(0, LATENTS, BLOCK):  # the state after the step
        k = first + tl.arange(0, BLOCK)
        here, at = k < LATENTS, row * LATENTS + k
        u, mean, slope = _load(u_at, at, here), _load(mean_at, at, here), _load(slope_at, at, here)
        log_r, shift = _load(prior_at, row * prior_stride + k, here), _load(shift_at, row * shift_stride + k, here)
        v, end, new_slope = _tried(new_u_at, new_slope_at, shift, at, here)
        diagonal, metric = _load(diagonal_at, k, here), _metric(metric_at, k, here)  # before anything is stored
        v, end, new_slope = _cut(fraction, u, mean, slope, v, end, new_slope, TINY)
        v, end, new_slope = (
            tl.where(accepted, v, u),
            tl.where(accepted, end, mean),
            tl.where(accepted, new_slope, slope),
        )
        gradient = new_slope + _leak(v, log_r, beta)
        tl.store(new_u_at + at, v, mask=here)
        tl.store(new_mean_at + at, end, mask=here)
        tl.store(new_slope_at + at, new_slope, mask=here)
        if not NEXT:
            tl.store(new_gradient_at + at, gradient, mask=here)
        if LCA:
            velocity = _repeat(restart if FLOW else True, u, v)  # its proximal step is no direction to go on in
            if not NEXT:
                tl.store(new_velocity_at + at, velocity, mask=here)
            else:
                v = _flowed(v, gradient, kappa, diagonal, beta, LEAK, LARGEST) + inertia * velocity
        else:
            if REPEATED:
                velocity, turned = _repeat(restart, mean, end), _repeat(restart, slope, new_slope)
                tl.store(new_velocity_at + at, velocity, mask=here)
                tl.store(new_turned_at + at, turned, mask=here)
                end += inertia * velocity
                new_slope += inertia * turned
            if NEXT:
                v = _shrunk(end, new_slope, kappa, metric, log_r, beta, LEAST)
        if NEXT:
            _put_to_try(next_u_at, next_mean_at, at, here, v)

    # after the last read, so that what has been read of one block stays in registers
    tl.store(new_damping_at + row, kappa)
    tl.store(new_momentum_at + row, momentum)
    tl.store(new_value_at + row, tl.where(accepted, total, value))
    tl.store(rejected_at + row, tl.load(rejected_at + row) + tl.where(accepted, 0.0, 1.0))


@triton.jit
@no_type_check
def _gaps(
    u_at, mean_at, slope_at, norm_at, prior_at, spread_at, relative_at, precision_at, gap_at, prior_stride,
    LATENTS: tl.constexpr, SINGLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    norm, precision = tl.load(norm_at + row), tl.load(precision_at)
    total = 0 * precision
    for first in range(0, LATENTS, BLOCK):
        k = first + tl.arange(0, BLOCK)
        here, at = k < LATENTS, row * LATENTS + k
        u, rate = _load(u_at, at, here), _load(mean_at, at, here)
        log_r = _load(prior_at, row * prior_stride + k, here)
        spread = _load(spread_at, k, here)
        relative = _load(relative_at, k, here)
        d = spread - precision * _load(slope_at, at, here) + (u - log_r)
        error = norm * relative + SINGLE * (2 * spread + tl.abs(u) + tl.abs(log_r))
        away = tl.abs(d) + error
        d = tl.where(d > error, away, -away)
        series = 1.0 + 0 * d  # e^−d − 1 + d = d²/2·(1 − d/3·(1 − d/4·(…))), where the difference cancels
        for turn in tl.static_range(12):
            series = 1.0 - d * series / (14 - turn)
        called_for = tl.exp(u - d)
        far = tl.where(called_for == float("inf"), called_for, called_for - rate + rate * d)
        total += tl.sum(tl.where(here, tl.where(tl.abs(d) > 0.3, far, rate * d * d * series * 0.5), 0.0))
    tl.store(gap_at + row, total)
