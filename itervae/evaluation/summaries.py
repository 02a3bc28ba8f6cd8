"""What many codes come to, as plain values: their sparsity, and how well they reconstruct."""

from typing import Any

from torch import Tensor

from itervae.evaluation.codes import Codes
from itervae.evaluation.explained import r_squared, standard_error, total_variance
from itervae.evaluation.sparsity import lifetime_sparsity, population_sparsity


def sparsity(codes: Codes) -> dict[str, Any]:
    """Lifetime sparsity, mean over units, and population sparsity, mean over data, of mean and
    sample; zeros; activity.

    A code of one unit has no population sparsity. `share_zero` is the share of zeros among the
    samples, or among the coefficients of a sparse code, and `share_zero_expected` its expectation
    under the posterior. `activity` is Σ_k |E z_k|, mean over data: the spikes of a Poisson code.
    """
    activity = codes.mean.double().abs().sum(1)
    drawn = codes.mean if codes.sample is None else codes.sample
    found: dict[str, Any] = {
        "share_zero": (drawn == 0).double().mean().item(),
        "share_zero_expected": codes.share_zero,
        "activity": activity.mean().item(),
        "activity_se": standard_error(activity),
    }
    for name, code in {"mean": codes.mean, "sample": codes.sample}.items():
        if code is not None:
            several = code.shape[1] > 1
            found[name] = {
                "lifetime": lifetime_sparsity(code).mean().item(),
                "population": population_sparsity(code).mean().item() if several else None,
            }
    return found


def reconstruction(codes: Codes, x: Tensor) -> dict[str, Any]:
    """Errors of the decoded mean and of decoded samples, and free energy with its parts, each with
    a standard error.

    R² of both is given by two definitions: `r2_pooled`, about the mean of all data, and
    `r2_per_datum`, about the mean of each datum's own values, averaged (see `r_squared`). None
    where the data do not vary.
    """
    found: dict[str, Any] = {"variance": total_variance(x)}
    for name, error in {"mean": codes.error, "sample": codes.sample_error}.items():
        if error is not None:
            shares = {f"r2_{key}": value for key, value in vars(r_squared(error, x)).items()}
            found[name] = {"error": error.mean().item(), "error_se": standard_error(error), **shares}
    parts = {
        "free_energy": codes.free_energy,
        "free_energy_at_beta_1": codes.reconstruction + codes.kl,
        "nll": codes.reconstruction,
        "kl": codes.kl,
    }
    for name, value in parts.items():
        found |= {name: value.double().mean().item(), f"{name}_se": standard_error(value)}
    proved = not codes.certificate.isnan().any()
    return found | {"certificate_max": codes.certificate.max().item() if proved else None}
