"""How far a posterior is from the best one, at most: proved bounds, per datum."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from itervae.arguments import check_devices, check_kind
from itervae.distributions import Family, PriorDistribution
from itervae.errors import InputError
from itervae.inference.checks import as_data
from itervae.inference.problem import Problem
from itervae.model import GenerativeModel


def certificate(
    model: GenerativeModel,
    x: ArrayLike | Tensor,
    posterior: Family,
    prior: PriorDistribution | None = None,
    precision: ArrayLike | Tensor | None = None,
) -> Tensor:
    """A proved upper bound of F(posterior) − F* (B,), nats, computed in float64, with what rounding
    can have done to it: see the `certificate` of `PoissonEnergy`, `LassoEnergy`, `GaussianEnergy`
    and `CategoricalEnergy`.

    NaN for models whose optimum cannot be proved: those without a linear decoder and a Gaussian
    likelihood, sparse codes under a hard threshold, Laplace posteriors and Gaussians under an
    activation.

    Args:
        model: generative model with K latents and data of dimension D.
        x: data (B, D), or (B, *shape) of a convolutional dictionary.
        posterior: of these data, over (B, K) latents.
        prior: p(z), over (K,) or (B, K) latents; the model's static prior where None.
        precision: of each value, as in `infer`.

    Raises:
        InputError: x or the posterior is of another kind, width or device than the model.
    """
    model, x, w = as_data(model, x, precision)
    check_kind("posterior", posterior, Family, "a distribution: infer(model, engine, x).posterior")
    check_devices(x, {"the posterior": posterior.u, "the prior": None if prior is None else prior.u})
    own = model.prior()
    expected = (len(x), len(own.u))
    if posterior.u.shape != expected:
        raise InputError(
            f"the posterior has parameters of shape {tuple(posterior.u.shape)}; expected {expected}, a row for each "
            "datum: pass that of these data"
        )
    problem = Problem(model, x, own if prior is None else prior, precision=w)
    with torch.no_grad():
        return proved(problem, posterior.u)


def proved(problem: Problem, u: Tensor) -> Tensor:
    """The certificate (B,) of parameters u (B, P) of a problem; NaN where nothing can be proved."""
    energy = problem.certified
    return unproved(u) if energy is None else energy.certificate(u)


def unproved(u: Tensor) -> Tensor:
    """NaN for each datum (B,)."""
    return u.new_full((len(u),), torch.nan, dtype=torch.float64)
