"""The optimum of the lasso on a CPU, one datum after the other, in compiled code
(`coordinate_descent_numba`), by the Gram matrix of all atoms where there is one."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.inference.energies.base import Point
from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.systems.working_sets import minimize_by_sets
from itervae.kernels.launch import numba_module

CHUNK = 64
"""Data that a thread takes at a time."""


@torch.no_grad()
def minimize(
    energy: LassoEnergy, u: Float[Tensor, "batch latents"], tolerance: float
) -> tuple[Float[Tensor, "batch latents"], Point]:
    """Solve the lasso from potentials u (B, K), float64 on a CPU, with a soft threshold and a dense
    dictionary.

    Each datum goes on until its duality gap is half the tolerance, or as far as rounding lets it.
    There are as many threads as torch has.

    Returns:
        The potentials (B, K) at the optimum and the energy there.
    """
    gram = energy.quadratic.terms.gram
    if gram is None:
        return minimize_by_sets(energy, u, tolerance)
    code: Any = numba_module("itervae.inference.kernels.coordinate_descent_numba")
    drive, mean = energy.quadratic.drive(), energy.activation(u)
    data_gradient = torch.empty_like(mean)
    squares = energy.quadratic.x.square().sum(1).numpy()
    shared, a, out, inner = gram.numpy(), mean.numpy(), data_gradient.numpy(), drive.numpy()
    threshold, signed = float(energy.threshold.detach()), energy.sparsity.signed

    def part(start: int) -> None:
        rows = slice(start, start + CHUNK)
        code.solve(shared, inner[rows], squares[rows], a[rows], out[rows], threshold, signed, tolerance / 2)

    threads, starts = torch.get_num_threads(), range(0, len(mean), CHUNK)
    if threads == 1 or len(starts) == 1:
        for start in starts:
            part(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, starts))
    misfit = 0.5 * (data_gradient - drive).mul_(mean).sum(-1) + energy.quadratic.offset
    return energy.at(mean, data_gradient, misfit)
