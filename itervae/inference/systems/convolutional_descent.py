"""The optimum of the lasso under a convolutional dictionary on a CPU, by working sets in compiled
code (`convolutional_descent_numba`).

A round takes the coefficients that are not 0 and, of the others, those that violate optimality
most, solves the lasso on these alone, and looks at all of them again by one product with Φᵀ:
locally active coefficients as in Moreau, Oudre & Vayatis (2018), "DICOD: distributed convolutional
coordinate descent for convolutional sparse coding", working sets as in Massias, Gramfort & Salmon
(2018), "Celer: a fast solver for the lasso with dual extrapolation".
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itervae.inference.energies.base import Point
from itervae.inference.energies.lasso import LassoEnergy
from itervae.kernels.launch import numba_module
from itervae.model import LinearOperator
from itervae.model.convolution import Convolution
from itervae.model.operators import Weighted

ROUNDS = 100
"""Largest number of working sets."""
FEWEST = 1000
"""Coefficients that may enter a working set at once; as many as it has, where these are more."""
CLOSE = 0.1
"""Share of the gap of all coefficients to which those of a working set are solved."""
SPARE, ENOUGH = 0.9, 0.8
"""Share of the tolerance at which a datum is done, the rest being left to the rounding of its
certificate; and share of that to which a working set is solved at most."""
SWEEPS = 2000
"""Largest number of sweeps over a working set."""


def convolution(operator: LinearOperator) -> tuple[Convolution, Tensor | None] | None:
    """The convolution that an operator is, and the weights ρ (D,) or (B, D) of its values, if it
    has some; None where it is none."""
    inner, root = (operator.inner, operator.root) if isinstance(operator, Weighted) else (operator, None)
    return (inner, root) if isinstance(inner, Convolution) else None


@torch.no_grad()
def minimize_maps(
    energy: LassoEnergy, u: Float[Tensor, "batch latents"], tolerance: float
) -> tuple[Float[Tensor, "batch latents"], Point]:
    """Solve the lasso from potentials u (B, K·P), float64 on a CPU, with a soft threshold and a
    convolutional dictionary.

    Each datum goes on until its duality gap is 0.9 of the tolerance, or as far as rounding lets it.
    There are as many threads as torch has, each with data of its own.

    Returns:
        The potentials (B, K·P) at the optimum and the energy there.
    """
    mean = energy.activation(u)
    operator, x = energy.quadratic.operator.map(Tensor.detach), energy.quadratic.x.detach()
    found = convolution(operator)
    assert found is not None
    inner, root = found
    norms = operator.atom_norms().expand_as(mean)

    @torch.no_grad()  # which is of a thread
    def part(row: int) -> None:
        own = root[row] if root is not None and root.ndim == 2 else root
        _minimize(energy, inner, own, x[row : row + 1], mean[row].numpy(), norms[row].numpy(), SPARE * tolerance)

    threads = torch.get_num_threads()
    if threads == 1 or len(mean) == 1:
        for row in range(len(mean)):
            part(row)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, range(len(mean))))
    residual = operator.residual(x, mean)
    return energy.at(mean, operator.adjoint(residual).neg_(), 0.5 * residual.square().sum(-1))


def _minimize(
    energy: LassoEnergy,
    inner: Convolution,
    root: Tensor | None,
    x: Tensor,
    code: np.ndarray,
    norms: np.ndarray,
    tolerance: float,
) -> None:
    """Solve the lasso of one datum x (1, D), its code (K·P,) in place."""
    made: Any = numba_module("itervae.inference.kernels.convolutional_descent_numba")
    threshold, signed = float(energy.threshold), energy.sparsity.signed
    depth = (1,) * (3 - len(inner.shape))
    atoms = np.ascontiguousarray(inner.atoms.numpy()).reshape(*inner.atoms.shape[:2], *depth, *inner.atoms.shape[2:])
    weight = np.ones(inner.size) if root is None else root.square().numpy()
    weight = weight.reshape(inner.atoms.shape[1], *depth, *inner.shape)
    known, last = np.flatnonzero(code), np.inf
    for _ in range(ROUNDS):
        # anew, free of what rounding has added up to
        residual = x - _times(root, inner.forward(torch.from_numpy(code)[None]))
        pull = _times(root, residual)
        slope = inner.adjoint(pull)[0].numpy()
        size = np.abs(slope) if signed else slope
        scale = threshold / max(float(size.max()), threshold)
        gap = 0.5 * (1 - scale) ** 2 * residual.square().sum().item()
        gap += (threshold * np.abs(code) - scale * code * slope).sum()
        outside = np.flatnonzero((size > threshold) & (code == 0) & (norms > 0))
        if gap <= tolerance or (gap >= last and np.isin(outside, known).all()):
            return  # or rounding lets it come no nearer
        last, inside = min(gap, last), np.flatnonzero(code)
        most = max(FEWEST, len(inside))
        if len(outside) > most:
            outside = outside[np.argpartition(size[outside], -most)[-most:]]
        known = np.concatenate([inside, outside])
        maps, first = _places(inner, known)
        some, image = code[known], pull.reshape(weight.shape).numpy().copy()
        aim = max(ENOUGH * tolerance, CLOSE * gap)
        made.solve(atoms, weight, image, maps, first, norms[known], some, threshold, signed, aim, SWEEPS)
        code[known] = some


def _times(root: Tensor | None, values: Tensor) -> Tensor:
    return values if root is None else root * values


def _places(operator: Convolution, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The atom of each latent (n,), and where it begins, along three dimensions (n, 3)."""
    maps, *places = np.unravel_index(latents, (len(operator.atoms), *operator.places))
    begins = [grid.stride * place - grid.before for grid, place in zip(operator.grids, places, strict=True)]
    first = np.zeros((len(latents), 3), np.int64)
    first[:, 3 - len(begins) :] = np.stack(begins, 1)
    return maps, first
