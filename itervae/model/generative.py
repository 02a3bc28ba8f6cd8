"""The generative model and its free energy.

Vafaii, Galor & Yates (2024), "Poisson variational autoencoder". Free energy F = −ELBO, per datum, in nats:

    F = E_q[−log p(x | z)] + β·KL(q(z) ‖ p(z))
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from itervae.distributions import RelaxedPoisson, SparseCode, SparsityCost
from itervae.errors import InputError
from itervae.model.decoders import LinearDecoder
from itervae.model.likelihood import BernoulliLikelihood, GaussianLikelihood
from itervae.model.precision import full_precision
from itervae.model.prior import PoissonPrior, SparsityPrior

ESTIMATORS = ("exact", "eat", "straight-through")


@dataclass(frozen=True)
class FreeEnergy:
    """The free energy of each datum, nats; every field has shape (B,).

    `total` = `reconstruction` + β·`kl`.
    """

    reconstruction: Tensor
    kl: Tensor
    total: Tensor


class GenerativeModel(nn.Module):
    """p(x, z) = p(z)·p(x | decoder(z)), with the weight β of the KL, which belongs to the model and is saved with it.

    Args:
        prior: the static prior over z.
        decoder: module from z (..., K) to (..., D).
        likelihood: Gaussian (the decoder gives the mean) or Bernoulli (it gives logits).
        shape: shape of a datum, (H, W) for images or (D,); data come flattened.
        beta: β > 0.
    """

    beta: Tensor

    def __init__(
        self,
        prior: PoissonPrior | SparsityPrior,
        decoder: nn.Module,
        likelihood: GaussianLikelihood | BernoulliLikelihood,
        shape: tuple[int, ...],
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        if not beta > 0:
            raise InputError(f"beta is {beta}; expected a positive number (the free energy has no optimum at 0)")
        if isinstance(prior, SparsityPrior):
            one = isinstance(likelihood, GaussianLikelihood) and likelihood.log_variance == 0 and not likelihood.learned
            if not one or beta != 1:
                raise InputError(
                    "sparse coding was given another likelihood than a Gaussian of variance 1, or a beta other than 1; "
                    "scale its threshold instead"
                )
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.shape = tuple(shape)
        self.register_buffer("beta", torch.tensor(float(beta)))

    @property
    def latents(self) -> int:
        """K."""
        return self.prior.latents

    @property
    def size(self) -> int:
        """D."""
        return math.prod(self.shape)

    @property
    def capabilities(self) -> frozenset[str]:
        """What an engine may require of a model: the family, the decoder and the likelihood, by name."""
        found = set(self.prior.capabilities)
        if isinstance(self.decoder, LinearDecoder):
            found.add("linear decoder")
        if isinstance(self.likelihood, GaussianLikelihood):
            found.add("Gaussian likelihood")
        return frozenset(found)

    @property
    def exact(self) -> bool:
        """Whether the reconstruction term has a closed form: a linear decoder under a Gaussian likelihood."""
        return {"linear decoder", "Gaussian likelihood"} <= self.capabilities

    @property
    def dictionary(self) -> Tensor:
        """Φ (D, K) of a linear decoder; InputError for another decoder."""
        if not isinstance(self.decoder, LinearDecoder):
            raise InputError(
                f"this model has a {type(self.decoder).__name__}, which has no dictionary; expected a linear decoder"
            )
        return self.decoder.dictionary

    def posterior(self, u: Tensor, temperature: float = 0.0) -> Any:
        """q(z | x) of the prior's family: with log-rates u (B, K), or the sparse code with these potentials."""
        return self.prior.posterior(u, temperature)

    def decode(self, z: Tensor) -> Tensor:
        """E[x | z]; z (..., K), answer (..., D)."""
        return self.likelihood.mean(self.decoder(z))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw z from the prior and return E[x | z], (n, D): noise-free samples, as pictures are shown."""
        return self.decode(self.prior().sample((n,), generator=generator))

    def free_energy(
        self,
        x: Tensor,
        posterior: RelaxedPoisson | SparseCode,
        prior: RelaxedPoisson | SparsityCost | None = None,
        *,
        estimator: str | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> FreeEnergy:
        """The free energy of `posterior` for data x.

        `exact` (linear decoder, Gaussian likelihood): E‖x − Φz‖² = ‖x − Φμ‖² + c·v with mean μ, variance v of the
        posterior and c_k = ‖φ_k‖². `eat`: the mean over `samples` relaxed draws at the posterior's temperature (at
        temperature 0, of integer counts). `straight-through`: integer counts forward, the relaxed gradient backward.

        Args:
            x: data (B, D).
            posterior: q(z | x), batch shape (B, K).
            prior: p(z), batch shape (K,) or (B, K); the static prior where None.
            estimator: "exact", "eat" or "straight-through"; None takes exact where it exists, else eat.
            samples: number of draws for the sampled estimators.
            generator: source of randomness of the draws.

        Raises:
            InputError: x and the posterior do not fit, or `exact` is asked of a model that has no closed form.
        """
        if x.ndim != 2 or x.shape[1] != self.size or posterior.batch_shape != (len(x), self.latents):
            raise InputError(
                f"x has shape {tuple(x.shape)} and the posterior {tuple(posterior.batch_shape)}; expected "
                f"(B, {self.size}) and (B, {self.latents})"
            )
        if samples < 1:
            raise InputError(f"samples is {samples}; expected a number ≥ 1")
        estimator = estimator or ("exact" if self.exact else "eat")
        if estimator == "exact":
            reconstruction = self._exact_reconstruction(x, posterior)
        elif estimator in ESTIMATORS:
            z = posterior.rsample((samples,), generator, straight_through=estimator == "straight-through")
            output = self.decoder(z.to(next(self.decoder.parameters()).dtype))
            reconstruction = self.likelihood.negative_log_likelihood(x, output).mean(0)
        else:
            raise InputError(f"estimator is {estimator!r}; expected one of {', '.join(ESTIMATORS)}")
        kl = kl_divergence(posterior, self.prior() if prior is None else prior).sum(-1)
        return FreeEnergy(reconstruction, kl, reconstruction + self.beta * kl)

    @full_precision
    def _exact_reconstruction(self, x: Tensor, posterior: RelaxedPoisson | SparseCode) -> Tensor:
        if not self.exact:
            raise InputError(
                "the exact free energy was asked of a model without one; expected a linear decoder and a Gaussian "
                "likelihood: use estimator eat"
            )
        likelihood = self.likelihood
        assert isinstance(likelihood, GaussianLikelihood)
        dictionary = self.dictionary.to(posterior.u.dtype)
        spread = posterior.variance @ dictionary.square().sum(0) / (2 * likelihood.variance)
        return likelihood.negative_log_likelihood(x, posterior.mean @ dictionary.mT) + spread
