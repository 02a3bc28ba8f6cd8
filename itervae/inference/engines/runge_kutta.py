"""Explicit Runge–Kutta methods of one fixed step, for a flow that does not depend on time.

They are those of torchdiffeq by the same names, whose own loop looks at its times, for which the
host would wait on a GPU several times a step.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from itervae.inference.settings import FixedMethod

TABLEAUS: dict[FixedMethod, tuple[Sequence[Sequence[float]], Sequence[float]]] = {
    "euler": ((), (1.0,)),
    "midpoint": (((1 / 2,),), (0.0, 1.0)),
    "heun2": (((1.0,),), (1 / 2, 1 / 2)),
    "heun3": (((1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)),
    "rk4": (((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}
"""Butcher tableaus: the coefficients a of each stage after the first, and the weights b."""


def step(method: FixedMethod, flow: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """The state u + Σ_i b_i k_i after one unit of time, with the slopes k_i = flow(u + Σ_j a_ij
    k_j)."""
    stages, weights = TABLEAUS[method]
    slopes = [flow(u)]
    for coefficients in stages:
        slopes.append(flow(u + _weighted(coefficients, slopes)))
    return u + _weighted(weights, slopes)


def _weighted(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    used = [weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight]
    total = used[0]
    for part in used[1:]:
        total = total + part
    return total
