"""The optimum of the lasso on a CPU, one datum after the other, in compiled code (`coordinate_descent_numba`)."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.inference.energies import Point
from itervae.inference.lasso import LassoEnergy

CHUNK = 64
"""Data that a thread takes at a time."""


@cache
def compiled_solver() -> Callable[..., None] | None:
    """`coordinate_descent_numba.solve`; None, with a warning, where numba cannot be used."""
    try:
        from itervae.inference.coordinate_descent_numba import solve
    except (ImportError, RuntimeError) as error:  # it is not there, not for this numpy, or has nowhere for its cache
        first = str(error).partition("\n")[0]
        warnings.warn(
            f"the lasso is solved by batched steps, several times slower, without numba ({first}): "
            "pip install 'itervae[fast]'",
            stacklevel=2,
        )
        return None
    return solve


@torch.no_grad()
def minimize(
    energy: LassoEnergy, u: Float[Tensor, "batch latents"], tolerance: float
) -> tuple[Float[Tensor, "batch latents"], Point]:
    """Potentials and energy at the optimum, from potentials u (B, K), float64 on a CPU, with a soft threshold.

    Each datum goes on until its duality gap is half the tolerance, or as far as rounding lets it. Threads as torch has.
    """
    solve = compiled_solver()
    assert solve is not None
    drive, mean = energy.drive(), energy.activation(u)
    smooth = torch.empty_like(mean)
    gram, inner, squares = energy.terms.gram.numpy(), drive.numpy(), energy.x.square().sum(1).numpy()
    a, out, threshold, signed = mean.numpy(), smooth.numpy(), float(energy.threshold.detach()), energy.sparsity.signed

    def part(start: int) -> None:
        rows = slice(start, start + CHUNK)
        solve(gram, inner[rows], squares[rows], a[rows], out[rows], threshold, signed, tolerance / 2)

    threads, starts = torch.get_num_threads(), range(0, len(mean), CHUNK)
    if threads == 1 or len(starts) == 1:
        for start in starts:
            part(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, starts))
    return energy.at(mean, smooth, drive)
