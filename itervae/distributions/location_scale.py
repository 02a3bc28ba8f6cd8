"""What Gaussian and Laplace posteriors share: location and log-scale as unconstrained parameters.

Kingma & Welling (2014), "Auto-encoding variational Bayes". The log-scale of an encoder is
soft-clamped once, above 5.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from itervae.arrays import as_tensor
from itervae.distributions.clamp import clamped
from itervae.distributions.family import Family
from itervae.errors import InputError

CLAMP = 5.0


class LocationScale(Family):
    """z = location + e^{log_scale}·ε, independent over latents.

    Args:
        u: (..., 2K), locations and then log-scales.
    """

    has_rsample = True
    parts = 2
    relaxations = ("pathwise",)
    scale_information: ClassVar[float]
    """The Fisher information in the log-scale."""

    def __init__(self, u: Tensor) -> None:
        u = as_tensor("u", u, None, "(..., 2K), locations and then log-scales")
        if not u.ndim or u.shape[-1] % 2:
            raise InputError(f"u has shape {tuple(u.shape)}; expected (..., 2K): K locations and then K log-scales")
        super().__init__(u, (*u.shape[:-1], u.shape[-1] // 2))

    @property
    def location(self) -> Tensor:
        return self.u[..., : self.u.shape[-1] // 2]

    @property
    def log_scale(self) -> Tensor:
        """Logarithm of the scale (..., K)."""
        return self.u[..., self.u.shape[-1] // 2 :]

    @property
    def mean(self) -> Tensor:
        return self.location

    @property
    def fisher(self) -> Tensor:
        """1/s² in the location; in the log-scale a constant, 2 of a Gaussian and 1 of a Laplace."""
        location = torch.exp(-2 * self.log_scale)
        return torch.cat([location, torch.full_like(location, self.scale_information)], -1)

    @property
    def share_zero(self) -> Tensor:
        return torch.zeros_like(self.location)

    def like(self, u: Tensor) -> "LocationScale":
        return type(self)(u)

    def noise(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """ε of location 0 and scale 1, the shape of `like`."""
        raise NotImplementedError

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Samples without gradient; shape `sample_shape + (..., K)`."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def rsample(
        self, sample_shape: Any = (), generator: torch.Generator | None = None, relaxation: str | None = None
    ) -> Tensor:
        """Samples with pathwise gradient, exact in law; shape `sample_shape + (..., K)`."""
        if relaxation not in (None, *self.relaxations):
            raise InputError(
                f"relaxation is {relaxation!r}; samples of a {type(self).__name__} are differentiable as they are: "
                "use pathwise"
            )
        shape = self._extended_shape(sample_shape)
        noise = self.noise(self.location.detach().expand(shape), generator)
        return self.location + self.log_scale.exp() * noise

    @staticmethod
    def clamp(u: Tensor) -> tuple[Tensor, Tensor]:
        location, log_scale = u.chunk(2, -1)
        bent, hits = clamped(log_scale, CLAMP)
        return u if bent is log_scale else torch.cat([location, bent], -1), hits


def relative(posterior: LocationScale, prior: LocationScale) -> tuple[Tensor, Tensor]:
    """(μ − m)/S and log(s/S) (..., K): location and scale of a posterior in units of the
    prior's."""
    distance = (posterior.location - prior.location) * torch.exp(-prior.log_scale)
    return distance, posterior.log_scale - prior.log_scale


HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
