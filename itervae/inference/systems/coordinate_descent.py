"""The optimum of the lasso on a CPU, one datum after the other, in compiled code
(`coordinate_descent_numba`)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itervae.inference.energies.base import Point
from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.systems.jacobian import gram_of
from itervae.kernels.launch import numba_module
from itervae.model import matrix

CHUNK = 64
"""Data that a thread takes at a time."""


@torch.no_grad()
def minimize(
    energy: LassoEnergy, u: Float[Tensor, "batch latents"], tolerance: float
) -> tuple[Float[Tensor, "batch latents"], Point]:
    """Solve the lasso from potentials u (B, K), float64 on a CPU, with a soft threshold and a dense
    dictionary.

    Each datum goes on until its duality gap is half the tolerance, or as far as rounding lets it.
    There are as many threads as torch has. Data with weights of their own have each a Gram matrix.

    Returns:
        The potentials (B, K) at the optimum and the energy there.
    """
    code: Any = numba_module("itervae.inference.kernels.coordinate_descent_numba")
    drive, mean = energy.quadratic.drive(), energy.activation(u)
    data_gradient = torch.empty_like(mean)
    squares = energy.quadratic.x.square().sum(1).numpy()
    dictionary, weights = matrix(energy.quadratic.operator)
    shared = gram_of(energy).numpy() if weights is None else np.empty((0, 0))
    a, out, inner = mean.numpy(), data_gradient.numpy(), drive.numpy()
    threshold, signed = float(energy.threshold.detach()), energy.sparsity.signed

    def solve(gram: np.ndarray, rows: slice) -> None:
        code.solve(gram, inner[rows], squares[rows], a[rows], out[rows], threshold, signed, tolerance / 2)

    def part(start: int) -> None:
        if weights is None:
            solve(shared, slice(start, start + CHUNK))
            return
        for row in range(start, min(start + CHUNK, len(mean))):
            own = weights[row, :, None].numpy() * dictionary.numpy()
            solve(own.T @ own, slice(row, row + 1))

    threads, starts = torch.get_num_threads(), range(0, len(mean), CHUNK)
    if threads == 1 or len(starts) == 1:
        for start in starts:
            part(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, starts))
    return energy.at(mean, data_gradient, drive)
