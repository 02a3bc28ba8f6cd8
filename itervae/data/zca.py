"""ZCA whitening of patches, whose values become uncorrelated while patches stay as they look:

    y = W x,   W = (Σ + εI)^(−1/2),   Σ = E[x xᵀ] over the training patches,

and ε is a share of the mean variance, so that directions without variance are not blown up. The
covariance of y is Σ(Σ + εI)⁻¹, which is 1 along every direction that has much more variance than ε.

References:
    Bell and Sejnowski (1997), The "independent components" of natural scenes are edge filters.
    Coates, Lee and Ng (2011), An analysis of single-layer networks in unsupervised feature learning
    (ε).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from itervae.errors import InputError

SHRINKAGE = 0.1
"""ε as a share of the mean variance of a value. With much less, noise of high frequencies and of
colour is as strong as what pictures consist of."""


def zca_matrix(patches: Iterable[Tensor], shrinkage: float = SHRINKAGE) -> Tensor:
    """W of training patches, each minus its mean; computed in float64.

    Args:
        patches: parts (n, D) of them, one after the other.
        shrinkage: ε = `shrinkage` · tr Σ / D.

    Returns:
        (D, D) float32, symmetric, on the CPU.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for part in patches:
        x = part.cpu().double()
        total, count = total + x.T @ x, count + len(x)
    values, vectors = torch.linalg.eigh(total / count)
    values = values.clamp_min(0) + shrinkage * values.mean()
    return ((vectors * values.rsqrt()) @ vectors.T).float()


def check_zca(matrix: Tensor, dim: int) -> None:
    """Refuse a matrix of patches of another size.

    Raises:
        InputError: names both sizes.
    """
    if len(matrix) != dim:
        raise InputError(
            f"the ZCA matrix of the run is of patches of {len(matrix)} values, and these have {dim}; leave "
            "`patch_size` and `colour` as the run has them"
        )
