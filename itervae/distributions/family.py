"""What every family of posterior offers: one small interface, so that models and engines know no
family by name."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from itervae.arrays import as_tensor
from itervae.distributions.moments import Moments, fused
from itervae.errors import InputError
from itervae.showing import of_tensor


class Family(Distribution):
    """A distribution over latents z (..., K), given by unconstrained parameters `u` (..., parts ·
    K).

    `u` is what inference moves: the log-rates of a Poisson and the logits of a categorical, which
    are their natural parameters; location and log-scale, one after the other, of a Gaussian or
    Laplace. `mean` and `variance` are those of z, per coordinate.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    parts: ClassVar[int] = 1
    """Parameters per latent."""
    relaxations: ClassVar[tuple[str, ...]] = ()
    """Ways in which `rsample` makes a sample differentiable, the default first."""
    discrete: ClassVar[bool] = False
    """Whether z is a count or a choice, so that the score estimator applies."""
    compiled: ClassVar[str | None] = None
    """The compiled code of its `moments`, if there is any."""

    def __init__(self, u: Tensor, batch_shape: Sequence[int], event_shape: Sequence[int] = ()) -> None:
        u = as_tensor("u", u, None, "of parameters (..., K)")
        self.u = u
        # NaNs are let through: a check here would synchronize with a GPU at every use
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {of_tensor(self.mean)}"

    @property
    def shape(self) -> torch.Size:
        """Shape of z, (..., K)."""
        return self.batch_shape + self.event_shape

    @property
    def location(self) -> Tensor:
        """The part of `u` that says where z is (..., K): log-rate, location, or log-probability."""
        return self.u

    @property
    def share_zero(self) -> Tensor:
        """The probability that z_k = 0 (..., K)."""
        raise NotImplementedError

    @property
    def fisher(self) -> Tensor:
        """The diagonal of the Fisher information in u (..., parts · K): what a natural gradient is
        divided by."""
        raise NotImplementedError

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Samples without gradient: integer counts, one-hots; shape `sample_shape + (..., K)`."""
        raise NotImplementedError

    @property
    def drawable(self) -> Tensor:
        """Whether samples can be drawn (...), per datum."""
        return self.u.isfinite().all(-1)

    def like(self, u: Tensor) -> "Family":
        """The same kind of distribution with other parameters."""
        raise NotImplementedError

    def at(self, temperature: float) -> "Family":
        """The same distribution with another temperature of `rsample`; itself where `rsample` is
        exact at any."""
        return self

    def detach(self) -> "Family":
        """The same distribution, cut from the graph."""
        return self.like(self.u.detach())

    def moments(self, prior: Any, norms: Tensor | None = None) -> Moments:
        """The mean (..., K), the spread c·v of independent latents (...), v their variance, and the
        KL (...), together: what the exact free energy needs, by one pass where there is compiled
        code for it (see `itervae.distributions.moments`). Of a one-hot, c·E z² takes the place of
        c·v.

        Args:
            prior: of the same family.
            norms: c_k = ‖φ_k‖² (K,) of a linear decoder, or (B, K) where they differ between data;
                0 where None.
        """
        found = self._fused(prior, norms)
        return (
            self._in_tensors(prior, torch.zeros_like(self.mean[0]) if norms is None else norms)
            if found is None
            else found
        )

    def _fused(self, prior: Any, norms: Tensor | None) -> Moments | None:
        """`moments` by compiled code; None where that is not to be had."""
        if self.compiled is None or type(prior) is not type(self):
            return None

        def in_tensors(u: Tensor, start: Tensor, norms: Tensor) -> Moments:
            return self.like(u)._in_tensors(prior.like(start), norms)

        return fused(self.compiled, self.u, prior.u, norms, in_tensors)

    def _in_tensors(self, prior: Any, norms: Tensor) -> Moments:
        return self.mean, spread(self.variance, norms), _sum_kl(self, prior)

    def unit_kl(self, prior: "Family") -> Tensor:
        """The KL of each latent's own (marginal) posterior to its own prior (..., K), nats."""
        return kl_divergence(self, prior)

    @staticmethod
    def clamp(u: Tensor) -> tuple[Tensor, Tensor]:
        """The one soft clamp of what an encoder gives: clamped u, and how many parameters of each
        datum hit it (...)."""
        return u, torch.zeros_like(u[..., 0], dtype=torch.long)

    @staticmethod
    def feasible(u: Tensor) -> Tensor:
        """The nearest parameters that can be drawn from."""
        return u


def spread(variance: Tensor, norms: Tensor) -> Tensor:
    """c·v (B,) of v (B, K), and c (K,) or (B, K)."""
    return variance @ norms if norms.ndim == 1 else (variance * norms).sum(-1)


def total_kl(posterior: Distribution, prior: Distribution) -> Tensor:
    """KL(posterior ‖ prior) of all latents together (...), nats."""
    found = posterior._fused(prior, None) if isinstance(posterior, Family) else None
    return _sum_kl(posterior, prior) if found is None else found[2]


def _sum_kl(posterior: Distribution, prior: Distribution) -> Tensor:
    try:
        kl = kl_divergence(posterior, prior)
    except NotImplementedError as error:
        raise InputError(
            f"the posterior is a {type(posterior).__name__} and the prior a {type(prior).__name__}; expected both of "
            "one family"
        ) from error
    return kl if posterior.event_shape else kl.sum(-1)


def unit_kl(posterior: Family, prior: Family) -> Tensor:
    """KL(q(z_k | x) ‖ p(z_k)) of the marginals of each latent (..., K), nats: one rule for every
    family."""
    return posterior.unit_kl(prior)
