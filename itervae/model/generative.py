"""The generative model and its free energy.

Vafaii, Galor & Yates (2024), "Poisson variational autoencoder". Free energy F = −ELBO, per datum,
in nats:

    F = E_q[−log p(x | z)] + β·KL(q(z) ‖ p(z))
"""

import math
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Distribution

from itervae.arguments import (
    check_devices,
    check_generator,
    check_kind,
    check_positive,
    check_shape,
    check_whole,
)
from itervae.arrays import as_tensor
from itervae.distributions import Family, PriorDistribution, total_kl
from itervae.errors import InputError, described
from itervae.model.convolution import ConvolutionalDecoder
from itervae.model.estimators import estimators_of, exact_terms, sampled_reconstruction
from itervae.model.likelihood import GaussianLikelihood, Likelihood
from itervae.model.observed import ObservationModel
from itervae.model.operators import Dense, OperatorDecoder
from itervae.model.prior import Prior
from itervae.model.priors.sparse_code import SparsityPrior
from itervae.showing import Shown

CAPABILITIES = frozenset(
    {
        "Poisson family",
        "Gaussian family",
        "RectifiedGaussian family",
        "LogNormal family",
        "Laplace family",
        "Categorical family",
        "Poisson family or sparse coding",
        "variational posterior",
        "certifiable optimum",
        "linear decoder",
        "dense dictionary",
        "Gaussian likelihood",
    }
)
"""What the models here may have, and engines require; see `GenerativeModel.capabilities`."""
CERTIFIABLE = frozenset({"linear decoder", "Gaussian likelihood", "certifiable optimum"})
"""What a model needs for its best posterior, or code, to be proved."""


@dataclass(frozen=True, repr=False)
class FreeEnergy(Shown):
    """The free energy of each datum, nats; every field has shape (B,).

    `total` = `reconstruction` + β·`kl`.
    """

    reconstruction: Tensor
    kl: Tensor
    total: Tensor


class GenerativeModel(ObservationModel):
    """p(x, z) = p(z)·p(x | decoder(z)), with the weight β of the KL, which belongs to the model and
    is saved with it.

    Args:
        prior: the static prior over z.
        decoder: module from z (..., K) to (..., D).
        likelihood: Gaussian (the decoder gives the mean), Bernoulli (it gives logits) or Poisson
            (its link makes rates of what the decoder gives).
        shape: shape of a datum, (H, W) or (C, H, W) for images, or (D,); data come flattened, those
            of a convolutional dictionary in their natural shape too (`meet`).
        beta: β > 0.
    """

    settings: Any
    """What `build_model` made it of; None where it was composed by hand."""

    def __init__(
        self,
        prior: Prior,
        decoder: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, ...],
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        check_kind("prior", prior, Prior, "a module that gives one, such as PoissonPrior(latents)")
        check_kind("decoder", decoder, nn.Module, "a module from z (..., K) to (..., D), such as LinearDecoder(D, K)")
        check_kind(
            "likelihood", likelihood, Likelihood, "GaussianLikelihood(), BernoulliLikelihood() or PoissonLikelihood(D)"
        )
        beta = check_positive("beta", beta, " (the free energy has no optimum at 0)")
        if isinstance(prior, SparsityPrior):
            one = isinstance(likelihood, GaussianLikelihood) and not likelihood.learned
            if not one or beta != 1 or bool(likelihood.log_variance.ne(0).any()):  # pyright: ignore
                raise InputError(
                    "sparse coding was given another likelihood than a Gaussian of variance 1, or a beta other than 1; "
                    "scale its threshold instead"
                )
        shape = check_shape(shape)
        given = likelihood.log_variance if isinstance(likelihood, GaussianLikelihood) else torch.zeros(())
        if given.shape not in ((), (math.prod(shape),)):
            raise InputError(
                f"the likelihood has {len(given)} variances, and data of shape {shape} have "
                f"{math.prod(shape)} values; expected one for each, or one for all"
            )
        self.settings: Any = None
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.shape = shape
        self.register_buffer("beta", torch.tensor(beta))
        if isinstance(decoder, OperatorDecoder):
            self.operator()  # refused now and not when it is used

    @property
    def latents(self) -> int:
        """K."""
        return self.prior.latents

    def at(self, shape: tuple[int, ...]) -> "GenerativeModel":
        """The same model, with the same parameters, for data of another shape.

        Raises:
            InputError: the dictionary is not convolutional, or has no such signals.
        """
        if not isinstance(self.decoder, ConvolutionalDecoder):
            raise InputError(
                f"this model has a {type(self.decoder).__name__}, for data of shape {self.shape}; expected a "
                "ConvolutionalDecoder, whose atoms may lie on signals of any size"
            )
        if isinstance(self.likelihood, GaussianLikelihood) and self.likelihood.log_variance.ndim:
            raise InputError(
                "this model has a variance for each value of a datum, which another shape has not; expected one for all"
            )
        found, decoder = copy(self), self.decoder.at(shape)
        found.shape, found._modules = check_shape(shape), dict(self._modules)
        found.decoder, found.prior = decoder, self.prior.at(decoder.places)
        return found

    def maps(self, z: Tensor) -> Tensor:
        """Latents (..., K) of a convolutional dictionary as maps (..., maps, *places).

        Raises:
            InputError: the dictionary is not convolutional.
        """
        if not isinstance(self.decoder, ConvolutionalDecoder):
            raise InputError(
                f"this model has a {type(self.decoder).__name__}; expected a ConvolutionalDecoder, of maps"
            )
        return z.reshape(*z.shape[:-1], self.prior.maps, *self.decoder.operator().places)

    def meet(self, x: Tensor) -> tuple["GenerativeModel", Tensor]:
        """The model for data x, and these as rows (B, D). Of a convolutional dictionary x may have
        its natural shape, (B, *shape), of any size: then the model is that `at` this shape.

        Raises:
            InputError: the dictionary has no such signals.
        """
        rows = x.ndim == 2 and (x.shape[1] == self.size or len(self.shape) > 1)
        if rows or x.ndim < 2 or not self.convolutional:
            return self, x
        shape = tuple(x.shape[1:])
        return (self if shape == self.shape else self.at(shape)), x.flatten(1)

    @property
    def capabilities(self) -> frozenset[str]:
        """What an engine may require of a model: the family, the decoder and the likelihood, by
        name."""
        found = set(self.prior.capabilities)
        if isinstance(self.decoder, OperatorDecoder):
            found.add("linear decoder")
            if issubclass(self.decoder.kind, Dense):
                found.add("dense dictionary")
            elif self.prior.dense_optimum:
                found.discard("certifiable optimum")
        if isinstance(self.likelihood, GaussianLikelihood):
            found.add("Gaussian likelihood")
        return frozenset(found)

    @property
    def exact(self) -> bool:
        """Whether the reconstruction term has a closed form: a linear decoder under a Gaussian
        likelihood."""
        return {"linear decoder", "Gaussian likelihood"} <= self.capabilities

    def per_atom(self, value: Tensor) -> Tensor:
        """Latents (..., K) summed over the places of each atom, which are one unless it is
        convolutional."""
        return value.unflatten(-1, (self.prior.maps, self.prior.places)).sum(-1)

    @property
    def estimators(self) -> tuple[str, ...]:
        """The estimators of the free energy that this model has, the default first."""
        return estimators_of(type(self.posterior(self.prior().u)), self.exact)

    def posterior(self, u: Tensor, temperature: float = 0.0) -> Any:
        """q(z | x) of the prior's family: with log-rates u (B, K), say, or the sparse code with
        these potentials."""
        return self.prior.posterior(u, temperature)

    def output(self, z: ArrayLike | Tensor) -> Tensor:
        """What the decoder gives, the mean of x (..., D) or what the likelihood makes it of, at z
        (..., K) in any precision.

        Raises:
            InputError: z, or what the decoder gives, is of another width, which would be broadcast
                without a word.
        """
        z = as_tensor("z", z, self.beta, "(..., K), such as posterior.mean")
        if z.shape[-1:] != (self.latents,):
            raise InputError(f"z has shape {tuple(z.shape)}; expected (..., {self.latents}), the latents of this model")
        own = next(self.decoder.parameters(), z)
        found = self.decoder(z.to(own.dtype))
        if found.shape != (*z.shape[:-1], self.size):
            raise InputError(
                f"the decoder gives {tuple(found.shape)} for z of {tuple(z.shape)}; expected (..., {self.size}), data "
                f"of shape {self.shape}: make it one of {self.size} outputs"
            )
        return found

    def decode(self, z: ArrayLike | Tensor) -> Tensor:
        """E[x | z]; z (..., K), answer (..., D)."""
        return self.likelihood.mean(self.output(z))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw z from the prior and return E[x | z], (n, D): noise-free samples, as pictures are
        shown."""
        check_whole("n", n)
        check_generator(generator)
        return self.decode(self.prior().sample((n,), generator=generator))

    def free_energy(
        self,
        x: ArrayLike | Tensor,
        posterior: Family,
        prior: PriorDistribution | None = None,
        *,
        precision: ArrayLike | Tensor | None = None,
        estimator: str | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> FreeEnergy:
        """The free energy of `posterior` for data x.

        `exact` (linear decoder, Gaussian likelihood): E‖x − Φz‖² = ‖x − Φμ‖² + tr(Φ Cov z Φᵀ), with
        mean μ of the posterior; where latents are independent the trace is c·v, v their variance,
        c_k = ‖φ_k‖². The others (see `itervae.model.estimators`) are means over `samples` draws at
        the posterior's temperature (at temperature 0, of integer counts or one-hots).

        Args:
            x: data (B, D), or (B, *shape) of a convolutional dictionary.
            posterior: q(z | x), of shape (B, K).
            prior: p(z), of shape (K,) or (B, K); the static prior where None.
            precision: w ≥ 0, (D,) or (B, D), that divides the variance of each value, so that its
                term is weighed with w; at 0 a value is not seen, whatever stands there. 1
                everywhere where None.
            estimator: one of `estimators`; None takes the first of them.
            samples: number of draws for the sampled estimators.
            generator: source of randomness of the draws.

        Raises:
            InputError: x and the posterior do not fit, or the model has no such estimator.
        """
        static = self.prior()
        family = type(self.posterior(static.u))
        model, x = self.meet(as_tensor("x", x, self.beta))
        if model is not self:
            options: Any = {"estimator": estimator, "samples": samples, "generator": generator}
            return model.free_energy(x, posterior, prior, **options)
        example = "model.posterior(u), or the posterior that infer gives: infer(model, engine, x).posterior"
        _check_family("posterior", posterior, family, example)
        if prior is not None:
            _check_family("prior", prior, type(static), "model.prior()")
        check_generator(generator)
        others = {
            "the posterior": posterior.u,
            "the prior": None if prior is None else prior.u,
            "the generator": generator,
        }
        check_devices(x, {"the model": self.beta, **others})
        check_whole("samples", samples, 1)
        if x.ndim != 2 or x.shape[1] != self.size or posterior.shape != (len(x), self.latents):
            raise InputError(
                f"x has shape {tuple(x.shape)} and the posterior {tuple(posterior.shape)}; expected "
                f"(B, {self.size}) and (B, {self.latents})"
            )
        if prior is not None and prior.u.shape not in (static.u.shape, posterior.u.shape):
            raise InputError(
                f"the prior has parameters of shape {tuple(prior.u.shape)}; expected {tuple(static.u.shape)} or "
                f"{tuple(posterior.u.shape)}"
            )
        x, w = self.seen(x, precision)
        given = static if prior is None else prior
        offered = estimators_of(family, self.exact)
        if estimator is None:
            estimator = offered[0]
        if estimator == "exact":
            likelihood = self.likelihood
            if not (self.exact and isinstance(likelihood, GaussianLikelihood)):
                raise InputError(
                    "the exact free energy was asked of a model without one; expected a linear decoder and a Gaussian "
                    f"likelihood: use estimator {offered[0]}"
                )
            standard, operator = self.observed(x, w, posterior.u.dtype)
            reconstruction, kl = exact_terms(operator, likelihood, standard, posterior, given)
            reconstruction = reconstruction + likelihood.normalizer(self.size, w)
        elif estimator in offered:
            reconstruction = sampled_reconstruction(
                self.output, self.likelihood, x, posterior, estimator, samples, generator, w
            )
            kl = total_kl(posterior, given)
        else:
            raise InputError(
                f"estimator is {described(estimator)}; this model has {', '.join(offered)}: use one of them"
            )
        return FreeEnergy(reconstruction, kl, reconstruction + self.beta * kl)


def _check_family(name: str, given: Any, family: type, example: str) -> None:
    """Refuse what is no distribution, or one of another family."""
    check_kind(name, given, Distribution, f"a distribution, such as {example}")
    if type(given) is not family:
        raise InputError(
            f"the {name} is a {type(given).__name__}; this model has a {family.__name__}: use one of those"
        )
