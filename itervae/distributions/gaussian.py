"""Gaussian posteriors, and Gaussians under a rectifier or an exponential.

Kingma & Welling (2014), "Auto-encoding variational Bayes"; the two activations are the controls of
Vafaii, Galor & Yates (2024), "Poisson variational autoencoder": non-negative codes without counts.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import register_kl

from itervae.distributions.clamp import clamped
from itervae.distributions.location_scale import HALF_LOG_2PI, LocationScale, relative
from itervae.errors import InputError

EXP_CLAMPS = (5.0, 0.0)
"""Location and log-scale above these are bent where z = e^y: its variance is e^{2μ + s²}(e^{s²} −
1)."""
EXP_LIMITS = (10.0, 1.0)
"""Largest location and log-scale that are drawn from where z = e^y."""
FAR = 40.0
"""Standard deviations beyond which a normal tail is 0, in float64 too."""


class Gaussian(LocationScale):
    """z ~ N(μ, s²), u = (μ, log s).

    Example:
        >>> q = Gaussian(torch.zeros(2, 6))
        >>> q.rsample().shape, q.variance[0, 0].item()
        (torch.Size([2, 3]), 1.0)
    """

    scale_information = 2.0
    compiled = "gaussian"

    @property
    def variance(self) -> Tensor:
        return torch.exp(2 * self.log_scale)

    def noise(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """log N(z; μ, s²), elementwise."""
        return -0.5 * ((value - self.location) * torch.exp(-self.log_scale)).square() - self.log_scale - HALF_LOG_2PI


class RectifiedGaussian(Gaussian):
    """z = max(y, 0), y ~ N(μ, s²), u = (μ, log s); the KL is that of y.

    With a = μ/s, φ the normal density and Φ its integral,

        E z = μΦ(a) + sφ(a),      Var z = s²(Φ + a²Φ(1 − Φ) + aφ(1 − 2Φ) − φ²)
    """

    compiled = None

    @property
    def mean(self) -> Tensor:
        a = self._standard()
        return (self.location * _below(a) + self.log_scale.exp() * _density(a)).clamp_min(0)

    @property
    def variance(self) -> Tensor:
        a = self._standard()
        beyond, below, density = _below(-a), _below(a), _density(a)
        share = below + a.square() * below * beyond + a * density * (beyond - below) - density.square()
        return torch.exp(2 * self.log_scale) * share.clamp_min(0)

    @property
    def share_zero(self) -> Tensor:
        return _below(-self._standard())

    def rsample(
        self, sample_shape: Any = (), generator: torch.Generator | None = None, relaxation: str | None = None
    ) -> Tensor:
        return super().rsample(sample_shape, generator, relaxation).relu()

    def log_prob(self, value: Tensor) -> Tensor:
        raise InputError("a rectified Gaussian has no density at 0; use its samples, or the Gaussian itself")

    def _standard(self) -> Tensor:
        """a = μ/s, within ±FAR so that neither a² nor a derivative overflows for a tiny scale."""
        return (self.location * torch.exp(-self.log_scale.clamp_min(-FAR))).clamp(-FAR, FAR)


class LogNormal(Gaussian):
    """z = e^y, y ~ N(μ, s²), u = (μ, log s); the KL is that of y, which is that of z.

        E z = exp(μ + s²/2),      Var z = (e^{s²} − 1)(E z)²

    An encoder's μ is soft-clamped above 5 and its log s above 0.
    """

    compiled = None

    @property
    def mean(self) -> Tensor:
        return torch.exp(self.location + 0.5 * torch.exp(2 * self.log_scale))

    @property
    def variance(self) -> Tensor:
        return torch.expm1(torch.exp(2 * self.log_scale)) * self.mean.square()

    def rsample(
        self, sample_shape: Any = (), generator: torch.Generator | None = None, relaxation: str | None = None
    ) -> Tensor:
        return super().rsample(sample_shape, generator, relaxation).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """log of the density of z > 0, elementwise."""
        y = value.log()
        return super().log_prob(y) - y

    @property
    def drawable(self) -> Tensor:
        """Whether mean and variance are within the range of float32."""
        fits = (self.location <= EXP_LIMITS[0]) & (self.log_scale <= EXP_LIMITS[1])
        return super().drawable & fits.all(-1)

    @staticmethod
    def feasible(u: Tensor) -> Tensor:
        parts = zip(u.chunk(2, -1), EXP_LIMITS, strict=True)
        return torch.cat([part.clamp_max(limit) for part, limit in parts], -1)

    @staticmethod
    def clamp(u: Tensor) -> tuple[Tensor, Tensor]:
        parts = (clamped(part, limit) for part, limit in zip(u.chunk(2, -1), EXP_CLAMPS, strict=True))
        (location, high), (log_scale, wide) = parts
        return torch.cat([location, log_scale], -1), high + wide


def _below(a: Tensor) -> Tensor:
    """Φ(a), accurate in the lower tail, where `torch.special.ndtr` is not."""
    return 0.5 * torch.erfc(-a / math.sqrt(2))


def _density(a: Tensor) -> Tensor:
    return torch.exp(-0.5 * a.square() - HALF_LOG_2PI)


@register_kl(Gaussian, Gaussian)
def gaussian_kl(posterior: Gaussian, prior: Gaussian) -> Tensor:
    """KL(N(μ, s²) ‖ N(m, S²)) = ½((s/S)² + ((μ − m)/S)² − 1) − log(s/S), elementwise, nats."""
    distance, log_ratio = relative(posterior, prior)
    return 0.5 * (torch.expm1(2 * log_ratio) + distance.square()) - log_ratio
