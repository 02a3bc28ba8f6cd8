"""How sparse a code is.

Treves & Rolls (1991), "What determines the capacity of autoassociative memories in the brain?";
scaled to [0, 1] by Vinje & Gallant (2000), "Sparse coding and decorrelation in primary visual
cortex during natural vision", as used by Vafaii, Galor & Yates (2024).
"""

from torch import Tensor

from itervae.errors import InputError


def lifetime_sparsity(codes: Tensor) -> Tensor:
    """Lifetime sparsity of each unit (K,), from 0 (the same response to every stimulus) to 1 (one
    stimulus only):

        S = (1 − (Σ_m |z_m|)² / (M Σ_m z_m²)) / (1 − 1/M)

    Args:
        codes: responses (M, K), M ≥ 2. A silent unit has S = 1.

    Raises:
        InputError: fewer than two stimuli.
    """
    if codes.ndim != 2 or len(codes) < 2:
        raise InputError(f"codes have shape {tuple(codes.shape)}; expected (M, K) with at least 2 stimuli")
    return _sparsity(codes)


def population_sparsity(codes: Tensor) -> Tensor:
    """Population sparsity of each datum (M,), from 0 (all units alike) to 1 (one unit only):

        S = (1 − (Σ_k |z_k|)² / (K Σ_k z_k²)) / (1 − 1/K)

    Args:
        codes: responses (M, K), K ≥ 2. A datum to which no unit responds has S = 1.

    Raises:
        InputError: fewer than two units.
    """
    if codes.ndim != 2 or codes.shape[1] < 2:
        raise InputError(f"codes have shape {tuple(codes.shape)}; expected (M, K) with at least 2 units")
    return _sparsity(codes.mT)


def _sparsity(codes: Tensor) -> Tensor:
    """S of each column of (M, K), over its rows."""
    codes = codes.double().abs()
    peak = codes.amax(0)
    scaled = codes / peak.where(peak > 0, 1.0)  # so that squares of tiny rates do not underflow
    ratio = scaled.sum(0).square() / (len(codes) * scaled.square().sum(0))
    return ((1 - ratio) / (1 - 1 / len(codes))).where(peak > 0, 1.0)
