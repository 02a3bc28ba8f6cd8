"""The problem that an engine is given: data, the model that should explain them, the prior, and the
energy of it."""

from functools import cached_property

import torch
from torch import Tensor

from itervae.arrays import as_tensor
from itervae.distributions import Categorical, Family, Gaussian, PriorDistribution, RelaxedPoisson, SparsityCost
from itervae.inference.energies.base import Energy
from itervae.inference.energies.closed_form import CategoricalEnergy, ClosedFormEnergy, GaussianEnergy
from itervae.inference.energies.family import FamilyEnergy
from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.energies.sampled import SampledEnergy
from itervae.model import CERTIFIABLE, GenerativeModel

COMPARED = 4
"""Draws of a free energy without a closed form where two starts are compared."""


class Problem:
    """A batch of data, the model that should explain it, and the prior of each datum.

    Args:
        model: the generative model.
        x: data (B, D).
        prior: p(z), over (K,) or (B, K) latents.
        generator: source of randomness for engines and energies that sample.
        precision: w ≥ 0 of each value, (D,) or (B, D); 0 where it is not seen. 1 everywhere where
            None.
    """

    def __init__(
        self,
        model: GenerativeModel,
        x: Tensor,
        prior: PriorDistribution,
        generator: torch.Generator | None = None,
        precision: Tensor | None = None,
    ) -> None:
        self.model = model
        self.x, self.precision = model.seen(as_tensor("x", x, model.beta), precision)
        self.prior = prior
        self.generator = generator
        self._differentiable = torch.is_grad_enabled()

    @cached_property
    def energy(self) -> Energy:
        """What an engine minimizes, as a function of u.

        The Poisson family has a `PoissonEnergy` for a linear decoder under a Gaussian likelihood,
        else a `SampledEnergy`; sparse coding a `LassoEnergy`; every other family a `FamilyEnergy`.
        """
        # what steps share is made with gradient even if the first of them runs without
        with torch.set_grad_enabled(self._differentiable):
            if isinstance(self.prior, SparsityCost):
                return LassoEnergy(self.model, self.x, self.prior, self.precision)
            if not isinstance(self.prior, RelaxedPoisson):
                return FamilyEnergy(self.model, self.x, self.prior, self.generator, self.precision)
            if self.model.exact:
                return PoissonEnergy(self.model, self.x, self.prior, self.precision)
        return SampledEnergy(self.model, self.x, self.prior, self.generator, self.precision)

    @cached_property
    def certified(self) -> LinearEnergy | ClosedFormEnergy | None:
        """The energy whose least value can be proved; None where none can."""
        if not self.model.capabilities >= CERTIFIABLE:
            return None
        with torch.set_grad_enabled(self._differentiable):
            if isinstance(self.prior, Gaussian):
                return GaussianEnergy(self.model, self.x, self.prior, self.precision)
            if isinstance(self.prior, Categorical):
                return CategoricalEnergy(self.model, self.x, self.prior, self.precision)
        energy = self.energy
        assert isinstance(energy, LinearEnergy)
        return energy

    def start(self) -> Tensor:
        """The parameters u of the prior, one row a datum (B, P): its log-rates, say, or potentials
        of zero."""
        return self.prior.u.to(self.x.dtype).expand(len(self.x), -1)

    @torch.no_grad()
    def free_energy(self, u: Tensor) -> Tensor:
        """The free energy (B,), nats, of the posterior with parameters u (B, P), to compare starts:
        exact where it has a closed form, else the mean of a few draws."""
        posterior = self.model.posterior(u)
        return self.model.free_energy(
            self.x,
            posterior,
            self.prior,
            precision=self.precision,
            samples=1 if self.model.exact else COMPARED,
            generator=self.generator,
        ).total

    def feasible(self, u: Tensor) -> Tensor:
        """The parameters nearest to u (B, P) from which samples can be drawn."""
        assert isinstance(self.prior, Family)
        return self.prior.feasible(u)

    def to(self, dtype: torch.dtype) -> "Problem":
        """The same problem in another precision."""
        return Problem(self.model, self.x.to(dtype), self.prior, self.generator, self.precision)

    def select(self, index: Tensor) -> "Problem":
        """The problem of some of the data."""
        prior = self.prior
        if isinstance(prior, Family) and prior.u.ndim == 2:
            prior = prior.like(prior.u[index])
        precision = self.precision
        if precision is not None and precision.ndim == 2:
            precision = precision[index]
        return Problem(self.model, self.x[index], prior, self.generator, precision)
