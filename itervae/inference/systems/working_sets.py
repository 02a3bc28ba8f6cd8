"""The optimum of the lasso on a CPU by working sets, without the Gram matrix of all atoms: of many
atoms, or of data with weights of their own.

Compiled code (`coordinate_descent_numba`) minimizes the energy of each datum on a set of atoms that
holds those which violate optimality most; then one product of all residuals with all atoms shows
which atoms are still missing, and the duality gap of the whole problem. Johnson & Guestrin (2015),
"Blitz: a principled meta-algorithm for scaling sparse optimization"; Massias, Gramfort & Salmon
(2018). Atoms that enter no set cost nothing but these products.
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
from itervae.model import matrix

ROUNDS = 200
"""Largest number of working sets of a datum."""
KEPT_BYTES = 2**30
"""Memory for the Gram matrices of the sets of all data, in equal shares; a larger one is made anew
in each round."""


@torch.no_grad()
def minimize_by_sets(
    energy: LassoEnergy, u: Float[Tensor, "batch latents"], tolerance: float
) -> tuple[Float[Tensor, "batch latents"], Point]:
    """Solve the lasso as `minimize` does; what is kept of a datum grows with its working set."""
    code: Any = numba_module("itervae.inference.kernels.coordinate_descent_numba")
    quadratic, mean = energy.quadratic, energy.activation(u)
    dictionary, weights = matrix(quadratic.operator)
    residual, data_gradient = quadratic.operator.residual(quadratic.x, mean), torch.empty_like(mean)
    library, x, r = dictionary.mT.contiguous().numpy(), quadratic.x.numpy(), residual.numpy()
    weight = np.empty((len(x), 0)) if weights is None else weights.numpy()
    threshold, signed = float(energy.threshold.detach()), energy.sparsity.signed
    none = np.empty((0, 0))
    sets: list[tuple[np.ndarray, ...]] = []  # of each datum: atoms, their codes, their Gram matrix
    for a in mean.numpy():
        atoms = a.nonzero()[0].astype(np.uint32)
        sets.append((atoms, a[atoms], none))

    def settle(row: int, slope: np.ndarray) -> bool:
        *found, block, again = code.settle(
            library, weight[row], x[row], r[row], slope, *sets[row], threshold, signed, tolerance / 2
        )
        sets[row] = (*found, block if again and block.nbytes <= KEPT_BYTES // len(left) else none)
        return again

    left = torch.arange(len(x))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for turn in range(ROUNDS + 1):
            slope = (residual[left] if weights is None else weights[left] * residual[left]) @ dictionary
            more = pool.map(settle, left.tolist(), slope.numpy()) if turn < ROUNDS else [False] * len(left)
            again = torch.tensor(list(more), dtype=torch.bool)
            data_gradient[left[~again]] = -slope[~again]
            left = left[again]
            if not len(left):
                break
    for a, (atoms, found, _) in zip(mean.numpy(), sets, strict=True):
        a[atoms] = found
    return energy.at(mean, data_gradient, 0.5 * residual.square().sum(-1))
